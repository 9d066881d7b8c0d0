//! The store for one machine: fjall, a log-structured tree with a write-ahead log.
//!
//! # Commit
//!
//! One lock, the *writer permit*, is held while a transaction is applied; a [`Mode::Serial`]
//! transaction holds it from its beginning. Every commit is one fjall batch: one checksummed record
//! of the write-ahead log (all of it replayed, or none), handed to the operating system by one
//! `write` before `commit` returns (fjall's default for a batch, `PersistMode::Buffer`). So a
//! commit survives `kill -9` of the process at once, and a power cut after [`KvStore::sync`].
//!
//! # Sync
//!
//! One thread serves everybody who waits ([`committer`]): whoever asks while an fdatasync runs is
//! served by the next one, together with all the others. fjall's own `persist(SyncData)` holds the
//! log's mutex during the fdatasync, so that every commit would wait for the disk (2 ms and more);
//! therefore the log is synced through a descriptor of our own ([`wal`]), and neither readers nor
//! commits wait for it. (fjall itself still syncs under its mutex when it rotates or flushes: once
//! every [`EmbeddedOptions::memtable_bytes`].)
//!
//! # Poison
//!
//! When a write or a sync of the log fails, nobody can say what is on the disk: a later fsync that
//! succeeds proves nothing about pages that the kernel has dropped. So the store is *poisoned*: no
//! commit and no sync succeeds any more, reads still do. Opening it again replays what is there.
//!
//! # Full disks
//!
//! Short space is no failure of the disk. Blocks are allocated before a record is written ([`ahead`]), a
//! reserve is kept for when others have filled the disk ([`reserve`]), and should fjall still meet with a
//! full disk where it can't be kept from it, while it writes tables, it is opened again ([`engine`]).
//!
//! # Conflicts
//!
//! An [`Mode::Optimistic`] transaction remembers what it read; commits that happen while one is open
//! are remembered in a window of at most 5 s ([`window`]), and its commit compares the two. Without
//! open optimistic transactions nothing is remembered.
//!
//! # Memory
//!
//! `cache_bytes` (32 MiB) of blocks, and memtables of `memtable_bytes` (6 MiB): one active, usually
//! none or one being flushed, at most 4 more before fjall slows writers down. At most 62 MiB, about
//! 40 usually. The write-ahead log takes 64 MiB of disk in each of at most a few files.
//!
//! Lock order: the log's descriptor, the engine, the writer permit, then the window's mutex, then the watchers'
//! mutex; those of blocks ahead and of the reserve are innermost.

mod ahead;
mod committer;
mod engine;
mod overlay;
mod reserve;
mod torn;
mod transaction;
mod wal;
mod window;

use super::{KvError, KvStore, Mode, Transaction};
use ahead::Ahead;
use async_trait::async_trait;
use committer::Committer;
use engine::Engine;
use futures::future::BoxFuture;
use parking_lot::{ArcMutexGuard, Mutex, RawMutex, RwLock};
use reserve::{Reserve, Room};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::oneshot;
use transaction::EmbeddedTransaction;
use wal::Wal;
use window::Window;

const MIB: u64 = 1024 * 1024;

/// How much the embedded store may use.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Memory for blocks read from the disk.
    pub cache_bytes: u64,
    /// Size at which the table in memory is written to the disk.
    pub memtable_bytes: u64,
    /// Disk space of the write-ahead log beyond which tables are flushed early; at least 64 MiB.
    pub log_bytes_max: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> EmbeddedOptions {
        EmbeddedOptions {
            cache_bytes: 32 * MIB,
            memtable_bytes: 6 * MIB,
            log_bytes_max: 128 * MIB,
        }
    }
}

/// The store. Cloning gives another handle; the files are closed with the last one.
#[derive(Clone)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
    committer: Arc<Committer>,
}

/// The permission to commit.
type Permit = ArcMutexGuard<RawMutex, ()>;

/// What transactions, the committer thread and the handles share.
struct Inner {
    dir: PathBuf,
    options: EmbeddedOptions,
    /// None while fjall is closed, to be opened again.
    engine: Arc<RwLock<Option<Engine>>>,
    /// fjall takes no changes until it is opened again.
    given_up: AtomicBool,
    /// When that was last tried; held by whoever tries.
    opened_again: Mutex<Option<Instant>>,
    /// From which sequence number on what is in the log was refused, if anything was.
    refused_from: Mutex<Option<u64>>,
    /// The log's descriptor: of the committer, and for a moment of whoever opens fjall again.
    wal: Mutex<Wal>,
    ahead: Mutex<Ahead>,
    reserve: Reserve,
    /// Held by the one transaction that may be applied.
    writer: Arc<Mutex<()>>,
    window: Mutex<Window>,
    /// Number of commits begun. Others see what a commit wrote before it has returned and counts as
    /// `committed`; if they sync then, they mean that one, too.
    begun: AtomicU64,
    /// Number of commits; `durable` of them survive a power cut.
    committed: AtomicU64,
    durable: AtomicU64,
    poison: OnceLock<String>,
    watchers: Mutex<HashMap<Vec<u8>, Vec<oneshot::Sender<()>>>>,
    /// Number of keys in `watchers`, to skip its lock when there are none.
    watched: AtomicUsize,
}

