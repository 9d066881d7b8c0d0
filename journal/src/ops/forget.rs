//! Cached entries that the store no longer has.

use super::resync::is_pending;
use crate::attempts::transact;
use crate::records::{DirentRow, InodeRow, decode};
use crate::txn::Txn;
use crate::types::{Ino, Inode, Kind};
use crate::{Error, Journal, keys};

/// Entries looked at in one transaction.
const CHUNK: usize = 128;

/// What one transaction did: the inodes it removed, and the name to go on after.
type Step = (Vec<(Vec<u8>, Inode)>, Option<Vec<u8>>);

impl Journal {
    /// Forgets what a complete listing of the directory has not `seen`, as far as it is only cached:
    /// imported, never changed here in bytes, attributes or name, with one name, and for directories
    /// without entries. Answers the names and inodes forgotten.
    ///
    /// Below a renamed directory that waits for its resync nothing is forgotten: what is listed there
    /// isn't what was imported.
    pub async fn forget_missing(
        &self,
        dir: Ino,
        seen: &(dyn Fn(&[u8]) -> bool + Send + Sync),
    ) -> Result<Vec<(Vec<u8>, Inode)>, Error> {
        let mut forgotten = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let step: Result<Step, Error> =
                transact!(self, txn => forget(txn, dir, seen, after.as_deref()));
            let (more, next) = step?;
            forgotten.extend(more);
            match next {
                Some(name) => after = Some(name),
                None => return Ok(forgotten),
            }
        }
    }
}

async fn forget(
    txn: &mut Txn<'_>,
    dir: Ino,
    seen: &(dyn Fn(&[u8]) -> bool + Send + Sync),
    after: Option<&[u8]>,
) -> Result<Step, Error> {
    let mut above = txn.need_dir(dir).await?;
    if is_pending(txn, dir).await? {
        return Ok((Vec::new(), None));
    }
    let prefix = keys::dirent(dir, b"");
    let after = after.map(|name| keys::dirent(dir, name));
    let entries = txn.rows(&prefix, after.as_deref(), CHUNK).await?;
    let mut forgotten = Vec::new();
    let mut lost_dirs = 0;
    let mut next = None;
    let count = entries.len();
    for (key, value) in entries {
        let name = &key[keys::DIRENT_NAME..];
        next = Some(name.to_vec());
        if seen(name) {
            continue;
        }
        let entry: DirentRow = decode(&key, &value)?;
        let row = txn.behind(entry).await?;
        if is_forgettable(txn, &row).await? {
            drop_cached(txn, &row, dir, name).await?;
            lost_dirs += u32::from(entry.kind == Kind::Directory);
            forgotten.push((name.to_vec(), row.inode));
        }
    }
    if lost_dirs > 0 {
        above.inode.nlink = above.inode.nlink.saturating_sub(lost_dirs);
        txn.put_inode(&above)?;
    }
    Ok((forgotten, next.filter(|_| count == CHUNK)))
}

pub(super) async fn is_forgettable(txn: &mut Txn<'_>, row: &InodeRow) -> Result<bool, Error> {
    let inode = &row.inode;
    if !inode.is_only_cached() || row.unsynced_on.is_some() {
        return Ok(false);
    }
    match inode.kind {
        Kind::File => Ok(inode.nlink == 1),
        Kind::Directory => Ok(!txn.has_any(&keys::dirent(inode.ino, b"")).await?
            && txn.kv.get(&keys::resync(inode.ino), false).await?.is_none()),
        _ => Ok(false),
    }
}

/// Removes every row of a cached entry. Nothing becomes garbage: the store has nothing of it.
pub(super) async fn drop_cached(
    txn: &mut Txn<'_>,
    row: &InodeRow,
    dir: Ino,
    name: &[u8],
) -> Result<(), Error> {
    let ino = row.inode.ino;
    txn.clear_name(dir, name, ino);
    if let Some(origin) = &row.inode.content.origin
        && txn.claim(&origin.key).await? == Some(ino)
    {
        txn.clear(&keys::claim(&origin.key));
    }
    txn.clear(&keys::digested(ino));
    for prefix in [
        keys::xattr(ino, b""),
        keys::all_xattr_chunks(ino),
        keys::all_digests(ino),
    ] {
        txn.kv.clear_range(&prefix, &keys::after_prefix(&prefix));
    }
    if row.inode.kind == Kind::Directory {
        txn.clear(&keys::listing(ino));
    }
    txn.clear(&keys::pin(txn.node(), ino));
    txn.clear(&keys::inode(ino));
    txn.count_inodes(-1);
    Ok(())
}
