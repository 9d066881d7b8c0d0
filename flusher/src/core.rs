//! What every step shares: the rooms, the limits, the counters, the state of the store.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;

use journal::{Sent, SentVersion, Unsynced};
use parking_lot::Mutex;
use remote::{DirMarkers, ObjectKey, Remote};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::config::FlusherConfig;
use crate::error::{Error, Severity};
use crate::holds::Holds;
use crate::locks::KeyLocks;
use crate::memory::Memory;
use crate::pace::Circuit;
use crate::plan::Abilities;
use crate::status::Stats;
use crate::unheard::{Unheard, What};
use crate::work::{self, Work};

/// Shared by the loop, its tasks and the handles.
pub(crate) struct Core {
    pub(crate) config: FlusherConfig,
    pub(crate) locks: KeyLocks,
    pub(crate) holds: Holds,
    pub(crate) memory: Memory,
    pub(crate) stats: Stats,
    /// Whether the store is worth asking. Leaf lock.
    circuit: Mutex<Circuit>,
    /// What may be done although nobody heard of it. Leaf lock.
    unheard: Mutex<Unheard>,
    /// The work set; changed by the loop only, read by `status`. Leaf lock.
    pub(crate) work: Mutex<Work>,
    /// Inodes that somebody asked to have flushed at once. Leaf lock.
    pub(crate) requests: Mutex<VecDeque<Request>>,
    /// Something became unsynced, or was asked for.
    pub(crate) wake: Notify,
    /// Wake-ups so far: as many changes as programs made.
    pub(crate) wakes: AtomicU64,
    /// Somebody waits: a request has been pushed.
    pub(crate) requested: Notify,
}

/// Somebody can't wait.
#[derive(Debug)]
pub(crate) enum Request {
    /// This version of an inode, even if a writer has it open; and its row, where that is known.
    Inode(journal::Ino, work::Asked, Option<Unsynced>),
    /// Everything that is closed by now.
    Everything,
    /// Delete what is garbage.
    Sweep,
    /// Only that the next scan is over.
    Scan(oneshot::Sender<()>),
}

impl Core {
    pub(crate) fn new(config: FlusherConfig) -> Self {
        Self {
            locks: KeyLocks::default(),
            holds: Holds::default(),
            memory: Memory::new(config.memory_bytes_max),
            stats: Stats::new(),
            circuit: Mutex::new(Circuit::new(config.backoff)),
            unheard: Mutex::new(Unheard::new(config.late_max)),
            work: Mutex::new(Work::new(config.work_items_max)),
            requests: Mutex::default(),
            wake: Notify::new(),
            wakes: AtomicU64::new(0),
            requested: Notify::new(),
            config,
        }
    }

    /// The oldest request that nobody has taken.
    pub(crate) fn next_request(&self) -> Option<Request> {
        self.requests.lock().pop_front()
    }

    pub(crate) fn journal(&self) -> &journal::Journal {
        &self.config.rooms.journal
    }

    pub(crate) fn extents(&self) -> &extents::ExtentStore {
        &self.config.rooms.extents
    }

    pub(crate) fn remote(&self) -> &Remote {
        &self.config.rooms.remote
    }

    pub(crate) fn abilities(&self) -> Abilities {
        let capabilities = &self.config.rooms.capabilities;
        Abilities {
            copy: capabilities.copy,
            attributes: capabilities.attributes,
            markers: !matches!(capabilities.markers, DirMarkers::None),
            copy_bytes_max: self.config.copy_bytes_max,
        }
    }

    /// Waits for a request that changes the store; its success shows that the store is well.
    pub(crate) async fn changing<T>(
        &self,
        request: impl Future<Output = Result<T, remote::Error>>,
    ) -> Result<T, remote::Error> {
        let answer = request.await;
        if answer.is_ok() && self.circuit.lock().succeeded() {
            tracing::info!("the store answers again; uploads go on");
            self.wake.notify_one();
        }
        answer
    }

    /// As [`Core::changing`], for one that does `what` at `key`: it may do so although nobody hears of it. The journal
    /// must durably say that it is sent.
    pub(crate) async fn asking<T>(
        &self,
        key: &ObjectKey,
        what: What,
        request: impl Future<Output = Result<T, remote::Error>>,
    ) -> Result<T, remote::Error> {
        let mut asked = Asked {
            core: self,
            key,
            what,
            heard: false,
        };
        let answer = self.changing(request).await;
        asked.heard = match &answer {
            Ok(_) => true,
            Err(error) => !error.leaves_open_what_was_done(),
        };
        answer
    }

    /// The daemon before this one may have asked for this at `key` without hearing of it.
    pub(crate) fn was_asked_before(&self, key: &str, sent: Sent) {
        self.unheard.lock().note(key, sent, Instant::now());
    }

    /// An error if what was asked for before may yet take the place of a version that is put to `key` now.
    pub(crate) fn nothing_in_the_way(
        &self,
        key: &ObjectKey,
        version: SentVersion,
    ) -> Result<(), Error> {
        let until = (self.unheard.lock()).until(key.as_str(), version, Instant::now());
        match until {
            None => Ok(()),
            Some(until) => Err(Error::InTheWay {
                key: key.0.clone(),
                until,
            }),
        }
    }

    /// Whether the store may yet get an object at `key` that was sent before, also by the daemon before this one.
    pub(crate) fn may_still_be_put(&self, key: &str) -> bool {
        self.unheard.lock().may_be_put(key, Instant::now())
    }

    /// Whether nothing that was asked for at `key` can arrive any more. The caller holds its lock, so nothing is
    /// on its way there.
    pub(crate) fn has_heard_all(&self, key: &str) -> bool {
        !self.unheard.lock().any(key, Instant::now())
    }

    /// A step failed: does that concern everybody?
    pub(crate) fn note_failure(&self, error: &Error) {
        if !error.blames_the_store() {
            return;
        }
        let severity = match error.severity() {
            Severity::Unreachable => Severity::Unreachable,
            _ => Severity::Passing,
        };
        let opened = self
            .circuit
            .lock()
            .failed(severity, Instant::now(), rand::random());
        if opened {
            tracing::warn!(%error, "the store does not answer; uploads wait and are tried again");
        }
    }

    pub(crate) fn circuit<T>(&self, look: impl FnOnce(&mut Circuit) -> T) -> T {
        look(&mut self.circuit.lock())
    }
}

/// A request is under way.
struct Asked<'core> {
    core: &'core Core,
    key: &'core ObjectKey,
    what: What,
    heard: bool,
}

impl Drop for Asked<'_> {
    /// Also if nobody waits for the answer any more.
    fn drop(&mut self) {
        if !self.heard {
            let mut unheard = self.core.unheard.lock();
            unheard.note(self.key.as_str(), self.what.into(), Instant::now());
        }
    }
}
