//! What the file system *means*: every call of a program as a method, without a FUSE type.
//!
//! The FUSE front translates kernel requests into these calls; tests, and later an S3 gateway or
//! a peer service, make the same ones. A call works on inode numbers, names as bytes and open
//! handles, and answers with plain values or an [`Error`] that carries its errno.
//!
//! | file | what it holds |
//! |---|---|
//! | `tree` | names: lookup, create, link, unlink, rename |
//! | `listing`, `ghosts` | directories that the store knows and the journal has yet to learn; those that are gone |
//! | `directories`, `directory_blocks` | opendir, readdir, places in a directory |
//! | `open_table`, `open`, `changes` | open files, their mode, close; what was changed meanwhile |
//! | `listener` | what the flusher tells of that concerns open files |
//! | `nursery` | extent files made ahead while many files are created |
//! | `data` | read, write, truncate, fsync |
//! | `cold_reads`, `readahead`, `fetch`, `fetch_state`, `flights`, `arrivals` | bytes that are only in the store |
//! | `attributes`, `metadata`, `xattrs` | stat, chmod and friends, extended attributes, access control lists |
//! | `set_id`, `caller` | when set-user-ID and set-group-ID bits go, and who may keep them |
//! | `space` | statfs, the cache budget, holding writers back |
//! | `evict`, `evictor`, `eviction_order` | giving up local bytes: how, when, of what |
//! | `walk`, `load`, `bring_in`, `room` | whole trees; bringing them in, as far as there is room |
//! | `prefetch`, `sequences` | bringing in the files that a reader is likely to open next |
//! | `pins`, `residency_report` | what is to stay here; what is here |
//! | `recovery`, `reaper`, `replaced` | what a crash, unlink, a rename over a file left behind |
//!
//! The kernel checks permissions (`default_permissions`) before it asks.

mod arrivals;
mod attributes;
mod begin_again;
mod bring_in;
mod budget;
mod caller;
mod changes;
mod cold_reads;
mod data;
mod directories;
mod directory_blocks;
mod error;
mod evict;
mod eviction_order;
mod evictor;
mod expiry;
mod fetch;
mod fetch_state;
mod flights;
mod ghosts;
mod listener;
mod listing;
mod load;
mod metadata;
mod nursery;
mod open;
mod open_table;
mod pins;
mod prefetch;
mod readahead;
mod reaper;
mod recovery;
mod replaced;
mod residency_report;
mod room;
mod rules;
mod sequences;
mod set_id;
mod space;
mod tree;
mod walk;
mod xattrs;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use extents::{ExtentId, ExtentStore};
use flusher::Flusher;
use journal::{Ino, Inode, Journal, NodeId, Timestamp};
use remote::Remote;

pub use attributes::Attributes;
pub use caller::Caller;
pub use directories::DirectoryEntry;
pub use error::{Error, Result};
pub use evict::Freed;
pub use listener::Listener;
pub use load::{Load, LoadProgress, Loaded, Stopped};
pub use metadata::SetAttributes;
pub use open::{OpenRequest, Opened};
pub use open_table::Mode;
pub use pins::{Pinned, Unpinned, is_below};
pub use prefetch::Prefetched;
pub use recovery::Recovered;
pub use residency_report::{Report, Residency};
pub use rules::{Rule, Rules};
pub use space::Space;
pub use walk::{Met, Unmet, Walk};

/// How a file system is to behave; see the mount options of the same names.
#[derive(Clone)]
pub struct Config {
    /// fsync(2) returns when the object is in the store, not when bytes, size and name survive a power cut of this
    /// machine.
    pub fsync_waits_for_store: bool,
    /// close(2) of what was written returns when the object is in the store, not when it survives the end of the
    /// daemon.
    pub close_waits_for_store: bool,
    /// How long what the store said is believed. Zero: every open asks.
    pub revalidate: Duration,
    /// What a listing has of an object will do until the file is opened or changed.
    pub shows_what_is_listed: bool,
    /// Owner of objects that carry none.
    pub uid: u32,
    /// Group of objects that carry none.
    pub gid: u32,
    /// Mode bits taken from objects that carry none (from 0666 and 0777).
    pub umask: u32,
    /// Nothing may be changed.
    pub read_only: bool,
    /// Bytes that the extents may occupy, given how many they could have at most: the free bytes of their
    /// file system plus their own.
    pub cache_limit: Arc<dyn Fn(u64) -> u64 + Send + Sync>,
    /// How long a writer is held back while the cache is full of dirty data, before ENOSPC.
    pub dirty_wait: Duration,
    /// How long a change is left alone before it is uploaded or, if that protects something, synced.
    pub settle: Duration,
    /// Whether the kernel may be given extent files (passthrough).
    pub passthrough: bool,
    /// Whether files are brought in ahead of readers that go through a directory.
    pub prefetch: bool,
    /// What holds for some paths only; `None` = nothing for any.
    pub rules: Option<Rules>,
}

