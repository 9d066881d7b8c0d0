//! Bytes that are only in the store.
//!
//! The first read of a file that is not wholly resident starts to fetch it whole, in parallel
//! ranged reads, and waits only for its own blocks. A block is fetched once however many readers
//! want it: the first fetches, the others wait for the same cell. Every request carries the etag
//! that the file had at open, so one open never mixes two versions. Memory is bounded by a
//! semaphore over all files; an error reaches every reader that needs the block, and the next read
//! tries again.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::{TryStreamExt, stream};
use journal::Origin;
use remote::{ETag, ObjectKey};
use tokio::sync::Semaphore;

use super::open_table::OpenFile;
use super::{Error, Result, Vfs};

/// One ranged read. Large enough to be paced by bandwidth, not by latency; eight of them at once
/// fill a 10 Gb/s link at 50 ms.
const BLOCK_BYTES: u64 = 8 << 20;

/// Ranged reads under way at once, over all files: their buffers are the memory bound (64 MiB).
const BLOCKS_IN_FLIGHT_MAX: usize = 8;

/// What all fetches share.
pub struct Fetcher {
    permits: Arc<Semaphore>,
}

impl Default for Fetcher {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(BLOCKS_IN_FLIGHT_MAX)),
        }
    }
}

impl Vfs {
    /// Whether some byte of the file may be in the store only.
    pub(super) fn needs_fetch(&self, file: &OpenFile) -> bool {
        if file.source.read().valid == 0 || file.fetch.complete.load(Ordering::Acquire) {
            return false;
        }
        let valid = file.source.read().valid;
        let resident = file.extents.is_resident(valid);
        if resident {
            file.fetch.complete.store(true, Ordering::Release);
        }
        !resident
    }

    /// Whether a write there would have to fetch something first.
    pub(super) fn needs_edges(&self, file: &OpenFile, offset: u64, len: u64) -> bool {
        self.needs_fetch(file) && !missing_edges(file, offset, len).is_empty()
    }

    /// Makes it safe to overwrite `[offset, offset + len)`: of what is there now, only the granules
    /// that are overwritten in part are fetched.
    pub(super) async fn fetch_edges(&self, file: &OpenFile, offset: u64, len: u64) -> Result<()> {
        if !self.needs_fetch(file) {
            return Ok(());
        }
        let range = offset..offset.saturating_add(len);
        self.fill(file, |valid| {
            file.extents.missing_edges(range.clone(), valid)
        })
        .await
    }

    /// Makes `[offset, offset + len)` resident.
    pub(super) async fn fetch_blocks(
        &self,
        file: &Arc<OpenFile>,
        offset: u64,
        len: u64,
    ) -> Result<()> {
        if !self.needs_fetch(file) {
            return Ok(());
        }
        let end = offset.saturating_add(len).min(file.source.read().valid);
        stream::iter(blocks(offset..end).map(Ok::<u64, Error>))
            .try_for_each_concurrent(BLOCKS_IN_FLIGHT_MAX, |block| self.fetch_block(file, block))
            .await
    }

    /// Makes `[offset, offset + len)` resident, and starts on the rest of the file.
    pub(super) async fn fetch_range(
        &self,
        file: &Arc<OpenFile>,
        offset: u64,
        len: u64,
    ) -> Result<()> {
        if !self.needs_fetch(file) {
            return Ok(());
        }
        self.fetch_blocks(file, offset, len).await?;
        if !file.fetch.whole_started.swap(true, Ordering::AcqRel) {
            let vfs = self.clone();
            let file = file.clone();
            tokio::spawn(async move {
                if let Err(error) = vfs.fetch_whole(&file).await {
                    tracing::warn!(ino = %file.ino, %error, "cannot fetch the file whole; reads fetch what they need");
                    file.fetch.whole_started.store(false, Ordering::Release);
                }
            });
        }
        Ok(())
    }

    /// Makes the whole file resident.
    pub(super) async fn fetch_whole(&self, file: &Arc<OpenFile>) -> Result<()> {
        if !self.needs_fetch(file) {
            return Ok(());
        }
        self.fetch_blocks(file, 0, u64::MAX).await?;
        self.inner.space.grew();
        Ok(())
    }

    async fn fetch_block(&self, file: &Arc<OpenFile>, block: u64) -> Result<()> {
        let cell = file.fetch.blocks.lock().entry(block).or_default().clone();
        cell.get_or_try_init(|| self.fill_block(file, block))
            .await?;
        Ok(())
    }

