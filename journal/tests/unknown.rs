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
use journal::{Ino, Journal, Kind, RenameMode};
use rand::RngExt;
use std::sync::Arc;

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
}

struct ShimTransaction {
    inner: Box<dyn Transaction>,
    faults: Faults,
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
        self.inner.get(key, snapshot).await
    }

    async fn range(&mut self, range: Range<'_>, snapshot: bool) -> Result<Vec<Row>, KvError> {
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
    let journal = Journal::open(Arc::new(Shim { store, faults }), identity())
        .await
        .unwrap();
    (dir, journal)
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
