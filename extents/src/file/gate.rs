//! Who may touch which range of an extent file at the same time.
//!
//! Four kinds of work meet on a file: *writes* of programs (through the page cache), *fills* of fetched
//! data (past the page cache, or through it), and *exclusive* work (truncate, punch, allocate, zeroing). Reads
//! need no permission. The rules:
//!
//! 1. A fill never covers what a program wrote: it claims exactly the holes of its range, under the
//!    lock, waits for writes in flight there first, and a write waits for claims in its range. So either
//!    the write comes first and the fill sees data, or the fill comes first and the write goes over it.
//! 2. Direct fills and anything that dirties the page cache exclude each other on the whole file. The
//!    kernel keeps direct writes and the page cache coherent by dropping the cached pages of the range;
//!    a large folio that also covers a neighbouring range that was dirtied in between can't be
//!    dropped: it would go on serving stale zeros, and the kernel marks the file with EIO, which the
//!    next fdatasync would report and we would take for a failed device. A precaution
//!    from what is known of the kernel's direct-write path, not from an observation: with the rule taken
//!    out, the tests in `races` still passed on ext4, XFS and tmpfs of Linux 6.18.
//! 3. After a program's first write to a file, its fills go through the page cache. So a writer waits for
//!    direct fills at most once, and a stream of them can't starve it.
//! 4. Exclusive work waits until nothing is in flight, and whoever comes later waits behind it.
//! 5. Data that was fetched before a shrinking truncate must not appear after it: fills end at the
//!    smallest length that the file has had since it was opened, or emptied (`fill_end`). `valid` only
//!    shrinks in between, so nothing beyond is ever wanted.
//!
//! A claim is only held by a request that an engine has been given: no claim waits for memory, for the
//! network or for a task to be polled. So the wait of a synchronous caller is bounded by the queue of
//! the disk, whichever thread it runs on.
//!
//! The lock is held for bookkeeping only, with one exception: [`Gate::rescan`] asks the file system for
//! the map under it (two seeks per range of data), because the answer must not be overtaken. Lock
//! order: innermost.

use std::io;
use std::ops::Range;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rangemap::RangeSet;
use tokio::sync::Notify;

use super::residency::{Resident, round_out};

/// How fetched data reaches the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Past the page cache.
    Direct,
    /// Through the page cache.
    Buffered,
}

/// The gate of one file.
pub(crate) struct Gate {
    granule: u64,
    state: Mutex<State>,
    /// For synchronous waiters; notified with `tasks` whenever something ends.
    threads: Condvar,
    /// For asynchronous waiters.
    tasks: Notify,
}

#[derive(Default)]
struct State {
    resident: Resident,
    /// Claims in flight; disjoint.
    filling: Vec<Range<u64>>,
    direct_fills: usize,
    buffered_fills: usize,
    /// Program writes in flight, rounded out to granules; may overlap.
    writing: Vec<Range<u64>>,
    exclusive: bool,
    exclusive_waiting: usize,
    /// Rule 3.
    written: bool,
    /// Rule 5.
    fill_end: u64,
}

impl State {
    fn in_flight(&self) -> bool {
        self.exclusive || !self.writing.is_empty() || self.direct_fills + self.buffered_fills > 0
    }

    fn exclusive_comes(&self) -> bool {
        self.exclusive || self.exclusive_waiting > 0
    }
}

fn overlaps(ranges: &[Range<u64>], range: &Range<u64>) -> bool {
    ranges
        .iter()
        .any(|other| other.start < range.end && range.start < other.end)
}

fn forget(ranges: &mut Vec<Range<u64>>, range: &Range<u64>) {
    if let Some(at) = ranges.iter().position(|other| other == range) {
        ranges.swap_remove(at);
    }
}

