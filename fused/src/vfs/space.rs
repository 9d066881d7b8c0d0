//! Space on the local disk: the watermarks of the budget, and holding writers back.
//!
//! Clean files are a cache: when the extents pass the high watermark, the `evictor` gives some up, until they
//! are below the low one. Dirty files never go. When even that does not make
//! room, who opens a file for writing waits for uploads, and only at the end of a stated wait gets
//! ENOSPC: an honest error, with everything written before still safe.
//!
//! Of several cache directories each has a device that can be full while others are not: new files go elsewhere then,
//! and what is clean goes from there.
//!
//! Others may fill the disk that the cache is on. When the journal says that space is short there, clean
//! files go however few they are, and nothing new is begun: what is being written, closed, removed and
//! uploaded goes on, out of the journal's reserve.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use extents::ExtentFile;
use nix::errno::Errno;
use tokio::sync::Notify;

use super::evictor::Tenants;
use super::expiry::Expiry;
use super::room::Room;
use super::{Error, Result, Vfs};

/// Eviction starts above this share of the budget, in percent, ...
const HIGH_PERCENT: u64 = 90;

/// ... and ends below this one.
const LOW_PERCENT: u64 = 80;

/// Of what the cache holds, this share in percent is kept by each look at a disk that is full.
const SHORT_KEEP_PERCENT: u64 = 80;

/// What is in the cache, and who waits for room.
#[derive(Default)]
pub struct Ledger {
    pub(super) tenants: Tenants,
    pub(super) expiry: Expiry,
    pub(super) look: Arc<Notify>,
    /// Told at the end of each look.
    pub(super) freed: Notify,
    pub(super) room: Room,
    pub(super) budget_bytes: AtomicU64,
}

impl Ledger {
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
        used < self.cache_budget()
            && !self.journal().is_short_of_space()
            && self.extents().has_room()
    }

    fn no_room(&self, waited: Duration) -> Result<Error> {
        let waited_s = waited.as_secs();
        let disk_is_full = self.journal().is_short_of_space() || !self.extents().has_room();
        Ok(match disk_is_full {
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

    /// How much is to be left of what is `used`, if any is to go, so that there is room for what is `wanted`.
    pub(super) fn evicts_to(&self, used: u64, wanted: u64) -> Option<u64> {
        let low = self.cache_budget() / 100 * LOW_PERCENT;
        if self.journal().is_short_of_space() {
            let kept = used / 100 * SHORT_KEEP_PERCENT;
            return Some(kept.min(low));
        }
        let high = self.high_watermark();
        let low = low.min(high.saturating_sub(wanted));
        (used.saturating_add(wanted) > high).then_some(low)
    }

    /// What the cache may hold before the evictor takes something from it.
    pub(super) fn high_watermark(&self) -> u64 {
        self.cache_budget() / 100 * HIGH_PERCENT
    }
}

/// Whether a disk has no space, by whatever limit.
fn is_no_space(errno: i32) -> bool {
    matches!(Errno::from_raw(errno), Errno::ENOSPC | Errno::EDQUOT)
}
