//! In which order files are given up: S3-FIFO (Yang et al., SOSP 2023), over files that weigh what they take.
//!
//! What is new enters a *small* queue, a tenth of the cache. Whoever was used again by the time that its turn comes
//! moves on to the *main* queue, the others go, and are remembered for a while as *ghosts*; a ghost that comes back
//! was thrown out too early, and enters the main queue. There, a turn costs one use, and who has none left goes.
//! So what is read once, however much it is, passes through the small queue and takes nothing from the working set:
//! a `cp` of the whole bucket, a `grep`, a checkpoint that is written and never read. Least recently used, which was
//! here before, let each of them empty the cache.
//!
//! Why not one of its relatives: ARC and LIRS do as well on traces, but move entries at each hit; W-TinyLFU needs a
//! sketch of frequencies and a window to be tuned. Here a use is a counter and a turn is a pop, nothing has to be
//! tuned, and the cost is that of what is evicted: each use pays for one turn at most.
//!
//! A use is an open, whoever reads then; uses count up to 3. One use after the first is enough to leave the small
//! queue: the paper wants two, but files are opened far less often than blocks are read, and a scan that opens each
//! file twice is rarer than a working set that has been read twice.
//!
//! Memory: about 100 bytes for each file in the cache, [`FILES_MAX`] at most; what is beyond that is not known, and
//! found when what is known is used up. Ghosts are as heavy as the files in the cache at most, and [`GHOSTS_MAX`].
//!
//! Nothing is written down. After a start the files in the cache are put into the main queue, those used longest
//! ago first: all that was there before is protected against a scan. Which of it had been used again is not known any
//! more, so what was used longest ago gives way first to what is used again.

use std::collections::{BTreeMap, HashMap};

use journal::Ino;

/// The small queue's share of all bytes, in percent.
const SMALL_PERCENT: u64 = 10;

/// Uses are counted so far.
const USES_MAX: u8 = 3;

/// Files known at most.
const FILES_MAX: usize = 1 << 22;

/// Ghosts at most.
const GHOSTS_MAX: usize = 1 << 17;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Small,
    Main,
}

#[derive(Clone, Copy, Debug)]
struct File {
    queue: Queue,
    /// Its place in the queue.
    ticket: u64,
    bytes: u64,
    uses: u8,
    /// It came before anybody had opened it.
    is_foreseen: bool,
}

/// First in, first out; who leaves out of turn leaves no trace.
#[derive(Debug, Default)]
struct Fifo {
    by_ticket: BTreeMap<u64, Ino>,
    bytes: u64,
}

/// Files that went without a second use, by when they went.
#[derive(Debug, Default)]
struct Ghosts {
    by_ticket: BTreeMap<u64, (Ino, u64)>,
    tickets: HashMap<Ino, u64>,
    bytes: u64,
}

/// The files in the cache that may be given up, in the order in which to.
#[derive(Debug, Default)]
pub struct Order {
    files: HashMap<Ino, File>,
    small: Fifo,
    main: Fifo,
    ghosts: Ghosts,
    next_ticket: u64,
}

impl Order {
    /// A file was opened; it counts only if it is known.
    pub fn used(&mut self, ino: Ino) {
        let Some(file) = self.files.get_mut(&ino) else {
            return;
        };
        match file.is_foreseen {
            // From here on it is as if its reader had fetched it: it enters when it is closed.
            true => self.forget(ino),
            false => file.uses = (file.uses + 1).min(USES_MAX),
        }
    }

    /// As [`Order::keep`], of a file that was brought in before anybody opened it. Who then does has not used it
    /// twice: reading the whole bucket in order is a scan, whoever fetches.
    pub fn keep_foreseen(&mut self, ino: Ino, bytes: u64) {
        let is_new = !self.knows(ino);
        self.keep(ino, bytes);
        if let Some(file) = self.files.get_mut(&ino) {
            file.is_foreseen |= is_new;
        }
    }

    /// A file takes so many bytes now, and nobody has it open any more.
    pub fn keep(&mut self, ino: Ino, bytes: u64) {
        if self.weigh(ino, bytes) {
            return;
        }
        let queue = match self.ghosts.remove(ino) {
            true => Queue::Main,
            false => Queue::Small,
        };
        self.enter(ino, queue, bytes, 0);
    }

