//! What survives the end of the process, and who may open the journal afterwards.
//!
//! The killed process is this test program again, started with an environment variable that makes one
//! of its tests play the victim.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected must fail"
)]

mod common;

use common::{NODE, STORE, at, file, fresh, identity, names, new, open, store};
use journal::{EmbeddedOptions, EmbeddedStore, Error, Identity, Ino, Journal, Kind, Timestamp};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

const VICTIM: &str = "JOURNAL_TEST_VICTIM_DIR";
const ROOT: Ino = Ino::ROOT;

/// Creates files until it is killed, and says which are committed.
#[tokio::test]
async fn victim() {
    let Some(dir) = std::env::var_os(VICTIM) else {
        return;
    };
    let journal = open(dir.as_ref()).await;
    let mut out = std::io::stdout();
    for n in 0u64.. {
        let name = format!("file-{n}");
        let made = journal
            .create(ROOT, name.as_bytes(), new(Kind::File), at(1))
            .await
            .unwrap();
        writeln!(out, "\ncommitted {n} {}", made.ino).unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn what_was_committed_survives_kill_9_without_sync() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let place = dir.path().join(round.to_string());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["victim", "--exact", "--nocapture"])
            .env(VICTIM, &place)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut committed = Vec::new();
        for line in lines {
            let line = line.unwrap();
            if let Some(rest) = line.strip_prefix("committed ") {
                let (n, ino) = rest.split_once(' ').unwrap();
                committed.push((n.to_owned(), ino.parse::<u64>().unwrap()));
                if committed.len() == round * 700 {
                    break;
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let journal = open(&place).await;
        let mut inos = BTreeSet::new();
        for (n, ino) in committed {
            let name = format!("file-{n}");
            let found = journal.lookup(ROOT, name.as_bytes()).await.unwrap();
            assert_eq!(found.unwrap().ino, Ino(ino), "{name} was lost");
            inos.insert(ino);
        }
        let after = file(&journal, ROOT, "after").await;
        assert!(
            after.ino.0 > *inos.last().unwrap(),
            "a number was given out twice"
        );
    }
}

#[tokio::test]
async fn an_opened_journal_goes_on_where_it_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    let a = file(&journal, ROOT, "a").await;
    let before = journal.unsynced_row(a.ino).await.unwrap().unwrap();
    drop(journal);
    let journal = open(dir.path()).await;
    assert_eq!(names(&journal, ROOT).await, ["a"]);
    assert_eq!(journal.counters().await.unwrap().unsynced, 1);
    let b = file(&journal, ROOT, "b").await;
    assert!(b.ino > a.ino);
    let after = journal.unsynced_row(b.ino).await.unwrap().unwrap();
    assert!(after.seq > before.stamp, "order must survive a restart");
}

#[tokio::test]
async fn a_journal_of_another_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).await);
    let other = Identity {
        store_url: "s3://other".into(),
        node: NODE,
    };
    let error = Journal::open(store(dir.path()), other).await.err().unwrap();
    assert!(matches!(error, Error::OtherStore { found, .. } if found == STORE));
}

#[tokio::test]
async fn a_journal_of_a_newer_format_is_refused() {
    use journal::kv::{KvStore, Mode};
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path(), EmbeddedOptions::default()).unwrap();
    let mut txn = store.begin(Mode::Serial).unwrap();
    txn.set(b"F", b"\x01\x02\x01s".to_vec());
    txn.commit().await.unwrap();
    let error = Journal::open(Arc::new(store), identity())
        .await
        .err()
        .unwrap();
    assert!(matches!(error, Error::NewerFormat { found: 2, known: 1 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_syncs_at_once_are_served_together() {
    let (_dir, journal) = fresh().await;
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let journal = journal.clone();
            tokio::spawn(async move {
                let name = format!("{n}");
                journal
                    .create(ROOT, name.as_bytes(), new(Kind::File), Timestamp::now())
                    .await
                    .unwrap();
                journal.sync().await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(journal.poisoned(), None);
}

#[tokio::test]
async fn the_log_may_rotate_under_the_committer() {
    let dir = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        memtable_bytes: 1 << 20,
        ..EmbeddedOptions::default()
    };
    let store = EmbeddedStore::open(dir.path(), options.clone()).unwrap();
    let mut expected = Vec::new();
    // 100 MB of log: more than one file of 64 MB.
    for n in 0..1100u32 {
        use journal::kv::{KvStore, Mode};
        let mut txn = store.begin(Mode::Serial).unwrap();
        for m in 0..25u32 {
            // Nothing that a compressor could shrink.
            let noise: Vec<u8> = (0..3900u32)
                .map(|i| ((n * 31 + m * 17 + i).wrapping_mul(2_654_435_761) >> 23) as u8)
                .collect();
            txn.set(format!("{n:05}-{m:02}").as_bytes(), noise);
        }
        txn.commit().await.unwrap();
        if n % 50 == 0 {
            store.sync().await.unwrap();
            expected.push(format!("{n:05}-00"));
        }
    }
    drop(store);
    let store = EmbeddedStore::open(dir.path(), options).unwrap();
    for key in expected {
        use journal::kv::{KvStore, Mode};
        let mut txn = store.begin(Mode::Read).unwrap();
        assert!(txn.get(key.as_bytes(), false).await.unwrap().is_some());
    }
}
