//! Inode and sequence numbers in batches.
//!
//! A batch is taken by one small transaction that moves a counter row on, then handed out from
//! memory. A number is never handed out twice: after a crash the rest of a batch is skipped, and
//! whatever transaction used a number was committed after the one that took its batch, so a power cut
//! that keeps the use keeps the taking too.

use parking_lot::Mutex;
use std::ops::Range;

/// Numbers taken by one transaction: few enough to waste, many enough to be free.
pub(crate) const BATCH: u64 = 4096;

/// A transaction must find so many left when it begins; the largest one needs fewer.
pub(crate) const RESERVE: u64 = 512;

/// What is left of the batches.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// The current batch, and the next once the current runs low. Protects only itself.
    left: Mutex<(Range<u64>, Range<u64>)>,
}

impl Numbers {
    /// Whether it is time to take a batch.
    pub(crate) fn is_low(&self) -> bool {
        let left = self.left.lock();
        let count = |range: &Range<u64>| range.end.saturating_sub(range.start);
        count(&left.0) + count(&left.1) < RESERVE
    }

    /// Adds the batch that begins at `start`. Refused while two are there already, and when a later
    /// one was added first, because numbers must grow. A wasted batch does no harm.
    pub(crate) fn refill(&self, start: u64) {
        let mut left = self.left.lock();
        let batch = start..start + BATCH;
        if start < left.0.end.max(left.1.end) {
            return;
        }
        if left.0.is_empty() {
            left.0 = batch;
        } else if left.1.is_empty() {
            left.1 = batch;
        }
    }

    /// The next number, greater than all before it.
    pub(crate) fn take(&self) -> Option<u64> {
        let mut left = self.left.lock();
        if left.0.is_empty() && !left.1.is_empty() {
            left.0 = std::mem::replace(&mut left.1, 0..0);
        }
        left.0.next()
    }

    /// All numbers handed out so far, also in earlier lives, are at most this. None if that is not known here: no
    /// batch is left.
    pub(crate) fn so_far(&self) -> Option<u64> {
        let left = self.left.lock();
        let next = [&left.0, &left.1]
            .into_iter()
            .find(|range| !range.is_empty())?
            .start;
        Some(next.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_even_if_batches_arrive_out_of_order() {
        let numbers = Numbers::default();
        assert!(numbers.is_low());
        assert_eq!(numbers.take(), None);
        numbers.refill(BATCH);
        numbers.refill(0);
        numbers.refill(2 * BATCH);
        assert_eq!(numbers.so_far(), Some(BATCH - 1));
        let taken: Vec<u64> = std::iter::from_fn(|| {
            let number = numbers.take();
            let is_last = number == Some(3 * BATCH - 1);
            assert!(is_last || number.is_none() || number == numbers.so_far());
            number
        })
        .collect();
        assert_eq!(numbers.so_far(), None);
        assert_eq!(taken, (BATCH..3 * BATCH).collect::<Vec<_>>());
    }
}
