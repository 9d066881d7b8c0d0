//! The evictor: gives up files while the cache is too full, in the order that `eviction_order` has.
//!
//! Opens and closes tell it what is in the cache ([`Tenants`]); what it is not told of, it finds by a census of
//! the extent files: before the first eviction after a start, and when all that it knows is used up. A file whose
//! turn comes and that can't go makes way, so that the next look does not meet it again: one that is not in the
//! store yet comes back when it is uploaded, one that is open goes to the end, one that is pinned is forgotten.
//! So a look costs what it evicts, not what the cache holds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use extents::{ExtentId, ExtentStore, Short};
use journal::Ino;
use nix::errno::Errno;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::evict::Evicted;
use super::eviction_order::Order;
use super::{Inner, Result, Vfs, extent_id};

/// How often the evictor looks when nothing wakes it: passthrough writes grow files unseen.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Between two counts because everything known was used up: what then keeps the cache full is mostly known to stay.
const CENSUS_EVERY: Duration = Duration::from_secs(60);

/// Files looked at for those in one of several directories, in one look.
const PASSED_OVER_MAX: usize = 4096;

/// Files made known under one lock.
const CHUNK: usize = 1024;

/// What is in the cache.
#[derive(Default)]
pub struct Tenants {
    /// Locked for moments.
    known: Mutex<Known>,
    counted: Mutex<Option<Instant>>,
    /// Files that are not known may go by now.
    recount: AtomicBool,
}

#[derive(Default)]
struct Known {
    order: Order,
    /// Those whose turn came and that are not in the store yet, with their bytes.
    dirty: HashMap<Ino, u64>,
}

impl Tenants {
    /// A file was opened.
    pub fn opened(&self, ino: Ino) {
        self.known.lock().order.used(ino);
    }

    /// A file was closed for the last time, and takes so many bytes.
    pub fn closed(&self, ino: Ino, bytes: u64) {
        if bytes > 0 {
            let mut known = self.known.lock();
            known.dirty.remove(&ino);
            known.order.keep(ino, bytes);
        }
    }

    /// A file was brought in before anybody opened it.
    pub fn foreseen(&self, ino: Ino, bytes: u64) {
        if bytes > 0 {
            let mut known = self.known.lock();
            known.dirty.remove(&ino);
            known.order.keep_foreseen(ino, bytes);
        }
    }

    /// A file was brought in, or found here, because somebody wants it here.
    pub fn wanted(&self, ino: Ino, bytes: u64) {
        if bytes > 0 {
            let mut known = self.known.lock();
            known.dirty.remove(&ino);
            known.order.keep_longer(ino, bytes);
        }
    }

    /// A file was open when its turn came.
    fn in_use(&self, ino: Ino, bytes: u64) {
        let mut known = self.known.lock();
        known.dirty.remove(&ino);
        known.order.keep_for_now(ino, bytes);
    }

    /// A file is in the store now.
    pub fn uploaded(&self, ino: Ino) {
        let mut known = self.known.lock();
        if let Some(bytes) = known.dirty.remove(&ino) {
            known.order.keep(ino, bytes);
        }
    }

    /// Files may go by now that could not, and are not known.
    pub fn recount(&self) {
        self.recount.store(true, Ordering::Release);
    }

    /// The file whose turn it is. Until something else is said it counts as not uploaded: it may be at any moment.
    fn turn(&self) -> Option<(Ino, u64)> {
        let mut known = self.known.lock();
        let (ino, bytes) = known.order.next()?;
        known.dirty.insert(ino, bytes);
        Some((ino, bytes))
    }

    fn gone(&self, ino: Ino) {
        let mut known = self.known.lock();
        known.dirty.remove(&ino);
        known.order.forget(ino);
    }

    fn len(&self) -> usize {
        self.known.lock().order.len()
    }

    /// Whether the extent files are to be counted now.
    fn census_is_due(&self, used_up: bool) -> bool {
        let counted = *self.counted.lock();
        let is_old = |at: Instant| at.elapsed() >= CENSUS_EVERY;
        self.recount.load(Ordering::Acquire) || counted.is_none_or(|at| used_up && is_old(at))
    }

