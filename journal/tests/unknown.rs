//! Commits whose outcome is unknown, and conflicts: each operation is applied exactly once.
//!
//! The store under test is the embedded one behind a shim that answers some commits with an error,
//! after applying them or not, as a cluster does when a connection breaks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected must fail"
)]

mod common;

use async_trait::async_trait;
use common::{at, identity, names, new};
use futures::future::BoxFuture;
use journal::kv::{
    EmbeddedOptions, EmbeddedStore, KvError, KvStore, Mode, Range, Row, Transaction,
};
use journal::{Error, Ino, Journal, Kind, RenameMode};
use rand::RngExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

const ROOT: Ino = Ino::ROOT;

/// How often a commit goes wrong, in percent.
#[derive(Clone, Copy)]
struct Faults {
    applied_but_unknown: u32,
    lost_and_unknown: u32,
    conflict: u32,
}

struct Shim {
    store: EmbeddedStore,
    faults: Faults,
    /// It answers again after that; a try takes as long as FoundationDB's.
    away_until: Arc<Mutex<Option<Instant>>>,
}

/// How long it takes to notice that nobody answers.
const NOTICED: Duration = Duration::from_secs(5);

struct ShimTransaction {
    inner: Box<dyn Transaction>,
    faults: Faults,
    away_until: Arc<Mutex<Option<Instant>>>,
}

impl ShimTransaction {
    async fn reach(&mut self) -> Result<(), KvError> {
        let until = *self.away_until.lock().unwrap();
        match until.filter(|until| *until > Instant::now()) {
            None => Ok(()),
            Some(until) => {
                tokio::time::sleep_until(until.min(Instant::now() + NOTICED)).await;
                Err(KvError::Unavailable("nobody answers".into()))
            }
        }
    }
}

#[async_trait]
impl KvStore for Shim {
    fn begin(&self, mode: Mode) -> Result<Box<dyn Transaction>, KvError> {
        // As on a cluster, nothing is serial.
        let mode = match mode {
            Mode::Serial => Mode::Optimistic,
            other => other,
        };
        Ok(Box::new(ShimTransaction {
            inner: self.store.begin(mode)?,
            faults: self.faults,
            away_until: Arc::clone(&self.away_until),
        }))
    }

    async fn sync(&self) -> Result<(), KvError> {
        self.store.sync().await
    }

    fn watch(&self, key: &[u8]) -> BoxFuture<'static, Result<(), KvError>> {
        self.store.watch(key)
    }

    fn poisoned(&self) -> Option<String> {
        self.store.poisoned()
    }

    fn has_unknown_outcomes(&self) -> bool {
        true
    }
}

#[async_trait]
impl Transaction for ShimTransaction {
    async fn get(&mut self, key: &[u8], snapshot: bool) -> Result<Option<Vec<u8>>, KvError> {
        self.reach().await?;
        self.inner.get(key, snapshot).await
    }

    async fn range(&mut self, range: Range<'_>, snapshot: bool) -> Result<Vec<Row>, KvError> {
        self.reach().await?;
        self.inner.range(range, snapshot).await
    }

    fn set(&mut self, key: &[u8], value: Vec<u8>) {
        self.inner.set(key, value);
    }

    fn clear(&mut self, key: &[u8]) {
        self.inner.clear(key);
    }

    fn clear_range(&mut self, begin: &[u8], end: &[u8]) {
        self.inner.clear_range(begin, end);
    }

    fn atomic_add(&mut self, key: &[u8], delta: i64) {
        self.inner.atomic_add(key, delta);
    }

    async fn commit(self: Box<Self>) -> Result<(), KvError> {
        let dice = rand::rng().random_range(0..100);
        let faults = self.faults;
        if dice < faults.applied_but_unknown {
            self.inner.commit().await?;
            return Err(KvError::UnknownOutcome);
        }
        if dice < faults.applied_but_unknown + faults.lost_and_unknown {
            return Err(KvError::UnknownOutcome);
        }
        if dice < faults.applied_but_unknown + faults.lost_and_unknown + faults.conflict {
            return Err(KvError::Conflict);
        }
        self.inner.commit().await
    }
}

