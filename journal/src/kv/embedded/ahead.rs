//! Blocks for the write-ahead log before it is written.
//!
//! A write of fjall's log that fails leaves half a record in the file and the other half in its buffer, so
//! nothing can be made of it but poison. A full disk is no reason for that: before a record is handed to
//! fjall, the blocks that it may take are allocated, beyond the end of the file, and if there are none, the
//! commit is refused with nothing written.
//!
//! fjall does not tell where it writes. What it has written is therefore counted from above, and at most
//! [`STEP_BYTES`] and what the count is off lie idle until the file goes.

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::wal;

/// Allocated at a time.
const STEP_BYTES: u64 = 8 << 20;

/// fjall begins a new file beyond 64,000,000 bytes, never before; and makes it as long as this.
const ROTATES_BEYOND: u64 = 64_000_000;
const NEW_FILE_BYTES: u64 = 64 << 20;

/// More than fjall writes around a batch, and around each of its rows.
const AROUND_BYTES: u64 = 64;

/// The most that a row takes in the log.
pub(super) fn row_bytes_max(key: &[u8], value: &[u8]) -> u64 {
    let bytes = (key.len() + value.len()) as u64;
    // What can't be compressed grows a little.
    bytes + bytes / 128 + AROUND_BYTES
}

/// The blocks of the newest file.
pub(super) struct Ahead {
    dir: PathBuf,
    newest: Option<Newest>,
}

struct Newest {
    number: u64,
    file: File,
    written_max: u64,
    allocated: u64,
}

impl Ahead {
    /// For the log in `dir`, just opened.
    pub(super) fn new(dir: &Path) -> Ahead {
        let number = wal::newest(dir).ok().flatten();
        Ahead {
            dir: dir.to_owned(),
            newest: number.and_then(|number| Newest::open(dir, number).ok()),
        }
    }

    /// Closes its file. Nothing is written until there is another one of these.
    pub(super) fn let_go(&mut self) {
        self.newest = None;
    }

    /// A batch whose rows take so much at most is about to be written. An error: there is no room for it.
    pub(super) fn admit(&mut self, rows_bytes_max: u64) -> io::Result<()> {
        let Some(newest) = &mut self.newest else {
            return Ok(());
        };
        if newest.written_max > ROTATES_BEYOND
            && let Ok(next) = Newest::open(&self.dir, newest.number + 1)
        {
            *newest = next;
        }
        let end = newest.written_max + rows_bytes_max + AROUND_BYTES;
        if end > newest.allocated {
            let bytes = (end - newest.allocated).next_multiple_of(STEP_BYTES);
            match newest.allocate(bytes) {
                Ok(()) => newest.allocated += bytes,
                Err(full @ (Errno::ENOSPC | Errno::EDQUOT)) => return Err(full.into()),
                Err(error) => {
                    // The local file system can't: the log takes its blocks as it is written.
                    tracing::debug!(%error, "no blocks for the log ahead");
                    newest.allocated = u64::MAX;
                }
            }
        }
        newest.written_max = end;
        Ok(())
    }
}

impl Newest {
    fn open(dir: &Path, number: u64) -> io::Result<Newest> {
        let file = OpenOptions::new()
            .write(true)
            .open(wal::path(dir, number))?;
        let bytes = file.metadata()?.len();
        // A new file is empty; one that was replayed ends with its last record.
        let written = if bytes == NEW_FILE_BYTES { 0 } else { bytes };
        Ok(Newest {
            number,
            file,
            written_max: written,
            allocated: written,
        })
    }

    fn allocate(&self, bytes: u64) -> nix::Result<()> {
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&self.file, keep, self.allocated as i64, bytes as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_newest_file_always_has_blocks_for_what_comes() {
        let dir = tempfile::tempdir().unwrap();
        let make = |number: u64| {
            let file = File::create(wal::path(dir.path(), number)).unwrap();
            file.set_len(NEW_FILE_BYTES).unwrap();
        };
        let blocks = |number: u64| {
            let file = std::fs::metadata(wal::path(dir.path(), number)).unwrap();
            (file.len(), file.blocks() * 512)
        };
        make(3);
        let mut ahead = Ahead::new(dir.path());
        let mut written = 0;
        while written < 70_000_000 {
            ahead.admit(50_000).unwrap();
            written += 50_000;
            assert!(blocks(3).1 >= written);
            assert!(blocks(3).1 < written + 3 * STEP_BYTES);
        }
        assert_eq!(blocks(3).0, NEW_FILE_BYTES, "its length is fjall's");
        make(4);
        ahead.admit(50_000).unwrap();
        assert!(blocks(4).1 >= STEP_BYTES);
    }
}
