//! Trying a transaction until its outcome is known.
//!
//! A body may run several times, so it does nothing but read and write through its [`Txn`]. It runs
//! again after a conflict, with backoff; after an *unknown outcome* (the connection broke during the
//! commit) it must not run again if it was applied, or a name would be created twice and the second
//! time refused.
//!
//! That is decided by an *operation row*. Each attempt of a mutating transaction has a random
//! 128-bit id, reads the row of its slot, and writes its id there together with its other changes. If
//! the outcome is unknown, the next attempt finds the id there (the attempt was applied: its answer is
//! kept and given now) or not (it was not, and never will be: both attempts read and write the same
//! row, so at most one of them commits). A slot belongs to one operation at a time, so rows never
//! mix and their number stays at the number of operations that ever ran at once.
//!
//! The embedded store always knows its outcomes; there the row is left out.

use crate::kv::{KvError, Mode};
use crate::shared::Shared;
use crate::txn::Txn;
use crate::{Error, keys};
use rand::RngExt;
use std::time::Duration;
use tokio::time::Instant;

/// Of transactions that met with others: about 5 seconds with the pauses below, FoundationDB's life of a transaction.
const ATTEMPTS_MAX: u32 = 30;
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(250);

type OpId = [u8; 16];

/// The attempts of one operation whose answer is `T`.
pub(crate) struct Attempts<'j, T> {
    shared: &'j Shared,
    mode: Mode,
    tried: u32,
    /// When it was begun; on a store that is always there, when it first failed.
    since: Option<Instant>,
    slot: Option<u32>,
    /// Attempts that may have been applied: id, answer, change of the number of unsynced rows.
    unknown: Vec<(OpId, T, i64)>,
}

/// How an attempt begins.
pub(crate) enum Begun<'j, T> {
    /// With an empty transaction.
    Txn(Txn<'j>),
    /// It need not: an earlier one was applied after all.
    Decided(T),
}

/// How an attempt ends.
pub(crate) enum Step<T> {
    Done(Result<T, Error>),
    Again,
}

impl<'j, T> Attempts<'j, T> {
    pub(crate) fn new(shared: &'j Shared, mode: Mode) -> Attempts<'j, T> {
        Attempts {
            shared,
            mode,
            tried: 0,
            since: shared.store.has_unknown_outcomes().then(Instant::now),
            slot: None,
            unknown: Vec::new(),
        }
    }

    fn operation_row(&mut self) -> Option<Vec<u8>> {
        if self.mode == Mode::Read || !self.shared.store.has_unknown_outcomes() {
            return None;
        }
        let slot = *self
            .slot
            .get_or_insert_with(|| self.shared.slots.lock().take());
        Some(keys::operation(self.shared.node, slot))
    }

    /// Starts an attempt.
    pub(crate) async fn begin(&mut self) -> Result<Begun<'j, T>, Error> {
        loop {
            match self.try_begin().await {
                Err(Error::Store(error)) if error.is_retryable() => self.pause(error).await?,
                other => return other,
            }
        }
    }

    async fn try_begin(&mut self) -> Result<Begun<'j, T>, Error> {
        if self.mode != Mode::Read {
            self.shared.refill().await?;
        }
        let mut txn = Txn::new(self.shared.store.begin(self.mode)?, self.shared);
        if let Some(row) = self.operation_row()
            && let Some(id) = txn.kv.get(&row, false).await?
            && let Some(at) = self.unknown.iter().position(|(own, _, _)| own[..] == id)
        {
            let (_, answer, delta) = self.unknown.swap_remove(at);
            self.shared.count_unsynced(delta);
            return Ok(Begun::Decided(answer));
        }
        Ok(Begun::Txn(txn))
    }

    /// Commits an attempt whose body succeeded and changed something.
    pub(crate) async fn end(&mut self, mut txn: Txn<'j>, outcome: Result<T, Error>) -> Step<T> {
        let answer = match outcome {
            Ok(answer) => answer,
            Err(Error::Store(error)) if error.is_retryable() => {
                drop(txn);
                return self.again(error).await;
            }
            Err(error) => return Step::Done(Err(error)),
        };
        if !txn.is_changed() {
            return Step::Done(Ok(answer));
        }
        let id: OpId = match self.operation_row() {
            Some(row) => {
                let id = rand::rng().random();
                txn.kv.set(&row, Vec::from(id));
                id
            }
            None => OpId::default(),
        };
        let delta = txn.unsynced_delta;
        let committed = {
            let _point = killpoints::around("journal commit");
            txn.kv.commit().await
        };
        match committed {
            Ok(()) => {
                self.shared.count_unsynced(delta);
                Step::Done(Ok(answer))
            }
            Err(error) if error.is_retryable() => {
                if matches!(error, KvError::UnknownOutcome) {
                    self.unknown.push((id, answer, delta));
                }
                self.again(error).await
            }
            Err(error) => Step::Done(Err(error.into())),
        }
    }

    async fn again(&mut self, error: KvError) -> Step<T> {
        match self.pause(error).await {
            Ok(()) => Step::Again,
            Err(error) => Step::Done(Err(error)),
        }
    }

    /// Waits before the next attempt, or gives up.
    async fn pause(&mut self, error: KvError) -> Result<(), Error> {
        self.tried += 1;
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        match error {
            KvError::Conflict if self.tried >= ATTEMPTS_MAX => {
                let attempts = self.tried;
                return Err(Error::Contention { attempts });
            }
            KvError::TooOld if self.tried >= ATTEMPTS_MAX => return Err(error.into()),
            KvError::Conflict | KvError::TooOld => {}
            // The store is away.
            _ if waited >= self.shared.patience() => return Err(error.into()),
            _ => {}
        }
        let longest = PAUSE_MIN
            .saturating_mul(1 << self.tried.min(10))
            .min(PAUSE_MAX);
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        let pause = rand::rng().random_range(micros / 2..=micros);
        tokio::time::sleep(Duration::from_micros(pause)).await;
        Ok(())
    }
}

impl<T> Drop for Attempts<'_, T> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.shared.slots.lock().give_back(slot);
        }
    }
}

/// Runs a body, a future that borrows the transaction, until its outcome is known.
macro_rules! run {
    ($journal:expr, $mode:expr, $txn:ident => $body:expr) => {{
        let mut attempts = crate::attempts::Attempts::new(&$journal.shared, $mode);
        loop {
            let mut txn = match attempts.begin().await? {
                crate::attempts::Begun::Txn(txn) => txn,
                crate::attempts::Begun::Decided(answer) => break Ok(answer),
            };
            let outcome = {
                let $txn = &mut txn;
                $body.await
            };
            match attempts.end(txn, outcome).await {
                crate::attempts::Step::Done(outcome) => break outcome,
                crate::attempts::Step::Again => {}
            }
        }
    }};
}

/// A mutating transaction.
macro_rules! transact {
    ($journal:expr, $txn:ident => $body:expr) => {
        crate::attempts::run!($journal, crate::kv::Mode::Serial, $txn => $body)
    };
}

/// Reads of one version.
macro_rules! look {
    ($journal:expr, $txn:ident => $body:expr) => {
        crate::attempts::run!($journal, crate::kv::Mode::Read, $txn => $body)
    };
}

pub(crate) use {look, run, transact};
