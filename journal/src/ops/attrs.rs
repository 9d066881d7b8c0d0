//! Attributes change: chmod, chown, truncate, utimensat.

use super::acl;
use crate::attempts::transact;
use crate::txn::{Order, Txn};
use crate::types::{Content, Ino, Inode, Kind, Seal, SetAttr, Timestamp};
use crate::{Error, Journal};

impl Journal {
    /// Changes what is given. A new size is a new epoch of the bytes and a new place in the order of
    /// becoming visible; a new mode, owner or mtime is a new epoch of the attributes; atime alone is
    /// neither. An access control list follows the mode.
    pub async fn set_attr(&self, ino: Ino, set: SetAttr, now: Timestamp) -> Result<Inode, Error> {
        transact!(self, txn => set_attr(txn, ino, set, now))
    }

    /// Takes back a change of size from `before` to `resized` that the extent file did not follow. False if that
    /// can't be: the bytes have changed since, or the shorter version is in the store already and what was cut off
    /// came from the object before it.
    pub async fn undo_resize(
        &self,
        before: &Inode,
        resized: &Inode,
        now: Timestamp,
    ) -> Result<bool, Error> {
        transact!(self, txn => undo_resize(txn, before, resized, now))
    }
}

async fn undo_resize(
    txn: &mut Txn<'_>,
    before: &Inode,
    resized: &Inode,
    now: Timestamp,
) -> Result<bool, Error> {
    let mut row = txn.need(before.ino).await?;
    let inode = &mut row.inode;
    let content = &mut inode.content;
    let bytes = |content: &Content| (content.generation, content.epoch);
    let object = |content: &Content| content.origin.as_ref().map(|origin| origin.epoch);
    if bytes(content) != bytes(&resized.content) || object(content) != object(&before.content) {
        return Ok(false);
    }
    content.valid = before.content.valid;
    content.seal = before.content.seal;
    // Not the old one again: somebody may be uploading what was never to be.
    content.epoch = content.epoch.next();
    inode.size = before.size;
    inode.mtime = before.mtime;
    inode.ctime = now;
    inode.meta_epoch += 1;
    txn.mark_unsynced(&mut row, Order::Last, now).await?;
    txn.put_inode(&row)?;
    Ok(true)
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
            let was_fsynced = inode.content.seal.is_some_and(Seal::is_fsynced);
            inode.content.seal = was_fsynced.then_some(Seal::Touched);
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
