//! How much space the extent files take.
//!
//! The sum of `st_blocks` of all extent files: files that are closed count once a scan, shard by shard
//! on a thread of its own, has reached them; files that are open count themselves ([`Account`]) and
//! follow what is written, filled and punched, exactly whenever they are stat'ed and by the size of the
//! change in between.
//!
//! Scan and files must not count twice: [`Tally::gate`] holds the next shard to be scanned, and for
//! shards not yet scanned the ids that count themselves, which the scan then skips. The scan holds the
//! gate for one shard at a time (a few thousand stats at most); after it, the gate is passed by a flag.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;

use crate::ExtentId;
use crate::id::shard_path;

/// The unit of `st_blocks`.
pub(crate) const STAT_BLOCK_BYTES: u64 = 512;
const SHARDS: u16 = 256;

/// The store's sum.
#[derive(Default)]
pub(crate) struct Tally {
    used_bytes: AtomicI64,
    scanned: AtomicBool,
    /// Lock order: innermost.
    gate: Mutex<Gate>,
}

#[derive(Default)]
struct Gate {
    next_shard: u16,
    own_account: HashSet<ExtentId>,
}

impl Tally {
    /// The sum now. Short of the whole until the scan is done; never negative to the outside.
    pub(crate) fn used_bytes(&self) -> u64 {
        u64::try_from(self.used_bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Whether every file has been counted.
    pub(crate) fn is_complete(&self) -> bool {
        self.scanned.load(Ordering::Acquire)
    }

    /// Whether the sum includes the file already. If not, it's up to the caller to add it, for good.
    pub(crate) fn included(&self, id: ExtentId) -> bool {
        if self.is_complete() {
            return true;
        }
        let mut gate = self.gate.lock();
        // `insert` is false for a file that took its own account before.
        u16::from(id.shard()) < gate.next_shard || !gate.own_account.insert(id)
    }

    pub(crate) fn add(&self, bytes: i64) {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts all files that don't count themselves.
    pub(super) fn scan(&self, dir: &Path, stop: impl Fn() -> bool) {
        for shard in 0..SHARDS {
            if stop() {
                return;
            }
            let mut gate = self.gate.lock();
            self.add(scan_shard(&shard_path(dir, shard as u8), &gate.own_account));
            gate.next_shard = shard + 1;
        }
        let mut gate = self.gate.lock();
        gate.own_account = HashSet::new();
        self.scanned.store(true, Ordering::Release);
    }
}

/// What can't be read counts as nothing: a file removed meanwhile is the usual reason.
fn scan_shard(path: &Path, skip: &HashSet<ExtentId>) -> i64 {
    let Ok(entries) = fs::read_dir(path) else {
        return 0;
    };
    let bytes = entries.flatten().filter_map(|entry| {
        let id = ExtentId::parse(entry.file_name().to_str()?)?;
        let metadata = (!skip.contains(&id)).then(|| entry.metadata())?;
        Some(metadata.ok()?.blocks() * STAT_BLOCK_BYTES)
    });
    i64::try_from(bytes.sum::<u64>()).unwrap_or(i64::MAX)
}

/// What an open file has counted for itself.
#[derive(Default)]
pub(crate) struct Account {
    counted_bytes: AtomicI64,
}

impl Account {
    /// An account that starts at `bytes`, of which the sum knows already.
    pub(crate) fn starting_at(bytes: u64) -> Account {
        Account {
            counted_bytes: AtomicI64::new(bytes as i64),
        }
    }

    /// The file takes exactly that many bytes now.
    pub(crate) fn set(&self, tally: &Tally, bytes: u64) {
        let before = self.counted_bytes.swap(bytes as i64, Ordering::Relaxed);
        tally.add(bytes as i64 - before);
    }

    /// The file has grown by about that much.
    pub(crate) fn grow(&self, tally: &Tally, bytes: u64) {
        self.counted_bytes
            .fetch_add(bytes as i64, Ordering::Relaxed);
        tally.add(bytes as i64);
    }
}
