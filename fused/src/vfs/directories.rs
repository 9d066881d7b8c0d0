//! opendir and readdir.
//!
//! Entries come a block at a time, so memory does not grow with the directory, and the first one is
//! returned before the second block is read. An offset is a place (see `directory_blocks`): it stays
//! valid while other names come and go.
//!
//! Names may wait here for the next call, attributes never: the kernel takes what it is told with an
//! entry for the newest state, and the file may have been written since its block was read.
//!
//! The kernel keeps the names that it has read. Changes made through the mount it sees itself; of all others
//! it is told when the directory is opened again ([`OpenedDirectory::is_unchanged`]).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use journal::{DirEntry, Ino, Inode, Journal, Kind, Timestamp};
use nix::errno::Errno;
use parking_lot::{Mutex, RwLock};

use super::directory_blocks::{Blocks, Names};
use super::{Attributes, Result, Vfs};

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
}

/// What opendir(3) gives.
#[derive(Clone, Copy, Debug)]
pub struct OpenedDirectory {
    /// Names it in later calls.
    pub handle: u64,
    /// Whoever has read it after it was last opened has read what it holds now.
    pub is_unchanged: bool,
}

/// Open directories.
#[derive(Default)]
pub struct DirectoryTable {
    handles: RwLock<HashMap<u64, Arc<OpenDirectory>>>,
    next: AtomicU64,
    /// What each directory was when it was last opened. A lock for moments.
    seen: Mutex<HashMap<Ino, State>>,
}

/// Directories whose state is remembered. Beyond that all are forgotten, and read again.
const SEEN_MAX: usize = 1 << 14;

/// Moves with every change of a directory's names, by programs, by the flusher, or learned from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    mtime: Timestamp,
    ctime: Timestamp,
    listed: Timestamp,
}

struct OpenDirectory {
    ino: Ino,
    parent: Ino,
    blocks: Blocks,
    /// What was read and not yet taken. A lock for moments.
    ready: Mutex<Ready>,
}

/// The places of `.` and `..`.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

/// Entries that follow the last one taken.
#[derive(Default)]
struct Ready {
    /// Where the first of `entries` follows.
    offset: u64,
    entries: VecDeque<DirectoryEntry>,
}

/// The names of a directory, from the journal.
struct JournalNames<'j> {
    journal: &'j Journal,
    directory: Ino,
}

impl Names for JournalNames<'_> {
    async fn after(&self, name: Option<&[u8]>, limit: usize) -> Result<Vec<DirEntry>> {
        Ok(self.journal.read_dir(self.directory, name, limit).await?)
    }
}

impl Vfs {
    /// opendir(3). The directory is learned from the store first, if that is due.
    pub async fn open_directory(&self, ino: Ino) -> Result<OpenedDirectory> {
        let directory = self.inode(ino).await?;
        if directory.kind != Kind::Directory {
            return Err(Errno::ENOTDIR.into());
        }
        self.list_if_stale(ino).await?;
        // Looked at before any name is read: what changes after this is a change at the next time.
        let is_unchanged = self.is_unchanged(&directory).await?;
        let table = &self.inner.directories;
        let id = table.next.fetch_add(1, Ordering::Relaxed) + 1;
        let open = OpenDirectory {
            ino,
            parent: directory.parent,
            blocks: Blocks::default(),
            ready: Mutex::default(),
        };
        table.handles.write().insert(id, Arc::new(open));
        Ok(OpenedDirectory {
            handle: id,
            is_unchanged,
        })
    }

    /// Whether the directory is as it was when it was last opened.
    async fn is_unchanged(&self, directory: &Inode) -> Result<bool> {
        let listing = self.believed_listing(directory.ino).await?;
        let mut seen = self.inner.directories.seen.lock();
        let Some(listing) = listing else {
            seen.remove(&directory.ino);
            return Ok(false);
        };
        if seen.len() >= SEEN_MAX {
            seen.clear();
        }
        let state = State {
            mtime: directory.mtime,
            ctime: directory.ctime,
            listed: listing.at,
        };
        Ok(seen.insert(directory.ino, state) == Some(state))
    }

    /// closedir(3).
    pub fn close_directory(&self, handle: u64) {
        let closed = self.inner.directories.handles.write().remove(&handle);
        if let Some(closed) = closed {
            self.inner.reaper.closed(closed.ino);
        }
    }

    /// Some entries after `offset`, none at the end. What the caller does not take is kept for
    /// the next call.
    pub async fn read_directory(&self, handle: u64, offset: u64) -> Result<Vec<DirectoryEntry>> {
        let open = self.inner.directories.handles.read().get(&handle).cloned();
        let open = open.ok_or(Errno::EBADF)?;
        if offset == 0 {
            // opendir or rewinddir: the directory as it is now.
            open.blocks.rewind();
        } else if let Some(ready) = open.ready.lock().after(offset) {
            return Ok(ready);
        }
        let dots = [(DOT, &b"."[..], open.ino), (DOT_DOT, b"..", open.parent)];
        let dots = dots.into_iter().filter(|(place, _, _)| *place > offset);
        let mut entries: Vec<_> = dots
            .map(|(offset, name, ino)| DirectoryEntry {
                offset,
                name: name.to_vec(),
                ino,
                kind: Kind::Directory,
            })
            .collect();
        let names = JournalNames {
            journal: self.journal(),
            directory: open.ino,
        };
        let found = open.blocks.read(offset, &names).await?;
        entries.extend(found.into_iter().map(|(offset, entry)| DirectoryEntry {
            offset,
            name: entry.name,
            ino: entry.ino,
            kind: entry.kind,
        }));
        *open.ready.lock() = Ready {
            offset,
            entries: entries.iter().cloned().collect(),
        };
        Ok(entries)
    }

    /// The attributes of some entries, as they are now; `None` for one that is gone.
    pub async fn entry_attributes(
        &self,
        entries: &[DirectoryEntry],
    ) -> Result<Vec<Option<Attributes>>> {
        let numbers: Vec<Ino> = entries.iter().map(|entry| entry.ino).collect();
        let inodes = self.journal().inodes(&numbers).await?;
        let learned = self.learn_all(inodes).await?;
        let attributes = learned
            .into_iter()
            .map(|inode| inode.map(|inode| self.attributes_of(&inode)).transpose());
        attributes.collect()
    }
}

impl DirectoryTable {
    /// Whether somebody has the directory open.
    pub fn is_open(&self, ino: Ino) -> bool {
        self.handles.read().values().any(|open| open.ino == ino)
    }
}

impl Ready {
    /// What was read before and follows `offset`, if anything was.
    fn after(&mut self, offset: u64) -> Option<Vec<DirectoryEntry>> {
        let is_here = self.entries.iter().any(|entry| entry.offset == offset);
        if offset != self.offset && !is_here {
            return None;
        }
        while let Some(first) = self.entries.front()
            && first.offset <= offset
        {
            self.entries.pop_front();
        }
        self.offset = offset;
        match self.entries.is_empty() {
            true => None,
            false => Some(self.entries.iter().cloned().collect()),
        }
    }
}
