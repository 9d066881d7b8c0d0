//! What a flusher is started with: the rooms it connects, its limits, and who wants to hear from it.
//!
//! The defaults are meant for one machine with a NVMe cache in front of an object store some
//! milliseconds away: 128 MiB of parts in flight saturate 10 Gbit/s at 100 ms per request.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use extents::{ExtentId, ExtentStore};
use journal::{Ino, Journal, NodeId};
use remote::{Capabilities, Remote};

/// The three crates the flusher connects.
#[derive(Clone)]
pub struct Rooms {
    /// What is wanted, and what the store is known to have.
    pub journal: Journal,
    /// Where the bytes are.
    pub extents: ExtentStore,
    /// Where they go.
    pub remote: Remote,
    /// What the store can do, as its probe found out.
    pub capabilities: Capabilities,
}

/// Which files wait for which before they become visible in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublishOrder {
    /// Every file waits for every file closed before it in its own directory or below.
    Strict,
    /// Every file waits for the multipart-sized files closed before it in its own directory or below.
    #[default]
    Default,
    /// Files become visible as soon as they are uploaded.
    None,
}

/// What is done where somebody else has changed an object that is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Theirs keeps the key, the local version gets a name of its own.
    #[default]
    KeepBoth,
    /// The local version takes the place of theirs.
    Ours,
    /// Theirs becomes the file's content; the local version is kept aside.
    Theirs {
        /// The folder for it, on the file system of the extents.
        aside: PathBuf,
    },
}

/// How long a failing step waits before it is tried again: full jitter between zero and a bound that
/// doubles from `min` to `max`, never less than a tenth of the bound.
#[derive(Clone, Copy, Debug)]
pub struct BackoffLimits {
    /// The bound after the first failure.
    pub min: Duration,
    /// The bound that it grows to.
    pub max: Duration,
    /// The bound for errors that only a human can clear (no permission, a key too long).
    pub max_permanent: Duration,
}

impl Default for BackoffLimits {
    fn default() -> Self {
        Self {
            min: Duration::from_millis(200),
            max: Duration::from_secs(30),
            max_permanent: Duration::from_secs(60),
        }
    }
}

/// Somebody who wants to hear what the flusher did, at once and without waiting. Called on the
/// flusher's tasks: implementations must not block.
pub trait Events: Send + Sync {
    /// The newest version of this inode, under its present name, is in the store.
    fn clean(&self, _ino: Ino) {}
    /// Somebody else changed the object: the local version now has the name `kept_as`.
    fn conflict(&self, _ino: Ino, _kept_as: &[u8]) {}
    /// Somebody else's version has become the content of this inode; `old` holds the one before.
    fn superseded(&self, _ino: Ino, _old: ExtentId) {}
}

/// Nobody listens.
struct Silence;
impl Events for Silence {}

/// Everything [`crate::Flusher::start`] needs.
#[derive(Clone)]
pub struct FlusherConfig {
    /// The crates it connects.
    pub rooms: Rooms,
    /// This daemon; part of the mark that objects carry, and of the names of conflicting versions.
    pub node: NodeId,
    /// Memory for parts in flight, over all uploads.
    pub memory_bytes_max: u64,
    /// Files and directories worked on at once. Three quarters of it, and 16, are the most that multipart
    /// files may take, so that small ones always move.
    pub uploads_max: usize,
    /// Parts of one file in flight at once.
    pub parts_parallel: usize,
    /// Files up to this size go in a single put.
    pub single_put_bytes_max: u64,
    /// Smallest part of a multipart upload (raised to the store's own minimum, and as a file needs).
    pub part_bytes_min: u64,
    /// Objects above this size are not copied by the server (S3: 5 GiB in one request) but uploaded.
    pub copy_bytes_max: u64,
    /// Quiet time between the last close of a file and its upload.
    pub settle: Duration,
    /// The same for names that look temporary: they are usually renamed or deleted soon.
    pub settle_temporary: Duration,
    /// Which files wait for which.
    pub publish_order: PublishOrder,
    /// What is done about others' changes.
    pub on_conflict: OnConflict,
    /// Remember what is uploaded block by block, and compare what comes back.
    pub verify: bool,
    /// How failures are paced.
    pub backoff: BackoffLimits,
    /// How often the journal is scanned although nobody called `wake`.
    pub rescan: Duration,
    /// How old a multipart upload must be whose name was never heard before it is aborted.
    pub stray_age: Duration,
    /// How long a request that nobody heard of again may take to reach the store: the last daemon's, or one that
    /// broke off. Until then nothing is known to be absent that one of them may have put there.
    pub late_max: Duration,
    /// Rows kept in memory at once; the rest waits in the journal.
    pub work_items_max: usize,
    /// Who hears of results.
    pub events: Arc<dyn Events>,
}

impl FlusherConfig {
    /// A configuration with the defaults.
    pub fn new(rooms: Rooms, node: NodeId) -> Self {
        Self {
            rooms,
            node,
            memory_bytes_max: 128 << 20,
            uploads_max: 32,
            parts_parallel: 4,
            single_put_bytes_max: 8 << 20,
            part_bytes_min: 16 << 20,
            copy_bytes_max: 5 << 30,
            settle: Duration::from_millis(500),
            settle_temporary: Duration::from_secs(3),
            publish_order: PublishOrder::Default,
            on_conflict: OnConflict::KeepBoth,
            verify: true,
            backoff: BackoffLimits::default(),
            rescan: Duration::from_secs(10),
            stray_age: Duration::from_secs(24 * 60 * 60),
            late_max: Duration::from_secs(15),
            work_items_max: 8192,
            events: Arc::new(Silence),
        }
    }
}

impl fmt::Debug for FlusherConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlusherConfig")
            .field("memory_bytes_max", &self.memory_bytes_max)
            .field("uploads_max", &self.uploads_max)
            .field("settle", &self.settle)
            .field("publish_order", &self.publish_order)
            .finish_non_exhaustive()
    }
}
