//! Durability: fdatasync, write-back, seals.
//!
//! fdatasync of a new file makes its name durable as well on ext4, XFS and btrfs: the transaction
//! that created inode and name is one, and is committed. tmpfs survives nothing, and is told apart by
//! whoever chose it.
//!
//! Dropping the future of a sync doesn't stop it: a failure still poisons the store.

use std::ops::Range;
use std::sync::Arc;

use super::{ExtentFile, residency};
use crate::io::{Op, Request};
use crate::{Error, Result};

/// What an extent file looks like: to tell after a power cut whether it still does.
///
/// `map_digest` is the first eight bytes, little-endian, of the BLAKE3 hash of start and end (u64,
/// little-endian) of each range of data in ascending order, touching ranges merged, ends cut off at
/// the size. Preallocated ranges make it unreliable in the safe direction: one that was read counts
/// as data until the next boot, so the file looks incomplete then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The length in bytes.
    pub size: u64,
    /// The digest of the map.
    pub map_digest: u64,
}

impl ExtentFile {
    /// Makes everything written so far survive a power cut. A failure poisons the store.
    pub async fn sync_data(&self) -> Result<()> {
        let stopped = || Error::Stopped {
            op: "syncing",
            what: self.id.to_string(),
        };
        let me = self.me.upgrade().ok_or_else(stopped)?;
        self.store
            .aside(move || me.sync_data_blocking())
            .await
            .map_err(|_| stopped())?
    }

    /// As `sync_data`, on this thread.
    pub fn sync_data_blocking(&self) -> Result<()> {
        self.store.check()?;
        let _point = killpoints::around("extent sync");
        loop {
            match self.file.sync_data() {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(self.store.poison("fdatasync", &self.id.to_string(), &error));
                }
            }
        }
    }

    /// Starts to write dirty pages of the range back, on an engine thread. Promises nothing.
    pub fn start_writeback(&self, range: Range<u64>) {
        if range.is_empty() || range.start > i64::MAX as u64 {
            return;
        }
        // Zero stands for everything up to the end.
        let len = u32::try_from(range.end - range.start).unwrap_or(0);
        self.store.engine.submit(Request {
            file: Arc::clone(&self.file),
            offset: range.start,
            op: Op::Writeback(len),
            direct: false,
            done: Box::new(|_| {}),
        });
    }

    /// The file's length and the digest of its map, asked of the file system now.
    pub fn seal(&self) -> Result<Seal> {
        let map =
            residency::scan(&self.file).map_err(|error| self.error("reading the map", error))?;
        let mut hasher = blake3::Hasher::new();
        for range in map.iter() {
            hasher
                .update(&range.start.to_le_bytes())
                .update(&range.end.to_le_bytes());
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Ok(Seal {
            size: self.size()?,
            map_digest: u64::from_le_bytes(first),
        })
    }
}
