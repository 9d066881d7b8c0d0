//! HDFS, by the pure Rust client `hdfs-native`.
//!
//! Directories, mode and times are HDFS's own, times in milliseconds; owners there are names, not numbers,
//! and stay as they are; and there is no place for the mark that tells which version of which file an
//! object is. An ETag is `mtime-size`, in milliseconds and bytes, hexadecimal: two versions of one size and
//! one millisecond count as the same, as they do for rsync.
//!
//! Files are written in the hidden folder `.fused-staging`, synced to the DataNodes' disks, and renamed,
//! which HDFS does atomically, and on `Absent` only if nothing is there (`staged`). Other conditions are
//! checked just before. A colon, which HDFS doesn't take in names, is written as `%3A`.
//!
//! HDFS can't write into the middle of a file, so the parts of an upload are files of their own, which
//! completing strings together, through here; the upload's name carries its attributes, as on `file://`.

mod error;
mod staged;

use std::collections::BTreeMap;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use hdfs_native::client::FileStatus;
use hdfs_native::{Client, ClientBuilder, HdfsError};
use tokio::runtime::{Handle, Runtime};

use self::error::mapped;
use crate::attrs::{PosixAttrs, system_time};
use crate::backend::Backend;
use crate::error::{Error, ProbeError, Result};
use crate::keys::{self, ObjectKey, STAGING};
use crate::spelling::Spelling;
use crate::types::{
    Capabilities, Condition, DirMarkers, ETag, ListPage, ListToken, ObjectMeta, PartTag, Put,
    UploadId,
};
use crate::url::StoreUrl;

/// HDFS's limit of a path, by its characters.
const KEY_BYTES_MAX: usize = 8000;
/// Mode of a directory that has none.
const DIR_MODE: u32 = 0o755;
/// Nanoseconds in HDFS's unit of time.
const MILLI: i128 = 1_000_000;

/// HDFS takes no colon in names.
const SPELLING: Spelling = Spelling {
    refused: b":",
    no_final_dot: false,
};

/// A directory of an HDFS.
#[derive(Debug)]
pub(crate) struct Hdfs {
    client: Client,
    /// For the client's own tasks, where it isn't opened on a runtime.
    runtime: Option<Runtime>,
    /// Absolute path of the root, without a trailing '/'.
    root: String,
    url: String,
}

impl Hdfs {
    pub(crate) fn open(url: &StoreUrl) -> Result<Hdfs> {
        let failed = |detail: String| Error::other("open", "", detail);
        let (handle, runtime) = match Handle::try_current() {
            Ok(handle) => (handle, None),
            Err(_) => {
                let runtime = Runtime::new().map_err(|e| failed(e.to_string()))?;
                (runtime.handle().clone(), Some(runtime))
            }
        };
        let client = ClientBuilder::new()
            .with_url(format!("hdfs://{}", url.bucket()))
            .with_io_runtime(handle)
            .build()
            .map_err(|e| failed(e.to_string()))?;
        Ok(Hdfs {
            client,
            runtime,
            root: url.prefix().trim_end_matches('/').to_owned(),
            url: url.to_string(),
        })
    }

    fn path(&self, key: &ObjectKey) -> String {
        match key.0.trim_end_matches('/') {
            "" if self.root.is_empty() => "/".to_owned(),
            "" => self.root.clone(),
            key => format!("{}/{}", self.root, SPELLING.write(key)),
        }
    }

    fn staged(&self, name: &str) -> String {
        format!("{}/{STAGING}/{name}", self.root)
    }

    async fn status(&self, op: &'static str, key: &ObjectKey) -> Result<Option<FileStatus>> {
        match self.client.get_file_info(&self.path(key)).await {
            Ok(status) if status.isdir == key.is_directory() => Ok(Some(status)),
            Ok(_) | Err(HdfsError::FileNotFound(_)) => Ok(None),
            Err(error) if error::is_below_a_file(&error) => Ok(None),
            Err(error) => Err(mapped(op, key, error)),
        }
    }

