//! Bytes whose time in the cache is over, by the rules of their paths: they go although there is room.
//!
//! A file's time begins when it is closed for the last time. It is looked at by the evictor's task when the time is
//! over, and by nobody before: what that costs is what goes. What is not in the store yet goes when it is; who has a
//! file open begins its time anew. Files that were in the cache before the mount are found by a census, and count
//! from their last use as their file system has it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use journal::Ino;
use nix::errno::Errno;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::evict::Evicted;
use super::rules::Rule;
use super::{Result, Vfs};

/// How long a file that is being used is left alone.
const IN_USE_PAUSE: Duration = Duration::from_secs(5);

/// What is to go, and when.
#[derive(Default)]
pub struct Expiry {
    /// Locked for moments.
    due: Mutex<Due>,
    counted: AtomicBool,
}

#[derive(Default)]
struct Due {
    at: HashMap<Ino, Instant>,
    order: BTreeSet<(Instant, Ino)>,
    /// Those whose time was over and that may not be in the store yet.
    overdue: HashSet<Ino>,
}

impl Due {
    fn set(&mut self, ino: Ino, at: Instant) {
        self.overdue.remove(&ino);
        if let Some(before) = self.at.insert(ino, at) {
            self.order.remove(&(before, ino));
        }
        self.order.insert((at, ino));
    }

    /// One whose time is over. Until something else is said it counts as not uploaded: it may be at any moment.
    fn take(&mut self, now: Instant) -> Option<Ino> {
        let (at, ino) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.order.pop_first();
        self.at.remove(&ino);
        self.overdue.insert(ino);
        Some(ino)
    }
}

impl Expiry {
    fn set(&self, ino: Ino, at: Instant) {
        self.due.lock().set(ino, at);
    }

    /// A file is in the store now. True: its time is over.
    pub fn uploaded(&self, ino: Ino) -> bool {
        let mut due = self.due.lock();
        let is_overdue = due.overdue.contains(&ino);
        if is_overdue {
            due.set(ino, Instant::now());
        }
        is_overdue
    }

    /// A file is removed: one that never gets into the store is not waited for.
    pub fn removed(&self, ino: Ino) {
        let mut due = self.due.lock();
        due.overdue.remove(&ino);
        if let Some(at) = due.at.remove(&ino) {
            due.order.remove(&(at, ino));
        }
    }

    /// Files may be under a rule that are not known.
    pub fn recount(&self) {
        self.counted.store(false, Ordering::Release);
    }

    fn is_gone(&self, ino: Ino) {
        self.due.lock().overdue.remove(&ino);
    }
}

impl Rule {
    fn stays(&self) -> Option<Duration> {
        match self.skip {
            true => Some(Duration::ZERO),
            false => self.ttl,
        }
    }
}

impl Vfs {
    /// Nobody has a file open any more.
    pub(super) async fn begin_time(&self, ino: Ino) -> Result<()> {
        let rule = self.rule_of(ino).await?;
        if let Some(stays) = rule.and_then(|rule| rule.stays()) {
            self.inner.space.expiry.set(ino, later(stays));
            if stays.is_zero() {
                self.inner.space.grew();
            }
        }
        Ok(())
    }

    /// Gives up what has been here for long enough.
    pub(super) async fn let_expired_go(&self) -> Result<()> {
        if self.inner.config.rules.is_none() {
            return Ok(());
        }
        let expiry = &self.inner.space.expiry;
        if !expiry.counted.swap(true, Ordering::AcqRel) {
            self.count_what_may_expire().await?;
        }
        let now = Instant::now();
        let mut unneeded = Vec::new();
        let mut failed = None;
        loop {
            let Some(ino) = expiry.due.lock().take(now) else {
                break;
            };
            match self.expire(ino).await {
                Ok(Some(Evicted::Dirty)) => {}
                Ok(Some(Evicted::InUse)) => expiry.set(ino, now + IN_USE_PAUSE),
                Ok(Some(Evicted::Superseded { id, .. })) => {
                    unneeded.push(id);
                    expiry.is_gone(ino);
                }
                Ok(None | Some(Evicted::Pinned | Evicted::Emptied { .. } | Evicted::Nothing)) => {
                    expiry.is_gone(ino);
                }
                Err(error) => {
                    expiry.set(ino, now + IN_USE_PAUSE);
                    failed = Some(error);
                    break;
                }
            }
        }
        self.remove_all(unneeded).await?;
        failed.map_or(Ok(()), Err)
    }

    /// `None`: by the name that it has now, it may stay.
    async fn expire(&self, ino: Ino) -> Result<Option<Evicted>> {
        let rule = self.rule_of(ino).await?;
        if rule.and_then(|rule| rule.stays()).is_none() {
            return Ok(None);
        }
        match self.inner.space.room.is_held(ino) {
            true => Ok(Some(Evicted::InUse)),
            false => self.evict(ino).await.map(Some),
        }
    }

    async fn count_what_may_expire(&self) -> Result<()> {
        let store = self.extents().clone();
        let found = self.extents().aside(move || super::evictor::census(&store));
        // It panicked, which has been told.
        let found = found.await.map_err(|_| Errno::EIO)??;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_s = now.map_or(0, |now| now.as_secs());
        for tenant in found {
            let rule = self.rule_of(tenant.ino).await?;
            if let Some(stays) = rule.and_then(|rule| rule.stays()) {
                let last_use_s = u64::try_from(tenant.last_use).unwrap_or(0);
                let unused = Duration::from_secs(now_s.saturating_sub(last_use_s));
                let at = later(stays.saturating_sub(unused));
                self.inner.space.expiry.set(tenant.ino, at);
            }
        }
        Ok(())
    }
}

/// After so long; a time that no clock has is one in a hundred years.
fn later(time: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    Instant::now() + time.min(CENTURY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_used_again_begins_its_time_anew() {
        let mut due = Due::default();
        let now = Instant::now();
        let second = Duration::from_secs(1);
        due.set(Ino(1), now + second);
        due.set(Ino(2), now + 2 * second);
        due.set(Ino(1), now + 3 * second);
        assert_eq!(due.take(now + second), None);
        assert_eq!(due.take(now + 3 * second), Some(Ino(2)));
        assert_eq!(due.take(now + 3 * second), Some(Ino(1)));
        assert_eq!(due.take(now + 9 * second), None);
        assert!(due.at.is_empty() && due.order.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_uploaded_after_its_time_goes_then() {
        let expiry = Expiry::default();
        let now = Instant::now();
        expiry.set(Ino(1), now);
        assert!(!expiry.uploaded(Ino(1)), "it is still to come");
        assert_eq!(expiry.due.lock().take(now), Some(Ino(1)));
        assert!(expiry.uploaded(Ino(1)), "while it was looked at");
        assert_eq!(expiry.due.lock().take(Instant::now()), Some(Ino(1)));
        expiry.is_gone(Ino(1));
        assert!(!expiry.uploaded(Ino(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn of_what_is_removed_nothing_stays() {
        let expiry = Expiry::default();
        let now = Instant::now();
        expiry.set(Ino(1), now);
        expiry.set(Ino(2), now);
        assert_eq!(expiry.due.lock().take(now), Some(Ino(1)));
        expiry.removed(Ino(1));
        expiry.removed(Ino(2));
        let due = expiry.due.lock();
        assert!(due.at.is_empty() && due.order.is_empty() && due.overdue.is_empty());
    }
}
