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

mod error;
mod network;
mod reach;
mod transaction;

pub use network::stop_network;

use super::limits::TRANSACTION_AGE_MAX;
use super::{KvError, KvStore, Mode, Transaction};
use async_trait::async_trait;
use error::{committing, reading};
use foundationdb::options::TransactionOption;
use foundationdb::{Database, FdbError};
use futures::future::BoxFuture;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use transaction::FdbTransaction;

/// Which cluster, and where in it.
#[derive(Clone, Debug)]
pub struct FdbOptions {
    /// The cluster file, such as `/etc/foundationdb/fdb.cluster`. The client keeps it up to date.
    pub cluster_file: PathBuf,
    /// What every key starts with.
    pub prefix: Vec<u8>,
}

/// The store. Cloning gives another handle.
#[derive(Clone)]
pub struct FdbStore {
    database: Arc<Database>,
    cluster_file: Arc<Path>,
    prefix: Arc<[u8]>,
}

impl FdbStore {
    /// Connects to a cluster. Succeeds even if the cluster can't be reached now ([`FdbStore::reach`] tells): then
    /// transactions fail after their timeout.
    pub fn open(options: FdbOptions) -> Result<FdbStore, KvError> {
        network::start_network()?;
        let opening = |reason: String| KvError::Io {
            operation: "opening",
            reason,
        };
        let cluster_file = options.cluster_file;
        // The client would say only that it found none.
        if let Err(error) = std::fs::read(&cluster_file) {
            let file = cluster_file.display();
            return Err(opening(format!("the cluster file {file}: {error}")));
        }
        let path = cluster_file
            .to_str()
            .ok_or_else(|| opening("the path of the cluster file isn't UTF-8".into()))?;
        let database = Database::new(Some(path)).map_err(|error| opening(error.to_string()))?;
        Ok(FdbStore {
            database: Arc::new(database),
            cluster_file: cluster_file.into(),
            prefix: options.prefix.into(),
        })
    }

    fn begin_inner(&self) -> Result<FdbTransaction, KvError> {
        let inner = self.database.create_trx().map_err(reading)?;
        let timeout_ms = i32::try_from(TRANSACTION_AGE_MAX.as_millis()).unwrap_or(i32::MAX);
        inner
            .set_option(TransactionOption::Timeout(timeout_ms))
            .map_err(reading)?;
        Ok(FdbTransaction::new(inner, Arc::clone(&self.prefix)))
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

    fn is_shared(&self) -> bool {
        true
    }

    fn has_unknown_outcomes(&self) -> bool {
        true
    }
}
