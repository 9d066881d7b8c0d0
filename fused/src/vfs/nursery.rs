//! Extent files for the inodes to come.
//!
//! A program that makes many files would wait for the local file system to make an extent file for each.
//! Inode numbers are given out in order, so while creations come in a burst the extent files of the next
//! numbers are made aside (see `prepared` in the crate `extents`). A number that goes to a
//! directory, or is skipped, leaves an empty file that is removed a little later.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use journal::{Ino, Timestamp};
use parking_lot::Mutex;

use super::{Vfs, now};

/// Creations in a second that make a burst.
const BURST: u32 = 50;

/// Numbers made ahead at a time.
const AHEAD: u64 = 128;

/// Fewer than this many left: more are made.
const LOW: u64 = 64;

/// Whoever creates at this moment is given these numbers; they are too near to be worth making.
const NEAR: u64 = 4;

/// Leftovers of numbers so far back belong to nobody any more: creations that got lower numbers are over.
const BEHIND: u64 = 4096;

/// How creations come in, and up to which number files were made.
#[derive(Default)]
pub struct Nursery {
    pace: Mutex<Pace>,
    at_work: AtomicBool,
}

#[derive(Default)]
struct Pace {
    second: i64,
    creations: u32,
    made_until: u64,
}

impl Pace {
    /// Which numbers are to be made now that `ino` was given out.
    fn next(&mut self, ino: u64, now: Timestamp) -> Option<Range<u64>> {
        if self.second != now.secs {
            // The first of a second go on as the last one ended.
            let was_burst = self.creations >= BURST && self.second + 1 == now.secs;
            self.second = now.secs;
            self.creations = if was_burst { BURST } else { 0 };
        }
        self.creations = self.creations.saturating_add(1);
        if self.creations < BURST || ino + LOW < self.made_until {
            return None;
        }
        let start = self.made_until.max(ino + NEAR);
        self.made_until = ino + NEAR + AHEAD;
        Some(start..self.made_until)
    }
}

impl Vfs {
    /// A file was created with this number.
    pub(super) fn file_created(&self, ino: Ino) {
        let nursery = &self.inner.nursery;
        if nursery.at_work.load(Ordering::Acquire) {
            return;
        }
        let Some(inos) = nursery.pace.lock().next(ino.0, now()) else {
            return;
        };
        nursery.at_work.store(true, Ordering::Release);
        let vfs = self.clone();
        let extents = self.extents().clone();
        extents.aside(move || {
            let extents = vfs.extents();
            let below = inos.start.saturating_sub(BEHIND);
            // Whoever needs the file makes it then, and tells of the error.
            if let Err(error) = extents
                .prepare(inos)
                .and_then(|()| extents.discard_prepared(below))
            {
                tracing::debug!(%error, "cannot make extent files ahead");
            }
            vfs.inner.nursery.at_work.store(false, Ordering::Release);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp { secs, nanos: 0 }
    }

    #[test]
    fn only_a_burst_is_worth_it_and_no_number_comes_twice() {
        let mut pace = Pace::default();
        for second in 0..10 {
            assert_eq!(pace.next(100 + second, at(second as i64)), None);
        }
        let mut made = Vec::new();
        for ino in 200..1200 {
            made.extend(pace.next(ino, at(20)).into_iter().flatten());
        }
        assert!(made.is_sorted_by(|a, b| a < b), "each once");
        assert!(made.len() > 900 && made.iter().all(|&ino| ino > 200));
        assert!(pace.next(1200, at(21)).is_none(), "enough are left");
        assert!(pace.next(1300, at(21)).is_some(), "the burst goes on");
    }
}
