//! The flusher's side: what becomes clean, what garbage, and who owns a key.

mod common;

use common::{NODE, at, dir, file, found, fresh, names, object, write};
use journal::{
    Epoch, FlushOutcome, Ino, Journal, Kind, Listing, RenameMode, Seen, SetAttr, Timestamp,
};
use std::collections::BTreeSet;

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
async fn a_flushed_file_is_clean_and_owns_its_key() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    write(&journal, a.ino, 9).await;
    assert_eq!(flush(&journal, a.ino, "a", "1").await, FlushOutcome::Clean);
    let a = journal.inode(a.ino).await.unwrap().unwrap();
    assert!(!a.is_content_dirty() && !a.is_meta_dirty());
    assert_eq!(a.content.valid, 9);
    assert_eq!(journal.claim("a").await.unwrap(), Some(a.ino));
    assert!(journal.unsynced(None, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_changed_during_the_upload_stays_unsynced() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let uploaded = write(&journal, a.ino, 9).await;
    write(&journal, a.ino, 4).await;
    let outcome = journal
        .flushed(a.ino, object("a", "1", &uploaded), at(30))
        .await
        .unwrap();
    assert_eq!(outcome, FlushOutcome::Newer);
    let now = journal.inode(a.ino).await.unwrap().unwrap();
    assert!(now.is_content_dirty());
    assert_eq!(
        now.content.valid, 0,
        "what is a hole now was never in the object"
    );
    assert!(journal.unsynced_row(a.ino).await.unwrap().is_some());
    assert_eq!(flush(&journal, a.ino, "a", "2").await, FlushOutcome::Clean);
}

#[tokio::test]
async fn a_chmod_during_the_upload_is_not_forgotten() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let set = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    journal.set_attr(a.ino, set, at(20)).await.unwrap();
    let outcome = journal
        .flushed(a.ino, object("a", "1", &a), at(30))
        .await
        .unwrap();
    assert_eq!(outcome, FlushOutcome::Newer);
}

#[tokio::test]
async fn a_rename_during_the_upload_moves_the_key_later() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    mv(&journal, "a", "b").await;
    let outcome = journal
        .flushed(a.ino, object("a", "1", &a), at(30))
        .await
        .unwrap();
    assert_eq!(outcome, FlushOutcome::Newer);
    let wanted = journal.wanted(a.ino).await.unwrap().unwrap();
    assert_eq!(wanted.path.unwrap(), [b"b"]);
    assert!(wanted.unsynced.is_some());
    assert_eq!(flush(&journal, a.ino, "b", "2").await, FlushOutcome::Clean);
    assert_eq!(garbage(&journal).await, ["a"]);
    assert_eq!(journal.claim("a").await.unwrap(), None);
}

#[tokio::test]
async fn an_unlink_during_the_upload_makes_the_object_garbage() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    journal.unlink(ROOT, b"a", at(20)).await.unwrap();
    let outcome = journal
        .flushed(a.ino, object("a", "1", &a), at(30))
        .await
        .unwrap();
    assert_eq!(outcome, FlushOutcome::Clean);
    assert_eq!(garbage(&journal).await, ["a"]);
    journal.reap(a.ino).await.unwrap();
    assert_eq!(garbage(&journal).await, ["a"]);
}

#[tokio::test]
async fn an_upload_that_ends_after_the_reaping_is_garbage() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    journal.unlink(ROOT, b"a", at(20)).await.unwrap();
    journal.reap(a.ino).await.unwrap();
    journal
        .flushed(a.ino, object("a", "1", &a), at(30))
        .await
        .unwrap();
    assert_eq!(garbage(&journal).await, ["a"]);
}

#[tokio::test]
async fn a_replacement_of_an_orphans_object_is_followed_until_reaped() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    flush(&journal, a.ino, "a", "1").await;
    let newer = write(&journal, a.ino, 3).await;
    journal.unlink(ROOT, b"a", at(30)).await.unwrap();
    journal
        .flushed(a.ino, object("a", "2", &newer), at(30))
        .await
        .unwrap();
    let orphan = journal.inode(a.ino).await.unwrap().unwrap();
    assert_eq!(orphan.content.origin.unwrap().etag.as_deref(), Some("2"));
    journal.reap(a.ino).await.unwrap();
    assert_eq!(garbage(&journal).await, ["a"]);
}

