//! Reading: names, inodes, directories, symlinks.

use crate::attempts::look;
use crate::records::{ChunkRow, DirentRow, decode};
use crate::types::{DirEntry, Ino, Inode, Kind};
use crate::{Error, Journal, keys};
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// Rows that a range read may pass over for nothing, for each one that is wanted: less work than another read.
const PASSED_OVER_MAX: u64 = 3;

/// The numbers in ascending order, as ranges without large gaps.
fn neighbours(inos: &[Ino]) -> Vec<RangeInclusive<Ino>> {
    let mut sorted = inos.to_vec();
    sorted.sort_unstable();
    let near = |one: &Ino, next: &Ino| next.0 - one.0 <= PASSED_OVER_MAX + 1;
    sorted
        .chunk_by(near)
        .filter_map(|run| Some(*run.first()?..=*run.last()?))
        .collect()
}

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
    ///
    /// Files that were made one after another have neighbouring numbers: a range read gives all of them.
    pub async fn inodes(&self, inos: &[Ino]) -> Result<Vec<Option<Inode>>, Error> {
        look!(self, txn => async {
            let mut found = HashMap::with_capacity(inos.len());
            for run in neighbours(inos) {
                for row in txn.inodes(run).await? {
                    found.insert(row.inode.ino, row.inode);
                }
            }
            Ok(inos.iter().map(|ino| found.get(ino).cloned()).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_near_are_read_together() {
        let ranges = |inos: &[u64]| -> Vec<_> {
            let inos: Vec<_> = inos.iter().copied().map(Ino).collect();
            let ranges = neighbours(&inos).into_iter();
            ranges.map(|run| (run.start().0, run.end().0)).collect()
        };
        assert_eq!(ranges(&[]), []);
        assert_eq!(ranges(&[7]), [(7, 7)]);
        assert_eq!(ranges(&[9, 7, 8, 7]), [(7, 9)]);
        assert_eq!(ranges(&[1, 5, 10]), [(1, 5), (10, 10)]);
        assert_eq!(ranges(&[u64::MAX, 0]), [(0, 0), (u64::MAX, u64::MAX)]);
    }
}
