//! Everything at and below some paths, for the commands that go through whole trees.
//!
//! A directory comes before what is in it, names come in the journal's order, and each directory is learned
//! from the store when it is entered, not before: the first entries are there after one listing. Memory is a
//! page of entries for each level of the tree, however large its directories are.
//!
//! What can't be entered is told by its path, and the walk goes on beside it. What comes and goes meanwhile may
//! be met or not, as in any directory that is read.

use std::collections::VecDeque;

use journal::{Ino, Inode, Kind};

use super::{Error, Result, Vfs};

/// Entries read from the journal at once.
const PAGE: usize = 256;

/// What a walk met.
#[derive(Debug)]
pub struct Met {
    /// Relative to the root of the file system; empty for the root.
    pub path: Vec<u8>,
    /// How many directories below the path that was asked for.
    pub depth: usize,
    /// What is there.
    pub inode: Inode,
}

/// A path that can't be followed.
#[derive(Debug)]
pub struct Unmet {
    /// As [`Met::path`].
    pub path: Vec<u8>,
    /// Why not.
    pub error: Error,
}

/// A walk under way.
pub struct Walk {
    vfs: Vfs,
    starts: VecDeque<Vec<u8>>,
    /// From the start to where we are.
    levels: Vec<Level>,
}

/// A directory that is being read.
struct Level {
    directory: Ino,
    path: Vec<u8>,
    page: VecDeque<(Vec<u8>, Inode)>,
    read: Read,
}

enum Read {
    Nothing,
    UpTo(Vec<u8>),
    All,
}

impl Vfs {
    /// Walks through everything at and below these paths, relative to the root.
    pub fn walk(&self, paths: impl IntoIterator<Item = Vec<u8>>) -> Walk {
        Walk {
            vfs: self.clone(),
            starts: paths.into_iter().collect(),
            levels: Vec::new(),
        }
    }

    /// What a path leads to. No symbolic link is followed.
    pub(super) async fn find_path(&self, path: &[u8]) -> Result<Inode> {
        let mut at = self.inode(Ino::ROOT).await?;
        for name in path.split(|byte| *byte == b'/') {
            if !name.is_empty() {
                at = self.find(at.ino, name).await?;
            }
        }
        Ok(at)
    }
}

impl Walk {
    /// What comes next; nothing at the end.
    pub async fn next(&mut self) -> Option<std::result::Result<Met, Unmet>> {
        loop {
            let depth = self.levels.len();
            let Some(level) = self.levels.last_mut() else {
                let path = self.starts.pop_front()?;
                return Some(self.start(path).await);
            };
            if let Some((name, inode)) = level.page.pop_front() {
                let path = below(&level.path, &name);
                return Some(Ok(self.meet(path, depth, inode)));
            }
            match level.read_page(&self.vfs).await {
                Ok(true) => {}
                Ok(false) => {
                    self.levels.pop();
                }
                Err(error) => {
                    let path = std::mem::take(&mut level.path);
                    self.levels.pop();
                    return Some(Err(Unmet { path, error }));
                }
            }
        }
    }

    async fn start(&mut self, path: Vec<u8>) -> std::result::Result<Met, Unmet> {
        match self.vfs.find_path(&path).await {
            Ok(inode) => Ok(self.meet(path, 0, inode)),
            Err(error) => Err(Unmet { path, error }),
        }
    }

    fn meet(&mut self, path: Vec<u8>, depth: usize, inode: Inode) -> Met {
        if inode.kind == Kind::Directory {
            self.levels.push(Level {
                directory: inode.ino,
                path: path.clone(),
                page: VecDeque::new(),
                read: Read::Nothing,
            });
        }
        Met { path, depth, inode }
    }
}

impl Level {
    /// Whether there was more to read.
    async fn read_page(&mut self, vfs: &Vfs) -> Result<bool> {
        let after = match &self.read {
            Read::Nothing => {
                vfs.list_if_stale(self.directory).await?;
                None
            }
            Read::UpTo(name) => Some(name.as_slice()),
            Read::All => return Ok(false),
        };
        let entries = vfs.journal().read_dir(self.directory, after, PAGE).await?;
        self.read = match entries.last() {
            Some(last) if entries.len() == PAGE => Read::UpTo(last.name.clone()),
            _ => Read::All,
        };
        let numbers: Vec<Ino> = entries.iter().map(|entry| entry.ino).collect();
        let inodes = vfs.journal().inodes(&numbers).await?;
        // One that is gone by now was removed since its name was read.
        let there = entries.into_iter().zip(inodes);
        let there = there.filter_map(|(entry, inode)| Some((entry.name, inode?)));
        self.page.extend(there);
        Ok(true)
    }
}

fn below(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory.is_empty() {
        true => name.to_vec(),
        false => [directory, b"/", name].concat(),
    }
}
