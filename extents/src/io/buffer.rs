//! Page-aligned memory for direct I/O, bounded and reused.
//!
//! A [`Pool`] hands out [`Buffer`]s up to a fixed sum of bytes and makes the next asker wait, in order,
//! until something comes back. A buffer that becomes [`Bytes`] comes back when the last clone is
//! dropped. Small and medium buffers are kept for reuse, because fresh memory costs a page fault for
//! every 4 KiB.
//!
//! Two rules for callers: don't hold one pooled buffer while waiting for another, or everybody may
//! wait for everybody; and take what will be held for long (a part during its upload) outside the pool
//! with [`Buffer::unpooled`] and account for it yourself.
//!
//! For several requests into one buffer, [`Buffer::split`] gives out [`Part`]s, disjoint pieces each
//! owned by its request. The buffer comes back when the last part is gone.
//!
//! Numbers: 64 MiB is 64 requests of 1 MiB, as many as the ring keeps in flight. The pages are
//! not registered with io_uring and not locked, so RLIMIT_MEMLOCK doesn't matter.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::HashMap;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Alignment of direct I/O in memory, offset and length: no disk in use has larger logical blocks.
pub(crate) const ALIGN: usize = 4096;
/// All pooled memory in use at one time.
pub(crate) const POOL_BYTES_MAX: usize = 64 << 20;
/// Idle memory kept for reuse.
const IDLE_BYTES_MAX: usize = 16 << 20;
/// The unit in which the semaphore counts.
const PERMIT_BYTES: usize = 4096;

/// Aligned memory, always initialised.
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is plain bytes owned by this value; there is no thread affinity.
unsafe impl Send for Memory {}
// SAFETY: `&Memory` gives out nothing but the address and the length.
unsafe impl Sync for Memory {}

impl Memory {
    fn zeroed(len: usize) -> io::Result<Memory> {
        let layout = Layout::from_size_align(len.max(ALIGN), ALIGN)
            .map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) });
        let start = start.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Memory { start, layout })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout, freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Idle memory by size. Lock order: innermost, nothing is called while it is held.
#[derive(Default)]
struct Shelf {
    idle: Mutex<(usize, HashMap<usize, Vec<Memory>>)>,
}

impl Shelf {
    fn take(&self, len: usize) -> Option<Memory> {
        let mut idle = self.idle.lock();
        let memory = idle.1.get_mut(&len)?.pop()?;
        idle.0 -= len;
        Some(memory)
    }

    fn put(&self, memory: Memory) {
        let len = memory.layout.size();
        let mut idle = self.idle.lock();
        if idle.0 + len <= IDLE_BYTES_MAX {
            idle.0 += len;
            idle.1.entry(len).or_default().push(memory);
        }
    }
}

/// The bounded source of buffers.
pub(crate) struct Pool {
    permits: Arc<Semaphore>,
    shelf: Arc<Shelf>,
}

impl Pool {
    pub(crate) fn new(bytes_max: usize) -> Pool {
        Pool {
            permits: Arc::new(Semaphore::new(bytes_max / PERMIT_BYTES)),
            shelf: Arc::default(),
        }
    }

    /// A buffer of at least `len` bytes; waits for its turn. A `len` above the pool's whole size would
    /// wait for ever: callers keep to a quarter of it.
    pub(crate) async fn take(&self, len: usize) -> io::Result<Buffer> {
        let len = size_class(len);
        let permits = (len / PERMIT_BYTES) as u32;
        let permit = Arc::clone(&self.permits).acquire_many_owned(permits).await;
        let permit = permit.map_err(|_| io::Error::from_raw_os_error(libc::ESHUTDOWN))?;
        let memory = match self.shelf.take(len) {
            Some(memory) => memory,
            None => Memory::zeroed(len)?,
        };
        Ok(Buffer {
            memory: Some(memory),
            home: Some((Arc::clone(&self.shelf), permit)),
        })
    }

    #[cfg(test)]
    fn bytes_free(&self) -> usize {
        self.permits.available_permits() * PERMIT_BYTES
    }
}

/// Few sizes, so that what comes back fits the next asker.
fn size_class(len: usize) -> usize {
    match len {
        0..=0x4000 => 0x4000,
        0x4001..=0x1_0000 => 0x1_0000,
        _ => len.next_multiple_of(0x4_0000),
    }
}

/// Aligned memory with one owner.
pub(crate) struct Buffer {
    /// `None` only inside `drop`.
    memory: Option<Memory>,
    home: Option<(Arc<Shelf>, OwnedSemaphorePermit)>,
}

