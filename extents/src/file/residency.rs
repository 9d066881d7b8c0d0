//! The map of an extent file: which ranges are data.
//!
//! [`scan`] asks the file system. The last range ends at the end of the file, aligned or not.
//! [`Resident`] is the answer remembered and kept up to date. What it says of a byte beyond the end of
//! the file is of no account: users look only below `valid`, and `valid` never exceeds the size.

use std::fs::File;
use std::io;
use std::ops::Range;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use rangemap::RangeSet;

/// Asks the file system for the ranges that are data.
pub(crate) fn scan(file: &File) -> io::Result<RangeSet<u64>> {
    scan_from(file, 0, u64::MAX)
}

/// As `scan`, from an offset on; what begins at or after `end` may be left out.
pub(crate) fn scan_from(file: &File, start: u64, end: u64) -> io::Result<RangeSet<u64>> {
    let mut map = RangeSet::new();
    let mut at = i64::try_from(start).unwrap_or(i64::MAX);
    loop {
        if at as u64 >= end {
            return Ok(map);
        }
        let start = match lseek(file, at, Whence::SeekData) {
            Ok(start) => start,
            // No data from here to the end.
            Err(Errno::ENXIO) => return Ok(map),
            Err(error) => return Err(error.into()),
        };
        // There is a hole at the end of every file. ENXIO: the file was cut meanwhile.
        let end = match lseek(file, start, Whence::SeekHole) {
            Ok(end) => end,
            Err(Errno::ENXIO) => return Ok(map),
            Err(error) => return Err(error.into()),
        };
        if end <= start {
            return Ok(map);
        }
        map.insert(start as u64..end as u64);
        at = end;
    }
}

/// Rounds a range out to multiples of the granule.
pub(crate) fn round_out(range: &Range<u64>, granule: u64) -> Range<u64> {
    let start = range.start / granule * granule;
    start
        ..range
            .end
            .checked_next_multiple_of(granule)
            .unwrap_or(u64::MAX)
}

/// The remembered map.
#[derive(Default)]
pub(crate) struct Resident {
    map: RangeSet<u64>,
}

impl Resident {
    pub(crate) fn new(map: RangeSet<u64>) -> Resident {
        Resident { map }
    }

    /// Adds a range; answers how many bytes of it are new.
    pub(crate) fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let new = self.map.gaps(&range).map(|gap| gap.end - gap.start).sum();
        self.map.insert(range);
        new
    }

    pub(crate) fn remove(&mut self, range: Range<u64>) {
        if !range.is_empty() {
            self.map.remove(range);
        }
    }

    /// The exact holes within a range.
    pub(crate) fn gaps(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        if range.is_empty() {
            return Vec::new();
        }
        self.map.gaps(range).collect()
    }

    /// What has to be fetched so that `range` can be read or partly overwritten: the granules with a
    /// hole in them, within `[0, valid)`, merged.
    pub(crate) fn missing(&self, range: &Range<u64>, valid: u64, granule: u64) -> Vec<Range<u64>> {
        let clip = |range: Range<u64>| range.start..range.end.min(valid);
        if range.is_empty() {
            return Vec::new();
        }
        let mut missing: Vec<Range<u64>> = Vec::new();
        for gap in self.gaps(&clip(round_out(range, granule))) {
            let gap = clip(round_out(&gap, granule));
            match missing.last_mut() {
                Some(last) if last.end >= gap.start => last.end = gap.end,
                _ => missing.push(gap),
            }
        }
        missing
    }

    /// What has to be fetched so that all of `range` can be overwritten: as `missing`, but only of the
    /// granules that `range` covers in part.
    pub(crate) fn missing_edges(
        &self,
        range: &Range<u64>,
        valid: u64,
        granule: u64,
    ) -> Vec<Range<u64>> {
        let inner_start = range.start.next_multiple_of(granule);
        let inner_end = range.end / granule * granule;
        if inner_end <= inner_start {
            return self.missing(range, valid, granule);
        }
        let mut edges = self.missing(&(range.start..inner_start), valid, granule);
        edges.extend(self.missing(&(inner_end..range.end), valid, granule));
        edges
    }

    /// Whether all of `[0, valid)` is data.
    pub(crate) fn covers(&self, valid: u64) -> bool {
        valid == 0 || self.map.get(&0).is_some_and(|first| first.end >= valid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_granules_are_merged_and_clipped_to_the_valid_length() {
        let mut map = Resident::default();
        map.insert(4096..8192);
        map.insert(8192..9000);
        assert_eq!(
            map.missing(&(100..20_000), 14_000, 4096),
            [0..4096, 8192..14_000]
        );
        assert_eq!(map.missing(&(5000..6000), 14_000, 4096), []);
        assert_eq!(
            map.missing(&(14_000..20_000), 14_000, 4096),
            vec![12_288..14_000]
        );
        assert_eq!(map.missing(&(16_384..20_000), 14_000, 4096), []);
    }

    #[test]
    fn only_granules_that_are_partly_overwritten_have_to_be_fetched() {
        let map = Resident::default();
        let edges = |range, valid| map.missing_edges(&range, valid, 4096);
        assert_eq!(edges(0..8192, 100_000), []);
        assert_eq!(edges(100..20_000, 100_000), [0..4096, 16_384..20_480]);
        assert_eq!(edges(5000..6000, 100_000), vec![4096..8192]);
        assert_eq!(
            edges(4000..4200, 100_000),
            vec![0..8192],
            "across a boundary, none whole"
        );
        assert_eq!(
            edges(9000..20_000, 9000),
            vec![8192..9000],
            "an append fetches the last granule"
        );
        assert_eq!(edges(12_288..20_000, 9000), []);
    }

    #[test]
    fn inserting_tells_how_much_is_new() {
        let mut map = Resident::default();
        assert_eq!(map.insert(0..10), 10);
        assert_eq!(map.insert(5..15), 5);
        assert_eq!(map.insert(3..3), 0);
        assert!(map.covers(15) && !map.covers(16));
    }
}
