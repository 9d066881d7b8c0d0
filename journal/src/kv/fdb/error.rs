//! What FoundationDB's errors mean.

use crate::kv::KvError;
use foundationdb::FdbError;

/// Codes of FoundationDB's errors that the predicates of its client don't sort for us.
pub(super) mod code {
    pub(in crate::kv::fdb) const TRANSACTION_TOO_OLD: i32 = 1007;
    pub(in crate::kv::fdb) const NOT_COMMITTED: i32 = 1020;
    pub(in crate::kv::fdb) const TRANSACTION_CANCELLED: i32 = 1025;
    pub(in crate::kv::fdb) const TRANSACTION_TIMED_OUT: i32 = 1031;
    pub(in crate::kv::fdb) const CONNECTION_STRING_INVALID: i32 = 2104;
    pub(in crate::kv::fdb) const TRANSACTION_TOO_LARGE: i32 = 2101;
    pub(in crate::kv::fdb) const KEY_TOO_LARGE: i32 = 2102;
    pub(in crate::kv::fdb) const VALUE_TOO_LARGE: i32 = 2103;
}

/// What an error means that came before the commit.
pub(super) fn reading(error: FdbError) -> KvError {
    match error.code() {
        code::TRANSACTION_TOO_OLD => KvError::TooOld,
        code::NOT_COMMITTED => KvError::Conflict,
        code::TRANSACTION_TIMED_OUT => {
            KvError::Unavailable("no answer from FoundationDB within 5 seconds".into())
        }
        code::TRANSACTION_TOO_LARGE | code::KEY_TOO_LARGE | code::VALUE_TOO_LARGE => {
            KvError::Limit("a key, a value or a transaction that FoundationDB refuses")
        }
        _ if error.is_retryable() => KvError::Unavailable(error.message().into()),
        _ => KvError::Io {
            operation: "reading",
            reason: error.message().into(),
        },
    }
}

/// What an error of a commit means: where the transaction may have been applied, it says so.
pub(super) fn committing(error: FdbError) -> KvError {
    let is_unknown = error.is_maybe_committed()
        || matches!(
            error.code(),
            code::TRANSACTION_TIMED_OUT | code::TRANSACTION_CANCELLED
        );
    match is_unknown {
        true => KvError::UnknownOutcome,
        false => reading(error),
    }
}
