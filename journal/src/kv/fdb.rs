//! The store for many machines: FoundationDB.
//!
//! Everything lives below one key prefix, so that several file systems share a cluster. Every
//! transaction has a timeout of 5 s: without one, a client waits for an unreachable cluster for ever.
//! A commit that FoundationDB acknowledged is on the disks of several machines, so
//! [`KvStore::sync`] has nothing to do.
//!
//! A commit may end with an *unknown outcome*: the connection broke, or the timeout came, between the
//! request and the answer. [`KvStore::has_unknown_outcomes`] tells the journal to leave an operation
//! row in every transaction and to decide by it.
//!
//! The client's network thread is started by the first store of the process and can't be started
//! twice; a program calls [`stop_network`] once before it exits.

use super::limits::{self, TRANSACTION_AGE_MAX};
use super::{KvError, KvStore, Mode, Range, Row, Transaction};
use async_trait::async_trait;
use foundationdb::api::{FdbApiBuilder, NetworkAutoStop};
use foundationdb::options::{MutationType, StreamingMode, TransactionOption};
use foundationdb::{Database, FdbError, KeySelector, RangeOption};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// Codes of FoundationDB's errors that the predicates of its client don't sort for us.
mod code {
    pub(super) const TRANSACTION_TOO_OLD: i32 = 1007;
    pub(super) const NOT_COMMITTED: i32 = 1020;
    pub(super) const TRANSACTION_CANCELLED: i32 = 1025;
    pub(super) const TRANSACTION_TIMED_OUT: i32 = 1031;
    pub(super) const TRANSACTION_TOO_LARGE: i32 = 2101;
    pub(super) const KEY_TOO_LARGE: i32 = 2102;
    pub(super) const VALUE_TOO_LARGE: i32 = 2103;
}

/// Which cluster, and where in it.
#[derive(Clone, Debug, Default)]
pub struct FdbOptions {
    /// The cluster file; by default the one that FoundationDB's own tools use.
    pub cluster_file: Option<PathBuf>,
    /// What every key starts with.
    pub prefix: Vec<u8>,
}

/// The client's network thread, once it was started; its second state is over.
enum Network {
    Idle,
    Running(#[expect(dead_code, reason = "stops the thread when dropped")] NetworkAutoStop),
    Stopped,
}

static NETWORK: Mutex<Network> = Mutex::new(Network::Idle);

fn start_network() -> Result<(), KvError> {
    let failed = |reason: String| KvError::Io {
        operation: "starting the FoundationDB client",
        reason,
    };
    let mut network = NETWORK.lock();
    match *network {
        Network::Running(_) => Ok(()),
        Network::Stopped => Err(failed("it was stopped already".into())),
        Network::Idle => {
            let builder = FdbApiBuilder::default()
                .build()
                .map_err(|error| failed(error.to_string()))?;
            // SAFETY: `boot` must be called at most once per process, which the state under the lock
            // ensures, and its guard must be dropped before the process ends, for which
            // `stop_network` exists.
            let guard = unsafe { builder.boot() }.map_err(|error| failed(error.to_string()))?;
            *network = Network::Running(guard);
            Ok(())
        }
    }
}

/// Stops the client's network thread for good. To be called once, before the process ends and after
/// the last use of a store.
pub fn stop_network() {
    *NETWORK.lock() = Network::Stopped;
}

/// The store. Cloning gives another handle.
#[derive(Clone)]
pub struct FdbStore {
    database: Arc<Database>,
    prefix: Arc<[u8]>,
}

impl FdbStore {
    /// Connects to a cluster. Succeeds even if the cluster can't be reached now: then transactions
    /// fail after their timeout.
    pub fn open(options: FdbOptions) -> Result<FdbStore, KvError> {
        start_network()?;
        let opening = |reason: String| KvError::Io {
            operation: "opening",
            reason,
        };
        let path = match &options.cluster_file {
            Some(path) => Some(
                path.to_str()
                    .ok_or_else(|| opening("the path of the cluster file isn't UTF-8".into()))?,
            ),
            None => None,
        };
        let database = Database::new(path).map_err(|error| opening(error.to_string()))?;
        Ok(FdbStore {
            database: Arc::new(database),
            prefix: options.prefix.into(),
        })
    }

    fn begin_inner(&self) -> Result<FdbTransaction, KvError> {
        let inner = self.database.create_trx().map_err(reading)?;
        let timeout_ms = i32::try_from(TRANSACTION_AGE_MAX.as_millis()).unwrap_or(i32::MAX);
        inner
            .set_option(TransactionOption::Timeout(timeout_ms))
            .map_err(reading)?;
        Ok(FdbTransaction {
            inner,
            prefix: Arc::clone(&self.prefix),
            writes: false,
            exceeded: None,
        })
    }
}

/// What an error means that came before the commit.
fn reading(error: FdbError) -> KvError {
    match error.code() {
        code::TRANSACTION_TOO_OLD => KvError::TooOld,
        code::NOT_COMMITTED => KvError::Conflict,
        code::TRANSACTION_TIMED_OUT => {
            KvError::Unavailable("no answer from FoundationDB within 5 seconds".into())
        }
        code::TRANSACTION_TOO_LARGE | code::KEY_TOO_LARGE | code::VALUE_TOO_LARGE => {
            KvError::Limit("a key, a value or a transaction that FoundationDB refuses")
        }
        _ if error.is_retryable() => KvError::Unavailable(error.message().into()),
        _ => KvError::Io {
            operation: "reading",
            reason: error.message().into(),
        },
    }
}

/// What an error of a commit means: where the transaction may have been applied, it says so.
fn committing(error: FdbError) -> KvError {
    let is_unknown = error.is_maybe_committed()
        || matches!(
            error.code(),
            code::TRANSACTION_TIMED_OUT | code::TRANSACTION_CANCELLED
        );
    match is_unknown {
        true => KvError::UnknownOutcome,
        false => reading(error),
    }
}

#[async_trait]
impl KvStore for FdbStore {
    fn begin(&self, _mode: Mode) -> Result<Box<dyn Transaction>, KvError> {
        Ok(Box::new(self.begin_inner()?))
    }

