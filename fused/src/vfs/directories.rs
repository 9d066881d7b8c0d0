//! opendir and readdir.
//!
//! Entries come in name order, a page at a time, so memory does not grow with the directory. An
//! offset is the number of an entry within this opendir; the handle remembers which name it stands
//! for, exactly for the latest entries and for every 64th of the older ones, so that a stream goes
//! on at the right name while other names come and go.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use journal::{Ino, Kind};
use nix::errno::Errno;
use parking_lot::{Mutex, RwLock};

use super::{Attributes, Result, Vfs};

/// Entries read from the journal at once.
const PAGE: usize = 256;

/// Latest entries whose names are remembered exactly.
const EXACT: u64 = 8 * PAGE as u64;

/// Of the older ones, every so-many-th is.
const SPARSE: u64 = 64;

/// One directory entry.
#[derive(Clone, Debug)]
pub struct DirectoryEntry {
    /// Where a later read goes on after this entry.
    pub offset: u64,
    /// Its name.
    pub name: Vec<u8>,
    /// Its inode.
    pub ino: Ino,
    /// Its type.
    pub kind: Kind,
    /// Its attributes, when asked for.
    pub attributes: Option<Attributes>,
}

/// Open directories.
#[derive(Default)]
pub struct DirectoryTable {
    handles: RwLock<HashMap<u64, Arc<OpenDirectory>>>,
    next: AtomicU64,
}

struct OpenDirectory {
    ino: Ino,
    parent: Ino,
    cursor: Mutex<Cursor>,
}

/// Offsets 1 and 2 are `.` and `..`; names start at 3.
const FIRST_NAME: u64 = 3;

#[derive(Default)]
struct Cursor {
    /// Entries read from the journal and not yet taken, the next one first.
    ready: VecDeque<DirectoryEntry>,
    /// Which name an offset stands for.
    names: BTreeMap<u64, Vec<u8>>,
}

impl Vfs {
    /// opendir(3). The directory is learned from the store first, if that is due.
    pub async fn open_directory(&self, ino: Ino) -> Result<u64> {
        let directory = self.inode(ino).await?;
        if directory.kind != Kind::Directory {
            return Err(Errno::ENOTDIR.into());
        }
        self.list_if_stale(ino).await?;
        let table = &self.inner.directories;
        let id = table.next.fetch_add(1, Ordering::Relaxed) + 1;
        let open = OpenDirectory {
            ino,
            parent: directory.parent,
            cursor: Mutex::default(),
        };
        table.handles.write().insert(id, Arc::new(open));
        Ok(id)
    }

    /// closedir(3).
    pub fn close_directory(&self, handle: u64) {
        self.inner.directories.handles.write().remove(&handle);
    }

    /// Some entries after `offset`, none at the end. What the caller does not take is kept for
    /// the next call.
    pub async fn read_directory(
        &self,
        handle: u64,
        offset: u64,
        attributes: bool,
    ) -> Result<Vec<DirectoryEntry>> {
        let open = self.inner.directories.handles.read().get(&handle).cloned();
        let open = open.ok_or(Errno::EBADF)?;
        if let Some(ready) = open.cursor.lock().ready_after(offset) {
            return Ok(ready);
        }
        let mut entries = Vec::new();
        if offset < 1 {
            entries.push(self.dot(1, b".", open.ino, attributes).await?);
        }
        if offset < 2 {
            entries.push(self.dot(2, b"..", open.parent, attributes).await?);
        }
        let first = offset.max(FIRST_NAME - 1) + 1;
        let after = open.cursor.lock().name_before(first);
        let (skip, after) = match after {
            Some((known, name)) => (first - 1 - known, Some(name)),
            None => (first - FIRST_NAME, None),
        };
        entries.extend(
            self.page(open.ino, first, skip as usize, after, attributes)
                .await?,
        );
        open.cursor.lock().remember(&entries);
        Ok(entries)
    }

    async fn page(
        &self,
        directory: Ino,
        first: u64,
        skip: usize,
        after: Option<Vec<u8>>,
        attributes: bool,
    ) -> Result<Vec<DirectoryEntry>> {
        let found = self
            .journal()
            .read_dir(directory, after.as_deref(), skip + PAGE)
            .await?;
        let found: Vec<_> = found.into_iter().skip(skip).collect();
        let mut inodes = vec![None; found.len()];
        if attributes {
            let numbers: Vec<Ino> = found.iter().map(|entry| entry.ino).collect();
            inodes = self
                .learn_all(self.journal().inodes(&numbers).await?)
                .await?;
        }
        let entries = found.into_iter().zip(inodes).zip(first..);
        entries
            .map(|((entry, inode), offset)| {
                let attributes = inode.map(|inode| self.attributes_of(&inode)).transpose()?;
                Ok(DirectoryEntry {
                    offset,
                    name: entry.name,
                    ino: entry.ino,
                    kind: entry.kind,
                    attributes,
                })
            })
            .collect()
    }

    async fn dot(
        &self,
        offset: u64,
        name: &[u8],
        ino: Ino,
        attributes: bool,
    ) -> Result<DirectoryEntry> {
        Ok(DirectoryEntry {
            offset,
            name: name.to_vec(),
            ino,
            kind: Kind::Directory,
            attributes: match attributes {
                true => Some(self.attributes(ino).await?),
                false => None,
            },
        })
    }
}

impl Cursor {
    /// What was read before and follows `offset`, if anything was.
    fn ready_after(&mut self, offset: u64) -> Option<Vec<DirectoryEntry>> {
        while self
            .ready
            .front()
            .is_some_and(|entry| entry.offset <= offset)
        {
            self.ready.pop_front();
        }
        match self.ready.front() {
            Some(entry) if entry.offset == offset + 1 => Some(self.ready.iter().cloned().collect()),
            _ => {
                self.ready.clear();
                None
            }
        }
    }

    /// The latest remembered name before entry `first`.
    fn name_before(&self, first: u64) -> Option<(u64, Vec<u8>)> {
        let (&offset, name) = self.names.range(..first).next_back()?;
        Some((offset, name.clone()))
    }

    fn remember(&mut self, entries: &[DirectoryEntry]) {
        self.ready = entries.iter().cloned().collect();
        let names = entries.iter().filter(|entry| entry.offset >= FIRST_NAME);
        for entry in names {
            self.names.insert(entry.offset, entry.name.clone());
        }
        let Some(last) = entries.last().map(|entry| entry.offset) else {
            return;
        };
        let sparse_below = last.saturating_sub(EXACT);
        let thinned_from = sparse_below.saturating_sub(2 * EXACT);
        let thinned: Vec<u64> = self
            .names
            .range(thinned_from..sparse_below)
            .map(|(&offset, _)| offset)
            .filter(|offset| offset % SPARSE != 0)
            .collect();
        for offset in thinned {
            self.names.remove(&offset);
        }
    }
}
