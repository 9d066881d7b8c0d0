//! What can go wrong in a file system call, and the errno that the caller sees.
//!
//! The errno is decided here, once, where the cause is known; the FUSE front only passes it on.
//! Ordinary answers (ENOENT, EEXIST, ...) carry nothing else, so that they cost nothing; failures
//! carry their cause for the log.

use nix::errno::Errno;

/// Result of a file system call.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a file system call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A plain POSIX answer: nothing is wrong with the file system.
    #[error("{}", .0.desc())]
    Posix(Errno),

    /// The journal refused or failed.
    #[error("journal: {0}")]
    Journal(#[from] journal::Error),

    /// The local extents refused or failed.
    #[error("extents: {0}")]
    Extents(#[from] extents::Error),

    /// The object store refused or failed.
    #[error("store, {key}: {source}")]
    Remote {
        /// The object key (or directory prefix) that was asked for.
        key: String,
        /// What the store answered.
        source: remote::Error,
    },

    /// A block of an object is not what was uploaded.
    #[error(transparent)]
    Corrupt(flusher::Error),

    /// The cache is full of data that is not in the store yet, and stayed so for the stated wait.
    #[error(
        "the cache holds {dirty_bytes} bytes that are not in the store yet and may hold \
         {dirty_bytes_max}: waited {waited_s} s for uploads; what is pinned or open stays too; see `fused status`"
    )]
    CacheFull {
        /// Bytes waiting for upload.
        dirty_bytes: u64,
        /// Their limit.
        dirty_bytes_max: u64,
        /// Seconds that the writer was held back.
        waited_s: u64,
    },

    /// The cache can't take what was to be brought in, whatever is evicted.
    #[error(
        "no room in the cache for {needed_bytes} bytes more: it holds {used_bytes} of {budget_bytes}, of which \
         {dirty_bytes} are not in the store yet"
    )]
    NoRoom {
        /// Bytes that were to be brought in.
        needed_bytes: u64,
        /// Bytes that the cache may hold.
        budget_bytes: u64,
        /// Bytes that it holds.
        used_bytes: u64,
        /// Of these, bytes waiting for upload.
        dirty_bytes: u64,
    },

    /// The file system of the cache directory is full, and stayed so for the stated wait.
    #[error(
        "the disk of the cache directory has {free_bytes} bytes left, too few to begin anything new: \
         waited {waited_s} s; free some space there"
    )]
    DiskFull {
        /// Bytes left on it.
        free_bytes: u64,
        /// Seconds that the writer was held back.
        waited_s: u64,
    },
}

impl Error {
    /// The errno to answer with.
    pub fn errno(&self) -> Errno {
        match self {
            Error::Posix(errno) => *errno,
            Error::Journal(error) => Errno::from_raw(error.errno()),
            Error::Extents(error) => Errno::from_raw(error.errno()),
            Error::Remote { source, .. } => remote_errno(source),
            Error::Corrupt(_) => Errno::EIO,
            Error::CacheFull { .. } | Error::NoRoom { .. } | Error::DiskFull { .. } => {
                Errno::ENOSPC
            }
        }
    }

    /// Whether this is an answer that programs expect in their daily work, and no line in the log.
    pub fn is_ordinary(&self) -> bool {
        match self {
            Error::Posix(_) => true,
            Error::Journal(_) => !matches!(
                self.errno(),
                Errno::EIO | Errno::EROFS | Errno::ENOSPC | Errno::EAGAIN
            ),
            _ => false,
        }
    }

    pub(crate) fn remote(key: impl std::fmt::Display, source: remote::Error) -> Self {
        Error::Remote {
            key: key.to_string(),
            source,
        }
    }

    /// Of bytes of an object.
    pub(crate) fn fetching(key: &str, error: flusher::Error) -> Self {
        match error {
            flusher::Error::Store(source) => Error::remote(key, source),
            flusher::Error::Journal(error) => Error::Journal(error),
            flusher::Error::Extents(error) => Error::Extents(error),
            corrupt => Error::Corrupt(corrupt),
        }
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Error::Posix(errno)
    }
}

/// ESTALE for an object that was replaced under an open file, EACCES for a refusal, EIO for the rest.
fn remote_errno(error: &remote::Error) -> Errno {
    match error {
        remote::Error::NotFound { .. } | remote::Error::Changed { .. } => Errno::ESTALE,
        remote::Error::AccessDenied { .. } => Errno::EACCES,
        _ => Errno::EIO,
    }
}
