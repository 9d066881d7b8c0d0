//! Writing: a file in `.fused-staging`, complete, with its attributes and on the DataNodes' disks, that is
//! then renamed to its place. What a broken call leaves there is deleted, as far as the NameNode answers.
//!
//! A conditional rename whose answer got lost looks, on the second try, as if somebody else had written.
//! So where a condition fails, what is there is compared with what was to be put there: the same ETag
//! means that the write has taken place.

use bytes::Bytes;
use hdfs_native::file::FileWriter;
use hdfs_native::{HdfsError, WriteOptions};

use super::error::mapped;
use super::{DIR_MODE, Hdfs, MILLI, etag_of};
use crate::attrs::PosixAttrs;
use crate::error::{Error, Result};
use crate::keys::ObjectKey;
use crate::types::{Condition, ETag, PartTag, Put, UploadId};

/// Mode of a file that has none.
const FILE_MODE: u32 = 0o644;
/// Pieces in which files are strung together.
const PIECE_BYTES: usize = 8 * 1024 * 1024;

/// An upload's folder below the staging folder, and its attributes.
pub(super) fn read_upload(upload: &UploadId) -> Option<(String, PosixAttrs)> {
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

fn random_name() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// A file being written, synced block by block: syncing reaches only the block that is open.
struct Writer<'a> {
    op: &'static str,
    key: &'a ObjectKey,
    file: FileWriter,
    block_bytes: u64,
    written: u64,
    /// Whether it must be on the DataNodes' disks: parts needn't, what is published must.
    durable: bool,
}

