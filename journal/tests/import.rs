//! What the store has becomes visible, and never wins over what happened here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected must fail"
)]

mod common;

use common::{CREATION, NODE, at, dir, file, found, fresh, names, object, write};
use journal::{
    Epoch, FlushOutcome, Ino, Journal, Kind, Listing, RenameMode, Seen, SetAttr, Timestamp,
};

const ROOT: Ino = Ino::ROOT;

async fn garbage(journal: &Journal) -> Vec<String> {
    let garbage = journal.garbage(None, 100).await.unwrap();
    garbage.into_iter().map(|garbage| garbage.key).collect()
}

async fn flush(journal: &Journal, ino: Ino, key: &str, etag: &str) -> FlushOutcome {
    let inode = journal.inode(ino).await.unwrap().unwrap();
    journal
        .flushed(ino, object(key, etag, &inode), at(30))
        .await
        .unwrap()
}

async fn mv(journal: &Journal, from: &str, to: &str) {
    journal
        .rename(
            ROOT,
            from.as_bytes(),
            ROOT,
            to.as_bytes(),
            RenameMode::Replace,
            at(40),
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn a_removed_directory_does_not_come_back_while_its_remains_are_in_the_store() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    let deleted = file(&journal, d.ino, "x").await;
    let moved = file(&journal, d.ino, "y").await;
    flush(&journal, d.ino, "d/", "1").await;
    flush(&journal, deleted.ino, "d/x", "2").await;
    flush(&journal, moved.ino, "d/y", "3").await;
    let seen = async || {
        let mut found = found("d", "d/", "", 0);
        found.kind = Kind::Directory;
        journal.import(ROOT, &[found], at(50)).await.unwrap();
        journal.lookup(ROOT, b"d").await.unwrap().is_some()
    };
    let to = (ROOT, b"z".as_slice());
    journal
        .rename(d.ino, b"y", to.0, to.1, RenameMode::Replace, at(40))
        .await
        .unwrap();
    journal.unlink(d.ino, b"x", at(40)).await.unwrap();
    journal.reap(deleted.ino).await.unwrap();
    journal.rmdir(ROOT, b"d", at(40)).await.unwrap();
    journal.reap(d.ino).await.unwrap();
    assert!(!seen().await, "all of it is to be deleted or moved");
    journal.garbage_done("d/").await.unwrap();
    assert!(!seen().await, "d/x is to be deleted, d/y to be moved");
    journal.garbage_done("d/x").await.unwrap();
    assert!(!seen().await, "d/y is to be moved");
    flush(&journal, moved.ino, "z", "4").await;
    journal.garbage_done("d/y").await.unwrap();
    assert!(!seen().await, "the listing was asked for before that");
    let mut found = found("d", "d/", "", 0);
    found.kind = Kind::Directory;
    let later = Timestamp {
        secs: Timestamp::now().secs + 1,
        nanos: 0,
    };
    journal.import(ROOT, &[found], later).await.unwrap();
    let other = journal.lookup(ROOT, b"d").await.unwrap();
    assert!(other.is_some(), "somebody else has made one since");
}

#[tokio::test]
async fn a_directory_in_the_store_wins_over_a_cached_file_of_its_name() {
    let (_dir, journal) = fresh().await;
    journal
        .import(ROOT, &[found("a", "a", "1", 5)], Timestamp::now())
        .await
        .unwrap();
    let new = journal
        .import(ROOT, &[found("a", "a/", "", 0)], Timestamp::now())
        .await
        .unwrap();
    assert_eq!(new[0].kind, Kind::Directory);
    assert_eq!(
        journal.lookup(ROOT, b"a").await.unwrap().unwrap().ino,
        new[0].ino
    );
    assert_eq!(journal.claim("a").await.unwrap(), None);
    assert_eq!(journal.counters().await.unwrap().inodes, 2);
    assert_eq!(journal.inode(ROOT).await.unwrap().unwrap().nlink, 3);
}

#[tokio::test]
async fn the_remains_of_a_directory_do_not_win_over_a_cached_file_of_its_name() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    let x = file(&journal, d.ino, "x").await;
    flush(&journal, x.ino, "d/x", "1").await;
    // Its marker was never put.
    mv(&journal, "d", "e").await;
    let theirs = [found("d", "d", "2", 5)];
    journal
        .import(ROOT, &theirs, Timestamp::now())
        .await
        .unwrap();
    let remains = [found("d", "d/", "", 0)];
    let asked = Timestamp::now();
    let is_file = async || {
        journal.import(ROOT, &remains, asked).await.unwrap();
        journal.lookup(ROOT, b"d").await.unwrap().unwrap().kind == Kind::File
    };
    assert!(is_file().await, "d/x is to be moved");
    flush(&journal, x.ino, "e/x", "3").await;
    assert!(is_file().await, "d/x is to be deleted");
    journal.garbage_done("d/x").await.unwrap();
    assert!(is_file().await, "the listing was asked for before that");
}

