//! What the store doesn't have yet.

use crate::attempts::{look, transact};
use crate::records::{UnsyncedRow, corrupt, decode};
use crate::txn::Order;
use crate::types::{Ino, Timestamp, Unsynced};
use crate::{Error, Journal, keys};

fn unsynced(ino: Ino, row: UnsyncedRow) -> Unsynced {
    Unsynced {
        ino,
        seq: row.seq,
        stamp: row.stamp,
        since: row.since,
    }
}

impl Journal {
    /// The unsynced inodes of this node after `after`, in the order of numbers.
    pub async fn unsynced(&self, after: Option<Ino>, limit: usize) -> Result<Vec<Unsynced>, Error> {
        let node = self.shared.node;
        let prefix = keys::of_node(b'U', node);
        let after = after.map(|ino| keys::unsynced(node, ino));
        look!(self, txn => async {
            let rows = txn.rows(&prefix, after.as_deref(), limit).await?;
            rows.iter()
                .map(|(key, value)| {
                    let ino = keys::parse_of_node(key)
                        .ok_or_else(|| corrupt(key, "a short key".into()))?;
                    Ok(unsynced(ino, decode(key, value)?))
                })
                .collect()
        })
    }

    /// Whatever this node had closed before the call has a sequence number of at most this; 0 if that is not known.
    pub fn closed_so_far(&self) -> u64 {
        self.shared.seqs.so_far().unwrap_or(0)
    }

    /// The unsynced row of one inode on this node.
    pub async fn unsynced_row(&self, ino: Ino) -> Result<Option<Unsynced>, Error> {
        let key = keys::unsynced(self.shared.node, ino);
        look!(self, txn => async {
            Ok(txn.load(&key).await?.map(|row| unsynced(ino, row)))
        })
    }

    /// Removes an unsynced row because the store is as wanted, unless anything has changed since the
    /// row was read. False: something has, or the row is gone.
    pub async fn settle(&self, row: &Unsynced) -> Result<bool, Error> {
        let key = keys::unsynced(self.shared.node, row.ino);
        transact!(self, txn => async {
            let now: Option<UnsyncedRow> = txn.load(&key).await?;
            if now.is_none_or(|now| now.stamp != row.stamp) {
                return Ok(false);
            }
            let mut inode = txn.need(row.ino).await?;
            txn.clear_unsynced(&mut inode);
            inode.moved = false;
            txn.put_inode(&inode)?;
            Ok(true)
        })
    }

    /// Makes the flusher look at an inode again. Does nothing for what the store can't hold and for
    /// what has no name.
    pub async fn mark_unsynced(&self, ino: Ino, now: Timestamp) -> Result<(), Error> {
        transact!(self, txn => async {
            let mut row = txn.need(ino).await?;
            txn.mark_unsynced(&mut row, Order::Keep, now).await?;
            if txn.is_changed() {
                txn.put_inode(&row)?;
            }
            Ok(())
        })
    }

    /// The same for what was found at the key of an earlier path, if that is still where its object is.
    pub async fn mark_left_at(&self, ino: Ino, key: &str, now: Timestamp) -> Result<(), Error> {
        transact!(self, txn => async {
            let mut row = txn.need(ino).await?;
            let origin = row.inode.content.origin.as_ref();
            if origin.is_none_or(|origin| origin.key != key) {
                return Ok(());
            }
            txn.mark_unsynced(&mut row, Order::Keep, now).await?;
            if txn.is_changed() {
                txn.put_inode(&row)?;
            }
            Ok(())
        })
    }

    /// The inodes of an index by node, all of them.
    pub(super) async fn all_of_node(&self, prefix: Vec<u8>) -> Result<Vec<Ino>, Error> {
        let mut all = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = look!(self, txn => txn.rows(&prefix, after.as_deref(), 1000))?;
            let Some((last, _)) = page.last() else {
                return Ok(all);
            };
            after = Some(last.clone());
            for (key, _) in &page {
                let ino = keys::parse_of_node(key);
                all.push(ino.ok_or_else(|| corrupt(key, "a short key".into()))?);
            }
        }
    }
}
