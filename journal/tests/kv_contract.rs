//! What every key-value store must do. Runs on the embedded store, and, with the feature `fdb` and
//! `FUSED_TEST_FDB_CLUSTER_FILE` set, on FoundationDB.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected must fail"
)]

use journal::kv::{EmbeddedOptions, EmbeddedStore, KvError, KvStore, Mode, Range, Transaction};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

type Store = Arc<dyn KvStore>;

async fn set(store: &Store, key: &[u8], value: &[u8]) {
    let mut txn = store.begin(Mode::Optimistic).unwrap();
    txn.set(key, value.to_vec());
    txn.commit().await.unwrap();
}

async fn get(store: &Store, key: &[u8]) -> Option<Vec<u8>> {
    let mut txn = store.begin(Mode::Read).unwrap();
    txn.get(key, false).await.unwrap()
}

fn forward<'a>(begin: &'a [u8], end: &'a [u8], limit: usize) -> Range<'a> {
    Range {
        begin,
        end,
        limit,
        reverse: false,
    }
}

async fn keys(txn: &mut Box<dyn Transaction>, range: Range<'_>) -> Vec<String> {
    let rows = txn.range(range, false).await.unwrap();
    rows.into_iter()
        .map(|(key, _)| String::from_utf8(key).unwrap())
        .collect()
}

/// Runs a body of the suite against a new, empty store, bounded in time.
async fn bounded(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), test)
        .await
        .expect("the test took too long");
}

mod suite {
    use super::*;

    pub async fn a_transaction_sees_its_own_writes_and_others_only_after_commit(store: Store) {
        let mut txn = store.begin(Mode::Optimistic).unwrap();
        txn.set(b"a", b"1".to_vec());
        assert_eq!(txn.get(b"a", false).await.unwrap().unwrap(), b"1");
        assert_eq!(get(&store, b"a").await, None);
        txn.commit().await.unwrap();
        assert_eq!(get(&store, b"a").await.unwrap(), b"1");
    }

    pub async fn dropping_a_transaction_changes_nothing(store: Store) {
        let mut txn = store.begin(Mode::Optimistic).unwrap();
        txn.set(b"a", b"1".to_vec());
        drop(txn);
        assert_eq!(get(&store, b"a").await, None);
    }

    pub async fn a_transaction_reads_one_version(store: Store) {
        set(&store, b"a", b"1").await;
        let mut txn = store.begin(Mode::Read).unwrap();
        assert_eq!(txn.get(b"a", false).await.unwrap().unwrap(), b"1");
        set(&store, b"a", b"2").await;
        set(&store, b"b", b"2").await;
        assert_eq!(txn.get(b"a", false).await.unwrap().unwrap(), b"1");
        assert_eq!(txn.get(b"b", false).await.unwrap(), None);
        assert_eq!(keys(&mut txn, forward(b"", b"z", 9)).await, ["a"]);
    }

    pub async fn a_changed_read_is_a_conflict(store: Store) {
        set(&store, b"a", b"1").await;
        let mut txn = store.begin(Mode::Optimistic).unwrap();
        txn.get(b"a", false).await.unwrap();
        txn.set(b"b", b"x".to_vec());
        set(&store, b"a", b"2").await;
        assert!(matches!(txn.commit().await, Err(KvError::Conflict)));
        assert_eq!(get(&store, b"b").await, None);
    }

    pub async fn a_missing_key_that_appears_is_a_conflict(store: Store) {
        let mut txn = store.begin(Mode::Optimistic).unwrap();
        assert_eq!(txn.get(b"a", false).await.unwrap(), None);
        txn.set(b"a", b"mine".to_vec());
        set(&store, b"a", b"theirs").await;
        assert!(matches!(txn.commit().await, Err(KvError::Conflict)));
        assert_eq!(get(&store, b"a").await.unwrap(), b"theirs");
    }

    pub async fn a_key_that_appears_in_a_range_is_a_conflict(store: Store) {
        let mut txn = store.begin(Mode::Optimistic).unwrap();
        assert!(keys(&mut txn, forward(b"d", b"e", 9)).await.is_empty());
        txn.set(b"x", b"".to_vec());
        set(&store, b"d1", b"").await;
        assert!(matches!(txn.commit().await, Err(KvError::Conflict)));
    }

