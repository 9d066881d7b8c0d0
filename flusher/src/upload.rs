//! Sending the bytes of one file.
//!
//! Small files go in one put: read, check that nothing changed while reading, put. Large ones go in parts.
//! The upload's id and every part that the store acknowledged are rows of the journal, so a restart sends
//! only what is missing; rows of another epoch, key or size are aborted. Parts are read, sent and recorded
//! several at a time, each within the memory budget; a file that changes meanwhile is noticed before the
//! next part. Only the completing request makes anything visible, and it is preceded by the last check.
//!
//! The parts of an *open* file (fsync to the store) are never taken over: bytes may have changed without a
//! new epoch. Its upload is recorded only so that it can be aborted after a crash.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use journal::{BlockDigests, FlushOutcome, Flushed, Inode, Origin, Timestamp, Upload};
use parking_lot::Mutex;
use remote::{ETag, ObjectKey, PartTag, UploadId};

use crate::core::Core;
use crate::error::Error;
use crate::expect::{Guarded, Writing, durable, guarded};
use crate::identity::attributes;
use crate::lost::record_again;
use crate::parts::{OBJECT_BYTES_MAX, PARTS_MAX, part_bytes, part_count, part_range};
use crate::snapshot::Snapshot;

/// How an upload ended.
pub(crate) enum Sent {
    /// The object is there and recorded.
    Recorded(FlushOutcome),
    /// All parts are there; completing must wait for its turn.
    Parked,
    /// The file changed while it was read.
    Changed,
    /// Somebody else's object is at the key.
    Conflict,
}

/// Whether a file of this size goes in parts.
pub(crate) fn is_multipart(core: &Core, size: u64) -> bool {
    core.config.rooms.capabilities.multipart && size > core.config.single_put_bytes_max
}

/// Uploads the inode's bytes to `key`; makes them visible only if `publish`.
pub(crate) async fn upload(
    core: &Core,
    inode: Inode,
    key: &ObjectKey,
    publish: bool,
) -> Result<Sent, Error> {
    let snapshot = Snapshot::take(core, inode).await?;
    if snapshot.size > OBJECT_BYTES_MAX {
        return Err(Error::TooLarge {
            key: key.0.clone(),
            bytes: snapshot.size,
            bytes_max: OBJECT_BYTES_MAX,
        });
    }
    let ino = snapshot.inode.ino;
    core.stats.upload_began(ino, key.as_str(), snapshot.size, 0);
    let result = if is_multipart(core, snapshot.size) {
        upload_parts(core, &snapshot, key, publish).await
    } else {
        upload_whole(core, &snapshot, key).await
    };
    core.stats.upload_ended(ino);
    match result {
        Err(Error::BaseLost { .. }) if record_again(core, ino).await? => Ok(Sent::Changed),
        result => result,
    }
}

async fn upload_whole(core: &Core, snapshot: &Snapshot, key: &ObjectKey) -> Result<Sent, Error> {
    let _memory = core.memory.small(snapshot.size).await;
    let bytes = snapshot.read(core, 0..snapshot.size).await?;
    if !snapshot.still_true(core).await? {
        return Ok(Sent::Changed);
    }
    let inode = &snapshot.inode;
    let attrs = attributes(inode, core.config.node, inode.content.epoch, key);
    let writing = writing(snapshot, key);
    let blocks = snapshot.digests(core, 0, &bytes).await;
    let put = |condition| {
        let bytes = bytes.clone();
        async move { core.remote().put(key, bytes, &attrs, &condition).await }
    };
    match guarded(core, &writing, put).await? {
        Guarded::Foreign => Ok(Sent::Conflict),
        Guarded::Stored(stored) => {
            core.stats.upload_sent(inode.ino, snapshot.size);
            let meta_epoch = stored.meta_epoch.unwrap_or(inode.meta_epoch);
            record(core, snapshot, key, stored.etag, meta_epoch, blocks)
                .await
                .map(Sent::Recorded)
        }
    }
}

