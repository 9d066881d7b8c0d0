//! Pins: whose they are, what they keep, and how they end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected must fail"
)]

mod common;

use common::{at, dir, file, fresh};
use journal::{Ino, RenameMode};

const ROOT: Ino = Ino::ROOT;

#[tokio::test]
async fn a_directorys_pin_keeps_what_is_and_what_comes_below_it() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await.ino;
    let e = dir(&journal, d, "e").await.ino;
    assert_eq!(journal.pinned(e).await.unwrap(), None);
    assert!(journal.pin(d).await.unwrap());
    assert!(!journal.pin(d).await.unwrap(), "once is enough");
    let f = file(&journal, e, "f").await.ino;
    let beside = file(&journal, ROOT, "beside").await.ino;
    assert_eq!(journal.pinned(d).await.unwrap(), Some(d));
    assert_eq!(journal.pinned(f).await.unwrap(), Some(d));
    assert_eq!(journal.pinned(beside).await.unwrap(), None);
    journal.pin(f).await.unwrap();
    assert_eq!(journal.pinned(f).await.unwrap(), Some(f), "the nearest");
    assert!(journal.unpin(d).await.unwrap());
    assert!(!journal.unpin(d).await.unwrap());
    assert_eq!(journal.pinned(e).await.unwrap(), None);
    assert_eq!(journal.pins(None, 9).await.unwrap(), [f]);
    assert_eq!(journal.pins(Some(f), 9).await.unwrap(), []);
}

#[tokio::test]
async fn a_pin_goes_where_its_file_goes_and_ends_with_it() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await.ino;
    let f = file(&journal, ROOT, "f").await.ino;
    let g = file(&journal, d, "g").await.ino;
    journal.pin(d).await.unwrap();
    journal.pin(f).await.unwrap();
    let moved = journal.rename(ROOT, b"f", d, b"f2", RenameMode::Replace, at(9));
    moved.await.unwrap();
    assert_eq!(journal.pinned(f).await.unwrap(), Some(f));
    let moved = journal.rename(d, b"g", ROOT, b"g", RenameMode::Replace, at(9));
    moved.await.unwrap();
    assert_eq!(
        journal.pinned(g).await.unwrap(),
        None,
        "out of the directory"
    );
    journal.unlink(d, b"f2", at(10)).await.unwrap();
    journal.reap(f).await.unwrap();
    assert_eq!(journal.pins(None, 9).await.unwrap(), [d]);
    let audit = journal.audit().await.unwrap();
    assert!(audit.damages.is_empty(), "{:?}", audit.damages);
    assert!(journal.pin(f).await.is_err(), "there is no such file");
}
