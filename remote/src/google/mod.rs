//! Google Cloud Storage, by `object_store`.
//!
//! What that library does decides what can be had there:
//!
//! * its paths know no trailing '/', so an empty directory can't be kept ([`DirMarkers::None`]), and a
//!   bucket with a key such as `a//b` can't be listed where that key is: the error says so;
//! * completing an upload and deleting take no condition: it is checked just before;
//! * new attributes mean writing the object again, which is done up to [`REWRITE_BYTES_MAX`]; larger
//!   objects keep the old ones.
//!
//! Google compares generations, not ETags: a write that expects a version looks up that version's
//! generation first and makes it the condition, which is as good.
//!
//! Never run against Google's own service. The contract of `tests/` was run by hand on a moto behind a
//! translator of header names and generations, and holds but for what is said above, and one thing more:
//! completing again after a lost answer is refused as a conflict (our mark on the object tells the caller).

mod error;
mod open;

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::gcp::GoogleCloudStorage;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, AttributeValue, Attributes, GetOptions, GetRange, GetResult, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, UpdateVersion,
};

use self::error::mapped;
use crate::attrs::PosixAttrs;
use crate::backend::Backend;
use crate::error::{Error, ProbeError, Result, chain};
use crate::keys::ObjectKey;
use crate::types::{
    Capabilities, Condition, DirMarkers, ETag, ListPage, ListToken, ObjectMeta, PartTag, Put,
    UploadId,
};

/// The service's limit.
const KEY_BYTES_MAX: usize = 1024;
/// Largest object that is written again for the sake of its attributes.
const REWRITE_BYTES_MAX: u64 = 16 * 1024 * 1024;
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
const PART_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
const PARTS_MAX: u32 = 10_000;

/// A bucket, from a prefix on.
#[derive(Debug)]
pub(crate) struct Google {
    store: GoogleCloudStorage,
    /// What stands before every key: empty, or ending in '/'.
    prefix: String,
    url: String,
}

impl Google {
    fn path(&self, op: &'static str, key: &ObjectKey) -> Result<Path> {
        Path::parse(format!("{}{key}", self.prefix)).map_err(|e| {
            Error::other(
                op,
                key.as_str(),
                format!("this key can't be used on this store: {}", chain(&e)),
            )
        })
    }

    async fn look(&self, op: &'static str, key: &ObjectKey) -> Result<Option<GetResult>> {
        let path = self.path(op, key)?;
        match self
            .store
            .get_opts(&path, GetOptions::default().with_head(true))
            .await
        {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(mapped(op, key, error)),
        }
    }

    /// The object, if it is version `etag` or none was asked for.
    async fn expect(
        &self,
        op: &'static str,
        key: &ObjectKey,
        etag: Option<&ETag>,
    ) -> Result<GetResult> {
        let Some(found) = self.look(op, key).await? else {
            return Err(Error::not_found(op, key.as_str()));
        };
        match etag {
            Some(etag) if found.meta.e_tag.as_ref() != Some(&etag.0) => {
                Err(Error::precondition(op, key.as_str()))
            }
            _ => Ok(found),
        }
    }

    /// A failed condition is no failure if the object is what was to be written, by size and our mark: an
    /// earlier try whose answer got lost.
    async fn already_written(
        &self,
        key: &ObjectKey,
        size: u64,
        attrs: &PosixAttrs,
        error: Error,
    ) -> Result<Put> {
        if matches!(error, Error::PreconditionFailed { .. })
            && attrs.version.is_some()
            && let Some(found) = self.look("look up", key).await?
            && found.meta.size == size
            && posix(&found.attributes) == *attrs
        {
            return Ok(Put::of(found.meta.e_tag.map(ETag)));
        }
        Err(error)
    }

    async fn check_condition(
        &self,
        op: &'static str,
        key: &ObjectKey,
        condition: &Condition,
    ) -> Result<()> {
        let found = match condition {
            Condition::None => return Ok(()),
            _ => self.look(op, key).await?.and_then(|found| found.meta.e_tag),
        };
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => found.is_none(),
            Condition::Match(etag) => found.as_ref() == Some(&etag.0),
        };
        if holds {
            Ok(())
        } else {
            Err(Error::precondition(op, key.as_str()))
        }
    }

    async fn mode(
        &self,
        op: &'static str,
        key: &ObjectKey,
        condition: &Condition,
    ) -> Result<PutMode> {
        Ok(match condition {
            Condition::None => PutMode::Overwrite,
            Condition::Absent => PutMode::Create,
            Condition::Match(etag) => {
                let version = match self.expect(op, key, Some(etag)).await {
                    Ok(found) => found.meta.version,
                    Err(Error::NotFound { .. }) => {
                        return Err(Error::precondition(op, key.as_str()));
                    }
                    Err(error) => return Err(error),
                };
                PutMode::Update(UpdateVersion {
                    e_tag: Some(etag.0.clone()),
                    version,
                })
            }
        })
    }
}

