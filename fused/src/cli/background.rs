//! `fused mount` without `-f`: starts the daemon as a process of its own and returns when the mount can be
//! used, or tells why not.
//!
//! The daemon is this program again with `--ready-on-stdout` (no fork without exec: a forked half of a program
//! with threads is not a safe place). What it says before `ready` is passed on, and its exit code becomes
//! ours.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use super::args::Mount;
use super::{Error, foreground, logging};
use crate::options::MountOptions;

/// Lines of the log shown for a daemon that died without a word.
const LOG_LINES_SHOWN: usize = 10;

/// Starts the daemon and waits until it is ready.
pub(super) fn start(options: &MountOptions, mount: &Mount) -> Result<(), Error> {
    let failed = |what: &str, error: std::io::Error| {
        Error::Failed(format!("the daemon can't be started: {what}: {error}"))
    };
    let program =
        std::env::current_exe().map_err(|error| failed("the program's own path", error))?;
    let (words, pipe) = std::io::pipe().map_err(|error| failed("pipe", error))?;
    let pipe_again = pipe.try_clone().map_err(|error| failed("pipe", error))?;

    let mut command = Command::new(&program);
    command.arg("mount").arg("--ready-on-stdout");
    for list in &mount.options {
        command.arg("-o").arg(list);
    }
    command.arg("--").arg(&mount.url).arg(&options.mountpoint);
    command.stdin(Stdio::null()).stdout(pipe).stderr(pipe_again);
    let log_length = logging::length(&options.log_path());
    let mut daemon = command
        .spawn()
        .map_err(|error| failed(&program.display().to_string(), error))?;
    // It holds our copies of the pipe's writing end, without which the daemon's death can't be seen.
    drop(command);

    let mut said = String::new();
    for line in BufReader::new(words).lines() {
        let Ok(line) = line else { break };
        if line == foreground::READY {
            return Ok(());
        }
        said.push_str(&line);
        said.push('\n');
    }
    let status = daemon.wait().map_err(|error| failed("wait", error))?;
    Err(explain(options, log_length, &said, status))
}

fn explain(options: &MountOptions, log_length: u64, said: &str, status: ExitStatus) -> Error {
    if said.is_empty() {
        return Error::Failed(died_silently(options, log_length, status));
    }
    // It is the same program: what it says is already in the form of our own errors.
    let _ = std::io::stderr().lock().write_all(said.as_bytes());
    let code = status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .filter(|code| *code != 0);
    Error::Told {
        exit_code: code.unwrap_or(1),
    }
}

fn died_silently(options: &MountOptions, log_length: u64, status: ExitStatus) -> String {
    let how = match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, code) => format!("ended with code {}", code.unwrap_or_default()),
    };
    let log = options.log_path();
    let lines = logging::last_lines(&log, log_length, LOG_LINES_SHOWN);
    if lines.is_empty() {
        format!(
            "the daemon {how} before the mount was ready, and logged nothing in {}",
            log.display()
        )
    } else {
        format!(
            "the daemon {how} before the mount was ready; the end of {}:\n{lines}",
            log.display()
        )
    }
}
