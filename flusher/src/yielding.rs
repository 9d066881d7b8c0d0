//! Stepping aside while programs are busy with names.
//!
//! A program that makes, renames and deletes thousands of small files wants the processor; uploads of
//! files that are a second old can wait, and many of them will be renamed or gone by then, which saves
//! their requests altogether. So while changes come in faster than [`BUSY_PER_S`], small files are not
//! started, but never for longer than [`HOLD_MAX_SECS`] after their oldest change. Large files, and files
//! that somebody waits for, are not held: they are few, and bandwidth is what they need.

use std::time::Duration;

use journal::Timestamp;
use tokio::time::Instant;

/// Changes a second above which programs are taken to be busy: above what a shell script or a training
/// loop makes, below what an archive being unpacked does.
const BUSY_PER_S: u64 = 500;
/// Over how long the changes are counted, and how soon after a burst uploads go on.
const WINDOW: Duration = Duration::from_millis(100);
/// Longest that a small file is held after its oldest unflushed change.
const HOLD_MAX_SECS: i64 = 5;

/// The pace of changes.
pub(crate) struct Yielding {
    since: Instant,
    counted: u64,
    busy: bool,
}

impl Yielding {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            since: now,
            counted: 0,
            busy: false,
        }
    }

    /// Takes note of how many changes there were so far. If programs are busy: when to look again.
    pub(crate) fn look(&mut self, now: Instant, changes: u64) -> Option<Instant> {
        let elapsed = now.duration_since(self.since);
        if elapsed >= WINDOW {
            let new = changes.saturating_sub(self.counted);
            self.busy = u128::from(new) * 1000 > u128::from(BUSY_PER_S) * elapsed.as_millis();
            self.since = now;
            self.counted = changes;
        }
        self.busy.then(|| self.since + WINDOW)
    }

    /// Whether a small file whose oldest change was at `oldest` may wait.
    pub(crate) fn may_hold(oldest: Timestamp, now: Timestamp) -> bool {
        (0..HOLD_MAX_SECS).contains(&now.secs.saturating_sub(oldest.secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_noticed_and_its_end_too() {
        let start = Instant::now();
        let mut yielding = Yielding::new(start);
        assert_eq!(yielding.look(start + WINDOW, 10), None, "100 a second");
        assert!(
            yielding.look(start + 2 * WINDOW, 200).is_some(),
            "1900 a second"
        );
        assert!(
            yielding.look(start + 2 * WINDOW, 200).is_some(),
            "until the next window is over"
        );
        assert_eq!(yielding.look(start + 3 * WINDOW, 201), None);
    }

    #[test]
    fn nothing_is_held_for_long() {
        let at = |secs| Timestamp { secs, nanos: 0 };
        assert!(Yielding::may_hold(at(100), at(101)));
        assert!(!Yielding::may_hold(at(100), at(105)));
        assert!(
            !Yielding::may_hold(at(100), at(99)),
            "a clock that went back proves nothing"
        );
    }
}
