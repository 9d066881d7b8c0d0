//! New names: `create` makes an inode with its first name, `link` gives it another.

use super::acl;
use crate::attempts::transact;
use crate::records::{CHUNK_BYTES, ChunkRow, InodeRow};
use crate::txn::{Order, Txn, check_name};
use crate::types::{Content, Epoch, Ino, Inode, Kind, Listing, NewInode, Timestamp};
use crate::{Error, Journal, keys};

/// S_ISGID, of inode(7).
const SET_GROUP_ID: u32 = 0o2000;

/// PATH_MAX less its NUL.
const TARGET_BYTES_MAX: usize = 4095;

impl Journal {
    /// Creates an inode of any kind and its name. A file starts at epoch 1 and is unsynced, as is a
    /// directory; what the store can't hold is not. A default access control list of the directory is
    /// inherited, and takes the place of the umask. With [`NewInode::writer`] the file is open for
    /// writing at once, as after `begin_write`.
    pub async fn create(
        &self,
        parent: Ino,
        name: &[u8],
        new: NewInode,
        now: Timestamp,
    ) -> Result<Inode, Error> {
        check_name(name)?;
        let target = new.target.as_deref().unwrap_or_default();
        if target.len() > TARGET_BYTES_MAX {
            return Err(Error::NameTooLong {
                bytes: target.len(),
                bytes_max: TARGET_BYTES_MAX,
            });
        }
        let new = &new;
        transact!(self, txn => create(txn, parent, name, new, now))
    }

    /// Gives an inode another name. Its object keeps the key of the first one.
    pub async fn link(
        &self,
        ino: Ino,
        parent: Ino,
        name: &[u8],
        now: Timestamp,
    ) -> Result<Inode, Error> {
        check_name(name)?;
        transact!(self, txn => link(txn, ino, parent, name, now))
    }
}

/// Fails if the name is taken.
async fn need_free(txn: &mut Txn<'_>, parent: Ino, name: &[u8]) -> Result<(), Error> {
    match txn.dirent(parent, name).await? {
        Some(entry) => Err(exists(parent, name, entry.ino, entry.kind)),
        None => Ok(()),
    }
}

/// The error that says so.
pub(super) fn exists(parent: Ino, name: &[u8], ino: Ino, kind: Kind) -> Error {
    Error::Exists {
        parent,
        name: String::from_utf8_lossy(name).into_owned(),
        ino,
        kind,
    }
}

async fn create(
    txn: &mut Txn<'_>,
    parent: Ino,
    name: &[u8],
    new: &NewInode,
    now: Timestamp,
) -> Result<Inode, Error> {
    let mut above = txn.need_dir(parent).await?;
    need_free(txn, parent, name).await?;

    let ino = txn.take_ino()?;
    let target = new.target.as_deref().unwrap_or_default();
    let is_dir = new.kind == Kind::Directory;
    // A set-group-id directory gives its group to what is made in it (inode(7)).
    let inherits = above.inode.mode & SET_GROUP_ID != 0;
    let inherited_mode = if inherits && is_dir { SET_GROUP_ID } else { 0 };
    let mut row = InodeRow {
        inode: Inode {
            ino,
            kind: new.kind,
            mode: new.mode & 0o7777 | inherited_mode,
            uid: new.uid,
            gid: if inherits { above.inode.gid } else { new.gid },
            nlink: if is_dir { 2 } else { 1 },
            rdev: new.rdev,
            size: target.len() as u64,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            parent,
            meta_epoch: u64::from(new.kind.is_synced()),
            content: Content {
                epoch: Epoch(u64::from(new.kind.is_synced())),
                ..Content::default()
            },
        },
        unsynced_on: None,
        orphan_on: None,
        moved: false,
    };
    acl::inherit(txn, parent, &mut row.inode, new.umask).await?;
    if new.kind == Kind::File {
        txn.set_writer(&mut row, new.writer)?;
    }
    for (chunk, bytes) in (0u8..).zip(target.chunks(CHUNK_BYTES)) {
        let bytes = bytes.to_vec();
        txn.put(&keys::target(ino, chunk), &ChunkRow { bytes })?;
    }
    txn.mark_unsynced(&mut row, Order::Last, now).await?;
    txn.put_inode(&row)?;
    txn.put_name(parent, name, &row.inode, true)?;
    txn.count_inodes(1);
    if is_dir {
        // Nothing of it can be in the store.
        let listing = Listing {
            at: now,
            complete: true,
        };
        txn.put(&keys::listing(ino), &listing)?;
        above.inode.nlink = more_links(&above.inode)?;
    }
    above.inode.mtime = now;
    above.inode.ctime = now;
    txn.put_inode(&above)?;
    Ok(row.inode)
}

/// One link more.
pub(super) fn more_links(inode: &Inode) -> Result<u32, Error> {
    inode
        .nlink
        .checked_add(1)
        .ok_or(Error::TooManyLinks { ino: inode.ino })
}

async fn link(
    txn: &mut Txn<'_>,
    ino: Ino,
    parent: Ino,
    name: &[u8],
    now: Timestamp,
) -> Result<Inode, Error> {
    let mut row = txn.need(ino).await?;
    if row.inode.kind == Kind::Directory {
        return Err(Error::LinkToDirectory { ino });
    }
    if row.inode.nlink == 0 {
        return Err(Error::no_inode(ino));
    }
    let mut above = txn.need_dir(parent).await?;
    need_free(txn, parent, name).await?;
    row.inode.nlink = more_links(&row.inode)?;
    row.inode.ctime = now;
    txn.put_inode(&row)?;
    txn.put_name(parent, name, &row.inode, false)?;
    above.inode.mtime = now;
    above.inode.ctime = now;
    txn.put_inode(&above)?;
    Ok(row.inode)
}
