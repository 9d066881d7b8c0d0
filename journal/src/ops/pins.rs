//! What a user wants kept on the local disk of this node, used or not.
//!
//! A pin is an inode's, so it goes wherever that is renamed to, and ends with it. A directory's counts for
//! everything below it, whenever that comes and wherever it comes from. Only this node's pins count here: they
//! are about its disk.

use super::rename::DEPTH_MAX;
use crate::attempts::{look, transact};
use crate::records::{MarkRow, corrupt};
use crate::txn::Txn;
use crate::types::{Ino, Kind};
use crate::{Error, Journal, keys};

impl Journal {
    /// Pins a file, or a directory with everything below it. False: it was pinned already.
    pub async fn pin(&self, ino: Ino) -> Result<bool, Error> {
        transact!(self, txn => async {
            let inode = txn.need(ino).await?.inode;
            if inode.nlink == 0 {
                return Err(Error::no_inode(ino));
            }
            if !matches!(inode.kind, Kind::File | Kind::Directory) {
                return Err(Error::WrongKind { ino, kind: inode.kind, operation: "pin it" });
            }
            let key = keys::pin(txn.node(), ino);
            let before: Option<MarkRow> = txn.load(&key).await?;
            if before.is_none() {
                txn.put(&key, &MarkRow)?;
            }
            Ok(before.is_none())
        })
    }

    /// Takes an inode's own pin away. False: there was none.
    pub async fn unpin(&self, ino: Ino) -> Result<bool, Error> {
        transact!(self, txn => async {
            let key = keys::pin(txn.node(), ino);
            let before: Option<MarkRow> = txn.load(&key).await?;
            if before.is_some() {
                txn.clear(&key);
            }
            Ok(before.is_some())
        })
    }

    /// Inodes that have a pin, after `after`, in the order of numbers.
    pub async fn pins(&self, after: Option<Ino>, limit: usize) -> Result<Vec<Ino>, Error> {
        let prefix = keys::of_node(b'H', self.shared.node);
        let after = after.map(|ino| keys::pin(self.shared.node, ino));
        look!(self, txn => async {
            let rows = txn.rows(&prefix, after.as_deref(), limit).await?;
            rows.iter()
                .map(|(key, _)| {
                    keys::parse_of_node(key).ok_or_else(|| corrupt(key, "a short key".into()))
                })
                .collect()
        })
    }

    /// What keeps an inode on the local disk: its own pin, or that of the nearest directory above it. A file
    /// with several names is where its object's key is.
    pub async fn pinned(&self, ino: Ino) -> Result<Option<Ino>, Error> {
        look!(self, txn => pinned(txn, ino))
    }
}

async fn pinned(txn: &mut Txn<'_>, ino: Ino) -> Result<Option<Ino>, Error> {
    let node = txn.node();
    if !txn.has_any(&keys::of_node(b'H', node)).await? {
        return Ok(None);
    }
    let mut at = ino;
    for _ in 0..=DEPTH_MAX {
        if txn.kv.get(&keys::pin(node, at), true).await?.is_some() {
            return Ok(Some(at));
        }
        match txn.inode(at).await? {
            Some(row) if row.inode.nlink > 0 && at != Ino::ROOT => at = row.inode.parent,
            _ => return Ok(None),
        }
    }
    let what = "directories that contain each other".into();
    Err(corrupt(&keys::inode(ino), what))
}
