//! What each kind of store implements; [`crate::Remote`] adds what is common to all of them. Public, so that a
//! test can put a store of its own below everything ([`crate::Remote::over`]).
//!
//! A backend gets keys below its URL's prefix and puts the prefix before them itself. It needn't
//! check the length of a body or of a key, nor bound the time of a call: `Remote` does.

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::attrs::PosixAttrs;
use crate::error::{ProbeError, Result};
use crate::keys::ObjectKey;
use crate::types::{
    Capabilities, Condition, ETag, ListPage, ListToken, ObjectMeta, OpenUpload, PartTag, Put,
    UploadId,
};

/// A store; see [`crate::Remote`] for what each call means.
#[async_trait]
pub trait Backend: Send + Sync + Debug {
    /// What the store could do at best; the probe strikes out what a server can't.
    fn capabilities(&self) -> Capabilities;

    /// Host, address or folder, for messages.
    fn endpoint(&self) -> String;

    /// Whether the store is there and lets itself be listed.
    async fn check(&self) -> Result<(), ProbeError>;

    /// See [`crate::Remote::head`].
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>>;
    /// See [`crate::Remote::list_page`].
    async fn list_page(
        &self,
        dir: &ObjectKey,
        after: Option<&ListToken>,
        max: usize,
    ) -> Result<ListPage>;
    /// See [`crate::Remote::exists_below`].
    async fn exists_below(&self, dir: &ObjectKey) -> Result<bool>;
    /// See [`crate::Remote::get`]; one request, whatever length comes.
    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Bytes>;

    /// See [`crate::Remote::put`].
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        attrs: &PosixAttrs,
        condition: &Condition,
    ) -> Result<Put>;
    /// See [`crate::Remote::multipart`].
    async fn multipart(&self, key: &ObjectKey, attrs: &PosixAttrs) -> Result<UploadId>;
    /// See [`crate::Remote::put_part`].
    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> Result<PartTag>;
    /// Bytes that completing moves through here, because the store can't put parts together by itself.
    fn bytes_to_assemble(&self, _parts: &[(u32, PartTag)]) -> u64 {
        0
    }
    /// See [`crate::Remote::complete`].
    async fn complete(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[(u32, PartTag)],
        condition: &Condition,
    ) -> Result<Put>;
    /// See [`crate::Remote::abort`].
    async fn abort(&self, key: &ObjectKey, upload: &UploadId) -> Result<()>;
    /// None where an upload is nothing that the store knows before it is completed, or that is named here.
    async fn uploads(&self, _key: &ObjectKey) -> Result<Vec<OpenUpload>> {
        Ok(Vec::new())
    }
    /// See [`crate::Remote::has_parts`].
    async fn has_parts(&self, _key: &ObjectKey, _upload: &UploadId) -> Result<bool> {
        Ok(true)
    }

    /// See [`crate::Remote::set_attributes`].
    async fn set_attributes(
        &self,
        key: &ObjectKey,
        etag: Option<&ETag>,
        attrs: &PosixAttrs,
    ) -> Result<Put>;
    /// See [`crate::Remote::copy`].
    async fn copy(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        attrs: &PosixAttrs,
        if_match: Option<&ETag>,
    ) -> Result<Put>;
    /// See [`crate::Remote::delete`] and, with a version, [`crate::Remote::delete_matching`].
    async fn delete(&self, key: &ObjectKey, if_match: Option<&ETag>) -> Result<()>;
    /// Like `delete` of a version, with nothing but the store's own check; for the probe.
    async fn delete_unchecked(&self, key: &ObjectKey, if_match: &ETag) -> Result<()> {
        self.delete(key, Some(if_match)).await
    }

    /// See [`crate::Remote::make_dir`].
    async fn make_dir(&self, dir: &ObjectKey, attrs: &PosixAttrs) -> Result<()>;
    /// See [`crate::Remote::remove_dir`].
    async fn remove_dir(&self, dir: &ObjectKey) -> Result<()>;
}
