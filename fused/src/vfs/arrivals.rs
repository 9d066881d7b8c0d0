//! Bytes that have come from the store, for readers: nobody waits until they are stored, nor reads them back from
//! the disk.
//!
//! What arrives is put here and stored at the same time. It leaves when it has been read once (the kernel has it
//! then), or when later arrivals need its room, over all files; from then on the extent file answers.
//!
//! It is the object's, and no longer the file's once a program writes or truncates: [`Arrivals::forget`] is called
//! whenever that may begin or end. What was asked for before ([`Moment`]) is not taken after it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory for what has arrived, over all files: as much as one reader is ahead at most.
const ROOM_BYTES_MAX: u64 = 64 << 20;

/// What one permit stands for.
const PERMIT_BYTES: u64 = 4096;

/// Places remembered, also of what has left already. The smallest arrival has 32 KiB.
const ORDER_MAX: usize = 2 * (ROOM_BYTES_MAX / (32 << 10)) as usize;

/// A state of a file: what was asked for in an older one may not be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(u64);

/// What has arrived for one open file.
#[derive(Default)]
pub struct Arrivals {
    // A lock for moments.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    forgotten: u64,
    /// By where they begin; none overlaps another.
    pieces: BTreeMap<u64, Piece>,
}

struct Piece {
    bytes: Bytes,
    unread: usize,
    _room: OwnedSemaphorePermit,
}

/// The room that all files share.
pub struct Shelf {
    room: Arc<Semaphore>,
    /// What was put, the oldest first. A lock for moments; comes before those of files.
    order: Mutex<VecDeque<(Weak<Arrivals>, u64)>>,
}

impl Default for Shelf {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new((ROOM_BYTES_MAX / PERMIT_BYTES) as usize)),
            order: Mutex::default(),
        }
    }
}

impl Shelf {
    /// Puts what was asked for at `since`; whether it is there for readers now.
    pub fn put(&self, file: &Arc<Arrivals>, since: Moment, start: u64, bytes: Bytes) -> bool {
        if bytes.len() as u64 > ROOM_BYTES_MAX {
            return false;
        }
        let permits = (bytes.len() as u64).div_ceil(PERMIT_BYTES) as u32;
        let mut order = self.order.lock();
        let room = loop {
            if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(permits) {
                break room;
            }
            match order.pop_front() {
                Some((oldest, at)) => oldest.upgrade().map(|file| file.remove(at)),
                None => return false,
            };
        };
        if !file.put(since, start, bytes, room) {
            return false;
        }
        order.push_back((Arc::downgrade(file), start));
        if order.len() > ORDER_MAX
            && let Some((oldest, at)) = order.pop_front()
            && let Some(oldest) = oldest.upgrade()
        {
            oldest.remove(at);
        }
        true
    }
}

impl Arrivals {
    /// The present state. To be asked for before anything that says what has to be fetched.
    pub fn now(&self) -> Moment {
        Moment(self.state.lock().forgotten)
    }

    /// What is here, or on its way, is not to be read any more.
    pub fn forget(&self) {
        let mut state = self.state.lock();
        state.forgotten += 1;
        state.pieces.clear();
    }

    /// The parts of a range that are here, in order.
    pub fn of(&self, range: &Range<u64>) -> Vec<(Range<u64>, Bytes)> {
        let state = self.state.lock();
        let first = state.pieces.range(..=range.start).next_back();
        let from = first.map_or(range.start, |(start, _)| *start);
        let overlapping = |(&start, piece): (&u64, &Piece)| {
            let end = start + piece.bytes.len() as u64;
            let part = range.start.max(start)..range.end.min(end);
            let at = |offset: u64| (offset - start) as usize;
            (!part.is_empty()).then(|| {
                (
                    part.clone(),
                    piece.bytes.slice(at(part.start)..at(part.end)),
                )
            })
        };
        let pieces = state.pieces.range(from..range.end);
        pieces.filter_map(overlapping).collect()
    }

    /// A range is on its way to a program: what has been read whole leaves.
    pub fn was_read(&self, range: &Range<u64>) {
        let mut state = self.state.lock();
        let Some((&start, piece)) = state.pieces.range_mut(..=range.start).next_back() else {
            return;
        };
        let len = (range.end - range.start) as usize;
        piece.unread = piece.unread.saturating_sub(len);
        if piece.unread == 0 {
            state.pieces.remove(&start);
        }
    }

