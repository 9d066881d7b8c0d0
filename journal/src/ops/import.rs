//! What is in the store becomes visible: entries of a listing.
//!
//! The journal is right about everything that happened here, the store about the rest. So an entry of
//! a listing never changes what is dirty or open for writing, and it is skipped if its key was deleted
//! here (garbage, or deleted from the store after the listing was asked for) or belongs to an inode
//! that lives under another name now (its claim). A directory of which a listing shows nothing but such
//! keys is skipped too: it is gone here, and its remains are being deleted or moved.
//!
//! A store may list a directory for a while after the last object in it went (SeaweedFS does, for a minute and
//! more). So a new directory is worth a look below it ([`Journal::import_doubtful`]).

use super::acl;
use super::forget::{drop_cached, is_forgettable};
use crate::attempts::transact;
use crate::records::{ClaimRow, InodeRow, ResyncRow};
use crate::txn::{Order, Txn, check_name};
use crate::types::{Content, Epoch, Found, Ino, Inode, Kind, Origin, Timestamp};
use crate::{Error, Journal, keys};

/// Entries in one transaction; each writes four rows, about 700 bytes with a long key.
const CHUNK: usize = 64;

/// A listing, as the entries of one page see it.
#[derive(Clone, Copy)]
struct Listed {
    dir: Ino,
    at: Timestamp,
    /// New directories are not believed.
    doubtful: bool,
}

/// What a page changed, and the new directories that were not believed.
#[derive(Clone, Default)]
struct Imported {
    changed: Vec<Inode>,
    doubted: Vec<Found>,
}

impl Journal {
    /// Takes over entries of a directory that the store has. `listed_at` is when the store was asked.
    ///
    /// A new name becomes a clean inode at epoch 0. A clean file whose object has changed gets a new
    /// generation. Answers the inodes that are new or changed. The directory's times stay.
    pub async fn import(
        &self,
        dir: Ino,
        found: &[Found],
        listed_at: Timestamp,
    ) -> Result<Vec<Inode>, Error> {
        let listed = Listed {
            dir,
            at: listed_at,
            doubtful: false,
        };
        Ok(self.take_over(listed, found).await?.changed)
    }

    /// As [`Journal::import`], but directories that are new here are left out, and answered: to be imported,
    /// as of the same time, if there is something below them.
    pub async fn import_doubtful(
        &self,
        dir: Ino,
        found: &[Found],
        listed_at: Timestamp,
    ) -> Result<Vec<Found>, Error> {
        let listed = Listed {
            dir,
            at: listed_at,
            doubtful: true,
        };
        Ok(self.take_over(listed, found).await?.doubted)
    }

    async fn take_over(&self, listed: Listed, found: &[Found]) -> Result<Imported, Error> {
        let mut all = Imported::default();
        for chunk in found.chunks(CHUNK) {
            let imported: Result<Imported, Error> =
                transact!(self, txn => import(txn, self, listed, chunk));
            let imported = imported?;
            all.changed.extend(imported.changed);
            all.doubted.extend(imported.doubted);
        }
        Ok(all)
    }
}

async fn import(
    txn: &mut Txn<'_>,
    journal: &Journal,
    listed: Listed,
    found: &[Found],
) -> Result<Imported, Error> {
    let Listed { dir, at, doubtful } = listed;
    let mut above = txn.need_dir(dir).await?;
    let mut imported = Imported::default();
    let mut new_dirs = 0;
    for found in found {
        if !found.kind.is_synced() || check_name(&found.name).is_err() {
            continue;
        }
        let is_dir = found.kind == Kind::Directory;
        // The name that a directory takes over.
        let mut cached = None;
        if let Some(entry) = txn.dirent(dir, &found.name).await? {
            if entry.kind != Kind::File {
                continue;
            }
            let row = txn.behind(entry).await?;
            if !is_dir {
                imported.changed.extend(compare(txn, row, found, at).await?);
                continue;
            }
            // The bucket holds both `a` and `a/b`: the directory wins.
            if !is_forgettable(txn, &row).await? {
                continue;
            }
            cached = Some(row);
        }
        if is_gone_here(txn, journal, found, at).await? {
            continue;
        }
        if is_dir && doubtful {
            imported.doubted.push(found.clone());
            continue;
        }
        if let Some(row) = cached {
            drop_cached(txn, &row, dir, &found.name).await?;
        }
        imported.changed.push(add(txn, &above, found, at).await?);
        new_dirs += u32::from(is_dir);
    }
    if new_dirs > 0 {
        above.inode.nlink = above.inode.nlink.saturating_add(new_dirs);
        txn.put_inode(&above)?;
    }
    Ok(imported)
}

/// Whether what was listed then is on its way out of the store, or has left it since.
async fn is_gone_here(
    txn: &mut Txn<'_>,
    journal: &Journal,
    found: &Found,
    listed_at: Timestamp,
) -> Result<bool, Error> {
    let has_left = journal.shared.recent.lock().is_since(&found.key, listed_at);
    Ok(has_left
        || is_taken(txn, &found.key).await?
        || (found.kind == Kind::Directory && has_remains(txn, &found.key).await?))
}

/// Whether the key was deleted here, or is an inode's with another name.
async fn is_taken(txn: &mut Txn<'_>, object: &str) -> Result<bool, Error> {
    if txn.kv.get(&keys::garbage(object), false).await?.is_some() {
        return Ok(true);
    }
    match txn.claim(object).await? {
        Some(ino) => Ok(txn.inode(ino).await?.is_some()),
        None => Ok(false),
    }
}

