//! Keys follow a renamed directory, in chunks.
//!
//! `rename` leaves a row for the directory. The flusher calls `resync_step` until it is done: each step
//! takes some entries in the order of names, makes what may have a key under the old name unsynced, and
//! gives child directories rows of their own *before* the parent's row goes. So at any moment
//! everything below whose key may be old is unsynced, or it or a directory above it has a row.
//!
//! A directory that came from the store may have entries that were never listed. The caller completes
//! its listing, under the key of its origin, before it calls the first step. What is imported there
//! later, until the directory's own key has followed, becomes unsynced as it comes (`moved`).

use crate::attempts::{look, transact};
use crate::records::{DirentRow, ResyncRow, corrupt, decode};
use crate::txn::{Order, Txn};
use crate::types::{Ino, Kind, Resync, Timestamp};
use crate::{Error, Journal, keys};

/// Entries in one transaction; each writes two rows of about 300 bytes, and a transaction stays
/// under 100 kB.
const STEP_MAX: usize = 128;

impl Journal {
    /// The directories that wait, after `after`, in the order of numbers.
    pub async fn resync(&self, after: Option<Ino>, limit: usize) -> Result<Vec<Resync>, Error> {
        let prefix = b"R";
        let after = after.map(keys::resync);
        look!(self, txn => async {
            let rows = txn.rows(prefix, after.as_deref(), limit).await?;
            rows.iter()
                .map(|(key, value)| {
                    let dir = keys::parse_ino(key);
                    let dir = dir.ok_or_else(|| corrupt(key, "a short key".into()))?;
                    let row: ResyncRow = decode(key, value)?;
                    Ok(Resync { dir, cursor: row.cursor })
                })
                .collect()
        })
    }

    /// Handles at most `limit` entries. True: the directory is done (or needs nothing).
    pub async fn resync_step(&self, dir: Ino, limit: usize, now: Timestamp) -> Result<bool, Error> {
        let limit = limit.clamp(1, STEP_MAX);
        transact!(self, txn => step(txn, dir, limit, now))
    }
}

async fn step(txn: &mut Txn<'_>, dir: Ino, limit: usize, now: Timestamp) -> Result<bool, Error> {
    let Some(row) = txn.load::<ResyncRow>(&keys::resync(dir)).await? else {
        return Ok(true);
    };
    let after = row.cursor.map(|name| keys::dirent(dir, &name));
    let entries = txn
        .rows(&keys::dirent(dir, b""), after.as_deref(), limit)
        .await?;
    for (key, value) in &entries {
        let entry: DirentRow = decode(key, value)?;
        follow(txn, entry, now).await?;
    }
    match entries.last() {
        Some((key, _)) if entries.len() == limit => {
            let cursor = Some(key[keys::DIRENT_NAME..].to_vec());
            txn.put(&keys::resync(dir), &ResyncRow { cursor })?;
            Ok(false)
        }
        _ => {
            txn.clear(&keys::resync(dir));
            Ok(true)
        }
    }
}

/// One entry of a directory whose path has changed.
async fn follow(txn: &mut Txn<'_>, entry: DirentRow, now: Timestamp) -> Result<(), Error> {
    if !entry.kind.is_synced() {
        return Ok(());
    }
    let mut row = txn.behind(entry).await?;
    // Without an origin it may be on its way to the old key right now.
    if row.inode.content.origin.is_some() || row.unsynced_on.is_some() {
        row.inode.meta_epoch += 1;
        row.moved = entry.kind == Kind::Directory && row.inode.content.origin.is_some();
        txn.mark_unsynced(&mut row, Order::Keep, now).await?;
        txn.put_inode(&row)?;
    }
    if entry.kind == Kind::Directory {
        txn.put(&keys::resync(entry.ino), &ResyncRow { cursor: None })?;
    }
    Ok(())
}

/// Whether a directory's entries may have keys of another path than its own.
pub(super) async fn is_pending(txn: &mut Txn<'_>, dir: Ino) -> Result<bool, Error> {
    let mut at = dir;
    loop {
        if txn.kv.get(&keys::resync(at), false).await?.is_some() {
            return Ok(true);
        }
        if at == Ino::ROOT {
            return Ok(false);
        }
        at = txn.need(at).await?.inode.parent;
    }
}
