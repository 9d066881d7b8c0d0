//! Moving an object to its new key, and rewriting its attributes, without sending its bytes again.
//!
//! A renamed file is copied by the server, looked at, and recorded; recording makes the old key garbage.
//! Readers of the mount use the old key until then, readers of the bucket see the old key, then both, then
//! the new one. The version copied is the *origin's*, which may be older than what is cached here (a file
//! that is still written to, but whose key another file needs).

use journal::{FlushOutcome, Flushed, Inode, Origin, Replacement, Timestamp};
use remote::{ETag, ObjectKey, PosixAttrs};

use crate::core::Core;
use crate::error::Error;
use crate::expect::{Writing, announce, durable, is_foreign, verify};
use crate::identity::{attributes, is_in_place, own_mark};
use crate::snapshot::Snapshot;

/// How it ended.
pub(crate) enum Moved {
    /// Recorded.
    Recorded(FlushOutcome),
    /// Somebody else's object is at the new key.
    Conflict,
    /// Somebody else changed the object; the journal knows that now.
    Refreshed,
    /// It can't be copied from there: it must be sent from here.
    UploadInstead,
}

/// Copies the inode's origin to `to`.
pub(crate) async fn copy(
    core: &Core,
    inode: &Inode,
    origin: &Origin,
    to: &ObjectKey,
) -> Result<Moved, Error> {
    let from = ObjectKey::from(origin.key.as_str());
    let writing = Writing {
        inode,
        epoch: origin.epoch,
        size: origin.size,
        key: to,
    };
    let what = writing.replacement();
    announce(core, &writing, what).await?;
    if is_foreign(core, &writing).await? {
        return Ok(Moved::Conflict);
    }
    durable(core).await?;
    let attrs = travelling(core, inode, origin, to);
    let etag = origin.etag.clone().map(ETag);
    let request = core.remote().copy(&from, to, &attrs, etag.as_ref());
    let stored = match core.asking(to, what, request).await {
        Ok(stored) => stored,
        Err(error) => return source_changed(core, inode, origin, true, error).await,
    };
    let etag = verify(core, &writing, stored).await?.etag;
    let (key, meta_epoch) = (to.0.clone(), inode.meta_epoch);
    tracing::debug!(%from, %to, "moved an object");
    record(core, inode, origin, key, etag, meta_epoch)
        .await
        .map(Moved::Recorded)
}

/// Rewrites mode, owner and times on the object.
pub(crate) async fn rewrite(core: &Core, inode: &Inode, origin: &Origin) -> Result<Moved, Error> {
    let key = ObjectKey::from(origin.key.as_str());
    let attrs = attributes(inode, core.config.node, origin.epoch, &key);
    let etag = origin.etag.clone().map(ETag);
    let writing = Writing {
        inode,
        epoch: origin.epoch,
        size: origin.size,
        key: &key,
    };
    let what = writing.replacement();
    announce(core, &writing, what).await?;
    durable(core).await?;
    let request = core.remote().set_attributes(&key, etag.as_ref(), &attrs);
    let stored = match core.asking(&key, what, request).await {
        Ok(stored) => stored,
        Err(error) => return source_changed(core, inode, origin, false, error).await,
    };
    let etag = verify(core, &writing, stored).await?.etag;
    let (key, meta_epoch) = (key.0, inode.meta_epoch);
    record(core, inode, origin, key, etag, meta_epoch)
        .await
        .map(Moved::Recorded)
}

/// The store can't carry attributes: they stay in the journal, and nothing is left to do.
pub(crate) async fn forgo(core: &Core, inode: &Inode, origin: &Origin) -> Result<Moved, Error> {
    let etag = origin.etag.clone().map(ETag);
    let (key, meta_epoch) = (origin.key.clone(), inode.meta_epoch);
    record(core, inode, origin, key, etag, meta_epoch)
        .await
        .map(Moved::Recorded)
}

/// What travels with a copy. Of an object that was only listed, its own attributes are not known here:
/// left open, they are taken from the source.
fn travelling(core: &Core, inode: &Inode, origin: &Origin, to: &ObjectKey) -> PosixAttrs {
    let attrs = attributes(inode, core.config.node, origin.epoch, to);
    match inode.content.learned {
        false => PosixAttrs {
            version: attrs.version,
            ..PosixAttrs::default()
        },
        true => attrs,
    }
}

/// The object we know is not there any more in that version.
async fn source_changed(
    core: &Core,
    inode: &Inode,
    origin: &Origin,
    moved: bool,
    error: remote::Error,
) -> Result<Moved, Error> {
    let from = ObjectKey::from(origin.key.as_str());
    let changed = matches!(
        error,
        remote::Error::Changed { .. }
            | remote::Error::PreconditionFailed { .. }
            | remote::Error::NotFound { .. }
    );
    if !changed {
        return Err(error.into());
    }
    let asked = Timestamp::now();
    let there = core.remote().head(&from).await?;
    let mark = there
        .as_ref()
        .and_then(|meta| own_mark(&meta.posix, core.config.node));
    if let (Some(meta), Some(mark)) = (&there, mark) {
        let ours =
            mark.ino == inode.ino.0 && mark.epoch == origin.epoch.0 && meta.size == origin.size;
        if ours {
            // Our own rewrite of the attributes, whose answer was lost.
            let etag = meta.etag.clone();
            return record(core, inode, origin, from.0, etag, mark.meta_epoch)
                .await
                .map(Moved::Recorded);
        }
    }
    let snapshot = Snapshot::take(core, inode.clone()).await?;
    if inode.content.writer.is_none() && snapshot.missing(0..snapshot.size).is_empty() {
        return Ok(Moved::UploadInstead);
    }
    let Some(meta) = there else {
        return Err(Error::BaseLost { key: from.0 });
    };
    if inode.is_content_dirty() || inode.content.writer.is_some() {
        return Err(Error::BaseLost { key: from.0 });
    }
    // A clean file that isn't cached: the store's newer version is the file now, as at any revalidation. It
    // is theirs: where they put it, it stays. Unless it is this file's own, of which a power cut took the record.
    let is_own = mark.is_some_and(|mark| mark.ino == inode.ino.0 && is_in_place(&mark, &from));
    tracing::info!(key = %from, "the object was changed in the store; taking its new version");
    let new = Replacement {
        etag: meta.etag.map(|etag| etag.0),
        size: meta.size,
        mtime: match meta.posix.mtime_ns {
            Some(ns) => Timestamp::from_nanos(ns),
            None => meta.modified.into(),
        },
    };
    core.journal()
        .superseded(inode.ino, &new, moved && !is_own, asked)
        .await?;
    Ok(Moved::Refreshed)
}

async fn record(
    core: &Core,
    inode: &Inode,
    origin: &Origin,
    key: String,
    etag: Option<ETag>,
    meta_epoch: u64,
) -> Result<FlushOutcome, Error> {
    let now = Timestamp::now();
    let origin = Origin {
        key,
        etag: etag.map(|etag| etag.0),
        size: origin.size,
        epoch: origin.epoch,
        meta_epoch,
        checked: now,
    };
    let flushed = Flushed {
        epoch: origin.epoch,
        meta_epoch,
        heard: core.has_heard_all(&origin.key),
        origin,
        blocks: None,
    };
    Ok(core.journal().flushed(inode.ino, flushed, now).await?)
}
