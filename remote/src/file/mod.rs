//! A local folder (or a mounted NAS) as the store.
//!
//! An object is a file, a directory is a directory, attributes are the file's own mode, owner and
//! times. Why not `object_store`'s `LocalFileSystem`: it escapes names, follows symbolic links out of
//! the folder, checks no version on replacing, can't resume an upload in a later process, keeps no
//! attributes, and copies parts on their way.
//!
//! **Replacing is atomic and durable.** Bytes go to a file in the hidden folder `.fused-staging` at the
//! store's root, get their attributes, are flushed, and are then renamed to their place; the directory
//! is flushed after. Whoever reads the folder sees the old file or the new one. Parts of an upload are
//! written to their offsets in one such file, so that completing moves no bytes.
//!
//! **Nothing leads out of the folder.** Every path is walked component by component without following
//! symbolic links. Links and special files in the folder are reported as hidden, not used, not replaced.
//!
//! **Versions.** An ETag is `inode-mtime-size`, in hexadecimal, the mtime in nanoseconds. Setting
//! attributes happens before the rename, so it belongs to the version. Conditions are checked and the
//! rename made under one lock, which makes them atomic among the writers of this process; `Absent` is
//! atomic among all (`RENAME_NOREPLACE` or a hard link). Another process that replaces the same file
//! within the same microseconds isn't seen.
//!
//! | file | what |
//! |---|---|
//! | `tree` | paths to descriptors, errors of the system |
//! | `meta` | `stat` to metadata, attributes to files |
//! | `list` | pages of a directory |
//! | `write` | staging, replacing, copies, deletion, directories |
//! | `upload` | uploads in parts |

mod list;
mod meta;
mod tree;
mod upload;
mod write;

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use nix::fcntl::OFlag;
use parking_lot::Mutex;

use crate::attrs::PosixAttrs;
use crate::backend::Backend;
use crate::error::{Error, ProbeError, Result};
use crate::keys::ObjectKey;
use crate::types::{
    Capabilities, Condition, DirMarkers, ETag, ListPage, ListToken, ObjectMeta, PartTag, Put,
    UploadId,
};
use crate::url::StoreUrl;

/// Longest path that the system takes in one piece; ours are walked, but nobody else's tools do that.
const KEY_BYTES_MAX: usize = 4000;
/// Largest part; only memory limits it.
const PART_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// A folder.
#[derive(Debug, Clone)]
pub(crate) struct FileStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tree: tree::Tree,
    /// Held while a condition is checked and the rename made; the innermost lock.
    commit: Mutex<()>,
    listings: list::Snapshots,
    uploads: upload::Uploads,
}

impl FileStore {
    pub(crate) fn open(url: &StoreUrl) -> FileStore {
        FileStore(Arc::new(Inner {
            tree: tree::Tree::new(url.prefix().into()),
            commit: Mutex::new(()),
            listings: list::Snapshots::default(),
            uploads: upload::Uploads::default(),
        }))
    }

    /// Runs `work` where it may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        op: &'static str,
        key: &ObjectKey,
        work: impl FnOnce(&Inner, &ObjectKey) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (inner, key) = (Arc::clone(&self.0), key.clone());
        let shown = key.0.clone();
        match tokio::task::spawn_blocking(move || work(&inner, &key)).await {
            Ok(result) => result,
            Err(error) => Err(Error::other(
                op,
                &shown,
                format!("the call was broken off: {error}"),
            )),
        }
    }
}

impl Inner {
    fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>> {
        let found = match key.0.is_empty() {
            true => Some(meta::stat(&*self.tree.root("look up")?, "look up", key)?),
            false => match self.tree.parent("look up", key)? {
                Some((dir, name)) => meta::stat_at(&dir, &name, "look up", key)?,
                None => None,
            },
        };
        let Some(stat) = found.filter(|stat| {
            if key.is_directory() {
                stat.is_dir()
            } else {
                stat.is_file()
            }
        }) else {
            return Ok(None);
        };
        let mut found = stat.meta(key);
        if !key.is_directory() {
            // Who may not read the file doesn't learn its version, but all the rest.
            found.posix.version = match self.tree.open_file("look up", key, OFlag::O_RDONLY) {
                Ok(Some(file)) => meta::version(&file),
                _ => None,
            };
        }
        Ok(Some(found))
    }

    fn get(&self, key: &ObjectKey, range: Range<u64>, if_match: Option<&ETag>) -> Result<Bytes> {
        const OP: &str = "read";
        let failed = |e: std::io::Error| tree::io_error(OP, key, e);
        let Some(mut file) = self.tree.open_file(OP, key, OFlag::O_RDONLY)? else {
            return Err(Error::not_found(OP, key.as_str()));
        };
        let version = |file: &std::fs::File| Ok::<_, Error>(meta::stat(file, OP, key)?.etag());
        if let Some(wanted) = if_match
            && version(&file)? != *wanted
        {
            return Err(Error::changed(OP, key.as_str()));
        }
        let wanted = range.end - range.start;
        let mut body = Vec::new();
        body.try_reserve_exact(usize::try_from(wanted).unwrap_or(usize::MAX))
            .map_err(|_| {
                Error::transient(OP, key.as_str(), "not enough memory for so long a range")
            })?;
        file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
        (&mut file)
            .take(wanted)
            .read_to_end(&mut body)
            .map_err(failed)?;
        if let Some(wanted) = if_match
            && version(&file)? != *wanted
        {
            return Err(Error::changed(OP, key.as_str()));
        }
        Ok(Bytes::from(body))
    }
}