    fn put(&self, since: Moment, start: u64, bytes: Bytes, room: OwnedSemaphorePermit) -> bool {
        let end = start + bytes.len() as u64;
        let mut state = self.state.lock();
        let before = state.pieces.range(..end).next_back();
        let is_free = before.is_none_or(|(at, piece)| at + piece.bytes.len() as u64 <= start);
        if Moment(state.forgotten) != since || bytes.is_empty() || !is_free {
            return false;
        }
        let piece = Piece {
            unread: bytes.len(),
            bytes,
            _room: room,
        };
        state.pieces.insert(start, piece);
        true
    }

    fn remove(&self, start: u64) {
        self.state.lock().pieces.remove(&start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn bytes(len: u64) -> Bytes {
        (0..len).map(|at| at as u8).collect()
    }

    fn ranges(found: &[(Range<u64>, Bytes)]) -> Vec<Range<u64>> {
        found.iter().map(|(range, _)| range.clone()).collect()
    }

    #[test]
    fn what_has_arrived_is_read_at_its_place() {
        let (shelf, file) = (Shelf::default(), Arc::<Arrivals>::default());
        assert!(shelf.put(&file, file.now(), 100, bytes(50)));
        assert!(shelf.put(&file, file.now(), 200, bytes(50)));
        let found = file.of(&(90..220));
        assert_eq!(ranges(&found), [100..150, 200..220]);
        assert_eq!(file.of(&(110..112))[0].1, bytes(50).slice(10..12));
        assert_eq!(file.of(&(150..200)), []);
        assert_eq!(ranges(&file.of(&(149..1000))), [149..150, 200..250]);
    }

    #[test]
    fn what_was_read_once_leaves() {
        let (shelf, file) = (Shelf::default(), Arc::<Arrivals>::default());
        assert!(shelf.put(&file, file.now(), 100, bytes(50)));
        // In any order.
        for range in [130..150, 100..130] {
            assert_eq!(ranges(&file.of(&range)), vec![range.clone()]);
            file.was_read(&range);
        }
        assert_eq!(file.of(&(100..150)), []);
    }

    #[test]
    fn what_was_asked_for_before_a_change_is_not_taken_after_it() {
        let (shelf, file) = (Shelf::default(), Arc::<Arrivals>::default());
        assert!(shelf.put(&file, file.now(), 0, bytes(50)));
        let before = file.now();
        file.forget();
        assert_eq!(file.of(&(0..50)), []);
        assert!(!shelf.put(&file, before, 0, bytes(50)));
        assert!(shelf.put(&file, file.now(), 0, bytes(50)));
    }

    #[test]
    fn the_oldest_makes_room_and_room_comes_back() {
        let (shelf, first, second) = (
            Shelf::default(),
            Arc::<Arrivals>::default(),
            Arc::<Arrivals>::default(),
        );
        for n in 0..8 {
            assert!(shelf.put(&first, first.now(), n * 8 * MIB, bytes(8 * MIB)));
        }
        assert!(shelf.put(&second, second.now(), 0, bytes(MIB)));
        assert_eq!(first.of(&(0..8 * MIB)), []);
        assert_eq!(ranges(&first.of(&(0..9 * MIB))), vec![8 * MIB..9 * MIB]);
        drop((first, second));
        let third = Arc::<Arrivals>::default();
        assert!(shelf.put(&third, third.now(), 0, bytes(ROOM_BYTES_MAX)));
        assert!(!shelf.put(
            &third,
            third.now(),
            ROOM_BYTES_MAX,
            bytes(ROOM_BYTES_MAX + 1)
        ));
        assert_eq!(ranges(&third.of(&(5..6))), vec![5..6]);
    }

    #[test]
    fn nothing_is_put_over_what_is_there() {
        let (shelf, file) = (Shelf::default(), Arc::<Arrivals>::default());
        assert!(shelf.put(&file, file.now(), 100, bytes(50)));
        for start in [60, 100, 149] {
            assert!(!shelf.put(&file, file.now(), start, bytes(50)), "{start}");
        }
        assert!(shelf.put(&file, file.now(), 150, bytes(50)));
        assert!(shelf.put(&file, file.now(), 50, bytes(50)));
    }
}