    pub async fn clearing_a_range_conflicts_with_a_read_in_it(store: Store) {
        set(&store, b"d1", b"1").await;
        let mut txn = store.begin(Mode::Optimistic).unwrap();
        txn.get(b"d1", false).await.unwrap();
        txn.set(b"x", b"".to_vec());
        let mut other = store.begin(Mode::Optimistic).unwrap();
        other.clear_range(b"d", b"e");
        other.commit().await.unwrap();
        assert!(matches!(txn.commit().await, Err(KvError::Conflict)));
    }

    pub async fn what_lies_beyond_a_limit_is_no_conflict(store: Store) {
        set(&store, b"d1", b"").await;
        set(&store, b"d2", b"").await;
        let mut txn = store.begin(Mode::Optimistic).unwrap();
        assert_eq!(keys(&mut txn, forward(b"d", b"e", 1)).await, ["d1"]);
        txn.set(b"x", b"".to_vec());
        set(&store, b"d3", b"").await;
        txn.commit().await.unwrap();
    }

    pub async fn a_snapshot_read_is_never_a_conflict(store: Store) {
        let mut txn = store.begin(Mode::Optimistic).unwrap();
        txn.get(b"a", true).await.unwrap();
        txn.range(forward(b"a", b"z", 9), true).await.unwrap();
        txn.set(b"x", b"".to_vec());
        set(&store, b"a", b"2").await;
        txn.commit().await.unwrap();
    }

    pub async fn blind_writes_and_disjoint_transactions_do_not_conflict(store: Store) {
        let mut one = store.begin(Mode::Optimistic).unwrap();
        let mut two = store.begin(Mode::Optimistic).unwrap();
        one.get(b"a", false).await.unwrap();
        one.set(b"a", b"1".to_vec());
        one.set(b"w", b"1".to_vec());
        two.get(b"b", false).await.unwrap();
        two.set(b"b", b"2".to_vec());
        two.set(b"w", b"2".to_vec());
        one.commit().await.unwrap();
        two.commit().await.unwrap();
        assert_eq!(get(&store, b"w").await.unwrap(), b"2");
    }

    pub async fn ranges_are_ordered_limited_and_reversible(store: Store) {
        for key in [b"c", b"a", b"d", b"b"] {
            set(&store, key, b"v").await;
        }
        let mut txn = store.begin(Mode::Read).unwrap();
        assert_eq!(
            keys(&mut txn, forward(b"a", b"d", 9)).await,
            ["a", "b", "c"]
        );
        assert_eq!(keys(&mut txn, forward(b"b", b"z", 2)).await, ["b", "c"]);
        let reverse = Range {
            begin: b"a",
            end: b"d",
            limit: 2,
            reverse: true,
        };
        assert_eq!(keys(&mut txn, reverse).await, ["c", "b"]);
        assert!(keys(&mut txn, forward(b"d", b"a", 9)).await.is_empty());
        assert!(keys(&mut txn, forward(b"a", b"a", 9)).await.is_empty());
    }

    pub async fn a_range_sees_buffered_writes(store: Store) {
        for key in [b"a", b"b", b"c", b"d"] {
            set(&store, key, b"old").await;
        }
        let mut txn = store.begin(Mode::Optimistic).unwrap();
        txn.clear(b"a");
        txn.clear_range(b"c", b"d");
        txn.set(b"bb", b"new".to_vec());
        txn.set(b"c2", b"new".to_vec());
        txn.set(b"d", b"new".to_vec());
        assert_eq!(
            keys(&mut txn, forward(b"", b"z", 9)).await,
            ["b", "bb", "c2", "d"]
        );
        assert_eq!(keys(&mut txn, forward(b"", b"z", 2)).await, ["b", "bb"]);
        let reverse = Range {
            begin: b"",
            end: b"z",
            limit: 3,
            reverse: true,
        };
        assert_eq!(keys(&mut txn, reverse).await, ["d", "c2", "bb"]);
        assert_eq!(txn.get(b"d", false).await.unwrap().unwrap(), b"new");
        assert_eq!(txn.get(b"c", false).await.unwrap(), None);
        txn.commit().await.unwrap();
        let mut after = store.begin(Mode::Read).unwrap();
        assert_eq!(
            keys(&mut after, forward(b"", b"z", 9)).await,
            ["b", "bb", "c2", "d"]
        );
    }

