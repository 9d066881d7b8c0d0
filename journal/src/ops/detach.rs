//! Parting an inode from its object, which stays in the store for somebody else.

use crate::attempts::transact;
use crate::txn::Order;
use crate::types::{Ino, Inode, Timestamp};
use crate::{Error, Journal, keys};

impl Journal {
    /// The inode has no object any more: its bytes, which are all in its extent file, are dirty, and
    /// its key is free for another inode or belongs to a stranger; it does not become garbage. Breaks
    /// cycles of exchanged names, and ends a conflict.
    pub async fn detach(&self, ino: Ino, now: Timestamp) -> Result<Inode, Error> {
        transact!(self, txn => async {
            let mut row = txn.need(ino).await?;
            let Some(origin) = row.inode.content.origin.take() else {
                return Ok(row.inode);
            };
            if txn.claim(&origin.key).await? == Some(ino) {
                txn.clear(&keys::claim(&origin.key));
            }
            let content = &mut row.inode.content;
            content.valid = 0;
            if origin.epoch == content.epoch {
                content.epoch = content.epoch.next();
            }
            row.moved = false;
            if row.inode.nlink > 0 {
                txn.mark_unsynced(&mut row, Order::Keep, now).await?;
            }
            txn.put_inode(&row)?;
            Ok(row.inode)
        })
    }
}
