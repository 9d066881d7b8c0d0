//! Azure Blob Storage.
//!
//! As for S3, requests are put together here and sent through `object_store`'s HTTP client, signed by its
//! authorizer, with credentials from its providers (account key, SAS, client secret, workload and managed
//! identity, Azure CLI). Its store type lacks what a file system needs: what is uploaded in parts gets no
//! attributes, completing and deleting take no condition, attributes can't be changed without sending the
//! bytes again, listings spell versions otherwise than everything else, and keys such as `a//b` or `dir/`
//! can be neither listed nor named.
//!
//! | file | requests |
//! |---|---|
//! | `open` | none: account, endpoint, credentials |
//! | `client` | signing, sending, short retries |
//! | `error` | the service's error codes |
//! | `list` | List Blobs, with metadata |
//! | `objects` | Get Blob Properties, Get, Put, Delete, Copy Blob, Set Metadata, Put Block, Put Block List |
//!
//! Names of metadata must be C# identifiers, so the hyphens of our attributes are underscores. Bodies go
//! up with their MD5, which the service verifies. An empty directory is a blob `name/` that says
//! `hdi_isfolder=true`, as rclone writes it.

mod client;
mod error;
mod list;
mod objects;
mod open;
mod properties;

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::attrs::PosixAttrs;
use crate::backend::Backend;
use crate::error::{ProbeError, Result};
use crate::keys::ObjectKey;
use crate::spelling::Spelling;
use crate::types::{
    Capabilities, Condition, DirMarkers, ETag, ListPage, ListToken, ObjectMeta, PartTag, Put,
    UploadId,
};

/// The service's limits: 1024 characters, blocks of 4000 MiB, 50,000 of them.
const KEY_BYTES_MAX: usize = 1024;
const PART_BYTES_MAX: u64 = 4000 * 1024 * 1024;
const PARTS_MAX: u32 = 50_000;

/// Azure takes a backslash for a slash, and drops a dot at the end of a name.
const SPELLING: Spelling = Spelling {
    refused: b"\\",
    no_final_dot: true,
};

/// A container, from a prefix on.
#[derive(Debug)]
pub(crate) struct Azure {
    client: client::Client,
    /// What stands before every key: empty, or ending in '/'.
    prefix: String,
    url: String,
}

impl Azure {
    /// The key as the container has it.
    fn full(&self, key: &ObjectKey) -> String {
        format!("{}{}", self.prefix, SPELLING.write(key.as_str()))
    }
}

#[async_trait]
impl Backend for Azure {
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
            part_bytes_min: 1,
            part_bytes_max: PART_BYTES_MAX,
            parts_max: PARTS_MAX,
            key_bytes_max: KEY_BYTES_MAX.saturating_sub(self.prefix.len()),
        }
    }

    fn endpoint(&self) -> String {
        self.client.endpoint.clone()
    }

    async fn check(&self) -> Result<(), ProbeError> {
        self.check_container().await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>> {
        self.head_blob(key).await
    }

    async fn list_page(
        &self,
        dir: &ObjectKey,
        after: Option<&ListToken>,
        max: usize,
    ) -> Result<ListPage> {
        self.list_blobs(dir, after, max).await
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
        self.get_blob(key, range, if_match).await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        attrs: &PosixAttrs,
        condition: &Condition,
    ) -> Result<Put> {
        self.put_blob(key, body, attrs, condition).await
    }

    async fn multipart(&self, _key: &ObjectKey, attrs: &PosixAttrs) -> Result<UploadId> {
        Ok(objects::new_upload(attrs))
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> Result<PartTag> {
        self.put_block(key, upload, number, body).await
    }

    async fn complete(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[(u32, PartTag)],
        condition: &Condition,
    ) -> Result<Put> {
        self.put_block_list(key, upload, parts, condition).await
    }

    /// Nothing can be done: Azure throws blocks away by itself.
    async fn abort(&self, _key: &ObjectKey, _upload: &UploadId) -> Result<()> {
        Ok(())
    }

    async fn set_attributes(
        &self,
        key: &ObjectKey,
        etag: Option<&ETag>,
        attrs: &PosixAttrs,
    ) -> Result<Put> {
        self.set_metadata(key, etag, attrs).await
    }

    async fn copy(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        attrs: &PosixAttrs,
        if_match: Option<&ETag>,
    ) -> Result<Put> {
        self.copy_blob(from, to, attrs, if_match).await
    }

    async fn delete(&self, key: &ObjectKey, if_match: Option<&ETag>) -> Result<()> {
        self.delete_blob("delete", key, if_match).await
    }

    async fn make_dir(&self, dir: &ObjectKey, attrs: &PosixAttrs) -> Result<()> {
        if dir.0.is_empty() {
            return Ok(());
        }
        self.put_marker(dir, attrs).await
    }

    async fn remove_dir(&self, dir: &ObjectKey) -> Result<()> {
        self.delete_blob("remove directory", dir, None).await
    }
}
