//! The work set: the unsynced rows that are in memory.
//!
//! The journal may hold millions of rows; the set holds the oldest ones (by order of closing), up to a
//! limit. That is enough for the order of publishing, because a file only ever waits for older ones.
//! Items that fail don't count towards the limit: files that can't be uploaded must not keep others out.

use std::collections::{BTreeSet, HashMap};

use journal::{Epoch, Ino, Inode, Timestamp, Unsynced};
use tokio::time::Instant;

/// Inodes that somebody waits for, beyond those of the set, that are remembered.
const ASKED_MAX: usize = 1 << 20;

/// A version that somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) epoch: Epoch,
    /// A writer had it open then.
    pub(crate) open: bool,
}

impl Asked {
    /// Whether what a writer has open now may be sent for it. Not once it has been sent, and not if it was
    /// complete: what came after it may be half of a version that nobody asked for.
    pub(crate) fn covers(self, inode: &Inode) -> bool {
        let content = &inode.content;
        let sent = content.origin.as_ref().map(|origin| origin.epoch);
        let waits = sent.is_none_or(|sent| sent < self.epoch);
        sent == Some(content.epoch) || (waits && (self.open || content.epoch == self.epoch))
    }
}

/// One unsynced inode.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) row: Unsynced,
    /// The directory that holds it.
    pub(crate) parent: Ino,
    /// Bytes to send; 0 for directories and for files that only move or change attributes.
    pub(crate) dirty_bytes: u64,
    /// It goes in parts, or is an object of that size.
    pub(crate) large: bool,
    /// It makes something visible under a name: the order of publishing applies.
    pub(crate) publishes: bool,
    /// A writer has it open.
    pub(crate) open: bool,
    /// Not before.
    pub(crate) due: Instant,
    /// The scan that first saw this row; see [`crate::scan`].
    pub(crate) seen_in: u64,
    /// The last scan that saw it at all.
    pub(crate) marked_in: u64,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// Rounds in a row that changed nothing.
    pub(crate) spins: u32,
    /// Somebody waits for it.
    pub(crate) forced: Option<Asked>,
    /// Others need its key: the oldest place in the order of publishing among them, and among those who wait for
    /// them.
    pub(crate) vacate: Option<u64>,
    /// A task is at work.
    pub(crate) running: bool,
    /// Its parts are there.
    pub(crate) parked: bool,
    /// It waits for this inode to move away.
    pub(crate) behind: Option<Ino>,
    /// Until then an earlier request may undo what is sent: there is no hurrying it.
    pub(crate) held_until: Option<Instant>,
}

impl Item {
    /// Whether it waits for nothing but its time.
    pub(crate) fn can_hurry(&self, now: Instant) -> bool {
        let held = self.held_until.is_some_and(|until| now < until);
        self.failures == 0 && self.behind.is_none() && !held
    }
}

/// What a scan should do with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is in memory as it is.
    Same,
    /// The inode must be looked at.
    Look,
    /// The set is full of older ones.
    Later,
}

/// The set.
#[derive(Debug)]
pub(crate) struct Work {
    items: HashMap<Ino, Item>,
    by_seq: BTreeSet<(u64, Ino)>,
    items_max: usize,
    /// What somebody waits for and is not in the set: it was full of older ones.
    asked: HashMap<Ino, Asked>,
    /// Rows that stayed in the journal at the last scan, and their oldest change.
    later: u64,
    later_oldest: Option<Timestamp>,
}

impl Work {
    pub(crate) fn new(items_max: usize) -> Self {
        Self {
            items: HashMap::new(),
            by_seq: BTreeSet::new(),
            items_max: items_max.max(1),
            asked: HashMap::new(),
            later: 0,
            later_oldest: None,
        }
    }

    pub(crate) fn get(&self, ino: Ino) -> Option<&Item> {
        self.items.get(&ino)
    }