    /// What a census found, those used longest ago first.
    fn counted(&self, found: &[Tenant]) {
        for chunk in found.chunks(CHUNK) {
            let mut known = self.known.lock();
            for Tenant { ino, bytes, .. } in chunk {
                if !known.order.knows(*ino) && !known.dirty.contains_key(ino) {
                    known.order.keep_longer(*ino, *bytes);
                }
            }
        }
        let mut known = self.known.lock();
        if !known.dirty.is_empty() {
            // What was removed before it was uploaded.
            let here: HashSet<Ino> = found.iter().map(|tenant| tenant.ino).collect();
            known.dirty.retain(|ino, _| here.contains(ino));
        }
        *self.counted.lock() = Some(Instant::now());
    }
}

impl Vfs {
    async fn look_for_space(&self) -> Result<()> {
        let room = &self.inner.space.room;
        let look = room.look();
        let used = self.extents().used_bytes();
        // For what can't be had nothing is given up.
        let wanted = Some(look.wanted_bytes).filter(|wanted| *wanted <= self.high_watermark());
        let enough = match self.evicts_to(used, wanted.unwrap_or_default()) {
            Some(low) => self.evict_to(low).await,
            None => Ok(true),
        };
        for short in self.extents().short()? {
            self.evict_from(short).await?;
        }
        room.looked(&look, wanted.is_some() && matches!(enough, Ok(true)));
        enough.map(drop)
    }

