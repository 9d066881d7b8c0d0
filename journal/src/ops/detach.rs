//! Parting an inode from its object, which stays in the store for somebody else, or goes.

use crate::attempts::transact;
use crate::txn::Order;
use crate::types::{Ino, Seal, Timestamp};
use crate::{Error, Journal, keys};

/// What becomes of the object.
#[derive(Clone, Copy)]
enum Left {
    ToOthers,
    AsGarbage,
}

impl Journal {
    /// The inode has no object any more: its bytes, which are all in its extent file and durable, are dirty, and
    /// its key is free for another inode or belongs to a stranger; it does not become garbage. Breaks
    /// cycles of exchanged names, and ends a conflict. False: its bytes are not those of this generation any
    /// more, but the object's, perhaps; then nothing happens.
    pub async fn detach(&self, ino: Ino, generation: u64, now: Timestamp) -> Result<bool, Error> {
        self.part(ino, generation, Left::ToOthers, now).await
    }

    /// As [`Journal::detach`], but the object becomes garbage: it is in the way of something that can't
    /// overwrite it.
    pub async fn withdraw(&self, ino: Ino, generation: u64, now: Timestamp) -> Result<bool, Error> {
        self.part(ino, generation, Left::AsGarbage, now).await
    }

    async fn part(
        &self,
        ino: Ino,
        generation: u64,
        left: Left,
        now: Timestamp,
    ) -> Result<bool, Error> {
        transact!(self, txn => async {
            let mut row = txn.need(ino).await?;
            if row.inode.content.generation != generation {
                return Ok(false);
            }
            let Some(origin) = row.inode.content.origin.take() else {
                return Ok(true);
            };
            match left {
                Left::AsGarbage => txn.release(ino, &origin, false).await?,
                Left::ToOthers => {
                    if txn.claim(&origin.key).await? == Some(ino) {
                        txn.clear(&keys::claim(&origin.key));
                    }
                }
            }
            let is_nameless = row.inode.nlink == 0;
            let content = &mut row.inode.content;
            content.valid = 0;
            // Nothing else has them after a power cut, and what was fetched has changed the map of an earlier close. But
            // half of a version must not take the place of a file that is lost.
            let is_half = is_nameless
                && content.writer.is_some()
                && !content.seal.is_some_and(Seal::is_fsynced);
            content.seal = (!is_half).then_some(Seal::Synced);
            if origin.epoch == content.epoch {
                content.epoch = content.epoch.next();
            }
            row.moved = false;
            if row.inode.nlink > 0 {
                txn.mark_unsynced(&mut row, Order::Keep, now).await?;
            }
            txn.put_inode(&row)?;
            Ok(true)
        })
    }
}