async fn upload_parts(
    core: &Core,
    snapshot: &Snapshot,
    key: &ObjectKey,
    publish: bool,
) -> Result<Sent, Error> {
    let ino = snapshot.inode.ino;
    let (upload, resumed) = begin(core, snapshot, key).await?;
    let id = UploadId(upload.upload_id.clone());
    let tags = match send_parts(core, snapshot, key, &id, &upload).await {
        Ok(Some(tags)) => tags,
        Ok(None) => {
            // Of a closed file only a new epoch makes the parts useless, and then `begin` drops them.
            if snapshot.is_open() {
                abandon(core, ino, key, &id).await?;
            }
            return Ok(Sent::Changed);
        }
        Err(Error::Store(lost @ remote::Error::NoSuchUpload { .. })) => {
            // It may be only a part that the store does not know: then the rest is still there.
            abandon(core, ino, key, &id).await?;
            return Err(lost.into());
        }
        Err(error) => return Err(error),
    };
    if !publish {
        return Ok(Sent::Parked);
    }
    if !snapshot.still_true(core).await? {
        return Ok(Sent::Changed);
    }
    let tags: Vec<(u32, PartTag)> = tags.into_iter().collect();
    let complete = |condition| {
        let (id, tags) = (&id, &tags);
        async move { core.remote().complete(key, id, tags, &condition).await }
    };
    let stored = match guarded(core, &writing(snapshot, key), complete).await {
        Ok(Guarded::Stored(stored)) => stored,
        Ok(Guarded::Foreign) => {
            abandon(core, ino, key, &id).await?;
            return Ok(Sent::Conflict);
        }
        Err(Error::Store(lost @ remote::Error::NoSuchUpload { .. })) => {
            // It may be only a part that the store does not know: then the rest is still there.
            abandon(core, ino, key, &id).await?;
            return Err(lost.into());
        }
        Err(error) => return Err(error),
    };
    // The attributes went with the first request, perhaps before a restart and a chmod: if so (or if
    // nobody knows), they are recorded as old ones, and the next step rewrites them.
    let meta_epoch = match (stored.meta_epoch, resumed) {
        (Some(meta_epoch), _) => meta_epoch,
        (None, false) => snapshot.inode.meta_epoch,
        (None, true) => snapshot.inode.meta_epoch.wrapping_sub(1),
    };
    // Those of the parts have been recorded with them.
    let blocks = BlockDigests::default();
    let outcome = record(core, snapshot, key, stored.etag, meta_epoch, blocks).await?;
    // If an earlier upload has put it there, the parts of this one are still in the store.
    match stored.earlier {
        true => abandon(core, ino, key, &id).await?,
        false => core.journal().upload_cleared(ino, &id.0).await?,
    }
    Ok(Sent::Recorded(outcome))
}

/// Continues the recorded upload if it is of this version, or begins a new one. Also says which it was.
async fn begin(core: &Core, snapshot: &Snapshot, key: &ObjectKey) -> Result<(Upload, bool), Error> {
    let inode = &snapshot.inode;
    let capabilities = &core.config.rooms.capabilities;
    let minimum = core.config.part_bytes_min.max(capabilities.part_bytes_min);
    // Stores with fewer parts than usual get larger ones.
    let parts_max = u64::from(capabilities.parts_max).clamp(1, PARTS_MAX);
    let part = part_bytes(
        snapshot.size,
        minimum.max(snapshot.size.div_ceil(parts_max)),
    );
    if let Some(known) = core.journal().upload(inode.ino).await? {
        let fits = !snapshot.is_open()
            && known.epoch == inode.content.epoch
            && known.key == key.as_str()
            && known.part_bytes == part
            && !known.parts.is_empty();
        if fits {
            tracing::info!(%key, parts = known.parts.len(), "continuing an upload");
            return Ok((known, true));
        }
        let old = ObjectKey::from(known.key.as_str());
        abandon(core, inode.ino, &old, &UploadId(known.upload_id)).await?;
    }
    let attrs = attributes(inode, core.config.node, inode.content.epoch, key);
    let journal = core.journal();
    // Durable before the store is asked, and the name before it gets any part: what a crash takes is found
    // again, and has no part (see `strays`).
    journal.upload_asked(key.as_str(), Timestamp::now()).await?;
    durable(core).await?;
    let id = core.changing(core.remote().multipart(key, &attrs)).await?;
    journal
        .upload_started(inode.ino, inode.content.epoch, key.as_str(), &id.0, part)
        .await?;
    durable(core).await?;
    let upload = Upload {
        epoch: inode.content.epoch,
        key: key.0.clone(),
        upload_id: id.0,
        part_bytes: part,
        parts: Vec::new(),
    };
    Ok((upload, false))
}

