//! Names move.
//!
//! A rename changes a handful of rows however much hangs below a directory: children hang on their
//! parent's number. What is in the store under the old name is made to follow later: the moved inode
//! becomes unsynced with a new `meta_epoch` (so that a flush to the old key which is under way does not
//! count as the last word), and a directory gets a *resync* row, from which the same happens to
//! everything below it, in chunks.

use super::create::{exists, more_links};
use super::unlink::{drop_name, need_empty};
use crate::attempts::transact;
use crate::records::{InodeRow, ResyncRow, corrupt};
use crate::txn::{Order, Txn, check_name};
use crate::types::{Ino, Inode, Kind, RenameMode, Renamed, Seal, Timestamp};
use crate::{Error, Journal, keys};

/// Deeper than any path that a program can say.
pub(super) const DEPTH_MAX: usize = 100_000;

/// A name in a directory.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) parent: Ino,
    pub(super) name: &'a [u8],
}

impl Journal {
    /// Moves a name, by the rules of rename(2). Two names of the same inode: nothing happens.
    pub async fn rename(
        &self,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        mode: RenameMode,
        now: Timestamp,
    ) -> Result<Renamed, Error> {
        check_name(new_name)?;
        let from = Place { parent, name };
        let to = Place {
            parent: new_parent,
            name: new_name,
        };
        transact!(self, txn => rename(txn, from, to, mode, now))
    }
}

async fn rename(
    txn: &mut Txn<'_>,
    from: Place<'_>,
    to: Place<'_>,
    mode: RenameMode,
    now: Timestamp,
) -> Result<Renamed, Error> {
    let mut from_dir = txn.need_dir(from.parent).await?;
    let to_dir = txn.need_dir(to.parent).await?;
    let source = txn
        .dirent(from.parent, from.name)
        .await?
        .ok_or_else(|| Error::no_entry(from.parent, from.name))?;
    let target = txn.dirent(to.parent, to.name).await?;
    match (&target, mode) {
        (Some(target), RenameMode::NoReplace) => {
            return Err(exists(to.parent, to.name, target.ino, target.kind));
        }
        (None, RenameMode::Exchange) => return Err(Error::no_entry(to.parent, to.name)),
        _ => {}
    }
    let moved = txn.behind(source).await?;
    if target.is_some_and(|target| target.ino == source.ino) {
        return Ok(Renamed {
            moved: moved.inode,
            replaced: None,
            exchanged: None,
        });
    }
    if source.kind == Kind::Directory {
        need_outside(txn, source.ino, from.parent, to.parent).await?;
    }

    // Links that the two parents gain, the source's first.
    let mut gained = [0i64; 2];
    if source.kind == Kind::Directory {
        gained = [-1, 1];
    }
    let mut replaced = None;
    let mut exchanged = None;
    if let Some(target) = target {
        let target_is_dir = target.kind == Kind::Directory;
        if mode == RenameMode::Exchange {
            if target_is_dir {
                need_outside(txn, target.ino, to.parent, from.parent).await?;
                gained = [gained[0] + 1, gained[1] - 1];
            }
            exchanged = Some(txn.behind(target).await?);
        } else {
            match (source.kind == Kind::Directory, target_is_dir) {
                (true, false) => return Err(Error::NotDirectory { ino: target.ino }),
                (false, true) => return Err(Error::IsDirectory { ino: target.ino }),
                (true, true) => {
                    need_empty(txn, target.ino).await?;
                    gained[1] -= 1;
                }
                (false, false) => {}
            }
            let row = txn.behind(target).await?;
            let spare_for = needs_spare(&moved.inode).then_some(source.ino);
            replaced = Some(drop_name(txn, row, to.parent, to.name, spare_for, now).await?);
        }
    }

    // Both directions of both names go before any comes, so that an exchange can't undo itself.
    let moved_primary = txn.is_primary(&moved.inode, from.parent, from.name).await?;
    let exchanged_primary = match &exchanged {
        Some(row) => txn.is_primary(&row.inode, to.parent, to.name).await?,
        None => false,
    };
    txn.clear_name(from.parent, from.name, source.ino);
    if let Some(row) = &exchanged {
        txn.clear_name(to.parent, to.name, row.inode.ino);
    }
    let moved = settle_at(txn, moved, to, moved_primary, now).await?;
    let exchanged = match exchanged {
        Some(row) => Some(
            settle_at(txn, row, from, exchanged_primary, now)
                .await?
                .inode,
        ),
        None => None,
    };

    if from.parent == to.parent {
        touch(&mut from_dir, gained[0] + gained[1], now)?;
        txn.put_inode(&from_dir)?;
    } else {
        let mut to_dir = to_dir;
        touch(&mut from_dir, gained[0], now)?;
        touch(&mut to_dir, gained[1], now)?;
        txn.put_inode(&from_dir)?;
        txn.put_inode(&to_dir)?;
    }
    Ok(Renamed {
        moved: moved.inode,
        replaced,
        exchanged,
    })
}

/// Whether a power cut could leave less of an inode than its name promises: then what it replaces must
/// stay until that is no longer so.
fn needs_spare(inode: &Inode) -> bool {
    let content = &inode.content;
    let has_bytes = inode.size > 0 || content.writer.is_some();
    inode.kind == Kind::File
        && has_bytes
        && inode.is_content_dirty()
        && !content.seal.is_some_and(Seal::is_safe)
}

/// The entries of a directory changed.
fn touch(dir: &mut InodeRow, gained: i64, now: Timestamp) -> Result<(), Error> {
    if gained > 0 {
        dir.inode.nlink = more_links(&dir.inode)?;
    } else if gained < 0 {
        dir.inode.nlink = dir.inode.nlink.saturating_sub(1);
    }
    dir.inode.mtime = now;
    dir.inode.ctime = now;
    Ok(())
}

/// Fails if `to` is the directory `dir` or below it. `dir` is in `from` now.
async fn need_outside(txn: &mut Txn<'_>, dir: Ino, from: Ino, to: Ino) -> Result<(), Error> {
    if from == to {
        // It is in there, so that can't be in it.
        return Ok(());
    }
    let mut at = to;
    for _ in 0..DEPTH_MAX {
        if at == dir {
            return Err(Error::IntoItself { ino: dir });
        }
        if at == Ino::ROOT {
            return Ok(());
        }
        at = txn.need(at).await?.inode.parent;
    }
    Err(corrupt(
        &keys::inode(to),
        "directories that contain each other".into(),
    ))
}

/// Gives an inode that lost a name its new one.
pub(super) async fn settle_at(
    txn: &mut Txn<'_>,
    mut row: InodeRow,
    at: Place<'_>,
    primary: bool,
    now: Timestamp,
) -> Result<InodeRow, Error> {
    row.inode.ctime = now;
    if primary {
        row.inode.parent = at.parent;
        if row.inode.kind.is_synced() {
            row.inode.meta_epoch += 1;
            txn.mark_unsynced(&mut row, Order::Last, now).await?;
        }
    }
    if row.inode.kind == Kind::Directory {
        let ino = row.inode.ino;
        // Below a directory that came from the store there may be more than was ever listed.
        row.moved = row.inode.content.origin.is_some();
        let may_have_keys = row.moved || txn.has_any(&keys::dirent(ino, b"")).await?;
        if may_have_keys {
            txn.put(&keys::resync(ino), &ResyncRow { cursor: None })?;
        }
    }
    txn.put_inode(&row)?;
    txn.put_name(at.parent, at.name, &row.inode, primary)?;
    Ok(row)
}
