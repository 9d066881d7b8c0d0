//! How far the fetch of one open file is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::arrivals::Arrivals;
use super::flights::Flights;
use super::readahead::Readahead;

/// The progress of one open file's fetch.
#[derive(Default)]
pub struct FetchState {
    pub(super) flights: Arc<Flights>,
    pub(super) arrivals: Arc<Arrivals>,
    pub(super) readahead: Mutex<Readahead>,
    /// Bytes that were fetched because of reads.
    pub(super) fetched_bytes: AtomicU64,
    pub(super) whole_started: AtomicBool,
    /// Every byte of `[0, valid)` is resident; stays true until the open file is evicted.
    pub(super) complete: AtomicBool,
}

impl FetchState {
    /// Everything has been evicted.
    pub(super) fn restart(&self) {
        self.arrivals.forget();
        *self.readahead.lock() = Readahead::default();
        self.fetched_bytes.store(0, Ordering::Release);
        self.whole_started.store(false, Ordering::Release);
        self.complete.store(false, Ordering::Release);
    }
}
