//! Files that are never replaced as a whole: logs that grow at the end, tables rewritten page by page.

use crate::content::{self, PAGE};
use crate::ledger::is_strict;

/// A file that only grows. Any prefix down to the floor may be left.
#[derive(Debug, Clone)]
pub struct Log {
    pub seed: u64,
    /// Bytes that survive the crash.
    pub floor: usize,
    /// Bytes that a write has been begun for.
    pub tried: usize,
    /// Zeros are behind the floor: to be cut off before the next append.
    pub ragged: bool,
    /// Bytes at the last look that are of this log.
    pub good: usize,
}

impl Log {
    /// What is wrong with these bytes, if anything.
    ///
    /// Behind the floor there may be zeros, and so a length that no write made: a file that was fsynced
    /// once counts as it is, and that is what local file systems leave of an unsynced append. With
    /// `CRASH_STRICT` set there must not be.
    pub fn judge(&self, bytes: &[u8]) -> Result<(), String> {
        let len = bytes.len();
        let good = content::log(self.seed, len);
        let lenient = !is_strict();
        let differs = |at: usize| bytes[at] != good[at];
        let wrong = |at: &usize| differs(*at) && !(lenient && *at >= self.floor && bytes[*at] == 0);
        if bytes != good
            && let Some(at) = (0..len).find(wrong)
        {
            return Err(format!(
                "a log of {len} bytes is torn at byte {at} ({} were synced or acknowledged)",
                self.floor
            ));
        }
        let rounded = self.tried.next_multiple_of(PAGE);
        if len < self.floor || len > if lenient { rounded } else { self.tried } {
            return Err(format!(
                "a log has {len} bytes; {} must be there, {} may",
                self.floor, self.tried
            ));
        }
        Ok(())
    }

    /// What was found is where the next round begins.
    pub fn found(&mut self, bytes: &[u8], stored: bool) {
        let good = content::log(self.seed, bytes.len());
        let differs = bytes.iter().zip(&good).position(|(a, b)| a != b);
        let good = differs.unwrap_or(bytes.len());
        self.floor = if stored { good } else { self.floor.min(good) };
        self.good = good;
        self.tried = bytes.len();
        self.ragged = differs.is_some();
    }

    /// Whether an object holds nothing but bytes of this log, and zeros where that is allowed.
    pub fn may_be(&self, bytes: &[u8]) -> bool {
        let any_time = Self {
            floor: 0,
            tried: usize::MAX / 2,
            ..self.clone()
        };
        any_time.judge(bytes).is_ok()
    }
}

/// Rewrites of one page of a table.
#[derive(Debug, Clone, Copy, Default)]
pub struct Page {
    /// The oldest count that the crash may leave.
    pub floor: u32,
    /// The newest one begun.
    pub tried: u32,
    /// The newest one acknowledged.
    pub written: u32,
}

/// A file of pages, written in place like a database. Counts are never used twice.
#[derive(Debug, Clone)]
pub struct Table {
    pub seed: u64,
    pub pages: Vec<Page>,
}

impl Table {
    /// The counts of all pages of these bytes, or what is wrong with them.
    pub fn judge(&self, bytes: &[u8]) -> Result<Vec<u32>, String> {
        if bytes.len() > self.pages.len() * PAGE {
            return Err(format!("a table of {} bytes is too long", bytes.len()));
        }
        let mut counts = Vec::new();
        for (number, page) in self.pages.iter().enumerate() {
            let start = number * PAGE;
            let there = bytes.get(start..start + PAGE).unwrap_or(&[]);
            let count = content::count_of(self.seed, number as u32, there);
            match count {
                Some(count) if (page.floor..=page.tried).contains(&count) => counts.push(count),
                found => {
                    return Err(format!(
                        "page {number} of a table of {} bytes: {found:?}, not {page:?}",
                        bytes.len()
                    ));
                }
            }
        }
        Ok(counts)
    }

    /// Everything written so far survives.
    pub fn synced(&mut self) {
        for page in &mut self.pages {
            page.floor = page.floor.max(page.written);
        }
    }
}
