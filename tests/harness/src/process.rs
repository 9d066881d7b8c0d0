//! Child processes that never outlive the test, and never hang it.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::PidfdFlags;

/// How a program ended, and all it said.
#[derive(Debug)]
pub struct Finished {
    /// None when it was killed at its time limit.
    pub status: Option<ExitStatus>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    command: String,
}

impl Finished {
    /// Panics with everything the program said unless it ended with 0; gives its standard output.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.status.is_some_and(|status| status.success()), "{self}");
        self.stdout
    }

    /// Panics unless the program ended by itself with this code; gives its standard error.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> String {
        assert_eq!(
            self.status.and_then(|status| status.code()),
            Some(code),
            "{self}"
        );
        self.stderr
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            Some(status) => write!(f, "{}: {status}", self.command)?,
            None => write!(f, "{}: killed at its time limit", self.command)?,
        }
        write!(
            f,
            "\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout, self.stderr
        )
    }
}

/// Runs a command to its end, at most for `limit`.
pub fn run(command: &mut Command, limit: Duration) -> Finished {
    Running::start(command).end_within(limit)
}

/// A program under way.
///
/// Output goes through files, not pipes: a command that leaves a daemon behind must not keep the
/// test waiting for the end of a pipe that the daemon holds.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: File,
    stderr: File,
    command: String,
}

impl Running {
    /// Starts the command.
    pub fn start(command: &mut Command) -> Self {
        let stdout = tempfile::tempfile().expect("a temporary file");
        let stderr = tempfile::tempfile().expect("a temporary file");
        let spawned = command
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().expect("a duplicate"))
            .stderr(stderr.try_clone().expect("a duplicate"))
            .spawn();
        let child = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            child,
            stdout,
            stderr,
            command: format!("{command:?}"),
        }
    }

    /// A handle that never means another process, also after this one has ended.
    pub fn handle(&self) -> OwnedFd {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("a handle to a child")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        // It may have ended.
        let _ = kill(pid, signal);
    }

    /// Waits for its end, at most for `limit`; then it is killed.
    pub fn end_within(self, limit: Duration) -> Finished {
        let Self {
            mut child,
            mut stdout,
            mut stderr,
            command,
        } = self;
        let pid = Pid::from_raw(child.id().cast_signed());
        let (ended, end) = mpsc::channel();
        thread::spawn(move || ended.send(child.wait()));
        let status = end
            .recv_timeout(limit)
            .ok()
            .map(|status| status.expect("a child's status"));
        if status.is_none() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        Finished {
            status,
            stdout: text_of(&mut stdout),
            stderr: text_of(&mut stderr),
            command,
        }
    }
}

fn text_of(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .expect("the output of a command");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A process in the background, killed when the guard goes or the test's own thread ends.
#[derive(Debug)]
pub struct Guarded(Child);

impl Guarded {
    /// Starts the command; both outputs are appended to `log`.
    pub fn spawn(command: &mut Command, log: &Path) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdout(log.try_clone()?).stderr(log);
        // Not by force: a daemon that is told to end takes its mount away.
        Self::spawn_dying_by(command, Signal::SIGTERM)
    }

    /// Starts the command with the standard streams it was given.
    pub fn spawn_as_is(command: &mut Command) -> io::Result<Self> {
        Self::spawn_dying_by(command, Signal::SIGKILL)
    }

    /// `signal` is what the process gets when this one dies without having ended it.
    fn spawn_dying_by(command: &mut Command, signal: Signal) -> io::Result<Self> {
        let die_with_parent = move || prctl::set_pdeathsig(signal).map_err(io::Error::from);
        // SAFETY: prctl(2) is async-signal-safe, and the closure allocates nothing.
        let command = unsafe { command.pre_exec(die_with_parent) };
        command.spawn().map(Self)
    }

    /// The process, to take its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a signal to a process of the test's own");
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child's status")
    }

    /// Kills it as a crash would, and waits for it to be gone.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}
