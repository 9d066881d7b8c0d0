//! A directory of extent files.
//!
//! Layout (see [`crate::id`] for the names): 256 shard directories of mode 0700 with files of mode 0600,
//! and `state` (see `run`). Anything else in there is left alone. One daemon uses a directory at a
//! time; keeping others out is the business of whoever owns the cache directory as a whole.
//!
//! There is at most one live [`ExtentFile`] per id, however often it is opened: the rules for
//! concurrent fills and writes live in it. The registry of live ones holds weak references; an entry
//! goes when the last user does. A fill in flight keeps its file alive, so a file that is opened again
//! meanwhile is the same one.
//!
//! A failed fdatasync poisons the store: the kernel has dropped the pages that it couldn't write and will
//! report success next time, so nothing later can be believed. Every later write, fill and sync fails
//! with [`Error::Poisoned`]; reads go on.

mod aside;
mod probe;
mod run;
mod usage;

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

pub use run::PreviousRun;

use crate::id::shard_path;
use crate::io::Engine;
use crate::io::buffer::{POOL_BYTES_MAX, Pool};
use crate::{Error, ExtentFile, ExtentId, Result};
pub(crate) use probe::reopen_direct;
pub(crate) use usage::{Account, STAT_BLOCK_BYTES, Tally};

/// What is kept free for the files that are there is at most this.
const KEPT_BYTES_MAX: u64 = 1 << 30;

/// Which I/O engine to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoMode {
    /// io_uring where the kernel allows it, else threads.
    #[default]
    Auto,
    /// Threads with pread and pwrite.
    Plain,
    /// No threads at all: each request is a task of the runtime that it comes from, and so is what would
    /// block. On a runtime of one thread the order of tasks is then all that decides what happens.
    Tasks,
}

/// How to open a store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Which I/O engine to use.
    pub io: IoMode,
    /// Somebody vouches that what was written survives any boot, synced or not; then no boot counts as
    /// [`PreviousRun::UncleanBoot`].
    pub durable_after_boot: bool,
}

/// What the probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The unit of residency in bytes, a power of two, at least 4 KiB.
    pub granule: u64,
    /// O_DIRECT works.
    pub direct: bool,
    /// io_uring works and is used.
    pub uring: bool,
    /// Files can share blocks (FICLONE).
    pub reflink: bool,
}

/// Space, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Taken by extent files. Grows to the whole during the scan after opening.
    pub used_bytes: u64,
    /// Whether that scan is done.
    pub used_complete: bool,
    /// Free on the file system, for an unprivileged user.
    pub fs_free_bytes: u64,
    /// The size of the file system.
    pub fs_total_bytes: u64,
}

impl Usage {
    /// What new files may take without making the file system short of room: what is free beyond a sixteenth of it. Of
    /// a large one a GiB is enough to keep, for others may have filled it to that sixteenth long ago.
    pub fn room_bytes(&self) -> u64 {
        let kept = (self.fs_total_bytes / 16).min(KEPT_BYTES_MAX);
        self.fs_free_bytes.saturating_sub(kept)
    }
}

/// An extent file that nobody need have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its space, in bytes.
    pub allocated_bytes: u64,
    /// When it was last filled, changed or read, in seconds since 1970; of reads, most file systems note the first
    /// of a day, or none.
    pub last_use: i64,
}

/// One directory of extent files. Clones share everything.
#[derive(Clone)]
pub(crate) struct Directory {
    inner: Arc<Inner>,
}

/// What the store and its files share.
pub(crate) struct Inner {
    dir: PathBuf,
    device: u64,
    pub(crate) capabilities: Capabilities,
    pub(crate) engine: Engine,
    pub(crate) pool: Pool,
    pub(crate) tally: Tally,
    previous_run: PreviousRun,
    poison: OnceLock<String>,
    direct: AtomicBool,
    /// Live files. Held for lookups only: never during I/O, and no `Arc<ExtentFile>` is dropped under
    /// it, because that drop takes it. Lock order: innermost.
    files: Mutex<HashMap<ExtentId, Weak<ExtentFile>>>,
}