    /// As [`Order::keep`], of a file that is worth more than one that was read once: somebody wants it here, or it
    /// was here from the start.
    pub fn keep_longer(&mut self, ino: Ino, bytes: u64) {
        let uses = self.files.get(&ino).map_or(0, |file| file.uses);
        self.forget(ino);
        self.ghosts.remove(ino);
        self.enter(ino, Queue::Main, bytes, uses);
    }

    /// The one whose turn it was can't go yet, for it is open: it goes to the end of its queue. That it is being
    /// read for the first time is no second use.
    pub fn keep_for_now(&mut self, ino: Ino, bytes: u64) {
        let was_small = self.ghosts.remove(ino);
        let queue = match was_small {
            true => Queue::Small,
            false => Queue::Main,
        };
        if !self.weigh(ino, bytes) {
            self.enter(ino, queue, bytes, 0);
        }
    }

    /// Whether the file is known.
    pub fn knows(&self, ino: Ino) -> bool {
        self.files.contains_key(&ino)
    }

    /// A file is not here any more, or can't be given up for now.
    pub fn forget(&mut self, ino: Ino) {
        if let Some(file) = self.files.remove(&ino) {
            self.queue(file.queue).leave(file.ticket, file.bytes);
        }
    }

    /// The file that is to go, and its bytes; it is forgotten with this. One that can't go now is to be kept again.
    pub fn next(&mut self) -> Option<(Ino, u64)> {
        // Each turn takes a file from the small queue, or a use.
        loop {
            let all = self.small.bytes + self.main.bytes;
            let small_is_due = self.main.is_empty() || self.small.bytes > all / 100 * SMALL_PERCENT;
            let queue = match small_is_due && !self.small.is_empty() {
                true => Queue::Small,
                false => Queue::Main,
            };
            let ino = self.queue(queue).first()?;
            let file = self.files.get(&ino).copied()?;
            self.forget(ino);
            match (queue, file.uses) {
                (Queue::Small, 0) => {
                    let ticket = self.ticket();
                    self.ghosts.add(ticket, ino, file.bytes, all);
                    return Some((ino, file.bytes));
                }
                (Queue::Main, 0) => return Some((ino, file.bytes)),
                (Queue::Small, _) => self.enter(ino, Queue::Main, file.bytes, 0),
                (Queue::Main, uses) => self.enter(ino, Queue::Main, file.bytes, uses - 1),
            }
        }
    }

    /// Files that are known.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether the file's weight could be changed: it is known.
    fn weigh(&mut self, ino: Ino, bytes: u64) -> bool {
        let Some(file) = self.files.get_mut(&ino) else {
            return false;
        };
        let before = std::mem::replace(&mut file.bytes, bytes);
        let queue = file.queue;
        let queue = self.queue(queue);
        queue.bytes = queue.bytes - before + bytes;
        true
    }

    fn enter(&mut self, ino: Ino, queue: Queue, bytes: u64, uses: u8) {
        if self.files.len() >= FILES_MAX {
            return;
        }
        let ticket = self.ticket();
        let file = File {
            queue,
            ticket,
            bytes,
            uses,
            is_foreseen: false,
        };
        self.files.insert(ino, file);
        let queue = self.queue(queue);
        queue.by_ticket.insert(ticket, ino);
        queue.bytes += bytes;
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn queue(&mut self, queue: Queue) -> &mut Fifo {
        match queue {
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
        }
    }
}

impl Fifo {
    fn first(&self) -> Option<Ino> {
        self.by_ticket.values().next().copied()
    }

    fn is_empty(&self) -> bool {
        self.by_ticket.is_empty()
    }

    fn leave(&mut self, ticket: u64, bytes: u64) {
        if self.by_ticket.remove(&ticket).is_some() {
            self.bytes -= bytes;
        }
    }
}

impl Ghosts {
    fn add(&mut self, ticket: u64, ino: Ino, bytes: u64, bytes_max: u64) {
        self.remove(ino);
        self.by_ticket.insert(ticket, (ino, bytes));
        self.tickets.insert(ino, ticket);
        self.bytes += bytes;
        while self.bytes > bytes_max || self.tickets.len() > GHOSTS_MAX {
            let Some((_, (oldest, bytes))) = self.by_ticket.pop_first() else {
                return;
            };
            self.tickets.remove(&oldest);
            self.bytes -= bytes;
        }
    }

