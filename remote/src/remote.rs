//! The handle on a store that the rest of the house holds.
//!
//! It adds to a [`Backend`] what all of them need alike: keys are checked for length and for names
//! of our own, a body that isn't as long as asked for is an error, and every call is bounded in time:
//! [`CALL_SECONDS`] plus what its bytes need at [`FLOOR_BYTES_PER_SECOND`], the slowest link on which
//! waiting longer is still better than starting again. Above it the caller decides about retries;
//! below it a backend repeats only what failed within seconds.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::attrs::PosixAttrs;
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::keys::{self, ObjectKey};
use crate::settings::Settings;
use crate::types::{
    Condition, ETag, ListPage, ListToken, ObjectMeta, OpenUpload, PartTag, Put, UploadId,
};
use crate::url::{Scheme, StoreUrl};
use crate::{azure, file, google, s3};

/// Longest wait for a call that moves no bytes, with its own short retries.
const CALL_SECONDS: u64 = 60;
/// Slowest transfer that is waited for.
const FLOOR_BYTES_PER_SECOND: u64 = 256 * 1024;
/// Bodies of the wrong length in a row that make a read fail.
const SHORT_BODIES_MAX: usize = 3;
/// A server that assembles a large object from its parts, or copies one, may take this long to answer.
pub(crate) const ASSEMBLY_SECONDS: u64 = 900;
/// Of that, for each part: who never answers must not hold up a small file as long as a huge one.
const ASSEMBLY_SECONDS_PER_PART: u64 = 4;

/// A store, open. Clones share connections.
#[derive(Clone)]
pub struct Remote {
    backend: Arc<dyn Backend>,
    url: StoreUrl,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("url", &self.url.to_string())
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// Prepares to talk to a store. Nothing is sent yet: see [`Remote::probe`].
    pub fn open(url: &StoreUrl, settings: &Settings) -> Result<Remote> {
        let backend: Arc<dyn Backend> = match url.scheme() {
            Scheme::S3 => Arc::new(s3::S3::open(url, settings)?),
            Scheme::File => Arc::new(file::FileStore::open(url)),
            Scheme::Gs => Arc::new(google::Google::open(url, settings)?),
            Scheme::Az => Arc::new(azure::Azure::open(url, settings)?),
            Scheme::Hdfs => open_hdfs(url)?,
        };
        Ok(Remote {
            backend,
            url: url.clone(),
        })
    }

    /// A store of the caller's own, under this URL.
    pub fn over(url: &StoreUrl, backend: Arc<dyn Backend>) -> Remote {
        Remote {
            backend,
            url: url.clone(),
        }
    }

    /// The URL it was opened with.
    pub fn url(&self) -> &StoreUrl {
        &self.url
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        self.backend.as_ref()
    }

    /// What the store knows of an object, or of a directory if the key ends in '/'; `None` if it isn't there.
    pub async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>> {
        self.check_key(key)?;
        bounded("look up", key, 0, self.backend.head(key)).await
    }

    /// One page, of about `max` entries, of what is directly in a directory (`""` or ending in '/').
    /// A directory that isn't there is empty.
    pub async fn list_page(
        &self,
        dir: &ObjectKey,
        after: Option<&ListToken>,
        max: usize,
    ) -> Result<ListPage> {
        self.check_key(dir)?;
        if !dir.is_directory() {
            return Err(Error::other(
                "list",
                dir.as_str(),
                "the key of a directory ends in '/'",
            ));
        }
        let page = bounded(
            "list",
            dir,
            0,
            self.backend.list_page(dir, after, max.max(1)),
        )
        .await?;
        Ok(presentable(dir, page))
    }

    /// Whether any object's key begins with `dir` (ending in '/'), its own marker included.
    pub async fn exists_below(&self, dir: &ObjectKey) -> Result<bool> {
        self.check_key(dir)?;
        bounded("look below", dir, 0, self.backend.exists_below(dir)).await
    }

