//! One transaction of the embedded store.

use super::ahead::row_bytes_max;
use super::engine::{Engine, Using};
use super::overlay::{Known, Overlay, Write, add};
use super::reserve::is_no_space;
use super::window::{ReadSet, Verdict, WriteSet};
use super::{Inner, Permit};
use crate::kv::limits::{self, TRANSACTION_AGE_MAX};
use crate::kv::{KvError, Mode, Range, Row, Transaction};
use async_trait::async_trait;
use fjall::{PersistMode, Readable, Snapshot};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What protects the transaction from others.
enum Guard {
    /// Nothing: it must not write.
    Reader,
    /// What it read since this version is compared at commit.
    Optimist { version: u64, reads: ReadSet },
    /// Nobody else can commit.
    Serial(#[expect(dead_code, reason = "held, not used")] Permit),
}

pub(super) struct EmbeddedTransaction {
    guard: Guard,
    snapshot: Snapshot,
    // After the snapshot: it is of this engine.
    using: Using,
    started: Instant,
    writes: Overlay,
    // Last: when it goes, nobody may use its engine any more.
    inner: Arc<Inner>,
}

impl EmbeddedTransaction {
    pub(super) fn begin(inner: &Arc<Inner>, mode: Mode) -> Result<EmbeddedTransaction, KvError> {
        let using = inner.using()?;
        let guard = match mode {
            Mode::Read => Guard::Reader,
            Mode::Optimistic => Guard::Optimist {
                version: inner.window.lock().enter(),
                reads: ReadSet::default(),
            },
            Mode::Serial => Guard::Serial(inner.writer.lock_arc()),
        };
        Ok(EmbeddedTransaction {
            snapshot: engine_of(&using)?.db.snapshot(),
            using,
            inner: Arc::clone(inner),
            guard,
            started: Instant::now(),
            writes: Overlay::default(),
        })
    }

    fn check_age(&self) -> Result<(), KvError> {
        if self.started.elapsed() > TRANSACTION_AGE_MAX {
            return Err(KvError::TooOld);
        }
        Ok(())
    }

    fn note_read(&mut self, key: &[u8]) {
        if let Guard::Optimist { reads, .. } = &mut self.guard {
            reads.keys.push(key.to_vec());
        }
    }

    fn note_range(&mut self, begin: &[u8], end: &[u8]) {
        if let Guard::Optimist { reads, .. } = &mut self.guard {
            reads.ranges.push((begin.to_vec(), end.to_vec()));
        }
    }

    fn stored(&self, key: &[u8]) -> Result<Option<fjall::UserValue>, KvError> {
        self.snapshot
            .get(&engine_of(&self.using)?.rows, key)
            .map_err(|error| reading(&error))
    }

    /// Applies the writes. The caller holds the permit.
    fn apply(&mut self) -> Result<(), KvError> {
        let inner = &self.inner;
        inner.check_poison()?;
        let Engine { db, rows } = engine_of(&self.using)?;
        let mut bytes_max = 0;
        let mut removed: BTreeSet<Vec<u8>> = BTreeSet::new();
        for (begin, end) in &self.writes.cleared {
            for guard in rows.range::<&[u8], _>(begin.as_slice()..end.as_slice()) {
                let key = guard.key().map_err(|error| reading(&error))?;
                if !self.writes.points.contains_key(&*key) {
                    removed.insert(key.to_vec());
                }
            }
        }
        let mut batch = fjall::OwnedWriteBatch::with_capacity(
            db.clone(),
            self.writes.points.len() + removed.len(),
        )
        .durability(Some(PersistMode::Buffer));
        for key in removed {
            bytes_max += row_bytes_max(&key, &[]);
            batch.remove(rows, key);
        }
        // The values move into the batch; the keys stay for the window.
        for (key, write) in &mut self.writes.points {
            match write {
                Write::Set(value) => {
                    bytes_max += row_bytes_max(key, value);
                    batch.insert(rows, key.as_slice(), std::mem::take(value));
                }
                Write::Clear => {
                    bytes_max += row_bytes_max(key, &[]);
                    batch.remove(rows, key.as_slice());
                }
                Write::Add(delta) => {
                    let base = rows.get(key.as_slice()).map_err(|error| reading(&error))?;
                    let sum = add(base.as_deref(), *delta);
                    bytes_max += row_bytes_max(key, &sum);
                    batch.insert(rows, key.as_slice(), sum);
                }
            }
        }
        inner.admit(bytes_max)?;
        // Before others can see it; see `Inner::begun`.
        inner.begun.fetch_add(1, Ordering::AcqRel);
        let sequence = db.seqno();
        batch.commit().map_err(|error| match error {
            // Said before anything is written.
            fjall::Error::Poisoned => {
                inner.begun.fetch_sub(1, Ordering::AcqRel);
                inner.has_given_up()
            }
            fjall::Error::Io(error) if is_no_space(&error) => {
                inner.begun.fetch_sub(1, Ordering::AcqRel);
                inner.has_half_written(sequence)
            }
            error => inner.poison(format!("writing the log: {error}")),
        })?;
        inner.committed.fetch_add(1, Ordering::AcqRel);
        let writes = &mut self.writes;
        inner.notify(|key| writes.points.contains_key(key) || writes.is_cleared(key));
        inner.window.lock().record(|| WriteSet {
            keys: std::mem::take(&mut writes.points).into_keys().collect(),
            ranges: std::mem::take(&mut writes.cleared),
        });
        Ok(())
    }

