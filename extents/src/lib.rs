//! Extents: the bytes of files on the local NVMe.
//!
//! One sparse file per inode and content generation, in a directory of a local file system, or in several on
//! several devices. The local file system is the allocator, and the file's own map of data and holes is the record of what is resident:
//! nothing to keep in step, nothing to rebuild. The crate knows nothing of FUSE, the journal or the
//! object store. Whoever uses it knows up to which length a hole means "not fetched yet" (`valid`), and
//! that beyond it a hole is zero.
//!
//! - [`ExtentStore`]: opens, creates, removes, lists extent files, and spreads them over the directories.
//! - `directory`: one of them; probes what the file system can do; counts space; remembers how the last run
//!   ended and whether the device failed.
//! - [`ExtentFile`]: reads, writes, fills, holes, syncs of one file, and what happens when they meet.
//! - `io`: the engine below: io_uring or threads, aligned memory.
//!
//! Limits of the process that matter: RLIMIT_NOFILE (one descriptor per open extent file, a second one
//! once direct I/O was used on it; without room for the second, I/O goes through the page cache),
//! RLIMIT_FSIZE (a write beyond it is EFBIG, and SIGXFSZ unless ignored: the daemon runs without that
//! limit). RLIMIT_MEMLOCK doesn't matter on kernels from 5.12: no memory is registered or locked.

mod directory;
mod error;
mod file;
mod id;
mod io;
mod prepared;
mod store;

pub use directory::{Capabilities, IoMode, Options, PreviousRun, Standing, Usage};
pub use error::Error;
pub use file::{ExtentFile, READ_POOLED_MAX, Seal, SeekTo, Stat};
pub use id::ExtentId;
pub use store::{ExtentStore, Short};

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;
