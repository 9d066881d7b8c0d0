//! Inodes without a name, and their end.

use crate::attempts::{look, transact};
use crate::records::corrupt;
use crate::txn::Txn;
use crate::types::{Ino, Inode, Kind, NodeId};
use crate::{Error, Journal, keys};

/// Rows of extended attributes removed in one transaction.
const XATTR_ROWS_MAX: usize = 256;

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
    ) -> Result<Vec<Ino>, Error> {
        let prefix = keys::of_node(b'O', node);
        let after = after.map(|ino| keys::orphan(node, ino));
        look!(self, txn => async {
            let rows = txn.rows(&prefix, after.as_deref(), limit).await?;
            rows.iter()
                .map(|(key, _)| {
                    let ino = keys::parse_of_node(key);
                    ino.ok_or_else(|| corrupt(key, "a short key".into()))
                })
                .collect()
        })
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

async fn reap(txn: &mut Txn<'_>, ino: Ino) -> Result<Progress, Error> {
    let Some(mut row) = txn.inode(ino).await? else {
        return Ok(Progress::Done(None));
    };
    if row.inode.nlink > 0 {
        return Ok(Progress::Done(None));
    }
    if clear_xattrs(txn, ino).await? {
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
