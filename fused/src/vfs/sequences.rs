//! Which files are likely to be opened next: those that follow the ones that were just read whole, in the order of
//! their directory's names or by a number in their name.
//!
//! A *stream* is one reader that goes through a directory. Several go through the same one side by side (the workers
//! of a data loader), each in a stream of its own. A stream begins with a file that was opened while its bytes were
//! in the store only; the next few files in either order are *expected*, and one of them being opened proves that
//! the reader goes on. From then on twice as many files as it has read are brought in ahead of it, and no more bytes
//! than twice those that it has read: what is brought in vain stays in proportion. A reader that leaves a file after
//! its header proves nothing, however many it opens: looking through the footers of a Parquet dataset brings in
//! nothing.
//!
//! No I/O is done here, and nothing is known that the caller has not told. Memory: [`STREAMS_MAX`] times
//! [`FILES_AHEAD_MAX`] and [`FOUND_MAX`] numbers and sizes, 1 MiB.

use std::collections::{HashMap, VecDeque};

use journal::Ino;

/// Readers that are told apart, over all directories.
const STREAMS_MAX: usize = 256;

/// Files whose opening next shows that a reader goes on: threads that read side by side get in front of each other.
const EXPECTED: usize = 4;

/// A reader that has not gone on after so many opens by others does not: who jumps here and there comes by again,
/// sooner or later.
const OTHERS_MAX: u64 = 64;

/// Files brought in ahead of one reader.
const FILES_AHEAD_MAX: usize = 64;

/// Bytes brought in ahead of all readers.
const BYTES_AHEAD_MAX: u64 = 1 << 30;

/// Files found at one look, at most.
pub(super) const FOUND_MAX: usize = 64;

/// Files that are being read and may yet prove something.
const READING_MAX: usize = 1024;

/// A file that comes after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The file.
    pub ino: Ino,
    /// Its length.
    pub bytes: u64,
}

/// A reader of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(u64);

/// What the caller is to do after an open. A `Place` is where it last found files.
#[derive(Debug, PartialEq, Eq)]
pub struct Foreseen<Place> {
    /// Files to be brought in now, the next one first.
    pub bring: Vec<Ino>,
    /// Files are to be found that follow this place, and to be told by [`Sequences::found`].
    pub look: Option<(StreamId, Place)>,
}

impl<Place> Default for Foreseen<Place> {
    fn default() -> Self {
        Self {
            bring: Vec::new(),
            look: None,
        }
    }
}

#[derive(Debug)]
struct Stream<Place> {
    /// Files that it has passed by or read a moment ago.
    behind: VecDeque<Ino>,
    coming: VecDeque<Next>,
    /// Where more is to be looked for; nothing while the caller does, and when there is no more.
    place: Option<Place>,
    /// Of `coming`, files that were handed out to be brought in, and their bytes.
    handed: usize,
    handed_bytes: u64,
    /// Files opened one after the other.
    run: usize,
    /// Bytes of those that were read whole.
    proven_bytes: u64,
    used_at: u64,
}

/// All readers.
#[derive(Debug)]
pub struct Sequences<Place> {
    /// Bytes brought in ahead of all readers.
    bytes_ahead_max: u64,
    streams: HashMap<StreamId, Stream<Place>>,
    /// Which stream a file says something about.
    expected: HashMap<Ino, StreamId>,
    /// Files that were not here when they were opened.
    reading: HashMap<Ino, (StreamId, u64)>,
    clock: u64,
    /// Files that were handed out, and of these, files that were opened afterwards.
    handed_total: u64,
    met_total: u64,
}

impl<Place> Default for Sequences<Place> {
    fn default() -> Self {
        Self {
            bytes_ahead_max: BYTES_AHEAD_MAX,
            streams: HashMap::new(),
            expected: HashMap::new(),
            reading: HashMap::new(),
            clock: 0,
            handed_total: 0,
            met_total: 0,
        }
    }
}

