//! Bytes that are only in the store.
//!
//! Each byte is fetched once however many readers want it (see `flights`), and stored; who only reads waits for
//! its arrival (see `cold_reads`), who changes the file until it is stored. Every request carries the etag that the
//! file had at open, so one open never mixes two versions. Memory is bounded over all files, apart for readers that
//! wait, for what is fetched ahead, and for `fused load`. An error reaches every reader that needs the bytes; the next
//! read tries again.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use extents::ExtentId;
use futures::{TryStreamExt, stream};
use journal::Origin;
use nix::errno::Errno;
use parking_lot::Mutex;

use super::arrivals::{Moment, Room, Shelf};
use super::flights::{Claim, Flights};
use super::open_table::OpenFile;
use super::readahead::{CUT_BYTES, WINDOW_BYTES_MAX};
use super::{Error, Result, Vfs, extent_id};

/// The longest ranged read. Large enough to be paced by bandwidth, not by latency; eight of them at once
/// fill a 10 Gb/s link at 50 ms.
const REQUEST_BYTES_MAX: u64 = CUT_BYTES;

/// What a read of a few bytes is rounded out to: a request costs more than that.
pub(super) const REQUEST_BYTES_MIN: u64 = 32 << 10;

/// Requests of one caller side by side.
pub(super) const REQUESTS_MAX: usize = 8;

/// Who wants the bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    /// Somebody waits.
    Now,
    /// Somebody may want them soon.
    Ahead,
    /// They are to be here, whoever wants them. Whoever says so has the memory already.
    Load,
}

impl Wish {
    /// Bytes in memory at a time, over all files: one must not keep the other waiting.
    const fn bytes_max(self) -> u64 {
        match self {
            Wish::Now => 32 << 20,
            // The longest window, and what is just being read.
            Wish::Ahead => WINDOW_BYTES_MAX + REQUEST_BYTES_MAX,
            Wish::Load => 64 << 20,
        }
    }
}

/// What all fetches share.
pub struct Fetcher {
    now: Shelf,
    ahead: Shelf,
    load: Shelf,
    /// What is under way of files that are open, or were when it began. Locked for moments.
    flights: Mutex<HashMap<ExtentId, Weak<Flights>>>,
}

impl Default for Fetcher {
    fn default() -> Self {
        Self {
            now: Shelf::new(Wish::Now.bytes_max()),
            ahead: Shelf::new(Wish::Ahead.bytes_max()),
            load: Shelf::new(Wish::Load.bytes_max()),
            flights: Mutex::default(),
        }
    }
}

impl Fetcher {
    /// Where a request takes its memory and puts what arrives; a load has its memory already.
    fn shelf(&self, wish: Wish) -> Option<&Shelf> {
        match wish {
            Wish::Now => Some(&self.now),
            Wish::Ahead => Some(&self.ahead),
            Wish::Load => None,
        }
    }

    /// The flights of an extent file: what one open has begun to fetch, the next does not fetch again.
    pub(super) fn flights_of(&self, id: ExtentId) -> Arc<Flights> {
        let mut flights = self.flights.lock();
        if let Some(known) = flights.get(&id).and_then(Weak::upgrade) {
            return known;
        }
        if flights.len() == flights.capacity() {
            flights.retain(|_, known| known.strong_count() > 0);
        }
        let new = Arc::default();
        flights.insert(id, Arc::downgrade(&new));
        new
    }

    /// Memory for a request of a load. Apart from the request, because a load may end while it waits for it.
    pub(super) async fn load_memory(&self, bytes: u64) -> Option<Room> {
        self.load.room(bytes).await
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
        let edges_bytes = 2 * REQUEST_BYTES_MIN;
        let _memory = self.inner.fetcher.now.room(edges_bytes).await;
        let missing = |valid| file.extents.missing_edges(range.clone(), valid);
        self.fill(file, missing, |_, _| {}).await
    }

    /// Makes `[offset, offset + len)` resident.
    pub(super) async fn fetch_now(
        &self,
        file: &Arc<OpenFile>,
        offset: u64,
        len: u64,
    ) -> Result<()> {
        if !self.needs_fetch(file) {
            return Ok(());
        }
        self.fetch(file, offset..offset.saturating_add(len), Wish::Now)
            .await
    }

    /// Fetches in the background. What fails is fetched by the read that needs it.
    pub(super) fn start_ahead(&self, file: &Arc<OpenFile>, range: Range<u64>) {
        let vfs = self.clone();
        let file = file.clone();
        tokio::spawn(async move {
            let fetched = stream::iter(requests(range).map(Ok::<_, Error>))
                .try_for_each_concurrent(REQUESTS_MAX, |range| async {
                    // Evicting must not meet a late answer: it would pass for what is evicted then.
                    let _here = file.residency.read().await;
                    vfs.fetch(&file, range, Wish::Ahead).await
                });
            if let Err(error) = fetched.await {
                tracing::warn!(ino = %file.ino, %error, "cannot fetch ahead; reads fetch what they need");
                file.fetch.whole_started.store(false, Ordering::Release);
            }
        });
    }

    pub(super) async fn fetch(&self, file: &OpenFile, range: Range<u64>, wish: Wish) -> Result<()> {
        let end = range.end.min(file.source.read().valid);
        stream::iter(requests(range.start..end).map(Ok::<_, Error>))
            .try_for_each_concurrent(REQUESTS_MAX, |range| self.fetch_once(file, range, wish))
            .await
    }

