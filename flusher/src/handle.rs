//! The flusher as others see it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use journal::{Epoch, Ino, Inode, Origin, Unsynced, Wanted};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::FlusherConfig;
use crate::core::{Core, Request};
use crate::digests;
use crate::error::Error;
use crate::holds::Hold;
use crate::key::wanted_key;
use crate::lost::record_again;
use crate::reconcile::Reconciler;
use crate::status::{FlusherStatus, Progress, State};
use crate::work::Asked;

/// A handle of the running reconciler; clones are cheap. When the last one is dropped it stops.
#[derive(Clone)]
pub struct Flusher {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    stop: watch::Sender<bool>,
    /// Taken by `stop`. Leaf lock.
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Flusher {
    /// Starts the reconciler on the current tokio runtime.
    pub fn start(config: FlusherConfig) -> Self {
        let flusher = Self::idle(config);
        flusher.begin();
        flusher
    }

    /// A flusher that sends nothing before [`Flusher::begin`]: until recovery has judged what a crash
    /// left, or for ever on a mount that may not write. It answers what is asked of it, and what is
    /// unsynced waits.
    pub fn idle(config: FlusherConfig) -> Self {
        Self {
            inner: Arc::new(Inner {
                core: Arc::new(Core::new(config)),
                stop: watch::Sender::new(false),
                task: Mutex::new(None),
            }),
        }
    }

    /// Starts the reconciler on the current tokio runtime, if it does not run yet.
    pub fn begin(&self) {
        let mut task = self.inner.task.lock();
        if task.is_none() {
            let stopped = self.inner.stop.subscribe();
            let reconciler = Reconciler::new(Arc::clone(&self.inner.core), stopped);
            *task = Some(tokio::spawn(reconciler.run()));
        }
    }

    /// Something became unsynced, was closed, or was deleted.
    pub fn wake(&self) {
        self.inner.core.wakes.fetch_add(1, Ordering::Relaxed);
        self.inner.core.wake.notify_one();
    }

    /// Changes after every step that was done and every attempt that failed.
    pub fn subscribe(&self) -> watch::Receiver<Progress> {
        self.inner.core.stats.subscribe()
    }

    /// Returns when everything that became unsynced before the call is counted in the status.
    pub async fn scanned(&self) {
        if self.inner.task.lock().is_none() {
            return;
        }
        let (tell, told) = oneshot::channel();
        self.inner
            .core
            .requests
            .lock()
            .push_back(Request::Scan(tell));
        self.inner.core.requested.notify_one();
        // An error says that the flusher stopped: then nothing is counted any more.
        let _ = told.await;
    }

    /// Sends this version of an inode without any settling time, even if a writer has it open now. What comes
    /// after it is not asked for. `row` is its unsynced row, where the caller has it: that spares reading it.
    pub fn flush_now(&self, inode: &Inode, row: Option<&Unsynced>) {
        let asked = Asked {
            epoch: inode.content.epoch,
            open: inode.content.writer.is_some(),
        };
        let request = Request::Inode(inode.ino, asked, row.copied());
        self.inner.core.requests.lock().push_back(request);
        self.inner.core.requested.notify_one();
    }

    /// The object that an inode's missing bytes come from is not there any more. Whether it was one of its own
    /// newer versions that replaced it, which the journal knows now.
    pub async fn replaced_by_own(&self, ino: Ino, old: &Origin) -> Result<bool, Error> {
        let core = &self.inner.core;
        // An upload that is about to be recorded ends first.
        let _lock = core.locks.lock([old.key.clone()]).await;
        let inode = core.journal().inode(ino).await?;
        let origin = inode.and_then(|inode| inode.content.origin);
        if origin.is_some_and(|now| (&now.key, &now.etag) != (&old.key, &old.etag)) {
            return Ok(true);
        }
        record_again(core, ino).await
    }

    /// Bytes of an inode's object, compared with what was uploaded.
    ///
    /// # Errors
    ///
    /// As of the store, and [`Error::Corrupt`].
    pub async fn get(&self, ino: Ino, origin: &Origin, range: Range<u64>) -> Result<Bytes, Error> {
        digests::get(&self.inner.core, ino, origin, range).await
    }

    /// Keeps a file from being parted from its object, while its local bytes are given up. None while that is
    /// going on, by somebody else: come again.
    pub fn hold(&self, ino: Ino) -> Option<Hold> {
        self.inner.core.holds.hold(ino)
    }

    /// Deletes garbage now. What still waits for an upload to replace it is left; ask again after that.
    pub fn sweep_now(&self) {
        self.inner.core.requests.lock().push_back(Request::Sweep);
        self.inner.core.requested.notify_one();
    }

    /// Sends everything that is closed by now without any settling time.
    pub fn flush_all(&self) {
        self.inner
            .core
            .requests
            .lock()
            .push_back(Request::Everything);
        self.inner.core.requested.notify_one();
    }

    /// Waits until version `epoch` (or a newer one) of the inode is in the store under its present name, or
    /// the inode is gone. False if the flusher was stopped before that.
    pub async fn wait_clean(&self, ino: Ino, epoch: Epoch) -> bool {
        let mut progress = self.subscribe();
        let mut stopped = self.inner.stop.subscribe();
        loop {
            progress.mark_unchanged();
            match self.inner.core.journal().wanted(ino).await {
                Ok(wanted) if wanted.as_ref().is_none_or(|wanted| is_there(wanted, epoch)) => {
                    return true;
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, %ino, "can't read the state of a file"),
            }
            if *stopped.borrow_and_update() {
                return false;
            }
            tokio::select! {
                changed = progress.changed() => if changed.is_err() { return false },
                changed = stopped.changed() => if changed.is_err() { return false },
            }
        }
    }

    /// Whether the work set holds this row, or what an earlier change made of it: it is not in the store yet. If
    /// not, only the journal knows.
    pub fn is_waiting(&self, row: &Unsynced) -> bool {
        let work = self.inner.core.work.lock();
        let item = work.get(row.ino);
        item.is_some_and(|item| item.row.since <= row.since)
    }

    /// Where an inode is on its way.
    pub async fn state(&self, ino: Ino) -> State {
        let core = &self.inner.core;
        if core.stats.in_conflict(ino) {
            return State::Conflict;
        }
        if core.stats.is_uploading(ino) {
            return State::Uploading;
        }
        match core.journal().unsynced_row(ino).await {
            Ok(None) => State::Clean,
            Ok(Some(_)) | Err(_) => State::Dirty,
        }
    }

    /// Everything at a glance.
    pub fn status(&self) -> FlusherStatus {
        let core = &self.inner.core;
        let (files, bytes, oldest) = core.work.lock().totals();
        let store_ok = core.circuit(|circuit| circuit.is_closed());
        core.stats.report(files, bytes, oldest, store_ok)
    }

    /// Starts nothing new, drops what is under way (the next start continues it), and returns when no task is
    /// left.
    pub async fn stop(&self) {
        self.inner.stop.send_replace(true);
        let task = self.inner.task.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the flusher had ended by a bug");
        }
    }
}

/// Nothing of version `epoch` is left to do.
fn is_there(wanted: &Wanted, epoch: Epoch) -> bool {
    let Some(key) = wanted_key(wanted) else {
        return true;
    };
    let origin = wanted.inode.content.origin.as_ref();
    wanted.unsynced.is_none()
        || origin.is_some_and(|origin| {
            origin.epoch >= epoch
                && origin.key == key.0
                && origin.meta_epoch == wanted.inode.meta_epoch
        })
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The loop sees it and drops its tasks.
        self.stop.send_replace(true);
    }
}