impl Buffer {
    /// A buffer that counts towards nobody's limit but its owner's.
    pub(crate) fn unpooled(len: usize) -> io::Result<Buffer> {
        Ok(Buffer {
            memory: Some(Memory::zeroed(len.next_multiple_of(ALIGN))?),
            home: None,
        })
    }

    /// The bytes of `range`, shared; the buffer goes home with the last clone.
    pub(crate) fn freeze(self, range: Range<usize>) -> Bytes {
        Bytes::from_owner(self).slice(range)
    }

    /// Gives out disjoint parts. Ranges must ascend and lie inside; what doesn't is cut off.
    pub(crate) fn split(
        self,
        ranges: impl IntoIterator<Item = Range<usize>>,
    ) -> (Split, Vec<Part>) {
        let (start, len) = self.span();
        let owner = Arc::new(self);
        let mut parts = Vec::new();
        let mut free_from = 0;
        for range in ranges {
            let from = range.start.max(free_from).min(len);
            let to = range.end.clamp(from, len);
            free_from = to;
            // SAFETY: `from` is within the allocation.
            let start = unsafe { start.add(from) };
            parts.push(Part {
                start,
                len: to - from,
                _owner: Arc::clone(&owner),
            });
        }
        (Split { owner }, parts)
    }

    fn span(&self) -> (NonNull<u8>, usize) {
        match &self.memory {
            Some(memory) => (memory.start, memory.layout.size()),
            None => (NonNull::dangling(), 0),
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let (start, len) = self.span();
        // SAFETY: initialised memory of that length; parts exist only while a `Split` holds the buffer.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let (start, len) = self.span();
        // SAFETY: as in `deref`, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Memory before permit: whoever the permit wakes finds it on the shelf.
        if let (Some(memory), Some((shelf, permit))) = (self.memory.take(), self.home.take()) {
            shelf.put(memory);
            drop(permit);
        }
    }
}

/// A buffer whose parts are out.
pub(crate) struct Split {
    owner: Arc<Buffer>,
}

impl Split {
    /// The buffer again; `None` while a part is out.
    pub(crate) fn join(self) -> Option<Buffer> {
        Arc::into_inner(self.owner)
    }
}

/// A piece of a buffer, exclusively owned by one request.
pub(crate) struct Part {
    start: NonNull<u8>,
    len: usize,
    _owner: Arc<Buffer>,
}

// SAFETY: a part is the only one to touch its bytes, and keeps them alive.
unsafe impl Send for Part {}

impl Part {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The address of byte `at`, for a request that reads into or writes from the part.
    pub(crate) fn address(&self, at: usize) -> *mut u8 {
        // SAFETY: clamped to the part.
        unsafe { self.start.as_ptr().add(at.min(self.len)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_buffer_is_aligned_and_returns_its_bytes_to_the_pool_when_the_last_clone_goes() {
        let pool = Pool::new(1 << 20);
        let mut buffer = pool.take(100_000).await.unwrap();
        assert_eq!(buffer.as_ptr() as usize % ALIGN, 0);
        buffer[5..8].copy_from_slice(b"abc");
        let bytes = buffer.freeze(5..8);
        let clone = bytes.clone();
        drop(bytes);
        assert_eq!(&clone[..], b"abc");
        assert!(pool.bytes_free() < 1 << 20);
        drop(clone);
        assert_eq!(pool.bytes_free(), 1 << 20);
    }

    #[tokio::test]
    async fn an_empty_pool_makes_the_next_asker_wait_until_a_buffer_comes_back() {
        let pool = Arc::new(Pool::new(1 << 20));
        let first = pool.take(1 << 20).await.unwrap();
        let waiting = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.take(4096).await.map(|buffer| buffer.len()) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        assert_eq!(waiting.await.unwrap().unwrap(), 0x4000);
    }

    #[test]
    fn parts_are_disjoint_and_the_buffer_comes_back_after_the_last() {
        let buffer = Buffer::unpooled(3 * ALIGN).unwrap();
        let (split, parts) = buffer.split([0..5000, 4096..8192, 8192..1 << 30]);
        let spans: Vec<usize> = parts.iter().map(Part::len).collect();
        assert_eq!(spans, [5000, 3192, 4096]);
        drop(parts);
        assert_eq!(split.join().unwrap().len(), 3 * ALIGN);
    }

    #[test]
    fn a_buffer_does_not_come_back_while_a_part_is_out() {
        let (split, parts) = Buffer::unpooled(ALIGN)
            .unwrap()
            .split(std::iter::once(0..10));
        assert!(split.join().is_none());
        assert_eq!(parts[0].len(), 10);
    }
}