#[tokio::test]
async fn of_a_doubtful_listing_all_but_new_directories_is_taken_over() {
    let (_dir, journal) = fresh().await;
    let known = [found("known", "known/", "", 0)];
    journal
        .import(ROOT, &known, Timestamp::now())
        .await
        .unwrap();
    let page = [
        found("file", "file", "1", 5),
        found("known", "known/", "", 0),
        found("new", "new/", "", 0),
    ];
    let asked = Timestamp::now();
    let doubted = journal.import_doubtful(ROOT, &page, asked).await.unwrap();
    assert_eq!(doubted, page[2..]);
    assert_eq!(names(&journal, ROOT).await, ["file", "known"]);
    journal.import(ROOT, &doubted, asked).await.unwrap();
    let doubted = journal.import_doubtful(ROOT, &page, asked).await.unwrap();
    assert!(doubted.is_empty(), "it is known by now");
    assert_eq!(names(&journal, ROOT).await, ["file", "known", "new"]);
}

#[tokio::test]
async fn what_a_directory_loses_while_it_is_looked_into_does_not_bring_it_back() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    flush(&journal, d.ino, "d/", "1").await;
    let asked = Timestamp::now();
    journal.rmdir(ROOT, b"d", at(40)).await.unwrap();
    journal.reap(d.ino).await.unwrap();
    let page = [found("d", "d/", "", 0)];
    let doubted = journal.import_doubtful(ROOT, &page, asked).await.unwrap();
    assert!(doubted.is_empty(), "it is to be deleted");
    journal.garbage_done("d/").await.unwrap();
    journal.import(ROOT, &page, asked).await.unwrap();
    assert!(names(&journal, ROOT).await.is_empty());
}

#[tokio::test]
async fn what_somebody_put_where_something_is_about_to_be_put_is_not_imported() {
    let (_dir, journal) = fresh().await;
    let ours = file(&journal, ROOT, "a").await;
    assert!(
        journal
            .attempted(ours.ino, "a", false, CREATION)
            .await
            .unwrap()
    );
    mv(&journal, "a", "b").await;
    let theirs = [found("a", "a", "1", 5)];
    let hidden = journal
        .import(ROOT, &theirs, Timestamp::now())
        .await
        .unwrap();
    assert!(hidden.is_empty());
    journal.garbage_done("a").await.unwrap();
    let new = journal
        .import(ROOT, &theirs, Timestamp::now())
        .await
        .unwrap();
    assert_eq!(new.len(), 1);
    // The other way round: it is theirs now.
    assert!(
        !journal
            .attempted(ours.ino, "a", false, CREATION)
            .await
            .unwrap()
    );
    assert!(garbage(&journal).await.is_empty());
}

#[tokio::test]
async fn attributes_on_the_object_are_learned_once() {
    let (_dir, journal) = fresh().await;
    let new = journal
        .import(ROOT, &[found("a", "a", "1", 5)], Timestamp::now())
        .await
        .unwrap();
    assert!(!new[0].content.learned);
    let mut seen = Seen::Object {
        etag: Some("1".into()),
        size: 5,
        mtime: at(77),
        mode: Some(0o600),
        uid: Some(1),
        gid: None,
    };
    let learned = journal
        .refresh(new[0].ino, &seen, Timestamp::now())
        .await
        .unwrap();
    assert_eq!(
        (learned.mode, learned.uid, learned.mtime),
        (0o600, 1, at(77))
    );
    assert!(learned.content.learned && learned.is_only_cached());
    assert_eq!(learned.content.generation, 0);
    if let Seen::Object { etag, .. } = &mut seen {
        *etag = Some("2".into());
    }
    let other = journal
        .refresh(new[0].ino, &seen, Timestamp::now())
        .await
        .unwrap();
    assert_eq!(other.content.generation, 1);
}

