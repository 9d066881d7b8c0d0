//! What a read makes worth fetching beyond what it asks for.
//!
//! A reader that goes on where it stopped gets a window ahead of it, twice as long as what it has read in
//! one piece, so that what is fetched in vain stays in proportion; several readers of one file are told
//! apart by where they are. A reader that jumps gets what it asks for and nothing else: the footer of a
//! Parquet file costs one small request.

use std::collections::VecDeque;
use std::ops::Range;

/// Readers of one file that are told apart.
const STREAMS_MAX: usize = 16;

/// The longest window: enough for 20 Gb/s at 25 ms.
pub const WINDOW_BYTES_MAX: u64 = 64 << 20;

/// Where the requests of a file are cut: a window that ends elsewhere makes two short ones.
pub const CUT_BYTES: u64 = 8 << 20;

/// One reader, as far as its requests tell.
#[derive(Debug)]
struct Stream {
    /// Where it is expected to go on.
    next: u64,
    /// How much it has read in one piece.
    read: u64,
    /// Up to where its window was fetched.
    fetched: u64,
}

impl Stream {
    /// Whether a request is this reader's. The kernel sends the requests of one reader side by side, so
    /// they may come in another order; a jump within the window is no jump.
    fn expects(&self, range: &Range<u64>) -> bool {
        let slack = 2 * (range.end - range.start);
        let last = self.next.max(self.fetched).saturating_add(slack);
        range.start.saturating_add(slack) >= self.next && range.start <= last
    }
}

/// The readers of one open file, the latest first.
#[derive(Debug, Default)]
pub struct Readahead {
    streams: VecDeque<Stream>,
}

impl Readahead {
    /// Takes note of a read, and answers what to fetch besides of a file of `valid` bytes.
    pub fn read(&mut self, range: &Range<u64>, valid: u64) -> Range<u64> {
        let known = self.streams.iter().position(|s| s.expects(range));
        let Some(mut stream) = known.and_then(|at| self.streams.remove(at)) else {
            self.streams.truncate(STREAMS_MAX - 1);
            self.streams.push_front(Stream {
                next: range.end,
                read: range.end - range.start,
                fetched: range.end,
            });
            return 0..0;
        };
        stream.next = stream.next.max(range.end);
        stream.read += range.end - range.start;
        stream.fetched = stream.fetched.max(stream.next);
        let window = (stream.read * 2).min(WINDOW_BYTES_MAX);
        let end = match (stream.next + window).min(valid) {
            end if end < valid && window >= 2 * CUT_BYTES => end / CUT_BYTES * CUT_BYTES,
            end => end,
        };
        // In pieces worth a request, not a little further with each read.
        let is_low = stream.fetched < valid && stream.fetched - stream.next <= window / 2;
        let ahead = match is_low && end > stream.fetched {
            true => stream.fetched..end,
            false => 0..0,
        };
        stream.fetched = stream.fetched.max(ahead.end);
        self.streams.push_front(stream);
        ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const FILE: u64 = 2 << 30;

    fn fetched(readahead: &mut Readahead, reads: impl IntoIterator<Item = Range<u64>>) -> u64 {
        let ahead = reads.into_iter().map(|read| readahead.read(&read, FILE));
        ahead.map(|ahead| ahead.end - ahead.start).sum()
    }

    #[test]
    fn a_sequential_reader_is_followed_by_a_growing_window_to_the_end() {
        let mut readahead = Readahead::default();
        let mut covered = 0;
        for n in 0..FILE / MIB {
            let read = n * MIB..(n + 1) * MIB;
            let ahead = readahead.read(&read, FILE);
            if !ahead.is_empty() {
                assert!(ahead.start >= read.end && ahead.end <= FILE);
                assert!(n < 2 || ahead.start == covered, "without a gap");
                let short = ahead.end % CUT_BYTES > 0 && ahead.end < FILE;
                assert!(!short || read.end < CUT_BYTES, "{ahead:?}");
                covered = ahead.end;
                assert!(covered - read.end <= (2 * read.end).min(WINDOW_BYTES_MAX));
            }
            assert!(n < 1 || covered >= (read.end + MIB).min(FILE));
        }
        assert_eq!(covered, FILE);
    }

    #[test]
    fn requests_out_of_order_are_one_reader() {
        let mut readahead = Readahead::default();
        for n in (0..64_u64).map(|n| n ^ 1) {
            readahead.read(&(n * MIB..(n + 1) * MIB), FILE);
        }
        assert_eq!(readahead.streams.len(), 1);
    }

    #[test]
    fn readers_in_turn_each_have_a_window() {
        let mut readahead = Readahead::default();
        for n in 0..100 {
            for reader in 0..8 {
                let start = reader * (FILE / 8) + n * 128 * KIB;
                readahead.read(&(start..start + 128 * KIB), FILE);
            }
        }
        let windows: Vec<u64> = readahead
            .streams
            .iter()
            .map(|stream| stream.fetched - stream.next)
            .collect();
        assert_eq!(windows.len(), 8);
        assert!(
            windows.iter().all(|&window| window > 4 * MIB),
            "{windows:?}"
        );
    }

    #[test]
    fn a_reader_that_jumps_gets_nothing_more() {
        let mut readahead = Readahead::default();
        // A stride that comes near no earlier place soon.
        let reads = (0..500_u64).map(|n| n * 771_751_936 % (FILE - MIB));
        let more = fetched(&mut readahead, reads.map(|at| at..at + 64 * KIB));
        assert!(more < 500 * 64 * KIB / 10, "{more}");
    }
}
