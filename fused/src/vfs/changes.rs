//! Whether an open file was changed since the journal last agreed with it, and when.
//!
//! In passthrough mode the kernel writes without telling, so the extent file's own size and mtime tell.
//! In daemon mode every change comes through us and is counted, and the extent file's times mean
//! nothing: what is fetched is written into it as well. A change is counted after it is made: one that is
//! under way while somebody looks is found by the next look.

use std::sync::atomic::{AtomicU64, Ordering};

use extents::Stat;
use journal::{Inode, Timestamp};
use parking_lot::Mutex;

/// A file timestamp this close to now can't tell a write before it from one after it on kernels
/// whose file times advance with the timer tick (4 ms at 250 Hz, 10 ms at 100 Hz).
const COARSE_CLOCK_NS: i128 = 20_000_000;

/// What an open file looked like at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Size, times and space.
    pub stat: Stat,
    /// Changes counted before the look.
    pub changes: u64,
}

/// What the journal agrees with.
#[derive(Clone, Copy, Debug)]
pub struct Agreed {
    size: u64,
    mtime: (i64, u32),
    changes: u64,
    /// The file was modified so shortly before that its time proves nothing.
    uncertain: bool,
}

impl Agreed {
    /// The journal agrees with `seen` as of `now`.
    pub fn with(seen: &Seen, now: Timestamp) -> Self {
        let mtime = seen.stat.mtime;
        let age_ns = (i128::from(now.secs) - i128::from(mtime.0)) * 1_000_000_000
            + (i128::from(now.nanos) - i128::from(mtime.1));
        Self {
            // A time far in the future was set by hand, and a write takes it back to now.
            uncertain: age_ns.abs() < COARSE_CLOCK_NS,
            ..Self::created(seen)
        }
    }

    /// A new, empty file: the journal has it as dirty already, so only a difference counts.
    pub fn created(seen: &Seen) -> Self {
        Self {
            size: seen.stat.size,
            mtime: seen.stat.mtime,
            changes: seen.changes,
            uncertain: false,
        }
    }

    fn differs(&self, seen: &Seen, by_time: bool) -> bool {
        seen.changes != self.changes
            || seen.stat.size != self.size
            || by_time && seen.stat.mtime != self.mtime
    }
}

/// The changes of one open file.
pub struct Changes {
    counted: AtomicU64,
    times: Mutex<Times>,
    agreed: Mutex<Agreed>,
}

/// Daemon mode's times of the file; those of its extent file are others.
struct Times {
    mtime: Timestamp,
    ctime: Timestamp,
}

impl Changes {
    /// Of an inode just opened.
    pub fn new(inode: &Inode, agreed: Agreed) -> Self {
        Self {
            counted: AtomicU64::new(0),
            times: Mutex::new(Times {
                mtime: inode.mtime,
                ctime: inode.ctime,
            }),
            agreed: Mutex::new(agreed),
        }
    }

    /// A change has been made.
    pub fn note(&self, now: Timestamp) {
        *self.times.lock() = Times {
            mtime: now,
            ctime: now,
        };
        self.counted.fetch_add(1, Ordering::Release);
    }

    /// How many there were.
    pub fn counted(&self) -> u64 {
        self.counted.load(Ordering::Acquire)
    }

    /// The file with the times of its changes.
    pub fn with_own_times(&self, stat: Stat, changes: u64) -> Seen {
        let times = self.times.lock();
        let stat = Stat {
            mtime: (times.mtime.secs, times.mtime.nanos),
            ctime: (times.ctime.secs, times.ctime.nanos),
            ..stat
        };
        Seen { stat, changes }
    }

    /// Its mtime was set by hand.
    pub fn set_mtime(&self, mtime: Timestamp) {
        self.times.lock().mtime = mtime;
    }

    /// Whether there may have been a change. `by_time`: also one that was not counted.
    pub fn since_agreed(&self, seen: &Seen, by_time: bool) -> bool {
        let agreed = *self.agreed.lock();
        agreed.differs(seen, by_time) || by_time && agreed.uncertain
    }

    /// Whether there has been a change for certain.
    pub fn surely_since_agreed(&self, seen: &Seen, by_time: bool) -> bool {
        self.agreed.lock().differs(seen, by_time)
    }

    /// The journal agrees.
    pub fn agree(&self, agreed: Agreed) {
        *self.agreed.lock() = agreed;
    }
}
