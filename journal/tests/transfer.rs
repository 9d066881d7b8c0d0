//! A journal that goes from one store to another by way of a file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected must fail"
)]

mod common;

use std::sync::Arc;

use common::{NODE, STORE, at, dir, file, identity, write};
use journal::kv::{KvStore, Mode, Range, Row};
use journal::{Error, ExportOf, Ino, Journal, NodeId, Place, TransferError, Transferred};
use tempfile::TempDir;

/// A place for a journal.
fn store() -> (TempDir, Arc<dyn KvStore>) {
    let dir = tempfile::tempdir().unwrap();
    let store = common::store(dir.path());
    (dir, store)
}

/// Some files, and what is written of them.
async fn exported(store: &Arc<dyn KvStore>) -> (Vec<u8>, Transferred) {
    let journal = Journal::open(store.clone(), identity()).await.unwrap();
    journal.id().await.unwrap();
    let parent = dir(&journal, Ino::ROOT, "d").await;
    for number in 0..1500 {
        file(&journal, parent.ino, &format!("f{number}")).await;
    }
    let dirty = file(&journal, Ino::ROOT, "dirty").await;
    write(&journal, dirty.ino, 100).await;
    let mut stream = Vec::new();
    let done = journal::export(store.as_ref(), NODE, &mut stream).await;
    (stream, done.unwrap())
}

async fn import(store: &dyn KvStore, stream: &[u8]) -> Result<Transferred, TransferError> {
    let imported = journal::import(store, &mut &stream[..]).await?;
    imported.finish(store).await
}

async fn rows(store: &dyn KvStore) -> Vec<Row> {
    let mut txn = store.begin(Mode::Read).unwrap();
    let all = Range {
        begin: b"",
        end: b"\xff",
        limit: 100_000,
        reverse: false,
    };
    let mut rows = txn.range(all, true).await.unwrap();
    rows.retain(|(key, _)| key[0] != b'E');
    rows
}

#[tokio::test]
async fn every_row_arrives_in_an_empty_store_and_the_file_system_goes_on_there() {
    let (_from_dir, from) = store();
    let (_to_dir, to) = store();
    let (stream, written) = exported(&from).await;
    let of = ExportOf {
        store_url: STORE.into(),
        journal: written.of.journal,
        node: NODE,
    };
    assert_eq!(written.of, of);
    assert_eq!(written.bytes, stream.len() as u64);
    assert_eq!(journal::verify(&mut &stream[..]).unwrap(), written);

    assert_eq!(import(to.as_ref(), &stream).await.unwrap(), written);
    assert!(rows(to.as_ref()).await == rows(from.as_ref()).await);
    let journal = Journal::open(to, identity()).await.unwrap();
    assert_eq!(journal.id().await.unwrap(), written.of.journal);
    assert_eq!(journal.counters().await.unwrap().unsynced, 1502);
    assert!(journal.lookup(Ino::ROOT, b"dirty").await.unwrap().is_some());
    let parent = journal.lookup(Ino::ROOT, b"d").await.unwrap().unwrap();
    let new = file(&journal, parent.ino, "new").await;
    assert!(new.ino.0 > 1500, "numbers go on");
}

#[tokio::test]
async fn whoever_exported_it_was_the_last_to_have_it_mounted() {
    let (_from_dir, from) = store();
    let (_to_dir, to) = store();
    let (stream, _) = exported(&from).await;
    import(to.as_ref(), &stream).await.unwrap();
    let open = |node| {
        let store_url = STORE.into();
        Journal::open(to.clone(), journal::Identity { store_url, node })
    };
    let place = Place {
        host: "a".into(),
        mountpoint: "/mnt".into(),
    };
    let other = open(NodeId(8)).await.unwrap();
    let refused = other.join(&place, at(2)).await.unwrap_err();
    assert!(
        matches!(
            refused,
            Error::NodeElsewhere {
                node: NODE,
                mounted: false,
                ..
            }
        ),
        "it holds what is not in the store: {refused}"
    );
    let one = open(NODE).await.unwrap();
    let was_elsewhere = one.join(&place, at(3)).await.unwrap();
    assert!(!was_elsewhere, "what it holds is valid");
}

#[tokio::test]
async fn an_import_that_did_not_end_is_no_file_system_and_can_be_made_again() {
    let (_from_dir, from) = store();
    let (_to_dir, to) = store();
    let (stream, written) = exported(&from).await;
    drop(
        journal::import(to.as_ref(), &mut &stream[..])
            .await
            .unwrap(),
    );
    let refused = Journal::open(to.clone(), identity()).await.err().unwrap();
    assert!(matches!(refused, Error::UnfinishedImport), "{refused}");
    let mut nothing = Vec::new();
    let refused = journal::export(to.as_ref(), NODE, &mut nothing).await;
    assert!(matches!(
        refused,
        Err(TransferError::Journal(Error::UnfinishedImport))
    ));

    // Another one, with fewer rows.
    let (_small_dir, small) = store();
    let journal = Journal::open(small.clone(), identity()).await.unwrap();
    journal.id().await.unwrap();
    let mut stream = Vec::new();
    let smaller = journal::export(small.as_ref(), NODE, &mut stream).await;
    assert!(smaller.unwrap().rows < written.rows);
    import(to.as_ref(), &stream).await.unwrap();
    assert!(rows(to.as_ref()).await == rows(small.as_ref()).await);
}

#[tokio::test]
async fn what_is_there_stays() {
    let (_from_dir, from) = store();
    let (stream, _) = exported(&from).await;
    let before = rows(from.as_ref()).await;
    let refused = import(from.as_ref(), &stream).await.unwrap_err();
    assert!(matches!(refused, TransferError::Occupied), "{refused}");
    assert!(rows(from.as_ref()).await == before);
    let (_empty_dir, empty) = store();
    let refused = journal::export(empty.as_ref(), NODE, &mut Vec::new()).await;
    assert!(matches!(refused, Err(TransferError::Empty)));
}

#[tokio::test]
async fn a_damaged_export_is_refused_wherever_the_damage_is() {
    let (_from_dir, from) = store();
    let journal = Journal::open(from.clone(), identity()).await.unwrap();
    journal.id().await.unwrap();
    file(&journal, Ino::ROOT, "f").await;
    let mut stream = Vec::new();
    journal::export(from.as_ref(), NODE, &mut stream)
        .await
        .unwrap();
    for at in 0..stream.len() {
        let mut damaged = stream.clone();
        damaged[at] ^= 0x10;
        assert!(journal::verify(&mut &damaged[..]).is_err(), "byte {at}");
        assert!(journal::verify(&mut &stream[..at]).is_err(), "{at} bytes");
    }
    stream.push(0);
    assert!(journal::verify(&mut &stream[..]).is_err(), "one too many");
    let (_to_dir, to) = store();
    let half = &stream[..stream.len() / 2];
    let refused = import(to.as_ref(), half).await.unwrap_err();
    assert!(matches!(refused, TransferError::Damaged(_)), "{refused}");
    let refused = Journal::open(to, identity()).await.err().unwrap();
    assert!(matches!(refused, Error::UnfinishedImport), "{refused}");
}
