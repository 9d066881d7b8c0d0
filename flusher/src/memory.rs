//! The memory for bytes in flight, in two purses.
//!
//! Every part and every small file takes its size from a purse before it is read and gives it back when
//! the store has answered. Semaphores are fair, so nothing starves inside a purse; but a small file that
//! queues behind a hundred parts of 16 MiB waits for gigabytes. So a quarter of the memory belongs to
//! small files alone. A part larger than its purse takes the whole purse: it then travels alone.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits are pages, so that a purse of terabytes still fits a semaphore.
const PERMIT_BYTES: u64 = 4096;

/// The two purses.
pub(crate) struct Memory {
    small: Purse,
    large: Purse,
}

struct Purse {
    permits: Arc<Semaphore>,
    total: u32,
}

impl Purse {
    fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes.div_ceil(PERMIT_BYTES).max(1)).unwrap_or(u32::MAX >> 4);
        Self {
            permits: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// `None` never happens: the semaphore is not closed while the flusher lives.
    async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let pages = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        Arc::clone(&self.permits)
            .acquire_many_owned(pages.min(self.total))
            .await
            .ok()
    }
}

impl Memory {
    /// Splits `bytes_max` into the purses.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            small: Purse::new(bytes_max / 4),
            large: Purse::new(bytes_max - bytes_max / 4),
        }
    }

    /// Waits until a small file of this size may be in memory; held until the answer is dropped.
    pub(crate) async fn small(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        self.small.take(bytes).await
    }

    /// The same for a part of a large file.
    pub(crate) async fn large(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        self.large.take(bytes).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn parts_beyond_the_purse_wait_and_small_files_do_not() {
        let memory = Memory::new(4 << 20);
        let first = memory.large(2 << 20).await;
        let second = memory.large(2 << 20);
        assert!(
            tokio::time::timeout(Duration::from_secs(1), second)
                .await
                .is_err()
        );
        assert!(memory.small(1 << 20).await.is_some());
        drop(first);
        assert!(memory.large(2 << 20).await.is_some());
    }

    #[tokio::test]
    async fn a_part_larger_than_everything_travels_alone() {
        let memory = Memory::new(1 << 20);
        assert!(memory.large(1 << 30).await.is_some());
    }
}