    async fn fill_block(&self, file: &OpenFile, block: u64) -> Result<()> {
        let start = block * BLOCK_BYTES;
        self.fill(file, |valid| {
            let end = (start + BLOCK_BYTES).min(valid);
            match start < end {
                true => file.extents.missing(start..end, valid),
                false => Vec::new(),
            }
        })
        .await
    }

    /// Fetches what `missing` says, given the valid length. Our own flusher may replace or move the
    /// object meanwhile; what is not local is the same in the new one, so that one is asked then.
    async fn fill(&self, file: &OpenFile, missing: impl Fn(u64) -> Vec<Range<u64>>) -> Result<()> {
        loop {
            let source = file.source.read().clone();
            let ranges = missing(source.valid);
            let Some(origin) = source.origin.filter(|_| !ranges.is_empty()) else {
                return Ok(());
            };
            match self.fill_from(file, &origin, source.valid, ranges).await {
                Err(Error::Remote { source, .. })
                    if is_another_version(&source) && self.renew_source(file, &origin).await? => {}
                done => return done,
            }
        }
    }

    async fn fill_from(
        &self,
        file: &OpenFile,
        origin: &Origin,
        valid: u64,
        missing: Vec<Range<u64>>,
    ) -> Result<()> {
        let key = &ObjectKey::new(origin.key.clone());
        let etag = &origin.etag.clone().map(ETag);
        let _permit = self.inner.fetcher.permits.acquire().await;
        stream::iter(missing.into_iter().map(Ok::<Range<u64>, Error>))
            .try_for_each_concurrent(2, |range| async move {
                // A hole may reach past the object's end by the granule's rounding.
                let range = range.start..range.end.min(valid);
                let bytes = self
                    .remote()
                    .get(key, range.clone(), etag.as_ref())
                    .await
                    .map_err(|source| Error::remote(key, source))?;
                Ok(file.extents.fill(range.start, bytes).await?)
            })
            .await
    }

    /// Takes over the object that our own flusher has put in the place of `old`; whether there is one.
    /// Somebody else's version would have begun another generation of the file.
    async fn renew_source(&self, file: &OpenFile, old: &Origin) -> Result<bool> {
        let Some(inode) = self.journal().inode(file.ino).await? else {
            return Ok(false);
        };
        let generation = file.extents.id().generation;
        let Some(origin) = inode.content.origin else {
            return Ok(false);
        };
        if inode.content.generation != generation {
            return Ok(false);
        }
        if (&origin.key, &origin.etag) != (&old.key, &old.etag) {
            file.source.write().origin = Some(origin);
            return Ok(true);
        }
        let recorded = self.flusher().replaced_by_own(file.ino, old).await;
        let is_there = recorded.unwrap_or_else(|error| {
            tracing::warn!(ino = %file.ino, %error, "cannot tell what has replaced the object");
            false
        });
        if is_there && let Some(inode) = self.journal().inode(file.ino).await? {
            file.source.write().origin = inode.content.origin;
        }
        Ok(is_there)
    }
}

/// The object that was asked for is not there any more, or not in that version.
fn is_another_version(error: &remote::Error) -> bool {
    matches!(
        error,
        remote::Error::NotFound { .. } | remote::Error::Changed { .. }
    )
}

/// What has to be fetched before `[offset, offset + len)` can be overwritten.
fn missing_edges(file: &OpenFile, offset: u64, len: u64) -> Vec<Range<u64>> {
    let valid = file.source.read().valid;
    let range = offset..offset.saturating_add(len);
    file.extents.missing_edges(range, valid)
}

fn blocks(range: Range<u64>) -> impl Iterator<Item = u64> {
    let last = match range.is_empty() {
        true => 0,
        false => range.end.div_ceil(BLOCK_BYTES),
    };
    (range.start / BLOCK_BYTES)..last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_touches_each_of_its_blocks_once() {
        assert_eq!(blocks(0..0).count(), 0);
        assert_eq!(blocks(0..1).collect::<Vec<_>>(), [0]);
        assert_eq!(blocks(0..BLOCK_BYTES).collect::<Vec<_>>(), [0]);
        assert_eq!(
            blocks(BLOCK_BYTES - 1..BLOCK_BYTES + 1).collect::<Vec<_>>(),
            [0, 1]
        );
    }
}