impl<Place> Sequences<Place> {
    /// The cache is so large. No more than a twentieth of it is brought in ahead: half of what eviction keeps of
    /// files that nobody has used twice.
    pub fn bound(&mut self, cache_bytes: u64) {
        self.bytes_ahead_max = BYTES_AHEAD_MAX.min(cache_bytes / 20);
    }

    /// A program opened a file of `bytes` bytes to read it. `is_here`: all of it is in the cache. `None`: it follows
    /// no other; if it `is_here` not, a stream may [begin](Self::begin) with it.
    pub fn opened(&mut self, ino: Ino, is_here: bool, bytes: u64) -> Option<Foreseen<Place>> {
        let id = *self.expected.get(&ino)?;
        let stream = self.streams.get_mut(&id)?;
        if self.clock - stream.used_at > OTHERS_MAX {
            self.end(id);
            return None;
        }
        self.clock += 1;
        stream.used_at = self.clock;
        // One that is behind comes a little late: no step, but it counts as read.
        if let Some(at) = stream.coming.iter().position(|next| next.ino == ino) {
            stream.run += 1;
            for passed in stream.coming.drain(..=at) {
                if stream.handed > 0 {
                    stream.handed -= 1;
                    stream.handed_bytes -= passed.bytes;
                    self.met_total += u64::from(passed.ino == ino);
                }
                stream.behind.push_back(passed.ino);
            }
            let left = stream.behind.len().saturating_sub(EXPECTED);
            for ino in stream.behind.drain(..left) {
                forget(&mut self.expected, ino, id);
            }
            for next in stream.coming.iter().take(EXPECTED) {
                self.expected.insert(next.ino, id);
            }
        }
        if is_here {
            stream.proven_bytes = stream.proven_bytes.saturating_add(bytes);
        } else if self.reading.len() < READING_MAX {
            self.reading.insert(ino, (id, bytes));
        }
        Some(self.foresee(id))
    }

    /// A stream begins with this file, which `opened` did not know. What follows it is to be told by
    /// [`found`](Self::found).
    pub fn begin(&mut self, ino: Ino, bytes: u64) -> StreamId {
        if self.streams.len() >= STREAMS_MAX {
            let oldest = self.streams.iter().min_by_key(|(_, stream)| stream.used_at);
            if let Some(id) = oldest.map(|(id, _)| *id) {
                self.end(id);
            }
        }
        self.clock += 1;
        let id = StreamId(self.clock);
        let stream = Stream {
            behind: VecDeque::from([ino]),
            coming: VecDeque::new(),
            place: None,
            handed: 0,
            handed_bytes: 0,
            run: 1,
            proven_bytes: 0,
            used_at: self.clock,
        };
        self.streams.insert(id, stream);
        self.expected.insert(ino, id);
        if self.reading.len() < READING_MAX {
            self.reading.insert(ino, (id, bytes));
        }
        id
    }

