//! The work set: the unsynced rows that are in memory.
//!
//! The journal may hold millions of rows; the set holds the oldest ones (by order of closing), up to a
//! limit. That is enough for the order of publishing, because a file only ever waits for older ones.
//! Items that fail don't count towards the limit: files that can't be uploaded must not keep others out.
//!
//! For each file that is sent the set is asked a few times: what that costs must not grow with the set.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

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

/// The way through the set in the order of closing, while it is changed.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    ahead: std::vec::IntoIter<(u64, Ino)>,
    at: Option<(u64, Ino)>,
}

impl Walk {
    /// Places looked up at once.
    const STEP: usize = 64;

    /// The next inode.
    pub(crate) fn next(&mut self, work: &Work) -> Option<Ino> {
        if self.ahead.len() == 0 {
            let from = self.at.map_or(Bound::Unbounded, Bound::Excluded);
            let later = work.by_seq.range((from, Bound::Unbounded));
            let ahead: Vec<_> = later.take(Self::STEP).copied().collect();
            self.ahead = ahead.into_iter();
        }
        self.at = Some(self.ahead.next()?);
        self.at.map(|(_, ino)| ino)
    }
}

/// The set.
#[derive(Debug)]
pub(crate) struct Work {
    items: HashMap<Ino, Item>,
    by_seq: BTreeSet<(u64, Ino)>,
    items_max: usize,
    /// Items that failed.
    failing: usize,
    /// Who may wait for an inode to move away.
    behind: HashMap<Ino, Vec<Ino>>,
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
            failing: 0,
            behind: HashMap::new(),
            asked: HashMap::new(),
            later: 0,
            later_oldest: None,
        }
    }

    pub(crate) fn get(&self, ino: Ino) -> Option<&Item> {
        self.items.get(&ino)
    }

    /// For anything but its failures and whom it waits for.
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

    /// An inode has failed so many times in a row.
    pub(crate) fn failed(&mut self, ino: Ino, times: u32) {
        if let Some(item) = self.items.get_mut(&ino) {
            self.failing -= usize::from(item.failures > 0);
            item.failures = times;
            self.failing += usize::from(item.failures > 0);
        }
    }

    /// An inode waits for another one to move away.
    pub(crate) fn wait_behind(&mut self, ino: Ino, other: Ino) {
        if let Some(item) = self.items.get_mut(&ino) {
            let before = item.behind.replace(other);
            if before != Some(other) {
                self.waits_no_more(ino, before);
                self.behind.entry(other).or_default().push(ino);
            }
        }
    }

    /// Who waits for an inode to move away.
    pub(crate) fn waiting_behind(&self, ino: Ino) -> Vec<Ino> {
        self.behind.get(&ino).cloned().unwrap_or_default()
    }

    fn waits_no_more(&mut self, ino: Ino, before: Option<Ino>) {
        if let Some(other) = before
            && let Some(waiting) = self.behind.get_mut(&other)
        {
            waiting.retain(|waits| *waits != ino);
            if waiting.is_empty() {
                self.behind.remove(&other);
            }
        }
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
        self.items.len() - self.failing
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
        let (seq, behind) = (item.row.seq, item.behind.take());
        if let Some(asked) = self.asked.remove(&ino) {
            item.forced = Some(asked);
            item.due = Instant::now();
        }
        self.by_seq.insert((item.row.seq, ino));
        self.failing += usize::from(item.failures > 0);
        if let Some(old) = self.items.insert(ino, item) {
            self.failing -= usize::from(old.failures > 0);
            self.waits_no_more(ino, old.behind);
            if old.row.seq != seq {
                self.by_seq.remove(&(old.row.seq, ino));
            }
        }
        if let Some(other) = behind {
            self.wait_behind(ino, other);
        }
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
        self.failing -= usize::from(item.failures > 0);
        self.waits_no_more(ino, item.behind);
        let now = Instant::now();
        for waiting in self.behind.remove(&ino).unwrap_or_default() {
            if let Some(waiting) = self.items.get_mut(&waiting)
                && waiting.behind == Some(ino)
            {
                waiting.behind = None;
                waiting.due = now;
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

    fn oldest_first(work: &Work) -> Vec<Ino> {
        let mut walk = Walk::default();
        std::iter::from_fn(|| walk.next(work)).collect()
    }

    #[test]
    fn a_full_set_keeps_the_oldest_and_counts_the_rest() {
        let mut work = Work::new(2);
        for seq in [5, 3, 4] {
            work.insert(item(seq, seq));
        }
        assert_eq!(oldest_first(&work), [Ino(3), Ino(4)]);
        assert_eq!(work.met(&item(9, 9).row, 2), Known::Later);
        assert_eq!(work.met(&item(2, 2).row, 2), Known::Look);
        assert_eq!(work.totals().0, 4);
    }

    #[test]
    fn a_walk_meets_everything_once() {
        let mut work = Work::new(1000);
        for seq in (1..=200).rev() {
            work.insert(item(seq, seq));
        }
        let all: Vec<Ino> = (1..=200).map(Ino).collect();
        assert_eq!(oldest_first(&work), all);
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
        assert_eq!(oldest_first(&work), [Ino(1), Ino(2)]);
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
        work.failed(Ino(3), 0);
        work.insert(item(4, 4));
        assert_eq!(work.met(&item(9, 9).row, 2), Known::Later);
        work.remove(Ino(4));
        work.remove(Ino(1));
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
        assert_eq!(oldest_first(&work), [Ino(2), Ino(3)]);
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
