//! One lock per key: work on a key is serial, so a delete never overtakes a put of the same key.
//!
//! A step takes every key it touches at once (the key it writes and the key it copies from), in sorted
//! order, so that two steps never wait for each other in a circle. Locks exist only while somebody holds
//! or waits for them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

type Registry = Arc<Mutex<HashMap<String, Arc<AsyncMutex<()>>>>>;

/// The locks of all keys.
#[derive(Clone, Default)]
pub(crate) struct KeyLocks {
    /// Protects the map only; never held across an await.
    registry: Registry,
}

/// Holds the keys until dropped.
pub(crate) struct KeyGuard {
    registry: Registry,
    held: Vec<(String, Option<OwnedMutexGuard<()>>)>,
}

impl KeyLocks {
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
            let lock = Arc::clone(self.registry.lock().entry(key.clone()).or_default());
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
        self.registry.lock().contains_key(key)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.registry.lock().len()
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        let mut registry = self.registry.lock();
        for (key, held) in self.held.drain(..) {
            drop(held);
            // Only the map still knows it: nobody holds it, nobody waits.
            if registry
                .get(&key)
                .is_some_and(|lock| Arc::strong_count(lock) == 1)
            {
                registry.remove(&key);
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
