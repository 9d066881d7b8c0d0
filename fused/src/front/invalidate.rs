//! Telling the kernel to forget: from a thread of its own.
//!
//! A notification waits for locks that a request on the same inode may hold, so a handler that
//! sent one itself could wait for itself. The queue is bounded; should it ever be full, the kernel
//! believes the old state until its time to live is over.

use crossbeam::channel::{Receiver, Sender, bounded};
use fuser::{INodeNo, Notifier};
use journal::Ino;

use crate::vfs::Invalidate;

/// Notifications that may wait.
const QUEUE_MAX: usize = 1 << 14;

/// What the kernel is to forget.
enum Invalidation {
    Inode(Ino),
    Entry(Ino, Vec<u8>),
}

/// The sending end, for the file system.
pub struct InvalidateQueue {
    sender: Sender<Invalidation>,
}

/// The receiving end, to be run once there is a session.
pub struct Invalidations {
    receiver: Receiver<Invalidation>,
}

impl InvalidateQueue {
    /// Both ends.
    pub fn new() -> (Self, Invalidations) {
        let (sender, receiver) = bounded(QUEUE_MAX);
        (Self { sender }, Invalidations { receiver })
    }

    fn send(&self, invalidation: Invalidation) {
        if self.sender.try_send(invalidation).is_err() {
            tracing::debug!("too many kernel invalidations at once; the time to live will do");
        }
    }
}

impl Invalidate for InvalidateQueue {
    fn inode(&self, ino: Ino) {
        self.send(Invalidation::Inode(ino));
    }

    fn entry(&self, parent: Ino, name: &[u8]) {
        self.send(Invalidation::Entry(parent, name.to_vec()));
    }

    fn is_answered(&self) -> bool {
        true
    }
}

impl Invalidations {
    /// Sends what comes to the kernel, from a thread of its own that ends with the queue.
    pub fn run(self, notifier: Notifier) -> std::io::Result<()> {
        std::thread::Builder::new()
            .name("fused-inval".into())
            .spawn(move || {
                for invalidation in self.receiver {
                    send(&notifier, invalidation);
                }
            })?;
        Ok(())
    }
}

fn send(notifier: &Notifier, invalidation: Invalidation) {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let sent = match invalidation {
        Invalidation::Inode(ino) => notifier.inval_inode(INodeNo(ino.0), 0, 0),
        Invalidation::Entry(parent, name) => {
            notifier.inval_entry(INodeNo(parent.0), OsStr::from_bytes(&name))
        }
    };
    if let Err(error) = sent {
        // Gone from the kernel's cache already, or the session is over.
        tracing::debug!(%error, "a kernel invalidation was not taken");
    }
}