    pub async fn later_writes_of_one_transaction_win(store: Store) {
        let mut txn = store.begin(Mode::Optimistic).unwrap();
        txn.set(b"a", b"1".to_vec());
        txn.clear_range(b"a", b"b");
        assert_eq!(txn.get(b"a", false).await.unwrap(), None);
        txn.set(b"a", b"2".to_vec());
        txn.set(b"a", b"3".to_vec());
        txn.commit().await.unwrap();
        assert_eq!(get(&store, b"a").await.unwrap(), b"3");
    }

    pub async fn atomic_additions_add_up_without_conflict(store: Store) {
        let mut one = store.begin(Mode::Optimistic).unwrap();
        let mut two = store.begin(Mode::Optimistic).unwrap();
        one.atomic_add(b"n", 5);
        two.atomic_add(b"n", -2);
        two.atomic_add(b"n", -1);
        one.commit().await.unwrap();
        two.commit().await.unwrap();
        assert_eq!(get(&store, b"n").await.unwrap(), 2i64.to_le_bytes());
        let mut txn = store.begin(Mode::Optimistic).unwrap();
        txn.atomic_add(b"n", 1);
        assert_eq!(
            txn.get(b"n", false).await.unwrap().unwrap(),
            3i64.to_le_bytes()
        );
    }

    pub async fn limits_are_enforced(store: Store) {
        let mut txn = store.begin(Mode::Optimistic).unwrap();
        txn.set(b"a", vec![0; 100_001]);
        assert!(matches!(txn.commit().await, Err(KvError::Limit(_))));
        let mut txn = store.begin(Mode::Optimistic).unwrap();
        txn.set(&[b'k'; 10_001], Vec::new());
        assert!(matches!(txn.commit().await, Err(KvError::Limit(_))));
        let mut txn = store.begin(Mode::Optimistic).unwrap();
        for n in 0..=100u32 {
            txn.set(&n.to_be_bytes(), vec![0; 99_999]);
        }
        assert!(matches!(txn.commit().await, Err(KvError::Limit(_))));
        assert_eq!(get(&store, b"a").await, None);
    }

    pub async fn a_watch_fires_when_its_key_changes(store: Store) {
        let watch = store.watch(b"a");
        // On a cluster the watch is set when it is first polled.
        let watch = tokio::spawn(watch);
        tokio::task::yield_now().await;
        set(&store, b"b", b"1").await;
        set(&store, b"a", b"1").await;
        watch.await.unwrap().unwrap();
    }

    pub async fn sync_succeeds_and_may_be_called_by_many(store: Store) {
        store.sync().await.unwrap();
        let tasks: Vec<_> = (0..32u8)
            .map(|n| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    set(&store, &[n], b"v").await;
                    store.sync().await
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(store.poisoned(), None);
    }

    pub async fn serial_transactions_that_race_for_one_row_all_count(store: Store) {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    for _ in 0..25 {
                        loop {
                            let mut txn = store.begin(Mode::Serial).unwrap();
                            let old = txn.get(b"n", false).await.unwrap();
                            let old = old.map_or(0, |bytes| bytes[0]);
                            txn.set(b"n", vec![old + 1]);
                            match txn.commit().await {
                                Ok(()) => break,
                                Err(error) => assert!(error.is_retryable()),
                            }
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(get(&store, b"n").await.unwrap(), [200]);
    }
}

macro_rules! contract {
    ($open:path: $($test:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let Some((store, _guard)) = $open().await else { return };
            bounded(suite::$test(store)).await;
        }
    )+};
}

macro_rules! all {
    ($open:path) => {
        contract!($open:
            a_transaction_sees_its_own_writes_and_others_only_after_commit,
            dropping_a_transaction_changes_nothing,
            a_transaction_reads_one_version,
            a_changed_read_is_a_conflict,
            a_missing_key_that_appears_is_a_conflict,
            a_key_that_appears_in_a_range_is_a_conflict,
            clearing_a_range_conflicts_with_a_read_in_it,
            what_lies_beyond_a_limit_is_no_conflict,
            a_snapshot_read_is_never_a_conflict,
            blind_writes_and_disjoint_transactions_do_not_conflict,
            ranges_are_ordered_limited_and_reversible,
            a_range_sees_buffered_writes,
            later_writes_of_one_transaction_win,
            atomic_additions_add_up_without_conflict,
            limits_are_enforced,
            a_watch_fires_when_its_key_changes,
            sync_succeeds_and_may_be_called_by_many,
            serial_transactions_that_race_for_one_row_all_count,
        );
    };
}

mod embedded {
    use super::*;

    async fn open() -> Option<(Store, tempfile::TempDir)> {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), EmbeddedOptions::default()).unwrap();
        Some((Arc::new(store), dir))
    }