    /// Whether it was one.
    fn remove(&mut self, ino: Ino) -> bool {
        let Some(ticket) = self.tickets.remove(&ino) else {
            return false;
        };
        if let Some((_, bytes)) = self.by_ticket.remove(&ticket) {
            self.bytes -= bytes;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A cache of `capacity` bytes over an order, as the evictor and the open table use it.
    struct Cache {
        order: Order,
        capacity: u64,
        here: HashMap<Ino, u64>,
    }

    impl Cache {
        fn of(capacity: u64) -> Cache {
            Cache {
                order: Order::default(),
                capacity,
                here: HashMap::new(),
            }
        }

        /// Opens, reads and closes a file; whether it was here.
        fn read(&mut self, ino: u64, bytes: u64) -> bool {
            let ino = Ino(ino);
            let hit = self.here.contains_key(&ino);
            self.order.used(ino);
            self.here.insert(ino, bytes);
            self.order.keep(ino, bytes);
            while self.here.values().sum::<u64>() > self.capacity {
                let (victim, _) = self.order.next().expect("what is here is known");
                assert!(self.here.remove(&victim).is_some(), "{victim} is not here");
            }
            hit
        }

        fn hits(&mut self, files: impl IntoIterator<Item = u64>) -> usize {
            files.into_iter().filter(|ino| self.read(*ino, 10)).count()
        }
    }

    #[test]
    fn a_scan_larger_than_the_cache_leaves_the_working_set() {
        let mut cache = Cache::of(1000);
        let working_set = 0..80;
        for _ in 0..2 {
            cache.hits(working_set.clone());
        }
        assert_eq!(cache.hits(1000..2000), 0);
        assert_eq!(cache.hits(working_set), 80, "all of it is still there");
    }

    #[test]
    fn what_is_open_at_its_turn_goes_to_the_end_of_its_queue() {
        let mut order = Order::default();
        order.keep_longer(Ino(1), 100);
        for ino in 2..5 {
            order.keep(Ino(ino), 10);
        }
        assert_eq!(order.next(), Some((Ino(2), 10)));
        order.keep_for_now(Ino(2), 10);
        let rest: Vec<u64> = std::iter::from_fn(|| order.next())
            .map(|(ino, _)| ino.0)
            .collect();
        assert_eq!(rest[..2], [3, 4], "not before those that can go");
        assert!(rest.contains(&2) && rest.len() == 4);
    }

    #[test]
    fn a_scan_whose_files_are_brought_in_before_it_opens_them_is_still_a_scan() {
        let mut order = Order::default();
        for ino in 0..100 {
            order.keep_foreseen(Ino(ino), 10);
            order.used(Ino(ino));
            assert!(!order.knows(Ino(ino)), "open, it has no turn");
            order.keep(Ino(ino), 10);
        }
        for ino in 0..50 {
            let next = order.next().map(|(ino, _)| ino);
            assert_eq!(next, Some(Ino(ino)), "in the order in which they came");
        }
        order.used(Ino(50));
        assert_eq!(order.next(), Some((Ino(51), 10)), "used twice");
    }

    #[test]
    fn a_scan_after_a_restart_leaves_what_was_there() {
        let mut cache = Cache::of(1000);
        for ino in 0..90 {
            cache.here.insert(Ino(ino), 10);
            cache.order.keep_longer(Ino(ino), 10);
        }
        cache.hits(1000..2000);
        assert!(cache.hits(0..90) >= 85);
    }

    #[test]
    fn a_new_working_set_takes_the_place_of_the_old_one() {
        let mut cache = Cache::of(1000);
        for _ in 0..3 {
            cache.hits(0..90);
        }
        for _ in 0..12 {
            cache.hits(100..180);
        }
        assert_eq!(cache.hits(100..180), 80);
    }

    #[test]
    fn what_comes_back_soon_after_it_went_stays() {
        let mut cache = Cache::of(1000);
        for _ in 0..2 {
            cache.hits(0..90);
        }
        cache.hits(100..130);
        assert!(!cache.read(101, 10), "it went, unused");
        cache.hits(200..400);
        assert!(cache.read(101, 10), "the second time it was kept");
    }

    #[test]
    fn what_is_used_at_its_turn_is_not_lost() {
        let mut order = Order::default();
        order.keep(Ino(1), 5);
        order.keep(Ino(2), 6);
        assert_eq!(order.next(), Some((Ino(1), 5)));
        order.keep_longer(Ino(1), 5);
        assert_eq!(order.next(), Some((Ino(2), 6)));
        assert_eq!(order.next(), Some((Ino(1), 5)));
        assert_eq!(order.next(), None);
        assert_eq!(order.small.bytes + order.main.bytes, 0);
    }

    /// The same, told by plain lists that are searched from end to end.
    #[derive(Default)]
    struct Model {
        small: Vec<(u64, u64, u8)>,
        main: Vec<(u64, u64, u8)>,
        ghosts: Vec<(u64, u64)>,
    }

    impl Model {
        fn find(&mut self, ino: u64) -> Option<&mut (u64, u64, u8)> {
            let both = self.small.iter_mut().chain(self.main.iter_mut());
            both.into_iter().find(|file| file.0 == ino)
        }

        fn keep(&mut self, ino: u64, bytes: u64) {
            if let Some(file) = self.find(ino) {
                file.1 = bytes;
                return;
            }
            let ghost = self.ghosts.iter().position(|ghost| ghost.0 == ino);
            match ghost.map(|at| self.ghosts.remove(at)) {
                Some(_) => self.main.push((ino, bytes, 0)),
                None => self.small.push((ino, bytes, 0)),
            }
        }

        fn forget(&mut self, ino: u64) {
            self.small.retain(|file| file.0 != ino);
            self.main.retain(|file| file.0 != ino);
        }

        fn next(&mut self) -> Option<(Ino, u64)> {
            let bytes = |files: &[(u64, u64, u8)]| files.iter().map(|file| file.1).sum::<u64>();
            loop {
                let (small, main) = (bytes(&self.small), bytes(&self.main));
                let due = self.main.is_empty() || small > (small + main) / 100 * SMALL_PERCENT;
                if due && !self.small.is_empty() {
                    let (ino, bytes, uses) = self.small.remove(0);
                    if uses > 0 {
                        self.main.push((ino, bytes, 0));
                        continue;
                    }
                    self.ghosts.retain(|ghost| ghost.0 != ino);
                    self.ghosts.push((ino, bytes));
                    while self.ghosts.iter().map(|ghost| ghost.1).sum::<u64>() > small + main {
                        self.ghosts.remove(0);
                    }
                    return Some((Ino(ino), bytes));
                }
                if self.main.is_empty() {
                    return None;
                }
                let (ino, bytes, uses) = self.main.remove(0);
                match uses {
                    0 => return Some((Ino(ino), bytes)),
                    uses => self.main.push((ino, bytes, uses - 1)),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_plain_lists(
            steps in prop::collection::vec((0..6_u8, 0..12_u64, 0..100_u64), 0..200)
        ) {
            let mut order = Order::default();
            let mut model = Model::default();
            for (what, ino, bytes) in steps {
                match what {
                    0 | 1 => {
                        order.keep(Ino(ino), bytes);
                        model.keep(ino, bytes);
                    }
                    2 | 3 => {
                        order.used(Ino(ino));
                        if let Some(file) = model.find(ino) {
                            file.2 = (file.2 + 1).min(3);
                        }
                    }
                    4 => {
                        order.forget(Ino(ino));
                        model.forget(ino);
                    }
                    _ => prop_assert_eq!(order.next(), model.next()),
                }
                let known: BTreeSet<Ino> = order.files.keys().copied().collect();
                let both = model.small.iter().chain(&model.main);
                let expected: BTreeSet<Ino> = both.map(|file| Ino(file.0)).collect();
                prop_assert_eq!(known, expected);
            }
            while let Some(victim) = model.next() {
                prop_assert_eq!(order.next(), Some(victim));
            }
            prop_assert_eq!(order.next(), None);
        }
    }
}
