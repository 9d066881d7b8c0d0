//! The io_uring engine: one thread that owns the ring.
//!
//! The thread sleeps in `io_uring_enter` until a request completes or the eventfd that submitters ring
//! becomes readable, which is itself a request on the ring (a poll, so no memory of ours is at stake
//! when the ring is closed). It takes jobs from the channel while fewer than 64 are in flight and leaves
//! the rest there.
//!
//! No wake-up is lost: a submitter sends, then swaps `rung` to true and rings if it was false; the
//! thread sets `rung` to false and then drains. If the swap comes before, the drain sees the job; if
//! after, the submitter rings.
//!
//! Memory of requests in flight lives in `slots` until their completion is seen. If the ring itself
//! fails, which no kernel is known to do, those jobs are leaked rather than freed under the kernel's
//! hands, and the thread goes on with plain system calls.
//!
//! Numbers: 64 in flight of up to 1 MiB are chosen, not tuned; the submission queue has twice that, so
//! that pushing never fails.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::Builder;

use crossbeam::channel::{Receiver, TryRecvError};
use io_uring::{IoUring, Probe, opcode, squeue, types};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Job, Next, Op, plain};

const DEPTH: usize = 64;
const ENTRIES: u32 = 128;
/// The user data of the poll; slots count from zero.
const POLL: u64 = u64::MAX;

/// Wakes the ring's thread.
pub(super) struct Waker {
    event: EventFd,
    rung: AtomicBool,
}

impl Waker {
    pub(super) fn wake(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            // Fails only when the counter is full, and then it is readable.
            let _ = self.event.write(1);
        }
    }
}

/// Starts the thread, or says why there can be no ring.
pub(super) fn start(queue: Receiver<Job>) -> io::Result<Arc<Waker>> {
    let ring = probe()?;
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let waker = Arc::new(Waker {
        event,
        rung: AtomicBool::new(false),
    });
    let (give, take) = sync_channel(1);
    Builder::new().name("extents-ring".to_owned()).spawn({
        let waker = Arc::clone(&waker);
        move || {
            if let Ok(ring) = take.recv() {
                Driver::new(ring, &waker).run(&queue);
            }
        }
    })?;
    let _ = give.send(ring);
    Ok(waker)
}

/// A ring that has been seen to work: set up, with the operations that we need, and one round trip.
fn probe() -> io::Result<IoUring> {
    let mut ring = IoUring::new(ENTRIES)?;
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known)?;
    let needed = [
        opcode::Read::CODE,
        opcode::Write::CODE,
        opcode::PollAdd::CODE,
        opcode::SyncFileRange::CODE,
    ];
    if !needed.into_iter().all(|code| known.is_supported(code)) {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    // SAFETY: a no-op refers to no memory.
    unsafe { ring.submission().push(&opcode::Nop::new().build()) }
        .map_err(|_| io::Error::from_raw_os_error(libc::EBUSY))?;
    ring.submit_and_wait(1)?;
    ring.completion()
        .next()
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EIO))?;
    Ok(ring)
}

struct Driver<'a> {
    ring: IoUring,
    waker: &'a Waker,
    /// Jobs in flight, by slot.
    slots: Vec<Option<Job>>,
    free: Vec<usize>,
    polling: bool,
}

impl<'a> Driver<'a> {
    fn new(ring: IoUring, waker: &'a Waker) -> Driver<'a> {
        let slots = (0..DEPTH).map(|_| None).collect();
        Driver {
            ring,
            waker,
            slots,
            free: (0..DEPTH).collect(),
            polling: false,
        }
    }

    fn run(mut self, queue: &Receiver<Job>) {
        loop {
            if !self.take_jobs(queue) && self.free.len() == DEPTH {
                return;
            }
            if let Err(error) = self.turn() {
                tracing::error!(%error, "io_uring failed; going on with plain system calls");
                return self.abandon(queue);
            }
        }
    }

    /// Starts jobs while there are slots; false once no more can come.
    fn take_jobs(&mut self, queue: &Receiver<Job>) -> bool {
        self.waker.rung.store(false, Ordering::SeqCst);
        while let Some(slot) = self.free.pop() {
            match queue.try_recv() {
                Ok(job) => self.place(slot, job),
                Err(gone) => {
                    self.free.push(slot);
                    return gone == TryRecvError::Empty;
                }
            }
        }
        true
    }

    /// Puts a job's next system call on the submission queue.
    fn place(&mut self, slot: usize, job: Job) {
        let entry = entry(&job).user_data(slot as u64);
        self.slots[slot] = Some(job);
        self.push(&entry);
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: what the entry points to is owned by the job in its slot until the completion is seen,
        // or leaked (`abandon`). The queue has room: at most DEPTH + 1 entries between two submissions.
        let pushed = unsafe { self.ring.submission().push(entry) };
        debug_assert!(pushed.is_ok());
    }

    /// Submits, waits for at least one completion, and handles all there are.
    fn turn(&mut self) -> io::Result<()> {
        if !self.polling {
            self.polling = true;
            let fd = types::Fd(self.waker.event.as_raw_fd());
            self.push(
                &opcode::PollAdd::new(fd, libc::POLLIN as u32)
                    .build()
                    .user_data(POLL),
            );
        }
        if let Err(error) = self.ring.submit_and_wait(1) {
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // Out of memory for requests for the moment: reap, and try again.
                Some(libc::EAGAIN | libc::EBUSY) => std::thread::yield_now(),
                _ => return Err(error),
            }
        }
        loop {
            let Some(completion) = self.ring.completion().next() else {
                return Ok(());
            };
            let result = completion.result();
            if completion.user_data() == POLL {
                let _ = self.waker.event.read();
                self.polling = false;
                continue;
            }
            let slot = completion.user_data() as usize;
            let Some(job) = self.slots.get_mut(slot).and_then(Option::take) else {
                continue;
            };
            let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
            match job.step(result) {
                Next::Again(job) => self.place(slot, job),
                Next::Ended => self.free.push(slot),
            }
        }
    }

    /// Gives up the ring, not the service.
    fn abandon(mut self, queue: &Receiver<Job>) {
        for job in self.slots.drain(..).flatten() {
            // The kernel may still write into the job's memory, and fills may still reach the file: its
            // claims stay taken and its memory stays allocated.
            let _ = ManuallyDrop::new(job);
        }
        plain::serve(queue);
    }
}

fn entry(job: &Job) -> squeue::Entry {
    let raw: RawFd = job.request.file.as_raw_fd();
    let fd = types::Fd(raw);
    let (address, len) = job.rest();
    // Parts are at most a few MiB: callers split at `file::CHUNK_BYTES`.
    let len = len.min(1 << 30) as u32;
    match &job.request.op {
        Op::Read(_) => opcode::Read::new(fd, address, len)
            .offset(job.offset())
            .build(),
        Op::WritePart(_) | Op::WriteBytes(_) => opcode::Write::new(fd, address, len)
            .offset(job.offset())
            .build(),
        Op::Writeback(bytes) => opcode::SyncFileRange::new(fd, *bytes)
            .offset(job.request.offset)
            .flags(libc::SYNC_FILE_RANGE_WRITE)
            .build(),
    }
}
