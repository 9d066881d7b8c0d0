//! Inodes without a name, and their end.

use super::digests::clear_digests;
use super::rename::{Place, settle_at};
use super::unlink::drop_name;
use crate::attempts::{look, transact};
use crate::records::{LinkRow, OrphanRow, corrupt, decode};
use crate::txn::Txn;
use crate::types::{Ino, Inode, Kind, NodeId, Orphan, Timestamp};
use crate::{Error, Journal, keys};

/// Rows of extended attributes removed in one transaction.
const XATTR_ROWS_MAX: usize = 256;

/// Names looked at for the one that makes the key, when a lost file's name is given back.
const NAMES_MAX: usize = 256;

/// How far one transaction of `reap` got.
#[derive(Clone)]
enum Progress {
    More,
    Done(Option<Box<Inode>>),
}

impl Journal {
    /// The inodes that lost their last name on this node, after `after`.
    pub async fn orphans(
        &self,
        node: NodeId,
        after: Option<Ino>,
        limit: usize,
    ) -> Result<Vec<Orphan>, Error> {
        let prefix = keys::of_node(b'O', node);
        let after = after.map(|ino| keys::orphan(node, ino));
        look!(self, txn => async {
            let rows = txn.rows(&prefix, after.as_deref(), limit).await?;
            rows.iter()
                .map(|(key, value)| {
                    let ino = keys::parse_of_node(key);
                    let ino = ino.ok_or_else(|| corrupt(key, "a short key".into()))?;
                    let spare_for = decode::<OrphanRow>(key, value)?.spare_for;
                    Ok(Orphan { ino, spare_for })
                })
                .collect()
        })
    }

    /// The orphan row of an inode on this node.
    pub async fn orphan(&self, node: NodeId, ino: Ino) -> Result<Option<Orphan>, Error> {
        let key = keys::orphan(node, ino);
        look!(self, txn => async {
            let value = txn.kv.get(&key, true).await?;
            let row = value.map(|value| decode::<OrphanRow>(&key, &value)).transpose()?;
            Ok(row.map(|row| Orphan { ino, spare_for: row.spare_for }))
        })
    }

    /// Gives the name of an inode that was lost in a power cut back to the orphan that it replaced; if it has another
    /// name by now, that one. The lost one loses that name, and gets the name `aside` in the same directory if that is
    /// given and free. False, and nothing is done, if the lost one has no name any more, or the orphan is none.
    pub async fn restore(
        &self,
        orphan: Ino,
        lost: Ino,
        aside: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<bool, Error> {
        transact!(self, txn => restore(txn, orphan, lost, aside, now))
    }

    /// Removes an inode that has no name and that nobody has open, and all that belongs to it but the
    /// rows of an upload. Its object becomes garbage, if it is still this inode's. Answers the inode
    /// that was removed; `None` if there is none, or if it has a name.
    pub async fn reap(&self, ino: Ino) -> Result<Option<Inode>, Error> {
        loop {
            let progress: Result<Progress, Error> = transact!(self, txn => reap(txn, ino));
            match progress? {
                Progress::More => {}
                Progress::Done(inode) => return Ok(inode.map(|inode| *inode)),
            }
        }
    }
}

async fn restore(
    txn: &mut Txn<'_>,
    orphan: Ino,
    lost: Ino,
    aside: Option<&[u8]>,
    now: Timestamp,
) -> Result<bool, Error> {
    let (Some(mut row), Some(lost_row)) = (txn.inode(orphan).await?, txn.inode(lost).await?) else {
        return Ok(false);
    };
    let Some(node) = row.orphan_on else {
        return Ok(false);
    };
    let taken = txn
        .load::<OrphanRow>(&keys::orphan(node, orphan))
        .await?
        .and_then(|row| row.place);
    let place = match taken {
        Some((parent, name))
            if txn
                .dirent(parent, &name)
                .await?
                .is_some_and(|there| there.ino == lost) =>
        {
            Some((parent, name))
        }
        // It has been renamed since: so would the one that it replaced have been.
        _ => primary_name(txn, lost).await?,
    };
    let Some((parent, name)) = place else {
        return Ok(false);
    };
    let aside = match aside {
        Some(aside) if txn.dirent(parent, aside).await?.is_none() => Some(aside),
        _ => None,
    };
    match aside {
        Some(name_aside) => {
            txn.clear_name(parent, &name, lost);
            let place = Place {
                parent,
                name: name_aside,
            };
            settle_at(txn, lost_row, place, true, now).await?;
        }
        None => {
            drop_name(txn, lost_row, parent, &name, None, now).await?;
        }
    }
    txn.clear(&keys::orphan(node, orphan));
    row.orphan_on = None;
    row.inode.nlink = 1;
    if let Some(origin) = &mut row.inode.content.origin {
        // What replaced it here may be what is in the store by now.
        origin.checked = Timestamp::default();
    }
    let place = Place {
        parent,
        name: &name,
    };
    settle_at(txn, row, place, true, now).await?;
    Ok(true)
}

/// The name that makes the key.
async fn primary_name(txn: &mut Txn<'_>, ino: Ino) -> Result<Option<(Ino, Vec<u8>)>, Error> {
    for (key, value) in txn.rows(&keys::links(ino), None, NAMES_MAX).await? {
        if decode::<LinkRow>(&key, &value)?.primary {
            let (parent, name) = keys::parse_link(&key)
                .ok_or_else(|| corrupt(&key, "a short key of a link".into()))?;
            return Ok(Some((parent, name.to_vec())));
        }
    }
    Ok(None)
}

async fn reap(txn: &mut Txn<'_>, ino: Ino) -> Result<Progress, Error> {
    let Some(mut row) = txn.inode(ino).await? else {
        return Ok(Progress::Done(None));
    };
    if row.inode.nlink > 0 {
        return Ok(Progress::Done(None));
    }
    if clear_xattrs(txn, ino).await? || clear_digests(txn, ino).await? {
        return Ok(Progress::More);
    }
    let inode = row.inode.clone();
    txn.set_writer(&mut row, None)?;
    txn.clear_unsynced(&mut row);
    if let Some(node) = row.orphan_on {
        txn.clear(&keys::orphan(node, ino));
    }
    if inode.kind == Kind::Symlink {
        let begin = keys::targets(ino);
        let end = keys::after_prefix(&begin);
        txn.kv.clear_range(&begin, &end);
    }
    if let Some(origin) = &inode.content.origin {
        let directory = inode.kind == Kind::Directory;
        txn.release(ino, origin, directory).await?;
    }
    txn.clear(&keys::pin(txn.node(), ino));
    txn.clear(&keys::inode(ino));
    txn.count_inodes(-1);
    Ok(Progress::Done(Some(Box::new(inode))))
}

/// Removes rows of extended attributes; true if there may be more.
pub(super) async fn clear_xattrs(txn: &mut Txn<'_>, ino: Ino) -> Result<bool, Error> {
    let mut more = false;
    for prefix in [keys::xattr(ino, b""), keys::all_xattr_chunks(ino)] {
        let rows = txn.rows(&prefix, None, XATTR_ROWS_MAX).await?;
        more |= rows.len() == XATTR_ROWS_MAX;
        for (key, _) in rows {
            txn.clear(&key);
        }
    }
    Ok(more)
}
