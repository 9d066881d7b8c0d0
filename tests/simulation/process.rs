//! A process for each world.
//!
//! What is global in the libraries below (tokio counts the runtimes that it made, and seeds their dice by it)
//! is then the same for each seed, whichever came before. A panic in any task ends the world, and one that
//! does not end is ended.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

/// A world that takes longer hangs. The slowest take half a second of a machine's time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `work` in a process and on a thread of its own. What it says, or how it failed.
pub fn apart(
    work: impl FnOnce() -> String + Send + 'static,
    on_failure: impl Fn() -> String + Send + Sync + 'static,
) -> Result<String, String> {
    let (mut read, mut write) = std::io::pipe().map_err(|error| error.to_string())?;
    // SAFETY: the child uses nothing that another thread of this process may hold but the allocator,
    // which glibc makes usable again, and ends without returning from here.
    match unsafe { fork() }.map_err(|error| error.to_string())? {
        ForkResult::Parent { child } => {
            drop(write);
            let mut said = Vec::new();
            let deadline = Instant::now() + PATIENCE;
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
                let mut wait = [PollFd::new(read.as_fd(), PollFlags::POLLIN)];
                let mut some = [0; 65536];
                let ready = poll(&mut wait, timeout).unwrap_or(0);
                match (ready, left.is_zero()) {
                    (0, true) => {
                        // It may have ended just now.
                        let _ = kill(child, Signal::SIGKILL);
                        let _ = waitpid(child, None);
                        return Err(format!("it did not end within {PATIENCE:?}"));
                    }
                    (0, false) => continue,
                    _ => {}
                }
                match read.read(&mut some) {
                    Ok(0) => break,
                    Ok(count) => said.extend_from_slice(&some[..count]),
                    Err(error) => return Err(error.to_string()),
                }
            }
            let _ = waitpid(child, None);
            let said = String::from_utf8_lossy(&said).into_owned();
            match said.strip_prefix("passed\n") {
                Some(said) => Ok(said.to_owned()),
                None => Err(match said.is_empty() {
                    true => "it died without a word".to_owned(),
                    false => said,
                }),
            }
        }
        ForkResult::Child => {
            drop(read);
            let tell = write.try_clone();
            std::panic::set_hook(Box::new(move |panic| {
                let said = format!("{}\n\n{panic}", on_failure());
                if let Ok(tell) = &tell {
                    // The parent has gone, or hears it.
                    let _ = (&mut &*tell).write_all(said.as_bytes());
                }
                // SAFETY: ends this process, at once.
                unsafe { libc::_exit(1) }
            }));
            let worked = std::thread::spawn(work).join().unwrap_or_default();
            let _ = write.write_all(format!("passed\n{worked}").as_bytes());
            // SAFETY: ends this process, at once.
            unsafe { libc::_exit(0) }
        }
    }
}
