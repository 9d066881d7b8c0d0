//! A process that does what it is told in both folders and reports what came of it.
//!
//! Real processes, because much depends on them: locks, mappings, users, descriptors. Each is this
//! test binary again, started for a test that serves requests on its standard input, a socket. One
//! JSON value a line. It dies with the test that started it.
//!
//! The mount is only ever touched from here: a request that hangs there hangs a worker, and the test
//! notices by [`ANSWER_LIMIT`].

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::Guarded;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};

use crate::gaps;
use crate::operation::{Identity, Operation};
use crate::outcome::{Entry, Outcome};
use crate::sabotage::Sabotage;
use crate::side::Side;
use crate::tree;

/// Tells a process that it is a worker.
const SERVE: &str = "FUSED_MODEL_WORKER";
/// The test that [`serve`] is called from.
const TEST: &str = "a_worker_does_what_it_is_told";
/// No operation takes as long, unless something hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What a worker is told.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// These are the folders from now on; nothing is open in them.
    Begin(PathBuf, PathBuf),
    /// In this user's name, in both folders; the left one may be sabotaged.
    Do(Identity, Operation, Option<Sabotage>),
    /// Everything that is in both folders.
    Tree,
    /// Closes everything and leaves the folders.
    Forget,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Done, with nothing to say.
    Ready,
    /// What came of an operation left and right, and where the bytes differ.
    Both(Outcome, Outcome, Option<String>),
    /// Both folders, and where the bytes of which file differ.
    Trees(Vec<Entry>, Vec<Entry>, Vec<String>),
    /// It could not even be tried.
    Unable(String),
}

/// A worker as the test sees it.
#[derive(Debug)]
pub struct Worker {
    pipe: BufReader<UnixStream>,
    process: Guarded,
}

impl Worker {
    /// Starts one.
    pub fn start() -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket");
        ours.set_read_timeout(Some(ANSWER_LIMIT)).expect("a limit");
        let mut command = Command::new(std::env::current_exe().expect("this test's path"));
        command
            .args([TEST, "--exact", "--nocapture"])
            .env(SERVE, "1")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null());
        Self {
            process: Guarded::spawn_as_is(&mut command).expect("this test as a worker"),
            pipe: BufReader::new(ours),
        }
    }

    /// Asks it for something; an error if it hangs or died.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, String> {
        let line = serde_json::to_string(request).expect("JSON");
        let sent = writeln!(self.pipe.get_mut(), "{line}");
        let mut line = String::new();
        let answered = sent.and_then(|()| self.pipe.read_line(&mut line));
        match answered {
            Ok(0) => Err(format!("the worker died: {:?}", self.process.ended())),
            Ok(_) => match serde_json::from_str(&line).expect("JSON") {
                Answer::Unable(why) => Err(why),
                answer => Ok(answer),
            },
            Err(error) => Err(format!("no answer after {ANSWER_LIMIT:?}: {error}")),
        }
    }
}

/// Serves the test that started this process, if it was started so.
pub fn serve() {
    if std::env::var_os(SERVE).is_none() {
        return;
    }
    let stdin = std::io::stdin();
    let mut answers = UnixStream::from(
        rustix::io::fcntl_dupfd_cloexec(&stdin, 0).expect("the socket to answer on"),
    );
    rustix::process::umask(0o022.into());
    let mut sides = None;
    for line in stdin.lock().lines() {
        let request = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let answer = answer(&mut sides, request).unwrap_or_else(Answer::Unable);
        let line = serde_json::to_string(&answer).expect("JSON");
        if writeln!(answers, "{line}").is_err() {
            return;
        }
    }
}

fn answer(sides: &mut Option<[Side; 2]>, request: Request) -> Result<Answer, String> {
    let unable = |error: rustix::io::Errno| format!("a folder can't be used: {error}");
    match request {
        Request::Begin(left, right) => {
            let sides_now = [
                Side::new(&left).map_err(unable)?,
                Side::new(&right).map_err(unable)?,
            ];
            *sides = Some(sides_now);
            Ok(Answer::Ready)
        }
        Request::Forget => {
            *sides = None;
            std::env::set_current_dir("/").map_err(|error| error.to_string())?;
            rustix::process::umask(0o022.into());
            Ok(Answer::Ready)
        }
        Request::Do(who, what, sabotage) => {
            let [left, right] = sides.as_mut().ok_or("no folders")?;
            right.enter().map_err(unable)?;
            if gaps::exchanges_kinds(right, &what) {
                return Ok(Answer::Both(Outcome::Nothing, Outcome::Nothing, None));
            }
            left.enter().map_err(unable)?;
            let mask = rustix::process::umask(0.into());
            rustix::process::umask(mask);
            become_identity(who);
            let first = match sabotage {
                Some(sabotage) => sabotage.perform(left, &what),
                None => left.perform(&what),
            };
            become_identity(Identity::Root);
            left.settle(&what);
            right.enter().map_err(unable)?;
            // Both sides begin with the same umask, also when the operation changes it.
            rustix::process::umask(mask);
            become_identity(who);
            let second = right.perform(&what);
            become_identity(Identity::Root);
            right.settle(&what);
            let note = difference(&first, &second);
            Ok(Answer::Both(first, second, note))
        }
        Request::Tree => {
            let [left, right] = sides.as_ref().ok_or("no folders")?;
            left.enter().map_err(unable)?;
            let first = tree::snapshot(left)?;
            right.enter().map_err(unable)?;
            let second = tree::snapshot(right)?;
            let pairs = first.iter().zip(&second);
            let notes = pairs.filter_map(|(one, other)| {
                let difference = difference(&one.content, &other.content)?;
                Some(format!("{}: {difference}", one.path))
            });
            let notes = notes.collect();
            Ok(Answer::Trees(first, second, notes))
        }
    }
}

fn difference(one: &Outcome, other: &Outcome) -> Option<String> {
    match (one, other) {
        (Outcome::Bytes(one), Outcome::Bytes(other)) => one.difference(other),
        _ => None,
    }
}

/// The saved user stays the superuser, so that there is a way back.
fn become_identity(who: Identity) {
    let root = Uid::from_raw(0);
    setresuid(root, root, root).expect("back to the superuser");
    let (user, group, groups) = who.numbers();
    let groups: Vec<_> = groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).expect("the groups");
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    setresgid(group, group, group).expect("the group");
    setresuid(user, user, root).expect("the user");
}
