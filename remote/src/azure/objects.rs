//! Blobs one by one: properties, bytes, metadata, blocks, copies, and the markers of directories.
//!
//! A conditional write whose answer got lost looks, on the second try, as if somebody else had written.
//! So where a condition fails, the blob is looked at: if it has the size and exactly the attributes that
//! were to be written, our mark among them, the write has taken place.
//!
//! An upload in parts has no beginning on Azure: blocks are sent to the blob's name and become the blob by
//! a list of them. Its name here is a random number, which its blocks' names begin with, followed by the
//! attributes, which only the list can carry: `<16 hex digits>;name=value;...`. Blocks that no list names
//! can't be thrown away; Azure does it a week after the last one, or when the blob is written.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode};
use md5::{Digest, Md5};

use super::Azure;
use super::client::{Answer, Request, is_missing};
use super::error::Refusal;
use super::properties::{FOLDER, etag_of, parse_time};
use crate::attrs::PosixAttrs;
use crate::error::{Error, Result};
use crate::keys::ObjectKey;
use crate::types::{Condition, ETag, ObjectMeta, PartTag, Put, UploadId};

/// Begins the names of headers that carry user metadata.
const USER_METADATA: &str = "x-ms-meta-";
/// Wait between looks at a copy that the service makes in the background.
const COPY_PAUSE: Duration = Duration::from_millis(500);

/// Attributes under the names that Azure allows.
fn metadata(attrs: &PosixAttrs, directory: bool) -> BTreeMap<String, String> {
    let ours = attrs.to_metadata(directory).into_iter();
    ours.map(|(name, value)| (name.replace('-', "_"), value))
        .chain(directory.then(|| (FOLDER.to_owned(), "true".to_owned())))
        .collect()
}

fn metadata_headers(pairs: &BTreeMap<String, String>) -> impl Iterator<Item = (String, &str)> {
    pairs
        .iter()
        .map(|(name, value)| (format!("{USER_METADATA}{name}"), value.as_str()))
}

