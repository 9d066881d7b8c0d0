//! The version before a truncating open stays until the next one is safe.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected must fail"
)]

mod common;

use common::{NODE, at, file, fresh, object};
use journal::{EndWrite, Ino, Inode, Journal, Seal};

const ROOT: Ino = Ino::ROOT;

/// A truncating open, `size` bytes, perhaps fsync, close.
async fn write_over(journal: &Journal, ino: Ino, size: u64, synced: bool) -> Inode {
    journal.begin_write(ino, NODE, true, at(20)).await.unwrap();
    let closed = Seal::Closed {
        size,
        map_digest: 1,
    };
    let end = EndWrite {
        size,
        mtime: at(21),
        changed: true,
        close: true,
        seal: Some(if synced { Seal::Synced } else { closed }),
    };
    journal.end_write(ino, NODE, end, at(21)).await.unwrap()
}

async fn kept(journal: &Journal, ino: Ino) -> Option<u64> {
    let former = journal.former(NODE, ino).await.unwrap();
    former.map(|former| former.generation)
}

#[tokio::test]
async fn a_synced_version_is_kept_through_unsynced_ones_and_comes_back() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let good = write_over(&journal, a.ino, 9, true).await;
    assert_eq!(kept(&journal, a.ino).await, None);
    write_over(&journal, a.ino, 20, false).await;
    let torn = write_over(&journal, a.ino, 30, false).await;
    assert_eq!(kept(&journal, a.ino).await, Some(good.content.generation));
    let back = journal.go_back(NODE, a.ino, 9, at(50)).await.unwrap();
    let back = back.expect("the synced one");
    assert_eq!((back.size, back.mtime), (9, at(21)));
    assert_eq!(back.content.generation, good.content.generation);
    assert_eq!(back.content.seal, Some(Seal::Synced));
    assert!(back.content.epoch > torn.content.epoch && back.is_content_dirty());
    assert_eq!(kept(&journal, a.ino).await, None);
    assert!(journal.unsynced_row(a.ino).await.unwrap().is_some());
}

#[tokio::test]
async fn a_version_that_was_only_closed_is_kept_if_there_is_none_before_it() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let first = write_over(&journal, a.ino, 9, false).await;
    write_over(&journal, a.ino, 20, false).await;
    assert_eq!(kept(&journal, a.ino).await, Some(first.content.generation));
    write_over(&journal, a.ino, 30, false).await;
    assert_eq!(kept(&journal, a.ino).await, Some(first.content.generation));
    let back = journal.go_back(NODE, a.ino, 9, at(50)).await.unwrap();
    let back = back.expect("the first one");
    let survived = Seal::Survived {
        size: 9,
        map_digest: 1,
    };
    assert_eq!(back.content.seal, Some(survived));
    let synced = write_over(&journal, a.ino, 40, true).await;
    write_over(&journal, a.ino, 50, false).await;
    assert_eq!(kept(&journal, a.ino).await, Some(synced.content.generation));
}

#[tokio::test]
async fn of_an_empty_version_or_half_of_one_nothing_is_kept() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    write_over(&journal, a.ino, 0, false).await;
    write_over(&journal, a.ino, 20, false).await;
    assert_eq!(kept(&journal, a.ino).await, None);
    journal
        .begin_write(a.ino, NODE, false, at(30))
        .await
        .unwrap();
    journal
        .begin_write(a.ino, NODE, true, at(31))
        .await
        .unwrap();
    assert_eq!(kept(&journal, a.ino).await, None);
}

#[tokio::test]
async fn a_newer_synced_version_takes_the_place_of_an_older_one() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    write_over(&journal, a.ino, 9, true).await;
    let newer = write_over(&journal, a.ino, 20, true).await;
    let before = journal.former(NODE, a.ino).await.unwrap().unwrap();
    journal
        .begin_write(a.ino, NODE, true, at(30))
        .await
        .unwrap();
    assert_eq!(kept(&journal, a.ino).await, Some(newer.content.generation));
    journal.former_done(NODE, &before).await.unwrap();
    assert_eq!(
        kept(&journal, a.ino).await,
        Some(newer.content.generation),
        "only the one that was meant goes"
    );
}

#[tokio::test]
async fn a_version_that_the_store_has_is_not_kept_and_comes_before_an_older_one() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    write_over(&journal, a.ino, 9, true).await;
    let stored = write_over(&journal, a.ino, 20, false).await;
    journal
        .flushed(a.ino, object("a", "1", &stored), at(40))
        .await
        .unwrap();
    let back = journal.go_back(NODE, a.ino, 9, at(50)).await.unwrap();
    assert_eq!(back, None);
    write_over(&journal, a.ino, 30, false).await;
    assert_eq!(kept(&journal, a.ino).await, None);
}