impl Gate {
    pub(crate) fn new(map: RangeSet<u64>, granule: u64) -> Gate {
        let state = State {
            resident: Resident::new(map),
            fill_end: u64::MAX,
            ..State::default()
        };
        Gate {
            granule,
            state: Mutex::new(state),
            threads: Condvar::new(),
            tasks: Notify::new(),
        }
    }

    /// Granules to fetch, as [`Resident::missing`]. What is being filled counts as missing.
    pub(crate) fn missing(&self, range: &Range<u64>, valid: u64) -> Vec<Range<u64>> {
        self.state
            .lock()
            .resident
            .missing(range, valid, self.granule)
    }

    /// Granules to fetch, as [`Resident::missing_edges`].
    pub(crate) fn missing_edges(&self, range: &Range<u64>, valid: u64) -> Vec<Range<u64>> {
        self.state
            .lock()
            .resident
            .missing_edges(range, valid, self.granule)
    }

    pub(crate) fn covers(&self, valid: u64) -> bool {
        self.state.lock().resident.covers(valid)
    }

    /// Whether a fill of that range would have anything to do; being filled by somebody counts.
    pub(crate) fn wants(&self, range: &Range<u64>) -> bool {
        let state = self.state.lock();
        !state
            .resident
            .gaps(&(range.start..range.end.min(state.fill_end)))
            .is_empty()
    }

    /// Replaces the remembered map by what `scan` finds, less what is being filled.
    pub(crate) fn rescan(
        &self,
        scan: impl FnOnce() -> io::Result<RangeSet<u64>>,
    ) -> io::Result<()> {
        let mut state = self.state.lock();
        state.resident = Resident::new(scan()?);
        for range in state.filling.clone() {
            state.resident.remove(range);
        }
        Ok(())
    }

    /// Lets a program's write pass; waits for fills in its range and for exclusive work.
    pub(crate) fn write(&self, range: Range<u64>) -> WritePass<'_> {
        let rounded = round_out(&range, self.granule);
        let mut state = self.state.lock();
        state.written = true;
        while state.exclusive_comes()
            || state.direct_fills > 0
            || overlaps(&state.filling, &rounded)
        {
            self.threads.wait(&mut state);
        }
        state.writing.push(rounded.clone());
        WritePass {
            gate: self,
            range,
            rounded,
            new_bytes: 0,
        }
    }

    /// Waits until nothing is in flight and keeps everybody out.
    pub(crate) fn exclusive(&self) -> ExclusivePass<'_> {
        let mut state = self.state.lock();
        state.exclusive_waiting += 1;
        while state.in_flight() {
            self.threads.wait(&mut state);
        }
        state.exclusive_waiting -= 1;
        state.exclusive = true;
        ExclusivePass { gate: self }
    }

    /// Claims the holes of a range for a fill. For the direct way only their aligned insides, and `None`
    /// once the file's fills go through the page cache. For the buffered way all holes, after everybody
    /// who is at work in the range has ended.
    pub(crate) async fn claim(
        &self,
        range: &Range<u64>,
        way: Way,
        align: u64,
    ) -> Option<Vec<Range<u64>>> {
        loop {
            let notified = self.tasks.notified();
            tokio::pin!(notified);
            // Registered before the look, so that nothing that ends after it is missed.
            notified.as_mut().enable();
            match self.try_claim(range, way, align) {
                Some(claimed) => return claimed,
                None => notified.await,
            }
        }
    }

    /// `None`: has to wait.
    fn try_claim(
        &self,
        range: &Range<u64>,
        way: Way,
        align: u64,
    ) -> Option<Option<Vec<Range<u64>>>> {
        let mut state = self.state.lock();
        let range = range.start..range.end.min(state.fill_end);
        if way == Way::Direct && state.written {
            return Some(None);
        }
        let holes = state.resident.gaps(&range);
        if holes.is_empty() {
            return Some(Some(holes));
        }
        if state.exclusive_comes() {
            return None;
        }
        let claimed: Vec<Range<u64>> = match way {
            Way::Direct => {
                if state.buffered_fills > 0 || !state.writing.is_empty() {
                    return None;
                }
                // Holes that somebody else is filling are left to them.
                let mut free = RangeSet::new();
                holes.into_iter().for_each(|hole| free.insert(hole));
                state
                    .filling
                    .iter()
                    .for_each(|other| free.remove(other.clone()));
                let inside = free
                    .iter()
                    .map(|hole| hole.start.next_multiple_of(align)..hole.end / align * align);
                inside.filter(|hole| !hole.is_empty()).collect()
            }
            Way::Buffered => {
                let busy = overlaps(&state.filling, &range) || overlaps(&state.writing, &range);
                if busy || state.direct_fills > 0 {
                    return None;
                }
                holes
            }
        };
        state.filling.extend(claimed.iter().cloned());
        match way {
            Way::Direct => state.direct_fills += claimed.len(),
            Way::Buffered => state.buffered_fills += claimed.len(),
        }
        Some(Some(claimed))
    }

    /// Gives a claim back; `filled` if its data is in the file. Answers how many bytes are new.
    pub(crate) fn release(&self, range: &Range<u64>, way: Way, filled: bool) -> u64 {
        let mut state = self.state.lock();
        forget(&mut state.filling, range);
        match way {
            Way::Direct => state.direct_fills -= 1,
            Way::Buffered => state.buffered_fills -= 1,
        }
        let new = if filled {
            state.resident.insert(range.clone())
        } else {
            0
        };
        self.ended(state);
        new
    }

    fn ended(&self, state: MutexGuard<'_, State>) {
        drop(state);
        self.threads.notify_all();
        self.tasks.notify_waiters();
    }
}

