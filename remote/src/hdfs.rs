//! HDFS, by the pure Rust client `hdfs-native`.
//!
//! Directories, mode and times are HDFS's own; owners there are names, not numbers, and stay as they
//! are. Files are written in the hidden folder `.fused-staging` and renamed, which HDFS does atomically,
//! and on `Absent` only if nothing is there. Other conditions are checked just before. An ETag is
//! `mtime-size`, in milliseconds and bytes, hexadecimal.
//!
//! HDFS can't write into the middle of a file, so the parts of an upload are files of their own, which
//! completing strings together; the upload's name carries its attributes, as on `file://`.

use std::collections::BTreeMap;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use hdfs_native::client::FileStatus;
use hdfs_native::{Client, ClientBuilder, HdfsError, WriteOptions};

use crate::attrs::{PosixAttrs, system_time};
use crate::backend::Backend;
use crate::error::{Error, ProbeError, Result, excerpt};
use crate::keys::{self, ObjectKey, STAGING};
use crate::types::{
    Capabilities, Condition, DirMarkers, ETag, ListPage, ListToken, ObjectMeta, PartTag, Put,
    UploadId,
};
use crate::url::StoreUrl;

/// HDFS's limit of a path, by its characters.
const KEY_BYTES_MAX: usize = 8000;
/// Modes of what has none.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;
/// Pieces in which parts are strung together.
const COPY_BYTES: usize = 8 * 1024 * 1024;
/// Nanoseconds in HDFS's unit of time.
const MILLI: i128 = 1_000_000;

/// A directory of an HDFS.
#[derive(Debug)]
pub(crate) struct Hdfs {
    client: Client,
    /// Absolute path of the root, without a trailing '/'.
    root: String,
    url: String,
}

impl Hdfs {
    pub(crate) fn open(url: &StoreUrl) -> Result<Hdfs> {
        let client = ClientBuilder::new()
            .with_url(format!("hdfs://{}", url.bucket()))
            .build()
            .map_err(|e| Error::other("open", "", e))?;
        Ok(Hdfs {
            client,
            root: url.prefix().trim_end_matches('/').to_owned(),
            url: url.to_string(),
        })
    }

    fn path(&self, key: &ObjectKey) -> String {
        match key.0.trim_end_matches('/') {
            "" if self.root.is_empty() => "/".to_owned(),
            "" => self.root.clone(),
            key => format!("{}/{key}", self.root),
        }
    }

    fn staged(&self, name: &str) -> String {
        format!("{}/{STAGING}/{name}", self.root)
    }

