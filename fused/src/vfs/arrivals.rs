//! Bytes that have come from the store, for readers: nobody waits until they are stored, nor reads them back from
//! the disk.
//!
//! What arrives is put here and stored at the same time. It leaves when it has been read once (the kernel has it
//! then), or when what is fetched next needs its memory, over all files; from then on the extent file answers.
//!
//! It is the object's, and no longer the file's once a program writes or truncates: [`Arrivals::forget`] is called
//! whenever that may begin or end. What was asked for before ([`Moment`]) is not taken after it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// What one permit stands for.
const PERMIT_BYTES: u64 = 4096;

/// A place is remembered for so many permits at least, also of what has left already; nearly all arrivals have
/// twice as many.
const PERMITS_PER_PLACE: usize = 4;

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
    _room: Room,
}

/// Memory for one request, for as long as it is fetched, stored, or here for readers.
#[derive(Clone)]
pub struct Room {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl From<OwnedSemaphorePermit> for Room {
    fn from(permit: OwnedSemaphorePermit) -> Self {
        Self {
            _permit: Arc::new(permit),
        }
    }
}

/// Memory for what is fetched, over all files.
pub struct Shelf {
    permits: Arc<Semaphore>,
    permits_max: u32,
    /// What was put, the oldest first. A lock for moments; comes before those of files.
    order: Mutex<VecDeque<(Weak<Arrivals>, u64)>>,
    has_put: Notify,
}

impl Shelf {
    /// With so many bytes.
    pub fn new(bytes_max: u64) -> Self {
        let permits_max = u32::try_from(bytes_max / PERMIT_BYTES).unwrap_or(u32::MAX);
        Self {
            permits: Arc::new(Semaphore::new(permits_max as usize)),
            permits_max,
            order: Mutex::default(),
            has_put: Notify::new(),
        }
    }

    /// Waits for memory for a request of so many bytes; what has been here longest makes room.
    pub async fn room(&self, bytes: u64) -> Option<Room> {
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        let permits = permits.min(self.permits_max);
        let mut room = std::pin::pin!(Arc::clone(&self.permits).acquire_many_owned(permits));
        loop {
            let put = self.has_put.notified();
            let is_taken = self.permits.available_permits() < permits as usize;
            if is_taken && self.give_up_oldest() {
                continue;
            }
            tokio::select! {
                biased;
                // An error would say that it is closed: it never is.
                room = &mut room => return room.ok().map(Room::from),
                () = put => {}
            }
        }
    }

    /// Puts what was asked for at `since`; whether it is there for readers now.
    pub fn put(
        &self,
        file: &Arc<Arrivals>,
        since: Moment,
        start: u64,
        bytes: Bytes,
        room: Room,
    ) -> bool {
        if !file.put(since, start, bytes, room) {
            return false;
        }
        let mut order = self.order.lock();
        order.push_back((Arc::downgrade(file), start));
        let is_long = order.len() > self.permits_max as usize / PERMITS_PER_PLACE;
        drop(order);
        if is_long {
            self.give_up_oldest();
        }
        self.has_put.notify_waiters();
        true
    }

