//! Space on the local disk: the budget, eviction, and holding writers back.
//!
//! Clean files are a cache and go, least recently closed first, when the extents pass the high
//! watermark, until they are below the low one. Dirty files never go. When even that does not make
//! room, who opens a file for writing waits for uploads, and only at the end of a stated wait gets
//! ENOSPC: an honest error, with everything written before still safe.
//!
//! Others may fill the disk that the cache is on. When the journal says that space is short there, clean
//! files go however few they are, and nothing new is begun: what is being written, closed, removed and
//! uploaded goes on, out of the journal's reserve.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use extents::{ExtentFile, ExtentId};
use journal::Ino;
use nix::errno::Errno;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::evict::Evicted;
use super::{Error, Inner, Result, Vfs};

/// Eviction starts above this share of the budget, in percent, ...
const HIGH_PERCENT: u64 = 90;

/// ... and ends below this one.
const LOW_PERCENT: u64 = 80;

/// Of what the cache holds, this share in percent is kept by each look at a disk that is full.
const SHORT_KEEP_PERCENT: u64 = 80;

/// How often the evictor looks when nothing wakes it: passthrough writes grow files unseen.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Most inodes whose last use is remembered; beyond, all are forgotten and count as unused.
const REMEMBERED_MAX: usize = 1 << 20;

/// When which inode was closed last, and who waits for room.
#[derive(Default)]
pub struct Ledger {
    clock: AtomicU64,
    last_use: Mutex<HashMap<Ino, u64>>,
    look: Arc<Notify>,
    freed: Notify,
    budget_bytes: AtomicU64,
}

impl Ledger {
    /// An inode was in use until now.
    pub fn used(&self, ino: Ino) {
        let tick = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut last_use = self.last_use.lock();
        if last_use.len() >= REMEMBERED_MAX {
            last_use.clear();
        }
        last_use.insert(ino, tick);
    }

    /// Much was brought in: have the evictor look.
    pub fn grew(&self) {
        self.look.notify_one();
    }
}

/// The figures of statfs(2).
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// Bytes of the local file system.
    pub total_bytes: u64,
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Inodes in use.
    pub inodes: u64,
}

impl Vfs {
    /// statfs(2): what can be written without waiting for an upload.
    pub async fn space(&self) -> Result<Space> {
        let usage = self.extents().usage()?;
        let budget = self.cache_budget();
        let dirty = self.flusher().status().dirty_bytes;
        Ok(Space {
            total_bytes: usage.fs_total_bytes.min(budget),
            free_bytes: budget.saturating_sub(dirty).min(usage.fs_free_bytes),
            inodes: self.journal().counters().await?.inodes,
        })
    }

    /// Bytes that the cache may hold.
    pub fn cache_budget(&self) -> u64 {
        self.inner.space.budget_bytes.load(Ordering::Relaxed)
    }

    /// Looks again how large the cache may be: it may have been started on a disk that others had filled.
    /// What is less than before is others' doing, and no reason to give anything up.
    pub(super) fn look_at_budget(&self) {
        let budget = match self.extents().usage() {
            Ok(usage) => {
                let available = usage.fs_free_bytes.saturating_add(usage.used_bytes);
                (self.inner.config.cache_limit)(available)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot see how large the cache is; its budget is not limited");
                u64::MAX
            }
        };
        let budget_bytes = &self.inner.space.budget_bytes;
        budget_bytes.fetch_max(budget, Ordering::Relaxed);
    }

    /// Bytes of the cache budget in use.
    pub fn cache_used(&self) -> u64 {
        self.extents().used_bytes()
    }