    fn commit_now(&mut self) -> Result<(), KvError> {
        self.writes.check()?;
        if self.writes.is_empty() {
            return Ok(());
        }
        self.check_age()?;
        let inner = Arc::clone(&self.inner);
        match &self.guard {
            Guard::Reader => Err(KvError::Limit("writing in a transaction that only reads")),
            Guard::Serial(_) => self.apply(),
            Guard::Optimist { version, reads } => {
                let _permit = inner.writer.lock();
                let verdict = inner.window.lock().judge(*version, reads);
                match verdict {
                    Verdict::Apply => self.apply(),
                    Verdict::Conflict => Err(KvError::Conflict),
                    Verdict::TooOld => Err(KvError::TooOld),
                }
            }
        }
    }
}

fn engine_of(using: &Using) -> Result<&Engine, KvError> {
    // `Inner::using` gives none without.
    using
        .as_ref()
        .ok_or_else(|| KvError::Unavailable("it is closed".to_owned()))
}

fn reading(error: &fjall::Error) -> KvError {
    KvError::Io {
        operation: "reading",
        reason: error.to_string(),
    }
}

impl Drop for EmbeddedTransaction {
    fn drop(&mut self) {
        if let Guard::Optimist { .. } = self.guard {
            self.inner.window.lock().leave();
        }
    }
}

#[async_trait]
impl Transaction for EmbeddedTransaction {
    async fn get(&mut self, key: &[u8], snapshot: bool) -> Result<Option<Vec<u8>>, KvError> {
        limits::check_key(key)?;
        if let Known::Value(value) = self.writes.get(key) {
            return Ok(value.map(<[u8]>::to_vec));
        }
        if !snapshot {
            self.note_read(key);
        }
        let stored = self.stored(key)?;
        Ok(match self.writes.get(key) {
            Known::Plus(delta) => Some(add(stored.as_deref(), delta)),
            _ => stored.map(|value| value.to_vec()),
        })
    }

    async fn range(&mut self, range: Range<'_>, snapshot: bool) -> Result<Vec<Row>, KvError> {
        self.check_age()?;
        limits::check_key(range.begin)?;
        limits::check_key(range.end)?;
        if range.begin >= range.end || range.limit == 0 {
            return Ok(Vec::new());
        }
        let stored = self
            .snapshot
            .range::<&[u8], _>(&engine_of(&self.using)?.rows, range.begin..range.end);
        let row = |guard: fjall::Guard| {
            guard
                .into_inner()
                .map(|(key, value)| (key.to_vec(), value.to_vec()))
                .map_err(|error| reading(&error))
        };
        let rows = if range.reverse {
            self.writes.merge(&range, stored.rev().map(row))?
        } else {
            self.writes.merge(&range, stored.map(row))?
        };
        if !snapshot {
            // What lies beyond a limit that was reached was not read.
            match rows.last() {
                Some((last, _)) if rows.len() == range.limit && range.reverse => {
                    self.note_range(last, range.end);
                }
                Some((last, _)) if rows.len() == range.limit => {
                    let mut after = last.clone();
                    after.push(0);
                    self.note_range(range.begin, &after);
                }
                _ => self.note_range(range.begin, range.end),
            }
        }
        Ok(rows)
    }

    fn set(&mut self, key: &[u8], value: Vec<u8>) {
        self.writes.set(key, value);
    }

    fn clear(&mut self, key: &[u8]) {
        self.writes.clear(key);
    }

    fn clear_range(&mut self, begin: &[u8], end: &[u8]) {
        self.writes.clear_range(begin, end);
    }

    fn atomic_add(&mut self, key: &[u8], delta: i64) {
        self.writes.atomic_add(key, delta);
    }

    async fn commit(mut self: Box<Self>) -> Result<(), KvError> {
        let committed = self.commit_now();
        if let Err(KvError::Unavailable(_) | KvError::Full(_)) = committed {
            let inner = Arc::clone(&self.inner);
            drop(self);
            inner.open_again();
        }
        committed
    }
}
