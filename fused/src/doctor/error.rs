//! Why a cache directory can't be examined.

use std::io;
use std::path::PathBuf;

use crate::daemon;

/// Why a cache directory can't be examined.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A daemon, or another doctor, uses it.
    #[error(
        "cache directory {} is in use ({owner}): unmount it first, by `fused umount`; a mount repairs what a crash \
         left by itself",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// By whom.
        owner: String,
    },
    /// It has no journal.
    #[error("there is no journal in {}: nothing can be said of this cache directory", path.display())]
    NoJournal {
        /// Where it should be.
        path: PathBuf,
    },
    /// Recovery has not judged yet what a power cut took.
    #[error(
        "the machine went down since the last mount: mount once, which recovers what can be, and repair then if \
         anything is still wrong"
    )]
    PowerCut,
    /// Other nodes may be using the journal.
    #[error("a journal in FoundationDB can't be examined yet: other nodes may be using it")]
    NotEmbedded,
    /// The program could not start.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// The cache directory can't be used.
    #[error(transparent)]
    Daemon(daemon::Error),
    /// The journal can't be read or written.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The extent files can't be read or written.
    #[error(transparent)]
    Extents(#[from] extents::Error),
}

impl From<daemon::Error> for Error {
    fn from(error: daemon::Error) -> Self {
        match error {
            daemon::Error::InUse { path, owner } => Error::InUse { path, owner },
            other => Error::Daemon(other),
        }
    }
}