/// The blob's metadata, other tools' as well, with these attributes in place of its own.
fn overlaid(answer: &Answer, attrs: &PosixAttrs, directory: bool) -> BTreeMap<String, String> {
    let mut pairs: BTreeMap<String, String> = answer
        .headers
        .iter()
        .filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(USER_METADATA)?;
            Some((name.to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect();
    pairs.extend(metadata(attrs, directory));
    pairs
}

fn condition_header(condition: &Condition) -> Option<(&'static str, &str)> {
    match condition {
        Condition::None => None,
        Condition::Absent => Some(("if-none-match", "*")),
        Condition::Match(etag) => Some(("if-match", &etag.0)),
    }
}

fn put_of(answer: &Answer) -> Put {
    Put::of(answer.header("etag").map(etag_of))
}

fn object_meta(key: &ObjectKey, answer: &Answer) -> ObjectMeta {
    let mut posix = PosixAttrs::default();
    for (name, value) in &answer.headers {
        if let (Some(name), Ok(value)) = (name.as_str().strip_prefix(USER_METADATA), value.to_str())
        {
            posix.take_metadata(name, value);
        }
    }
    ObjectMeta {
        key: key.clone(),
        size: answer
            .header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0),
        etag: answer.header("etag").map(etag_of),
        modified: answer
            .header("last-modified")
            .map_or(UNIX_EPOCH, parse_time),
        posix,
    }
}

/// What the service checks a body against. A thread of its own: a large body takes a while.
async fn digest(op: &'static str, key: &ObjectKey, body: &Bytes) -> Result<String> {
    let body = body.clone();
    tokio::task::spawn_blocking(move || BASE64_STANDARD.encode(Md5::digest(&body)))
        .await
        .map_err(|e| Error::other(op, key.as_str(), e))
}

impl Azure {
    fn blob(&self, op: &'static str, key: &ObjectKey, method: Method) -> Request {
        Request::new(op, key.as_str(), method, Some(self.full(key)))
    }

    async fn properties(&self, op: &'static str, key: &ObjectKey) -> Result<Option<Answer>> {
        if self.full(key).is_empty() {
            return Ok(None);
        }
        let found = match self
            .client
            .try_send(&self.blob(op, key, Method::HEAD))
            .await?
        {
            Ok(found) => found,
            Err(refusal) if is_missing(&refusal) => return Ok(None),
            Err(refusal) => return Err(refusal.into_error(op, key.as_str())),
        };
        let folder = found.header(&format!("{USER_METADATA}{FOLDER}")) == Some("true");
        // Another tool's folder, under the name of a file.
        Ok((key.is_directory() || !folder).then_some(found))
    }

    pub(super) async fn head_blob(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>> {
        let found = self.properties("look up", key).await?;
        Ok(found.map(|answer| object_meta(key, &answer)))
    }

    pub(super) async fn get_blob(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Bytes> {
        const OP: &str = "read";
        let wanted = range.end - range.start;
        let mut request = self
            .blob(OP, key, Method::GET)
            .header("range", &format!("bytes={}-{}", range.start, range.end - 1))?;
        if let Some(etag) = if_match {
            request = request.header("if-match", &etag.0)?;
        }
        let answer = match self.client.try_send(&request).await? {
            Ok(answer) => answer,
            Err(refusal) if refusal.is_precondition() => {
                return Err(Error::changed(OP, key.as_str()));
            }
            Err(refusal) if refusal.status == StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(Error::ShortBody {
                    key: key.0.clone(),
                    wanted,
                    got: 0,
                });
            }
            Err(refusal) => return Err(refusal.into_error(OP, key.as_str())),
        };
        if if_match.is_some_and(|etag| put_of(&answer).etag.as_ref() != Some(etag)) {
            return Err(Error::changed(OP, key.as_str()));
        }
        match answer.header("content-range") {
            Some(got) if got.starts_with(&format!("bytes {}-", range.start)) => Ok(answer.body),
            None if range.start == 0 && answer.body.len() as u64 == wanted => Ok(answer.body),
            _ => Err(Error::other(
                OP,
                key.as_str(),
                "the store sent another range than was asked for",
            )),
        }
    }

    pub(super) async fn put_blob(
        &self,
        key: &ObjectKey,
        body: Bytes,
        attrs: &PosixAttrs,
        condition: &Condition,
    ) -> Result<Put> {
        const OP: &str = "write";
        let size = body.len() as u64;
        let request = self
            .blob(OP, key, Method::PUT)
            .header("x-ms-blob-type", "BlockBlob")?
            .header("content-md5", &digest(OP, key, &body).await?)?
            .headers(metadata_headers(&metadata(attrs, false)))?
            .headers(condition_header(condition))?
            .body(body);
        match self.client.try_send(&request).await? {
            Ok(answer) => Ok(put_of(&answer)),
            Err(refusal) => self.already_written(OP, key, size, attrs, refusal).await,
        }
    }

    /// A failed condition, or blocks that are gone, are no failure if the blob is what was to be written.
    async fn already_written(
        &self,
        op: &'static str,
        key: &ObjectKey,
        size: u64,
        attrs: &PosixAttrs,
        refusal: Refusal,
    ) -> Result<Put> {
        if (refusal.is_precondition() || refusal.is_no_such_upload())
            && attrs.version.is_some()
            && let Some(found) = self.head_blob(key).await?
            && found.size == size
            && found.posix == *attrs
        {
            return Ok(Put::of(found.etag));
        }
        Err(refusal.into_error(op, key.as_str()))
    }

    pub(super) async fn put_block(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> Result<PartTag> {
        const OP: &str = "upload part of";
        let (stem, _) = read_upload(OP, key, upload)?;
        // All names of blocks of a blob must have the same length, and be legal base64: digits are.
        let block = format!("{stem}{number:016x}");
        let length = body.len();
        let request = self
            .blob(OP, key, Method::PUT)
            .query("comp", "block")
            .query("blockid", block.clone())
            .header("content-md5", &digest(OP, key, &body).await?)?
            .body(body);
        self.client.send(&request).await?;
        Ok(PartTag(format!("{block}.{length}")))
    }

    pub(super) async fn put_block_list(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[(u32, PartTag)],
        condition: &Condition,
    ) -> Result<Put> {
        const OP: &str = "complete upload of";
        let (_, attrs) = read_upload(OP, key, upload)?;
        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        let mut size = 0;
        for (number, tag) in parts {
            let block = tag
                .0
                .split_once('.')
                .and_then(|(block, length)| Some((block, length.parse::<u64>().ok()?)));
            let Some((block, length)) = block else {
                let detail = format!("part {number} has a receipt of another store");
                return Err(Error::other(OP, key.as_str(), detail));
            };
            size += length;
            // Writing to a String can't fail.
            let _ = write!(list, "<Uncommitted>{block}</Uncommitted>");
        }
        list.push_str("</BlockList>");
        let request = self
            .blob(OP, key, Method::PUT)
            .query("comp", "blocklist")
            .header("content-type", "text/plain; charset=UTF-8")?
            .headers(metadata_headers(&metadata(&attrs, false)))?
            .headers(condition_header(condition))?
            .body(Bytes::from(list));
        match self.client.try_send(&request).await? {
            Ok(answer) => Ok(put_of(&answer)),
            Err(refusal) => self.already_written(OP, key, size, &attrs, refusal).await,
        }
    }

    pub(super) async fn set_metadata(
        &self,
        key: &ObjectKey,
        if_match: Option<&ETag>,
        attrs: &PosixAttrs,
    ) -> Result<Put> {
        const OP: &str = "set attributes of";
        let (found, meta) = self.expect(OP, key, if_match).await?;
        let wanted = attrs.or(meta.posix);
        if wanted == meta.posix {
            return Ok(Put::of(meta.etag));
        }
        let request = self
            .blob(OP, key, Method::PUT)
            .query("comp", "metadata")
            .headers(metadata_headers(&overlaid(
                &found,
                attrs,
                key.is_directory(),
            )))?
            .headers(meta.etag.iter().map(|etag| ("if-match", &etag.0)))?;
        match self.client.try_send(&request).await? {
            Ok(answer) => Ok(put_of(&answer)),
            Err(refusal) => {
                self.already_written(OP, key, meta.size, &wanted, refusal)
                    .await
            }
        }
    }

    /// The blob, if it is version `if_match` or none was asked for.
    async fn expect(
        &self,
        op: &'static str,
        key: &ObjectKey,
        if_match: Option<&ETag>,
    ) -> Result<(Answer, ObjectMeta)> {
        let Some(found) = self.properties(op, key).await? else {
            return Err(Error::not_found(op, key.as_str()));
        };
        let meta = object_meta(key, &found);
        match if_match {
            Some(etag) if meta.etag.as_ref() != Some(etag) => {
                Err(Error::precondition(op, key.as_str()))
            }
            _ => Ok((found, meta)),
        }
    }

    pub(super) async fn copy_blob(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        attrs: &PosixAttrs,
        if_match: Option<&ETag>,
    ) -> Result<Put> {
        const OP: &str = "copy";
        let (found, meta) = self.expect(OP, from, if_match).await?;
        let request = Request::new(OP, from.as_str(), Method::PUT, Some(self.full(to)));
        let source = self.client.source_url(&request, &self.full(from)).await?;
        let request = request
            .header("x-ms-copy-source", &source)?
            .headers(metadata_headers(&overlaid(&found, attrs, false)))?
            .headers(
                meta.etag
                    .iter()
                    .map(|etag| ("x-ms-source-if-match", &etag.0)),
            )?;
        let answer = self.client.send(&request).await?;
        if answer.header("x-ms-copy-status") != Some("pending") {
            return Ok(put_of(&answer));
        }
        let Some(id) = answer.header("x-ms-copy-id").map(str::to_owned) else {
            return Err(Error::other(
                OP,
                from.as_str(),
                "the store began a copy without a number",
            ));
        };
        self.copied(to, &id).await
    }

    /// Waits for a copy that the service makes in the background. The caller bounds the time.
    async fn copied(&self, to: &ObjectKey, id: &str) -> Result<Put> {
        const OP: &str = "copy";
        loop {
            tokio::time::sleep(COPY_PAUSE).await;
            let Some(found) = self.properties(OP, to).await? else {
                return Err(Error::not_found(OP, to.as_str()));
            };
            if found.header("x-ms-copy-id") != Some(id) {
                return Err(Error::precondition(OP, to.as_str()));
            }
            match found.header("x-ms-copy-status") {
                Some("pending") => {}
                Some("success") => return Ok(put_of(&found)),
                other => {
                    let words = found.header("x-ms-copy-status-description").or(other);
                    let detail = format!("the copy broke off: {}", words.unwrap_or("no reason"));
                    return Err(Error::transient(OP, to.as_str(), detail));
                }
            }
        }
    }

    pub(super) async fn delete_blob(
        &self,
        op: &'static str,
        key: &ObjectKey,
        if_match: Option<&ETag>,
    ) -> Result<()> {
        let request = self
            .blob(op, key, Method::DELETE)
            .headers(if_match.map(|etag| ("if-match", &etag.0)))?;
        match self.client.try_send(&request).await? {
            Ok(_) => Ok(()),
            Err(refusal) if is_missing(&refusal) => Ok(()),
            // Some say so of a blob that isn't there.
            Err(refusal) if refusal.is_precondition() => match self.properties(op, key).await? {
                None => Ok(()),
                Some(_) => Err(refusal.into_error(op, key.as_str())),
            },
            Err(refusal) => Err(refusal.into_error(op, key.as_str())),
        }
    }

    pub(super) async fn put_marker(&self, dir: &ObjectKey, attrs: &PosixAttrs) -> Result<()> {
        let request = self
            .blob("make directory", dir, Method::PUT)
            .header("x-ms-blob-type", "BlockBlob")?
            .headers(metadata_headers(&metadata(attrs, true)))?;
        self.client.send(&request).await.map(drop)
    }
}

/// A name for a new upload that will have these attributes.
pub(super) fn new_upload(attrs: &PosixAttrs) -> UploadId {
    let mut id = format!("{:016x}", rand::random::<u64>());
    for (name, value) in attrs.to_metadata(false) {
        // Writing to a String can't fail.
        let _ = write!(id, ";{name}={value}");
    }
    UploadId(id)
}

/// What all blocks of an upload begin with, and its attributes.
fn read_upload<'a>(
    op: &'static str,
    key: &ObjectKey,
    upload: &'a UploadId,
) -> Result<(&'a str, PosixAttrs)> {
    let (stem, pairs) = upload.0.split_once(';').unwrap_or((&upload.0, ""));
    if stem.len() != 16 || !stem.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::NoSuchUpload {
            op,
            key: key.0.clone(),
        });
    }
    let mut attrs = PosixAttrs::default();
    for pair in pairs.split(';') {
        if let Some((name, value)) = pair.split_once('=') {
            attrs.take_metadata(name, value);
        }
    }
    Ok((stem, attrs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attrs::FileVersion;

    #[test]
    fn the_name_of_an_upload_carries_its_attributes() {
        let attrs = PosixAttrs {
            mode: Some(0o4755),
            mtime_ns: Some(-1),
            version: Some(FileVersion {
                node: 1,
                ino: 2,
                epoch: 3,
                meta_epoch: 4,
                place: 5,
            }),
            ..PosixAttrs::default()
        };
        let key = ObjectKey::from("k");
        for attrs in [attrs, PosixAttrs::default()] {
            let upload = new_upload(&attrs);
            let (stem, read) = read_upload("write", &key, &upload).unwrap();
            assert_eq!((stem.len(), read), (16, attrs));
        }
        let other = UploadId("of-another-store".into());
        assert!(matches!(
            read_upload("write", &key, &other),
            Err(Error::NoSuchUpload { .. })
        ));
    }
}
