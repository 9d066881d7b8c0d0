//! Reading a file that is not all here.
//!
//! A read waits for the bytes that it asks for, no others, and takes them as they arrive (see `arrivals`); what
//! follows a reader that goes on is fetched ahead of it (see `readahead`), and once half of a file has been read into
//! the cache, so is the rest: a file that is all here needs no daemon.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use rangemap::RangeSet;
use tokio::sync::{OwnedRwLockReadGuard, oneshot};

use super::arrivals::Moment;
use super::fetch::{REQUEST_BYTES_MIN, Wish};
use super::flights::{Claim, Landing};
use super::open_table::OpenFile;
use super::{Error, Result, Vfs};

/// Files up to this length are fetched whole, by one request.
const WHOLE_BYTES_MAX: u64 = 256 << 10;

/// Keeps a file from being evicted; shared by a read and the fetches that it has begun, which may outlast it.
type Here = Arc<OwnedRwLockReadGuard<()>>;

impl Vfs {
    /// Reads up to `len` bytes at `offset`; short at the end of the file.
    pub(super) async fn read_cold(
        &self,
        file: &Arc<OpenFile>,
        here: OwnedRwLockReadGuard<()>,
        offset: u64,
        len: usize,
    ) -> Result<Bytes> {
        let end = offset.saturating_add(len as u64);
        let valid = file.source.read().valid;
        let wanted = offset..end.min(valid);
        if wanted.is_empty() {
            return Ok(file.extents.read_hot(offset, len).await?);
        }
        self.foresee(file, &wanted, valid);
        // Until all is read: what is given up in between would read as zeros.
        let here = Arc::new(here);
        let pieces = self.arrive(file, &here, wanted).await?;
        let assembled = assemble(file, offset..end, pieces).await;
        drop(here);
        assembled
    }

    /// Starts on what may be read next.
    fn foresee(&self, file: &Arc<OpenFile>, wanted: &Range<u64>, valid: u64) {
        if valid <= WHOLE_BYTES_MAX {
            return;
        }
        let half_is_here = file.fetch.fetched_bytes.load(Ordering::Relaxed) > valid / 2;
        if half_is_here && !file.fetch.whole_started.swap(true, Ordering::AcqRel) {
            self.start_ahead(file, 0..valid);
        }
        let ahead = file.fetch.readahead.lock().read(wanted, valid);
        if !ahead.is_empty() {
            self.start_ahead(file, ahead);
        }
    }

    /// Waits until every byte of a range is in the extent file, or among what is returned.
    async fn arrive(
        &self,
        file: &Arc<OpenFile>,
        here: &Here,
        wanted: Range<u64>,
    ) -> Result<Vec<(Range<u64>, Bytes)>> {
        let mut is_first = true;
        loop {
            let since = file.fetch.arrivals.now();
            let pieces = file.fetch.arrivals.of(&wanted);
            let valid = file.source.read().valid;
            let mut missing: RangeSet<u64> = RangeSet::new();
            missing.extend(file.extents.missing(wanted.clone(), valid));
            for (range, _) in &pieces {
                missing.remove(range.clone());
            }
            if !missing.overlaps(&wanted) {
                return Ok(pieces);
            }
            let asked = file.extents.missing(rounded(&wanted, valid), valid);
            let (claims, landings) = file.fetch.flights.claim(&asked);
            let own: Vec<_> = claims
                .into_iter()
                .map(|claim| self.fly(file, here, claim, since))
                .collect();
            for (mut landing, mut failure) in own {
                landing.arrival().await;
                if let Ok(error) = failure.try_recv() {
                    return Err(error);
                }
            }
            for mut landing in landings {
                match is_first {
                    true => landing.arrival().await,
                    // It had arrived, and is gone again, or somebody writes: when it is stored it can be read.
                    false => landing.end().await,
                }
            }
            is_first = false;
        }
    }

    /// Fetches what was claimed, with nobody having to wait until it is stored. What fails before it has arrived is
    /// told.
    fn fly(
        &self,
        file: &Arc<OpenFile>,
        here: &Here,
        claim: Claim,
        since: Moment,
    ) -> (Landing, oneshot::Receiver<Error>) {
        let landing = claim.landing();
        let (tell, failure) = oneshot::channel();
        let (vfs, file, here) = (self.clone(), Arc::clone(file), Arc::clone(here));
        tokio::spawn(async move {
            if let Err(error) = vfs.bring(&file, &claim, since, Wish::Now).await {
                match claim.has_arrived() {
                    true => {
                        tracing::warn!(ino = %file.ino, %error, "cannot keep what was fetched; it will be fetched again")
                    }
                    // Nobody may be waiting any more.
                    false => drop(tell.send(error)),
                }
            }
            drop((claim, here));
        });
        (landing, failure)
    }
}

/// What a read of a range asks for of a file of `valid` bytes.
fn rounded(wanted: &Range<u64>, valid: u64) -> Range<u64> {
    if valid <= WHOLE_BYTES_MAX {
        return 0..valid;
    }
    let start = wanted.start / REQUEST_BYTES_MIN * REQUEST_BYTES_MIN;
    start..wanted.end.next_multiple_of(REQUEST_BYTES_MIN).min(valid)
}

/// The bytes of a range: `pieces` in order, and what is between and after them from the extent file.
async fn assemble(
    file: &OpenFile,
    range: Range<u64>,
    pieces: Vec<(Range<u64>, Bytes)>,
) -> Result<Bytes> {
    for (piece, _) in &pieces {
        file.fetch.arrivals.was_read(piece);
    }
    if let [(piece, bytes)] = pieces.as_slice()
        && *piece == range
    {
        return Ok(bytes.clone());
    }
    if pieces.is_empty() {
        let len = (range.end - range.start) as usize;
        return Ok(file.extents.read_hot(range.start, len).await?);
    }
    let mut whole = BytesMut::new();
    let mut at = range.start;
    let end = range.end..range.end;
    for (piece, bytes) in pieces.into_iter().chain([(end, Bytes::new())]) {
        let gap = (piece.start - at) as usize;
        if gap > 0 {
            let local = file.extents.read_hot(at, gap).await?;
            whole.extend_from_slice(&local);
            if local.len() < gap {
                // The end of the file, or it has just been cut.
                break;
            }
        }
        whole.extend_from_slice(&bytes);
        at = piece.end;
    }
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_asked_for_whole_and_large_ones_by_rounded_ranges() {
        const KIB: u64 = 1 << 10;
        assert_eq!(rounded(&(5..6), 256 * KIB), 0..256 * KIB);
        assert_eq!(rounded(&(5..6), 256 * KIB + 1), 0..32 * KIB);
        assert_eq!(
            rounded(&(32 * KIB..64 * KIB), 1024 * KIB),
            32 * KIB..64 * KIB
        );
        assert_eq!(
            rounded(&(1000 * KIB..1003 * KIB), 1003 * KIB),
            992 * KIB..1003 * KIB
        );
    }
}