/// Sends what is missing; `None` if the file changed meanwhile.
async fn send_parts(
    core: &Core,
    snapshot: &Snapshot,
    key: &ObjectKey,
    id: &UploadId,
    upload: &Upload,
) -> Result<Option<BTreeMap<u32, PartTag>>, Error> {
    let ino = snapshot.inode.ino;
    let (size, part) = (snapshot.size, upload.part_bytes);
    let known: BTreeMap<u32, PartTag> = upload
        .parts
        .iter()
        .map(|(number, tag)| (*number, PartTag(tag.clone())))
        .collect();
    let sent: u64 = known
        .keys()
        .map(|number| part_range(*number, size, part))
        .map(|range| range.end - range.start)
        .sum();
    core.stats.upload_began(ino, key.as_str(), size, sent);
    let missing: Vec<u32> = (1..=part_count(size, part))
        .filter(|number| !known.contains_key(number))
        .collect();
    let tags = Arc::new(Mutex::new(known));
    let sending = stream::iter(missing).map(|number| {
        let tags = Arc::clone(&tags);
        async move {
            let range = part_range(number, size, part);
            let (start, bytes) = (range.start, range.end - range.start);
            let memory = core.memory.large(bytes).await;
            let body = snapshot.read(core, range).await?;
            if !snapshot.still_true(core).await? {
                return Ok(false);
            }
            let blocks = snapshot.digests(core, start, &body).await;
            let tag = core
                .changing(core.remote().put_part(key, id, number, body))
                .await?;
            drop(memory);
            if !snapshot.is_open() {
                core.journal()
                    .upload_part(ino, number, &tag.0, &blocks)
                    .await?;
            }
            core.stats.upload_sent(ino, bytes);
            tags.lock().insert(number, tag);
            Ok::<bool, Error>(true)
        }
    });
    let unchanged = sending
        .buffer_unordered(core.config.parts_parallel.max(1))
        .try_take_while(|unchanged| futures::future::ready(Ok(*unchanged)))
        .try_fold(0u32, |count, _| async move { Ok(count + 1) })
        .await?;
    let tags = std::mem::take(&mut *tags.lock());
    tracing::debug!(%key, parts = unchanged, "sent the missing parts");
    Ok((tags.len() as u64 == u64::from(part_count(size, part))).then_some(tags))
}

/// Gives an upload up: at the store, then in the journal.
pub(crate) async fn abandon(
    core: &Core,
    ino: journal::Ino,
    key: &ObjectKey,
    id: &UploadId,
) -> Result<(), Error> {
    tracing::debug!(%key, "aborting an upload that is of no use any more");
    match core.remote().abort(key, id).await {
        Ok(()) | Err(remote::Error::NoSuchUpload { .. } | remote::Error::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    core.journal().upload_cleared(ino, &id.0).await?;
    Ok(())
}

fn writing<'a>(snapshot: &'a Snapshot, key: &'a ObjectKey) -> Writing<'a> {
    Writing {
        inode: &snapshot.inode,
        epoch: snapshot.inode.content.epoch,
        size: snapshot.size,
        key,
    }
}

/// Tells the journal what the store has now.
async fn record(
    core: &Core,
    snapshot: &Snapshot,
    key: &ObjectKey,
    etag: Option<ETag>,
    meta_epoch: u64,
    blocks: BlockDigests,
) -> Result<FlushOutcome, Error> {
    let inode = &snapshot.inode;
    let now = Timestamp::now();
    let origin = Origin {
        key: key.0.clone(),
        etag: etag.map(|etag| etag.0),
        size: snapshot.size,
        epoch: inode.content.epoch,
        meta_epoch,
        checked: now,
    };
    let flushed = Flushed {
        epoch: inode.content.epoch,
        meta_epoch,
        origin,
        blocks: (!snapshot.is_open()).then_some(blocks),
        heard: core.has_heard_all(key.as_str()),
    };
    Ok(core.journal().flushed(inode.ino, flushed, now).await?)
}