    /// Holds back whoever begins something new, while the cache or its disk is full.
    pub(super) async fn wait_for_space(&self) -> Result<()> {
        if self.has_room() {
            return Ok(());
        }
        let ledger = &self.inner.space;
        let room = async {
            loop {
                let freed = ledger.freed.notified();
                ledger.look.notify_one();
                freed.await;
                if self.has_room() {
                    return;
                }
            }
        };
        let wait = self.inner.config.dirty_wait;
        match tokio::time::timeout(wait, room).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.no_room(wait)?),
        }
    }

    fn has_room(&self) -> bool {
        let used = self.extents().used_bytes();
        used < self.cache_budget() && !self.journal().is_short_of_space()
    }

    fn no_room(&self, waited: Duration) -> Result<Error> {
        let waited_s = waited.as_secs();
        Ok(match self.journal().is_short_of_space() {
            true => Error::DiskFull {
                free_bytes: self.extents().usage()?.fs_free_bytes,
                waited_s,
            },
            false => Error::CacheFull {
                dirty_bytes: self.flusher().status().dirty_bytes,
                dirty_bytes_max: self.cache_budget(),
                waited_s,
            },
        })
    }

    /// Keeps what was fetched. On a full disk, whoever reads waits until clean files have made room.
    pub(super) async fn keep_fetched(
        &self,
        file: &ExtentFile,
        offset: u64,
        bytes: Bytes,
    ) -> Result<()> {
        let ledger = &self.inner.space;
        let filled = async {
            loop {
                let freed = ledger.freed.notified();
                match file.fill(offset, bytes.clone()).await {
                    Err(error) if is_no_space(error.errno()) => {}
                    filled => return Ok(filled?),
                }
                ledger.look.notify_one();
                freed.await;
            }
        };
        let wait = self.inner.config.dirty_wait;
        match tokio::time::timeout(wait, filled).await {
            Ok(filled) => filled,
            Err(_) => Err(self.no_room(wait)?),
        }
    }

    async fn evict_to_low(&self) -> Result<()> {
        let used = self.extents().used_bytes();
        let Some(low) = self.evicts_to(used) else {
            return Ok(());
        };
        let mut unneeded = Vec::new();
        let mut freed = 0;
        for id in self.oldest_first()? {
            if self.extents().used_bytes().saturating_sub(freed) <= low {
                break;
            }
            if let Evicted::Superseded { id, bytes } = self.evict(Ino(id.ino)).await? {
                unneeded.push(id);
                freed += bytes;
            }
        }
        self.remove_all(unneeded).await
    }

    /// How much is to be left of what is `used`, if any is to go.
    fn evicts_to(&self, used: u64) -> Option<u64> {
        let budget = self.cache_budget();
        if self.journal().is_short_of_space() {
            let kept = used / 100 * SHORT_KEEP_PERCENT;
            return Some(kept.min(budget / 100 * LOW_PERCENT));
        }
        (used > budget / 100 * HIGH_PERCENT).then_some(budget / 100 * LOW_PERCENT)
    }

    fn oldest_first(&self) -> Result<Vec<ExtentId>> {
        let mut ids = self
            .extents()
            .list()
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let last_use = self.inner.space.last_use.lock();
        ids.sort_by_key(|id| last_use.get(&Ino(id.ino)).copied().unwrap_or(0));
        Ok(ids)
    }
}

/// Whether a disk has no space, by whatever limit.
fn is_no_space(errno: i32) -> bool {
    matches!(Errno::from_raw(errno), Errno::ENOSPC | Errno::EDQUOT)
}

/// Starts the evicting task; it ends when the file system is gone.
pub fn spawn_evictor(inner: &Arc<Inner>) {
    let weak = Arc::downgrade(inner);
    let look = inner.space.look.clone();
    let mut progress = inner.parts.flusher.subscribe();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = look.notified() => {}
                _ = progress.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let Some(inner) = Weak::upgrade(&weak) else {
                return;
            };
            let vfs = Vfs { inner };
            vfs.look_at_budget();
            if let Err(error) = vfs.evict_to_low().await {
                tracing::error!(%error, "cannot free cache space");
            }
            vfs.inner.space.freed.notify_waiters();
            drop(vfs);
            // A burst of finished uploads is one look, not one each.
            tokio::time::sleep(LOOK_EVERY / 10).await;
        }
    });
}
