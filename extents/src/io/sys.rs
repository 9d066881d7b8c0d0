//! The system calls that need a raw pointer or have no safe wrapper elsewhere, and nothing else.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `pread(2)` into memory that nobody else touches meanwhile.
///
/// # Safety
/// `ptr` must be valid for writes of `len` bytes, and no reference to that memory may be in use.
pub(crate) unsafe fn pread(
    fd: BorrowedFd<'_>,
    ptr: *mut u8,
    len: usize,
    offset: u64,
) -> io::Result<usize> {
    // SAFETY: the caller vouches for the memory; the descriptor is borrowed, hence open.
    count(unsafe { libc::pread64(fd.as_raw_fd(), ptr.cast(), len, offset as i64) })
}

/// `pwrite(2)` from memory that nobody changes meanwhile.
///
/// # Safety
/// `ptr` must be valid for reads of `len` bytes, and nobody may write to that memory.
pub(crate) unsafe fn pwrite(
    fd: BorrowedFd<'_>,
    ptr: *const u8,
    len: usize,
    offset: u64,
) -> io::Result<usize> {
    // SAFETY: the caller vouches for the memory; the descriptor is borrowed, hence open.
    count(unsafe { libc::pwrite64(fd.as_raw_fd(), ptr.cast(), len, offset as i64) })
}

/// Reads what the page cache has at hand and never waits for a disk: EAGAIN if that is nothing.
pub(crate) fn read_cached(fd: BorrowedFd<'_>, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let vector = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: one vector that describes a slice borrowed exclusively for the call.
    count(unsafe { libc::preadv2(fd.as_raw_fd(), &vector, 1, offset as i64, libc::RWF_NOWAIT) })
}

/// Starts to write dirty pages back; a length of 0 means to the end of the file.
pub(crate) fn start_writeback(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<usize> {
    // SAFETY: no memory is passed.
    let answer = unsafe {
        libc::sync_file_range(
            fd.as_raw_fd(),
            offset as i64,
            len as i64,
            libc::SYNC_FILE_RANGE_WRITE,
        )
    };
    count(answer as isize)
}

/// Makes `to` share the blocks of `from` (`FICLONE`).
pub(crate) fn reflink(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: FICLONE takes a descriptor by value; both are borrowed, hence open.
    count(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE as _, from.as_raw_fd()) } as isize)
        .map(|_| ())
}

fn count(answer: isize) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}
