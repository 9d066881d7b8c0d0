//! The file `probes` of a cache directory: the objects by which the store is being tried.
//!
//! ```text
//! 99cb4f7d481ade56      a probe's number, 16 hexadecimal digits; one a line
//! ```
//!
//! A line is written and synced before the probe's first object and goes after its last, so what a crash leaves in
//! the store is known to the next start. Lines that aren't numbers are passed over.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use remote::ProbeNotes;

/// Numbers kept. There is more than one only if a store takes objects and does not delete them.
const PROBES_MAX: usize = 16;

/// The notes of a cache directory that is locked.
pub struct Probes {
    path: PathBuf,
}

impl Probes {
    pub(super) fn in_dir(cache_dir: &Path) -> Self {
        Self {
            path: cache_dir.join("probes"),
        }
    }

    fn read(&self) -> io::Result<Vec<u64>> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read?,
        };
        let numbers = text.lines().map(|line| u64::from_str_radix(line, 16));
        Ok(numbers.filter_map(Result::ok).collect())
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u64>)) {
        let changed = self.read().and_then(|mut numbers| {
            change(&mut numbers);
            self.write(&numbers)
        });
        if let Err(error) = changed {
            let path = self.path.display();
            tracing::warn!(%path, %error, "cannot note which objects the store is tried by: a crash may leave some");
        }
    }

    fn write(&self, numbers: &[u64]) -> io::Result<()> {
        if numbers.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            };
        }
        let text: String = numbers.iter().map(|nr| format!("{nr:016x}\n")).collect();
        let temporary = self.path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)
    }
}

impl ProbeNotes for Probes {
    fn left(&self) -> Vec<u64> {
        self.read().unwrap_or_else(|error| {
            let path = self.path.display();
            tracing::warn!(%path, %error, "cannot read which objects an earlier start may have left in the store");
            Vec::new()
        })
    }

    fn begins(&self, probe: u64) {
        self.change(|numbers| {
            numbers.drain(..numbers.len().saturating_sub(PROBES_MAX - 1));
            numbers.push(probe);
        });
    }

    fn is_gone(&self, probe: u64) {
        self.change(|numbers| numbers.retain(|number| *number != probe));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_is_known_until_it_is_gone() {
        let home = tempfile::tempdir().expect("a folder");
        let notes = || Probes::in_dir(home.path());
        assert!(notes().left().is_empty());
        notes().begins(0xab);
        notes().begins(u64::MAX);
        assert_eq!(notes().left(), [0xab, u64::MAX]);
        let text = fs::read_to_string(home.path().join("probes")).expect("the file");
        assert_eq!(text, "00000000000000ab\nffffffffffffffff\n");
        notes().is_gone(0xab);
        notes().is_gone(u64::MAX);
        assert_eq!(fs::read_dir(home.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn there_are_never_more_than_a_few() {
        let home = tempfile::tempdir().expect("a folder");
        let notes = Probes::in_dir(home.path());
        (0..40).for_each(|number| notes.begins(number));
        assert_eq!(notes.left(), (24..40).collect::<Vec<_>>());
    }
}