#[async_trait]
impl Backend for FileStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            conditional_put: true,
            conditional_complete: true,
            conditional_delete: true,
            conditional_copy: true,
            multipart: true,
            copy: true,
            attributes: true,
            markers: DirMarkers::Native,
            part_bytes_min: 1,
            part_bytes_max: PART_BYTES_MAX,
            parts_max: 1_000_000,
            key_bytes_max: KEY_BYTES_MAX,
        }
    }

    fn endpoint(&self) -> String {
        self.0.tree.folder()
    }

    async fn check(&self) -> Result<(), ProbeError> {
        let folder = self.0.tree.folder();
        let inner = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || inner.tree.check()).await {
            Ok(result) => result,
            Err(error) => Err(ProbeError::Other(format!(
                "{folder}: the call was broken off: {error}"
            ))),
        }
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>> {
        self.blocking("look up", key, |inner, key| inner.head(key))
            .await
    }

    async fn list_page(
        &self,
        dir: &ObjectKey,
        after: Option<&ListToken>,
        max: usize,
    ) -> Result<ListPage> {
        let after = after.cloned();
        self.blocking("list", dir, move |inner, dir| {
            inner.list_page(dir, after.as_ref(), max)
        })
        .await
    }

    async fn exists_below(&self, dir: &ObjectKey) -> Result<bool> {
        self.blocking("look below", dir, |inner, dir| {
            Ok(inner.tree.dir("look below", dir)?.is_some())
        })
        .await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Bytes> {
        let if_match = if_match.cloned();
        self.blocking("read", key, move |inner, key| {
            inner.get(key, range, if_match.as_ref())
        })
        .await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        attrs: &PosixAttrs,
        condition: &Condition,
    ) -> Result<Put> {
        let (attrs, condition) = (*attrs, condition.clone());
        self.blocking("write", key, move |inner, key| {
            inner.put(key, &body, &attrs, &condition)
        })
        .await
    }

    async fn multipart(&self, key: &ObjectKey, attrs: &PosixAttrs) -> Result<UploadId> {
        let attrs = *attrs;
        self.blocking("begin upload of", key, move |inner, key| {
            inner.begin_upload(key, &attrs)
        })
        .await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> Result<PartTag> {
        // Before going to another thread, so that the first part's length is known to all others.
        self.0.uploads.announce(upload, number, body.len() as u64);
        let upload = upload.clone();
        self.blocking("upload part of", key, move |inner, key| {
            inner.put_part(key, &upload, number, &body)
        })
        .await
    }

    async fn complete(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[(u32, PartTag)],
        condition: &Condition,
    ) -> Result<Put> {
        let (upload, parts, condition) = (upload.clone(), parts.to_vec(), condition.clone());
        self.blocking("complete upload of", key, move |inner, key| {
            inner.complete(key, &upload, &parts, &condition)
        })
        .await
    }

    async fn abort(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let upload = upload.clone();
        self.blocking("abort upload of", key, move |inner, key| {
            inner.abort(key, &upload)
        })
        .await
    }

    async fn set_attributes(
        &self,
        key: &ObjectKey,
        etag: Option<&ETag>,
        attrs: &PosixAttrs,
    ) -> Result<Put> {
        let (etag, attrs) = (etag.cloned(), *attrs);
        self.blocking("set attributes of", key, move |inner, key| {
            inner.set_attributes(key, etag.as_ref(), &attrs)
        })
        .await
    }

    async fn copy(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        attrs: &PosixAttrs,
        if_match: Option<&ETag>,
    ) -> Result<Put> {
        let (to, attrs, if_match) = (to.clone(), *attrs, if_match.cloned());
        self.blocking("copy", from, move |inner, from| {
            inner.copy(from, &to, &attrs, if_match.as_ref())
        })
        .await
    }

    async fn delete(&self, key: &ObjectKey, if_match: Option<&ETag>) -> Result<()> {
        let if_match = if_match.cloned();
        self.blocking("delete", key, move |inner, key| {
            inner.delete(key, if_match.as_ref())
        })
        .await
    }

    async fn make_dir(&self, dir: &ObjectKey, attrs: &PosixAttrs) -> Result<()> {
        let attrs = *attrs;
        self.blocking("make directory", dir, move |inner, dir| {
            inner.make_dir(dir, &attrs)
        })
        .await
    }

    async fn remove_dir(&self, dir: &ObjectKey) -> Result<()> {
        self.blocking("remove directory", dir, |inner, dir| inner.remove_dir(dir))
            .await
    }
}
