//! Attributes change: chmod, chown, truncate, utimensat.

use super::acl;
use crate::attempts::transact;
use crate::records::InodeRow;
use crate::txn::{Order, Txn};
use crate::types::{Ino, Inode, Kind, Seal, SetAttr, Timestamp};
use crate::{Error, Journal};

impl Journal {
    /// Changes what is given. A new size is a new epoch of the bytes and a new place in the order of
    /// becoming visible; a new mode, owner or mtime is a new epoch of the attributes; atime alone is
    /// neither. An access control list follows the mode.
    pub async fn set_attr(&self, ino: Ino, set: SetAttr, now: Timestamp) -> Result<Inode, Error> {
        transact!(self, txn => set_attr(txn, ino, set, now))
    }
}

async fn set_attr(
    txn: &mut Txn<'_>,
    ino: Ino,
    set: SetAttr,
    now: Timestamp,
) -> Result<Inode, Error> {
    let mut row = txn.need(ino).await?;
    let before = row.inode.clone();
    let inode = &mut row.inode;
    let mut resized = false;
    if let Some(size) = set.size {
        match inode.kind {
            Kind::File => {}
            Kind::Directory => return Err(Error::IsDirectory { ino }),
            kind => {
                return Err(Error::WrongKind {
                    ino,
                    kind,
                    operation: "set its size",
                });
            }
        }
        if size != inode.size {
            resized = true;
            inode.size = size;
            inode.content.epoch = inode.content.epoch.next();
            inode.content.valid = inode.content.valid.min(size);
            if inode.content.seal != Some(Seal::Synced) {
                inode.content.seal = None;
            }
        }
        // POSIX: also when the size stays.
        inode.mtime = now;
    }
    inode.mode = set.mode.map_or(inode.mode, |mode| mode & 0o7777);
    inode.uid = set.uid.unwrap_or(inode.uid);
    inode.gid = set.gid.unwrap_or(inode.gid);
    inode.atime = set.atime.unwrap_or(inode.atime);
    inode.mtime = set.mtime.unwrap_or(inode.mtime);
    inode.ctime = set.ctime.unwrap_or(now);
    if set.mode.is_some() {
        acl::follow_mode(txn, inode).await?;
    }

    let travels = |inode: &Inode| (inode.mode, inode.uid, inode.gid, inode.mtime);
    let retouched = inode.kind.is_synced() && travels(inode) != travels(&before);
    if retouched || resized {
        inode.meta_epoch += 1;
        let order = if resized { Order::Last } else { Order::Keep };
        txn.mark_unsynced(&mut row, order, now).await?;
    }
    if row.inode != before {
        txn.put_inode(&row)?;
    }
    Ok(row.inode)
}

/// Changes the mode alone, as a change that travels. The caller writes the inode afterwards.
pub(super) async fn change_mode(
    txn: &mut Txn<'_>,
    row: &mut InodeRow,
    mode: u32,
    now: Timestamp,
) -> Result<(), Error> {
    if row.inode.mode == mode {
        return Ok(());
    }
    row.inode.mode = mode;
    if row.inode.kind.is_synced() {
        row.inode.meta_epoch += 1;
        txn.mark_unsynced(row, Order::Keep, now).await?;
    }
    Ok(())
}