    /// The bytes `range` of an object, exactly. With `if_match`, of that version or [`Error::Changed`].
    pub async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Bytes> {
        self.check_key(key)?;
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let mut short = None;
        for _ in 0..SHORT_BODIES_MAX {
            let request = self.backend.get(key, range.clone(), if_match);
            let body = bounded("read", key, wanted, request).await?;
            let got = body.len() as u64;
            if got == wanted {
                return Ok(body);
            }
            tracing::debug!(%key, got, wanted, "a body of the wrong length; asking again");
            short = Some(got);
        }
        Err(Error::ShortBody {
            key: key.0.clone(),
            wanted,
            got: short.unwrap_or_default(),
        })
    }

    /// Writes a whole object at once. If the condition fails but what is there already is what was to
    /// be written (an earlier try whose answer got lost), that counts as written.
    pub async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        attrs: &PosixAttrs,
        condition: &Condition,
    ) -> Result<Put> {
        self.check_file_key(key)?;
        bounded(
            "write",
            key,
            body.len() as u64,
            self.backend.put(key, body, attrs, condition),
        )
        .await
    }

    /// Begins an upload in parts. Nothing is visible under the key before [`Remote::complete`]. The
    /// upload can be continued by a later process, until it is completed or aborted.
    pub async fn multipart(&self, key: &ObjectKey, attrs: &PosixAttrs) -> Result<UploadId> {
        self.check_file_key(key)?;
        bounded(
            "begin upload of",
            key,
            0,
            self.backend.multipart(key, attrs),
        )
        .await
    }

    /// Uploads part `number` (from 1). All but the last should have the same length. A part may be
    /// sent again; the last one counts.
    pub async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> Result<PartTag> {
        self.check_file_key(key)?;
        if number == 0 {
            return Err(Error::other(
                "upload part of",
                key.as_str(),
                "parts are numbered from 1",
            ));
        }
        bounded(
            "upload part of",
            key,
            body.len() as u64,
            self.backend.put_part(key, upload, number, body),
        )
        .await
    }

    /// Makes the parts the object, in one step. `parts` in ascending order.
    pub async fn complete(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[(u32, PartTag)],
        condition: &Condition,
    ) -> Result<Put> {
        self.check_file_key(key)?;
        let ascending = parts.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if parts.is_empty() || !ascending {
            return Err(Error::other(
                "complete upload of",
                key.as_str(),
                "parts must be given once each, in ascending order",
            ));
        }
        let assembly = (parts.len() as u64 * ASSEMBLY_SECONDS_PER_PART).min(ASSEMBLY_SECONDS);
        let patience = assembly * FLOOR_BYTES_PER_SECOND + self.backend.bytes_to_assemble(parts);
        bounded(
            "complete upload of",
            key,
            patience,
            self.backend.complete(key, upload, parts, condition),
        )
        .await
    }

    /// Gives up an upload and frees its parts. One that isn't there any more is fine.
    pub async fn abort(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.check_file_key(key)?;
        bounded("abort upload of", key, 0, self.backend.abort(key, upload)).await
    }

    /// The uploads of exactly this key that are neither completed nor aborted, anybody's. Only S3 lists
    /// them: elsewhere an upload is named by this side, so that no answer can be lost, and what was sent
    /// goes by itself (Azure, Google) or lies in a folder of our own (`file://`, `hdfs://`).
    pub async fn uploads(&self, key: &ObjectKey) -> Result<Vec<OpenUpload>> {
        self.check_file_key(key)?;
        bounded("list uploads of", key, 0, self.backend.uploads(key)).await
    }

    /// Whether the store has any part of this upload.
    pub async fn has_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<bool> {
        self.check_file_key(key)?;
        bounded("list parts of", key, 0, self.backend.has_parts(key, upload)).await
    }

    /// Rewrites mode, owner and times of an object or directory, of version `etag` if given. On
    /// object stores that makes a new version of the same bytes. What attributes leave open stays.
    pub async fn set_attributes(
        &self,
        key: &ObjectKey,
        etag: Option<&ETag>,
        attrs: &PosixAttrs,
    ) -> Result<Put> {
        self.check_key(key)?;
        let patience = ASSEMBLY_SECONDS * FLOOR_BYTES_PER_SECOND;
        bounded(
            "set attributes of",
            key,
            patience,
            self.backend.set_attributes(key, etag, attrs),
        )
        .await
    }

    /// Copies an object within the store, replacing `to`, from version `if_match` of `from` if given.
    /// What `attrs` leaves open is taken from the source.
    pub async fn copy(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        attrs: &PosixAttrs,
        if_match: Option<&ETag>,
    ) -> Result<Put> {
        self.check_file_key(from)?;
        self.check_file_key(to)?;
        let patience = ASSEMBLY_SECONDS * FLOOR_BYTES_PER_SECOND;
        bounded(
            "copy",
            from,
            patience,
            self.backend.copy(from, to, attrs, if_match),
        )
        .await
    }

    /// Deletes an object, whatever version it has. One that isn't there is fine.
    pub async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.check_file_key(key)?;
        bounded("delete", key, 0, self.backend.delete(key, None)).await
    }

    /// Deletes an object only if it is version `etag`; else [`Error::PreconditionFailed`]. One that
    /// isn't there is fine.
    pub async fn delete_matching(&self, key: &ObjectKey, etag: &ETag) -> Result<()> {
        self.check_file_key(key)?;
        bounded("delete", key, 0, self.backend.delete(key, Some(etag))).await
    }

    /// Keeps an empty directory: writes its marker, or makes it, with its parents. One that is there
    /// gets the attributes.
    pub async fn make_dir(&self, dir: &ObjectKey, attrs: &PosixAttrs) -> Result<()> {
        self.check_key(dir)?;
        bounded(
            "make directory",
            dir,
            0,
            self.backend.make_dir(&dir.to_directory(), attrs),
        )
        .await
    }

    /// Removes a directory's marker, or the directory itself if it is empty. What is in it stays.
    pub async fn remove_dir(&self, dir: &ObjectKey) -> Result<()> {
        self.check_key(dir)?;
        if dir.0.is_empty() {
            return Err(Error::other(
                "remove directory",
                "",
                "the root of the store can't be removed",
            ));
        }
        bounded(
            "remove directory",
            dir,
            0,
            self.backend.remove_dir(&dir.to_directory()),
        )
        .await
    }

    fn check_key(&self, key: &ObjectKey) -> Result<()> {
        let bytes_max = self.backend.capabilities().key_bytes_max;
        if key.0.len() > bytes_max {
            return Err(Error::KeyTooLong {
                key: key.0.chars().take(60).collect(),
                bytes: key.0.len(),
                bytes_max,
            });
        }
        Ok(())
    }

    fn check_file_key(&self, key: &ObjectKey) -> Result<()> {
        if key.is_directory() {
            return Err(Error::other(
                "use",
                key.as_str(),
                "this is the key of a directory, not of a file",
            ));
        }
        self.check_key(key)
    }
}