    async fn check_condition(
        &self,
        op: &'static str,
        key: &ObjectKey,
        condition: &Condition,
    ) -> Result<()> {
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => self.status(op, key).await?.is_none(),
            Condition::Match(etag) => self
                .status(op, key)
                .await?
                .is_some_and(|status| etag_of(&status) == *etag),
        };
        if holds {
            Ok(())
        } else {
            Err(Error::precondition(op, key.as_str()))
        }
    }

    fn meta(&self, key: &ObjectKey, status: &FileStatus) -> ObjectMeta {
        let nanos = |millis: u64| i128::from(millis) * MILLI;
        ObjectMeta {
            key: key.clone(),
            size: if status.isdir {
                0
            } else {
                status.length as u64
            },
            etag: (!status.isdir).then(|| etag_of(status)),
            modified: system_time(nanos(status.modification_time)),
            posix: PosixAttrs {
                mode: Some(u32::from(status.permission) & 0o7777),
                mtime_ns: Some(nanos(status.modification_time)),
                // Directories have none.
                atime_ns: (status.access_time > 0).then(|| nanos(status.access_time)),
                ..Default::default()
            },
        }
    }
}

impl Drop for Hdfs {
    /// May happen on another runtime, where waiting for this one to end is forbidden.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn etag_of(status: &FileStatus) -> ETag {
    ETag(format!(
        "{:x}-{:x}",
        status.modification_time, status.length
    ))
}