impl EmbeddedStore {
    /// Gives up a part of what is kept for a full disk, of a store that is not open: there must be space for what
    /// comes before it. Whether there was any.
    pub fn give_up_reserve(dir: &Path) -> Result<bool, KvError> {
        reserve::give_up(dir).map_err(|error| KvError::Io {
            operation: "giving up the reserve",
            reason: format!("{}: {error}", dir.display()),
        })
    }

    /// Opens the store in `dir`, creating it when absent. Replays the write-ahead log.
    pub fn open(dir: &Path, options: EmbeddedOptions) -> Result<EmbeddedStore, KvError> {
        let failed = |reason: String| KvError::Io {
            operation: "opening",
            reason: format!("{}: {reason}", dir.display()),
        };
        let engine = Engine::open(dir, &options).map_err(|error| match error {
            fjall::Error::Locked => KvError::InUse(dir.display().to_string()),
            error => failed(error.to_string()),
        })?;
        let reserve = Reserve::open(dir).map_err(|error| failed(error.to_string()))?;
        let inner = Arc::new(Inner {
            dir: dir.to_owned(),
            options,
            engine: Arc::new(RwLock::new(Some(engine))),
            given_up: AtomicBool::new(false),
            opened_again: Mutex::default(),
            refused_from: Mutex::default(),
            wal: Mutex::new(Wal::new(dir)),
            ahead: Mutex::new(Ahead::new(dir)),
            reserve,
            writer: Arc::default(),
            window: Mutex::default(),
            // What was replayed may not be durable yet: the first sync must really sync.
            begun: AtomicU64::new(1),
            committed: AtomicU64::new(1),
            durable: AtomicU64::new(0),
            poison: OnceLock::new(),
            watchers: Mutex::default(),
            watched: AtomicUsize::new(0),
        });
        let committer = Arc::new(Committer::start(Arc::clone(&inner))?);
        Ok(EmbeddedStore { inner, committer })
    }
}

impl Inner {
    /// Makes sure that a batch whose rows take so much at most can be written.
    fn admit(&self, rows_bytes_max: u64) -> Result<(), KvError> {
        if self.given_up.load(Ordering::Acquire) {
            return Err(self.why_not_now());
        }
        if self.reserve.look() == Room::None {
            return Err(self.full());
        }
        let mut ahead = self.ahead.lock();
        let admitted = ahead.admit(rows_bytes_max);
        let admitted = match admitted {
            Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
                self.reserve.met_with_quota();
                ahead.admit(rows_bytes_max)
            }
            Err(_) if self.reserve.give_up_some() => ahead.admit(rows_bytes_max),
            admitted => admitted,
        };
        admitted.map_err(|_| self.full())
    }

    /// From now on nothing can be committed. Returns the error for whoever caused it.
    fn poison(&self, reason: String) -> KvError {
        tracing::error!(%reason, "the journal is poisoned: no more changes are accepted");
        KvError::Poisoned(self.poison.get_or_init(|| reason).clone())
    }

    fn check_poison(&self) -> Result<(), KvError> {
        match self.poison.get() {
            Some(reason) => Err(KvError::Poisoned(reason.clone())),
            None => Ok(()),
        }
    }

    /// Wakes those who watch a key that `is_written`.
    fn notify(&self, is_written: impl Fn(&[u8]) -> bool) {
        if self.watched.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut watchers = self.watchers.lock();
        watchers.retain(|key, waiting| {
            let written = is_written(key);
            if written {
                for waiter in waiting.drain(..) {
                    // Nobody waits any more: fine.
                    let _ = waiter.send(());
                }
            }
            !written
        });
        self.watched.store(watchers.len(), Ordering::Release);
    }
}

#[async_trait]
impl KvStore for EmbeddedStore {
    fn begin(&self, mode: Mode) -> Result<Box<dyn Transaction>, KvError> {
        Ok(Box::new(EmbeddedTransaction::begin(&self.inner, mode)?))
    }

    async fn sync(&self) -> Result<(), KvError> {
        self.inner.check_poison()?;
        let begun = self.inner.begun.load(Ordering::Acquire);
        if self.inner.durable.load(Ordering::Acquire) >= begun {
            return Ok(());
        }
        self.committer.sync().await
    }

