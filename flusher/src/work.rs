//! The work set: the unsynced rows that are in memory.
//!
//! The journal may hold millions of rows; the set holds the oldest ones (by order of closing), up to a
//! limit. That is enough for the order of publishing, because a file only ever waits for older ones.
//! Items that are stuck don't count towards the limit, or there are very many of them: files that can't be uploaded
//! must not keep others out.
//!
//! For each file that is sent the set is asked a few times: what that costs must not grow with the set.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use journal::{Epoch, Ino, Inode, Timestamp, Unsynced};
use tokio::time::Instant;

/// Inodes that somebody waits for, beyond those of the set, that are remembered.
const ASKED_MAX: usize = 1 << 20;

/// Items that are stuck and don't count: some tens of MiB.
const STUCK_MAX: usize = 1 << 17;

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
    /// The last scan that had begun when this row was first seen; see [`crate::scan`].
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
    /// Whether it can't go on before something else happens.
    fn is_stuck(&self) -> bool {
        self.failures > 0 || self.behind.is_some() || self.open
    }

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
    /// Items that can't go on by themselves.
    stuck: usize,
    /// Who may wait for an inode to move away.
    behind: HashMap<Ino, Vec<Ino>>,
    /// What somebody waits for and is not in the set: it was full of older ones.
    asked: HashMap<Ino, Asked>,
    /// Rows that stayed in the journal at the last scan or went back there, the first of them in the order of closing,
    /// and their oldest change.
    later: u64,
    later_from: u64,
    later_oldest: Option<Timestamp>,
}

impl Work {
    pub(crate) fn new(items_max: usize) -> Self {
        Self {
            items: HashMap::new(),
            by_seq: BTreeSet::new(),
            items_max: items_max.max(1),
            stuck: 0,
            behind: HashMap::new(),
            asked: HashMap::new(),
            later: 0,
            later_from: u64::MAX,
            later_oldest: None,
        }
    }

    pub(crate) fn get(&self, ino: Ino) -> Option<&Item> {
        self.items.get(&ino)
    }

    /// For anything but what makes it stuck.
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

    fn change(&mut self, ino: Ino, change: impl FnOnce(&mut Item)) {
        if let Some(item) = self.items.get_mut(&ino) {
            self.stuck -= usize::from(item.is_stuck());
            change(item);
            self.stuck += usize::from(item.is_stuck());
        }
    }

    /// An inode has failed so many times in a row.
    pub(crate) fn failed(&mut self, ino: Ino, times: u32) {
        self.change(ino, |item| item.failures = times);
    }

    /// A writer has an inode open.
    pub(crate) fn found_open(&mut self, ino: Ino) {
        self.change(ino, |item| item.open = true);
    }

