//! Bringing files into the cache before anybody reads them: `fused load`.
//!
//! One task walks through the tree and queues the files that it meets; others fetch them, many small ones side by
//! side and the pieces of a large one too. The queue is long, so that what is to be done is known soon, and
//! bounded; so are the files and the bytes under way. What is here already is not fetched: a load that was
//! interrupted goes on where it was, in the middle of a file too.
//!
//! A load takes no more room than there is (see `room`): it makes the evictor give up other files, never what it
//! has brought in itself, and stops when that is not enough. A file that can't be fetched does not stop it, many in
//! a row do: the store is away.
//!
//! It ends with the [`Load`], between two requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use journal::{Ino, Kind};
use nix::errno::Errno;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::bring_in::Bringer;
use super::walk::Unmet;
use super::{Error, Result, Vfs};

/// Files under way at once. A small one costs two requests one after the other: at 30 ms, these make a thousand a
/// second.
const FILES_MAX: usize = 64;

/// Files known and not yet begun: what makes the totals right early. A MiB of memory.
const QUEUE_MAX: usize = 1 << 16;

/// Failures told one by one.
const FAILURES_MAX: usize = 1000;

/// So many failures without a success in between are the store's.
const FAILURES_IN_A_ROW_MAX: u32 = 20;

/// How far a load is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadProgress {
    /// Files met so far.
    pub files_total: u64,
    /// Of these, files that are not done.
    pub files_left: u64,
    /// Bytes to be fetched, as far as they are known: a file counts whole until it is looked at.
    pub bytes_total: u64,
    /// Of these, bytes that are not here yet.
    pub bytes_left: u64,
    /// The totals may still grow.
    pub listing: bool,
}

/// What a load did.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Files of which bytes were fetched, and that are all here now.
    pub files: u64,
    /// Bytes fetched.
    pub bytes: u64,
    /// Files that were all here already.
    pub resident: u64,
    /// Files that by a rule do not stay here.
    pub skipped: u64,
    /// What could not be brought in: the first ones.
    pub failures: Vec<Unmet>,
    /// How many there were.
    pub failures_total: u64,
    /// Why it ended before its end.
    pub stopped: Option<Stopped>,
}

/// Why a load ended before its end.
#[derive(Debug)]
pub enum Stopped {
    /// The cache or its disk can't take more.
    NoRoom(Error),
    /// Too much failed.
    Failing,
    /// Nobody waits for it any more.
    Abandoned,
}

/// A load under way. Ends when this is dropped.
pub struct Load {
    job: Arc<Job>,
    task: JoinHandle<()>,
}

impl Load {
    /// How far it is.
    pub fn progress(&self) -> LoadProgress {
        self.job.state.lock().progress
    }

    /// Until it has ended.
    pub async fn ended(&mut self) {
        // A panic in it has been told by the runtime; what was done is still the answer.
        let _ = (&mut self.task).await;
    }

    /// What it did so far.
    pub fn outcome(&self) -> Loaded {
        std::mem::take(&mut self.job.state.lock().loaded)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.job.stop(Stopped::Abandoned);
    }
}

struct Job {
    vfs: Vfs,
    stopped: AtomicBool,
    /// Locks for moments.
    state: Mutex<State>,
    held: Mutex<Vec<Ino>>,
}

#[derive(Default)]
struct State {
    progress: LoadProgress,
    loaded: Loaded,
    failures_in_a_row: u32,
}

/// A file that was met.
struct Queued {
    ino: Ino,
    bytes: u64,
}

impl Vfs {
    /// Begins to bring in all files at and below these paths, relative to the root.
    pub fn load(&self, paths: Vec<Vec<u8>>) -> Load {
        let job = Arc::new(Job {
            vfs: self.clone(),
            stopped: AtomicBool::new(false),
            state: Mutex::default(),
            held: Mutex::default(),
        });
        job.state.lock().progress.listing = true;
        let task = tokio::spawn(Arc::clone(&job).run(paths));
        Load { job, task }
    }
}

impl Job {
    async fn run(self: Arc<Self>, paths: Vec<Vec<u8>>) {
        let (queue, mut queued) = mpsc::channel(QUEUE_MAX);
        let walk = tokio::spawn(Arc::clone(&self).walk(paths, queue));
        let mut under_way = JoinSet::new();
        while let Some(file) = queued.recv().await {
            while under_way.len() >= FILES_MAX {
                under_way.join_next().await;
            }
            if self.is_stopped() {
                break;
            }
            under_way.spawn(Arc::clone(&self).bring(file));
        }
        drop(queued);
        while under_way.join_next().await.is_some() {}
        // It ends when nobody takes what it queues.
        let _ = walk.await;
        let held = std::mem::take(&mut *self.held.lock());
        for ino in held {
            self.vfs.inner.space.room.let_go(ino);
        }
    }

