//! The I/O engine: requests in by a channel, completions out by a callback.
//!
//! Two engines take the same requests from the same kind of channel and give the same answers:
//!
//! - [`ring`]: one thread that owns an io_uring and keeps up to 64 requests in flight;
//! - [`plain`]: eight threads of pread and pwrite, for kernels and containers that refuse io_uring
//!   (seccomp profiles of container runtimes do) or for `IoMode::Plain`.
//!
//! With `IoMode::Tasks` there is none: each request is a task of its own on the runtime that it comes from.
//!
//! A request owns everything that it needs: the descriptor, the memory, and a `done` that is called
//! exactly once on an engine thread after the memory has been released. So a caller may be dropped at
//! any moment without the kernel writing into freed memory, and what must happen at completion (a range
//! becoming resident) happens without anybody polling. `done` must not block. If an engine stops, `done`
//! is dropped instead of called.
//!
//! Short transfers are continued here (see [`Job::step`]), so that a result is the whole length, less
//! at the end of the file, less where direct I/O ended off an aligned offset, or an error.
//!
//! The channel has no bound of its own: whoever submits holds a buffer of the bounded pool, or memory
//! bounded by its own caller.

pub(crate) mod buffer;
mod plain;
mod ring;
pub(crate) mod sys;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam::channel::{Sender, unbounded};
use tokio::sync::oneshot;

use crate::IoMode;
use buffer::{ALIGN, Part};

/// Called with the transferred bytes.
pub(crate) type Done = Box<dyn FnOnce(io::Result<usize>) + Send>;

/// What to do at an offset of a file.
pub(crate) enum Op {
    /// Read into a part of a buffer.
    Read(Part),
    /// Write a part of a buffer.
    WritePart(Part),
    /// Write shared bytes.
    WriteBytes(Bytes),
    /// Start writing dirty pages back; that many bytes, 0 = to the end of the file.
    Writeback(u32),
}

/// One piece of work.
pub(crate) struct Request {
    /// The descriptor, opened with O_DIRECT if `direct`.
    pub file: Arc<File>,
    /// Where in the file.
    pub offset: u64,
    /// What to do.
    pub op: Op,
    /// Whether alignment rules apply.
    pub direct: bool,
    /// Called once at the end.
    pub done: Done,
}

/// A request on its way through an engine.
struct Job {
    request: Request,
    moved: usize,
}

/// What follows after a system call for a job.
enum Next {
    /// The same job again from where it is.
    Again(Job),
    /// It has ended, and its `done` has been called.
    Ended,
}

impl Job {
    fn len(&self) -> usize {
        match &self.request.op {
            Op::Read(part) | Op::WritePart(part) => part.len(),
            Op::WriteBytes(bytes) => bytes.len(),
            Op::Writeback(_) => 0,
        }
    }

    /// Where the memory that has not been transferred starts, and how much it is.
    fn rest(&self) -> (*mut u8, usize) {
        let address = match &self.request.op {
            Op::Read(part) | Op::WritePart(part) => part.address(self.moved),
            // Only ever read from: `Op::WriteBytes` is given to writes alone.
            Op::WriteBytes(bytes) => bytes[self.moved.min(bytes.len())..].as_ptr().cast_mut(),
            Op::Writeback(_) => std::ptr::null_mut(),
        };
        (address, self.len().saturating_sub(self.moved))
    }

    fn offset(&self) -> u64 {
        self.request.offset + self.moved as u64
    }

    /// Takes the result of one system call and decides what is next.
    fn step(mut self, result: io::Result<usize>) -> Next {
        let writes = matches!(self.request.op, Op::WritePart(_) | Op::WriteBytes(_));
        match result {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {
                return Next::Again(self);
            }
            Err(error) => self.end(Err(error)),
            Ok(0) if writes && self.moved < self.len() => {
                self.end(Err(io::Error::from_raw_os_error(libc::ENOSPC)))
            }
            Ok(0) => {
                let moved = self.moved;
                self.end(Ok(moved));
            }
            Ok(count) => {
                self.moved += count;
                let off_grid = self.request.direct && !self.moved.is_multiple_of(ALIGN);
                if self.moved < self.len() && !off_grid {
                    return Next::Again(self);
                }
                let moved = self.moved;
                self.end(Ok(moved));
            }
        }
        Next::Ended
    }

