//! S3, and every server that speaks it.
//!
//! Requests are put together here and sent through `object_store`'s HTTP client, signed by its
//! authorizer, with credentials from its providers (keys, web identity, container, instance). Its
//! store type isn't used, because a file system over existing buckets and conditional multipart
//! uploads need what it doesn't have: keys such as `a//b` or `dir/` can be neither listed nor named
//! (one makes the whole listing fail), completing an upload takes no condition, a copy can't replace
//! the metadata, the server's error code doesn't reach the caller, and retries would be of two kinds.
//!
//! | file | requests |
//! |---|---|
//! | `config` | none: endpoint, credentials, style of addressing |
//! | `client` | signing, sending, short retries |
//! | `error` | the server's error codes |
//! | `list` | ListObjectsV2, with encoded keys |
//! | `objects` | Head, Get, Put, Delete |
//! | `multipart` | CreateMultipartUpload, UploadPart, Complete, Abort |
//! | `uploads` | ListMultipartUploads, ListParts |
//! | `copy` | CopyObject, UploadPartCopy |
//!
//! Bodies are covered by the signature (SHA-256), which servers verify; so a flipped bit on the way up
//! is refused by the store.

mod client;
mod config;
mod copy;
mod error;
mod list;
mod multipart;
mod objects;
mod uploads;

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::attrs::PosixAttrs;
use crate::backend::Backend;
use crate::error::{Error, ProbeError, Result};
use crate::keys::ObjectKey;
use crate::settings::Settings;
use crate::types::{
    Capabilities, Condition, DirMarkers, ETag, ListPage, ListToken, ObjectMeta, OpenUpload,
    PartTag, Put, UploadId,
};
use crate::url::StoreUrl;

/// Limits of Amazon's S3, which others follow.
const KEY_BYTES_MAX: usize = 1024;
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
const PART_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
const PARTS_MAX: u32 = 10_000;

/// A bucket, from a prefix on.
#[derive(Debug)]
pub(crate) struct S3 {
    client: client::Client,
    /// What stands before every key: empty, or ending in '/'.
    prefix: String,
    url: String,
}

impl S3 {
    pub(crate) fn open(url: &StoreUrl, settings: &Settings) -> Result<S3> {
        let config = config::Config::resolve(url, settings)?;
        let client = client::Client::new(config)?;
        let prefix = match url.prefix() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Ok(S3 {
            client,
            prefix,
            url: url.to_string(),
        })
    }

    /// The key as the bucket has it.
    fn full(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.prefix)
    }
}

#[async_trait]
impl Backend for S3 {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            conditional_put: true,
            conditional_complete: true,
            conditional_delete: true,
            conditional_copy: true,
            multipart: true,
            copy: true,
            attributes: true,
            markers: DirMarkers::Object,
            part_bytes_min: PART_BYTES_MIN,
            part_bytes_max: PART_BYTES_MAX,
            parts_max: PARTS_MAX,
            key_bytes_max: KEY_BYTES_MAX.saturating_sub(self.prefix.len()),
        }
    }

    fn endpoint(&self) -> String {
        self.client.endpoint()
    }

    async fn check(&self) -> Result<(), ProbeError> {
        self.check_bucket().await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>> {
        self.head_object(key).await
    }

    async fn list_page(
        &self,
        dir: &ObjectKey,
        after: Option<&ListToken>,
        max: usize,
    ) -> Result<ListPage> {
        self.list_objects(dir, after, max).await
    }

    async fn exists_below(&self, dir: &ObjectKey) -> Result<bool> {
        self.any_below(dir).await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Bytes> {
        self.get_object(key, range, if_match).await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        attrs: &PosixAttrs,
        condition: &Condition,
    ) -> Result<Put> {
        self.put_object(key, body, attrs, condition).await
    }

    async fn multipart(&self, key: &ObjectKey, attrs: &PosixAttrs) -> Result<UploadId> {
        self.create_upload(key, &self::objects::metadata_headers(attrs, false))
            .await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> Result<PartTag> {
        self.upload_part(key, upload, number, body).await
    }

    async fn complete(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[(u32, PartTag)],
        condition: &Condition,
    ) -> Result<Put> {
        self.complete_upload(key, upload, parts, condition).await
    }

    async fn abort(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.abort_upload(key, upload).await
    }

    async fn uploads(&self, key: &ObjectKey) -> Result<Vec<OpenUpload>> {
        self.list_uploads(key).await
    }

    async fn has_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<bool> {
        self.any_part(key, upload).await
    }

    async fn set_attributes(
        &self,
        key: &ObjectKey,
        etag: Option<&ETag>,
        attrs: &PosixAttrs,
    ) -> Result<Put> {
        self.copy_object("set attributes of", key, key, attrs, etag)
            .await
    }

    async fn copy(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        attrs: &PosixAttrs,
        if_match: Option<&ETag>,
    ) -> Result<Put> {
        self.copy_object("copy", from, to, attrs, if_match).await
    }

    async fn delete(&self, key: &ObjectKey, if_match: Option<&ETag>) -> Result<()> {
        self.delete_object(key, if_match).await
    }

    async fn delete_unchecked(&self, key: &ObjectKey, if_match: &ETag) -> Result<()> {
        self.send_delete(key, Some(if_match)).await
    }

    async fn make_dir(&self, dir: &ObjectKey, attrs: &PosixAttrs) -> Result<()> {
        if dir.0.is_empty() {
            return Ok(());
        }
        self.put_marker(dir, attrs).await
    }

    async fn remove_dir(&self, dir: &ObjectKey) -> Result<()> {
        self.delete_marker(dir).await
    }
}

/// A settings error as this crate's own.
fn setting(error: impl std::fmt::Display) -> Error {
    Error::other("open", "", error)
}
