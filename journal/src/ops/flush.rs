//! The store has an object: `flushed`, the one transaction by which dirty bytes become a cache.
//!
//! It races with everything that programs do meanwhile:
//!
//! - *written, truncated, chmodded, renamed*: one of the two epochs is newer than what was flushed,
//!   so the origin is recorded and the unsynced row stays ([`FlushOutcome::Newer`]).
//! - *unlinked*: nobody wants the object. If it replaced the object that the orphan is read from, the
//!   origin follows it and `reap` makes it garbage; if it has a new key, it is garbage at once.
//! - *reaped*: the object is garbage, unless another inode has claimed the key meanwhile.
//! - *the previous key was taken over by another inode*: it is that one's and is left alone.

use super::digests::digested;
use super::sent::forget;
use crate::attempts::transact;
use crate::records::{ClaimRow, GarbageRow};
use crate::txn::Txn;
use crate::types::{BlockDigests, FlushOutcome, Flushed, Ino, Kind, Origin, Timestamp};
use crate::{Error, Journal, keys};

impl Journal {
    /// Records that the store has `flushed.origin`, made from the epochs given. Its key is this
    /// inode's now, and not garbage; the key that it had before is garbage if it was another one.
    ///
    /// A renamed directory that still has a resync row is answered with `Newer` and keeps its origin,
    /// which says where its children are; the new marker counts as garbage until the next flush.
    pub async fn flushed(
        &self,
        ino: Ino,
        flushed: Flushed,
        now: Timestamp,
    ) -> Result<FlushOutcome, Error> {
        let origin = Origin {
            epoch: flushed.epoch,
            meta_epoch: flushed.meta_epoch,
            checked: now,
            ..flushed.origin
        };
        let (origin, blocks) = (&origin, flushed.blocks.as_ref());
        transact!(self, txn => async {
            if flushed.heard {
                forget(txn, &origin.key).await?;
            }
            record(txn, ino, origin, blocks).await
        })
    }
}

async fn record(
    txn: &mut Txn<'_>,
    ino: Ino,
    new: &Origin,
    blocks: Option<&BlockDigests>,
) -> Result<FlushOutcome, Error> {
    let Some(mut row) = txn.inode(ino).await? else {
        // Only its key still says what it was.
        discard(txn, ino, new, new.key.ends_with('/')).await?;
        return Ok(FlushOutcome::Clean);
    };
    let directory = row.inode.kind == Kind::Directory;
    let old = row.inode.content.origin.as_ref();
    let same_key = old.is_some_and(|old| old.key == new.key);
    let old_etag = old.and_then(|old| old.etag.clone());
    let sent_anew = old.is_none_or(|old| old.epoch != new.epoch);
    if row.inode.nlink == 0 && !same_key {
        discard(txn, ino, new, directory).await?;
        return Ok(FlushOutcome::Clean);
    }
    if directory && !same_key && txn.kv.get(&keys::resync(ino), false).await?.is_some() {
        // The marker is in the store: somebody must remember that. If it is where the directory lives
        // now, its next flush takes it out of the garbage again.
        discard(txn, ino, new, directory).await?;
        return Ok(FlushOutcome::Newer);
    }

    if let Some(old) = row.inode.content.origin.take()
        && !same_key
    {
        txn.release(ino, &old, directory).await?;
    }
    let is_late = new.epoch != row.inode.content.epoch || new.meta_epoch != row.inode.meta_epoch;
    match txn.claim(&new.key).await? {
        Some(owner) if owner == ino => {}
        // Another directory lives there by now, and a marker is as good for it: it keeps the claim, so
        // that the marker does not become garbage when this one moves on.
        Some(owner) if directory && is_late && txn.inode(owner).await?.is_some() => {}
        _ => txn.put(&keys::claim(&new.key), &ClaimRow { ino })?,
    }
    if txn.kv.get(&keys::garbage(&new.key), false).await?.is_some() {
        txn.clear(&keys::garbage(&new.key));
    }
    if row.inode.kind == Kind::File {
        digested(txn, ino, old_etag.as_deref(), new, blocks).await?;
    }
    row.inode.content.origin = Some(new.clone());
    // `valid` stays: holes of a sparse file stay zeros that nobody has to fetch. `evicted` raises it.
    // An object that was only moved has kept the attributes that nobody has read yet.
    row.inode.content.learned |= sent_anew;
    let has_newer = row.inode.is_content_dirty() || row.inode.is_meta_dirty();
    // Until its newest name is in the store, the key may be that of an earlier one.
    row.moved = directory && has_newer && (row.moved || !same_key);
    let outcome = if has_newer && row.inode.nlink > 0 {
        FlushOutcome::Newer
    } else {
        txn.clear_unsynced(&mut row);
        FlushOutcome::Clean
    };
    txn.put_inode(&row)?;
    Ok(outcome)
}

/// Nobody here wants the new object.
async fn discard(
    txn: &mut Txn<'_>,
    ino: Ino,
    object: &Origin,
    directory: bool,
) -> Result<(), Error> {
    match txn.claim(&object.key).await? {
        Some(owner) if owner != ino => Ok(()),
        claim => {
            if claim.is_some() {
                txn.clear(&keys::claim(&object.key));
            }
            let garbage = GarbageRow {
                etag: object.etag.clone(),
                directory,
            };
            txn.put(&keys::garbage(&object.key), &garbage)
        }
    }
}
