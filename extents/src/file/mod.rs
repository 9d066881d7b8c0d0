//! One extent file.
//!
//! - `residency`: which ranges are data, asked and remembered;
//! - `gate`: who may touch which range at the same time (the rules for concurrency);
//! - `read`, `fill`, `write`: the bytes; `sync`: durability, write-back and seals.
//!
//! The remembered map follows everything done through this type. Writes that the kernel does on its own
//! (FUSE passthrough) are seen by [`ExtentFile::load_residency`]; passthrough is only for files without
//! missing ranges, so the map may say "missing" too often, never too rarely.
//!
//! Residency is what the file system says at 4 KiB or coarser; beyond the length up to which the origin
//! is valid a hole is just zero, and it's up to the caller to know that length.

mod fill;
mod gate;
mod kernel;
mod read;
pub(crate) mod residency;
mod sync;
mod write;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use rangemap::RangeSet;
use tokio::sync::{RwLock, oneshot};

use crate::directory::{Account, Inner, STAT_BLOCK_BYTES, reopen_direct};
use crate::{Error, ExtentId, Result};
use gate::Gate;

pub use kernel::SeekTo;
pub use read::READ_POOLED_MAX;
pub use sync::Seal;

/// One request to an engine at most: large enough for full speed, small enough to spread over the queue.
const CHUNK_BYTES: u64 = 1 << 20;

/// What fstat says of an extent file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The length in bytes.
    pub size: u64,
    /// Time of the last change of content: seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Time of the last change of anything.
    pub ctime: (i64, u32),
    /// Space taken.
    pub allocated_bytes: u64,
}

/// An open extent file; at most one per id is alive.
pub struct ExtentFile {
    id: ExtentId,
    store: Arc<Inner>,
    file: Arc<File>,
    /// The second descriptor, once it was needed.
    direct: OnceLock<Arc<File>>,
    gate: Gate,
    account: Account,
    unlinked: AtomicBool,
    users: Arc<RwLock<()>>,
    /// This very value: a fill in flight keeps it alive.
    me: Weak<ExtentFile>,
}

impl ExtentFile {
    /// Takes over an opened file. `included`: its space is in the store's sum already.
    pub(crate) fn adopt(
        store: Arc<Inner>,
        id: ExtentId,
        file: File,
        included: bool,
    ) -> Result<Arc<ExtentFile>> {
        let failed = |error: io::Error| Error::io("reading the map", id, error);
        let allocated_bytes = file.metadata().map_err(failed)?.blocks() * STAT_BLOCK_BYTES;
        let map = residency::scan(&file).map_err(failed)?;
        let account = Account::starting_at(if included { allocated_bytes } else { 0 });
        account.set(&store.tally, allocated_bytes);
        Ok(Self::with(store, id, file, map, account))
    }

    /// Takes over a file that was just made, and is empty.
    pub(crate) fn created(store: Arc<Inner>, id: ExtentId, file: File) -> Arc<ExtentFile> {
        Self::with(store, id, file, RangeSet::new(), Account::starting_at(0))
    }

    fn with(
        store: Arc<Inner>,
        id: ExtentId,
        file: File,
        map: RangeSet<u64>,
        account: Account,
    ) -> Arc<ExtentFile> {
        let gate = Gate::new(map, store.capabilities.granule);
        Arc::new_cyclic(|me| ExtentFile {
            id,
            store,
            file: Arc::new(file),
            direct: OnceLock::new(),
            gate,
            account,
            unlinked: AtomicBool::new(false),
            users: Arc::default(),
            me: me.clone(),
        })
    }

    /// Which one it is.
    pub fn id(&self) -> ExtentId {
        self.id
    }

    /// Size, times and space, from fstat.
    pub fn stat(&self) -> Result<Stat> {
        let metadata = self
            .file
            .metadata()
            .map_err(|error| self.error("stat", error))?;
        let allocated_bytes = metadata.blocks() * STAT_BLOCK_BYTES;
        self.account.set(&self.store.tally, allocated_bytes);
        Ok(Stat {
            size: metadata.size(),
            mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
            ctime: (metadata.ctime(), metadata.ctime_nsec() as u32),
            allocated_bytes,
        })
    }

