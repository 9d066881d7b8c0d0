//! A transaction that speaks of rows instead of bytes.

use crate::kv::{KvError, Range, Row, Transaction};
use crate::records::{
    self, ClaimRow, DirentRow, GarbageRow, InodeRow, LinkRow, MarkRow, Record, UnsyncedRow,
};
use crate::shared::Shared;
use crate::types::{Ino, Inode, Kind, NodeId, Origin, Timestamp};
use crate::{Error, keys};
use std::ops::RangeInclusive;

/// Longest name of a file, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Whether becoming unsynced is also a new place in the order of becoming visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Last: it was created, closed, truncated or renamed.
    Last,
    /// As before, if it was unsynced before.
    Keep,
}

/// A typed transaction.
pub(crate) struct Txn<'j> {
    pub(crate) kv: Box<dyn Transaction>,
    shared: &'j Shared,
    changed: bool,
    /// Unsynced rows of this node added less removed.
    pub(crate) unsynced_delta: i64,
}

impl<'j> Txn<'j> {
    pub(crate) fn new(kv: Box<dyn Transaction>, shared: &'j Shared) -> Txn<'j> {
        Txn {
            kv,
            shared,
            changed: false,
            unsynced_delta: 0,
        }
    }

    /// Whether anything was written.
    pub(crate) fn is_changed(&self) -> bool {
        self.changed
    }

    /// This daemon.
    pub(crate) fn node(&self) -> NodeId {
        self.shared.node
    }

    pub(crate) async fn load<R: Record>(&mut self, key: &[u8]) -> Result<Option<R>, Error> {
        match self.kv.get(key, false).await? {
            Some(bytes) => records::decode(key, &bytes).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn put<R: Record>(&mut self, key: &[u8], record: &R) -> Result<(), Error> {
        self.changed = true;
        self.kv.set(key, records::encode(record)?);
        Ok(())
    }

    pub(crate) fn clear(&mut self, key: &[u8]) {
        self.changed = true;
        self.kv.clear(key);
    }

    pub(crate) fn clear_range(&mut self, begin: &[u8], end: &[u8]) {
        self.changed = true;
        self.kv.clear_range(begin, end);
    }

    /// Writes a counter that was found to be wrong.
    pub(crate) fn set_counter(&mut self, key: &[u8], value: u64) {
        self.changed = true;
        self.kv.set(key, value.to_le_bytes().to_vec());
    }

    pub(crate) fn count_inodes(&mut self, delta: i64) {
        self.changed = true;
        self.kv.atomic_add(keys::INODES, delta);
    }

    /// At most `limit` rows of `prefix` whose keys come after `after`.
    pub(crate) async fn rows(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, Error> {
        let begin = match after {
            Some(after) => keys::just_after(after),
            None => prefix.to_vec(),
        };
        let end = keys::after_prefix(prefix);
        let range = Range {
            begin: &begin,
            end: &end,
            limit,
            reverse: false,
        };
        Ok(self.kv.range(range, false).await?)
    }

    pub(crate) async fn has_any(&mut self, prefix: &[u8]) -> Result<bool, Error> {
        Ok(!self.rows(prefix, None, 1).await?.is_empty())
    }

    /// A new inode number.
    pub(crate) fn take_ino(&mut self) -> Result<Ino, Error> {
        self.shared.inos.take().map(Ino).ok_or_else(out_of_numbers)
    }

    /// A new sequence number, larger than all before.
    pub(crate) fn take_seq(&mut self) -> Result<u64, Error> {
        self.shared.seqs.take().ok_or_else(out_of_numbers)
    }

    pub(crate) async fn inode(&mut self, ino: Ino) -> Result<Option<InodeRow>, Error> {
        self.load(&keys::inode(ino)).await
    }

    /// The inodes whose numbers are in a range.
    pub(crate) async fn inodes(
        &mut self,
        numbers: RangeInclusive<Ino>,
    ) -> Result<Vec<InodeRow>, Error> {
        let (first, last) = numbers.into_inner();
        if first == last {
            return Ok(self.inode(first).await?.into_iter().collect());
        }
        let range = Range {
            begin: &keys::inode(first),
            end: &keys::just_after(&keys::inode(last)),
            limit: usize::try_from(last.0 - first.0 + 1).unwrap_or(usize::MAX),
            reverse: false,
        };
        let rows = self.kv.range(range, false).await?;
        let rows = rows.iter().map(|(key, value)| records::decode(key, value));
        rows.collect()
    }

    /// The inode, which must exist.
    pub(crate) async fn need(&mut self, ino: Ino) -> Result<InodeRow, Error> {
        self.inode(ino).await?.ok_or_else(|| Error::no_inode(ino))
    }

    /// The inode, which must be a directory that has a name.
    pub(crate) async fn need_dir(&mut self, ino: Ino) -> Result<InodeRow, Error> {
        let row = self.need(ino).await?;
        if row.inode.kind != Kind::Directory {
            return Err(Error::NotDirectory { ino });
        }
        if row.inode.nlink == 0 {
            return Err(Error::no_inode(ino));
        }
        Ok(row)
    }

    pub(crate) fn put_inode(&mut self, row: &InodeRow) -> Result<(), Error> {
        self.put(&keys::inode(row.inode.ino), row)
    }

    pub(crate) async fn dirent(
        &mut self,
        parent: Ino,
        name: &[u8],
    ) -> Result<Option<DirentRow>, Error> {
        self.load(&keys::dirent(parent, name)).await
    }

    /// The inode behind a directory entry; a missing one is damage.
    pub(crate) async fn behind(&mut self, entry: DirentRow) -> Result<InodeRow, Error> {
        match self.inode(entry.ino).await? {
            Some(row) => Ok(row),
            None => Err(records::corrupt(
                &keys::inode(entry.ino),
                "a directory entry leads to an inode that doesn't exist".into(),
            )),
        }
    }

    /// Writes both directions of a name.
    pub(crate) fn put_name(
        &mut self,
        parent: Ino,
        name: &[u8],
        inode: &Inode,
        primary: bool,
    ) -> Result<(), Error> {
        let entry = DirentRow {
            ino: inode.ino,
            kind: inode.kind,
        };
        self.put(&keys::dirent(parent, name), &entry)?;
        self.put(&keys::link(inode.ino, parent, name), &LinkRow { primary })
    }

    /// Removes both directions of a name.
    pub(crate) fn clear_name(&mut self, parent: Ino, name: &[u8], ino: Ino) {
        self.clear(&keys::dirent(parent, name));
        self.clear(&keys::link(ino, parent, name));
    }

    /// Whether this name gives the object its key.
    pub(crate) async fn is_primary(
        &mut self,
        inode: &Inode,
        parent: Ino,
        name: &[u8],
    ) -> Result<bool, Error> {
        if inode.kind == Kind::Directory || inode.nlink <= 1 {
            return Ok(true);
        }
        let link: Option<LinkRow> = self.load(&keys::link(inode.ino, parent, name)).await?;
        Ok(link.is_some_and(|link| link.primary))
    }

    /// The store doesn't have the state of this inode: makes, or keeps, its unsynced row. The caller
    /// writes the inode afterwards. Nothing happens for what the store can't hold, for the root, and
    /// for what has no name.
    pub(crate) async fn mark_unsynced(
        &mut self,
        row: &mut InodeRow,
        order: Order,
        now: Timestamp,
    ) -> Result<(), Error> {
        let inode = &row.inode;
        if !inode.kind.is_synced() || inode.nlink == 0 || inode.ino == Ino::ROOT {
            return Ok(());
        }
        let node = row.unsynced_on.unwrap_or(self.shared.node);
        let key = keys::unsynced(node, inode.ino);
        let before: Option<UnsyncedRow> = match row.unsynced_on {
            Some(_) => self.load(&key).await?,
            None => None,
        };
        let stamp = self.take_seq()?;
        let unsynced = UnsyncedRow {
            seq: match (&before, order) {
                (Some(before), Order::Keep) => before.seq,
                _ => stamp,
            },
            stamp,
            since: before.map_or(now, |before| before.since),
        };
        if before.is_none() && node == self.shared.node {
            self.unsynced_delta += 1;
        }
        row.unsynced_on = Some(node);
        self.put(&key, &unsynced)
    }

    /// The store has the state of this inode, or nobody wants it any more. The caller writes the
    /// inode afterwards.
    pub(crate) fn clear_unsynced(&mut self, row: &mut InodeRow) {
        if let Some(node) = row.unsynced_on.take() {
            if node == self.shared.node {
                self.unsynced_delta -= 1;
            }
            self.clear(&keys::unsynced(node, row.inode.ino));
        }
    }

    /// Sets who writes this file, in the inode and in the index.
    pub(crate) fn set_writer(
        &mut self,
        row: &mut InodeRow,
        writer: Option<NodeId>,
    ) -> Result<(), Error> {
        let ino = row.inode.ino;
        let before = std::mem::replace(&mut row.inode.content.writer, writer);
        if before == writer {
            return Ok(());
        }
        if let Some(node) = before {
            self.clear(&keys::writer(node, ino));
        }
        if let Some(node) = writer {
            self.put(&keys::writer(node, ino), &MarkRow)?;
        }
        Ok(())
    }

    /// Whose origin this object is.
    pub(crate) async fn claim(&mut self, object: &str) -> Result<Option<Ino>, Error> {
        let row: Option<ClaimRow> = self.load(&keys::claim(object)).await?;
        Ok(row.map(|row| row.ino))
    }

    /// `ino` has lost interest in the object of its origin. If nobody else has taken it over, it is
    /// garbage.
    pub(crate) async fn release(
        &mut self,
        ino: Ino,
        origin: &Origin,
        directory: bool,
    ) -> Result<(), Error> {
        if self.claim(&origin.key).await? == Some(ino) {
            self.clear(&keys::claim(&origin.key));
            let garbage = GarbageRow {
                etag: origin.etag.clone(),
                directory,
            };
            self.put(&keys::garbage(&origin.key), &garbage)?;
        }
        Ok(())
    }
}

/// Numbers ran out between their refill and their use, because many transactions began at once:
/// try again with a fresh batch.
fn out_of_numbers() -> Error {
    Error::Store(KvError::Conflict)
}

/// Refuses what can't be a name.
pub(crate) fn check_name(name: &[u8]) -> Result<(), Error> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::NameTooLong {
            bytes: name.len(),
            bytes_max: NAME_BYTES_MAX,
        });
    }
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Error::InvalidName {
            name: String::from_utf8_lossy(name).into_owned(),
        });
    }
    Ok(())
}
