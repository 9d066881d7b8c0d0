//! The extent files of a file system, in one directory or several: one for each device.
//!
//! Nothing says where a file is but the file itself: whoever looks for one looks in every directory, and there are
//! few. A new one goes where there is room: the more room, the more of them ([`place`]). So a directory can be
//! added at any time, and one that is empty can go.
//!
//! An id has a file in one directory at most: whoever makes one has it in `prepared` meanwhile, which gives an id to
//! one at a time, and looks in all of them first.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::directory::{Capabilities, Directory, Options, PreviousRun, Standing, Usage};
use crate::prepared::Prepared;
use crate::{Error, ExtentFile, ExtentId, Result};

/// A directory of several is short of room when less than this share of what the cache has there, or could have, is
/// free, in percent.
const SHORT_PERCENT: u64 = 10;

/// What is given up there then leaves so much free.
const FREED_PERCENT: u64 = 20;

/// The store. Clones share everything.
#[derive(Clone)]
pub struct ExtentStore {
    inner: Arc<Inner>,
}

struct Inner {
    first: Directory,
    further: Vec<Directory>,
    prepared: Prepared<Made>,
}

/// A file made ahead.
struct Made {
    /// As [`ExtentStore::at`] has it.
    directory: usize,
    file: File,
}

/// A directory that is short of room, see [`ExtentStore::short`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// Which, for [`ExtentStore::is_in`].
    pub directory: usize,
    /// What is to go, in bytes.
    pub excess_bytes: u64,
}

impl ExtentStore {
    /// Opens the store in one directory, which is made if it isn't there; finds out what the file system can do and
    /// refuses one that won't do.
    pub fn open(dir: &Path, options: Options) -> Result<ExtentStore> {
        Self::open_all(dir, &[], options)
    }

    /// The same for several directories.
    pub fn open_all(first: &Path, further: &[PathBuf], options: Options) -> Result<ExtentStore> {
        let first = Directory::open(first, options)?;
        let further = further.iter().map(|dir| Directory::open(dir, options));
        let inner = Inner {
            first,
            further: further.collect::<Result<_>>()?,
            prepared: Prepared::default(),
        };
        Ok(ExtentStore {
            inner: Arc::new(inner),
        })
    }

    fn all(&self) -> impl Iterator<Item = &Directory> {
        std::iter::once(&self.inner.first).chain(&self.inner.further)
    }

    fn at(&self, directory: usize) -> &Directory {
        self.all().nth(directory).unwrap_or(&self.inner.first)
    }

    fn is_single(&self) -> bool {
        self.inner.further.is_empty()
    }

    /// The one that has a file.
    fn home(&self, id: ExtentId) -> Result<Option<&Directory>> {
        for directory in self.all() {
            if directory.has(id)? {
                return Ok(Some(directory));
            }
        }
        Ok(None)
    }

    /// Where a new file goes.
    fn place(&self, id: ExtentId) -> Result<usize> {
        if self.is_single() {
            return Ok(0);
        }
        let rooms = self.all().map(Directory::room_bytes);
        let rooms: Vec<u64> = rooms.collect::<Result<_>>()?;
        Ok(place(id, &rooms))
    }