#[tokio::test]
async fn an_entry_of_the_store_becomes_a_clean_file() {
    let (_dir, journal) = fresh().await;
    let listed = [found("a", "a", "1", 5), found("d", "d/", "", 0)];
    let new = journal
        .import(ROOT, &listed, Timestamp::now())
        .await
        .unwrap();
    assert_eq!(new.len(), 2);
    let a = journal.lookup(ROOT, b"a").await.unwrap().unwrap();
    assert!(a.is_only_cached() && !a.is_content_dirty() && !a.is_meta_dirty());
    assert_eq!(
        (a.size, a.content.valid, a.content.epoch, a.mode),
        (5, 5, Epoch(0), 0o644)
    );
    assert_eq!(journal.inode(ROOT).await.unwrap().unwrap().nlink, 3);
    assert_eq!(journal.counters().await.unwrap().unsynced, 0);
    assert!(
        journal
            .import(ROOT, &listed, Timestamp::now())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_changed_object_gives_a_clean_file_a_new_generation() {
    let (_dir, journal) = fresh().await;
    journal
        .import(ROOT, &[found("a", "a", "1", 5)], Timestamp::now())
        .await
        .unwrap();
    let changed = journal
        .import(ROOT, &[found("a", "a", "2", 7)], Timestamp::now())
        .await
        .unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!((changed[0].size, changed[0].content.valid), (7, 7));
    assert_eq!(changed[0].content.generation, 1);
    assert!(!changed[0].is_content_dirty());
}

#[tokio::test]
async fn the_store_never_changes_what_is_dirty_or_being_written() {
    let (_dir, journal) = fresh().await;
    let now = Timestamp::now();
    journal
        .import(
            ROOT,
            &[found("a", "a", "1", 5), found("b", "b", "1", 5)],
            now,
        )
        .await
        .unwrap();
    let a = journal.lookup(ROOT, b"a").await.unwrap().unwrap();
    let b = journal.lookup(ROOT, b"b").await.unwrap().unwrap();
    write(&journal, a.ino, 3).await;
    journal
        .begin_write(b.ino, NODE, false, at(20))
        .await
        .unwrap();
    let listed = [
        found("a", "a", "2", 9),
        found("b", "b", "2", 9),
        found("b", "b/", "", 0),
    ];
    assert!(
        journal
            .import(ROOT, &listed, Timestamp::now())
            .await
            .unwrap()
            .is_empty()
    );
    for ino in [a.ino, b.ino] {
        assert_eq!(
            journal
                .refresh(ino, &Seen::Gone, Timestamp::now())
                .await
                .unwrap()
                .nlink,
            1
        );
    }
}

#[tokio::test]
async fn a_deleted_file_is_not_brought_back_by_a_listing() {
    let (_dir, journal) = fresh().await;
    let before = Timestamp::now();
    let a = file(&journal, ROOT, "a").await;
    flush(&journal, a.ino, "a", "1").await;
    let listed = [found("a", "a", "1", 0)];
    let is_hidden = async || {
        journal
            .import(ROOT, &listed, before)
            .await
            .unwrap()
            .is_empty()
    };
    journal.unlink(ROOT, b"a", at(20)).await.unwrap();
    assert!(is_hidden().await, "while it is an orphan");
    journal.reap(a.ino).await.unwrap();
    assert!(is_hidden().await, "while it is garbage");
    journal.garbage_done("a").await.unwrap();
    assert!(is_hidden().await, "by a listing from before the deletion");
    let fresh = journal
        .import(ROOT, &listed, Timestamp::now())
        .await
        .unwrap();
    assert_eq!(fresh.len(), 1, "but a later listing is right");
}

#[tokio::test]
async fn a_moved_file_is_not_brought_back_under_its_old_name() {
    let (_dir, journal) = fresh().await;
    journal
        .import(ROOT, &[found("a", "a", "1", 5)], Timestamp::now())
        .await
        .unwrap();
    mv(&journal, "a", "b").await;
    let again = journal
        .import(ROOT, &[found("a", "a", "1", 5)], Timestamp::now())
        .await
        .unwrap();
    assert!(again.is_empty());
    assert_eq!(names(&journal, ROOT).await, ["b"]);
}

#[tokio::test]
async fn what_a_complete_listing_lacks_is_forgotten_if_it_was_only_cached() {
    let (_dir, journal) = fresh().await;
    let listed = [
        found("cached", "cached", "1", 5),
        found("chmodded", "chmodded", "1", 5),
        found("empty", "empty/", "", 0),
        found("full", "full/", "", 0),
        found("linked", "linked", "1", 5),
        found("seen", "seen", "1", 5),
        found("zzz", "zzz", "1", 5),
    ];
    journal
        .import(ROOT, &listed, Timestamp::now())
        .await
        .unwrap();
    let ino = async |name: &str| {
        journal
            .lookup(ROOT, name.as_bytes())
            .await
            .unwrap()
            .unwrap()
            .ino
    };
    let set = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    journal
        .set_attr(ino("chmodded").await, set, at(20))
        .await
        .unwrap();
    file(&journal, ino("full").await, "x").await;
    journal
        .link(ino("linked").await, ROOT, b"linked2", at(20))
        .await
        .unwrap();
    let local = file(&journal, ROOT, "local").await;
    flush(&journal, local.ino, "local", "1").await;
    let seen = |name: &[u8]| matches!(name, b"seen" | b"zzz");
    let gone = journal.forget_missing(ROOT, &seen).await.unwrap();
    let gone: Vec<Vec<u8>> = gone.into_iter().map(|(name, _)| name).collect();
    assert_eq!(gone, [&b"cached"[..], b"empty"]);
    let rest = [
        "chmodded", "full", "linked", "linked2", "local", "seen", "zzz",
    ];
    assert_eq!(names(&journal, ROOT).await, rest);
    assert_eq!(journal.claim("cached").await.unwrap(), None);
    assert!(garbage(&journal).await.is_empty());
    assert_eq!(journal.inode(ROOT).await.unwrap().unwrap().nlink, 3);
}

#[tokio::test]
async fn an_object_that_is_gone_takes_a_clean_file_with_it_and_leaves_no_garbage() {
    let (_dir, journal) = fresh().await;
    let new = journal
        .import(ROOT, &[found("a", "a", "1", 5)], Timestamp::now())
        .await
        .unwrap();
    let gone = journal
        .refresh(new[0].ino, &Seen::Gone, Timestamp::now())
        .await
        .unwrap();
    assert_eq!(gone.nlink, 0);
    assert!(names(&journal, ROOT).await.is_empty());
    journal.reap(gone.ino).await.unwrap().unwrap();
    assert!(garbage(&journal).await.is_empty());
    assert_eq!(journal.claim("a").await.unwrap(), None);
}

#[tokio::test]
async fn a_listing_is_remembered_and_a_new_directory_is_completely_known() {
    let (_dir, journal) = fresh().await;
    assert_eq!(journal.listing(ROOT).await.unwrap(), None);
    let listing = Listing {
        at: at(7),
        complete: false,
    };
    journal.set_listing(ROOT, listing).await.unwrap();
    assert_eq!(journal.listing(ROOT).await.unwrap(), Some(listing));
    let d = dir(&journal, ROOT, "d").await;
    assert!(journal.listing(d.ino).await.unwrap().unwrap().complete);
}

#[tokio::test]
async fn kinds_of_directory_and_file_do_not_replace_each_other_on_import() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    assert!(
        journal
            .import(ROOT, &[found("a", "a/", "", 0)], at(99))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        journal.lookup(ROOT, b"a").await.unwrap().unwrap().kind,
        Kind::File
    );
    assert_eq!(
        journal.lookup(ROOT, b"a").await.unwrap().unwrap().ino,
        a.ino
    );
}

#[tokio::test]
async fn what_is_found_late_below_a_moved_directory_follows_it() {
    let (_dir, journal) = fresh().await;
    let listed = [found("d", "d/", "", 0)];
    let d = journal
        .import(ROOT, &listed, Timestamp::now())
        .await
        .unwrap()[0]
        .ino;
    mv(&journal, "d", "e").await;
    assert!(journal.resync_step(d, 100, at(50)).await.unwrap());
    let late = [found("f", "d/f", "1", 5), found("s", "d/s/", "", 0)];
    let new = journal.import(d, &late, Timestamp::now()).await.unwrap();
    for inode in &new {
        assert!(journal.unsynced_row(inode.ino).await.unwrap().is_some());
    }
    assert_eq!(journal.resync(None, 9).await.unwrap()[0].dir, new[1].ino);
    assert_eq!(flush(&journal, d, "e/", "1").await, FlushOutcome::Clean);
    let later = [found("g", "e/g", "1", 5)];
    let new = journal.import(d, &later, Timestamp::now()).await.unwrap();
    assert!(new[0].is_only_cached());
}