    async fn sync(&self) -> Result<(), KvError> {
        Ok(())
    }

    fn watch(&self, key: &[u8]) -> BoxFuture<'static, Result<(), KvError>> {
        let store = self.clone();
        let key = key.to_vec();
        Box::pin(async move {
            let txn = store.begin_inner()?;
            let watch = txn.inner.watch(&txn.at(&key));
            // Sets the watch; there is nothing to apply.
            if let Err(error) = txn.inner.commit().await {
                return Err(committing(FdbError::from(error)));
            }
            watch.await.map_err(reading)
        })
    }

    fn poisoned(&self) -> Option<String> {
        None
    }

    fn has_unknown_outcomes(&self) -> bool {
        true
    }
}

struct FdbTransaction {
    inner: foundationdb::Transaction,
    prefix: Arc<[u8]>,
    writes: bool,
    exceeded: Option<KvError>,
}

impl FdbTransaction {
    /// Where a key is in the cluster.
    fn at(&self, key: &[u8]) -> Vec<u8> {
        let mut at = Vec::with_capacity(self.prefix.len() + key.len());
        at.extend_from_slice(&self.prefix);
        at.extend_from_slice(key);
        at
    }

    /// Remembers the first limit that a write exceeds; commit reports it.
    fn check(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.writes = true;
        match limits::check_key(key).and_then(|()| limits::check_value(value)) {
            Ok(()) => true,
            Err(error) => {
                self.exceeded.get_or_insert(error);
                false
            }
        }
    }
}

#[async_trait]
impl Transaction for FdbTransaction {
    async fn get(&mut self, key: &[u8], snapshot: bool) -> Result<Option<Vec<u8>>, KvError> {
        limits::check_key(key)?;
        let read = self.inner.get(&self.at(key), snapshot);
        let value = read.await.map_err(reading)?;
        Ok(value.map(|value| value.to_vec()))
    }

    async fn range(&mut self, range: Range<'_>, snapshot: bool) -> Result<Vec<Row>, KvError> {
        limits::check_key(range.begin)?;
        limits::check_key(range.end)?;
        let mut rows: Vec<Row> = Vec::new();
        if range.begin >= range.end || range.limit == 0 {
            return Ok(rows);
        }
        let (begin, end) = (self.at(range.begin), self.at(range.end));
        let mut option = RangeOption {
            begin: KeySelector::first_greater_or_equal(begin),
            end: KeySelector::first_greater_or_equal(end),
            limit: Some(range.limit),
            reverse: range.reverse,
            mode: StreamingMode::WantAll,
            ..RangeOption::default()
        };
        let mut iteration = 1;
        loop {
            let read = self.inner.get_range(&option, iteration, snapshot);
            let page = read.await.map_err(reading)?;
            rows.extend(page.iter().map(|row| {
                let key = row.key().get(self.prefix.len()..).unwrap_or_default();
                (key.to_vec(), row.value().to_vec())
            }));
            if rows.len() >= range.limit {
                return Ok(rows);
            }
            match option.next_range(&page) {
                Some(next) => option = next,
                None => return Ok(rows),
            }
            iteration += 1;
        }
    }

    fn set(&mut self, key: &[u8], value: Vec<u8>) {
        if self.check(key, &value) {
            self.inner.set(&self.at(key), &value);
        }
    }

    fn clear(&mut self, key: &[u8]) {
        if self.check(key, &[]) {
            self.inner.clear(&self.at(key));
        }
    }

    fn clear_range(&mut self, begin: &[u8], end: &[u8]) {
        if begin < end && self.check(begin, &[]) && self.check(end, &[]) {
            self.inner.clear_range(&self.at(begin), &self.at(end));
        }
    }

    fn atomic_add(&mut self, key: &[u8], delta: i64) {
        if self.check(key, &[]) {
            let delta = delta.to_le_bytes();
            self.inner
                .atomic_op(&self.at(key), &delta, MutationType::Add);
        }
    }

    async fn commit(mut self: Box<Self>) -> Result<(), KvError> {
        if let Some(error) = self.exceeded.take() {
            return Err(error);
        }
        if !self.writes {
            return Ok(());
        }
        match self.inner.commit().await {
            Ok(_) => Ok(()),
            Err(error) => Err(committing(FdbError::from(error))),
        }
    }
}
