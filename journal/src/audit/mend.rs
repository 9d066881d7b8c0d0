//! Making a damage good, one transaction each.

use super::Mend;
use crate::attempts::transact;
use crate::records::{ClaimRow, DirentRow, LinkRow, OrphanRow, decode, decode_counter};
use crate::txn::{Order, Txn};
use crate::types::{Ino, Kind, NodeId, Timestamp};
use crate::{Error, Journal, keys};

/// Names of an inode looked at for the one that makes the key.
const NAMES_MAX: usize = 10_000;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A row that nobody needs.
    DropRow(Vec<u8>),
    /// Rows that nobody needs.
    DropPrefix(Vec<u8>),
    /// The rows beside a missing inode.
    DropInodeRows(Ino),
    /// A file's name that leads nowhere. Its directory is to be listed again.
    DropName {
        parent: Ino,
        name: Vec<u8>,
    },
    /// The other direction of a name.
    WholeName {
        parent: Ino,
        name: Vec<u8>,
        ino: Ino,
    },
    /// The kind in a directory entry.
    FixKind {
        parent: Ino,
        name: Vec<u8>,
    },
    SetLinks {
        ino: Ino,
        nlink: u32,
    },
    /// This name makes the key.
    Primary {
        ino: Ino,
        parent: Ino,
        name: Vec<u8>,
    },
    /// The flusher looks at it again; `key` is a row that may not be needed.
    Remark {
        ino: Ino,
        key: Option<Vec<u8>>,
    },
    PutOrphan {
        node: NodeId,
        ino: Ino,
    },
    /// The inode whose object this is.
    PutClaim {
        key: String,
        ino: Ino,
    },
    DropOrphan(Ino),
    Counter {
        key: Vec<u8>,
        value: u64,
    },
}

impl Mend {
    /// It removes a name, which only a listing brings back: to be done only if the object of that path is in
    /// the store.
    #[must_use]
    pub fn needs_object(&self) -> bool {
        matches!(self.0, What::DropName { .. })
    }
}

impl Journal {
    /// Makes a damage good. False: the journal is no longer as it was when the damage was found.
    pub async fn mend(&self, mend: &Mend, now: Timestamp) -> Result<bool, Error> {
        transact!(self, txn => apply(txn, &mend.0, now))
    }
}

async fn apply(txn: &mut Txn<'_>, what: &What, now: Timestamp) -> Result<bool, Error> {
    match what {
        What::DropRow(key) => txn.clear(key),
        What::DropPrefix(prefix) => clear_prefix(txn, prefix),
        What::DropInodeRows(ino) => {
            if txn.inode(*ino).await?.is_some() || has_entry(txn, *ino).await? {
                return Ok(false);
            }
            for prefix in [
                keys::links(*ino),
                keys::targets(*ino),
                keys::xattr(*ino, b""),
                keys::all_xattr_chunks(*ino),
                keys::digested(*ino),
                keys::all_digests(*ino),
                keys::listing(*ino),
                keys::resync(*ino),
            ] {
                clear_prefix(txn, &prefix);
            }
        }
        What::DropName { parent, name } => return drop_name(txn, *parent, name).await,
        What::WholeName { parent, name, ino } => {
            return whole_name(txn, *parent, name, *ino).await;
        }
        What::FixKind { parent, name } => {
            let Some(entry) = txn.dirent(*parent, name).await? else {
                return Ok(false);
            };
            let kind = txn.need(entry.ino).await?.inode.kind;
            let entry = DirentRow { kind, ..entry };
            txn.put(&keys::dirent(*parent, name), &entry)?;
        }
        What::SetLinks { ino, nlink } => {
            let mut row = txn.need(*ino).await?;
            row.inode.nlink = *nlink;
            row.inode.ctime = now;
            txn.put_inode(&row)?;
        }
        What::Primary { ino, parent, name } => {
            return make_primary(txn, *ino, *parent, name, now).await;
        }
        What::Remark { ino, key } => remark(txn, *ino, key.as_deref(), now).await?,
        What::PutOrphan { node, ino } => {
            let row = txn.need(*ino).await?;
            if row.inode.nlink > 0 || row.orphan_on != Some(*node) {
                return Ok(false);
            }
            txn.put(&keys::orphan(*node, *ino), &OrphanRow::default())?;
        }
        What::PutClaim { key, ino } => {
            let row = txn.need(*ino).await?;
            let origin = row.inode.content.origin.as_ref();
            if origin.is_none_or(|origin| origin.key != *key) || txn.claim(key).await?.is_some() {
                return Ok(false);
            }
            txn.put(&keys::claim(key), &ClaimRow { ino: *ino })?;
        }
        What::DropOrphan(ino) => {
            let mut row = txn.need(*ino).await?;
            if row.inode.nlink == 0 {
                return Ok(false);
            }
            if let Some(node) = row.orphan_on.take() {
                txn.clear(&keys::orphan(node, *ino));
            }
            txn.put_inode(&row)?;
        }
        What::Counter { key, value } => {
            // Numbers may have been handed out since, to mend other damage.
            let now = decode_counter(key, txn.kv.get(key, false).await?.as_deref()).unwrap_or(0);
            let is_count = key == keys::INODES;
            txn.set_counter(key, if is_count { *value } else { now.max(*value) });
        }
    }
    Ok(true)
}

