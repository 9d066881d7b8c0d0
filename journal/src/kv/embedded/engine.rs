//! fjall, opened, and opened again when it has given up.
//!
//! When fjall can't write a table (the disk is full), its background thread ends and it takes no more changes,
//! although nothing is lost: every row that was acknowledged is in its write-ahead log, which has room of its
//! own ([`super::ahead`]). So once the log is proven to be on the disk, through a descriptor that is older than
//! whatever went wrong, fjall is closed and opened again, which replays it. Callers meanwhile are asked to try
//! again; on a disk without any space they are told ENOSPC.
//!
//! The log itself can meet with a quota, or with a disk that has no space for the next copy of a block that was
//! allocated (btrfs). Then half a record is in the file, and the rest in a buffer of fjall's that it writes when it
//! is closed, or earlier: an error was the answer, and yet the change would be there after the replay. So its
//! sequence number is noted, and once fjall is closed it is cut off ([`super::torn::cut_off_from`]).
//!
//! Every transaction reads under a shared lock; opening again takes it alone. A transaction takes the shared
//! lock before it waits for anything else, so that nobody waits for a transaction that waits for this.

use super::ahead::Ahead;
use super::reserve::Room;
use super::wal::{self, Wal};
use super::{EmbeddedOptions, Inner, KvError, MIB, torn};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use parking_lot::{ArcRwLockReadGuard, RawRwLock};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often fjall is opened again, at most.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Transactions last for milliseconds; one that holds up all others for longer is not waited for.
const TRANSACTIONS_END_MAX: Duration = Duration::from_secs(5);

/// The database and the one tree in it.
pub(super) struct Engine {
    pub(super) db: Database,
    pub(super) rows: Keyspace,
}

/// Keeps the engine from being closed.
pub(super) type Using = ArcRwLockReadGuard<RawRwLock, Option<Engine>>;

impl Engine {
    pub(super) fn open(dir: &Path, options: &EmbeddedOptions) -> fjall::Result<Engine> {
        let torn = torn::cut_off(dir)?;
        if torn > 0 {
            tracing::warn!(
                dir = %dir.display(), bytes = torn,
                "the end of the journal's log was written in part only when the last run ended; it was never \
                 synced, and is kept beside the log"
            );
        }
        let db = Database::builder(dir)
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.log_bytes_max.max(64 * MIB))
            .max_cached_files(Some(64))
            .worker_threads(2)
            .open()?;
        let rows = db.keyspace("rows", || {
            KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes.max(MIB))
        })?;
        Ok(Engine { db, rows })
    }
}

impl Inner {
    /// The engine, for as long as the guard lives.
    pub(super) fn using(&self) -> Result<Using, KvError> {
        let using = self.engine.read_arc_recursive();
        if using.is_some() {
            return Ok(using);
        }
        drop(using);
        self.open_again();
        let using = self.engine.read_arc_recursive();
        match using.is_some() {
            true => Ok(using),
            false => Err(self.why_not_now()),
        }
    }

    /// fjall takes no more changes. What to answer.
    pub(super) fn has_given_up(&self) -> KvError {
        if !self.given_up.swap(true, Ordering::AcqRel) {
            tracing::warn!("the journal's tables can't be written; they are opened again");
        }
        self.why_not_now()
    }

    /// A record of this sequence number, or a higher one, could not be written to its end, for want of space. What to
    /// answer. The caller may commit, and nobody else.
    pub(super) fn has_half_written(&self, sequence: u64) -> KvError {
        self.refused_from.lock().get_or_insert(sequence);
        self.reserve.met_with_quota();
        self.has_given_up()
    }

    /// Leaves in the log what was acknowledged.
    fn cut_log(&self) -> std::io::Result<()> {
        let refused_from = *self.refused_from.lock();
        match refused_from {
            Some(sequence) => torn::cut_off_from(&self.dir, sequence),
            None => Ok(()),
        }
    }

    /// Closes fjall, and takes away what it then writes of a record that was refused.
    fn close(&self, engine: &mut Option<Engine>, wal: &mut Wal) -> std::io::Result<()> {
        *engine = None;
        let refused_from = *self.refused_from.lock();
        if let Some(sequence) = refused_from {
            wal.let_go();
            self.ahead.lock().let_go();
            wal::await_closed(&self.dir)?;
            torn::cut_off_from(&self.dir, sequence)?;
            *self.refused_from.lock() = None;
        }
        Ok(())
    }

    /// What to answer while fjall takes no changes.
    pub(super) fn why_not_now(&self) -> KvError {
        match self.reserve.look() {
            Room::None => self.full(),
            _ => KvError::Unavailable("its tables are being opened again".to_owned()),
        }
    }

    pub(super) fn full(&self) -> KvError {
        KvError::Full(self.dir.display().to_string())
    }

    /// Opens fjall again, if it has given up and there is room. The caller has no transaction.
    pub(super) fn open_again(&self) {
        if !self.given_up.load(Ordering::Acquire) || self.check_poison().is_err() {
            return;
        }
        // Somebody else is at it: whoever comes back finds the outcome.
        let Some(mut last) = self.opened_again.try_lock() else {
            return;
        };
        if last.is_some_and(|last| last.elapsed() < AGAIN_AFTER)
            || self.reserve.look() == Room::None
        {
            return;
        }
        *last = Some(Instant::now());
        if let Err(error) = self.cut_log() {
            // As long as that needs more space than there is, everything can still be read.
            tracing::debug!(%error, "the end of the journal's log can't be cut off yet");
            return;
        }
        let mut wal = self.wal.lock();
        match wal.sync() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                self.poison(format!("syncing the log: {error}"));
                return;
            }
        }
        let Some(mut engine) = self.engine.try_write_for(TRANSACTIONS_END_MAX) else {
            return;
        };
        if let Err(error) = self.close(&mut engine, &mut wal) {
            tracing::error!(%error, "the end of the journal's log can't be cut off yet");
            return;
        }
        match Engine::open(&self.dir, &self.options) {
            Ok(opened) => {
                *engine = Some(opened);
                *wal = Wal::new(&self.dir);
                *self.ahead.lock() = Ahead::new(&self.dir);
                self.given_up.store(false, Ordering::Release);
                tracing::warn!("the journal has been opened again; nothing is lost");
            }
            Err(error) => tracing::error!(%error, "the journal can't be opened again yet"),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let engine = Arc::clone(&self.engine);
        // Whoever uses it keeps this alive as well.
        let Some(mut engine) = engine.try_write() else {
            return;
        };
        if let Err(error) = self.close(&mut engine, &mut self.wal.lock()) {
            tracing::error!(%error, "a change that was refused may be in the journal");
        }
    }
}
