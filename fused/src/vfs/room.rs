//! Room in the cache for what is brought in on purpose, before it is.
//!
//! Whoever reads gets the bytes, room or not: the evictor follows. Bringing in more than the cache holds that
//! way would throw out its own beginning. So `fused load` *reserves* what it is about to fetch, within what the
//! evictor leaves alone, and asks the evictor for room if there is none: files that nobody needs make way. What
//! a load has brought in, or found, is *held* until the load ends, and does not. When the evictor has looked
//! and there still is no room, there is none to be had, and that is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use journal::Ino;
use parking_lot::Mutex;

use super::{Error, Result, Vfs};

/// What is reserved and held.
#[derive(Default)]
pub struct Room {
    /// About to be fetched.
    reserved_bytes: AtomicU64,
    /// The most that anybody waits for, until the evictor looks.
    asked_bytes: AtomicU64,
    /// Not to be evicted, and by how many loads. A lock for moments.
    held: Mutex<HashMap<Ino, u32>>,
    /// Looks of the evictor that have begun, ...
    looks_begun: AtomicU64,
    /// ... and the last one that ended without having made what was asked.
    exhausted_by: AtomicU64,
    looks_ended: AtomicU64,
}

/// Room for bytes that are not there yet. What has not come is given back when this is dropped.
pub struct Reservation {
    vfs: Vfs,
    left_bytes: AtomicU64,
}

impl Reservation {
    /// So many bytes are there now, and count for themselves.
    pub(super) fn landed(&self, bytes: u64) {
        let took = self
            .left_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(left.saturating_sub(bytes))
            });
        let before = took.unwrap_or_default();
        self.give_back(bytes.min(before));
    }

    fn give_back(&self, bytes: u64) {
        let reserved = &self.vfs.inner.space.room.reserved_bytes;
        reserved.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.give_back(self.left_bytes.load(Ordering::Relaxed));
    }
}

/// A look of the evictor.
pub struct Look {
    number: u64,
    /// How much is to be free below the high watermark when it ends.
    pub wanted_bytes: u64,
}

impl Room {
    /// The evictor begins to look.
    pub(super) fn look(&self) -> Look {
        let number = self.looks_begun.fetch_add(1, Ordering::AcqRel) + 1;
        let asked = self.asked_bytes.swap(0, Ordering::AcqRel);
        let reserved = self.reserved_bytes.load(Ordering::Relaxed);
        Look {
            number,
            wanted_bytes: match asked {
                0 => 0,
                asked => asked.saturating_add(reserved),
            },
        }
    }

    /// The evictor has looked; whether there was enough to evict.
    pub(super) fn looked(&self, look: &Look, enough: bool) {
        if !enough {
            self.exhausted_by.store(look.number, Ordering::Release);
        }
        self.looks_ended.store(look.number, Ordering::Release);
    }

    /// Whether the evictor may not take this one.
    pub(super) fn is_held(&self, ino: Ino) -> bool {
        self.held.lock().contains_key(&ino)
    }

    pub(super) fn hold(&self, ino: Ino) {
        *self.held.lock().entry(ino).or_default() += 1;
    }

    pub(super) fn let_go(&self, ino: Ino) {
        let mut held = self.held.lock();
        if let Some(count) = held.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                held.remove(&ino);
            }
        }
    }
}

impl Vfs {
    /// Waits for room for so many bytes, if there is any to be had.
    pub(super) async fn reserve(&self, bytes: u64) -> Result<Reservation> {
        let ledger = &self.inner.space;
        let room = &ledger.room;
        loop {
            let freed = ledger.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            // A look that has begun by now may not have heard of us.
            let first = room.looks_begun.load(Ordering::Acquire) + 1;
            if let Some(reservation) = self.take_room(bytes) {
                return Ok(reservation);
            }
            if bytes > self.high_watermark() {
                return Err(self.no_room_for(bytes));
            }
            room.asked_bytes.fetch_max(bytes, Ordering::AcqRel);
            while room.looks_ended.load(Ordering::Acquire) < first {
                ledger.look.notify_one();
                freed.as_mut().await;
                freed.set(ledger.freed.notified());
                freed.as_mut().enable();
            }
            let exhausted = room.exhausted_by.load(Ordering::Acquire) >= first;
            if exhausted && !self.has_room_for(bytes) {
                return Err(self.no_room_for(bytes));
            }
        }
    }

    fn has_room_for(&self, bytes: u64) -> bool {
        let reserved = self.inner.space.room.reserved_bytes.load(Ordering::Relaxed);
        let taken = self.cache_used().saturating_add(reserved);
        !self.journal().is_short_of_space() && taken.saturating_add(bytes) <= self.high_watermark()
    }

    /// Room for so many bytes, if there is any.
    pub(super) fn reserve_at_once(&self, bytes: u64) -> Result<Reservation> {
        self.take_room(bytes).ok_or_else(|| {
            self.inner.space.grew();
            self.no_room_for(bytes)
        })
    }

    fn take_room(&self, bytes: u64) -> Option<Reservation> {
        let reserved = &self.inner.space.room.reserved_bytes;
        // Taken before the look, so that two who look at once do not both find the same room.
        reserved.fetch_add(bytes, Ordering::Relaxed);
        let has_room = self.has_room_for(0);
        if !has_room {
            reserved.fetch_sub(bytes, Ordering::Relaxed);
        }
        has_room.then(|| Reservation {
            vfs: self.clone(),
            left_bytes: bytes.into(),
        })
    }

    fn no_room_for(&self, bytes: u64) -> Error {
        Error::NoRoom {
            needed_bytes: bytes,
            budget_bytes: self.cache_budget(),
            used_bytes: self.cache_used(),
            dirty_bytes: self.flusher().status().dirty_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_loads_hold_is_held_until_both_have_ended() {
        let room = Room::default();
        room.hold(Ino(1));
        room.hold(Ino(1));
        room.let_go(Ino(1));
        assert!(room.is_held(Ino(1)));
        room.let_go(Ino(1));
        assert!(!room.is_held(Ino(1)));
        room.let_go(Ino(1));
    }

    #[test]
    fn a_look_makes_room_for_who_asked_beside_what_is_reserved() {
        let room = Room::default();
        room.reserved_bytes.store(30, Ordering::Relaxed);
        assert_eq!(room.look().wanted_bytes, 0, "nobody waits");
        room.asked_bytes.store(12, Ordering::Relaxed);
        let look = room.look();
        assert_eq!(look.wanted_bytes, 42);
        assert_eq!(room.look().wanted_bytes, 0, "asked once");
        room.looked(&look, false);
        assert_eq!(room.exhausted_by.load(Ordering::Relaxed), look.number);
    }
}