impl Directory {
    /// Opens the store in `dir`, which is made if it isn't there; finds out what the file system can do
    /// and refuses one that won't do.
    pub fn open(dir: &Path, options: Options) -> Result<Directory> {
        let not_writable = |source| Error::NotWritable {
            dir: dir.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(not_writable)?;
        let dir = &dir.canonicalize().map_err(not_writable)?;
        probe::refuse_network(dir)?;
        for shard in 0..=u8::MAX {
            match DirBuilder::new().mode(0o700).create(shard_path(dir, shard)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(not_writable(error));
                }
                _ => {}
            }
        }
        let answers = probe::probe(dir)?;
        let previous_run = run::previous(dir, options.durable_after_boot)?;
        let (engine, why_plain) = Engine::start(options.io)
            .map_err(|error| Error::io("starting I/O threads", dir.display(), error))?;
        let capabilities = Capabilities {
            granule: answers.granule,
            direct: answers.direct,
            uring: engine.is_ring(),
            reflink: answers.reflink,
        };
        let device = fs::metadata(dir).map_err(not_writable)?.dev();
        let inner = Arc::new(Inner {
            dir: dir.clone(),
            device,
            capabilities,
            engine,
            pool: Pool::new(POOL_BYTES_MAX),
            tally: Tally::default(),
            previous_run,
            poison: OnceLock::new(),
            direct: AtomicBool::new(answers.direct),
            files: Mutex::default(),
        });
        let store = Directory { inner };
        let space = store.usage()?;
        tracing::info!(
            dir = %dir.display(),
            free_bytes = space.fs_free_bytes,
            granule_bytes = capabilities.granule,
            direct = capabilities.direct,
            io_uring = why_plain.as_deref().unwrap_or("yes"),
            reflink = capabilities.reflink,
            ?previous_run,
            "extent store opened"
        );
        store.start_scan()?;
        Ok(store)
    }

    /// Counts the space in the background; ends early when the store is dropped.
    fn start_scan(&self) -> Result<()> {
        let (dir, inner) = (self.inner.dir.clone(), Arc::downgrade(&self.inner));
        let scan = move || {
            // Once the scan is the only one left to hold the store, nobody wants its result.
            if let Some(inner) = inner.upgrade() {
                inner.tally.scan(&dir, || Arc::strong_count(&inner) == 1);
            }
        };
        if self.inner.engine.is_tasks() {
            scan();
            return Ok(());
        }
        let spawned = std::thread::Builder::new()
            .name("extents-scan".to_owned())
            .spawn(scan);
        spawned
            .map(drop)
            .map_err(|error| Error::io("starting the space scan", self.inner.dir.display(), error))
    }

