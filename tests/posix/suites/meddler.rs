//! Somebody who flushes and evicts what a suite works on, at random moments, until told to stop.
//!
//! A file that a suite writes and reads must look the same whether its bytes are in the cache, in the
//! store, or on their way.
//!
//! A file that is written all the while is hardly ever all in the store. So every second time the program
//! is made to stand still meanwhile; the other times it goes on, and the upload must cope.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use harness::fused;
use rustix::process::{Signal, pidfd_send_signal};

const PAUSE_MS_MAX: u64 = 250;

/// At work until it is stopped.
pub struct Meddler {
    stop: Sender<()>,
    thread: JoinHandle<Meddled>,
}

/// How often it came to something.
#[derive(Debug, Default)]
pub struct Meddled {
    /// Times that everything was in the store.
    pub synced: u32,
    /// Times that clean bytes were given up.
    pub freed: u32,
}

impl Meddler {
    /// Starts on what is at and below the path, and on the program that works there.
    pub fn start(path: &Path, program: OwnedFd) -> Self {
        let (stop, stopped) = mpsc::channel();
        let path = path.to_owned();
        let thread = thread::spawn(move || {
            let mut meddled = Meddled::default();
            for turn in rand::random_range(0_u32..4).. {
                let pause = Duration::from_millis(rand::random_range(0..PAUSE_MS_MAX));
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return meddled;
                }
                let _still = (turn & 2 == 0).then(|| Still::hold(program.as_fd()));
                if turn & 1 == 0 {
                    free(&path);
                    meddled.freed += 1;
                } else if sync(&path) {
                    meddled.synced += 1;
                }
            }
            meddled
        });
        Self { stop, thread }
    }

    /// Stops it; panics if a command of its ended as none should.
    pub fn stop(self) -> Meddled {
        drop(self.stop);
        match self.thread.join() {
            Ok(meddled) => meddled,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// The program stands still until this is dropped.
struct Still<'program>(BorrowedFd<'program>);

impl<'program> Still<'program> {
    fn hold(program: BorrowedFd<'program>) -> Self {
        // It may have ended.
        let _ = pidfd_send_signal(program, Signal::STOP);
        Self(program)
    }
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(self.0, Signal::CONT);
    }
}

/// Gives up what is clean at and below the path.
pub fn free(path: &Path) {
    fused([OsStr::new("free"), path.as_os_str()]).success();
}

/// Whether everything got into the store in time; a file that is written all the while may not.
fn sync(path: &Path) -> bool {
    let words = ["sync", "--timeout", "3"].map(OsStr::new);
    let finished = fused(words.into_iter().chain([path.as_os_str()]));
    if finished.status.is_some_and(|status| status.success()) {
        return true;
    }
    let said = finished.fails_with(1);
    assert!(said.contains("not in the store"), "{said}");
    false
}
