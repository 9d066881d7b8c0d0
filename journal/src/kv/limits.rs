//! FoundationDB's limits, enforced by every store.

use super::KvError;
use std::time::Duration;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 10_000;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 100_000;
/// Keys and values written by one transaction, in bytes.
pub const TRANSACTION_BYTES_MAX: usize = 10_000_000;
/// Longest life of a transaction.
pub const TRANSACTION_AGE_MAX: Duration = Duration::from_secs(5);

/// Refuses a key that is too long.
pub(crate) fn check_key(key: &[u8]) -> Result<(), KvError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(KvError::Limit("a key of more than 10,000 bytes"));
    }
    Ok(())
}

/// Refuses a value that is too long.
pub(crate) fn check_value(value: &[u8]) -> Result<(), KvError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(KvError::Limit("a value of more than 100,000 bytes"));
    }
    Ok(())
}
