//! Somebody who flushes and evicts what a suite works on, at random moments, until told to stop.
//!
//! A file that a suite writes and reads must look the same whether its bytes are in the cache, in the
//! store, or on their way.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use harness::fused;

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
    /// Starts on what is at and below the path.
    pub fn start(path: &Path) -> Self {
        let (stop, stopped) = mpsc::channel();
        let path = path.to_owned();
        let thread = thread::spawn(move || {
            let mut meddled = Meddled::default();
            let mut frees: bool = rand::random();
            loop {
                let pause = Duration::from_millis(rand::random_range(0..PAUSE_MS_MAX));
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return meddled;
                }
                frees = !frees;
                if frees {
                    free(&path);
                    meddled.freed += 1;
                } else if sync(&path) {
                    meddled.synced += 1;
                }
            }
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