#[cfg(feature = "hdfs")]
fn open_hdfs(url: &StoreUrl) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(crate::hdfs::Hdfs::open(url)?))
}

#[cfg(not(feature = "hdfs"))]
fn open_hdfs(url: &StoreUrl) -> Result<Arc<dyn Backend>> {
    Err(Error::other(
        "open",
        &url.to_string(),
        "this build has no HDFS; build it with the cargo feature 'hdfs'",
    ))
}

/// Moves what a file system can't show from the page to `hidden`, and leaves out what is our own.
fn presentable(dir: &ObjectKey, mut page: ListPage) -> ListPage {
    let mut hidden = std::mem::take(&mut page.hidden);
    page.files
        .retain(|meta| match keys::decode_name(meta.key.name()) {
            Some(_) => true,
            None if keys::is_reserved(meta.key.name().as_bytes()) => false,
            None => {
                hidden.push(meta.key.0.clone());
                false
            }
        });
    page.directories
        .retain(|name| match keys::decode_name(name) {
            Some(_) => true,
            None if keys::is_reserved(name.as_bytes()) => false,
            None => {
                hidden.push(format!("{dir}{name}/"));
                false
            }
        });
    page.hidden = hidden;
    page
}

/// Waits for a call as long as its bytes deserve.
async fn bounded<T>(
    op: &'static str,
    key: &ObjectKey,
    bytes: u64,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let _point = killpoints::around(op);
    let patience = Duration::from_secs(CALL_SECONDS + bytes / FLOOR_BYTES_PER_SECOND);
    match tokio::time::timeout(patience, call).await {
        Ok(result) => result,
        Err(_) => Err(Error::transient(
            op,
            key.as_str(),
            format!("no answer within {} seconds", patience.as_secs()),
        )),
    }
}