    fn watch(&self, key: &[u8]) -> BoxFuture<'static, Result<(), KvError>> {
        let (sender, receiver) = oneshot::channel();
        let mut watchers = self.inner.watchers.lock();
        watchers.entry(key.to_vec()).or_default().push(sender);
        self.inner.watched.store(watchers.len(), Ordering::Release);
        drop(watchers);
        Box::pin(async move {
            // A store that is closed changes nothing more, but waiting for ever helps nobody.
            let _ = receiver.await;
            Ok(())
        })
    }

    fn poisoned(&self) -> Option<String> {
        self.inner.poison.get().cloned()
    }

    fn is_short_of_space(&self) -> bool {
        self.inner.reserve.look() != Room::Plenty
    }

    fn has_unknown_outcomes(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn open() -> (tempfile::TempDir, EmbeddedStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), EmbeddedOptions::default()).unwrap();
        (dir, store)
    }

    async fn set(store: &EmbeddedStore, key: &[u8]) -> Result<(), KvError> {
        let mut txn = store.begin(Mode::Serial)?;
        txn.set(key, Vec::new());
        txn.commit().await
    }

    #[tokio::test]
    async fn a_poisoned_store_can_be_read_and_nothing_else() {
        let (_dir, store) = open();
        set(&store, b"a").await.unwrap();
        store.inner.poison("the disk is on fire".into());
        store.inner.poison("and so is the house".into());
        assert!(matches!(set(&store, b"b").await, Err(KvError::Poisoned(_))));
        assert!(matches!(store.sync().await, Err(KvError::Poisoned(_))));
        assert_eq!(store.poisoned().unwrap(), "the disk is on fire");
        let mut txn = store.begin(Mode::Read).unwrap();
        assert!(txn.get(b"a", false).await.unwrap().is_some());
    }

    /// The folder of tables is taken away: fjall's thread that writes one ends.
    #[tokio::test]
    async fn tables_that_could_not_be_written_are_opened_again_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("journal");
        let options = EmbeddedOptions {
            memtable_bytes: MIB,
            ..EmbeddedOptions::default()
        };
        let store = EmbeddedStore::open(&journal, options).unwrap();
        let tables = tables_of(&journal);
        let aside = dir.path().join("aside");
        std::fs::rename(&tables, &aside).unwrap();
        let mut kept = Vec::new();
        let mut refused = 0;
        for number in 0_u64..20_000 {
            if refused == 1 && aside.exists() {
                std::fs::rename(&aside, &tables).unwrap();
            }
            let mut txn = store.begin(Mode::Serial).unwrap();
            txn.set(&number.to_be_bytes(), vec![7; 300]);
            match txn.commit().await {
                Ok(()) => kept.push(number),
                Err(KvError::Unavailable(_)) => {
                    refused += 1;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => panic!("{error}"),
            }
            if refused > 0 && kept.last() == Some(&number) {
                break;
            }
        }
        assert!(refused > 0, "fjall did not notice");
        store.sync().await.unwrap();
        set(&store, b"after").await.unwrap();
        let check = async |store: &EmbeddedStore| {
            let mut txn = store.begin(Mode::Read).unwrap();
            for number in &kept {
                let value = txn.get(&number.to_be_bytes(), true).await.unwrap();
                assert_eq!(value, Some(vec![7; 300]), "{number}");
            }
        };
        check(&store).await;
        drop(store);
        check(&EmbeddedStore::open(&journal, EmbeddedOptions::default()).unwrap()).await;
    }

    fn tables_of(journal: &Path) -> PathBuf {
        let keyspaces = std::fs::read_dir(journal.join("keyspaces")).unwrap();
        let mut tables: Vec<_> = keyspaces
            .map(|keyspace| keyspace.unwrap().path().join("tables"))
            .filter(|tables| tables.exists())
            .collect();
        tables.sort();
        tables.pop().expect("a folder of tables")
    }

    #[tokio::test]
    async fn a_sync_with_nothing_new_does_not_wait_for_the_disk() {
        let (_dir, store) = open();
        set(&store, b"a").await.unwrap();
        store.sync().await.unwrap();
        let again = futures::FutureExt::now_or_never(store.sync());
        again.expect("it waited").unwrap();
        set(&store, b"b").await.unwrap();
        assert!(
            store.inner.durable.load(Ordering::Acquire)
                < store.inner.committed.load(Ordering::Acquire)
        );
    }

    /// What a commit wrote can be read a moment before the commit returns.
    #[tokio::test]
    async fn a_sync_covers_a_commit_that_has_not_returned_yet() {
        let (_dir, store) = open();
        set(&store, b"a").await.unwrap();
        store.sync().await.unwrap();
        store.inner.begun.fetch_add(1, Ordering::AcqRel);
        let at_once = futures::FutureExt::now_or_never(store.sync());
        assert!(at_once.is_none(), "it did not sync");
    }

    #[tokio::test]
    async fn whoever_waits_for_a_change_is_not_left_waiting() {
        let (_dir, store) = open();
        let watch = store.watch(b"a");
        set(&store, b"b").await.unwrap();
        set(&store, b"a").await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), watch)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(store.inner.watched.load(Ordering::Acquire), 0);
    }
}
