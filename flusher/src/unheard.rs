//! Requests whose answer never came: the store may yet do what they ask for.
//!
//! Remembered for `late_max`, by key, because of what may follow meanwhile:
//!
//! - A key that is deleted may have its object again, by a put that was overtaken: it is watched (`garbage`).
//! - A new version may be deleted or replaced. A condition does not help if what it was conditional on is there
//!   again: etags are those of contents, and a file that is renamed there and back has the same one. So no
//!   other version is put while that may happen. The same version may be: whichever of two puts arrives last
//!   leaves the same.
//!
//! What the daemon before this one was to put somewhere new, and did not hear of, the journal lists: such a key is
//! garbage that says so. What it was replacing or deleting when it died is not known: few of the many keys that
//! are garbage, and all of them to wait for `late_max` after each start would be too much.

use std::collections::HashMap;
use std::time::Duration;

use journal::{Epoch, Ino};
use tokio::time::Instant;

/// More than these, and none is known by its key any more: anything may arrive anywhere.
const KEYS_MAX: usize = 16_384;

/// A version of a file.
pub(crate) type Version = (Ino, Epoch);

/// What the store was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// An object where there is none.
    Creation,
    /// An object in place of whatever is there, or of a known etag.
    Replacement(Version),
    /// That there is no object.
    Deletion,
}

/// What may still arrive.
pub(crate) struct Unheard {
    late_max: Duration,
    /// The start, or when the last put broke off.
    last: Instant,
    keys: HashMap<String, AtKey>,
    /// When there were too many keys to know them all.
    overflow: Option<Instant>,
}

/// When requests of a kind broke off last.
#[derive(Default)]
struct AtKey {
    put: Option<Instant>,
    replaced: Option<(Version, Instant)>,
    deleted: Option<Instant>,
}

impl AtKey {
    fn last(&self) -> Option<Instant> {
        self.put.max(self.deleted)
    }
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

    /// A request that concerns `key` broke off.
    pub(crate) fn note(&mut self, key: &str, what: What, now: Instant) {
        if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(key) {
            let late_max = self.late_max;
            self.keys
                .retain(|_, at| at.last().is_some_and(|last| now - last < late_max));
            if self.keys.len() >= KEYS_MAX {
                self.keys.clear();
                self.overflow = Some(now);
            }
        }
        let at = self.keys.entry(key.to_owned()).or_default();
        match what {
            What::Deletion => at.deleted = Some(now),
            What::Creation => at.put = Some(now),
            What::Replacement(version) => {
                at.put = Some(now);
                at.replaced = Some((version, now));
            }
        }
        if what != What::Deletion {
            self.last = now;
        }
    }

    /// Whether anything may still be put anywhere.
    pub(crate) fn any(&self, now: Instant) -> bool {
        now - self.last < self.late_max
    }

    /// Whether something that was asked for may still be put to `key`.
    pub(crate) fn at(&self, key: &str, now: Instant) -> bool {
        let of_key = self.keys.get(key).and_then(|at| at.put);
        let since = of_key.max(self.overflow);
        since.is_some_and(|since| now - since < self.late_max)
    }

    /// Until when `version`, put to `key`, might be deleted or replaced there.
    pub(crate) fn until(&self, key: &str, version: Version, now: Instant) -> Option<Instant> {
        let at = self.keys.get(key);
        let deleted = at.and_then(|at| at.deleted);
        let replaced = at.and_then(|at| at.replaced);
        let others = replaced.filter(|(theirs, _)| *theirs != version);
        let since = deleted.max(others.map(|(_, at)| at)).max(self.overflow);
        since
            .map(|since| since + self.late_max)
            .filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_secs(15);
    const ONE: Version = (Ino(7), Epoch(1));
    const NEXT: Version = (Ino(7), Epoch(2));

    #[tokio::test]
    async fn a_key_is_remembered_for_as_long_as_something_may_arrive_there() {
        let start = Instant::now();
        let mut unheard = Unheard::new(LATE, start);
        assert!(unheard.any(start) && !unheard.at("a", start));
        let now = start + LATE;
        assert!(!unheard.any(now));
        unheard.note("a", What::Creation, now);
        assert!(unheard.any(now) && unheard.at("a", now) && !unheard.at("b", now));
        let over = now + LATE;
        assert!(!unheard.any(over) && !unheard.at("a", over));
    }

    #[tokio::test]
    async fn a_version_waits_for_what_might_take_its_place() {
        let now = Instant::now();
        let mut unheard = Unheard::new(LATE, now);
        let over = now + LATE;
        unheard.note("a", What::Creation, now);
        assert_eq!(
            unheard.until("a", NEXT, now),
            None,
            "it finds the key taken"
        );
        unheard.note("a", What::Replacement(ONE), now);
        assert_eq!(unheard.until("a", ONE, now), None, "the same again");
        assert_eq!(unheard.until("a", NEXT, now), Some(over));
        assert_eq!(unheard.until("a", NEXT, over), None);
        assert_eq!(unheard.until("b", NEXT, now), None);
        unheard.note("b", What::Deletion, now);
        assert_eq!(unheard.until("b", ONE, now), Some(over));
        assert!(!unheard.at("b", now), "a deletion makes no object");
    }

    #[tokio::test]
    async fn of_too_many_none_is_forgotten_too_early_and_few_are_kept() {
        let now = Instant::now();
        let mut unheard = Unheard::new(LATE, now);
        for number in 0..3 * KEYS_MAX {
            unheard.note(&number.to_string(), What::Creation, now);
            assert!(unheard.keys.len() <= KEYS_MAX);
        }
        assert!(unheard.at("0", now) && unheard.at("never asked", now));
        assert!(unheard.until("never asked", ONE, now).is_some());
        let over = now + LATE;
        assert!(!unheard.at("0", over));
        unheard.note("b", What::Creation, over);
        assert!(unheard.at("b", over) && !unheard.at("c", over));
    }
}
