//! The fallback engine: threads that do one request after the other with pread and pwrite.
//!
//! Eight threads are chosen, not tuned, and cost nothing while idle. They are our own
//! rather than tokio's blocking pool, so that a program's write that waits for a fill on a blocking
//! thread can never keep that very fill from running.

use std::io;
use std::thread::Builder;

use crossbeam::channel::Receiver;

use super::Job;

const THREADS: usize = 8;

/// Starts the threads; they end when the queue is disconnected and empty.
pub(super) fn start(queue: Receiver<Job>) -> io::Result<()> {
    for _ in 0..THREADS {
        let queue = queue.clone();
        Builder::new()
            .name("extents-io".to_owned())
            .spawn(move || serve(&queue))?;
    }
    Ok(())
}

/// Serves the queue on this thread until it is disconnected and empty.
pub(super) fn serve(queue: &Receiver<Job>) {
    for job in queue {
        job.execute();
    }
}
