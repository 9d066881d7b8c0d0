//! What a user sees of the flusher, and the counters behind it.
//!
//! The counters are updated by the tasks as they go; [`FlusherStatus`] is a copy of them joined with a
//! look at the work set. Nothing here waits. Speeds are over the last ten seconds.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use journal::{Ino, Timestamp};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

/// Over how long a speed is averaged.
const SPEED_WINDOW: Duration = Duration::from_secs(10);
/// Conflicts remembered by name; their number is counted beyond that.
const CONFLICTS_MAX: usize = 1000;

/// Where one inode is on its way to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The store has its newest version.
    Clean,
    /// Waits for its upload.
    Dirty,
    /// Being worked on.
    Uploading,
    /// Somebody else changed its object; both versions are kept.
    Conflict,
    /// Never uploaded, by policy.
    Transient,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            State::Clean => "clean",
            State::Dirty => "dirty",
            State::Uploading => "uploading",
            State::Conflict => "conflict",
            State::Transient => "transient",
        })
    }
}

/// Changes whenever something was flushed, settled or failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Steps that succeeded since the start.
    pub done: u64,
    /// Attempts that failed since the start.
    pub failed: u64,
}

/// An upload under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Uploading {
    /// The inode.
    pub ino: u64,
    /// The key it goes to.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// How much of it has arrived.
    pub sent_bytes: u64,
}

/// The newest failure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastError {
    /// Seconds since the Unix epoch.
    pub when_secs: i64,
    /// What it was about: a key or a path.
    pub key: String,
    /// What happened and what to do.
    pub message: String,
}

/// An object that somebody else changed before we could.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// Its key.
    pub key: String,
    /// What was done about it.
    pub resolution: Resolution,
}

/// What was done about a conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The local version has this name now, in the same directory.
    KeptAs(String),
    /// The local version took the place of theirs.
    ReplacedTheirs,
    /// The file shows theirs; the local version is this file.
    KeptAside(PathBuf),
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resolution::KeptAs(name) => write!(f, "kept as {name}"),
            Resolution::ReplacedTheirs => f.write_str("theirs was replaced"),
            Resolution::KeptAside(path) => write!(f, "ours is kept as {}", path.display()),
        }
    }
}

/// Everything at a glance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlusherStatus {
    /// Files and directories whose newest version is not in the store.
    pub dirty_files: u64,
    /// Bytes of those in memory (beyond the work set's limit they are not counted).
    pub dirty_bytes: u64,
    /// Oldest change that the store doesn't have, in seconds since the Unix epoch.
    pub oldest_unflushed_secs: Option<i64>,
    /// What is under way, oldest first.
    pub uploading: Vec<Uploading>,
    /// Bytes sent since the start.
    pub uploaded_bytes_total: u64,
    /// Current speed.
    pub upload_bytes_per_s: u64,
    /// Steps done and attempts failed.
    pub progress: Progress,
    /// The newest failure, until something succeeds for the same key or everything is clean.
    pub last_error: Option<LastError>,
    /// False while the store can't be reached.
    pub store_ok: bool,
    /// Blocks that came from the store as something else than was sent there, since the start.
    pub corrupt_blocks: u64,
    /// Objects that somebody else changed before we could, since the start.
    pub conflicts: u64,
    /// The newest of them.
    pub conflict_list: Vec<Conflict>,
}

/// The counters.
pub(crate) struct Stats {
    inner: Mutex<Inner>,
    progress: watch::Sender<Progress>,
}

