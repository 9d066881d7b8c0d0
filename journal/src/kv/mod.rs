//! An ordered, transactional key-value store: FoundationDB's data model as one small trait.
//!
//! A [`Transaction`] reads one consistent version of the whole store, sees its own writes, and
//! buffers them until [`commit`](Transaction::commit), which applies all of them or none. It fails
//! with [`KvError::Conflict`] if something that it read (other than by a *snapshot* read) was
//! written meanwhile: optimistic, serializable.
//!
//! | promise | embedded | FoundationDB |
//! |---|---|---|
//! | after `commit` returns, the transaction survives | a crash of this process | a crash of any machine |
//! | after `sync` returns, everything committed before it survives | a power cut | the same, so it is free |
//! | order: if a transaction survives, so do all that were committed before it | yes | yes |
//!
//! Limits are FoundationDB's ([`limits`]) and both stores enforce them, so that what passes on one
//! runs on the other.
//!
//! Three [`Mode`]s exist because the embedded store serves one process. There, waiting for a short
//! mutex is far cheaper than losing a race, so [`Mode::Serial`] excludes other writers instead of
//! conflicting with them; FoundationDB treats it as [`Mode::Optimistic`]. [`Mode::Read`] tracks
//! nothing.

mod embedded;
mod error;
#[cfg(feature = "foundationdb")]
mod fdb;
pub mod limits;

pub use embedded::{EmbeddedOptions, EmbeddedStore};
pub use error::KvError;
#[cfg(feature = "foundationdb")]
pub use fdb::{FdbOptions, FdbStore, stop_network};

use async_trait::async_trait;
use futures::future::BoxFuture;

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only reads, all of one version; commit with writes is refused.
    Read,
    /// Reads are remembered and compared at commit.
    Optimistic,
    /// Where the store can, other writers wait until this one is over. Then a commit never
    /// conflicts, and a second writing transaction of the same task would wait for ever.
    Serial,
}

/// A row.
pub type Row = (Vec<u8>, Vec<u8>);

/// A range read: keys in `[begin, end)`.
#[derive(Clone, Copy, Debug)]
pub struct Range<'a> {
    /// The first key.
    pub begin: &'a [u8],
    /// The key after the last.
    pub end: &'a [u8],
    /// At most so many rows.
    pub limit: usize,
    /// Descending, from the end.
    pub reverse: bool,
}

/// A store.
#[async_trait]
pub trait KvStore: Send + Sync + 'static {
    /// Starts a transaction. Never suspends; for [`Mode::Serial`] it may wait for a short mutex.
    fn begin(&self, mode: Mode) -> Result<Box<dyn Transaction>, KvError>;

    /// Returns when everything that was committed before the call survives a power cut.
    async fn sync(&self) -> Result<(), KvError>;

    /// Completes when the value of `key` may have changed since the call. May complete for nothing.
    fn watch(&self, key: &[u8]) -> BoxFuture<'static, Result<(), KvError>>;

    /// Why nothing can be committed any more, if so.
    fn poisoned(&self) -> Option<String>;

    /// Whether space is so short that nothing new should be made. What makes space goes on.
    fn is_short_of_space(&self) -> bool {
        false
    }

    /// Whether other processes may have it open at the same time.
    fn is_shared(&self) -> bool {
        false
    }

    /// Whether `commit` may answer [`KvError::UnknownOutcome`].
    fn has_unknown_outcomes(&self) -> bool;
}

/// A transaction. Dropping it without commit changes nothing.
#[async_trait]
pub trait Transaction: Send {
    /// The value of a key. A *snapshot* read never causes a conflict.
    async fn get(&mut self, key: &[u8], snapshot: bool) -> Result<Option<Vec<u8>>, KvError>;

    /// The rows of a range, in order.
    async fn range(&mut self, range: Range<'_>, snapshot: bool) -> Result<Vec<Row>, KvError>;

    /// Writes a row.
    fn set(&mut self, key: &[u8], value: Vec<u8>);

    /// Removes a row.
    fn clear(&mut self, key: &[u8]);

    /// Removes all rows of `[begin, end)`.
    fn clear_range(&mut self, begin: &[u8], end: &[u8]);

    /// Adds to a row that holds a little-endian 64-bit number (absent: 0), without reading it: two
    /// transactions that add to the same row don't conflict.
    fn atomic_add(&mut self, key: &[u8], delta: i64);

    /// Applies all writes, or none.
    async fn commit(self: Box<Self>) -> Result<(), KvError>;
}