    /// What is data now, asked of the file system.
    pub fn resident(&self) -> Result<RangeSet<u64>> {
        residency::scan(&self.file).map_err(|error| self.error("reading the map", error))
    }

    /// Brings the remembered map up to date with the file system: after writes that went past this
    /// type, as FUSE passthrough does. Opening has done it once.
    pub fn load_residency(&self) -> Result<()> {
        self.gate
            .rescan(|| residency::scan(&self.file))
            .map_err(|error| self.error("reading the map", error))
    }

    /// A lock for those who use this file, which takes it nowhere: shared by whoever uses bytes that it found, or
    /// makes, resident, exclusive for evicting them. It is the file's, because what was begun for one open may
    /// outlast it and meet the next.
    pub fn users(&self) -> &Arc<RwLock<()>> {
        &self.users
    }

    /// What has to be fetched before `range` can be read, given that holes below
    /// `valid` are not zeros but not fetched: granules with a hole in them, merged, cut off at `valid`.
    pub fn missing(&self, range: Range<u64>, valid: u64) -> Vec<Range<u64>> {
        self.gate.missing(&range, valid)
    }

    /// What has to be fetched before all of `range` can be overwritten: as [`ExtentFile::missing`], but only
    /// of the granules at its edges, which would become data as a whole.
    pub fn missing_edges(&self, range: Range<u64>, valid: u64) -> Vec<Range<u64>> {
        self.gate.missing_edges(&range, valid)
    }

    /// Whether nothing below `valid` has to be fetched.
    pub fn is_resident(&self, valid: u64) -> bool {
        self.gate.covers(valid)
    }

    fn size(&self) -> Result<u64> {
        Ok(self
            .file
            .metadata()
            .map_err(|error| self.error("stat", error))?
            .size())
    }

    /// The descriptor for direct I/O, if there can be one.
    fn direct_file(&self) -> Option<&Arc<File>> {
        if !self.store.direct() {
            return None;
        }
        if let Some(file) = self.direct.get() {
            return Some(file);
        }
        match reopen_direct(&self.file) {
            Ok(file) => Some(self.direct.get_or_init(|| Arc::new(file))),
            Err(error) => {
                // Out of descriptors, for one: the page cache does for now, and next time is another try.
                if error.raw_os_error() == Some(libc::EINVAL) {
                    self.store.direct_failed(self.id, &error);
                }
                None
            }
        }
    }

    fn error(&self, op: &'static str, error: impl Into<io::Error>) -> Error {
        Error::io(op, self.id, error)
    }

    /// The result of a request that was started.
    async fn told(
        &self,
        op: &'static str,
        told: oneshot::Receiver<io::Result<usize>>,
    ) -> Result<io::Result<usize>> {
        told.await.map_err(|_| Error::Stopped {
            op,
            what: self.id.to_string(),
        })
    }

    /// Its name is gone; its space goes with the last user.
    pub(crate) fn unlinked(&self) {
        self.unlinked.store(true, Ordering::Relaxed);
    }
}

/// Pieces of a range, cut at multiples of the chunk size.
fn chunks(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let start = at;
        at = ((start / CHUNK_BYTES + 1) * CHUNK_BYTES).min(range.end);
        (start < range.end).then_some(start..at)
    })
}

impl AsFd for ExtentFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for ExtentFile {
    fn drop(&mut self) {
        if self.unlinked.load(Ordering::Relaxed) {
            self.account.set(&self.store.tally, 0);
        } else if let Ok(metadata) = self.file.metadata() {
            self.account
                .set(&self.store.tally, metadata.blocks() * STAT_BLOCK_BYTES);
        }
        self.store.forget(self.id);
    }
}

impl std::fmt::Debug for ExtentFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExtentFile")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