async fn faulty() -> (tempfile::TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), EmbeddedOptions::default()).unwrap();
    let faults = Faults {
        applied_but_unknown: 20,
        lost_and_unknown: 15,
        conflict: 15,
    };
    let shim = Shim {
        store,
        faults,
        away_until: Arc::default(),
    };
    let journal = Journal::open(Arc::new(shim), identity()).await.unwrap();
    (dir, journal)
}

#[tokio::test(start_paused = true)]
async fn operations_wait_for_a_store_that_is_away_and_then_fail_and_do_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let away_until = Arc::<Mutex<Option<Instant>>>::default();
    let shim = Shim {
        store: EmbeddedStore::open(dir.path(), EmbeddedOptions::default()).unwrap(),
        faults: Faults {
            applied_but_unknown: 0,
            lost_and_unknown: 0,
            conflict: 0,
        },
        away_until: Arc::clone(&away_until),
    };
    let journal = Journal::open(Arc::new(shim), identity()).await.unwrap();
    let create = |name: &'static str| journal.create(ROOT, name.as_bytes(), new(Kind::File), at(1));
    let away_for = |secs| {
        let until = Instant::now() + Duration::from_secs(secs);
        *away_until.lock().unwrap() = Some(until);
        Instant::now()
    };

    let since = away_for(25);
    create("waited").await.unwrap();
    assert!((25..27).contains(&since.elapsed().as_secs()));
    let since = away_for(600);
    let failed = create("refused").await.unwrap_err();
    assert!(matches!(failed, Error::Store(KvError::Unavailable(_))) && failed.errno() == libc::EIO);
    assert!((30..36).contains(&since.elapsed().as_secs()));
    journal.set_patience(Duration::from_secs(2));
    let since = Instant::now();
    assert!(journal.lookup(ROOT, b"waited").await.is_err(), "reads, too");
    assert!((5..6).contains(&since.elapsed().as_secs()), "one try");

    *away_until.lock().unwrap() = None;
    assert_eq!(names(&journal, ROOT).await, ["waited"]);
}

#[tokio::test(start_paused = true)]
async fn operations_are_applied_exactly_once() {
    let (_dir, journal) = faulty().await;
    for n in 0..100 {
        let (old, name) = (format!("old-{n}"), format!("new-{n}"));
        // Applied twice, each of these would answer EEXIST or ENOENT.
        let made = journal
            .create(ROOT, old.as_bytes(), new(Kind::File), at(1))
            .await
            .unwrap();
        let renamed = journal
            .rename(
                ROOT,
                old.as_bytes(),
                ROOT,
                name.as_bytes(),
                RenameMode::NoReplace,
                at(2),
            )
            .await
            .unwrap();
        assert_eq!(renamed.moved.ino, made.ino);
        let linked = journal
            .link(made.ino, ROOT, old.as_bytes(), at(3))
            .await
            .unwrap();
        assert_eq!(linked.nlink, 2);
        let removed = journal.unlink(ROOT, old.as_bytes(), at(4)).await.unwrap();
        assert_eq!(removed.inode.nlink, 1);
        if n % 2 == 0 {
            journal.unlink(ROOT, name.as_bytes(), at(5)).await.unwrap();
            journal.reap(made.ino).await.unwrap();
        }
    }
    assert_eq!(names(&journal, ROOT).await.len(), 50);
    let usage = journal.counters().await.unwrap();
    assert_eq!((usage.inodes, usage.unsynced), (51, 50));
    assert_eq!(journal.unsynced(None, 1000).await.unwrap().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn concurrent_creators_in_one_directory_survive_conflicts() {
    let (_dir, journal) = faulty().await;
    let tasks: Vec<_> = (0..8)
        .map(|id| {
            let journal = journal.clone();
            tokio::spawn(async move {
                for n in 0..20 {
                    let name = format!("{id}-{n}");
                    journal
                        .create(ROOT, name.as_bytes(), new(Kind::Directory), at(1))
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(names(&journal, ROOT).await.len(), 160);
    assert_eq!(journal.inode(ROOT).await.unwrap().unwrap().nlink, 162);
}
