//! The first bytes of a file in memory, touched only where the file has bytes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::fs;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

/// How much of a file is mapped: a few pages, and an edge within reach of the offsets in use.
const LEN: usize = 128 << 10;

/// A mapping; the file behind it stays open, to know how far it reaches.
pub struct Mapping {
    file: OwnedFd,
    start: *mut u8,
    writable: bool,
}

impl Mapping {
    /// Of the start of this file.
    pub fn new(fd: BorrowedFd<'_>, shared: bool, write: bool) -> rustix::io::Result<Self> {
        let file = rustix::io::fcntl_dupfd_cloexec(fd, 0)?;
        let mut access = ProtFlags::READ;
        if write {
            access |= ProtFlags::WRITE;
        }
        let kind = if shared {
            MapFlags::SHARED
        } else {
            MapFlags::PRIVATE
        };
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else uses that memory.
        let start = unsafe { mmap(ptr::null_mut(), LEN, access, kind, file.as_fd(), 0)? };
        Ok(Self {
            file,
            start: start.cast(),
            writable: write,
        })
    }

    /// The part of a range that the file has: beyond it a page is not there to be touched.
    fn within(&self, offset: usize, len: usize) -> rustix::io::Result<(usize, usize)> {
        let size = fs::fstat(&self.file)?.st_size as usize;
        let end = (offset + len).min(size).min(LEN);
        Ok((offset, end.saturating_sub(offset)))
    }

    /// The bytes there, as far as there are any.
    pub fn read(&self, offset: usize, len: usize) -> rustix::io::Result<Vec<u8>> {
        let (offset, len) = self.within(offset, len)?;
        let mut bytes = vec![0; len];
        if len > 0 {
            // SAFETY: `within` keeps the range inside the mapping and the file. Other processes may
            // change it meanwhile: it is copied as raw memory, never borrowed.
            unsafe { ptr::copy_nonoverlapping(self.start.add(offset), bytes.as_mut_ptr(), len) };
        }
        Ok(bytes)
    }

    /// Replaces the bytes there, as far as there are any; gives how many.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> rustix::io::Result<usize> {
        if !self.writable {
            return Err(rustix::io::Errno::ACCESS);
        }
        let (offset, len) = self.within(offset, bytes.len())?;
        if len > 0 {
            // SAFETY: as in `read`, and the pages may be written.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(offset), len) };
        }
        Ok(len)
    }

    /// Writes what was changed to the file.
    pub fn sync(&self) -> rustix::io::Result<()> {
        // SAFETY: the whole mapping, which lives as long as `self`.
        unsafe { msync(self.start.cast(), LEN, MsyncFlags::SYNC) }
    }

    /// Makes the times of the file those of the present, after what was written has arrived.
    ///
    /// When a write to a mapping shows in mtime and ctime is not the same everywhere: locally at the
    /// first touch of a page, through the daemon when the page is written back, by passthrough when
    /// the kernel asks for the attributes again (README, "mtime of a write to a mapping").
    pub fn settle_times(&self) -> rustix::io::Result<()> {
        self.sync()?;
        let now = rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: nix::libc::UTIME_NOW,
        };
        fs::futimens(
            &self.file,
            &fs::Timestamps {
                last_access: now,
                last_modification: now,
            },
        )
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, of which no reference exists outside `read` and `write`.
        let _ = unsafe { munmap(self.start.cast(), LEN) };
    }
}