    /// Makes a range resident, by our own requests or by waiting for others'. If theirs fail, ours
    /// are next.
    async fn fetch_once(&self, file: &OpenFile, range: Range<u64>, wish: Wish) -> Result<()> {
        loop {
            let since = file.fetch.arrivals.now();
            let missing = file
                .extents
                .missing(range.clone(), file.source.read().valid);
            let (claims, landings) = file.fetch.flights.claim(&missing);
            for claim in claims {
                self.bring(file, &claim, since, wish).await?;
            }
            if landings.is_empty() {
                return all_here(file, range);
            }
            for mut landing in landings {
                landing.end().await;
            }
        }
    }

    /// Makes what was claimed resident; who waits to read it is told as soon as it has arrived.
    ///
    /// `since` is from before it was seen to be missing: what a program has written since is not hidden from readers.
    pub(super) async fn bring(
        &self,
        file: &OpenFile,
        claim: &Claim,
        since: Moment,
        wish: Wish,
    ) -> Result<()> {
        let bytes = claim.range.end - claim.range.start;
        let place = match self.inner.fetcher.shelf(wish) {
            Some(shelf) => shelf.room(bytes).await.map(|room| (shelf, room)),
            None => None,
        };
        let missing = |valid: u64| {
            let end = claim.range.end.min(valid);
            file.extents.missing(claim.range.start..end, valid)
        };
        // While somebody writes, what arrives may be older than what is there by then.
        let is_only_read = !file.has_writers();
        self.fill(file, missing, |start, bytes| {
            let is_all =
                start == claim.range.start && bytes.len() as u64 == claim.range.end - start;
            if is_only_read
                && is_all
                && let Some((shelf, room)) = &place
                && shelf.put(
                    &file.fetch.arrivals,
                    since,
                    start,
                    bytes.clone(),
                    room.clone(),
                )
            {
                claim.arrived();
            }
        })
        .await?;
        file.fetch.fetched_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.inner.space.grew();
        Ok(())
    }

    /// Fetches what `missing` says, given the valid length. Our own flusher may replace or move the
    /// object meanwhile; what is not local is the same in the new one, so that one is asked then.
    /// `arrived` is told of what has come, before it is stored.
    async fn fill(
        &self,
        file: &OpenFile,
        missing: impl Fn(u64) -> Vec<Range<u64>>,
        arrived: impl Fn(u64, &Bytes),
    ) -> Result<()> {
        loop {
            let source = file.source.read().clone();
            let ranges = missing(source.valid);
            let Some(origin) = source.origin.filter(|_| !ranges.is_empty()) else {
                return Ok(());
            };
            let filled = self.fill_from(file, &origin, source.valid, ranges, &arrived);
            match filled.await {
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
        arrived: &impl Fn(u64, &Bytes),
    ) -> Result<()> {
        stream::iter(missing.into_iter().map(Ok::<Range<u64>, Error>))
            .try_for_each_concurrent(2, |range| async move {
                // A hole may reach past the object's end by the granule's rounding.
                let range = range.start..range.end.min(valid);
                let bytes = self
                    .flusher()
                    .get(file.ino, origin, range.clone())
                    .await
                    .map_err(|error| Error::fetching(&origin.key, error))?;
                arrived(range.start, &bytes);
                self.keep_fetched(&file.extents, range.start, bytes).await
            })
            .await
    }

    /// Takes over the object that our own flusher has put in the place of `old`; whether there is one.
    /// Somebody else's version would have begun another generation of the file.
    async fn renew_source(&self, file: &OpenFile, old: &Origin) -> Result<bool> {
        let Some(origin) = self.origin_of(file).await? else {
            return Ok(false);
        };
        if (&origin.key, &origin.etag) != (&old.key, &old.etag) {
            file.source.write().origin = Some(origin);
            return Ok(true);
        }
        let recorded = self.flusher().replaced_by_own(file.ino, old).await;
        // As long as nobody can tell what has replaced it, it is the store that fails: the next read may succeed.
        let is_there = recorded.map_err(|error| Error::fetching(&old.key, error))?;
        // Meanwhile somebody else's may have been found there.
        let origin = match is_there {
            true => self.origin_of(file).await?,
            false => None,
        };
        match origin {
            Some(origin) => file.source.write().origin = Some(origin),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// The object that holds what this open file shows; none if the file has become another one's since.
    async fn origin_of(&self, file: &OpenFile) -> Result<Option<Origin>> {
        let inode = self.journal().inode(file.ino).await?;
        let same = inode.filter(|inode| extent_id(inode) == file.extents.id());
        Ok(same.and_then(|inode| inode.content.origin))
    }
}

/// Rather an error than zeros that nobody wrote.
fn all_here(file: &OpenFile, range: Range<u64>) -> Result<()> {
    let source = file.source.read().clone();
    let missing = file.extents.missing(range, source.valid);
    if missing.is_empty() {
        return Ok(());
    }
    let key = source.origin.map(|origin| origin.key);
    tracing::error!(ino = %file.ino, ?key, ?missing, "what was fetched is not there");
    Err(Errno::EIO.into())
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

/// Cuts a range where every request of the file is cut, so that two readers' requests are the same.
pub(super) fn requests(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let end = (start / REQUEST_BYTES_MAX + 1) * REQUEST_BYTES_MAX;
        let request = start..end.min(range.end);
        start = request.end;
        (!request.is_empty()).then_some(request)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_at_the_same_places_wherever_it_begins() {
        const MAX: u64 = REQUEST_BYTES_MAX;
        let cut = |range| requests(range).collect::<Vec<_>>();
        assert_eq!(cut(0..0), []);
        assert_eq!(cut(0..1), vec![0..1]);
        assert_eq!(cut(5..MAX), vec![5..MAX]);
        assert_eq!(
            cut(MAX - 1..2 * MAX + 1),
            [MAX - 1..MAX, MAX..2 * MAX, 2 * MAX..2 * MAX + 1]
        );
    }
}