    /// What follows the place where was looked, and the place where to look next, if there may be more.
    pub fn found(
        &mut self,
        id: StreamId,
        files: impl IntoIterator<Item = Next>,
        place: Option<Place>,
    ) -> Foreseen<Place> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Foreseen::default();
        };
        stream.place = place;
        stream.coming.extend(files);
        for next in stream.coming.iter().take(EXPECTED) {
            self.expected.insert(next.ino, id);
        }
        if stream.coming.is_empty() && stream.place.is_none() {
            self.end(id);
            return Foreseen::default();
        }
        self.foresee(id)
    }

    /// A file was closed for the last time; `was_read`: most of it was read.
    pub fn closed(&mut self, ino: Ino, was_read: bool) {
        let Some((id, bytes)) = self.reading.remove(&ino) else {
            return;
        };
        if let Some(stream) = self.streams.get_mut(&id) {
            match was_read {
                true => stream.proven_bytes = stream.proven_bytes.saturating_add(bytes),
                false => {
                    stream.proven_bytes = 0;
                    stream.run = 1;
                }
            }
        }
    }

    /// A stream is of no use: nothing could be found, or brought in.
    pub fn end(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            let coming = stream.coming.iter().map(|next| next.ino);
            for ino in stream.behind.into_iter().chain(coming) {
                forget(&mut self.expected, ino, id);
            }
        }
    }

    /// Whether a close may say something.
    pub fn is_reading(&self) -> bool {
        !self.reading.is_empty()
    }

    /// Files handed out so far, and of these, files that a program opened then.
    pub fn totals(&self) -> (u64, u64) {
        (self.handed_total, self.met_total)
    }

    fn foresee(&mut self, id: StreamId) -> Foreseen<Place> {
        // Who does not go on has left what was brought in for him to eviction.
        let goes_on = |stream: &&Stream<Place>| self.clock - stream.used_at <= OTHERS_MAX;
        let readers = self.streams.values().filter(goes_on);
        let mut ahead: u64 = readers.map(|stream| stream.handed_bytes).sum();
        let Some(stream) = self.streams.get_mut(&id) else {
            return Foreseen::default();
        };
        let goes_on = stream.run > 1 && stream.proven_bytes > 0;
        let files_max = match goes_on {
            true => stream.run.saturating_mul(2).min(FILES_AHEAD_MAX),
            false => 0,
        };
        let bytes_max = stream.proven_bytes.saturating_mul(2);
        let mut bring = Vec::new();
        while stream.handed < files_max
            && let Some(next) = stream.coming.get(stream.handed)
            && stream.handed_bytes.saturating_add(next.bytes) <= bytes_max
            && ahead.saturating_add(next.bytes) <= self.bytes_ahead_max
        {
            ahead += next.bytes;
            stream.handed += 1;
            stream.handed_bytes += next.bytes;
            bring.push(next.ino);
        }
        self.handed_total += bring.len() as u64;
        let look = match stream.coming.len() <= files_max.max(EXPECTED) {
            true => stream.place.take(),
            false => None,
        };
        Foreseen {
            bring,
            look: look.map(|place| (id, place)),
        }
    }
}