#[tokio::test]
async fn a_new_file_takes_its_key_out_of_the_garbage() {
    let (_dir, journal) = fresh().await;
    let old = file(&journal, ROOT, "a").await;
    flush(&journal, old.ino, "a", "1").await;
    journal.unlink(ROOT, b"a", at(20)).await.unwrap();
    journal.reap(old.ino).await.unwrap();
    assert!(journal.is_garbage("a").await.unwrap());
    let new = file(&journal, ROOT, "a").await;
    flush(&journal, new.ino, "a", "2").await;
    assert!(!journal.is_garbage("a").await.unwrap());
    assert_eq!(journal.claim("a").await.unwrap(), Some(new.ino));
}

#[tokio::test]
async fn reaping_leaves_a_key_that_another_file_has_claimed() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let b = file(&journal, ROOT, "b").await;
    flush(&journal, a.ino, "a", "1").await;
    flush(&journal, b.ino, "b", "2").await;
    mv(&journal, "b", "a").await;
    assert_eq!(flush(&journal, b.ino, "a", "3").await, FlushOutcome::Clean);
    journal.reap(a.ino).await.unwrap().unwrap();
    assert_eq!(garbage(&journal).await, ["b"]);
    assert_eq!(journal.claim("a").await.unwrap(), Some(b.ino));
}

#[tokio::test]
async fn a_key_taken_over_is_not_garbage_when_its_first_owner_moves() {
    let (_dir, journal) = fresh().await;
    let x = file(&journal, ROOT, "a").await;
    flush(&journal, x.ino, "a", "1").await;
    mv(&journal, "a", "b").await;
    let z = file(&journal, ROOT, "a").await;
    flush(&journal, z.ino, "a", "2").await;
    flush(&journal, x.ino, "b", "3").await;
    assert!(garbage(&journal).await.is_empty());
    assert_eq!(journal.claim("a").await.unwrap(), Some(z.ino));
}

#[tokio::test]
async fn a_renamed_directory_makes_everything_below_follow_in_steps() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    let sub = dir(&journal, d.ino, "sub").await;
    let mut files = Vec::new();
    for n in 0..5 {
        let made = file(&journal, d.ino, &format!("f{n}")).await;
        flush(&journal, made.ino, &format!("d/f{n}"), "1").await;
        files.push(made.ino);
    }
    let deep = file(&journal, sub.ino, "deep").await;
    flush(&journal, deep.ino, "d/sub/deep", "1").await;
    flush(&journal, d.ino, "d/", "1").await;
    flush(&journal, sub.ino, "d/sub/", "1").await;
    assert!(journal.unsynced(None, 9).await.unwrap().is_empty());
    mv(&journal, "d", "e").await;
    // Its own marker waits: the origin says where the children are.
    assert_eq!(flush(&journal, d.ino, "e/", "2").await, FlushOutcome::Newer);
    let mut steps = 0;
    while let Some(waiting) = journal.resync(None, 1).await.unwrap().first() {
        journal.resync_step(waiting.dir, 2, at(50)).await.unwrap();
        steps += 1;
        assert!(steps < 20);
    }
    let unsynced = journal.unsynced(None, 99).await.unwrap();
    assert_eq!(unsynced.len(), 8);
    assert_eq!(flush(&journal, d.ino, "e/", "2").await, FlushOutcome::Clean);
    flush(&journal, deep.ino, "e/sub/deep", "2").await;
    assert_eq!(garbage(&journal).await, ["d/", "d/sub/deep"]);
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
    let seen = BTreeSet::from([b"seen".to_vec()]);
    let gone = journal
        .forget_missing(ROOT, &seen, None, Some(b"z"))
        .await
        .unwrap();
    assert_eq!(gone.len(), 2);
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
async fn an_upload_is_remembered_part_by_part_and_outlives_its_inode() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    journal
        .upload_started(a.ino, Epoch(1), "a", "old", 8)
        .await
        .unwrap();
    journal.upload_part(a.ino, 1, "x").await.unwrap();
    journal
        .upload_started(a.ino, Epoch(2), "a", "id", 16)
        .await
        .unwrap();
    journal.upload_part(a.ino, 2, "y").await.unwrap();
    journal.upload_part(a.ino, 1, "z").await.unwrap();
    let upload = journal.upload(a.ino).await.unwrap().unwrap();
    assert_eq!(
        (upload.epoch, upload.upload_id.as_str(), upload.part_bytes),
        (Epoch(2), "id", 16)
    );
    assert_eq!(upload.parts, [(1, "z".to_owned()), (2, "y".to_owned())]);
    journal.unlink(ROOT, b"a", at(20)).await.unwrap();
    journal.reap(a.ino).await.unwrap();
    assert_eq!(journal.uploads(9).await.unwrap(), [(a.ino, upload)]);
    journal.upload_cleared(a.ino).await.unwrap();
    assert!(journal.uploads(9).await.unwrap().is_empty());
    assert!(journal.upload_part(a.ino, 3, "w").await.is_err());
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
