//! Keys that were deleted from the store a moment ago.
//!
//! A listing that was asked for before a deletion may arrive after the garbage row is gone; importing
//! it would bring a deleted file back. So finished deletions are remembered for as long as a listing
//! may be under way. In memory only: no listing survives a restart.

use crate::types::Timestamp;
use std::collections::{HashMap, VecDeque};

/// No page of a listing is older than this when it is imported.
const AGE_SECS_MAX: i64 = 120;
/// 16 bytes each, twice: at most about 4 MB.
const COUNT_MAX: usize = 100_000;

/// Finished deletions, by a hash of the key (a collision only hides an entry until the next listing).
#[derive(Debug, Default)]
pub(crate) struct Recent {
    done: HashMap<u64, Timestamp>,
    order: VecDeque<(Timestamp, u64)>,
}

fn hash(key: &str) -> u64 {
    let mut first = [0; 8];
    for (to, from) in first
        .iter_mut()
        .zip(blake3::hash(key.as_bytes()).as_bytes())
    {
        *to = *from;
    }
    u64::from_le_bytes(first)
}

impl Recent {
    /// The key is gone from the store.
    pub(crate) fn note(&mut self, key: &str, at: Timestamp) {
        while let Some(&(oldest, hash)) = self.order.front()
            && (self.order.len() >= COUNT_MAX || oldest.secs < at.secs - AGE_SECS_MAX)
        {
            self.order.pop_front();
            if self.done.get(&hash) == Some(&oldest) {
                self.done.remove(&hash);
            }
        }
        let hash = hash(key);
        self.done.insert(hash, at);
        self.order.push_back((at, hash));
    }

    /// Whether the key was deleted at that time or later.
    pub(crate) fn is_since(&self, key: &str, time: Timestamp) -> bool {
        !self.done.is_empty() && self.done.get(&hash(key)).is_some_and(|done| *done >= time)
    }
}
