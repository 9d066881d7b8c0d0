//! What can go wrong below the typed transactions.

/// Why a read or a commit failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KvError {
    /// Something that was read has changed; nothing was applied. Try again.
    #[error("another transaction changed what this one had read")]
    Conflict,
    /// The transaction is older than 5 seconds or its version is gone; nothing was applied.
    #[error("the transaction took too long")]
    TooOld,
    /// Applied or not: only reading can tell.
    #[error("the outcome of the commit is unknown")]
    UnknownOutcome,
    /// The store is away for the moment; nothing was applied. Try again.
    #[error("the key-value store is not available now: {0}")]
    Unavailable(String),
    /// There is no space for it; nothing was applied. Works again once there is.
    #[error("the disk of the journal is full: free some space at {0}")]
    Full(String),
    /// A limit of the data model was exceeded; nothing was applied.
    #[error("beyond the limits of the key-value store: {0}")]
    Limit(&'static str),
    /// A write or a sync failed before, so that nobody can say what is on the disk.
    #[error(
        "the journal accepts no more changes, because writing to its disk failed: {0}; check the disk, then mount again"
    )]
    Poisoned(String),
    /// Another process has it open.
    #[error("the journal in {0} is in use by another process; only one can mount it")]
    InUse(String),
    /// Reading or opening failed.
    #[error("{operation} of the journal failed: {reason}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the layer below said.
        reason: String,
    },
}

impl KvError {
    /// A new attempt may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            KvError::Conflict | KvError::TooOld | KvError::UnknownOutcome | KvError::Unavailable(_)
        )
    }
}