    /// An inode waits for another one to move away.
    pub(crate) fn wait_behind(&mut self, ino: Ino, other: Ino) {
        let Some(before) = self.items.get(&ino).map(|item| item.behind) else {
            return;
        };
        self.change(ino, |item| item.behind = Some(other));
        if before != Some(other) {
            self.waits_no_more(ino, before);
            self.behind.entry(other).or_default().push(ino);
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
        let known = self.know(row);
        if let Some(item) = self.items.get_mut(&row.ino) {
            item.marked_in = scan;
        } else if known == Known::Later {
            self.leave(row);
        }
        known
    }

    /// A row stays in the journal.
    fn leave(&mut self, row: &Unsynced) {
        self.later += 1;
        self.later_from = self.later_from.min(row.seq);
        self.later_oldest = Some(self.later_oldest.map_or(row.since, |at| at.min(row.since)));
    }

    /// The first place in the order of closing whose row may be in the journal only: up to there the set is complete.
    pub(crate) fn later_from(&self) -> u64 {
        self.later_from
    }

    /// Is there something to look at?
    pub(crate) fn know(&self, row: &Unsynced) -> Known {
        if let Some(item) = self.items.get(&row.ino) {
            // The close of a writer that changed nothing leaves no stamp.
            return match item.row.stamp == row.stamp && !item.open {
                true => Known::Same,
                false => Known::Look,
            };
        }
        let newest = self.by_seq.last().map_or(0, |(seq, _)| *seq);
        let is_full = self.counted() >= self.items_max && row.seq > newest;
        match is_full || row.seq >= self.later_from {
            true => Known::Later,
            false => Known::Look,
        }
    }

    /// Half of it is done, and there is more in the journal.
    pub(crate) fn runs_short(&self) -> bool {
        self.later > 0 && self.counted() <= self.items_max / 2
    }

    /// Items that count towards the limit.
    fn counted(&self) -> usize {
        self.items.len() - self.stuck.min(STUCK_MAX)
    }

    /// A scan begins.
    pub(crate) fn scan_begins(&mut self) {
        self.later = 0;
        self.later_from = u64::MAX;
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

    /// Where somebody waits for what is not in the set yet: what is in it is in the way, and doesn't settle any longer.
    pub(crate) fn hurry_for_later(&mut self, now: Instant) {
        let mut beyond = self.by_seq.range((self.later_from, Ino(0))..);
        let waits = |ino| {
            self.items
                .get(ino)
                .is_some_and(|item| item.forced.is_some())
        };
        if self.later == 0 || (self.asked.is_empty() && !beyond.any(|(_, ino)| waits(ino))) {
            return;
        }
        for item in self.items.values_mut() {
            if item.due > now && !item.open && item.can_hurry(now) {
                item.due = now;
            }
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
        self.stuck += usize::from(item.is_stuck());
        if let Some(old) = self.items.insert(ino, item) {
            self.stuck -= usize::from(old.is_stuck());
            self.waits_no_more(ino, old.behind);
            if old.row.seq != seq {
                self.by_seq.remove(&(old.row.seq, ino));
            }
        }
        if let Some(other) = behind {
            self.wait_behind(ino, other);
        }
    }

    /// Where there are too many, the newest ones that may wait go back to the journal.
    pub(crate) fn trim(&mut self) {
        while self.counted() > self.items_max {
            let all_may = self.stuck > STUCK_MAX;
            let newest = self.by_seq.iter().rev().find_map(|(_, ino)| {
                let item = self.items.get(ino)?;
                let may_wait = all_may || !item.is_stuck();
                let may_wait = may_wait && !item.running && item.vacate.is_none();
                may_wait.then_some((item.row, item.forced))
            });
            let Some((row, forced)) = newest else {
                return;
            };
            // Whoever waits behind it still does.
            self.take(row.ino);
            self.leave(&row);
            if let Some(asked) = forced {
                self.ask(row.ino, asked);
            }
        }
    }

    fn take(&mut self, ino: Ino) -> Option<Item> {
        let item = self.items.remove(&ino)?;
        self.by_seq.remove(&(item.row.seq, ino));
        self.stuck -= usize::from(item.is_stuck());
        self.waits_no_more(ino, item.behind);
        Some(item)
    }

    /// Forgets an inode; whoever waited for it may go on at once.
    pub(crate) fn remove(&mut self, ino: Ino) {
        if self.take(ino).is_none() {
            return;
        }
        let now = Instant::now();
        for waiting in self.behind.remove(&ino).unwrap_or_default() {
            self.change(waiting, |waiting| {
                if waiting.behind == Some(ino) {
                    waiting.behind = None;
                    waiting.due = now;
                }
            });
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
            work.trim();
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
            work.trim();
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
        work.scan_begins();
        assert_eq!(work.met(&item(9, 9).row, 3), Known::Look);
    }

    #[test]
    fn what_goes_back_to_the_journal_takes_what_comes_after_it_along_until_the_next_scan() {
        let asked = Asked {
            epoch: Epoch(1),
            open: false,
        };
        let mut work = Work::new(2);
        for seq in [4, 6] {
            work.insert(item(seq, seq));
            work.ask(Ino(seq), asked);
        }
        assert_eq!(work.later_from(), u64::MAX);
        work.insert(item(5, 5));
        work.trim();
        assert_eq!(
            (oldest_first(&work), work.later_from()),
            (vec![Ino(4), Ino(5)], 6)
        );
        work.remove(Ino(4));
        assert_eq!(work.know(&item(7, 7).row), Known::Later, "6 comes first");
        work.scan_begins();
        for seq in [5, 6, 7] {
            work.met(&item(seq, seq).row, 2);
        }
        assert_eq!(work.know(&item(6, 6).row), Known::Look);
        work.insert(item(6, 6));
        assert_eq!(
            work.get(Ino(6)).unwrap().forced,
            Some(asked),
            "still asked for"
        );
    }

    #[test]
    fn what_is_in_the_set_settles_no_longer_while_somebody_waits_for_what_is_not() {
        let now = Instant::now();
        let settling = |seq| Item {
            due: now + std::time::Duration::from_secs(3600),
            ..item(seq, seq)
        };
        let mut work = Work::new(2);
        for seq in 1..=3 {
            work.insert(settling(seq));
            work.trim();
        }
        work.hurry_for_later(now);
        assert!(work.get(Ino(1)).unwrap().due > now, "nobody waits");
        let asked = Asked {
            epoch: Epoch(1),
            open: false,
        };
        work.ask(Ino(3), asked);
        work.hurry_for_later(now);
        for ino in [1, 2] {
            assert_eq!(work.get(Ino(ino)).unwrap().due, now);
        }
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
    fn what_goes_back_to_the_journal_is_not_out_of_the_way() {
        let mut work = Work::new(1);
        work.insert(item(1, 1));
        let later = Instant::now() + std::time::Duration::from_secs(60);
        work.get_mut(Ino(1)).unwrap().due = later;
        work.insert(item(2, 2));
        work.insert(item(3, 3));
        work.wait_behind(Ino(1), Ino(3));
        work.trim();
        assert_eq!(oldest_first(&work), [Ino(1), Ino(2)]);
        let waiting = work.get(Ino(1)).unwrap();
        assert!(waiting.behind == Some(Ino(3)) && waiting.due == later);
        work.insert(item(3, 3));
        work.remove(Ino(3));
        assert!(work.get(Ino(1)).unwrap().behind.is_none());
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