/// Tells the kernel to forget what it cached. Implementations must not wait for the kernel.
pub trait Invalidate: Send + Sync {
    /// The attributes and pages of an inode.
    fn inode(&self, ino: Ino);
    /// The name in a directory.
    fn entry(&self, parent: Ino, name: &[u8]);
    /// Whether the kernel says when it has forgotten an inode; see [`Vfs::forgotten`].
    fn is_answered(&self) -> bool;
}

/// Where nothing is mounted, nobody is to be told.
pub struct NoKernel;

impl Invalidate for NoKernel {
    fn inode(&self, _ino: Ino) {}
    fn entry(&self, _parent: Ino, _name: &[u8]) {}
    fn is_answered(&self) -> bool {
        false
    }
}

/// The rooms that a file system is built from.
pub struct Parts {
    /// Metadata.
    pub journal: Journal,
    /// Local bytes.
    pub extents: ExtentStore,
    /// The object store.
    pub remote: Remote,
    /// Whether objects carry mode, owner and times.
    pub attributes_on_objects: bool,
    /// Makes the store agree with the journal.
    pub flusher: Flusher,
    /// This daemon.
    pub node: NodeId,
    /// Kernel caches.
    pub invalidate: Arc<dyn Invalidate>,
}

/// A file system. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Vfs {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    parts: Parts,
    opens: open_table::OpenTable,
    directories: directories::DirectoryTable,
    watched: set_id::Watched,
    listings: listing::Listings,
    fetcher: fetch::Fetcher,
    nursery: nursery::Nursery,
    prefetcher: prefetch::Prefetcher,
    reaper: reaper::Reaper,
    space: space::Ledger,
    passthrough: AtomicBool,
    ending: AtomicBool,
}

impl Vfs {
    /// Puts a file system together, for [`Vfs::recover`] and then [`Vfs::begin`].
    pub fn new(config: Config, parts: Parts) -> Self {
        let vfs = Self {
            inner: Arc::new(Inner {
                passthrough: config.passthrough.into(),
                ending: false.into(),
                space: space::Ledger::default(),
                config,
                parts,
                opens: open_table::OpenTable::default(),
                directories: directories::DirectoryTable::default(),
                watched: set_id::Watched::default(),
                listings: listing::Listings::default(),
                fetcher: fetch::Fetcher::default(),
                nursery: nursery::Nursery::default(),
                prefetcher: prefetch::Prefetcher::default(),
                reaper: reaper::Reaper::default(),
            }),
        };
        vfs.look_at_budget();
        vfs
    }

    /// Starts the background work (flushing, reaping, eviction) on the current tokio runtime; it runs
    /// until the last clone is gone.
    pub fn begin(&self) {
        reaper::spawn(&self.inner);
        evictor::spawn(&self.inner);
        if !self.inner.config.read_only {
            self.flusher().begin();
        }
    }

    /// The journal below.
    pub fn journal(&self) -> &Journal {
        &self.inner.parts.journal
    }

    /// The flusher below.
    pub fn flusher(&self) -> &Flusher {
        &self.inner.parts.flusher
    }

    /// How long the kernel may believe names and attributes.
    pub fn ttl(&self) -> Duration {
        self.inner.config.revalidate
    }

    /// How long the kernel may believe these attributes.
    pub fn ttl_of(&self, attributes: &Attributes) -> Duration {
        match attributes.is_set_id() {
            true => Duration::ZERO,
            false => self.ttl(),
        }
    }

    /// Whether the kernel is to use extent files by itself where it can.
    pub fn wants_passthrough(&self) -> bool {
        self.inner.config.passthrough
    }

    /// The kernel refused a backing file: from now on every new open goes through the daemon.
    pub fn disable_passthrough(&self) {
        self.inner.passthrough.store(false, Ordering::Relaxed);
    }

    /// The daemon ends: what only fills the cache ends as well.
    pub fn end(&self) {
        self.inner.ending.store(true, Ordering::Relaxed);
    }

    fn is_ending(&self) -> bool {
        self.inner.ending.load(Ordering::Relaxed)
    }

    fn extents(&self) -> &ExtentStore {
        &self.inner.parts.extents
    }

    fn remote(&self) -> &Remote {
        &self.inner.parts.remote
    }

    /// The inode, or ESTALE: the kernel asks only for what it was told of.
    async fn inode(&self, ino: Ino) -> Result<Inode> {
        let inode = self.journal().inode(ino).await?;
        inode.ok_or(Error::Posix(nix::errno::Errno::ESTALE))
    }

    fn writable(&self) -> Result<()> {
        match self.inner.config.read_only {
            true => Err(nix::errno::Errno::EROFS.into()),
            false => Ok(()),
        }
    }
}

/// The extent file that holds an inode's present content.
fn extent_id(inode: &Inode) -> ExtentId {
    ExtentId {
        ino: inode.ino.0,
        generation: inode.content.generation,
    }
}

/// The extent file after this one.
fn next_generation(id: ExtentId) -> ExtentId {
    ExtentId {
        generation: id.generation + 1,
        ..id
    }
}

/// The extent file that holds the version of a file before its present one.
fn former_id(former: &journal::Former) -> ExtentId {
    ExtentId {
        ino: former.ino.0,
        generation: former.generation,
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}
