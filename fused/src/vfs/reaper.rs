//! What unlink leaves behind: inodes without a name, and extent files that nobody needs.
//!
//! What a rename replaced goes only when its successor is safe; see `replaced`.
//!
//! Level-triggered: the journal's orphan rows are the work list, so nothing is forgotten by a
//! crash. An orphan that is still open waits for its last close; one of a kind that the kernel opens by itself, until
//! the kernel has forgotten it.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use extents::ExtentId;
use journal::{Ino, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Inner, Result, Vfs, extent_id, now};

/// Orphans taken from the journal at once.
const PAGE: usize = 256;

/// Pause after a pass; each may cost a sync of the journal.
const PAUSE: Duration = Duration::from_millis(200);

/// Pause after a pass that left what is too young.
const PAUSE_YOUNG: Duration = Duration::from_secs(1);

/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// What a pass left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// Nothing but what is open; its last close makes another pass.
    All,
    /// Files that are still needed in the place of what replaced them.
    LeftSpares,
}

/// Work for the reaping task.
#[derive(Default)]
pub struct Reaper {
    work: Arc<Notify>,
    /// Orphans that were open when their turn came.
    open: Mutex<HashSet<Ino>>,
    /// Orphans that the kernel may still hold.
    held: Mutex<HashSet<Ino>>,
    /// Extent files of earlier generations. The sweep at start finds what a crash forgets.
    superseded: Mutex<Vec<ExtentId>>,
}

impl Reaper {
    /// An inode lost its last name. `is_held`: it stays until the kernel has forgotten it.
    pub fn orphan(&self, ino: Ino, is_held: bool) {
        match is_held {
            true => {
                self.held.lock().insert(ino);
            }
            false => self.work.notify_one(),
        }
    }

    /// A version was put aside.
    pub fn look(&self) {
        self.work.notify_one();
    }

    /// An inode was closed for the last time.
    pub fn closed(&self, ino: Ino) {
        if self.open.lock().remove(&ino) {
            self.work.notify_one();
        }
    }

    /// Another generation took the place of this extent file.
    pub fn remove_extents(&self, id: ExtentId) {
        self.superseded.lock().push(id);
        self.work.notify_one();
    }
}

/// Starts the reaping task; it ends when the file system is gone.
pub fn spawn(inner: &Arc<Inner>) {
    let weak = Arc::downgrade(inner);
    let work = inner.reaper.work.clone();
    // What the last session left is the first work.
    work.notify_one();
    tokio::spawn(async move {
        loop {
            work.notified().await;
            let Some(inner) = Weak::upgrade(&weak) else {
                return;
            };
            let vfs = Vfs { inner };
            let settle = vfs.inner.config.settle;
            let reaped = vfs.reap_all().await;
            drop(vfs);
            // A burst of unlinks is a few passes, not one each.
            let pause = match reaped {
                Ok(Reaped::All) => PAUSE,
                Ok(Reaped::LeftSpares) => {
                    work.notify_one();
                    settle.clamp(PAUSE, PAUSE_YOUNG)
                }
                Err(error) => {
                    tracing::error!(%error, "cannot remove unlinked files; trying again in 5 s");
                    work.notify_one();
                    RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    });
}

impl Vfs {
    /// The kernel has forgotten an inode: no program can ask for it but by its name.
    pub fn forgotten(&self, ino: Ino) {
        if self.inner.reaper.held.lock().remove(&ino) {
            self.inner.reaper.work.notify_one();
        }
    }

    /// Removes what has been unlinked by now, apart from what is open and from what was replaced less
    /// than the settling time ago: after it, many that replaced something are in the store, and need no
    /// sync here.
    pub async fn reap_all(&self) -> Result<Reaped> {
        let mut left = Reaped::All;
        let mut unneeded = std::mem::take(&mut *self.inner.reaper.superseded.lock());
        let mut after = None;
        loop {
            let orphans = self
                .journal()
                .orphans(self.inner.parts.node, after, PAGE)
                .await?;
            let mut ready = Vec::with_capacity(orphans.len());
            for orphan in &orphans {
                // What replaced it may be gone in its turn, or safe already: then nothing is waited for.
                let waits = orphan.spare_for.is_some()
                    && self.is_settling_orphan(orphan.ino).await?
                    && self.is_spare(orphan).await?;
                match waits {
                    true => left = Reaped::LeftSpares,
                    false => ready.push(*orphan),
                }
            }
            self.secure_successors(&ready).await?;
            for orphan in ready {
                match self.is_spare(&orphan).await? {
                    // What replaced it was changed again meanwhile.
                    true => left = Reaped::LeftSpares,
                    false => unneeded.extend(self.reap(orphan.ino).await?),
                }
            }
            match orphans.last() {
                Some(last) if orphans.len() == PAGE => after = Some(last.ino),
                _ => break,
            }
        }
        if self.give_up_formers(&mut unneeded).await? {
            left = Reaped::LeftSpares;
        }
        self.remove_all(unneeded).await?;
        self.flusher().wake();
        Ok(left)
    }

    async fn is_settling_orphan(&self, ino: Ino) -> Result<bool> {
        let inode = self.journal().inode(ino).await?;
        Ok(inode.is_some_and(|inode| self.is_settling(inode.ctime)))
    }

    /// Whether what happened then is to be left alone for now.
    pub(super) fn is_settling(&self, since: Timestamp) -> bool {
        let settle = self.inner.config.settle;
        let age_s = now().secs.saturating_sub(since.secs);
        // A clock that went back proves nothing.
        (0..settle.as_secs() as i64 + 1).contains(&age_s) && !settle.is_zero()
    }

    /// Removes extent files that the journal does not refer to any more. It must say so durably
    /// first: a power cut that brought the reference back without the bytes would bring back zeros.
    pub(super) async fn remove_all(&self, unneeded: Vec<ExtentId>) -> Result<()> {
        if unneeded.is_empty() {
            return Ok(());
        }
        self.journal().sync().await?;
        for id in unneeded {
            self.extents().remove(id)?;
        }
        Ok(())
    }

    async fn reap(&self, ino: Ino) -> Result<Option<ExtentId>> {
        if self.inner.reaper.held.lock().contains(&ino) {
            return Ok(None);
        }
        let slot = self.inner.opens.slot(ino);
        let reaped = {
            let _gate = slot.gate.lock().await;
            // Noted before the look, so that a close in between is not missed.
            self.inner.reaper.open.lock().insert(ino);
            match slot.open_file().is_some() || self.inner.directories.is_open(ino) {
                true => Ok(None),
                false => {
                    self.inner.reaper.open.lock().remove(&ino);
                    self.journal().reap(ino).await
                }
            }
        };
        self.inner.opens.put(ino, slot);
        let reaped = reaped?;
        if reaped.is_some() {
            self.inner.space.expiry.removed(ino);
        }
        Ok(reaped.map(|inode| extent_id(&inode)))
    }
}