    async fn walk(self: Arc<Self>, paths: Vec<Vec<u8>>, queue: mpsc::Sender<Queued>) {
        let mut walk = self.vfs.walk(paths);
        while let Some(met) = walk.next().await {
            if self.is_stopped() {
                break;
            }
            let inode = match met {
                Ok(met) if met.inode.kind == Kind::File => met.inode,
                Ok(_) => continue,
                Err(unmet) => {
                    self.failed(unmet);
                    continue;
                }
            };
            self.met(inode.size);
            let file = Queued {
                ino: inode.ino,
                bytes: inode.size,
            };
            if queue.send(file).await.is_err() {
                break;
            }
        }
        self.state.lock().progress.listing = false;
    }

    /// One file, and what became of it.
    async fn bring(self: Arc<Self>, file: Queued) {
        let progress = FileProgress {
            job: &self,
            left_bytes: Mutex::new(file.bytes),
        };
        let brought = self.bring_file(file.ino, &progress).await;
        drop(progress);
        match brought {
            Ok(Some(bytes)) => self.brought(bytes),
            Ok(None) => self.state.lock().loaded.skipped += 1,
            // Removed since it was met.
            Err(Error::Posix(Errno::ENOENT | Errno::ESTALE)) => {}
            Err(_) if self.is_stopped() => {}
            Err(error) if error.errno() == Errno::ENOSPC => self.stop(Stopped::NoRoom(error)),
            Err(error) => {
                let path = self.vfs.journal().path(file.ino).await;
                let path = path.ok().flatten().unwrap_or_default().join(&b'/');
                self.failed(Unmet { path, error });
            }
        }
        self.state.lock().progress.files_left -= 1;
    }

    /// The bytes that were fetched; `None`: it is not to be here.
    async fn bring_file(&self, ino: Ino, progress: &FileProgress<'_>) -> Result<Option<u64>> {
        let vfs = &self.vfs;
        if vfs.is_skipped(ino).await? {
            return Ok(None);
        }
        let inode = vfs.inode(ino).await?;
        self.hold(ino);
        let brought = vfs.bring_in(inode, progress).await?;
        vfs.inner.space.tenants.wanted(ino, brought.takes_bytes);
        Ok(Some(brought.fetched_bytes))
    }

    /// Until the load ends, the evictor leaves it alone.
    fn hold(&self, ino: Ino) {
        self.vfs.inner.space.room.hold(ino);
        self.held.lock().push(ino);
    }

    fn met(&self, bytes: u64) {
        let progress = &mut self.state.lock().progress;
        progress.files_total += 1;
        progress.files_left += 1;
        progress.bytes_total += bytes;
        progress.bytes_left += bytes;
    }

    fn brought(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.failures_in_a_row = 0;
        match bytes {
            0 => state.loaded.resident += 1,
            _ => state.loaded.files += 1,
        }
    }

    fn failed(&self, unmet: Unmet) {
        tracing::warn!(path = %unmet.path.escape_ascii(), error = %unmet.error, "cannot load");
        let mut state = self.state.lock();
        state.failures_in_a_row += 1;
        let gives_up = state.failures_in_a_row >= FAILURES_IN_A_ROW_MAX;
        let loaded = &mut state.loaded;
        loaded.failures_total += 1;
        if loaded.failures.len() < FAILURES_MAX {
            loaded.failures.push(unmet);
        }
        drop(state);
        if gives_up {
            self.stop(Stopped::Failing);
        }
    }

    /// The first reason counts.
    fn stop(&self, why: Stopped) {
        if !self.stopped.swap(true, Ordering::AcqRel) {
            self.state.lock().loaded.stopped = Some(why);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire) || self.vfs.is_ending()
    }
}

/// What of a file the progress still counts as to be fetched.
struct FileProgress<'job> {
    job: &'job Job,
    left_bytes: Mutex<u64>,
}

impl Bringer for FileProgress<'_> {
    // The rest is nothing to wait for.
    fn to_fetch(&self, bytes: u64) {
        let mut left = self.left_bytes.lock();
        let here = left.saturating_sub(bytes);
        *left -= here;
        let progress = &mut self.job.state.lock().progress;
        progress.bytes_total -= here;
        progress.bytes_left -= here;
    }

    fn landed(&self, bytes: u64) {
        let mut left = self.left_bytes.lock();
        let landed = bytes.min(*left);
        *left -= landed;
        let state = &mut self.job.state.lock();
        state.progress.bytes_left -= landed;
        state.loaded.bytes += bytes;
    }

    fn waits_for_room(&self) -> bool {
        true
    }

    fn is_stopped(&self) -> bool {
        self.job.is_stopped()
    }
}

impl Drop for FileProgress<'_> {
    fn drop(&mut self) {
        // All here, or failed: nothing more comes of it.
        self.to_fetch(0);
    }
}
