//! Requests whose answer never came: the store may yet do what they ask for.
//!
//! Remembered for `late_max`, by key, because of what may follow meanwhile:
//!
//! - A key that is deleted may have its object again, by a put that was overtaken: it is watched (`garbage`).
//! - A new version may be deleted or replaced. A condition does not help if what it was conditional on is there
//!   again: etags are those of contents, and a file that is renamed there and back has the same one. So no
//!   other version is put while that may happen. The same version may be, attributes included: whichever of two
//!   puts arrives last leaves the same.
//!
//! What the daemon before this one had sent, or had not heard of, its journal lists ([`journal::Journal::sent`]):
//! a row is written before each request, and goes when it is heard ([`crate::late`]).

use std::collections::HashMap;
use std::time::Duration;

use journal::{Sent, SentVersion};
use tokio::time::Instant;

/// More than these, and none is known by its key any more: anything may arrive anywhere.
const KEYS_MAX: usize = 16_384;

/// What the store was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// An object where there is none.
    Creation,
    /// An object in place of whatever is there, or of a known etag.
    Replacement(SentVersion),
    /// That there is no object.
    Deletion,
}

impl From<What> for Sent {
    fn from(what: What) -> Sent {
        let nothing = Sent::default();
        match what {
            What::Creation => Sent {
                created: true,
                ..nothing
            },
            What::Replacement(version) => Sent {
                replaced: Some(version),
                ..nothing
            },
            What::Deletion => Sent {
                deleted: true,
                ..nothing
            },
        }
    }
}

/// What may still arrive.
pub(crate) struct Unheard {
    late_max: Duration,
    keys: HashMap<String, AtKey>,
    /// When there were too many keys to know them all.
    overflow: Option<Instant>,
}

/// When requests of a kind broke off last.
#[derive(Default)]
struct AtKey {
    created: Option<Instant>,
    replaced: Option<(SentVersion, Instant)>,
    deleted: Option<Instant>,
}

impl AtKey {
    fn put(&self) -> Option<Instant> {
        self.created.max(self.replaced.map(|(_, at)| at))
    }

    fn last(&self) -> Option<Instant> {
        self.put().max(self.deleted)
    }
}

impl Unheard {
    pub(crate) fn new(late_max: Duration) -> Self {
        Self {
            late_max,
            keys: HashMap::new(),
            overflow: None,
        }
    }

    /// Requests that concern `key` broke off.
    pub(crate) fn note(&mut self, key: &str, sent: Sent, now: Instant) {
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
        if sent.created {
            at.created = Some(now);
        }
        if let Some(version) = sent.replaced {
            at.replaced = Some((version, now));
        }
        if sent.deleted {
            at.deleted = Some(now);
        }
    }

    /// Whether something that was asked for may still be put to `key`.
    pub(crate) fn may_be_put(&self, key: &str, now: Instant) -> bool {
        self.is_recent(self.keys.get(key).and_then(AtKey::put), now)
    }

    /// Whether anything that was asked for may still be done at `key`.
    pub(crate) fn any(&self, key: &str, now: Instant) -> bool {
        self.is_recent(self.keys.get(key).and_then(AtKey::last), now)
    }

    fn is_recent(&self, since: Option<Instant>, now: Instant) -> bool {
        let since = since.max(self.overflow);
        since.is_some_and(|since| now - since < self.late_max)
    }

    /// Until when `version`, put to `key`, might be deleted or replaced there.
    pub(crate) fn until(&self, key: &str, version: SentVersion, now: Instant) -> Option<Instant> {
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
    use journal::{Epoch, Ino};

    const LATE: Duration = Duration::from_secs(15);
    const ONE: SentVersion = SentVersion {
        ino: Ino(7),
        epoch: Epoch(1),
        meta_epoch: 1,
    };
    const NEXT: SentVersion = SentVersion {
        epoch: Epoch(2),
        ..ONE
    };
    const CHMODDED: SentVersion = SentVersion {
        meta_epoch: 2,
        ..ONE
    };

    #[tokio::test]
    async fn a_key_is_remembered_for_as_long_as_something_may_arrive_there() {
        let now = Instant::now();
        let mut unheard = Unheard::new(LATE);
        assert!(!unheard.may_be_put("a", now));
        unheard.note("a", What::Creation.into(), now);
        assert!(unheard.may_be_put("a", now) && !unheard.may_be_put("b", now));
        let over = now + LATE;
        assert!(!unheard.may_be_put("a", over) && !unheard.any("a", over));
    }

    #[tokio::test]
    async fn a_version_waits_for_what_might_take_its_place() {
        let now = Instant::now();
        let mut unheard = Unheard::new(LATE);
        let over = now + LATE;
        unheard.note("a", What::Creation.into(), now);
        assert_eq!(
            unheard.until("a", NEXT, now),
            None,
            "it finds the key taken"
        );
        unheard.note("a", What::Replacement(ONE).into(), now);
        assert_eq!(unheard.until("a", ONE, now), None, "the same again");
        assert_eq!(unheard.until("a", NEXT, now), Some(over));
        assert_eq!(unheard.until("a", CHMODDED, now), Some(over));
        assert_eq!(unheard.until("a", NEXT, over), None);
        assert_eq!(unheard.until("b", NEXT, now), None);
        unheard.note("b", What::Deletion.into(), now);
        assert_eq!(unheard.until("b", ONE, now), Some(over));
        assert!(!unheard.may_be_put("b", now), "a deletion makes no object");
        assert!(unheard.any("b", now));
    }

    #[tokio::test]
    async fn of_too_many_none_is_forgotten_too_early_and_few_are_kept() {
        let now = Instant::now();
        let mut unheard = Unheard::new(LATE);
        for number in 0..3 * KEYS_MAX {
            unheard.note(&number.to_string(), What::Creation.into(), now);
            assert!(unheard.keys.len() <= KEYS_MAX);
        }
        assert!(unheard.may_be_put("0", now) && unheard.any("never asked", now));
        assert!(unheard.until("never asked", ONE, now).is_some());
        let over = now + LATE;
        assert!(!unheard.any("0", over));
        unheard.note("b", What::Creation.into(), over);
        assert!(unheard.any("b", over) && !unheard.any("c", over));
    }
}