#[derive(Default)]
struct Inner {
    uploading: HashMap<Ino, Uploading>,
    sent: VecDeque<(Instant, u64)>,
    sent_total: u64,
    last_error: Option<LastError>,
    conflicts: BTreeMap<Ino, Conflict>,
    conflicts_total: u64,
    corrupt_blocks: u64,
}

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(crate) fn step_done(&self, key: &str) {
        let mut inner = self.inner.lock();
        if inner
            .last_error
            .as_ref()
            .is_some_and(|last| last.key == key)
        {
            inner.last_error = None;
        }
        drop(inner);
        self.progress.send_modify(|progress| progress.done += 1);
    }

    pub(crate) fn step_failed(&self, key: &str, message: String) {
        self.inner.lock().last_error = Some(LastError {
            when_secs: Timestamp::now().secs,
            key: key.to_owned(),
            message,
        });
        self.progress.send_modify(|progress| progress.failed += 1);
    }

    /// Something ended that is counted elsewhere: whoever waits looks again.
    pub(crate) fn nudge(&self) {
        self.progress.send_modify(|_| {});
    }

    /// Everything is in the store: an old failure is of no interest any more.
    pub(crate) fn all_clean(&self) {
        self.inner.lock().last_error = None;
    }

    pub(crate) fn upload_began(&self, ino: Ino, key: &str, bytes: u64, sent_bytes: u64) {
        let upload = Uploading {
            ino: ino.0,
            key: key.to_owned(),
            bytes,
            sent_bytes,
        };
        self.inner.lock().uploading.insert(ino, upload);
    }

    pub(crate) fn upload_sent(&self, ino: Ino, bytes: u64) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        if let Some(upload) = inner.uploading.get_mut(&ino) {
            upload.sent_bytes += bytes;
        }
        inner.sent_total += bytes;
        inner.sent.push_back((now, bytes));
        inner.forget_before(now);
    }

    pub(crate) fn upload_ended(&self, ino: Ino) {
        self.inner.lock().uploading.remove(&ino);
    }

    pub(crate) fn conflict(&self, ino: Ino, conflict: Conflict) {
        let mut inner = self.inner.lock();
        inner.conflicts_total += 1;
        inner.conflicts.insert(ino, conflict);
        while inner.conflicts.len() > CONFLICTS_MAX {
            inner.conflicts.pop_first();
        }
    }

    pub(crate) fn corrupt_block(&self) {
        self.inner.lock().corrupt_blocks += 1;
    }

    pub(crate) fn in_conflict(&self, ino: Ino) -> bool {
        let inner = self.inner.lock();
        let conflict = inner.conflicts.get(&ino);
        // The others are over, for the file.
        conflict.is_some_and(|conflict| matches!(conflict.resolution, Resolution::KeptAs(_)))
    }

    pub(crate) fn is_uploading(&self, ino: Ino) -> bool {
        self.inner.lock().uploading.contains_key(&ino)
    }

    /// Joins the counters with what the work set knows.
    pub(crate) fn report(
        &self,
        dirty_files: u64,
        dirty_bytes: u64,
        oldest: Option<Timestamp>,
        store_ok: bool,
    ) -> FlusherStatus {
        let mut inner = self.inner.lock();
        inner.forget_before(Instant::now());
        let mut uploading: Vec<Uploading> = inner.uploading.values().cloned().collect();
        uploading.sort_by_key(|upload| upload.ino);
        let recent: u64 = inner.sent.iter().map(|(_, bytes)| bytes).sum();
        FlusherStatus {
            dirty_files,
            dirty_bytes,
            oldest_unflushed_secs: oldest.map(|at| at.secs),
            uploading,
            uploaded_bytes_total: inner.sent_total,
            upload_bytes_per_s: recent / SPEED_WINDOW.as_secs(),
            progress: *self.progress.borrow(),
            last_error: inner.last_error.clone(),
            store_ok,
            corrupt_blocks: inner.corrupt_blocks,
            conflicts: inner.conflicts_total,
            conflict_list: inner.conflicts.values().cloned().collect(),
        }
    }
}

impl Inner {
    fn forget_before(&mut self, now: Instant) {
        while let Some((at, _)) = self.sent.front() {
            if now.duration_since(*at) <= SPEED_WINDOW {
                break;
            }
            self.sent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn speed_is_that_of_the_last_ten_seconds() {
        let stats = Stats::new();
        stats.upload_began(Ino(7), "k", 100, 0);
        stats.upload_sent(Ino(7), 100);
        let now = stats.report(1, 100, None, true);
        assert_eq!(
            (now.upload_bytes_per_s, now.uploading[0].sent_bytes),
            (10, 100)
        );
        tokio::time::advance(SPEED_WINDOW * 2).await;
        let later = stats.report(0, 0, None, true);
        assert_eq!(
            (later.upload_bytes_per_s, later.uploaded_bytes_total),
            (0, 100)
        );
    }

    #[test]
    fn a_failure_is_shown_until_the_same_key_succeeds() {
        let stats = Stats::new();
        stats.step_failed("a", "refused".to_owned());
        stats.step_done("b");
        assert!(stats.report(0, 0, None, true).last_error.is_some());
        stats.step_done("a");
        assert_eq!(stats.report(0, 0, None, true).last_error, None);
    }
}