/// A write in flight; ends when dropped.
pub(crate) struct WritePass<'a> {
    gate: &'a Gate,
    range: Range<u64>,
    rounded: Range<u64>,
    new_bytes: u64,
}

impl WritePass<'_> {
    /// Ends the write, of which that many bytes reached the file; answers how many are newly resident.
    /// The map takes whole granules: the file system makes them data. A granule that a failed write left
    /// unfinished counts as missing, so that its fetched content can still be put right.
    pub(crate) fn end(mut self, written: u64) -> u64 {
        let whole = written == self.range.end - self.range.start;
        let end = self.range.start + written;
        let end = if whole {
            self.rounded.end
        } else {
            end / self.gate.granule * self.gate.granule
        };
        let range = self.rounded.start..end;
        if written > 0 && !range.is_empty() {
            self.new_bytes = self.gate.state.lock().resident.insert(range);
        }
        self.new_bytes
    }
}

impl Drop for WritePass<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        forget(&mut state.writing, &self.rounded);
        self.gate.ended(state);
    }
}

/// Nobody else is at work; ends when dropped.
pub(crate) struct ExclusivePass<'a> {
    gate: &'a Gate,
}

impl ExclusivePass<'_> {
    /// The range is data now.
    pub(crate) fn insert(&self, range: &Range<u64>) {
        if !range.is_empty() {
            self.gate
                .state
                .lock()
                .resident
                .insert(round_out(range, self.gate.granule));
        }
    }

    /// The range is a hole now.
    pub(crate) fn remove(&self, range: &Range<u64>) {
        self.gate.state.lock().resident.remove(range.clone());
    }

    /// The file has been emptied: whatever is fetched from now on is wanted.
    pub(crate) fn emptied(&self) {
        let mut state = self.gate.state.lock();
        state.resident = Resident::default();
        state.fill_end = u64::MAX;
    }

    /// The file has been cut: nothing beyond is resident, and nothing fetched for there is wanted.
    pub(crate) fn cut(&self, len: u64) {
        let mut state = self.gate.state.lock();
        state.resident.remove(len..u64::MAX);
        state.fill_end = state.fill_end.min(len);
    }
}

impl Drop for ExclusivePass<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        state.exclusive = false;
        self.gate.ended(state);
    }
}