    /// Whether there was enough to evict.
    async fn evict_to(&self, low: u64) -> Result<bool> {
        let (tenants, room) = (&self.inner.space.tenants, &self.inner.space.room);
        if tenants.census_is_due(false) {
            self.take_census().await?;
        }
        let mut unneeded = Vec::new();
        let mut freed = 0;
        // Those that stay go to the end: nobody is to have two turns.
        let mut turns = tenants.len();
        let mut failed = None;
        while self.extents().used_bytes().saturating_sub(freed) > low {
            let turn = match turns {
                0 => None,
                _ => tenants.turn(),
            };
            let Some((ino, bytes)) = turn else {
                if !tenants.census_is_due(true) {
                    // Not for what is only wanted here, and may as well stay in the store.
                    let used = self.extents().used_bytes().saturating_sub(freed);
                    if used > self.high_watermark() {
                        failed = self.give_up_unsynced_formers(&mut unneeded).await.err();
                    }
                    break;
                }
                self.take_census().await?;
                turns = tenants.len();
                continue;
            };
            turns -= 1;
            if room.is_held(ino) {
                tenants.wanted(ino, bytes);
                continue;
            }
            match self.take_turn(ino, bytes, &mut unneeded).await {
                Ok(bytes) => freed += bytes,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        self.remove_all(unneeded).await?;
        match failed {
            Some(error) => Err(error),
            None => Ok(self.extents().used_bytes() <= low),
        }
    }

    /// Gives up a file whose turn it is, if it may go; how many bytes go with its extents, once these are removed.
    async fn take_turn(&self, ino: Ino, bytes: u64, unneeded: &mut Vec<ExtentId>) -> Result<u64> {
        let tenants = &self.inner.space.tenants;
        match self.evict(ino).await {
            Ok(Evicted::Superseded { id, .. }) => {
                unneeded.push(id);
                tenants.gone(ino);
                return Ok(bytes);
            }
            Ok(Evicted::Dirty) => {}
            Ok(Evicted::InUse) => tenants.in_use(ino, bytes),
            Ok(Evicted::Pinned | Evicted::Emptied { .. } | Evicted::Nothing) => tenants.gone(ino),
            Err(error) => {
                tenants.wanted(ino, bytes);
                return Err(error);
            }
        }
        Ok(0)
    }

    /// Makes room in one of several directories, as far as something there may go.
    async fn evict_from(&self, short: Short) -> Result<()> {
        let (tenants, room) = (&self.inner.space.tenants, &self.inner.space.room);
        if tenants.census_is_due(false) {
            self.take_census().await?;
        }
        let mut unneeded = Vec::new();
        let (mut freed, mut failed) = (0, None);
        // Files elsewhere are passed over; the next look goes on behind them.
        for _ in 0..tenants.len().min(PASSED_OVER_MAX) {
            if freed >= short.excess_bytes {
                break;
            }
            let Some((ino, bytes)) = tenants.turn() else {
                break;
            };
            let given_up = match self.is_in(short.directory, ino).await {
                Ok(_) if room.is_held(ino) => {
                    tenants.wanted(ino, bytes);
                    Ok(0)
                }
                Ok(true) => self.take_turn(ino, bytes, &mut unneeded).await,
                Ok(false) => {
                    tenants.in_use(ino, bytes);
                    Ok(0)
                }
                Err(error) => {
                    tenants.wanted(ino, bytes);
                    Err(error)
                }
            };
            match given_up {
                Ok(bytes) => freed += bytes,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        self.remove_all(unneeded).await?;
        failed.map_or(Ok(()), Err)
    }

    async fn is_in(&self, directory: usize, ino: Ino) -> Result<bool> {
        match self.journal().inode(ino).await? {
            Some(inode) => Ok(self.extents().is_in(directory, extent_id(&inode))?),
            None => Ok(false),
        }
    }

    async fn take_census(&self) -> Result<()> {
        let tenants = &self.inner.space.tenants;
        tenants.recount.store(false, Ordering::Release);
        let store = self.extents().clone();
        let found = self.extents().aside(move || census(&store)).await;
        // It panicked, which has been told.
        let mut found = found.map_err(|_| Errno::EIO)??;
        // What is open is told when it is closed; it may be a first use.
        found.retain(|tenant| self.inner.opens.get(tenant.ino).is_none());
        tenants.counted(&found);
        Ok(())
    }
}

/// A file in the cache that a census found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tenant {
    /// In seconds since 1970, as far as the file system has it.
    pub last_use: i64,
    pub ino: Ino,
    pub bytes: u64,
}

/// The files in the cache, those used longest ago first.
pub(super) fn census(store: &ExtentStore) -> Result<Vec<Tenant>> {
    let mut found = Vec::new();
    for id in store.list() {
        let id = id?;
        if let Some(standing) = store.standing(id)?
            && standing.allocated_bytes > 0
        {
            found.push(Tenant {
                last_use: standing.last_use,
                ino: Ino(id.ino),
                bytes: standing.allocated_bytes,
            });
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Starts the evicting task; it ends when the file system is gone.
pub fn spawn(inner: &Arc<Inner>) {
    let weak = Arc::downgrade(inner);
    let look = inner.space.look.clone();
    let mut progress = inner.parts.flusher.subscribe();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = look.notified() => {}
                _ = progress.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let Some(inner) = Weak::upgrade(&weak) else {
                return;
            };
            let vfs = Vfs { inner };
            vfs.look_at_budget();
            if let Err(error) = vfs.let_expired_go().await {
                tracing::error!(%error, "cannot give up what is not to stay in the cache");
            }
            if let Err(error) = vfs.look_for_space().await {
                tracing::error!(%error, "cannot free cache space");
            }
            vfs.inner.space.freed.notify_waiters();
            drop(vfs);
            // A burst of finished uploads is one look, not one each.
            tokio::time::sleep(LOOK_EVERY / 10).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_uploaded_while_it_is_looked_at_is_not_lost() {
        let tenants = Tenants::default();
        tenants.closed(Ino(1), 5);
        tenants.closed(Ino(2), 0);
        assert_eq!(tenants.len(), 1, "what takes nothing is not worth a turn");
        assert_eq!(tenants.turn(), Some((Ino(1), 5)));
        assert_eq!(tenants.turn(), None);
        tenants.uploaded(Ino(1));
        assert_eq!(tenants.turn(), Some((Ino(1), 5)));
        tenants.gone(Ino(1));
        tenants.uploaded(Ino(1));
        assert_eq!(tenants.turn(), None);
    }

    #[tokio::test]
    async fn a_census_adds_what_is_not_known_and_forgets_what_is_gone() {
        let tenants = Tenants::default();
        assert!(tenants.census_is_due(false), "before the first eviction");
        for ino in [1, 2] {
            tenants.closed(Ino(ino), 5);
            tenants.turn();
        }
        let tenant = |ino, bytes| Tenant {
            last_use: 0,
            ino: Ino(ino),
            bytes,
        };
        tenants.counted(&[tenant(2, 5), tenant(3, 7)]);
        assert!(!tenants.census_is_due(true), "just done");
        assert_eq!(tenants.turn(), Some((Ino(3), 7)));
        tenants.uploaded(Ino(1));
        assert_eq!(tenants.turn(), None, "it is gone");
        tenants.uploaded(Ino(2));
        assert_eq!(tenants.turn(), Some((Ino(2), 5)));
        tenants.recount();
        assert!(tenants.census_is_due(false));
    }
}
