//! The life of a writer: `begin_write` at open, `end_write` at fsync and close.
//!
//! Between the two the journal doesn't see what is written; the extent file knows. The index of
//! writers tells recovery which files were open when the daemon died.

use super::former;
use crate::attempts::transact;
use crate::records::InodeRow;
use crate::txn::{Order, Txn};
use crate::types::{EndWrite, Epoch, Ino, Inode, Kind, NodeId, Seal, Timestamp};
use crate::{Error, Journal, keys};

impl Journal {
    /// A file is opened for writing. `truncate` begins a new, empty generation of its bytes; of the old one see
    /// [`Journal::former`].
    pub async fn begin_write(
        &self,
        ino: Ino,
        node: NodeId,
        truncate: bool,
        now: Timestamp,
    ) -> Result<Inode, Error> {
        transact!(self, txn => begin_write(txn, ino, node, truncate, now))
    }

    /// A truncating open of a file that is open already: nothing is left of `before`, in the same extent file. If `copy`
    /// is the generation of an extent file with that very version, durably, it is kept as [`Journal::former`].
    pub async fn begin_again(
        &self,
        before: &Inode,
        node: NodeId,
        copy: Option<u64>,
        now: Timestamp,
    ) -> Result<Inode, Error> {
        transact!(self, txn => begin_again(txn, before, node, copy, now))
    }

    /// A writer reports what it did; with `close` it is the last one.
    pub async fn end_write(
        &self,
        ino: Ino,
        node: NodeId,
        end: EndWrite,
        now: Timestamp,
    ) -> Result<Inode, Error> {
        transact!(self, txn => end_write(txn, ino, node, end, now))
    }

    /// How this version is judged after a power cut, unless that is known, or there is a later one.
    pub async fn seal(&self, ino: Ino, epoch: Epoch, seal: Seal) -> Result<(), Error> {
        transact!(self, txn => async {
            let mut row = need_file(txn, ino, "seal it").await?;
            let content = &mut row.inode.content;
            if content.epoch == epoch && content.seal.is_none() {
                content.seal = Some(seal);
                txn.put_inode(&row)?;
            }
            Ok(())
        })
    }

    /// The files that this node has, or had when it died, open for writing.
    pub async fn writers(&self, node: NodeId) -> Result<Vec<Ino>, Error> {
        self.all_of_node(keys::of_node(b'W', node)).await
    }
}

async fn need_file(
    txn: &mut Txn<'_>,
    ino: Ino,
    operation: &'static str,
) -> Result<InodeRow, Error> {
    let row = txn.need(ino).await?;
    match row.inode.kind {
        Kind::File => Ok(row),
        Kind::Directory => Err(Error::IsDirectory { ino }),
        kind => Err(Error::WrongKind {
            ino,
            kind,
            operation,
        }),
    }
}

async fn begin_write(
    txn: &mut Txn<'_>,
    ino: Ino,
    node: NodeId,
    truncate: bool,
    now: Timestamp,
) -> Result<Inode, Error> {
    let mut row = need_file(txn, ino, "write it").await?;
    match row.inode.content.writer {
        Some(other) if other != node => {
            return Err(Error::WrittenElsewhere { ino, node: other });
        }
        Some(_) if !truncate => return Ok(row.inode),
        _ => {}
    }
    if truncate {
        former::keep(txn, &row, node, now).await?;
    }
    txn.set_writer(&mut row, Some(node))?;
    if truncate {
        row.inode.content.generation += 1;
        empty(&mut row.inode, now);
        txn.mark_unsynced(&mut row, Order::Last, now).await?;
    }
    txn.put_inode(&row)?;
    Ok(row.inode)
}

async fn begin_again(
    txn: &mut Txn<'_>,
    before: &Inode,
    node: NodeId,
    copy: Option<u64>,
    now: Timestamp,
) -> Result<Inode, Error> {
    let mut row = need_file(txn, before.ino, "write it").await?;
    let is_same = row.inode.content.epoch == before.content.epoch;
    former::keep_copy(txn, &row, node, copy.filter(|_| is_same), now).await?;
    empty(&mut row.inode, now);
    txn.mark_unsynced(&mut row, Order::Last, now).await?;
    txn.put_inode(&row)?;
    Ok(row.inode)
}

/// A new version, with nothing in it yet.
fn empty(inode: &mut Inode, now: Timestamp) {
    inode.size = 0;
    inode.mtime = now;
    inode.ctime = now;
    inode.meta_epoch += 1;
    inode.content.epoch = inode.content.epoch.next();
    inode.content.valid = 0;
    inode.content.seal = None;
}

async fn end_write(
    txn: &mut Txn<'_>,
    ino: Ino,
    node: NodeId,
    end: EndWrite,
    now: Timestamp,
) -> Result<Inode, Error> {
    let mut row = need_file(txn, ino, "write it").await?;
    if end.changed {
        let inode = &mut row.inode;
        inode.size = end.size;
        inode.mtime = end.mtime;
        // The write is reported late; what changed the inode since then, such as a chmod, is not undone.
        inode.ctime = inode.ctime.max(now);
        inode.meta_epoch += 1;
        inode.content.epoch = inode.content.epoch.next();
        inode.content.valid = inode.content.valid.min(end.size);
        inode.content.seal = match inode.content.seal.is_some_and(Seal::is_fsynced) {
            true => Some(Seal::Touched),
            false => end.seal,
        };
        txn.mark_unsynced(&mut row, Order::Last, now).await?;
    }
    if end.seal.is_some_and(Seal::is_safe) && row.inode.content.seal != end.seal {
        row.inode.content.seal = end.seal;
        txn.put_inode(&row)?;
    }
    let closes = end.close && row.inode.content.writer == Some(node);
    if closes {
        txn.set_writer(&mut row, None)?;
    }
    if end.changed || closes {
        txn.put_inode(&row)?;
    }
    Ok(row.inode)
}