    /// Releases the memory, then tells.
    fn end(self, result: io::Result<usize>) {
        let Request { op, file, done, .. } = self.request;
        drop(op);
        drop(file);
        done(result);
    }

    /// Does it here and now.
    fn execute(mut self) {
        loop {
            let file = self.request.file.as_fd();
            let (address, len) = self.rest();
            let result = match &self.request.op {
                // SAFETY: the part is this job's alone until it ends, after this call.
                Op::Read(_) => unsafe { sys::pread(file, address, len, self.offset()) },
                // SAFETY: the job owns the part or a clone of the bytes; nobody writes to either.
                Op::WritePart(_) | Op::WriteBytes(_) => unsafe {
                    sys::pwrite(file, address, len, self.offset())
                },
                Op::Writeback(bytes) => {
                    sys::start_writeback(file, self.request.offset, u64::from(*bytes))
                }
            };
            match self.step(result) {
                Next::Again(job) => self = job,
                Next::Ended => return,
            }
        }
    }
}

/// A running engine. Dropping it lets what was submitted finish and its threads end by themselves.
pub(crate) struct Engine {
    /// `None` inside `drop`, and where requests are tasks.
    jobs: Option<Sender<Job>>,
    waker: Option<Arc<ring::Waker>>,
}

impl Engine {
    /// Starts the ring if the mode and the kernel allow, else the threads. The second value tells why
    /// there is no ring.
    pub(crate) fn start(mode: IoMode) -> io::Result<(Engine, Option<String>)> {
        let (jobs, queue) = unbounded();
        let why = match mode {
            IoMode::Tasks => {
                let (jobs, waker) = (None, None);
                return Ok((Engine { jobs, waker }, Some("tasks".to_owned())));
            }
            IoMode::Plain => "switched off".to_owned(),
            IoMode::Auto => match ring::start(queue.clone()) {
                Ok(waker) => {
                    return Ok((
                        Engine {
                            jobs: Some(jobs),
                            waker: Some(waker),
                        },
                        None,
                    ));
                }
                Err(error) => error.to_string(),
            },
        };
        plain::start(queue)?;
        Ok((
            Engine {
                jobs: Some(jobs),
                waker: None,
            },
            Some(why),
        ))
    }

    /// Whether requests go through io_uring.
    pub(crate) fn is_ring(&self) -> bool {
        self.waker.is_some()
    }

    /// Whether requests are tasks.
    pub(crate) fn is_tasks(&self) -> bool {
        self.jobs.is_none()
    }

    /// Hands a request over; never waits.
    pub(crate) fn submit(&self, request: Request) {
        let job = Job { request, moved: 0 };
        match &self.jobs {
            // An engine that is gone drops the job, and with it `done`, which is the answer.
            Some(jobs) => drop(jobs.send(job)),
            None => drop(tokio::spawn(async { job.execute() })),
        }
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }

    /// Hands over a request whose result is awaited. A dropped sender means that the engine stopped.
    pub(crate) fn start_op(
        &self,
        file: &Arc<File>,
        direct: bool,
        offset: u64,
        op: Op,
    ) -> oneshot::Receiver<io::Result<usize>> {
        let (tell, told) = oneshot::channel();
        let done: Done = Box::new(move |result| {
            // The asker may have gone; the work is done all the same.
            let _ = tell.send(result);
        });
        self.submit(Request {
            file: Arc::clone(file),
            offset,
            op,
            direct,
            done,
        });
        told
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Disconnect first, so that the woken ring sees it. No join: the last owner of the store may be
        // a completion on the engine's own thread.
        self.jobs = None;
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }
}
