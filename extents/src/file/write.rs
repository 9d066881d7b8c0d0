//! What programs do to a file: writes, lengths and holes. Everything here runs on the caller's thread and
//! goes through the page cache. It waits for fills in flight (see `gate`), never for the network.

use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::fcntl::{FallocateFlags, fallocate};

use super::ExtentFile;
use crate::Result;
use crate::directory::STAT_BLOCK_BYTES;

/// Zeros are written from here.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl ExtentFile {
    /// Writes, extending the file where needed. The granules at the edges become data as a whole, so
    /// whatever of them is missing below the valid length must have been filled before.
    ///
    /// After an error (ENOSPC) some of the front may have been written.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.store.check()?;
        let _point = killpoints::around("extent write");
        if data.is_empty() {
            return Ok(());
        }
        let range = self.span("writing", offset, data.len() as u64)?;
        let pass = self.gate.write(range);
        let (written, result) = self.write_counted(offset, data);
        let new = pass.end(written as u64);
        self.account.grow(&self.store.tally, new);
        result.map_err(|error| self.error("writing", error))
    }

    /// Sets the length. Nothing beyond a shorter length comes back: neither by growing again nor from
    /// fills that are under way, as long as the file is open. (To evict, punch.)
    pub fn truncate(&self, len: u64) -> Result<()> {
        self.store.check()?;
        let _point = killpoints::around("extent truncate");
        let pass = self.gate.exclusive();
        let shrinks = len < self.size()?;
        self.file
            .set_len(len)
            .map_err(|error| self.error("truncating", error))?;
        if shrinks {
            pass.cut(len);
        }
        drop(pass);
        self.recount();
        Ok(())
    }

    /// fallocate(2) as it is, with the mode bits of the system call; then asks for the map anew.
    ///
    /// Not for ranges below the valid length: what is preallocated is a hole to SEEK_DATA until it is
    /// written, yet data once it was read. A program's punched or zeroed range below the valid length
    /// is [`ExtentFile::zero_range`].
    pub fn allocate(&self, mode: i32, offset: u64, len: u64) -> Result<()> {
        self.store.check()?;
        let _point = killpoints::around("extent allocate");
        let range = self.span("allocating", offset, len)?;
        let pass = self.gate.exclusive();
        let mode = FallocateFlags::from_bits_retain(mode);
        fallocate(&*self.file, mode, range.start as i64, len as i64)
            .map_err(|error| self.error("allocating", error))?;
        let loaded = self.load_residency();
        drop(pass);
        self.recount();
        loaded
    }

    /// Makes a hole: evicts. The granules that are wholly inside are missing afterwards; at the end of
    /// the file the last one counts as whole.
    pub fn punch(&self, range: Range<u64>) -> Result<()> {
        self.store.check()?;
        let _point = killpoints::around("extent punch");
        let granule = self.store.capabilities.granule;
        let pass = self.gate.exclusive();
        let size = self.size()?;
        let end = if range.end >= size {
            size.next_multiple_of(granule)
        } else {
            range.end / granule * granule
        };
        let inner = range.start.next_multiple_of(granule)..end;
        if inner.is_empty() {
            return Ok(());
        }
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(
            &*self.file,
            mode,
            inner.start as i64,
            (inner.end - inner.start) as i64,
        )
        .map_err(|error| self.error("punching", error))?;
        pass.remove(&inner);
        drop(pass);
        self.recount();
        Ok(())
    }

    /// Makes one hole of the whole file, whatever its length was in between. The caller sees to it that
    /// nothing that was fetched before is still on its way.
    pub fn empty(&self) -> Result<()> {
        self.store.check()?;
        let _point = killpoints::around("extent empty");
        let pass = self.gate.exclusive();
        let end = self
            .size()?
            .next_multiple_of(self.store.capabilities.granule);
        if end > 0 {
            let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(&*self.file, mode, 0, end as i64)
                .map_err(|error| self.error("emptying", error))?;
        }
        pass.emptied();
        drop(pass);
        self.recount();
        Ok(())
    }

    /// Writes zeros that count as data, up to the end of the file at most: a program's hole in a range
    /// that would otherwise be taken for not fetched. Edges as for `write_at`.
    pub fn zero_range(&self, range: Range<u64>) -> Result<()> {
        self.store.check()?;
        let _point = killpoints::around("extent zero");
        let granule = self.store.capabilities.granule;
        let pass = self.gate.exclusive();
        let range = range.start..range.end.min(self.size()?);
        let (end, result) = self.write_zeros(&range);
        if result.is_err() {
            pass.insert(&(range.start..end / granule * granule));
            return result;
        }
        pass.insert(&range);
        drop(pass);
        self.recount();
        Ok(())
    }

    /// Writes zeros; tells up to where, and why not all.
    pub(super) fn write_zeros(&self, range: &Range<u64>) -> (u64, Result<()>) {
        let mut at = range.start;
        while at < range.end {
            let len = (range.end - at).min(ZEROS.len() as u64) as usize;
            let (written, result) = self.write_counted(at, &ZEROS[..len]);
            at += written as u64;
            if let Err(error) = result {
                return (at, Err(self.error("zeroing", error)));
            }
        }
        (at, Ok(()))
    }

    /// Writes all, or tells how much and why not the rest.
    fn write_counted(&self, offset: u64, data: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < data.len() {
            match self
                .file
                .write_at(&data[written..], offset + written as u64)
            {
                Ok(0) => return (written, Err(io::Error::from_raw_os_error(libc::ENOSPC))),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    /// The range, if a file can have it.
    pub(super) fn span(&self, op: &'static str, offset: u64, len: u64) -> Result<Range<u64>> {
        match offset.checked_add(len) {
            Some(end) if i64::try_from(end).is_ok() => Ok(offset..end),
            _ => Err(self.error(op, io::Error::from_raw_os_error(libc::EFBIG))),
        }
    }

    /// Brings the space accounted for up to date.
    pub(super) fn recount(&self) {
        if let Ok(metadata) = self.file.metadata() {
            self.account
                .set(&self.store.tally, metadata.blocks() * STAT_BLOCK_BYTES);
        }
    }
}