    all!(open);

    #[tokio::test]
    async fn a_transaction_older_than_the_window_fails() {
        let (store, _dir) = open().await.unwrap();
        let mut txn = store.begin(Mode::Optimistic).unwrap();
        txn.get(b"a", false).await.unwrap();
        txn.set(b"a", b"".to_vec());
        // More keys than the window remembers.
        for chunk in 0..101u32 {
            let mut other = store.begin(Mode::Optimistic).unwrap();
            for n in 0..1000u32 {
                let key = (chunk * 1000 + n).to_be_bytes();
                other.set(&key, Vec::new());
            }
            other.commit().await.unwrap();
        }
        assert!(matches!(txn.commit().await, Err(KvError::TooOld)));
    }

    #[tokio::test]
    async fn writing_in_a_read_transaction_is_refused() {
        let (store, _dir) = open().await.unwrap();
        let mut txn = store.begin(Mode::Read).unwrap();
        txn.set(b"a", b"".to_vec());
        assert!(txn.commit().await.is_err());
    }

    #[tokio::test]
    async fn a_second_process_is_told_that_it_is_in_use() {
        let (_store, dir) = open().await.unwrap();
        let second = EmbeddedStore::open(dir.path(), EmbeddedOptions::default());
        assert!(matches!(second, Err(KvError::InUse(_))));
    }
}

#[cfg(feature = "foundationdb")]
mod fdb {
    use super::*;
    use journal::kv::{FdbOptions, FdbStore};

    /// A part of the key space that nothing else uses; cleared by the next run's random name only.
    async fn open() -> Option<(Store, ())> {
        let cluster_file = std::env::var_os("FUSED_TEST_FDB_CLUSTER_FILE")?;
        let options = FdbOptions {
            cluster_file: cluster_file.into(),
            prefix: format!("fused-test-{}/", rand::random::<u64>()).into_bytes(),
        };
        Some((Arc::new(FdbStore::open(options).unwrap()), ()))
    }

    all!(open);

    /// What is said when there is `text` in the cluster file.
    async fn said(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let cluster_file = dir.path().join("fdb.cluster");
        std::fs::write(&cluster_file, text).unwrap();
        let options = FdbOptions {
            cluster_file,
            prefix: Vec::new(),
        };
        let reached = FdbStore::open(options).unwrap().reach().await;
        reached.map_or_else(|error| error.to_string(), |()| "it answers".into())
    }

    #[tokio::test]
    async fn a_wrong_cluster_file_is_told_apart_from_a_cluster_that_does_not_answer() {
        let Some(cluster_file) = std::env::var_os("FUSED_TEST_FDB_CLUSTER_FILE") else {
            return;
        };
        let right = std::fs::read_to_string(cluster_file).unwrap();
        let (_, addresses) = right.trim().rsplit_once('@').unwrap();
        let strange = said(&format!("another:cluster@{addresses}\n")).await;
        // Of TCP, nobody listens there.
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let nobody = format!("a:b@{}\n", taken.local_addr().unwrap());
        assert_eq!(said(&right).await, "it answers");
        assert!(strange.contains("knows no database"), "{strange}");
        let silent = said(&nobody).await;
        assert!(silent.contains("no FoundationDB answers at"), "{silent}");
        let garbage = said("hello\n").await;
        assert!(garbage.contains("is no cluster file"), "{garbage}");
        let none = FdbStore::open(FdbOptions {
            cluster_file: "/nowhere/fdb.cluster".into(),
            prefix: Vec::new(),
        });
        assert!(none.is_err_and(|error| error.to_string().contains("/nowhere/fdb.cluster")));
    }
}