    /// Runs work that may wait for a disk where it keeps no task from running. It is done even if nobody waits.
    pub fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.inner.aside(work)
    }

    /// Makes a new, empty extent file, unless it was `made` ahead. Nothing is synced: `sync_data` does that.
    pub fn create(&self, id: ExtentId, made: Option<File>) -> Result<Arc<ExtentFile>> {
        self.inner.check()?;
        let _point = killpoints::around("extent create");
        let file = match made {
            Some(file) => file,
            None => self.make(id)?,
        };
        // Takes the account, if the scan is still to come.
        self.inner.tally.included(id);
        Ok(self.register(ExtentFile::created(Arc::clone(&self.inner), id, file)))
    }

    /// Makes a file that [`Directory::create`] can be given later.
    pub fn make(&self, id: ExtentId) -> Result<File> {
        self.inner.check()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(id.path(&self.inner.dir));
        file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists { id },
            _ => Error::io("creating", id, error),
        })
    }

    /// Removes one that was made and not given.
    pub fn unmake(&self, id: ExtentId) -> Result<()> {
        match fs::remove_file(id.path(&self.inner.dir)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("removing", id, error))
            }
            _ => Ok(()),
        }
    }

    /// The file, if somebody has it open.
    pub fn live(&self, id: ExtentId) -> Option<Arc<ExtentFile>> {
        self.inner.live(id)
    }

    /// Opens an extent file; `None` if there is none.
    pub fn open_file(&self, id: ExtentId) -> Result<Option<Arc<ExtentFile>>> {
        match OpenOptions::new()
            .read(true)
            .write(true)
            .open(id.path(&self.inner.dir))
        {
            Ok(file) => self.adopt(id, file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("opening", id, error)),
        }
    }

    /// Whether there is an extent file of this name.
    pub fn has(&self, id: ExtentId) -> Result<bool> {
        let there = id.path(&self.inner.dir).try_exists();
        there.map_err(|error| Error::io("stat", id, error))
    }

    fn adopt(&self, id: ExtentId, file: File) -> Result<Arc<ExtentFile>> {
        let included = self.inner.tally.included(id);
        let ours = ExtentFile::adopt(Arc::clone(&self.inner), id, file, included)?;
        Ok(self.register(ours))
    }

    /// The file as the one of its id, unless somebody was faster: then theirs is the one.
    fn register(&self, ours: Arc<ExtentFile>) -> Arc<ExtentFile> {
        let mut files = self.inner.files.lock();
        match files.get(&ours.id()).and_then(Weak::upgrade) {
            Some(theirs) => {
                // Its drop takes the lock.
                drop(files);
                drop(ours);
                theirs
            }
            None => {
                files.insert(ours.id(), Arc::downgrade(&ours));
                ours
            }
        }
    }

    /// Removes an extent file; one that isn't there is fine. Whoever has it open keeps it until they
    /// close it, and so does its space.
    pub fn remove(&self, id: ExtentId) -> Result<()> {
        let _point = killpoints::around("extent remove");
        let (live, closed_bytes) = self.before_leaving(id);
        match fs::remove_file(id.path(&self.inner.dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("removing", id, error)),
            Ok(()) => self.left(id, live, closed_bytes),
        }
        Ok(())
    }

    /// What has to be known of a file before its name goes: who has it open, or its space if nobody.
    fn before_leaving(&self, id: ExtentId) -> (Option<Arc<ExtentFile>>, u64) {
        let live = self.inner.live(id);
        let closed_bytes = match (&live, fs::symlink_metadata(id.path(&self.inner.dir))) {
            (None, Ok(metadata)) => metadata.blocks() * STAT_BLOCK_BYTES,
            _ => 0,
        };
        (live, closed_bytes)
    }

    /// The name of a file is gone: it is no longer found, and its space no longer counted.
    fn left(&self, id: ExtentId, live: Option<Arc<ExtentFile>>, closed_bytes: u64) {
        self.inner.files.lock().remove(&id);
        match live {
            Some(file) => file.unlinked(),
            None if self.inner.tally.included(id) => self.inner.tally.add(-(closed_bytes as i64)),
            None => {}
        }
    }

    /// All extent files of an inode.
    pub fn ids_of(&self, ino: u64) -> Result<Vec<ExtentId>> {
        let shard = ExtentId { ino, generation: 0 }.shard();
        let ids = ids_in(&shard_path(&self.inner.dir, shard))?;
        ids.filter(|id| id.as_ref().map_or(true, |id| id.ino == ino))
            .collect()
    }

    /// What an extent file takes and when it was last used; `None` if there is none.
    pub fn standing(&self, id: ExtentId) -> Result<Option<Standing>> {
        match std::fs::metadata(id.path(&self.inner.dir)) {
            Ok(metadata) => Ok(Some(Standing {
                allocated_bytes: metadata.blocks() * STAT_BLOCK_BYTES,
                last_use: metadata.atime().max(metadata.ctime()),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("stat", id, error)),
        }
    }

    /// All extent files there are, in no order, while they come and go.
    pub fn list(&self) -> impl Iterator<Item = Result<ExtentId>> + Send + use<> {
        let dir = self.inner.dir.clone();
        (0..=u8::MAX).flat_map(move |shard| match ids_in(&shard_path(&dir, shard)) {
            Ok(ids) => Box::new(ids) as Box<dyn Iterator<Item = Result<ExtentId>> + Send>,
            Err(error) => Box::new(std::iter::once(Err(error))),
        })
    }

    /// Space taken and free.
    pub fn usage(&self) -> Result<Usage> {
        let answer = nix::sys::statvfs::statvfs(&self.inner.dir);
        let answer =
            answer.map_err(|error| Error::io("statvfs", self.inner.dir.display(), error))?;
        Ok(Usage {
            used_bytes: self.inner.tally.used_bytes(),
            used_complete: self.inner.tally.is_complete(),
            fs_free_bytes: answer.blocks_available() * answer.fragment_size(),
            fs_total_bytes: answer.blocks() * answer.fragment_size(),
        })
    }

    /// Where it is, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.inner.dir
    }

    /// The device of its file system.
    pub fn device(&self) -> u64 {
        self.inner.device
    }

    /// See [`Usage::room_bytes`].
    pub fn room_bytes(&self) -> Result<u64> {
        Ok(self.usage()?.room_bytes())
    }

    /// Space taken, in bytes, without asking the file system.
    pub fn used_bytes(&self) -> u64 {
        self.inner.tally.used_bytes()
    }

    /// What the probe found.
    pub fn capabilities(&self) -> Capabilities {
        self.inner.capabilities
    }

    /// How the run before this one ended.
    pub fn previous_run(&self) -> PreviousRun {
        self.inner.previous_run
    }

    /// What the last run left behind has been put right, a new one begins. Before anything is written.
    pub fn mark_running(&self) -> Result<()> {
        self.inner.check()?;
        run::begin(&self.inner.dir)
    }

    /// The last act of an orderly stop: records that nothing was left unsynced. The caller has synced everything.
    pub fn mark_clean(&self) -> Result<()> {
        self.inner.check()?;
        run::end(&self.inner.dir)
    }

    /// Returns when everything in the file system of the cache directory is on the disk.
    pub fn sync_all(&self) -> Result<()> {
        self.inner.check()?;
        let dir = &self.inner.dir;
        let sync = File::open(dir).and_then(|handle| Ok(nix::unistd::syncfs(handle)?));
        sync.map_err(|error| {
            self.inner
                .poison("syncfs", &dir.display().to_string(), &error)
        })
    }

    /// Why the store accepts no more writes, if so.
    pub fn poisoned(&self) -> Option<String> {
        self.inner.poison.get().cloned()
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory")
            .field("dir", &self.inner.dir)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// See [`Directory::aside`].
    pub(crate) fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        match self.engine.is_tasks() {
            true => tokio::spawn(async move { work() }),
            false => tokio::task::spawn_blocking(work),
        }
    }

    /// Fails if the store is poisoned.
    pub(crate) fn check(&self) -> Result<()> {
        match self.poison.get() {
            Some(reason) => Err(Error::Poisoned {
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Poisons the store; the first reason stays.
    pub(crate) fn poison(&self, op: &str, what: &str, error: &io::Error) -> Error {
        let reason = self.poison.get_or_init(|| {
            tracing::error!(%error, op, what, "the cache device failed; no more writes are accepted");
            format!("{op} of {what}: {error}")
        });
        Error::Poisoned {
            reason: reason.clone(),
        }
    }

    /// Whether direct I/O is to be tried.
    pub(crate) fn direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    /// Direct I/O was refused although the probe succeeded: no more of it, said once.
    pub(crate) fn direct_failed(&self, id: ExtentId, error: &io::Error) {
        if self.direct.swap(false, Ordering::Relaxed) {
            tracing::warn!(%id, %error, "direct I/O was refused; going on through the page cache");
        }
    }

    /// Drops the entry of a file that is going, unless a newer one has taken its place.
    pub(crate) fn forget(&self, id: ExtentId) {
        let mut files = self.files.lock();
        if files.get(&id).is_some_and(|file| file.strong_count() == 0) {
            files.remove(&id);
        }
    }

    fn live(&self, id: ExtentId) -> Option<Arc<ExtentFile>> {
        self.files.lock().get(&id).and_then(Weak::upgrade)
    }
}

/// The ids in a shard directory; names that aren't ours are passed over.
fn ids_in(path: &Path) -> Result<impl Iterator<Item = Result<ExtentId>> + Send + use<>> {
    let shown = path.display().to_string();
    let entries = fs::read_dir(path).map_err(|error| Error::io("listing", &shown, error))?;
    Ok(entries.filter_map(move |entry| match entry {
        Ok(entry) => Some(Ok(ExtentId::parse(entry.file_name().to_str()?)?)),
        Err(error) => Some(Err(Error::io("listing", &shown, error))),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_disk_that_others_have_nearly_filled_has_room() {
        let room = |fs_total_bytes, fs_free_bytes| {
            let usage = Usage {
                used_bytes: 0,
                used_complete: true,
                fs_free_bytes,
                fs_total_bytes,
            };
            usage.room_bytes()
        };
        assert_eq!(room(16 << 20, 3 << 20), 2 << 20);
        assert_eq!(room(16 << 20, 1 << 20), 0);
        assert_eq!(room(252 << 30, 14 << 30), 13 << 30);
        assert_eq!(room(252 << 30, 1 << 30), 0);
    }
}
