//! One lock per key: work on a key is serial, so a delete never overtakes a put of the same key.
//!
//! A step takes every key it touches at once (the key it writes and the key it copies from), in sorted
//! order, so that two steps never wait for each other in a circle. Locks exist only while somebody holds
//! or waits for them.
//!
//! Which keys a step touches is read before they are locked. Whether that must be read again under the locks
//! is answered without keeping every key that was ever locked: keys share [`SLOTS`] places that say when one
//! of them was let go last.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Many more than steps at a time, or they would meet in them.
const SLOTS: u64 = 4096;

/// An instant in the order in which locks are let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn(u64);

struct Registry {
    locks: HashMap<String, Arc<AsyncMutex<()>>>,
    now: Turn,
    /// When a key of the slot was let go last.
    let_go: Vec<Turn>,
    hasher: RandomState,
}

impl Registry {
    fn slot(&self, key: &str) -> usize {
        usize::try_from(self.hasher.hash_one(key) % SLOTS).unwrap_or(0)
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            locks: HashMap::new(),
            now: Turn(0),
            let_go: (0..SLOTS).map(|_| Turn(0)).collect(),
            hasher: RandomState::new(),
        }
    }
}

/// The locks of all keys.
#[derive(Clone, Default)]
pub(crate) struct KeyLocks {
    /// Protects the registry only; never held across an await.
    registry: Arc<Mutex<Registry>>,
}

/// Holds the keys until dropped.
pub(crate) struct KeyGuard {
    registry: Arc<Mutex<Registry>>,
    held: Vec<(String, Option<OwnedMutexGuard<()>>)>,
}

impl KeyGuard {
    /// Whether nobody else had one of the keys since then: what was read then is what would have been read under
    /// the locks, as far as those who lock can change it. May say no where it is yes.
    pub(crate) fn alone_since(&self, then: Turn) -> bool {
        let registry = self.registry.lock();
        let last = |key: &String| registry.let_go[registry.slot(key)];
        self.held.iter().all(|(key, _)| last(key) <= then)
    }
}

impl KeyLocks {
    /// For [`KeyGuard::alone_since`].
    pub(crate) fn now(&self) -> Turn {
        self.registry.lock().now
    }

    /// Waits for all of `keys`.
    pub(crate) async fn lock(&self, keys: impl IntoIterator<Item = String>) -> KeyGuard {
        let mut keys: Vec<String> = keys.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        let mut guard = KeyGuard {
            registry: Arc::clone(&self.registry),
            held: Vec::with_capacity(keys.len()),
        };
        for key in keys {
            let lock = Arc::clone(self.registry.lock().locks.entry(key.clone()).or_default());
            // Registered before it is held: a wait that is cancelled cleans up as well.
            guard.held.push((key, None));
            let held = lock.lock_owned().await;
            if let Some(last) = guard.held.last_mut() {
                last.1 = Some(held);
            }
        }
        guard
    }

    /// Whether somebody holds or waits for this key just now.
    pub(crate) fn is_taken(&self, key: &str) -> bool {
        self.registry.lock().locks.contains_key(key)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.registry.lock().locks.len()
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        let mut registry = self.registry.lock();
        registry.now = Turn(registry.now.0 + 1);
        for (key, held) in self.held.drain(..) {
            if held.is_some() {
                let (slot, now) = (registry.slot(&key), registry.now);
                registry.let_go[slot] = now;
            }
            drop(held);
            // Only the map still knows it: nobody holds it, nobody waits.
            if registry
                .locks
                .get(&key)
                .is_some_and(|lock| Arc::strong_count(lock) == 1)
            {
                registry.locks.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn holders_of_a_common_key_are_alone_and_nothing_deadlocks() {
        let locks = KeyLocks::default();
        let inside = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for n in 0..64usize {
            let (locks, inside) = (locks.clone(), Arc::clone(&inside));
            tasks.push(tokio::spawn(async move {
                let pair = [format!("k{}", n % 3), "common".to_owned()];
                let keys = if n % 2 == 0 {
                    pair
                } else {
                    pair.into_iter()
                        .rev()
                        .collect::<Vec<_>>()
                        .try_into()
                        .unwrap()
                };
                let _guard = locks.lock(keys).await;
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
            }));
        }
        let all = futures::future::join_all(tasks);
        for done in tokio::time::timeout(Duration::from_secs(10), all)
            .await
            .unwrap()
        {
            done.unwrap();
        }
        assert_eq!(locks.len(), 0, "no lock is left behind");
    }

    #[tokio::test]
    async fn whoever_had_the_key_meanwhile_is_noticed() {
        let locks = KeyLocks::default();
        let key = || ["a".to_owned()];
        drop(locks.lock(key()).await);
        let before = locks.now();
        assert!(locks.lock(key()).await.alone_since(before));
        let before = locks.now();
        let held = locks.lock(key()).await;
        let during = locks.now();
        drop(held);
        let guard = locks.lock(["b".to_owned(), "a".to_owned()]).await;
        assert!(!guard.alone_since(before) && !guard.alone_since(during));
        assert!(guard.alone_since(locks.now()));
    }

    #[tokio::test]
    async fn a_cancelled_wait_leaves_nothing_behind() {
        let locks = KeyLocks::default();
        let held = locks.lock(["a".to_owned()]).await;
        let wait = locks.lock(["a".to_owned(), "b".to_owned()]);
        assert!(
            tokio::time::timeout(Duration::from_millis(5), wait)
                .await
                .is_err()
        );
        drop(held);
        assert_eq!(locks.len(), 0);
    }
}
