//! Where a file's bytes are: all here, all in the store, or back in the store.

use crate::attempts::transact;
use crate::types::{Epoch, Ino, Inode, Kind, Seal, Timestamp};
use crate::{Error, Journal};

impl Journal {
    /// The local bytes of a clean file are given up: from now on every byte is the object's, in a new
    /// generation, so that the old extent file can be removed whenever this is durable, whoever opens
    /// the file meanwhile. False: it is not clean at this epoch, is being written, or another generation has the
    /// bytes; then nothing happens.
    pub async fn evicted(&self, ino: Ino, epoch: Epoch, generation: u64) -> Result<bool, Error> {
        transact!(self, txn => async {
            let mut row = txn.need(ino).await?;
            let clean = row.inode.content.writer.is_none()
                && is_clean(&row.inode, epoch, generation);
            let inode = &mut row.inode;
            if clean {
                inode.content.valid = inode.size;
                inode.content.generation += 1;
                inode.content.seal = None;
                txn.put_inode(&row)?;
            }
            Ok(clean)
        })
    }

    /// As [`Journal::evicted`], of a file that stays open and so keeps its extent file, of this `generation`, which
    /// may be punched once this is durable.
    pub async fn evicted_open(
        &self,
        ino: Ino,
        epoch: Epoch,
        generation: u64,
    ) -> Result<bool, Error> {
        transact!(self, txn => async {
            let mut row = txn.need(ino).await?;
            let clean = is_clean(&row.inode, epoch, generation);
            if clean {
                row.inode.content.valid = row.inode.size;
                row.inode.content.seal = None;
                txn.put_inode(&row)?;
            }
            Ok(clean)
        })
    }

    /// Every byte of the file is in its extent file and safe there: holes are zeros from now on.
    /// False: another generation holds the bytes; then nothing happens.
    pub async fn localized(&self, ino: Ino, generation: u64) -> Result<bool, Error> {
        transact!(self, txn => async {
            let mut row = txn.need(ino).await?;
            if row.inode.content.generation != generation {
                return Ok(false);
            }
            if row.inode.content.valid != 0 {
                row.inode.content.valid = 0;
                txn.put_inode(&row)?;
            }
            Ok(true)
        })
    }

    /// The newest version of a file was lost: it goes back to the version that its object holds, or
    /// to an empty file if there is none (to nothing at all if it has no name: [`Seal::Lost`]). Either way in a new generation, and with no writer. The object
    /// counts as never looked at: a newer version may be there whose record was lost as well.
    pub async fn revert(&self, ino: Ino, now: Timestamp) -> Result<Inode, Error> {
        transact!(self, txn => async {
            let mut row = txn.need(ino).await?;
            txn.set_writer(&mut row, None)?;
            let inode = &mut row.inode;
            inode.ctime = now;
            inode.content.generation += 1;
            inode.content.seal = None;
            match &mut inode.content.origin {
                Some(origin) => {
                    inode.size = origin.size;
                    inode.content.valid = origin.size;
                    // The epoch never goes back: the object holds what is now the newest version.
                    inode.content.epoch = inode.content.epoch.next();
                    origin.epoch = inode.content.epoch;
                    origin.checked = Timestamp::default();
                }
                None => {
                    inode.content.seal = (inode.nlink == 0).then_some(Seal::Lost);
                    inode.size = 0;
                    inode.content.valid = 0;
                    inode.content.epoch = inode.content.epoch.next();
                }
            }
            txn.put_inode(&row)?;
            Ok(row.inode)
        })
    }
}

/// Whether the object holds every byte of the file at this epoch. An object that others replaced is another generation
/// of the same epoch.
fn is_clean(inode: &Inode, epoch: Epoch, generation: u64) -> bool {
    let content = &inode.content;
    let origin = content.origin.as_ref();
    inode.kind == Kind::File
        && !inode.is_content_dirty()
        && content.epoch == epoch
        && content.generation == generation
        && origin.is_some_and(|origin| origin.size == inode.size)
}