/// What another stream expects by now stays.
fn forget(expected: &mut HashMap<Ino, StreamId>, ino: Ino, id: StreamId) {
    if expected.get(&ino) == Some(&id) {
        expected.remove(&ino);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: u64 = 1000;
    const BYTES: u64 = 100_000;

    /// A directory of files 1 to [`FILES`] of the same length, and readers of it.
    struct Directory {
        sequences: Sequences<u64>,
        here: std::collections::BTreeSet<u64>,
        brought: Vec<u64>,
    }

    impl Directory {
        fn new() -> Directory {
            Directory {
                sequences: Sequences::default(),
                here: std::collections::BTreeSet::new(),
                brought: Vec::new(),
            }
        }

        fn open(&mut self, file: u64) {
            let is_here = self.here.contains(&file);
            let foreseen = self.sequences.opened(Ino(file), is_here, BYTES);
            let mut foreseen = match foreseen {
                Some(foreseen) => foreseen,
                None if is_here => return,
                None => Foreseen {
                    bring: Vec::new(),
                    look: Some((self.sequences.begin(Ino(file), BYTES), file)),
                },
            };
            loop {
                for ino in foreseen.bring {
                    self.here.insert(ino.0);
                    self.brought.push(ino.0);
                }
                let Some((id, after)) = foreseen.look else {
                    return;
                };
                let last = FILES.min(after + FOUND_MAX as u64);
                let found = (after + 1..=last).map(|ino| Next {
                    ino: Ino(ino),
                    bytes: BYTES,
                });
                foreseen = self
                    .sequences
                    .found(id, found, (last < FILES).then_some(last));
            }
        }

        /// All of it.
        fn read(&mut self, file: u64) {
            self.open(file);
            self.here.insert(file);
            self.sequences.closed(Ino(file), true);
        }
    }

    #[test]
    fn a_reader_in_order_waits_for_its_first_files_only() {
        let mut directory = Directory::new();
        for file in 1..=FILES {
            let is_here = directory.here.contains(&file);
            assert!(is_here || file < 3, "{file} is not here");
            directory.read(file);
        }
        let mut once = directory.brought.clone();
        once.dedup();
        assert_eq!(once, directory.brought, "in order, each once");
        assert_eq!(directory.sequences.totals(), (FILES - 2, FILES - 2));
        assert!(!directory.sequences.is_reading());
    }

    #[test]
    fn what_is_brought_in_stays_in_proportion_to_what_was_read() {
        let mut directory = Directory::new();
        for file in 1..=200 {
            directory.read(file);
            let ahead = directory.brought.last().map_or(0, |last| last - file);
            assert!(
                ahead <= 2 * file && ahead <= FILES_AHEAD_MAX as u64,
                "{file}: {ahead}"
            );
        }
        assert!(directory.brought.last() >= Some(&250), "far enough ahead");
    }

    #[test]
    fn readers_of_one_directory_do_not_disturb_each_other() {
        let mut directory = Directory::new();
        for step in 1..=100 {
            for reader in 0..4 {
                directory.read(reader * 250 + step);
            }
        }
        let (handed, met) = directory.sequences.totals();
        assert_eq!(met, 4 * 98);
        assert!(handed <= met + 4 * FILES_AHEAD_MAX as u64);
    }

    #[test]
    fn threads_that_get_in_front_of_each_other_are_one_reader() {
        let mut directory = Directory::new();
        for group in 0..50 {
            for file in [2, 1, 4, 3] {
                directory.read(group * 4 + file);
            }
        }
        assert!(directory.sequences.streams.len() <= 2);
        assert!(directory.brought.len() > 190);
    }

    #[test]
    fn who_reads_here_and_there_gets_nothing_more() {
        let mut directory = Directory::new();
        for n in 1..=500 {
            directory.read(n * 377 % FILES + 1);
        }
        assert!(directory.brought.is_empty(), "{:?}", directory.brought);
        assert!(directory.sequences.streams.len() <= STREAMS_MAX);
    }

    #[test]
    fn who_looks_at_headers_only_gets_nothing_more() {
        let mut directory = Directory::new();
        for file in 1..=500 {
            directory.open(file);
            directory.sequences.closed(Ino(file), false);
        }
        assert!(directory.brought.is_empty(), "{:?}", directory.brought);
    }

    #[test]
    fn bytes_are_bounded_however_large_the_files() {
        let mut sequences = Sequences::<()>::default();
        let id = sequences.begin(Ino(1), 1 << 40);
        let next = |ino| Next {
            ino: Ino(ino),
            bytes: BYTES_AHEAD_MAX / 2 + 1,
        };
        sequences.found(id, (2..20).map(next), None);
        sequences.closed(Ino(1), true);
        let foreseen = sequences.opened(Ino(2), false, BYTES).unwrap();
        assert_eq!(
            foreseen.bring,
            [Ino(3)],
            "half as much again would be too much"
        );
    }

    #[test]
    fn all_readers_together_take_a_small_part_of_the_cache() {
        let mut directory = Directory::new();
        directory.sequences.bound(400 * BYTES);
        for step in 1..=60 {
            for reader in 0..8 {
                directory.read(reader * 100 + step);
            }
            let (handed, met) = directory.sequences.totals();
            assert!(handed - met <= 20, "{} at a time", handed - met);
        }
        let (_, met) = directory.sequences.totals();
        assert!(met > 300, "{met}");
    }

    #[test]
    fn memory_is_bounded() {
        let mut sequences = Sequences::<()>::default();
        for ino in 0..100_000 {
            let id = sequences.begin(Ino(2 * ino), 1);
            let next = Next {
                ino: Ino(2 * ino + 1),
                bytes: 1,
            };
            sequences.found(id, [next], None);
        }
        assert_eq!(sequences.streams.len(), STREAMS_MAX);
        assert!(sequences.expected.len() <= 2 * STREAMS_MAX);
        assert!(sequences.reading.len() <= READING_MAX);
    }
}