/// Whether below a directory's key, of which there is no directory here, something is yet to be deleted or
/// to be moved away.
async fn has_remains(txn: &mut Txn<'_>, directory: &str) -> Result<bool, Error> {
    Ok(txn.has_any(&keys::garbage(directory)).await?
        || txn.has_any(&keys::claim(directory)).await?)
}

/// A name that the journal doesn't know.
async fn add(
    txn: &mut Txn<'_>,
    above: &InodeRow,
    found: &Found,
    listed_at: Timestamp,
) -> Result<Inode, Error> {
    let is_dir = found.kind == Kind::Directory;
    let size = if is_dir { 0 } else { found.size };
    let inode = Inode {
        ino: txn.take_ino()?,
        kind: found.kind,
        mode: found.mode.unwrap_or(if is_dir { 0o755 } else { 0o644 }) & 0o7777,
        uid: found.uid.unwrap_or(above.inode.uid),
        gid: found.gid.unwrap_or(above.inode.gid),
        nlink: if is_dir { 2 } else { 1 },
        rdev: 0,
        size,
        atime: found.mtime,
        mtime: found.mtime,
        ctime: found.mtime,
        btime: found.mtime,
        parent: above.inode.ino,
        meta_epoch: 0,
        content: Content {
            origin: Some(Origin {
                key: found.key.clone(),
                etag: found.etag.clone(),
                size,
                epoch: Epoch(0),
                meta_epoch: 0,
                checked: listed_at,
            }),
            valid: size,
            learned: found.learned,
            ..Content::default()
        },
    };
    let mut row = InodeRow {
        inode,
        unsynced_on: None,
        orphan_on: None,
        moved: false,
    };
    if above.moved {
        // Its key is below a path that the directory has left: it must follow.
        row.inode.meta_epoch += 1;
        row.moved = is_dir;
        txn.mark_unsynced(&mut row, Order::Keep, listed_at).await?;
        if is_dir {
            txn.put(&keys::resync(row.inode.ino), &ResyncRow { cursor: None })?;
        }
    }
    txn.put_inode(&row)?;
    txn.put_name(above.inode.ino, &found.name, &row.inode, true)?;
    let claim = ClaimRow { ino: row.inode.ino };
    txn.put(&keys::claim(&found.key), &claim)?;
    txn.count_inodes(1);
    Ok(row.inode)
}

/// A file that the journal knows: has the store a newer object?
async fn compare(
    txn: &mut Txn<'_>,
    mut row: InodeRow,
    found: &Found,
    listed_at: Timestamp,
) -> Result<Option<Inode>, Error> {
    let Some(origin) = &row.inode.content.origin else {
        return Ok(None);
    };
    if !is_untouched(&row) || origin.key != found.key || origin.checked > listed_at {
        return Ok(None);
    }
    if !is_other_object(origin, found.etag.as_deref(), found.size) {
        return Ok(None);
    }
    replace_object(
        &mut row,
        found.etag.clone(),
        found.size,
        found.mtime,
        listed_at,
    );
    let inode = &mut row.inode;
    take_mode(txn, inode, found.mode).await?;
    inode.uid = found.uid.unwrap_or(inode.uid);
    inode.gid = found.gid.unwrap_or(inode.gid);
    inode.content.learned = found.learned;
    txn.put_inode(&row)?;
    Ok(Some(row.inode))
}

/// The store's permission bits, where it has some; an access control list that is kept here follows.
pub(super) async fn take_mode(
    txn: &mut Txn<'_>,
    inode: &mut Inode,
    mode: Option<u32>,
) -> Result<(), Error> {
    let mode = mode.map_or(inode.mode, |mode| mode & 0o7777);
    if mode != inode.mode {
        inode.mode = mode;
        acl::follow_mode(txn, inode).await?;
    }
    Ok(())
}

/// Clean, with a name, and nobody is writing it.
pub(super) fn is_untouched(row: &InodeRow) -> bool {
    row.unsynced_on.is_none() && has_stored_bytes(row) && !row.inode.is_meta_dirty()
}

/// The object's bytes are all there is of it, whatever was done to its name and attributes since.
pub(super) fn has_stored_bytes(row: &InodeRow) -> bool {
    let inode = &row.inode;
    inode.nlink > 0 && inode.content.writer.is_none() && !inode.is_content_dirty()
}

/// Whether the store has something else under the key than we know. Where one side has no ETag, only
/// the length tells.
pub(super) fn is_other_object(origin: &Origin, etag: Option<&str>, size: u64) -> bool {
    match (origin.etag.as_deref(), etag) {
        (Some(ours), Some(theirs)) => ours != theirs || origin.size != size,
        _ => origin.size != size,
    }
}

/// The store has new bytes; those here are of an old generation.
pub(super) fn replace_object(
    row: &mut InodeRow,
    etag: Option<String>,
    size: u64,
    mtime: Timestamp,
    checked: Timestamp,
) {
    let inode = &mut row.inode;
    inode.size = size;
    inode.mtime = mtime;
    inode.ctime = checked;
    inode.content.generation += 1;
    inode.content.valid = size;
    inode.content.seal = None;
    if let Some(origin) = &mut inode.content.origin {
        origin.etag = etag;
        origin.size = size;
        origin.checked = checked;
    }
}
