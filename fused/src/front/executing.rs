//! Files that run as programs, and why a program can't be truncated while it does.
//!
//! The kernel refuses to open a running program for writing (ETXTBSY) before it asks us. A truncation
//! through a read-only open (`O_RDONLY|O_TRUNC`) it checks too late: the open request already carries
//! O_TRUNC, and a program that lost its pages dies of SIGBUS. So that one case is refused here. The kernel
//! marks the opens of execve(2) with `__FMODE_EXEC`, and closes them when the program has ended.

use std::collections::HashMap;

use journal::Ino;
use parking_lot::Mutex;

/// `__FMODE_EXEC` of the kernel's `fs.h`, which no C header shows to programs.
pub const FMODE_EXEC: i32 = 0x20;

/// The opens of execve that are not closed yet.
#[derive(Default)]
pub struct Executing {
    by_handle: Mutex<HashMap<u64, Ino>>,
}

impl Executing {
    /// This open is for running the file.
    pub fn note(&self, handle: u64, ino: Ino) {
        self.by_handle.lock().insert(handle, ino);
    }

    /// An open is over. Nothing happens for one that was not to run a file.
    pub fn forget(&self, handle: u64) {
        self.by_handle.lock().remove(&handle);
    }

    /// Whether the file runs. It looks at every running program of the mount, which are few, and only
    /// when somebody truncates without writing, which is rare.
    pub fn runs(&self, ino: Ino) -> bool {
        self.by_handle
            .lock()
            .values()
            .any(|running| *running == ino)
    }
}
