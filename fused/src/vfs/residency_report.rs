//! How much of a tree is in the cache: `fused ls`.
//!
//! A walk (see `walk`) whose files are told one by one, or summed for each entry of the directory that was asked
//! for. Either way memory is that of the walk. Sizes and states are those of the moment at which a file is met.

use std::collections::VecDeque;

use extents::Standing;
use journal::{Inode, Kind};

use super::pins::Pinned;
use super::walk::{Met, Unmet, Walk};
use super::{Result, Vfs, extent_id};

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residency {
    /// Relative to the root of the file system; empty for the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Files that are counted.
    pub files: u64,
    /// Their sizes.
    pub bytes: u64,
    /// Of these, bytes on the local disk.
    pub resident: u64,
    /// Files whose newest version is not in the store.
    pub dirty: u64,
    /// Whether it is kept in the cache.
    pub pinned: Pinned,
}

/// A report under way.
pub struct Report {
    vfs: Vfs,
    walk: Walk,
    /// Every file by itself.
    each: bool,
    /// The sum that is being made.
    open: Option<Residency>,
    /// What is to be told next.
    ready: VecDeque<std::result::Result<Residency, Unmet>>,
}

impl Vfs {
    /// Reports on what is at these paths, relative to the root, and in these directories: each file below, or one
    /// line for each entry with all that is below it.
    pub fn residency(&self, paths: Vec<Vec<u8>>, each: bool) -> Report {
        Report {
            vfs: self.clone(),
            walk: self.walk(paths),
            each,
            open: None,
            ready: VecDeque::new(),
        }
    }

    async fn residency_of(&self, inode: &Inode) -> Result<(u64, bool)> {
        if inode.kind != Kind::File {
            return Ok((0, false));
        }
        let is_dirty = self.state(inode).await? != flusher::State::Clean;
        // A look that opens nothing does for what is all here or not at all.
        let standing = self.extents().standing(extent_id(inode))?;
        let resident = match standing {
            None => 0,
            Some(Standing {
                allocated_bytes: 0, ..
            }) => 0,
            Some(_) => self.resident_bytes(inode)?,
        };
        Ok((resident, is_dirty))
    }
}

impl Report {
    /// The next line; nothing at the end. `Ok(None)` says that a long sum goes on.
    pub async fn next(&mut self) -> Option<std::result::Result<Option<Residency>, Unmet>> {
        if let Some(line) = self.ready.pop_front() {
            return Some(line.map(Some));
        }
        match self.walk.next().await {
            Some(Ok(met)) => {
                let path = met.path.clone();
                if let Err(error) = self.take(met).await {
                    self.ready.push_back(Err(Unmet { path, error }));
                }
                Some(Ok(None))
            }
            Some(Err(unmet)) => Some(Err(unmet)),
            None => self.open.take().map(|sum| Ok(Some(sum))),
        }
    }

    async fn take(&mut self, met: Met) -> Result<()> {
        let is_directory = met.inode.kind == Kind::Directory;
        let is_line = match self.each {
            true => !is_directory,
            // The entries of what was asked for, and what is no directory itself.
            false => met.depth == 1 || (met.depth == 0 && !is_directory),
        };
        if is_line {
            let line = Residency {
                path: met.path,
                kind: met.inode.kind,
                files: 0,
                bytes: 0,
                resident: 0,
                dirty: 0,
                pinned: self.vfs.pinned(met.inode.ino).await?,
            };
            if let Some(sum) = self.open.replace(line) {
                self.ready.push_back(Ok(sum));
            }
        } else if met.depth == 0
            && let Some(sum) = self.open.take()
        {
            self.ready.push_back(Ok(sum));
        }
        if met.inode.kind == Kind::File {
            let (resident, is_dirty) = self.vfs.residency_of(&met.inode).await?;
            if let Some(sum) = &mut self.open {
                sum.files += 1;
                sum.bytes += met.inode.size;
                sum.resident += resident;
                sum.dirty += u64::from(is_dirty);
            }
        }
        Ok(())
    }
}