    /// Whether there was any, or a place where one had been.
    fn give_up_oldest(&self) -> bool {
        let oldest = self.order.lock().pop_front();
        let Some((file, start)) = oldest else {
            return false;
        };
        if let Some(file) = file.upgrade() {
            file.remove(start);
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

    fn put(&self, since: Moment, start: u64, bytes: Bytes, room: Room) -> bool {
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
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const MIB: u64 = 1 << 20;
    const LIMIT: Duration = Duration::from_secs(60);

    fn bytes(len: u64) -> Bytes {
        (0..len).map(|at| at as u8).collect()
    }

    fn ranges(found: &[(Range<u64>, Bytes)]) -> Vec<Range<u64>> {
        found.iter().map(|(range, _)| range.clone()).collect()
    }

    fn shelf() -> (Shelf, Arc<Arrivals>) {
        (Shelf::new(64 * MIB), Arc::default())
    }

    async fn put(shelf: &Shelf, file: &Arc<Arrivals>, since: Moment, range: Range<u64>) -> bool {
        let len = range.end - range.start;
        let room = timeout(LIMIT, shelf.room(len)).await.unwrap().unwrap();
        shelf.put(file, since, range.start, bytes(len), room)
    }

    #[tokio::test]
    async fn what_has_arrived_is_read_at_its_place() {
        let (shelf, file) = shelf();
        assert!(put(&shelf, &file, file.now(), 100..150).await);
        assert!(put(&shelf, &file, file.now(), 200..250).await);
        let found = file.of(&(90..220));
        assert_eq!(ranges(&found), [100..150, 200..220]);
        assert_eq!(file.of(&(110..112))[0].1, bytes(50).slice(10..12));
        assert_eq!(file.of(&(150..200)), []);
        assert_eq!(ranges(&file.of(&(149..1000))), [149..150, 200..250]);
    }

    #[tokio::test]
    async fn what_was_read_once_leaves() {
        let (shelf, file) = shelf();
        assert!(put(&shelf, &file, file.now(), 100..150).await);
        // In any order.
        for range in [130..150, 100..130] {
            assert_eq!(ranges(&file.of(&range)), vec![range.clone()]);
            file.was_read(&range);
        }
        assert_eq!(file.of(&(100..150)), []);
    }

    #[tokio::test]
    async fn what_was_asked_for_before_a_change_is_not_taken_after_it() {
        let (shelf, file) = shelf();
        assert!(put(&shelf, &file, file.now(), 0..50).await);
        let before = file.now();
        file.forget();
        assert_eq!(file.of(&(0..50)), []);
        assert!(!put(&shelf, &file, before, 0..50).await);
        assert!(put(&shelf, &file, file.now(), 0..50).await);
    }

    #[tokio::test]
    async fn the_oldest_makes_room_and_room_comes_back() {
        let (shelf, first) = shelf();
        let second = Arc::<Arrivals>::default();
        for n in 0..8 {
            assert!(put(&shelf, &first, first.now(), n * 8 * MIB..(n + 1) * 8 * MIB).await);
        }
        assert!(put(&shelf, &second, second.now(), 0..MIB).await);
        assert_eq!(first.of(&(0..8 * MIB)), []);
        assert_eq!(ranges(&first.of(&(0..9 * MIB))), vec![8 * MIB..9 * MIB]);
        drop((first, second));
        let third = Arc::<Arrivals>::default();
        assert!(put(&shelf, &third, third.now(), 0..64 * MIB).await);
        // More than there is takes all there is.
        assert!(put(&shelf, &third, third.now(), 64 * MIB..129 * MIB).await);
        assert_eq!(third.of(&(0..64 * MIB)), []);
    }

    #[tokio::test]
    async fn who_waits_for_room_gets_it_from_what_is_put_meanwhile() {
        let (shelf, file) = shelf();
        let room = shelf.room(64 * MIB).await.unwrap();
        let (waited, ()) = tokio::join!(timeout(LIMIT, shelf.room(MIB)), async {
            let put = shelf.put(&file, file.now(), 0, bytes(64 * MIB), room);
            assert!(put);
        });
        assert!(waited.unwrap().is_some());
        assert_eq!(file.of(&(0..1)), []);
    }

    #[tokio::test]
    async fn nothing_is_put_over_what_is_there() {
        let (shelf, file) = shelf();
        assert!(put(&shelf, &file, file.now(), 100..150).await);
        for start in [60, 100, 149] {
            assert!(
                !put(&shelf, &file, file.now(), start..start + 50).await,
                "{start}"
            );
        }
        assert!(put(&shelf, &file, file.now(), 150..200).await);
        assert!(put(&shelf, &file, file.now(), 50..100).await);
    }
}
