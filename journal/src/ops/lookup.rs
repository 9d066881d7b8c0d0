//! Reading: names, inodes, directories, symlinks.

use crate::attempts::look;
use crate::records::{ChunkRow, DirentRow, decode};
use crate::types::{DirEntry, Ino, Inode, Kind};
use crate::{Error, Journal, keys};

impl Journal {
    /// The inode that `name` leads to in a directory.
    pub async fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Inode>, Error> {
        look!(self, txn => async {
            match txn.dirent(parent, name).await? {
                Some(entry) => Ok(Some(txn.behind(entry).await?.inode)),
                None => Ok(None),
            }
        })
    }

    /// An inode by its number; also one that has no name any more but wasn't reaped yet.
    pub async fn inode(&self, ino: Ino) -> Result<Option<Inode>, Error> {
        look!(self, txn => async { Ok(txn.inode(ino).await?.map(|row| row.inode)) })
    }

    /// Several inodes as of one moment, in the order of the question.
    pub async fn inodes(&self, inos: &[Ino]) -> Result<Vec<Option<Inode>>, Error> {
        look!(self, txn => async {
            let mut inodes = Vec::with_capacity(inos.len());
            for &ino in inos {
                inodes.push(txn.inode(ino).await?.map(|row| row.inode));
            }
            Ok(inodes)
        })
    }

    /// The entries of a directory after a name, in the order of names: one range read.
    pub async fn read_dir(
        &self,
        parent: Ino,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<DirEntry>, Error> {
        let prefix = keys::dirent(parent, b"");
        let after = after.map(|name| keys::dirent(parent, name));
        look!(self, txn => async {
            let rows = txn.rows(&prefix, after.as_deref(), limit).await?;
            rows.into_iter()
                .map(|(mut key, value)| {
                    let entry: DirentRow = decode(&key, &value)?;
                    Ok(DirEntry {
                        name: key.split_off(keys::DIRENT_NAME),
                        ino: entry.ino,
                        kind: entry.kind,
                    })
                })
                .collect()
        })
    }

    /// The target of a symlink.
    pub async fn read_link(&self, ino: Ino) -> Result<Vec<u8>, Error> {
        look!(self, txn => async {
            let kind = txn.need(ino).await?.inode.kind;
            if kind != Kind::Symlink {
                return Err(Error::WrongKind { ino, kind, operation: "read its target" });
            }
            let mut target = Vec::new();
            for (key, value) in txn.rows(&keys::targets(ino), None, 256).await? {
                target.extend(decode::<ChunkRow>(&key, &value)?.bytes);
            }
            Ok(target)
        })
    }
}