    /// Runs work that may wait for a disk where it keeps no task from running. It is done even if nobody waits.
    pub fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.inner.first.aside(work)
    }

    /// Makes a new, empty extent file. Nothing is synced: `sync_data` does that.
    pub fn create(&self, id: ExtentId) -> Result<Arc<ExtentFile>> {
        let prepared = &self.inner.prepared;
        if let Some(made) = prepared.take(id) {
            return self.at(made.directory).create(id, Some(made.file));
        }
        if self.is_single() {
            return self.inner.first.create(id, None);
        }
        prepared.prepare(id, || self.make(id))?;
        match prepared.take(id) {
            Some(made) => self.at(made.directory).create(id, Some(made.file)),
            // Somebody else has it.
            None => Err(Error::Exists { id }),
        }
    }

    /// Makes the first extent files of these inodes ahead of their `create`. For numbers that are not given out yet.
    pub fn prepare(&self, inos: Range<u64>) -> Result<()> {
        for ino in inos {
            let id = ExtentId { ino, generation: 0 };
            match self.inner.prepared.prepare(id, || self.make(id)) {
                // The number has been given out meanwhile.
                Ok(()) | Err(Error::Exists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn make(&self, id: ExtentId) -> Result<Made> {
        if !self.is_single() && self.home(id)?.is_some() {
            return Err(Error::Exists { id });
        }
        let directory = self.place(id)?;
        let file = self.at(directory).make(id)?;
        Ok(Made { directory, file })
    }

    /// Removes what was made ahead for numbers below this one, and not needed.
    pub fn discard_prepared(&self, below: u64) -> Result<()> {
        let unmake = |id, made: Made| self.at(made.directory).unmake(id);
        self.inner.prepared.discard(below, unmake)
    }

    /// Opens an extent file; `None` if there is none, which means that everything is a hole.
    pub fn open_file(&self, id: ExtentId) -> Result<Option<Arc<ExtentFile>>> {
        if let Some(live) = self.all().find_map(|directory| directory.live(id)) {
            return Ok(Some(live));
        }
        // One that was made ahead is in use from now on.
        drop(self.inner.prepared.take(id));
        for directory in self.all() {
            if let Some(file) = directory.open_file(id)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// Opens an extent file, or makes it.
    pub fn open_or_create(&self, id: ExtentId) -> Result<Arc<ExtentFile>> {
        loop {
            if let Some(file) = self.open_file(id)? {
                return Ok(file);
            }
            match self.create(id) {
                Err(Error::Exists { .. }) => {}
                other => return other,
            }
        }
    }

    /// Removes an extent file; one that isn't there is fine. Whoever has it open keeps it until they
    /// close it, and so does its space.
    pub fn remove(&self, id: ExtentId) -> Result<()> {
        drop(self.inner.prepared.take(id));
        let home = match self.is_single() {
            true => Some(&self.inner.first),
            false => self.home(id)?,
        };
        home.map_or(Ok(()), |home| home.remove(id))
    }

    /// Removes all extent files of an inode except those of one generation.
    pub fn remove_stale(&self, ino: u64, keep_generation: Option<u64>) -> Result<()> {
        for directory in self.all() {
            for id in directory.ids_of(ino)? {
                if Some(id.generation) != keep_generation {
                    self.remove(id)?;
                }
            }
        }
        Ok(())
    }

    /// The space that an extent file takes, in bytes; 0 if there is none.
    pub fn allocated_bytes(&self, id: ExtentId) -> Result<u64> {
        Ok(self
            .standing(id)?
            .map_or(0, |standing| standing.allocated_bytes))
    }

    /// What an extent file takes and when it was last used; `None` if there is none.
    pub fn standing(&self, id: ExtentId) -> Result<Option<Standing>> {
        for directory in self.all() {
            if let Some(standing) = directory.standing(id)? {
                return Ok(Some(standing));
            }
        }
        Ok(None)
    }

    /// All extent files there are, in no order, while they come and go.
    pub fn list(&self) -> impl Iterator<Item = Result<ExtentId>> + Send + use<> {
        let lists: Vec<_> = self.all().map(Directory::list).collect();
        lists.into_iter().flatten()
    }

    /// Space taken and free; what is on the same file system as another directory counts once.
    pub fn usage(&self) -> Result<Usage> {
        let mut devices = Vec::new();
        let mut sum = Usage {
            used_bytes: 0,
            used_complete: true,
            fs_free_bytes: 0,
            fs_total_bytes: 0,
        };
        for directory in self.all() {
            let usage = directory.usage()?;
            sum.used_bytes += usage.used_bytes;
            sum.used_complete &= usage.used_complete;
            if !devices.contains(&directory.device()) {
                devices.push(directory.device());
                sum.fs_free_bytes += usage.fs_free_bytes;
                sum.fs_total_bytes += usage.fs_total_bytes;
            }
        }
        Ok(sum)
    }

    /// Where the store is, without symbolic links.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.all().map(Directory::path)
    }

    /// Of several directories those that have hardly any room left, while others may have. New files do not go
    /// there; what grows there needs that something else goes.
    pub fn short(&self) -> Result<Vec<Short>> {
        if self.is_single() {
            return Ok(Vec::new());
        }
        let mut short = Vec::new();
        for (at, directory) in self.all().enumerate() {
            let usage = directory.usage()?;
            let could_have = usage.used_bytes.saturating_add(usage.fs_free_bytes);
            let share = |percent| could_have / 100 * percent;
            if usage.used_bytes > 0 && usage.fs_free_bytes < share(SHORT_PERCENT) {
                short.push(Short {
                    directory: at,
                    excess_bytes: share(FREED_PERCENT) - usage.fs_free_bytes,
                });
            }
        }
        Ok(short)
    }

    /// Whether one of several directories has room for new files. Of a single one nothing is known here.
    pub fn has_room(&self) -> bool {
        let has_room = |directory: &Directory| !matches!(directory.room_bytes(), Ok(0));
        self.is_single() || self.all().any(has_room)
    }

    /// Whether an extent file is in that directory.
    pub fn is_in(&self, directory: usize, id: ExtentId) -> Result<bool> {
        self.at(directory).has(id)
    }

    /// Space taken, in bytes, without asking the file system.
    pub fn used_bytes(&self) -> u64 {
        self.all().map(Directory::used_bytes).sum()
    }

    /// What the probe found: of several directories what all of them can do.
    pub fn capabilities(&self) -> Capabilities {
        let all = self.all().map(Directory::capabilities);
        let both = |a: Capabilities, b: Capabilities| Capabilities {
            granule: a.granule.max(b.granule),
            direct: a.direct && b.direct,
            uring: a.uring && b.uring,
            reflink: a.reflink && b.reflink,
        };
        all.reduce(both)
            .unwrap_or_else(|| self.inner.first.capabilities())
    }

    /// How the run before this one ended, where it ended worst.
    pub fn previous_run(&self) -> PreviousRun {
        let runs = self.all().map(Directory::previous_run);
        runs.max().unwrap_or(PreviousRun::None)
    }

    /// What the last run left behind has been put right, a new one begins. Before anything is written.
    pub fn mark_running(&self) -> Result<()> {
        self.each(Directory::mark_running)
    }

    /// The last act of an orderly stop: syncs the whole file systems, then records that nothing was
    /// left unsynced. Whatever is written after it isn't covered.
    pub fn mark_clean(&self) -> Result<()> {
        self.sync_all()?;
        self.each(Directory::mark_clean)
    }

    /// Returns when everything in the file systems of the directories is on the disk.
    pub fn sync_all(&self) -> Result<()> {
        self.each(Directory::sync_all)
    }

    /// Why the store accepts no more writes, in one of its directories at least, if so.
    pub fn poisoned(&self) -> Option<String> {
        self.all().find_map(Directory::poisoned)
    }

    /// Copies an extent file into `folder`, under a name as [`ExtentStore::set_aside`] chooses it; the copy and its
    /// name survive a power cut. The file stays where it is; one that isn't there leaves an empty copy.
    pub async fn copy_aside(&self, id: ExtentId, folder: &Path) -> Result<PathBuf> {
        let (home, folder) = self.aside_of(id, folder)?;
        home.copy_aside(id, &folder).await
    }

    /// Moves a closed extent file into `folder` (made with mode 0700; on the same file system as the first directory)
    /// and returns its new path: the file's name, with a number behind it where that is taken. One in another
    /// directory goes to a folder of that name beside it. An extent file that isn't there leaves an empty one.
    pub fn set_aside(&self, id: ExtentId, folder: &Path) -> Result<PathBuf> {
        let (home, folder) = self.aside_of(id, folder)?;
        home.set_aside(id, &folder)
    }

    fn aside_of(&self, id: ExtentId, folder: &Path) -> Result<(&Directory, PathBuf)> {
        let home = self.home(id)?.unwrap_or(&self.inner.first);
        let beside = || Some(home.path().parent()?.join(folder.file_name()?));
        let folder = match std::ptr::eq(home, &self.inner.first) {
            true => folder.to_owned(),
            false => beside().unwrap_or_else(|| folder.to_owned()),
        };
        Ok((home, folder))
    }

    /// All of them, whatever becomes of one; the first error is told.
    fn each(&self, act: impl Fn(&Directory) -> Result<()>) -> Result<()> {
        let acts = self.all().map(act);
        acts.fold(Ok(()), Result::and)
    }
}

impl std::fmt::Debug for ExtentStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.directories()).finish()
    }
}

/// Which of the directories with so much room gets a new file: by chance, in proportion; but always the same for the
/// same rooms. All generations of an inode draw the same lot.
fn place(id: ExtentId, rooms: &[u64]) -> usize {
    let total: u128 = rooms.iter().map(|room| u128::from(*room)).sum();
    // Consecutive numbers are spread evenly (Fibonacci hashing).
    let lot = u128::from(id.ino.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut left = (lot * total) >> 64;
    for (at, room) in rooms.iter().enumerate() {
        let room = u128::from(*room);
        if left < room {
            return at;
        }
        left -= room;
    }
    // No room anywhere: the first one says so.
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(rooms: &[u64]) -> Vec<usize> {
        let mut shares = vec![0; rooms.len()];
        for ino in 1..=10_000 {
            let id = ExtentId { ino, generation: 3 };
            shares[place(id, rooms)] += 1;
        }
        shares
    }

    #[test]
    fn files_are_spread_by_room() {
        assert_eq!(shares(&[7]), [10_000]);
        assert_eq!(shares(&[0, 0]), [10_000, 0]);
        assert_eq!(shares(&[0, 5]), [0, 10_000]);
        let even = shares(&[1 << 40, 1 << 40]);
        assert!(
            even.iter().all(|share| (4_900..5_100).contains(share)),
            "{even:?}"
        );
        let uneven = shares(&[3 << 40, 0, 1 << 40]);
        assert!(
            (7_400..7_600).contains(&uneven[0]) && uneven[1] == 0,
            "{uneven:?}"
        );
    }
}
