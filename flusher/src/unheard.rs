//! Objects that were put and whose answer never came: they may yet arrive.
//!
//! Remembered for `late_max`, by key. What the daemon before this one asked for last is on no list: until
//! `late_max` after the start, anything may arrive.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// More than these, and none is known by its key any more: anything may arrive anywhere.
const KEYS_MAX: usize = 4096;

/// What may still arrive.
pub(crate) struct Unheard {
    late_max: Duration,
    /// The start, or when the last request broke off.
    last: Instant,
    /// When the last one of a key broke off.
    keys: HashMap<String, Instant>,
    /// When there were too many keys to know them all.
    overflow: Option<Instant>,
}

impl Unheard {
    pub(crate) fn new(late_max: Duration, now: Instant) -> Self {
        Self {
            late_max,
            last: now,
            keys: HashMap::new(),
            overflow: None,
        }
    }

    /// A request that makes an object at `key` broke off.
    pub(crate) fn note(&mut self, key: &str, now: Instant) {
        self.last = now;
        if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(key) {
            let late_max = self.late_max;
            self.keys.retain(|_, since| now - *since < late_max);
            if self.keys.len() >= KEYS_MAX {
                self.keys.clear();
                self.overflow = Some(now);
            }
        }
        self.keys.insert(key.to_owned(), now);
    }

    /// Whether anything may still arrive.
    pub(crate) fn any(&self, now: Instant) -> bool {
        now - self.last < self.late_max
    }

    /// Whether something that this daemon asked for may still arrive at `key`.
    pub(crate) fn at(&self, key: &str, now: Instant) -> bool {
        let of_key = self.keys.get(key).copied();
        let since = of_key.max(self.overflow);
        since.is_some_and(|since| now - since < self.late_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_secs(15);

    #[tokio::test]
    async fn a_key_is_remembered_for_as_long_as_something_may_arrive_there() {
        let start = Instant::now();
        let mut unheard = Unheard::new(LATE, start);
        assert!(unheard.any(start) && !unheard.at("a", start));
        let now = start + LATE;
        assert!(!unheard.any(now));
        unheard.note("a", now);
        assert!(unheard.any(now) && unheard.at("a", now) && !unheard.at("b", now));
        let over = now + LATE;
        assert!(!unheard.any(over) && !unheard.at("a", over));
    }

    #[tokio::test]
    async fn of_too_many_none_is_forgotten_too_early_and_few_are_kept() {
        let now = Instant::now();
        let mut unheard = Unheard::new(LATE, now);
        for number in 0..3 * KEYS_MAX {
            unheard.note(&number.to_string(), now);
            assert!(unheard.keys.len() <= KEYS_MAX);
        }
        assert!(unheard.at("0", now) && unheard.at("never asked", now));
        let over = now + LATE;
        assert!(!unheard.at("0", over));
        unheard.note("b", over);
        assert!(unheard.at("b", over) && !unheard.at("c", over));
    }
}