#[async_trait]
impl Backend for Hdfs {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            conditional_put: false,
            conditional_complete: false,
            conditional_delete: false,
            conditional_copy: false,
            multipart: true,
            copy: true,
            attributes: true,
            markers: DirMarkers::Native,
            part_bytes_min: 1,
            part_bytes_max: 1 << 30,
            parts_max: 1_000_000,
            key_bytes_max: KEY_BYTES_MAX.saturating_sub(self.root.len()),
        }
    }

    fn endpoint(&self) -> String {
        self.url.clone()
    }

    async fn check(&self) -> Result<(), ProbeError> {
        let root = ObjectKey::default();
        let store = self.url.clone();
        match self.client.get_file_info(&self.path(&root)).await {
            Ok(status) if status.isdir => Ok(()),
            Ok(_) => Err(ProbeError::NotADirectory(store)),
            Err(HdfsError::FileNotFound(_)) => Err(ProbeError::NoSuchBucket(store)),
            Err(error) => Err(error::probe_error(error, &store)),
        }
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>> {
        Ok(self
            .status("look up", key)
            .await?
            .map(|status| self.meta(key, &status)))
    }

    /// All in one page: HDFS sends a directory in pieces, but can't be asked to go on after a restart.
    async fn list_page(
        &self,
        dir: &ObjectKey,
        _after: Option<&ListToken>,
        _max: usize,
    ) -> Result<ListPage> {
        let mut page = ListPage::default();
        let Some(own) = self.status("list", dir).await? else {
            return Ok(page);
        };
        page.marker = (!dir.0.is_empty()).then(|| self.meta(dir, &own));
        let listed = match self.client.list_status(&self.path(dir), false).await {
            Ok(listed) => listed,
            Err(HdfsError::FileNotFound(_)) => return Ok(page),
            Err(error) => return Err(mapped("list", dir, error)),
        };
        let mut files = BTreeMap::new();
        for status in listed {
            let name = status.path.rsplit('/').next().unwrap_or_default();
            let name = SPELLING.read_name(name);
            if keys::is_reserved(name.as_bytes()) {
                continue;
            }
            if status.isdir {
                page.directories.push(name);
            } else {
                let meta = self.meta(&dir.child(&name), &status);
                files.insert(name, meta);
            }
        }
        page.directories.sort();
        page.files = files.into_values().collect();
        Ok(page)
    }

    async fn exists_below(&self, dir: &ObjectKey) -> Result<bool> {
        Ok(self
            .status("look below", &dir.to_directory())
            .await?
            .is_some())
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Bytes> {
        const OP: &str = "read";
        let failed = |error| mapped(OP, key, error);
        let file = self.client.read(&self.path(key)).await.map_err(failed)?;
        let end = range.end.min(file.file_length() as u64);
        let bytes = match range.start < end {
            true => {
                let length = (end - range.start) as usize;
                file.read_range(range.start as usize, length).await
            }
            false => Ok(Bytes::new()),
        };
        // Looked at after the bytes were read: a file that is replaced meanwhile must not go unnoticed.
        if let Some(etag) = if_match {
            match self.status(OP, key).await? {
                None => return Err(Error::not_found(OP, key.as_str())),
                Some(status) if etag_of(&status) != *etag => {
                    return Err(Error::changed(OP, key.as_str()));
                }
                Some(_) => {}
            }
        }
        bytes.map_err(failed)
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        attrs: &PosixAttrs,
        condition: &Condition,
    ) -> Result<Put> {
        self.write_whole(key, body, attrs, condition).await
    }

    async fn multipart(&self, key: &ObjectKey, attrs: &PosixAttrs) -> Result<UploadId> {
        self.begin_upload(key, attrs).await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> Result<PartTag> {
        self.write_part(key, upload, number, body).await
    }

    fn bytes_to_assemble(&self, parts: &[(u32, PartTag)]) -> u64 {
        let lengths = parts
            .iter()
            .filter_map(|(_, tag)| tag.0.parse::<u64>().ok());
        // Each is read and written.
        2 * lengths.sum::<u64>()
    }

    async fn complete(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[(u32, PartTag)],
        condition: &Condition,
    ) -> Result<Put> {
        self.assemble(key, upload, parts, condition).await
    }

    async fn abort(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let Some((name, _)) = staged::read_upload(upload) else {
            return Ok(());
        };
        match self.client.delete(&self.staged(&name), true).await {
            Ok(_) | Err(HdfsError::FileNotFound(_)) => Ok(()),
            Err(error) => Err(mapped("abort upload of", key, error)),
        }
    }

    async fn set_attributes(
        &self,
        key: &ObjectKey,
        etag: Option<&ETag>,
        attrs: &PosixAttrs,
    ) -> Result<Put> {
        const OP: &str = "set attributes of";
        let found = self.status(OP, key).await?;
        let Some(found) = found else {
            return Err(Error::not_found(OP, key.as_str()));
        };
        if etag.is_some_and(|etag| etag_of(&found) != *etag) {
            return Err(Error::precondition(OP, key.as_str()));
        }
        let path = self.path(key);
        if found.isdir {
            self.apply(OP, key, &path, attrs).await?;
            return Ok(Put::of(None));
        }
        self.apply(OP, key, &path, attrs).await?;
        Ok(Put::of(self.status(OP, key).await?.as_ref().map(etag_of)))
    }

    async fn copy(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        attrs: &PosixAttrs,
        if_match: Option<&ETag>,
    ) -> Result<Put> {
        const OP: &str = "copy";
        let Some(found) = self.status(OP, from).await? else {
            return Err(Error::not_found(OP, from.as_str()));
        };
        if if_match.is_some_and(|etag| etag_of(&found) != *etag) {
            return Err(Error::precondition(OP, from.as_str()));
        }
        let attrs = attrs.or(self.meta(from, &found).posix);
        self.copy_through(from, to, &attrs).await
    }

    async fn delete(&self, key: &ObjectKey, if_match: Option<&ETag>) -> Result<()> {
        const OP: &str = "delete";
        let Some(found) = self.status(OP, key).await? else {
            return Ok(());
        };
        if if_match.is_some_and(|etag| etag_of(&found) != *etag) {
            return Err(Error::precondition(OP, key.as_str()));
        }
        match self.client.delete(&self.path(key), false).await {
            Ok(_) | Err(HdfsError::FileNotFound(_)) => Ok(()),
            Err(error) => Err(mapped(OP, key, error)),
        }
    }

    async fn make_dir(&self, dir: &ObjectKey, attrs: &PosixAttrs) -> Result<()> {
        const OP: &str = "make directory";
        let path = self.path(dir);
        let mode = attrs.mode.unwrap_or(DIR_MODE);
        self.client
            .mkdirs(&path, mode & 0o1777, true)
            .await
            .map_err(|e| mapped(OP, dir, e))?;
        self.apply(OP, dir, &path, attrs).await
    }

    async fn remove_dir(&self, dir: &ObjectKey) -> Result<()> {
        match self.client.delete(&self.path(dir), false).await {
            Ok(_) | Err(HdfsError::FileNotFound(_)) => Ok(()),
            // What is in it stays.
            Err(HdfsError::RPCError(class, _)) if class.contains("NotEmpty") => Ok(()),
            Err(error) => Err(mapped("remove directory", dir, error)),
        }
    }
}
