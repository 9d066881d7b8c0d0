//! From an inode to its path, and all that the flusher wants to know of it at one instant.

use super::rename::DEPTH_MAX;
use crate::attempts::look;
use crate::records::{LinkRow, UnsyncedRow, corrupt, decode};
use crate::txn::Txn;
use crate::types::{Ino, Unsynced, Wanted};
use crate::{Error, Journal, keys};

impl Journal {
    /// The names that lead from the root to an inode, by its primary link. `None` when it has no
    /// name; empty for the root.
    pub async fn path(&self, ino: Ino) -> Result<Option<Vec<Vec<u8>>>, Error> {
        look!(self, txn => path(txn, ino))
    }

    /// The directory and the name of an inode's primary link; `None` when it has no name.
    pub async fn primary_link(&self, ino: Ino) -> Result<Option<(Ino, Vec<u8>)>, Error> {
        look!(self, txn => primary_link(txn, ino))
    }

    /// Inode, path and unsynced row of one instant. What is read one after the other may belong to
    /// different sides of a rename; this doesn't.
    pub async fn wanted(&self, ino: Ino) -> Result<Option<Wanted>, Error> {
        look!(self, txn => async {
            let Some(row) = txn.inode(ino).await? else {
                return Ok(None);
            };
            let unsynced: Option<UnsyncedRow> = match row.unsynced_on {
                Some(node) if node == txn.node() => txn.load(&keys::unsynced(node, ino)).await?,
                _ => None,
            };
            let path = match row.inode.nlink {
                0 => None,
                _ => path(txn, ino).await?,
            };
            Ok(Some(Wanted {
                inode: row.inode,
                path,
                unsynced: unsynced.map(|row| Unsynced {
                    ino,
                    seq: row.seq,
                    stamp: row.stamp,
                    since: row.since,
                }),
            }))
        })
    }
}

async fn path(txn: &mut Txn<'_>, ino: Ino) -> Result<Option<Vec<Vec<u8>>>, Error> {
    let mut names = Vec::new();
    let mut at = ino;
    while at != Ino::ROOT {
        let Some((parent, name)) = primary_link(txn, at).await? else {
            return Ok(None);
        };
        names.push(name);
        at = parent;
        if names.len() > DEPTH_MAX {
            return Err(corrupt(
                &keys::inode(ino),
                "directories that contain each other".into(),
            ));
        }
    }
    names.reverse();
    Ok(Some(names))
}

/// Where the name is that gives the object its key.
async fn primary_link(txn: &mut Txn<'_>, ino: Ino) -> Result<Option<(Ino, Vec<u8>)>, Error> {
    let prefix = keys::links(ino);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let rows = txn.rows(&prefix, after.as_deref(), 16).await?;
        for (key, value) in &rows {
            if decode::<LinkRow>(key, value)?.primary {
                let link = keys::parse_link(key);
                let (parent, name) =
                    link.ok_or_else(|| corrupt(key, "a short key of a link".into()))?;
                return Ok(Some((parent, name.to_vec())));
            }
        }
        match rows.into_iter().last() {
            Some((last, _)) => after = Some(last),
            None => return Ok(None),
        }
    }
}
