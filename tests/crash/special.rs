//! Files that are never replaced as a whole: logs that grow at the end, tables rewritten page by page.

use crate::content::{self, PAGE};

/// A file that only grows. Any prefix down to the floor may be left.
#[derive(Debug, Clone)]
pub struct Log {
    pub seed: u64,
    /// Bytes that survive the crash.
    pub floor: usize,
    /// Bytes that a write has been begun for.
    pub tried: usize,
}

impl Log {
    /// What is wrong with these bytes, if anything.
    pub fn judge(&self, bytes: &[u8]) -> Result<(), String> {
        let len = bytes.len();
        if bytes != content::log(self.seed, len) {
            let good = content::log(self.seed, len);
            let at = bytes.iter().zip(&good).position(|(a, b)| a != b);
            return Err(format!(
                "a log of {len} bytes is torn at byte {at:?} ({} were synced or acknowledged)",
                self.floor
            ));
        }
        if len < self.floor || len > self.tried {
            return Err(format!(
                "a log has {len} bytes; {} must be there, {} may",
                self.floor, self.tried
            ));
        }
        Ok(())
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