    pub(crate) fn get_mut(&mut self, ino: Ino) -> Option<&mut Item> {
        self.items.get_mut(&ino)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.later == 0
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = (Ino, &Item)> {
        self.items.iter().map(|(ino, item)| (*ino, item))
    }

    pub(crate) fn items_mut(&mut self) -> impl Iterator<Item = (Ino, &mut Item)> {
        self.items.iter_mut().map(|(ino, item)| (*ino, item))
    }

    /// Inodes in order of closing, oldest first.
    pub(crate) fn oldest_first(&self) -> Vec<Ino> {
        self.by_seq.iter().map(|(_, ino)| *ino).collect()
    }

    /// A scan met this row: is there something to look at?
    pub(crate) fn met(&mut self, row: &Unsynced, scan: u64) -> Known {
        if let Some(item) = self.items.get_mut(&row.ino) {
            item.marked_in = scan;
            // The close of a writer that changed nothing leaves no stamp.
            return match item.row.stamp == row.stamp && !item.open {
                true => Known::Same,
                false => Known::Look,
            };
        }
        let newest = self.by_seq.last().map_or(0, |(seq, _)| *seq);
        if self.healthy() >= self.items_max && row.seq > newest {
            self.later += 1;
            self.later_oldest = Some(self.later_oldest.map_or(row.since, |at| at.min(row.since)));
            return Known::Later;
        }
        Known::Look
    }

    fn healthy(&self) -> usize {
        // Only counted when the set may be full, so usually not at all.
        match self.items.len() < self.items_max {
            true => self.items.len(),
            false => self
                .items
                .values()
                .filter(|item| item.failures == 0)
                .count(),
        }
    }

    /// A scan begins.
    pub(crate) fn scan_begins(&mut self) {
        self.later = 0;
        self.later_oldest = None;
    }

    /// A scan ended: what it didn't meet is gone.
    pub(crate) fn scan_ended(&mut self, scan: u64) {
        let gone: Vec<Ino> = self
            .items()
            .filter(|(_, item)| item.marked_in < scan && !item.running)
            .map(|(ino, _)| ino)
            .collect();
        for ino in gone {
            self.remove(ino);
        }
        if self.later == 0 {
            // All rows are here: there is none of those.
            self.asked.clear();
        }
    }

    /// Somebody waits for this version of an inode that has an unsynced row: no settling time, now or when its turn
    /// comes.
    pub(crate) fn ask(&mut self, ino: Ino, asked: Asked) {
        match self.items.get_mut(&ino) {
            Some(item) => {
                item.forced = Some(asked);
                item.due = Instant::now();
            }
            None if self.asked.len() < ASKED_MAX => {
                self.asked.insert(ino, asked);
            }
            // Its settling time it is, then.
            None => {}
        }
    }

    /// Takes in an item, for an old one of the same inode if there is one.
    pub(crate) fn insert(&mut self, mut item: Item) {
        let ino = item.row.ino;
        if let Some(asked) = self.asked.remove(&ino) {
            item.forced = Some(asked);
            item.due = Instant::now();
        }
        if let Some(old) = self.items.get(&ino) {
            self.by_seq.remove(&(old.row.seq, ino));
        }
        self.by_seq.insert((item.row.seq, ino));
        self.items.insert(ino, item);
        if self.healthy() > self.items_max {
            self.evict();
        }
    }

    /// The newest item that nobody cares for goes back to the journal.
    fn evict(&mut self) {
        let newest = self.by_seq.iter().rev().map(|(_, ino)| *ino).find(|ino| {
            self.items.get(ino).is_some_and(|item| {
                !item.running
                    && item.forced.is_none()
                    && item.vacate.is_none()
                    && item.failures == 0
            })
        });
        if let Some(ino) = newest {
            self.remove(ino);
            self.later += 1;
        }
    }

    /// Forgets an inode; whoever waited for it may go on at once.
    pub(crate) fn remove(&mut self, ino: Ino) {
        let Some(item) = self.items.remove(&ino) else {
            return;
        };
        self.by_seq.remove(&(item.row.seq, ino));
        let now = Instant::now();
        for other in self.items.values_mut() {
            if other.behind == Some(ino) {
                other.behind = None;
                other.due = now;
            }
        }
    }

    /// Rows, bytes, and the oldest change.
    pub(crate) fn totals(&self) -> (u64, u64, Option<Timestamp>) {
        let oldest = self.items.values().map(|item| item.row.since).min();
        let oldest = match (oldest, self.later_oldest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let bytes = self.items.values().map(|item| item.dirty_bytes).sum();
        (self.items.len() as u64 + self.later, bytes, oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(ino: u64, seq: u64) -> Item {
        Item {
            row: Unsynced {
                ino: Ino(ino),
                seq,
                stamp: seq,
                since: Timestamp {
                    secs: i64::try_from(seq).unwrap(),
                    nanos: 0,
                },
            },
            parent: Ino::ROOT,
            dirty_bytes: 10,
            large: false,
            publishes: true,
            open: false,
            due: Instant::now(),
            seen_in: 1,
            marked_in: 1,
            failures: 0,
            spins: 0,
            forced: None,
            vacate: None,
            running: false,
            parked: false,
            behind: None,
            held_until: None,
        }
    }

    #[test]
    fn a_full_set_keeps_the_oldest_and_counts_the_rest() {
        let mut work = Work::new(2);
        for seq in [5, 3, 4] {
            work.insert(item(seq, seq));
        }
        assert_eq!(work.oldest_first(), [Ino(3), Ino(4)]);
        assert_eq!(work.met(&item(9, 9).row, 2), Known::Later);
        assert_eq!(work.met(&item(2, 2).row, 2), Known::Look);
        assert_eq!(work.totals().0, 4);
    }

    #[test]
    fn what_is_asked_for_while_the_set_is_full_does_not_settle_when_its_turn_comes() {
        let asked = Asked {
            epoch: Epoch(1),
            open: false,
        };
        let settling = |seq| Item {
            due: Instant::now() + std::time::Duration::from_secs(3600),
            ..item(seq, seq)
        };
        let mut work = Work::new(2);
        for seq in 1..=3 {
            work.insert(settling(seq));
            work.ask(Ino(seq), asked);
        }
        assert_eq!(work.oldest_first(), [Ino(1), Ino(2)]);
        work.remove(Ino(1));
        work.insert(settling(3));
        let item = work.get(Ino(3)).unwrap();
        assert!(item.forced == Some(asked) && item.due <= Instant::now());
        work.remove(Ino(3));
        work.insert(settling(3));
        let item = work.get(Ino(3)).unwrap();
        assert!(item.forced.is_none() && item.due > Instant::now(), "once");
    }

    #[test]
    fn failing_items_do_not_keep_others_out() {
        let mut work = Work::new(2);
        for seq in 1..=4 {
            let mut failing = item(seq, seq);
            failing.failures = 3;
            work.insert(failing);
        }
        assert_eq!(work.met(&item(9, 9).row, 2), Known::Look);
    }

    #[test]
    fn what_a_scan_does_not_meet_is_forgotten_unless_it_is_being_worked_on() {
        let mut work = Work::new(8);
        work.insert(item(1, 1));
        let mut running = item(2, 2);
        running.running = true;
        work.insert(running);
        work.insert(item(3, 3));
        work.met(&item(3, 3).row, 2);
        work.scan_ended(2);
        assert_eq!(work.oldest_first(), [Ino(2), Ino(3)]);
    }

    #[test]
    fn an_item_that_moved_away_lets_those_behind_it_go_on() {
        let mut work = Work::new(8);
        work.insert(item(1, 1));
        let mut waiting = item(2, 2);
        waiting.behind = Some(Ino(1));
        waiting.due += std::time::Duration::from_secs(60);
        work.insert(waiting);
        work.remove(Ino(1));
        let waiting = work.get(Ino(2)).unwrap();
        assert!(waiting.behind.is_none() && waiting.due <= Instant::now());
    }
}
