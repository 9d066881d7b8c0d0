//! Bringing a whole file into the cache: what `fused load` and what is done ahead of readers have in common.
//!
//! What is here already is not fetched. Room is reserved before anything is (see `room`), and memory taken before each
//! request.

use std::ops::Range;
use std::sync::Arc;

use futures::{TryStreamExt, stream};
use journal::Inode;
use nix::errno::Errno;

use super::fetch::{REQUESTS_MAX, Wish, requests};
use super::open::OpenRequest;
use super::open_table::OpenFile;
use super::{Error, Result, Vfs, extent_id};

/// Who has a file brought in.
pub(super) trait Bringer: Sync {
    /// So many bytes of it are not here.
    fn to_fetch(&self, bytes: u64);
    /// So many have come.
    fn landed(&self, bytes: u64);
    /// Whether room is made for it where there is none. The file stays open until there is, so this is for those
    /// who wait themselves.
    fn waits_for_room(&self) -> bool;
    /// Nobody wants it any more.
    fn is_stopped(&self) -> bool;
    /// It has come, takes so many bytes, and is about to be closed.
    fn has_come(&self, _file: &OpenFile, _takes_bytes: u64) {}
}

/// A file that is here.
pub(super) struct BroughtIn {
    /// What was fetched of it.
    pub fetched_bytes: u64,
    /// What it takes in the cache.
    pub takes_bytes: u64,
}

impl Vfs {
    /// Brings in what is not here of a file. Its directory has been listed, so that what is here is known to be the
    /// object's.
    pub(super) async fn bring_in(&self, inode: Inode, bringer: &impl Bringer) -> Result<BroughtIn> {
        if let Some(takes_bytes) = self.all_here(&inode)? {
            return Ok(BroughtIn {
                fetched_bytes: 0,
                takes_bytes,
            });
        }
        let ino = inode.ino;
        // Whoever looks at it next finds its attributes here as well.
        self.learn_anyway(inode).await?;
        let opened = self.open_unnoticed(ino, OpenRequest::default()).await?;
        let fetched = self.fetch_all(&opened.file, bringer).await;
        let stat = opened.file.extents.stat();
        if let (Ok(_), Ok(stat)) = (&fetched, &stat) {
            bringer.has_come(&opened.file, stat.allocated_bytes);
        }
        self.release(opened.handle).await?;
        Ok(BroughtIn {
            fetched_bytes: fetched?,
            takes_bytes: stat?.allocated_bytes,
        })
    }

    async fn fetch_all(&self, file: &Arc<OpenFile>, bringer: &impl Bringer) -> Result<u64> {
        if !self.needs_fetch(file) {
            return Ok(0);
        }
        let valid = file.source.read().valid;
        let missing = missing_bytes(file, 0..valid, valid);
        bringer.to_fetch(missing);
        let room = match bringer.waits_for_room() {
            true => self.reserve(missing).await?,
            false => self.reserve_at_once(missing)?,
        };
        stream::iter(requests(0..valid).map(Ok::<_, Error>))
            .try_for_each_concurrent(REQUESTS_MAX, |range| {
                let room = &room;
                async move {
                    let bytes = range.end - range.start;
                    let _memory = self.inner.fetcher.load_memory(bytes).await;
                    if bringer.is_stopped() {
                        return Err(Errno::ECANCELED.into());
                    }
                    // As for what is fetched ahead: evicting must not meet a late answer.
                    let _here = file.residency.read().await;
                    let missing = missing_bytes(file, range.clone(), valid);
                    self.fetch(file, range, Wish::Load).await?;
                    room.landed(missing);
                    bringer.landed(missing);
                    Ok(())
                }
            })
            .await?;
        Ok(missing)
    }

    /// What a file takes of which nothing is in the store only.
    fn all_here(&self, inode: &Inode) -> Result<Option<u64>> {
        if inode.size == 0 {
            return Ok(Some(0));
        }
        let extents = self.extents().open_file(extent_id(inode))?;
        match extents.filter(|extents| extents.is_resident(inode.content.valid)) {
            Some(extents) => Ok(Some(extents.stat()?.allocated_bytes)),
            None => Ok(None),
        }
    }
}

fn missing_bytes(file: &OpenFile, range: Range<u64>, valid: u64) -> u64 {
    let missing = file.extents.missing(range, valid);
    missing.iter().map(|range| range.end - range.start).sum()
}
