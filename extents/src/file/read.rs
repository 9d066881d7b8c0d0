//! Reading.
//!
//! Cold data is read past the page cache (direct I/O): a cache of ours on NVMe doesn't need to push the
//! programs' own pages out of memory. A read is widened to
//! aligned offsets, cut into requests of 1 MiB that run side by side into one buffer, and narrowed to
//! what was asked. Whatever direct I/O doesn't deliver (an end of file off the grid, a file that grows
//! meanwhile, a refusal) is read through the page cache after it, which knows no alignment. The kernel
//! writes dirty pages of the range back before a direct read, so a read sees every write that ended
//! before it began.
//!
//! Small and hot reads go through the page cache: first without waiting, on the caller's thread, which
//! is all it takes for cached pages; the rest by the engine.
//!
//! Holes read as zeros: callers fill before they read. Reads end at the end of the file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::Bytes;

use super::{CHUNK_BYTES, ExtentFile, chunks};
use crate::Result;
use crate::io::buffer::{ALIGN, Buffer, POOL_BYTES_MAX};
use crate::io::{Op, sys};

/// The longest read that takes its memory from the pool.
pub const READ_POOLED_MAX: usize = 16 << 20;

// A read takes a little more for alignment, and must fit several times.
const _: () = assert!(READ_POOLED_MAX * 4 <= POOL_BYTES_MAX);

impl ExtentFile {
    /// Reads past the page cache where that is possible; short only at the end of the file.
    ///
    /// The memory comes from the store's pool up to [`READ_POOLED_MAX`] and returns to it with the last
    /// clone: don't keep it for long, and don't wait for a second read while holding a first. Longer
    /// reads are [`ExtentFile::read_large`].
    pub async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.read(offset, len, len <= READ_POOLED_MAX).await
    }

    /// As `read_at`, with memory of its own, which the caller accounts for: for parts that are kept
    /// during an upload.
    pub async fn read_large(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.read(offset, len, false).await
    }

    /// What the page cache has whole is answered from it, at once; anything else is read as by
    /// [`ExtentFile::read_at`]: programs' own pages stay hot, and cold data doesn't push them out.
    pub async fn read_hot(&self, offset: u64, len: usize) -> Result<Bytes> {
        let Some(range) = self.clip(offset, len)? else {
            return Ok(Bytes::new());
        };
        let want = (range.end - range.start) as usize;
        let mut buffer = self.memory(want, want <= READ_POOLED_MAX).await?;
        let got = sys::read_cached(self.file.as_fd(), &mut buffer[..want], offset).unwrap_or(0);
        if got == want {
            return Ok(buffer.freeze(0..got));
        }
        drop(buffer);
        self.read_at(offset, len).await
    }

    /// Reads through the page cache; short only at the end of the file. Memory as for `read_at`.
    pub async fn read_buffered(&self, offset: u64, len: usize) -> Result<Bytes> {
        let Some(range) = self.clip(offset, len)? else {
            return Ok(Bytes::new());
        };
        let want = (range.end - range.start) as usize;
        let mut buffer = self.memory(want, want <= READ_POOLED_MAX).await?;
        let got = sys::read_cached(self.file.as_fd(), &mut buffer[..want], offset).unwrap_or(0);
        let (buffer, got) = self.read_rest(buffer, offset, got, want).await?;
        Ok(buffer.freeze(0..got))
    }

    async fn read(&self, offset: u64, len: usize, pooled: bool) -> Result<Bytes> {
        let Some(range) = self.clip(offset, len)? else {
            return Ok(Bytes::new());
        };
        let align = ALIGN as u64;
        let start = range.start / align * align;
        let skip = (range.start - start) as usize;
        let want = (range.end - start) as usize;
        let mut buffer = self.memory(want.next_multiple_of(ALIGN), pooled).await?;
        let mut got = 0;
        if let Some(direct) = self.direct_file() {
            let wide = 0..want.next_multiple_of(ALIGN);
            match self.read_parts(direct, true, buffer, start, wide).await? {
                (back, Ok(count)) => (buffer, got) = (back, count.min(want)),
                (back, Err(error)) if error.raw_os_error() == Some(libc::EINVAL) => {
                    self.store.direct_failed(self.id, &error);
                    buffer = back;
                }
                (_, Err(error)) => return Err(self.error("reading", error)),
            }
        }
        let (buffer, got) = self.read_rest(buffer, start, got, want).await?;
        Ok(buffer.freeze(skip.min(got)..got))
    }

    /// The range, cut off at the end of the file; `None` if nothing is left.
    fn clip(&self, offset: u64, len: usize) -> Result<Option<Range<u64>>> {
        let end = self.size()?.min(offset.saturating_add(len as u64));
        Ok((offset < end).then_some(offset..end))
    }

    async fn memory(&self, len: usize, pooled: bool) -> Result<Buffer> {
        let buffer = if pooled {
            self.store.pool.take(len).await
        } else {
            Buffer::unpooled(len)
        };
        buffer.map_err(|error| self.error("allocating memory for a read", error))
    }

    /// Reads `[got, want)` of a buffer that stands for the file from `start` on through the page cache.
    async fn read_rest(
        &self,
        buffer: Buffer,
        start: u64,
        got: usize,
        want: usize,
    ) -> Result<(Buffer, usize)> {
        if got >= want {
            return Ok((buffer, got));
        }
        let (buffer, count) = self
            .read_parts(&self.file, false, buffer, start, got..want)
            .await?;
        let count = count.map_err(|error| self.error("reading", error))?;
        Ok((buffer, got + count))
    }

    /// Reads a span of the buffer from the file by requests side by side; answers how many bytes from
    /// the span's start on are there. Waits for all requests, whatever the first says.
    async fn read_parts(
        &self,
        file: &Arc<File>,
        direct: bool,
        buffer: Buffer,
        start: u64,
        span: Range<usize>,
    ) -> Result<(Buffer, io::Result<usize>)> {
        let wanted = start + span.start as u64..start + span.end as u64;
        let pieces: Vec<Range<u64>> = chunks(wanted).collect();
        debug_assert!(
            pieces
                .iter()
                .all(|piece| piece.end - piece.start <= CHUNK_BYTES)
        );
        let spans = pieces
            .iter()
            .map(|piece| (piece.start - start) as usize..(piece.end - start) as usize);
        let (split, parts) = buffer.split(spans);
        let started: Vec<_> = pieces
            .iter()
            .zip(parts)
            .map(|(piece, part)| {
                self.store
                    .engine
                    .start_op(file, direct, piece.start, Op::Read(part))
            })
            .collect();
        let mut total = Ok(0);
        let mut whole = true;
        for (piece, told) in pieces.iter().zip(started) {
            match (self.told("reading", told).await?, &mut total) {
                (Ok(count), Ok(total)) if whole => {
                    *total += count;
                    whole = count as u64 == piece.end - piece.start;
                }
                (Err(error), Ok(_)) if whole => total = Err(error),
                _ => {}
            }
        }
        let stuck = || self.error("reading", io::Error::from_raw_os_error(libc::EIO));
        Ok((split.join().ok_or_else(stuck)?, total))
    }
}