    async fn status(&self, op: &'static str, key: &ObjectKey) -> Result<Option<FileStatus>> {
        match self.client.get_file_info(&self.path(key)).await {
            Ok(status) if status.isdir == key.is_directory() => Ok(Some(status)),
            Ok(_) | Err(HdfsError::FileNotFound(_)) => Ok(None),
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

    async fn apply(
        &self,
        op: &'static str,
        key: &ObjectKey,
        path: &str,
        attrs: &PosixAttrs,
    ) -> Result<()> {
        let failed = |error| mapped(op, key, error);
        if let Some(mode) = attrs.mode {
            self.client
                .set_permission(path, mode & 0o1777)
                .await
                .map_err(failed)?;
        }
        if attrs.mtime_ns.is_some() || attrs.atime_ns.is_some() {
            // -1 would mean "leave it", but the call takes no negative numbers.
            let status = self.client.get_file_info(path).await.map_err(failed)?;
            let millis = |nanos: Option<i128>, had| {
                nanos.map_or(had, |n| u64::try_from(n / MILLI).unwrap_or(0))
            };
            let mtime = millis(attrs.mtime_ns, status.modification_time);
            let atime = millis(attrs.atime_ns, status.access_time);
            self.client
                .set_times(path, mtime, atime)
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    async fn write(
        &self,
        op: &'static str,
        key: &ObjectKey,
        path: &str,
        body: Bytes,
    ) -> Result<()> {
        let failed = |error| mapped(op, key, error);
        let options = WriteOptions::default()
            .permission(FILE_MODE)
            .overwrite(false);
        // A part that is sent again.
        self.client.delete(path, false).await.map_err(failed)?;
        let mut file = self.client.create(path, options).await.map_err(failed)?;
        file.write_bytes(body).await.map_err(failed)?;
        file.close().await.map_err(failed)
    }

    /// Makes a staged file the object.
    async fn publish(
        &self,
        op: &'static str,
        key: &ObjectKey,
        staged: &str,
        attrs: &PosixAttrs,
        condition: &Condition,
    ) -> Result<Put> {
        let failed = |error| mapped(op, key, error);
        self.apply(op, key, staged, attrs).await?;
        let status = self.client.get_file_info(staged).await.map_err(failed)?;
        self.check_condition(op, key, condition).await?;
        let path = self.path(key);
        if let Some((parent, _)) = path
            .rsplit_once('/')
            .filter(|(parent, _)| !parent.is_empty())
        {
            self.client
                .mkdirs(parent, DIR_MODE, true)
                .await
                .map_err(failed)?;
        }
        match self
            .client
            .rename(staged, &path, *condition != Condition::Absent)
            .await
        {
            Ok(()) => Ok(Put {
                etag: Some(etag_of(&status)),
            }),
            Err(HdfsError::AlreadyExists(_)) if *condition == Condition::Absent => {
                Err(Error::precondition(op, key.as_str()))
            }
            Err(error) => Err(failed(error)),
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

fn etag_of(status: &FileStatus) -> ETag {
    ETag(format!(
        "{:x}-{:x}",
        status.modification_time, status.length
    ))
}

/// The attributes in an upload's name: `<random>.<mode>.<mtime>.<atime>`.
fn upload_parts(upload: &UploadId) -> Option<(String, PosixAttrs)> {
    fn read<T: std::str::FromStr>(text: &str) -> Option<T> {
        text.parse().ok()
    }
    let fields: Vec<&str> = upload.0.split('.').collect();
    let [name, mode, mtime, atime] = fields[..] else {
        return None;
    };
    (name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit())).then_some(())?;
    let attrs = PosixAttrs {
        mode: read(mode),
        mtime_ns: read(mtime),
        atime_ns: read(atime),
        ..Default::default()
    };
    Some((name.to_owned(), attrs))
}

fn mapped(op: &'static str, key: &ObjectKey, error: HdfsError) -> Error {
    let (text, detail) = (key.as_str(), error.to_string());
    match error {
        HdfsError::FileNotFound(_) => Error::not_found(op, text),
        HdfsError::IOError(_) => Error::unreachable(op, text, detail),
        HdfsError::SASLError(_) | HdfsError::GSSAPIError(..) | HdfsError::NoSASLMechanism => {
            Error::denied(op, text, detail)
        }
        _ if detail.contains("AccessControlException") => Error::denied(op, text, detail),
        _ if detail.contains("SafeModeException") || detail.contains("StandbyException") => {
            Error::transient(op, text, detail)
        }
        _ if detail.contains("QuotaExceeded") => Error::full(op, text, detail),
        HdfsError::DataTransferError(_)
        | HdfsError::ChecksumError
        | HdfsError::BlocksNotFound(_) => Error::transient(op, text, detail),
        _ => Error::other(op, text, detail),
    }
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
            Err(error) => Err(match mapped("list", &root, error) {
                Error::AccessDenied { .. } => ProbeError::AccessDenied {
                    operation: "list files".to_owned(),
                    store,
                },
                Error::Unreachable { detail, .. } => ProbeError::Unreachable {
                    endpoint: store,
                    detail,
                },
                error => ProbeError::Other(excerpt(error)),
            }),
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
            let name = status
                .path
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned();
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
        let Some(status) = self.status(OP, key).await? else {
            return Err(Error::not_found(OP, key.as_str()));
        };
        if if_match.is_some_and(|etag| etag_of(&status) != *etag) {
            return Err(Error::changed(OP, key.as_str()));
        }
        let end = range.end.min(status.length as u64);
        if end <= range.start {
            return Ok(Bytes::new());
        }
        let file = self
            .client
            .read(&self.path(key))
            .await
            .map_err(|e| mapped(OP, key, e))?;
        file.read_range(range.start as usize, (end - range.start) as usize)
            .await
            .map_err(|e| mapped(OP, key, e))
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        attrs: &PosixAttrs,
        condition: &Condition,
    ) -> Result<Put> {
        const OP: &str = "write";
        let staged = self.staged(&format!("{:032x}", rand::random::<u128>()));
        let result = async {
            self.write(OP, key, &staged, body).await?;
            self.publish(OP, key, &staged, attrs, condition).await
        }
        .await;
        if result.is_err()
            && let Err(error) = self.client.delete(&staged, false).await
        {
            tracing::warn!(%staged, %error, "a file stays behind in the staging folder");
        }
        result
    }

    async fn multipart(&self, _key: &ObjectKey, attrs: &PosixAttrs) -> Result<UploadId> {
        fn show(value: Option<impl ToString>) -> String {
            value.map_or_else(|| "-".to_owned(), |value| value.to_string())
        }
        let name = format!("{:032x}", rand::random::<u128>());
        Ok(UploadId(
            [
                name,
                show(attrs.mode),
                show(attrs.mtime_ns),
                show(attrs.atime_ns),
            ]
            .join("."),
        ))
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> Result<PartTag> {
        const OP: &str = "upload part of";
        let Some((name, _)) = upload_parts(upload) else {
            return Err(Error::NoSuchUpload {
                op: OP,
                key: key.0.clone(),
            });
        };
        let length = body.len();
        self.write(OP, key, &self.staged(&format!("{name}/{number}")), body)
            .await?;
        Ok(PartTag(length.to_string()))
    }

    async fn complete(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[(u32, PartTag)],
        condition: &Condition,
    ) -> Result<Put> {
        const OP: &str = "complete upload of";
        let gone = || Error::NoSuchUpload {
            op: OP,
            key: key.0.clone(),
        };
        let failed = |error| match error {
            HdfsError::FileNotFound(_) => gone(),
            error => mapped(OP, key, error),
        };
        let (name, attrs) = upload_parts(upload).ok_or_else(gone)?;
        self.check_condition(OP, key, condition).await?;
        let whole = self.staged(&format!("{name}/whole"));
        self.client.delete(&whole, false).await.map_err(failed)?;
        let mut file = self
            .client
            .create(&whole, WriteOptions::default().permission(FILE_MODE))
            .await
            .map_err(failed)?;
        for (number, tag) in parts {
            let part = self
                .client
                .read(&self.staged(&format!("{name}/{number}")))
                .await
                .map_err(failed)?;
            if part.file_length().to_string() != tag.0 {
                return Err(gone());
            }
            let mut at = 0;
            while at < part.file_length() {
                let piece = COPY_BYTES.min(part.file_length() - at);
                file.write_bytes(part.read_range(at, piece).await.map_err(failed)?)
                    .await
                    .map_err(failed)?;
                at += piece;
            }
        }
        file.close().await.map_err(failed)?;
        let put = self.publish(OP, key, &whole, &attrs, condition).await?;
        self.abort(key, upload).await?;
        Ok(put)
    }

    async fn abort(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let Some((name, _)) = upload_parts(upload) else {
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
            // HDFS sets no times on directories.
            self.apply(
                OP,
                key,
                &path,
                &PosixAttrs {
                    mode: attrs.mode,
                    ..Default::default()
                },
            )
            .await?;
            return Ok(Put { etag: None });
        }
        self.apply(OP, key, &path, attrs).await?;
        Ok(Put {
            etag: self.status(OP, key).await?.as_ref().map(etag_of),
        })
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
        // HDFS copies nothing by itself: it goes through here, as an upload of pieces.
        let upload = self
            .multipart(to, &attrs.or(self.meta(from, &found).posix))
            .await?;
        let source = self
            .client
            .read(&self.path(from))
            .await
            .map_err(|e| mapped(OP, from, e))?;
        let Some((name, attrs)) = upload_parts(&upload) else {
            return Err(Error::other(OP, from.as_str(), "no upload"));
        };
        let whole = self.staged(&format!("{name}/whole"));
        let options = WriteOptions::default().permission(FILE_MODE);
        let mut file = self
            .client
            .create(&whole, options)
            .await
            .map_err(|e| mapped(OP, from, e))?;
        let mut at = 0;
        while at < source.file_length() {
            let piece = COPY_BYTES.min(source.file_length() - at);
            let bytes = source
                .read_range(at, piece)
                .await
                .map_err(|e| mapped(OP, from, e))?;
            file.write_bytes(bytes)
                .await
                .map_err(|e| mapped(OP, from, e))?;
            at += piece;
        }
        file.close().await.map_err(|e| mapped(OP, from, e))?;
        let put = self
            .publish(OP, to, &whole, &attrs, &Condition::None)
            .await?;
        self.abort(to, &upload).await?;
        Ok(put)
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
        self.apply(
            OP,
            dir,
            &path,
            &PosixAttrs {
                mode: attrs.mode,
                ..Default::default()
            },
        )
        .await
    }

    async fn remove_dir(&self, dir: &ObjectKey) -> Result<()> {
        match self.client.delete(&self.path(dir), false).await {
            Ok(_) | Err(HdfsError::FileNotFound(_)) => Ok(()),
            Err(error) if error.to_string().contains("NotEmpty") => Ok(()),
            Err(error) => Err(mapped("remove directory", dir, error)),
        }
    }
}
