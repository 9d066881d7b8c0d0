//! The version that a truncating open put an end to.
//!
//! A program that writes the next version over a complete one, as torch.save does, must find one of the two after a
//! power cut. Where the store does not have the first yet, only its extent file does. So `begin_write` leaves a row
//! that says which generation that is, and the extent file stays until the next version is safe, too.
//!
//! There is at most one such version of a file. One that was fsynced takes the place of any before it. One that was
//! only closed may be torn as well, for all that anybody knows: it is kept if there is none before it.

use crate::attempts::{look, transact};
use crate::records::{FormerRow, InodeRow, corrupt, decode};
use crate::txn::{Order, Txn};
use crate::types::{Former, Ino, Inode, NodeId, Seal, Timestamp};
use crate::{Error, Journal, keys};

fn former(ino: Ino, row: FormerRow) -> Former {
    Former {
        ino,
        generation: row.generation,
        size: row.size,
        valid: row.valid,
        since: row.since,
        seal: row.seal,
    }
}

impl Journal {
    /// The version of a file that this node keeps until the one after it is safe.
    pub async fn former(&self, node: NodeId, ino: Ino) -> Result<Option<Former>, Error> {
        let key = keys::former(node, ino);
        look!(self, txn => async {
            Ok(txn.load(&key).await?.map(|row| former(ino, row)))
        })
    }

    /// All such versions, in the order of inode numbers, after `after`.
    pub async fn formers(
        &self,
        node: NodeId,
        after: Option<Ino>,
        limit: usize,
    ) -> Result<Vec<Former>, Error> {
        let prefix = keys::of_node(b'B', node);
        let after = after.map(|ino| keys::former(node, ino));
        look!(self, txn => async {
            let rows = txn.rows(&prefix, after.as_deref(), limit).await?;
            rows.iter()
                .map(|(key, value)| {
                    let ino = keys::parse_of_node(key)
                        .ok_or_else(|| corrupt(key, "a short key".into()))?;
                    Ok(former(ino, decode(key, value)?))
                })
                .collect()
        })
    }

    /// This version is not needed any more: its extent file can go once that is durable.
    pub async fn former_done(&self, node: NodeId, gone: &Former) -> Result<(), Error> {
        let key = keys::former(node, gone.ino);
        let generation = gone.generation;
        transact!(self, txn => async {
            let row: Option<FormerRow> = txn.load(&key).await?;
            if row.is_some_and(|row| row.generation == generation) {
                txn.clear(&key);
            }
            Ok(())
        })
    }

    /// The newest version was lost: the file is the one before again, with `size` bytes, and an extent file as its seal
    /// says. `None`, and nothing is done, if none is kept or the object is a later one.
    pub async fn go_back(
        &self,
        node: NodeId,
        ino: Ino,
        size: u64,
        now: Timestamp,
    ) -> Result<Option<Inode>, Error> {
        transact!(self, txn => go_back(txn, node, ino, size, now))
    }
}

async fn go_back(
    txn: &mut Txn<'_>,
    node: NodeId,
    ino: Ino,
    size: u64,
    now: Timestamp,
) -> Result<Option<Inode>, Error> {
    let key = keys::former(node, ino);
    let Some(former) = txn.load::<FormerRow>(&key).await? else {
        return Ok(None);
    };
    let mut row = txn.need(ino).await?;
    let origin = row.inode.content.origin.as_ref();
    if origin.is_some_and(|origin| origin.epoch > former.epoch) {
        return Ok(None);
    }
    txn.clear(&key);
    txn.set_writer(&mut row, None)?;
    let inode = &mut row.inode;
    inode.size = size;
    inode.mtime = former.mtime;
    inode.ctime = now;
    inode.meta_epoch += 1;
    inode.content.generation = former.generation;
    inode.content.epoch = inode.content.epoch.next();
    // The object that the rest of it comes from is still the file's.
    inode.content.valid = former.valid.min(size);
    inode.content.seal = Some(match former.seal {
        Seal::Closed { size, map_digest } => Seal::Survived { size, map_digest },
        // What was appended since may be gone.
        Seal::Synced | Seal::Touched | Seal::Survived { .. } => Seal::Synced,
        Seal::Lost => Seal::Lost,
    });
    txn.mark_unsynced(&mut row, Order::Keep, now).await?;
    txn.put_inode(&row)?;
    Ok(Some(row.inode))
}

/// A truncating open is about to end this version: keeps it if it is complete and nobody else has it.
pub(super) async fn keep(
    txn: &mut Txn<'_>,
    row: &InodeRow,
    node: NodeId,
    now: Timestamp,
) -> Result<(), Error> {
    let inode = &row.inode;
    let key = keys::former(node, inode.ino);
    let has_earlier = txn.kv.get(&key, false).await?.is_some();
    let is_complete = |seal: &Seal| match seal {
        Seal::Synced | Seal::Touched | Seal::Survived { .. } => true,
        Seal::Lost => false,
        Seal::Closed { size, .. } => *size > 0 && inode.content.writer.is_none() && !has_earlier,
    };
    if inode.is_content_dirty()
        && let Some(seal) = inode.content.seal.filter(is_complete)
    {
        let generation = inode.content.generation;
        return txn.put(&key, &of(inode, generation, seal, now));
    }
    if !inode.is_content_dirty() && has_earlier {
        // The store has a later one.
        txn.clear(&key);
    }
    Ok(())
}

/// The same for a version whose extent file stays with the file: `copy` is the generation of one that is like it, and
/// on the disk.
pub(super) async fn keep_copy(
    txn: &mut Txn<'_>,
    row: &InodeRow,
    node: NodeId,
    copy: Option<u64>,
    now: Timestamp,
) -> Result<(), Error> {
    let inode = &row.inode;
    let key = keys::former(node, inode.ino);
    if !inode.is_content_dirty() {
        // The store has it, and nothing earlier is of use.
        if txn.kv.get(&key, false).await?.is_some() {
            txn.clear(&key);
        }
        return Ok(());
    }
    match copy {
        Some(generation) => txn.put(&key, &of(inode, generation, Seal::Synced, now)),
        None => Ok(()),
    }
}

fn of(inode: &Inode, generation: u64, seal: Seal, now: Timestamp) -> FormerRow {
    FormerRow {
        generation,
        epoch: inode.content.epoch,
        size: inode.size,
        valid: inode.content.valid,
        mtime: inode.mtime,
        since: now,
        seal,
    }
}
