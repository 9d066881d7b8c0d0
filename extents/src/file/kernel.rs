//! What the kernel does for us on an extent file: seeking data and holes, copying between files,
//! setting times.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;
use nix::unistd::{Whence, lseek};

use super::{ExtentFile, residency};
use crate::{Error, Result};

/// The most that is copied at once.
const COPY_BYTES_MAX: u64 = 256 << 20;

/// What a seek looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// The next data (SEEK_DATA).
    Data,
    /// The next hole; the end of the file is one (SEEK_HOLE).
    Hole,
}

impl ExtentFile {
    /// Where the next data or hole at or after `offset` begins, by lseek(2); `None` beyond the end.
    /// What is missing is a hole here. The descriptor's own offset, which this moves, is used by
    /// nothing else.
    pub fn seek(&self, offset: u64, to: SeekTo) -> Result<Option<u64>> {
        let whence = match to {
            SeekTo::Data => Whence::SeekData,
            SeekTo::Hole => Whence::SeekHole,
        };
        let Ok(offset) = i64::try_from(offset) else {
            return Ok(None);
        };
        match lseek(self.file.as_fd(), offset, whence) {
            Ok(found) => Ok(u64::try_from(found).ok()),
            Err(Errno::ENXIO) => Ok(None),
            Err(errno) => Err(self.error("seeking", io::Error::from(errno))),
        }
    }

    /// Copies up to `len` bytes within the kernel (by reflink where the file system has it), by
    /// copy_file_range(2). Returns how many; may be short, and is 0 only at the end of this file. The
    /// source range must be resident, the target's edges as for `write_at`.
    ///
    /// A hole of the source that the file system copied as a hole (XFS and btrfs share blocks, and holes
    /// with them) is zeros that count as data in the target: below the target's valid length it would
    /// be taken for not fetched, and the object's old bytes would come back.
    pub async fn copy_range(
        self: &Arc<Self>,
        from: u64,
        to: &Arc<ExtentFile>,
        to_offset: u64,
        len: u64,
    ) -> Result<u64> {
        self.store.check()?;
        let source = Arc::clone(self);
        let target = Arc::clone(to);
        let copied = self
            .store
            .aside(move || source.copy_range_blocking(from, &target, to_offset, len));
        copied.await.map_err(|_| Error::Stopped {
            op: "copying",
            what: self.id.to_string(),
        })?
    }

    fn copy_range_blocking(
        &self,
        from: u64,
        to: &ExtentFile,
        to_offset: u64,
        len: u64,
    ) -> Result<u64> {
        let target = to.span("copying", to_offset, len)?;
        let mut read_at = from as i64;
        let mut write_at = target.start as i64;
        let pass = to.gate.exclusive();
        // Writers of the target wait that long: for a piece, not for the whole.
        let len = len.min(COPY_BYTES_MAX) as usize;
        let copied = copy_file_range(
            self.file.as_fd(),
            Some(&mut read_at),
            to.file.as_fd(),
            Some(&mut write_at),
            len,
        )
        .map_err(|errno| to.error("copying", io::Error::from(errno)))?;
        let range = target.start..target.start + copied as u64;
        let result = if copied > 0 {
            to.zero_holes(&range)
        } else {
            Ok(())
        };
        match result {
            Ok(()) => pass.insert(&range),
            // The map is what the file system says, whatever that is now.
            Err(_) => to.load_residency()?,
        }
        drop(pass);
        to.recount();
        result.map(|()| copied as u64)
    }

    /// Makes the holes within a range data. The caller has the file for itself.
    fn zero_holes(&self, range: &Range<u64>) -> Result<()> {
        let map = residency::scan_from(&self.file, range.start, range.end)
            .map_err(|error| self.error("reading the map", error))?;
        for hole in map.gaps(range) {
            self.write_zeros(&hole).1?;
        }
        Ok(())
    }

    /// Sets the time of the last change, by futimens(3); the access time stays.
    pub fn set_mtime(&self, (seconds, nanoseconds): (i64, u32)) -> Result<()> {
        let mtime = TimeSpec::new(seconds, i64::from(nanoseconds));
        futimens(self.file.as_fd(), &TimeSpec::UTIME_OMIT, &mtime)
            .map_err(|errno| self.error("setting the time of", io::Error::from(errno)))
    }
}