fn clear_prefix(txn: &mut Txn<'_>, prefix: &[u8]) {
    txn.clear_range(prefix, &keys::after_prefix(prefix));
}

/// Whether a directory entry that the inode's own rows name leads to it.
async fn has_entry(txn: &mut Txn<'_>, ino: Ino) -> Result<bool, Error> {
    for (key, _) in txn.rows(&keys::links(ino), None, NAMES_MAX).await? {
        if let Some((parent, name)) = keys::parse_link(&key)
            && txn
                .dirent(parent, name)
                .await?
                .is_some_and(|entry| entry.ino == ino)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn drop_name(txn: &mut Txn<'_>, parent: Ino, name: &[u8]) -> Result<bool, Error> {
    let Some(entry) = txn.dirent(parent, name).await? else {
        return Ok(false);
    };
    if entry.kind != Kind::File || txn.inode(entry.ino).await?.is_some() {
        return Ok(false);
    }
    txn.clear_name(parent, name, entry.ino);
    txn.clear(&keys::listing(parent));
    Ok(true)
}

async fn whole_name(txn: &mut Txn<'_>, parent: Ino, name: &[u8], ino: Ino) -> Result<bool, Error> {
    let mut row = txn.need(ino).await?;
    txn.need_dir(parent).await?;
    let there = txn.dirent(parent, name).await?;
    if there.is_some_and(|there| there.ino != ino) {
        return Ok(false);
    }
    let link: Option<LinkRow> = txn.load(&keys::link(ino, parent, name)).await?;
    let mut primary = link.is_some_and(|link| link.primary);
    if link.is_none() {
        primary = true;
        for (key, value) in txn.rows(&keys::links(ino), None, NAMES_MAX).await? {
            primary &= !decode::<LinkRow>(&key, &value)?.primary;
        }
    }
    if primary {
        row.inode.parent = parent;
        txn.put_inode(&row)?;
    }
    txn.put_name(parent, name, &row.inode, primary)?;
    Ok(true)
}

async fn make_primary(
    txn: &mut Txn<'_>,
    ino: Ino,
    parent: Ino,
    name: &[u8],
    now: Timestamp,
) -> Result<bool, Error> {
    let mut row = txn.need(ino).await?;
    let chosen = keys::link(ino, parent, name);
    let mut changed = false;
    for (key, value) in txn.rows(&keys::links(ino), None, NAMES_MAX).await? {
        let primary = key == chosen;
        if decode::<LinkRow>(&key, &value)?.primary != primary {
            changed = true;
            txn.put(&key, &LinkRow { primary })?;
        }
    }
    row.inode.parent = parent;
    if changed && row.inode.kind.is_synced() {
        // The object may have to go to another key.
        row.inode.meta_epoch += 1;
        txn.mark_unsynced(&mut row, Order::Keep, now).await?;
    }
    txn.put_inode(&row)?;
    Ok(true)
}

async fn remark(
    txn: &mut Txn<'_>,
    ino: Ino,
    key: Option<&[u8]>,
    now: Timestamp,
) -> Result<(), Error> {
    if let Some(key) = key {
        txn.clear(key);
    }
    let Some(mut row) = txn.inode(ino).await? else {
        return Ok(());
    };
    txn.clear_unsynced(&mut row);
    txn.mark_unsynced(&mut row, Order::Last, now).await?;
    txn.put_inode(&row)
}
