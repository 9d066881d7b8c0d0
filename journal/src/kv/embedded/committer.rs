//! The thread that makes commits durable for everybody who waits.

use super::reserve::is_no_space;
use super::{Inner, KvError};
use crossbeam::channel::{Receiver, Sender, unbounded};
use fjall::PersistMode;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

type Waiter = oneshot::Sender<Result<(), KvError>>;

/// The way to the thread; dropping it ends the thread.
pub(super) struct Committer {
    requests: Option<Sender<Waiter>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    pub(super) fn start(inner: Arc<Inner>) -> Result<Committer, KvError> {
        let (requests, receiver) = unbounded();
        let thread = std::thread::Builder::new()
            .name("journal-commit".into())
            .spawn(move || serve(&inner, &receiver))
            .map_err(|error| KvError::Io {
                operation: "starting the committer",
                reason: error.to_string(),
            })?;
        Ok(Committer {
            requests: Some(requests),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Waits for a sync that starts after this call.
    pub(super) async fn sync(&self) -> Result<(), KvError> {
        let (sender, receiver) = oneshot::channel();
        let gone = || KvError::Io {
            operation: "sync",
            reason: "the committer has stopped".into(),
        };
        match &self.requests {
            Some(requests) => requests.send(sender).map_err(|_| gone())?,
            None => return Err(gone()),
        }
        receiver.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.lock().take() {
            // It panicked: nothing to add to its message.
            let _ = thread.join();
        }
    }
}

fn serve(inner: &Inner, requests: &Receiver<Waiter>) {
    while let Ok(first) = requests.recv() {
        let mut waiters = vec![first];
        waiters.extend(requests.try_iter());
        let outcome = sync_once(inner);
        for waiter in waiters {
            // Nobody waits any more: fine.
            let _ = waiter.send(outcome.clone());
        }
    }
}

fn sync_once(inner: &Inner) -> Result<(), KvError> {
    inner.check_poison()?;
    let committed = inner.committed.load(Ordering::Acquire);
    // Cheap: everything is with the operating system already. It tells whether fjall itself met
    // with a failed write or sync.
    persist(inner, PersistMode::Buffer)?;
    let synced = inner.wal.lock().sync();
    match synced {
        Ok(true) => {}
        Ok(false) => persist(inner, PersistMode::SyncData)?,
        Err(error) => return Err(inner.poison(format!("syncing the log: {error}"))),
    }
    inner.durable.fetch_max(committed, Ordering::AcqRel);
    Ok(())
}

fn persist(inner: &Inner, mode: PersistMode) -> Result<(), KvError> {
    let persisted = match &*inner.using()? {
        Some(engine) => engine.db.persist(mode),
        None => return Err(inner.why_not_now()),
    };
    match persisted {
        Ok(()) => Ok(()),
        // Every record was handed over whole before: syncing the file is enough.
        Err(fjall::Error::Poisoned) if mode == PersistMode::Buffer => Ok(()),
        // Of what was acknowledged nothing is left to hand over: it is the rest of a record that was refused.
        Err(fjall::Error::Io(error)) if mode == PersistMode::Buffer && is_no_space(&error) => {
            Ok(())
        }
        Err(error) => Err(inner.poison(format!("writing the log: {error}"))),
    }
}