fn metadata(attrs: &PosixAttrs) -> Attributes {
    attrs
        .to_metadata(false)
        .into_iter()
        .map(|(name, value)| {
            (
                Attribute::Metadata(name.into()),
                AttributeValue::from(value),
            )
        })
        .collect()
}

fn posix(attributes: &Attributes) -> PosixAttrs {
    let mut posix = PosixAttrs::default();
    for (attribute, value) in attributes {
        if let Attribute::Metadata(name) = attribute {
            posix.take_metadata(name, value);
        }
    }
    posix
}

fn object_meta(key: ObjectKey, meta: object_store::ObjectMeta, posix: PosixAttrs) -> ObjectMeta {
    ObjectMeta {
        key,
        size: meta.size,
        etag: meta.e_tag.map(ETag),
        modified: meta.last_modified.into(),
        posix,
    }
}

#[async_trait]
impl Backend for Google {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            conditional_put: true,
            conditional_complete: false,
            conditional_delete: false,
            conditional_copy: false,
            multipart: true,
            copy: true,
            attributes: true,
            markers: DirMarkers::None,
            part_bytes_min: PART_BYTES_MIN,
            part_bytes_max: PART_BYTES_MAX,
            parts_max: PARTS_MAX,
            key_bytes_max: KEY_BYTES_MAX.saturating_sub(self.prefix.len()),
        }
    }

    fn endpoint(&self) -> String {
        self.url.clone()
    }

    async fn check(&self) -> Result<(), ProbeError> {
        let options = PaginatedListOptions {
            delimiter: Some("/".into()),
            max_keys: Some(1),
            ..Default::default()
        };
        match self.store.list_paginated(Some(&self.prefix), options).await {
            Ok(_) => Ok(()),
            // A key that can't be listed still means that listing is allowed.
            Err(object_store::Error::InvalidPath { .. }) => Ok(()),
            Err(error) => Err(error::probe_error(error, &self.url)),
        }
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>> {
        if key.is_directory() {
            return Ok(None);
        }
        let found = self.look("look up", key).await?;
        Ok(found.map(|found| {
            let posix = posix(&found.attributes);
            object_meta(key.clone(), found.meta, posix)
        }))
    }

    async fn list_page(
        &self,
        dir: &ObjectKey,
        after: Option<&ListToken>,
        max: usize,
    ) -> Result<ListPage> {
        let options = PaginatedListOptions {
            delimiter: Some("/".into()),
            max_keys: Some(max.min(1000)),
            page_token: after.map(|token| token.0.clone()),
            ..Default::default()
        };
        let full_dir = format!("{}{dir}", self.prefix);
        let found = self
            .store
            .list_paginated(Some(&full_dir), options)
            .await
            .map_err(|e| mapped("list", dir, e))?;
        let mut page = ListPage {
            next: found.page_token.map(ListToken),
            ..Default::default()
        };
        for meta in found.result.objects {
            let path = meta.location.as_ref().to_owned();
            match path.strip_prefix(&full_dir).filter(|name| !name.is_empty()) {
                Some(name) => {
                    page.files
                        .push(object_meta(dir.child(name), meta, PosixAttrs::default()))
                }
                // The directory's own marker: its path comes without the '/'.
                None if !dir.0.is_empty() => {
                    page.marker = Some(object_meta(dir.clone(), meta, PosixAttrs::default()))
                }
                None => {}
            }
        }
        for path in found.result.common_prefixes {
            if let Some(name) = path.as_ref().strip_prefix(&full_dir) {
                page.directories.push(name.trim_end_matches('/').to_owned());
            }
        }
        page.directories.sort();
        page.directories.dedup();
        Ok(page)
    }

    async fn exists_below(&self, dir: &ObjectKey) -> Result<bool> {
        let options = PaginatedListOptions {
            max_keys: Some(1),
            ..Default::default()
        };
        let full_dir = format!("{}{dir}", self.prefix);
        match self.store.list_paginated(Some(&full_dir), options).await {
            Ok(found) => Ok(!found.result.objects.is_empty()),
            Err(object_store::Error::InvalidPath { .. }) => Ok(true),
            Err(error) => Err(mapped("look below", dir, error)),
        }
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Bytes> {
        const OP: &str = "read";
        let (start, wanted) = (range.start, range.end - range.start);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: if_match.map(|etag| etag.0.clone()),
            ..Default::default()
        };
        let failed = |error| match mapped(OP, key, error) {
            Error::PreconditionFailed { op, key } => Error::Changed { op, key },
            error => error,
        };
        let found = match self.store.get_opts(&self.path(OP, key)?, options).await {
            Ok(found) => found,
            Err(error) => match failed(error) {
                // The library has only words for a range beyond the end.
                other @ Error::Other { .. } => match self.look(OP, key).await? {
                    Some(found) if found.meta.size <= start => {
                        return Err(Error::ShortBody {
                            key: key.0.clone(),
                            wanted,
                            got: 0,
                        });
                    }
                    _ => return Err(other),
                },
                error => return Err(error),
            },
        };
        if if_match.is_some_and(|etag| found.meta.e_tag.as_ref() != Some(&etag.0)) {
            return Err(Error::changed(OP, key.as_str()));
        }
        found.bytes().await.map_err(failed)
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        attrs: &PosixAttrs,
        condition: &Condition,
    ) -> Result<Put> {
        const OP: &str = "write";
        let size = body.len() as u64;
        let mode = match self.mode(OP, key, condition).await {
            Ok(mode) => mode,
            Err(error) => return self.already_written(key, size, attrs, error).await,
        };
        let options = PutOptions {
            mode,
            attributes: metadata(attrs),
            ..Default::default()
        };
        let put = self
            .store
            .put_opts(&self.path(OP, key)?, PutPayload::from(body), options)
            .await;
        match put {
            Ok(put) => Ok(Put::of(put.e_tag.map(ETag))),
            Err(error) => {
                let error = mapped(OP, key, error);
                self.already_written(key, size, attrs, error).await
            }
        }
    }

    async fn multipart(&self, key: &ObjectKey, attrs: &PosixAttrs) -> Result<UploadId> {
        const OP: &str = "begin upload of";
        let path = self.path(OP, key)?;
        let options = PutMultipartOptions {
            attributes: metadata(attrs),
            ..Default::default()
        };
        let begun = self.store.create_multipart_opts(&path, options).await;
        begun.map(UploadId).map_err(|e| mapped(OP, key, e))
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> Result<PartTag> {
        const OP: &str = "upload part of";
        let (path, index) = (self.path(OP, key)?, number as usize - 1);
        match self
            .store
            .put_part(&path, &upload.0, index, PutPayload::from(body))
            .await
        {
            Ok(part) => Ok(PartTag(part.content_id)),
            Err(error) => Err(upload_error(OP, key, error)),
        }
    }

    async fn complete(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[(u32, PartTag)],
        condition: &Condition,
    ) -> Result<Put> {
        const OP: &str = "complete upload of";
        if parts
            .iter()
            .zip(1..)
            .any(|((number, _), wanted)| *number != wanted)
        {
            return Err(Error::other(
                OP,
                key.as_str(),
                "on this store parts must be numbered without gaps",
            ));
        }
        self.check_condition(OP, key, condition).await?;
        let parts = parts
            .iter()
            .map(|(_, tag)| PartId {
                content_id: tag.0.clone(),
            })
            .collect();
        match self
            .store
            .complete_multipart(&self.path(OP, key)?, &upload.0, parts)
            .await
        {
            Ok(put) => Ok(Put::of(put.e_tag.map(ETag))),
            Err(error) => Err(upload_error(OP, key, error)),
        }
    }

    async fn abort(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        const OP: &str = "abort upload of";
        match self
            .store
            .abort_multipart(&self.path(OP, key)?, &upload.0)
            .await
        {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(mapped(OP, key, error)),
        }
    }

    async fn set_attributes(
        &self,
        key: &ObjectKey,
        etag: Option<&ETag>,
        attrs: &PosixAttrs,
    ) -> Result<Put> {
        const OP: &str = "set attributes of";
        if key.is_directory() {
            return Ok(Put::of(None));
        }
        let found = self.expect(OP, key, etag).await?;
        let (had, current) = (posix(&found.attributes), found.meta.e_tag.map(ETag));
        let wanted = attrs.or(had);
        if wanted == had {
            return Ok(Put::of(current));
        }
        if found.meta.size > REWRITE_BYTES_MAX {
            tracing::warn!(%key, bytes = found.meta.size, "the store keeps the old attributes of so large an object");
            return Ok(Put::of(current));
        }
        let body = match found.meta.size {
            0 => Bytes::new(),
            size => self.get(key, 0..size, current.as_ref()).await?,
        };
        let condition = current.map_or(Condition::None, Condition::Match);
        self.put(key, body, &wanted, &condition).await
    }

    async fn copy(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        attrs: &PosixAttrs,
        if_match: Option<&ETag>,
    ) -> Result<Put> {
        const OP: &str = "copy";
        self.expect(OP, from, if_match).await?;
        self.store
            .copy(&self.path(OP, from)?, &self.path(OP, to)?)
            .await
            .map_err(|e| mapped(OP, from, e))?;
        self.set_attributes(to, None, attrs).await
    }

    async fn delete(&self, key: &ObjectKey, if_match: Option<&ETag>) -> Result<()> {
        const OP: &str = "delete";
        if if_match.is_some() {
            match self.expect(OP, key, if_match).await {
                Ok(_) => {}
                Err(Error::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        match self.store.delete(&self.path(OP, key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(mapped(OP, key, error)),
        }
    }

    async fn make_dir(&self, _dir: &ObjectKey, _attrs: &PosixAttrs) -> Result<()> {
        Ok(())
    }

    async fn remove_dir(&self, _dir: &ObjectKey) -> Result<()> {
        Ok(())
    }
}

/// Where only an upload can be missing, that is what is missing.
fn upload_error(op: &'static str, key: &ObjectKey, error: object_store::Error) -> Error {
    match mapped(op, key, error) {
        Error::NotFound { op, key } => Error::NoSuchUpload { op, key },
        error => error,
    }
}
