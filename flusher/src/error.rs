//! What can go wrong on the way to the store, by what is done about it.
//!
//! Nothing here reaches a program: the flusher never gives up, so an error only decides how long it waits
//! and what `fused status` shows.

use journal::Ino;
use tokio::time::Instant;

/// Why a step was not completed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused, or can't be reached.
    #[error(transparent)]
    Store(#[from] remote::Error),
    /// The journal failed.
    #[error("the journal failed: {0}")]
    Journal(#[from] journal::Error),
    /// The cache failed.
    #[error("the cache failed: {0}")]
    Extents(#[from] extents::Error),
    /// What the store has is not what was sent.
    #[error(
        "'{key}': after the upload the store has {found} where {sent} were sent; it is sent again"
    )]
    Verify {
        /// The key.
        key: String,
        /// What was sent.
        sent: String,
        /// What a look at the object showed.
        found: String,
    },
    /// A block of an object is not what was sent.
    #[error(
        "'{key}': the store's bytes from {offset} on are not those that were uploaded (seen again and again); restore \
         the object from a backup, or mount with verify=off to read it as it is"
    )]
    Corrupt {
        /// The key of the object.
        key: String,
        /// Where the block begins, in bytes.
        offset: u64,
    },
    /// Part of the file is only in an object that is no longer there.
    #[error(
        "'{key}': somebody else changed or deleted the object that holds the part of the file which is not cached here; \
         the cached part is kept and not uploaded; copy what you need from the mount, or restore the object"
    )]
    BaseLost {
        /// The key of that object.
        key: String,
    },
    /// The only copy of the file's newest version was its extent file.
    #[error(
        "'{key}': its extent file is gone from the cache directory, and no object has these bytes; if somebody moved \
         it, put it back; else write the file again"
    )]
    Gone {
        /// The file.
        key: String,
    },
    /// The file is larger than an object can be.
    #[error(
        "'{key}' has {bytes} bytes; the store's objects can have at most {bytes_max}; split the file"
    )]
    TooLarge {
        /// The key.
        key: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// A renamed directory still has objects under its old key.
    #[error("'{key}': the directory was renamed, its files are still being moved in the store")]
    StillMoving {
        /// The old key.
        key: String,
        /// Some of those files.
        left: Vec<Ino>,
    },
    /// An earlier request for the key, of which nothing was heard, might undo what is put there now.
    #[error("'{key}': an earlier request broke off and may still reach the store; sent after that")]
    InTheWay {
        /// The key.
        key: String,
        /// When it can't any more.
        until: Instant,
    },
    /// A step was taken again and again and always found something new.
    #[error("'{key}': something else keeps changing it; tried again later")]
    Unsteady {
        /// The key.
        key: String,
    },
}

/// What an error says about the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The store can't be reached: nobody needs to try.
    Unreachable,
    /// May pass by itself.
    Passing,
    /// Needs a human; tried again all the same, seldom.
    Permanent,
}

impl Error {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Error::Store(remote::Error::Unreachable { .. }) => Severity::Unreachable,
            Error::Store(
                remote::Error::KeyTooLong { .. }
                | remote::Error::AccessDenied { .. }
                | remote::Error::Full { .. },
            )
            | Error::BaseLost { .. }
            | Error::Gone { .. }
            | Error::Corrupt { .. }
            | Error::TooLarge { .. } => Severity::Permanent,
            _ => Severity::Passing,
        }
    }

    /// Whether it is the store itself that is unwell, rather than this one file.
    pub(crate) fn blames_the_store(&self) -> bool {
        matches!(self, Error::Store(error) if error.is_retryable())
    }
}