impl Writer<'_> {
    async fn write(&mut self, mut body: Bytes) -> Result<()> {
        while !body.is_empty() {
            let block_left = self.block_bytes - self.written % self.block_bytes;
            let piece = body.split_to(body.len().min(block_left.try_into().unwrap_or(usize::MAX)));
            self.written += piece.len() as u64;
            self.file
                .write_bytes(piece)
                .await
                .map_err(|e| mapped(self.op, self.key, e))?;
            if self.written.is_multiple_of(self.block_bytes) {
                self.sync().await?;
            }
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<()> {
        if !self.durable {
            return Ok(());
        }
        let synced = self.file.hsync().await;
        synced.map_err(|e| mapped(self.op, self.key, e))
    }

    async fn close(mut self) -> Result<()> {
        if !self.written.is_multiple_of(self.block_bytes) {
            self.sync().await?;
        }
        let closed = self.file.close().await;
        closed.map_err(|e| mapped(self.op, self.key, e))
    }
}

impl Hdfs {
    /// Begins a staged file, in place of one of that name that an earlier try left.
    async fn begin<'a>(
        &self,
        op: &'static str,
        key: &'a ObjectKey,
        path: &str,
        make_parent: bool,
    ) -> Result<Writer<'a>> {
        let failed = |error| mapped(op, key, error);
        let options = WriteOptions::default()
            .permission(FILE_MODE)
            .overwrite(false)
            .create_parent(make_parent);
        self.client.delete(path, false).await.map_err(failed)?;
        let file = self.client.create(path, options).await.map_err(failed)?;
        let status = self.client.get_file_info(path).await.map_err(failed)?;
        Ok(Writer {
            op,
            key,
            file,
            block_bytes: status
                .blocksize
                .filter(|bytes| *bytes > 0)
                .unwrap_or(u64::MAX),
            written: 0,
            durable: true,
        })
    }

    pub(super) async fn write_whole(
        &self,
        key: &ObjectKey,
        body: Bytes,
        attrs: &PosixAttrs,
        condition: &Condition,
    ) -> Result<Put> {
        const OP: &str = "write";
        let staged = self.staged(&random_name());
        let result = async {
            let mut writer = self.begin(OP, key, &staged, true).await?;
            writer.write(body).await?;
            writer.close().await?;
            self.publish(OP, key, &staged, attrs, condition).await
        }
        .await;
        self.tidied(&staged, result).await
    }

    /// Makes a folder for an upload that will have these attributes; its name tells them:
    /// `<random>.<mode>.<mtime>.<atime>`.
    pub(super) async fn begin_upload(
        &self,
        key: &ObjectKey,
        attrs: &PosixAttrs,
    ) -> Result<UploadId> {
        fn show(value: Option<impl ToString>) -> String {
            value.map_or_else(|| "-".to_owned(), |value| value.to_string())
        }
        let name = random_name();
        self.client
            .mkdirs(&self.staged(&name), DIR_MODE, true)
            .await
            .map_err(|e| mapped("begin upload of", key, e))?;
        let fields = [
            name,
            show(attrs.mode),
            show(attrs.mtime_ns),
            show(attrs.atime_ns),
        ];
        Ok(UploadId(fields.join(".")))
    }

    pub(super) async fn write_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> Result<PartTag> {
        const OP: &str = "upload part of";
        let (name, _) = read_upload(upload).ok_or_else(|| gone(OP, key))?;
        let length = body.len();
        let path = self.staged(&format!("{name}/{number}"));
        // The folder goes when the upload is given up.
        let mut writer = match self.begin(OP, key, &path, false).await {
            Err(Error::NotFound { .. }) => return Err(gone(OP, key)),
            begun => begun?,
        };
        writer.durable = false;
        writer.write(body).await?;
        writer.close().await?;
        Ok(PartTag(length.to_string()))
    }

    /// Strings the parts of an upload together and publishes them.
    pub(super) async fn assemble(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[(u32, PartTag)],
        condition: &Condition,
    ) -> Result<Put> {
        const OP: &str = "complete upload of";
        let (name, attrs) = read_upload(upload).ok_or_else(|| gone(OP, key))?;
        let sources = match self.sources(OP, key, &name, parts, condition).await {
            Ok(sources) => sources,
            // The parts go when the upload has been published.
            Err(error @ (Error::NoSuchUpload { .. } | Error::PreconditionFailed { .. })) => {
                let lengths = parts
                    .iter()
                    .filter_map(|(_, tag)| tag.0.parse::<u64>().ok());
                let there = self.already_there(OP, key, &attrs, lengths.sum()).await?;
                return there.ok_or(error);
            }
            Err(error) => return Err(error),
        };
        let whole = self.staged(&format!("{name}/whole"));
        self.string_together(OP, key, &sources, &whole).await?;
        let put = self.publish(OP, key, &whole, &attrs, condition).await?;
        crate::backend::Backend::abort(self, key, upload).await?;
        Ok(put)
    }

    /// The files that the parts are in, if all are there, and if it makes sense to go on.
    async fn sources(
        &self,
        op: &'static str,
        key: &ObjectKey,
        name: &str,
        parts: &[(u32, PartTag)],
        condition: &Condition,
    ) -> Result<Vec<String>> {
        let mut sources = Vec::with_capacity(parts.len());
        for (number, tag) in parts {
            let path = self.staged(&format!("{name}/{number}"));
            match self.client.get_file_info(&path).await {
                Ok(part) if part.length.to_string() == tag.0 => sources.push(path),
                Ok(_) | Err(HdfsError::FileNotFound(_)) => return Err(gone(op, key)),
                Err(error) => return Err(mapped(op, key, error)),
            }
        }
        self.check_condition(op, key, condition).await?;
        Ok(sources)
    }

    /// HDFS copies nothing by itself.
    pub(super) async fn copy_through(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        attrs: &PosixAttrs,
    ) -> Result<Put> {
        const OP: &str = "copy";
        let staged = self.staged(&random_name());
        let result = async {
            self.string_together(OP, from, &[self.path(from)], &staged)
                .await?;
            self.publish(OP, to, &staged, attrs, &Condition::None).await
        }
        .await;
        self.tidied(&staged, result).await
    }

    async fn string_together(
        &self,
        op: &'static str,
        key: &ObjectKey,
        sources: &[String],
        target: &str,
    ) -> Result<()> {
        let failed = |error| mapped(op, key, error);
        let mut writer = self.begin(op, key, target, true).await?;
        for source in sources {
            let source = self.client.read(source).await.map_err(failed)?;
            let mut at = 0;
            while at < source.file_length() {
                let piece = PIECE_BYTES.min(source.file_length() - at);
                writer
                    .write(source.read_range(at, piece).await.map_err(failed)?)
                    .await?;
                at += piece;
            }
        }
        writer.close().await
    }

    /// The result, after a file that a failure leaves behind was deleted.
    async fn tidied(&self, staged: &str, result: Result<Put>) -> Result<Put> {
        if result.is_err()
            && let Err(error) = self.client.delete(staged, false).await
        {
            tracing::warn!(%staged, %error, "a file stays behind in the staging folder");
        }
        result
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
        let put = Put::of(Some(etag_of(&status)));
        let checked = self.check_condition(op, key, condition).await;
        if let Err(error @ Error::PreconditionFailed { .. }) = checked {
            return match self.has(op, key, put.etag.as_ref(), attrs).await? {
                true => self
                    .client
                    .delete(staged, false)
                    .await
                    .map_err(failed)
                    .map(|_| put),
                false => Err(error),
            };
        }
        checked?;
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
        let replace = *condition != Condition::Absent;
        match self.client.rename(staged, &path, replace).await {
            Ok(()) => Ok(put),
            Err(HdfsError::AlreadyExists(_)) if !replace => {
                Err(Error::precondition(op, key.as_str()))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether exactly this version is there. Without a time of its own nothing can be told from it.
    async fn has(
        &self,
        op: &'static str,
        key: &ObjectKey,
        etag: Option<&ETag>,
        attrs: &PosixAttrs,
    ) -> Result<bool> {
        let found = self.status(op, key).await?;
        Ok(attrs.mtime_ns.is_some() && found.as_ref().map(etag_of).as_ref() == etag)
    }

    /// The object, if it is the one that an upload with these attributes and this size leads to.
    async fn already_there(
        &self,
        op: &'static str,
        key: &ObjectKey,
        attrs: &PosixAttrs,
        size: u64,
    ) -> Result<Option<Put>> {
        let Some(mtime) = attrs.mtime_ns else {
            return Ok(None);
        };
        let etag = ETag(format!(
            "{:x}-{size:x}",
            u64::try_from(mtime / MILLI).unwrap_or(0)
        ));
        let there = self.has(op, key, Some(&etag), attrs).await?;
        Ok(there.then_some(Put::of(Some(etag))))
    }

    /// Sets mode and times, as far as they are given.
    pub(super) async fn apply(
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
}

fn gone(op: &'static str, key: &ObjectKey) -> Error {
    Error::NoSuchUpload {
        op,
        key: key.0.clone(),
    }
}
