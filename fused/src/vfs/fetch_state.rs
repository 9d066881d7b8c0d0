//! How far the fetch of one open file is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

/// A block's cell: initialised once it is in the extent file.
type Cell = Arc<OnceCell<()>>;

/// The progress of one open file's fetch.
#[derive(Default)]
pub struct FetchState {
    pub(super) blocks: Mutex<HashMap<u64, Cell>>,
    pub(super) whole_started: AtomicBool,
    /// Every byte of `[0, valid)` is resident; stays true until the open file is evicted.
    pub(super) complete: AtomicBool,
}

impl FetchState {
    /// Everything has been evicted.
    pub(super) fn restart(&self) {
        self.blocks.lock().clear();
        self.whole_started.store(false, Ordering::Release);
        self.complete.store(false, Ordering::Release);
    }
}
