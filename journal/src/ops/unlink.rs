//! Names go: `unlink` and `rmdir`.
//!
//! The inode stays when its last name goes, because programs may have it open; an *orphan* row of this
//! node remembers it until `reap`. Its origin and its claim stay as well: the object can still be read,
//! and no listing of the store brings the name back.

use crate::attempts::transact;
use crate::records::{InodeRow, LinkRow, OrphanRow, corrupt, decode};
use crate::txn::{Order, Txn};
use crate::types::{Ino, Kind, Removed, Timestamp};
use crate::{Error, Journal, keys};

impl Journal {
    /// Removes a name of anything but a directory.
    pub async fn unlink(&self, parent: Ino, name: &[u8], now: Timestamp) -> Result<Removed, Error> {
        transact!(self, txn => remove(txn, parent, name, now, false))
    }

    /// Removes an empty directory. The root can't be named, so it can't be removed.
    pub async fn rmdir(&self, parent: Ino, name: &[u8], now: Timestamp) -> Result<Removed, Error> {
        transact!(self, txn => remove(txn, parent, name, now, true))
    }
}

async fn remove(
    txn: &mut Txn<'_>,
    parent: Ino,
    name: &[u8],
    now: Timestamp,
    directory: bool,
) -> Result<Removed, Error> {
    let mut above = txn.need_dir(parent).await?;
    let entry = txn
        .dirent(parent, name)
        .await?
        .ok_or_else(|| Error::no_entry(parent, name))?;
    match (entry.kind == Kind::Directory, directory) {
        (true, false) => return Err(Error::IsDirectory { ino: entry.ino }),
        (false, true) => return Err(Error::NotDirectory { ino: entry.ino }),
        (true, true) => {
            need_empty(txn, entry.ino).await?;
            above.inode.nlink = above.inode.nlink.saturating_sub(1);
        }
        (false, false) => {}
    }
    let row = txn.behind(entry).await?;
    let removed = drop_name(txn, row, parent, name, None, now).await?;
    above.inode.mtime = now;
    above.inode.ctime = now;
    txn.put_inode(&above)?;
    Ok(removed)
}

/// Fails if the directory has entries.
pub(super) async fn need_empty(txn: &mut Txn<'_>, dir: Ino) -> Result<(), Error> {
    if txn.has_any(&keys::dirent(dir, b"")).await? {
        return Err(Error::NotEmpty { ino: dir });
    }
    Ok(())
}

/// Takes one name from an inode. The parent's times and links are the caller's to change. `spare_for`:
/// what takes the name, if it may need this inode back.
pub(super) async fn drop_name(
    txn: &mut Txn<'_>,
    mut row: InodeRow,
    parent: Ino,
    name: &[u8],
    spare_for: Option<Ino>,
    now: Timestamp,
) -> Result<Removed, Error> {
    let ino = row.inode.ino;
    let was_primary = txn.is_primary(&row.inode, parent, name).await?;
    txn.clear_name(parent, name, ino);
    row.inode.ctime = now;
    row.inode.nlink = match row.inode.kind {
        Kind::Directory => 0,
        _ => row.inode.nlink.saturating_sub(1),
    };
    let last = row.inode.nlink == 0;
    if last {
        let place = spare_for.map(|_| (parent, name.to_vec()));
        make_orphan(txn, &mut row, OrphanRow { spare_for, place })?;
    } else if was_primary {
        promote_link(txn, &mut row, now).await?;
    }
    txn.put_inode(&row)?;
    Ok(Removed {
        inode: row.inode,
        last,
    })
}

/// The inode has no name any more.
pub(super) fn make_orphan(
    txn: &mut Txn<'_>,
    row: &mut InodeRow,
    orphan: OrphanRow,
) -> Result<(), Error> {
    let (ino, node) = (row.inode.ino, txn.node());
    txn.clear_unsynced(row);
    row.orphan_on = Some(node);
    txn.put(&keys::orphan(node, ino), &orphan)?;
    if row.inode.kind == Kind::Directory {
        txn.clear(&keys::listing(ino));
        txn.clear(&keys::resync(ino));
    }
    Ok(())
}

/// The name that gave the object its key is gone: another takes its place, so the key changes.
async fn promote_link(txn: &mut Txn<'_>, row: &mut InodeRow, now: Timestamp) -> Result<(), Error> {
    let prefix = keys::links(row.inode.ino);
    let rows = txn.rows(&prefix, None, 1).await?;
    let Some((key, value)) = rows.first() else {
        return Err(corrupt(&prefix, "an inode with links has no name".into()));
    };
    decode::<LinkRow>(key, value)?;
    let (parent, _) =
        keys::parse_link(key).ok_or_else(|| corrupt(key, "a short key of a link".into()))?;
    txn.put(key, &LinkRow { primary: true })?;
    row.inode.parent = parent;
    if row.inode.kind.is_synced() {
        row.inode.meta_epoch += 1;
        txn.mark_unsynced(row, Order::Last, now).await?;
    }
    Ok(())
}
