//! Copies within the bucket, and new attributes for an object, which is a copy onto itself.
//!
//! A copy replaces all metadata with what the request says, so what other tools put on the object
//! (type, cache control, user metadata, storage class) is read first and sent along. The copy is of
//! the version that was read, by `x-amz-copy-source-if-match`. Objects above [`COPY_BYTES_MAX`] are
//! copied in parts of [`COPY_PART_BYTES`], a few at once.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use http::Method;
use serde::Deserialize;

use super::S3;
use super::client::{Answer, Repeated, Request};
use super::objects::{USER_METADATA, etag_of, metadata_headers, object_meta, same_etag};
use crate::attrs::PosixAttrs;
use crate::error::{Error, Result};
use crate::keys::ObjectKey;
use crate::types::{Condition, ETag, PartTag, Put, UploadId};
use crate::wire::escape_path;

/// Largest object that one request copies, by Amazon's rules.
const COPY_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// Longest wait for the answer to a copy: for the request, and for its bytes at the slowest rate of servers.
const COPY_SECONDS: u64 = 60;
const COPY_BYTES_PER_SECOND: u64 = 8 * 1024 * 1024;
/// Parts of larger copies.
const COPY_PART_BYTES: u64 = 1024 * 1024 * 1024;
/// Parts copied at the same time.
const COPIES_AT_ONCE: usize = 4;
/// Headers that describe an object and survive a copy, beside user metadata.
const KEPT_HEADERS: &[&str] = &[
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
];

#[derive(Deserialize)]
struct CopyResult {
    #[serde(rename = "ETag")]
    e_tag: Option<String>,
}

impl S3 {
    pub(super) async fn copy_object(
        &self,
        op: &'static str,
        from: &ObjectKey,
        to: &ObjectKey,
        attrs: &PosixAttrs,
        if_match: Option<&ETag>,
    ) -> Result<Put> {
        let Some(source) = self.head_answer(op, from).await? else {
            return Err(Error::not_found(op, from.as_str()));
        };
        let meta = object_meta(from, &source);
        if let Some(wanted) = if_match
            && meta
                .etag
                .as_ref()
                .is_none_or(|found| !same_etag(&found.0, &wanted.0))
        {
            return Err(Error::precondition(op, from.as_str()));
        }
        let headers = described(&source, attrs, to.is_directory());
        if meta.size > COPY_BYTES_MAX {
            return self
                .copy_in_parts(op, from, to, meta.size, meta.etag.as_ref(), &headers)
                .await;
        }
        let request = Request::new(op, from.as_str(), Method::PUT, Some(self.full(to)))
            .headers(&headers)?
            .headers(self.client.write_headers())?
            .header("x-amz-metadata-directive", "REPLACE")?
            .repeated(Repeated::UnlessUnheard);
        let request = self.of_version(request, from, meta.etag.as_ref())?;
        let patience = Duration::from_secs(COPY_SECONDS + meta.size / COPY_BYTES_PER_SECOND);
        match tokio::time::timeout(patience, self.send_copy(op, from, request)).await {
            Ok(etag) => Ok(Put::of(Some(etag?))),
            Err(_) => Err(Error::transient(
                op,
                from.as_str(),
                format!("no answer within {} seconds", patience.as_secs()),
            )),
        }
    }

    async fn copy_in_parts(
        &self,
        op: &'static str,
        from: &ObjectKey,
        to: &ObjectKey,
        size: u64,
        etag: Option<&ETag>,
        headers: &[(String, String)],
    ) -> Result<Put> {
        let upload = self.create_upload(to, headers).await?;
        let result = self.copy_parts(op, from, to, size, etag, &upload).await;
        match result {
            Ok(parts) => {
                self.complete_upload(to, &upload, &parts, &Condition::None)
                    .await
            }
            Err(error) => {
                if let Err(left) = self.abort_upload(to, &upload).await {
                    tracing::warn!(key = to.as_str(), error = %left, "parts of a broken copy stay behind in the store");
                }
                Err(error)
            }
        }
    }

    async fn copy_parts(
        &self,
        op: &'static str,
        from: &ObjectKey,
        to: &ObjectKey,
        size: u64,
        etag: Option<&ETag>,
        upload: &UploadId,
    ) -> Result<Vec<(u32, PartTag)>> {
        let count = size.div_ceil(COPY_PART_BYTES) as u32;
        futures::stream::iter(1..=count)
            .map(|number| async move {
                let start = u64::from(number - 1) * COPY_PART_BYTES;
                let last = (start + COPY_PART_BYTES).min(size) - 1;
                let request = Request::new(op, from.as_str(), Method::PUT, Some(self.full(to)))
                    .query("partNumber", number.to_string())
                    .query("uploadId", upload.0.clone())
                    .header("x-amz-copy-source-range", &format!("bytes={start}-{last}"))?;
                let tag = self
                    .send_copy(op, from, self.of_version(request, from, etag)?)
                    .await?;
                Ok((number, PartTag(tag.0)))
            })
            .buffered(COPIES_AT_ONCE)
            .try_collect()
            .await
    }

    /// Makes `request` a copy of version `etag` of `from`.
    fn of_version(
        &self,
        request: Request,
        from: &ObjectKey,
        etag: Option<&ETag>,
    ) -> Result<Request> {
        let source = format!(
            "/{}/{}",
            self.client.bucket(),
            escape_path(&self.full(from))
        );
        let request = request.header("x-amz-copy-source", &source)?;
        match etag {
            Some(etag) => request.header("x-amz-copy-source-if-match", &etag.0),
            None => Ok(request),
        }
    }

    async fn send_copy(
        &self,
        op: &'static str,
        from: &ObjectKey,
        request: Request,
    ) -> Result<ETag> {
        let answer = self.client.send(request).await?;
        let result: Option<CopyResult> = quick_xml::de::from_reader(&answer.body[..]).ok();
        match result.and_then(|result| result.e_tag) {
            Some(etag) => Ok(etag_of(&etag)),
            None => Err(Error::other(
                op,
                from.as_str(),
                "the store did not say what it copied",
            )),
        }
    }
}

/// The description of an object for its copy: what it had, with the attributes given.
fn described(source: &Answer, attrs: &PosixAttrs, directory: bool) -> Vec<(String, String)> {
    let mut posix = PosixAttrs::default();
    let mut headers = Vec::new();
    for (name, value) in &source.headers {
        let Ok(value) = value.to_str() else { continue };
        if let Some(own) = name.as_str().strip_prefix(USER_METADATA) {
            if !posix.take_metadata(own, value) {
                headers.push((name.as_str().to_owned(), value.to_owned()));
            }
        } else if KEPT_HEADERS.contains(&name.as_str()) {
            headers.push((name.as_str().to_owned(), value.to_owned()));
        }
    }
    headers.extend(metadata_headers(&attrs.or(posix), directory));
    headers
}
