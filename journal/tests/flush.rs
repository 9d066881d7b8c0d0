//! The flusher's side: what becomes clean, what garbage, and who owns a key.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected must fail"
)]

mod common;

use common::{CREATION, NODE, at, dir, file, fresh, object, write};
use journal::{
    BLOCK_BYTES, BlockDigest, BlockDigests, Epoch, FlushOutcome, Flushed, Ino, Journal, RenameMode,
    Replacement, Seen, Sent, SetAttr,
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
async fn a_flushed_file_is_clean_and_owns_its_key() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    write(&journal, a.ino, 9).await;
    assert_eq!(flush(&journal, a.ino, "a", "1").await, FlushOutcome::Clean);
    let a = journal.inode(a.ino).await.unwrap().unwrap();
    assert!(!a.is_content_dirty() && !a.is_meta_dirty());
    assert_eq!(
        a.content.valid, 0,
        "its holes are zeros until it is evicted"
    );
    assert_eq!(journal.claim("a").await.unwrap(), Some(a.ino));
    assert!(journal.unsynced(None, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_clean_file_that_stays_open_is_evicted_in_its_generation() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let a = write(&journal, a.ino, 9).await;
    assert!(
        !journal
            .evicted_open(a.ino, a.content.epoch, a.content.generation)
            .await
            .unwrap()
    );
    flush(&journal, a.ino, "a", "1").await;
    journal
        .begin_write(a.ino, NODE, false, at(31))
        .await
        .unwrap();
    assert!(
        !journal
            .evicted_open(a.ino, Epoch(77), a.content.generation)
            .await
            .unwrap()
    );
    assert!(
        journal
            .evicted_open(a.ino, a.content.epoch, a.content.generation)
            .await
            .unwrap()
    );
    let evicted = journal.inode(a.ino).await.unwrap().unwrap().content;
    assert_eq!(
        (evicted.valid, evicted.generation, evicted.writer),
        (9, a.content.generation, Some(NODE))
    );
}

#[tokio::test]
async fn only_a_clean_closed_file_can_be_evicted() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let a = write(&journal, a.ino, 9).await;
    assert!(
        !journal
            .evicted(a.ino, a.content.epoch, a.content.generation)
            .await
            .unwrap()
    );
    flush(&journal, a.ino, "a", "1").await;
    assert!(
        !journal
            .evicted(a.ino, Epoch(77), a.content.generation)
            .await
            .unwrap()
    );
    journal
        .begin_write(a.ino, NODE, false, at(31))
        .await
        .unwrap();
    assert!(
        !journal
            .evicted(a.ino, a.content.epoch, a.content.generation)
            .await
            .unwrap()
    );
    let b = file(&journal, ROOT, "b").await;
    let b = write(&journal, b.ino, 9).await;
    flush(&journal, b.ino, "b", "1").await;
    assert!(
        journal
            .evicted(b.ino, b.content.epoch, b.content.generation)
            .await
            .unwrap()
    );
    let evicted = journal.inode(b.ino).await.unwrap().unwrap().content;
    assert_eq!(evicted.valid, 9);
    assert!(
        evicted.generation > b.content.generation,
        "whoever opens it now does so in an extent file of its own"
    );
    assert!(
        !journal
            .localized(b.ino, b.content.generation)
            .await
            .unwrap()
    );
    assert!(journal.localized(b.ino, evicted.generation).await.unwrap());
    assert_eq!(
        journal.inode(b.ino).await.unwrap().unwrap().content.valid,
        0
    );
}

#[tokio::test]
async fn a_lost_version_goes_back_to_the_objects() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let good = write(&journal, a.ino, 9).await;
    flush(&journal, a.ino, "a", "1").await;
    let torn = write(&journal, a.ino, 100).await;
    let back = journal.revert(a.ino, at(50)).await.unwrap();
    assert_eq!((back.size, back.content.valid), (9, 9));
    assert!(!back.is_content_dirty());
    assert!(
        back.content.epoch > torn.content.epoch,
        "epochs never go back"
    );
    assert_eq!(back.content.generation, good.content.generation + 1);
    let b = file(&journal, ROOT, "b").await;
    write(&journal, b.ino, 100).await;
    let empty = journal.revert(b.ino, at(50)).await.unwrap();
    assert_eq!((empty.size, empty.content.valid), (0, 0));
    assert!(journal.unsynced_row(b.ino).await.unwrap().is_some());
}

#[tokio::test]
async fn a_file_that_went_back_takes_the_bytes_of_a_newer_object_and_keeps_its_attributes() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    write(&journal, a.ino, 9).await;
    flush(&journal, a.ino, "a", "1").await;
    write(&journal, a.ino, 100).await;
    let chmod = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    journal.set_attr(a.ino, chmod, at(40)).await.unwrap();
    let back = journal.revert(a.ino, at(50)).await.unwrap();
    let seen = Seen::Object {
        etag: Some("2".into()),
        size: 20,
        mtime: at(45),
        mode: Some(0o644),
        uid: None,
        gid: None,
    };
    let newer = journal.refresh(a.ino, &seen, at(60)).await.unwrap();
    assert_eq!((newer.size, newer.content.valid), (20, 20));
    assert_eq!(newer.content.generation, back.content.generation + 1);
    assert_eq!((newer.mode, newer.mtime), (0o600, at(45)));
    assert!(!newer.is_content_dirty() && newer.is_meta_dirty());
    let gone = journal.refresh(a.ino, &Seen::Gone, at(70)).await.unwrap();
    assert_eq!(gone, newer, "its new attributes are still to be sent");
}

#[tokio::test]
async fn a_detached_file_leaves_its_object_to_others() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    flush(&journal, a.ino, "a", "1").await;
    let generation = a.content.generation;
    assert!(journal.detach(a.ino, generation, at(40)).await.unwrap());
    let detached = journal.inode(a.ino).await.unwrap().unwrap();
    assert!(detached.content.origin.is_none() && detached.is_content_dirty());
    assert_eq!(detached.content.seal, Some(journal::Seal::Synced));
    assert_eq!(journal.claim("a").await.unwrap(), None);
    assert!(garbage(&journal).await.is_empty());
    assert!(journal.unsynced_row(a.ino).await.unwrap().is_some());
}

#[tokio::test]
async fn a_file_whose_bytes_were_given_up_meanwhile_is_not_detached() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    flush(&journal, a.ino, "a", "1").await;
    assert!(
        journal
            .evicted(a.ino, a.content.epoch, a.content.generation)
            .await
            .unwrap()
    );
    let generation = a.content.generation;
    assert!(!journal.detach(a.ino, generation, at(40)).await.unwrap());
    assert!(!journal.withdraw(a.ino, generation, at(40)).await.unwrap());
    let kept = journal.inode(a.ino).await.unwrap().unwrap();
    assert!(kept.content.origin.is_some() && !kept.is_content_dirty());
}

#[tokio::test]
async fn a_marker_that_was_put_during_a_rename_is_not_left_behind() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    file(&journal, d.ino, "f").await;
    mv(&journal, "d", "e").await;
    let outcome = journal
        .flushed(d.ino, object("d/", "1", &d), at(30))
        .await
        .unwrap();
    assert_eq!(outcome, FlushOutcome::Newer);
    assert_eq!(garbage(&journal).await, ["d/"]);
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
async fn an_upload_is_remembered_part_by_part_and_outlives_its_inode() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    journal
        .upload_started(a.ino, Epoch(1), "a", "old", 8)
        .await
        .unwrap();
    journal
        .upload_part(a.ino, 1, "x", &BlockDigests::default())
        .await
        .unwrap();
    journal
        .upload_started(a.ino, Epoch(2), "a", "id", 16)
        .await
        .unwrap();
    journal
        .upload_part(a.ino, 2, "y", &BlockDigests::default())
        .await
        .unwrap();
    journal
        .upload_part(a.ino, 1, "z", &BlockDigests::default())
        .await
        .unwrap();
    let upload = journal.upload(a.ino).await.unwrap().unwrap();
    assert_eq!(
        (upload.epoch, upload.upload_id.as_str(), upload.part_bytes),
        (Epoch(2), "id", 16)
    );
    assert_eq!(upload.parts, [(1, "z".to_owned()), (2, "y".to_owned())]);
    journal.unlink(ROOT, b"a", at(20)).await.unwrap();
    journal.reap(a.ino).await.unwrap();
    assert_eq!(journal.uploads(9).await.unwrap(), [(a.ino, upload)]);
    journal.upload_cleared(a.ino, "old").await.unwrap();
    assert_eq!(journal.uploads(9).await.unwrap().len(), 1);
    journal.upload_cleared(a.ino, "id").await.unwrap();
    assert!(journal.uploads(9).await.unwrap().is_empty());
    assert!(
        journal
            .upload_part(a.ino, 3, "w", &BlockDigests::default())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_marker_that_arrives_after_its_directory_is_gone_is_a_directorys_garbage() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    journal.rmdir(ROOT, b"d", at(20)).await.unwrap();
    journal.reap(d.ino).await.unwrap();
    let late = journal.flushed(d.ino, object("d/", "1", &d), at(30)).await;
    assert_eq!(late.unwrap(), FlushOutcome::Clean);
    let row = journal.garbage_row("d/").await.unwrap().unwrap();
    assert!(row.directory);
}

#[tokio::test]
async fn an_upload_that_was_asked_for_is_remembered_until_its_name_is_known_or_it_is_gone() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let asked = async || journal.asked_uploads(None, 9).await.unwrap();
    journal.upload_asked("a", at(1)).await.unwrap();
    journal
        .upload_started(a.ino, Epoch(1), "a", "id", 8)
        .await
        .unwrap();
    assert!(asked().await.is_empty());
    for time in [2, 3, 4] {
        journal.upload_asked("a", at(time)).await.unwrap();
    }
    journal
        .upload_started(a.ino, Epoch(1), "a", "id", 8)
        .await
        .unwrap();
    let lost = asked().await;
    assert_eq!(lost.len(), 1, "two names were not heard");
    assert_eq!(
        (lost[0].key.as_str(), lost[0].since, lost[0].until),
        ("a", at(2), at(4))
    );
    journal.upload_asked("a", at(5)).await.unwrap();
    journal.asked_uploads_gone(&lost[0]).await.unwrap();
    assert_eq!(asked().await.len(), 1, "one was asked for since");
    let lost = asked().await;
    journal.asked_uploads_gone(&lost[0]).await.unwrap();
    assert!(asked().await.is_empty());
}

#[tokio::test]
async fn what_may_be_at_a_key_is_remembered_until_it_is_recorded() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    assert!(
        journal
            .attempted(a.ino, "a", false, CREATION)
            .await
            .unwrap()
    );
    let row = journal.garbage_row("a").await.unwrap().unwrap();
    assert!(row.attempted && row.etag.is_none() && !row.directory);
    flush(&journal, a.ino, "a", "1").await;
    assert!(garbage(&journal).await.is_empty());
    mv(&journal, "a", "b").await;
    flush(&journal, a.ino, "b", "2").await;
    assert!(
        journal
            .attempted(a.ino, "a", false, CREATION)
            .await
            .unwrap()
    );
    let row = journal.garbage_row("a").await.unwrap().unwrap();
    assert!(!row.attempted, "the version that was there is known");
}

#[tokio::test]
async fn what_was_sent_is_remembered_until_all_of_it_is_heard() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let sent = async || journal.sent(None, 10).await.unwrap();
    assert!(
        journal
            .attempted(a.ino, "a", false, CREATION)
            .await
            .unwrap()
    );
    assert_eq!(sent().await, [("a".to_owned(), CREATION)]);
    let earlier = Flushed {
        heard: false,
        ..object("a", "1", &a)
    };
    journal.flushed(a.ino, earlier, at(30)).await.unwrap();
    assert!(garbage(&journal).await.is_empty());
    let deletion = Sent {
        deleted: true,
        ..Sent::default()
    };
    journal.sending("a", deletion).await.unwrap();
    let both = Sent {
        created: true,
        ..deletion
    };
    assert_eq!(sent().await, [("a".to_owned(), both)]);
    flush(&journal, a.ino, "a", "1").await;
    assert!(sent().await.is_empty());
    journal.sending("b", deletion).await.unwrap();
    journal.all_heard("b").await.unwrap();
    assert!(sent().await.is_empty());
}

#[tokio::test]
async fn a_late_marker_belongs_to_the_directory_that_lives_there_now() {
    let (_dir, journal) = fresh().await;
    let old = dir(&journal, ROOT, "c").await;
    mv(&journal, "c", "b").await;
    let new = dir(&journal, ROOT, "c").await;
    flush(&journal, new.ino, "c/", "1").await;
    let late = journal
        .flushed(old.ino, object("c/", "2", &old), at(30))
        .await
        .unwrap();
    assert_eq!(late, FlushOutcome::Newer);
    flush(&journal, old.ino, "b/", "3").await;
    assert_eq!(journal.claim("c/").await.unwrap(), Some(new.ino));
    assert!(garbage(&journal).await.is_empty());
}

/// Blocks of which each digest is `byte`.
fn blocks(first: u64, count: usize, byte: u8) -> BlockDigests {
    let digests = vec![BlockDigest::from([byte; 16]); count];
    BlockDigests { first, digests }
}

async fn digest_of(journal: &Journal, ino: Ino, etag: &str, block: u64) -> Option<u8> {
    let known = journal.digests(ino, etag, block..block + 1).await.unwrap();
    let found: Vec<u8> = known
        .iter()
        .filter_map(|row| row.of(block).map(|digest| digest[0]))
        .collect();
    assert!(found.len() < 2, "{found:?}");
    found.first().copied()
}

async fn flush_blocks(journal: &Journal, ino: Ino, etag: &str, blocks: Option<BlockDigests>) {
    let inode = journal.inode(ino).await.unwrap().unwrap();
    let flushed = Flushed {
        blocks,
        ..object("a", etag, &inode)
    };
    journal.flushed(ino, flushed, at(30)).await.unwrap();
}

#[tokio::test]
async fn digests_are_those_of_the_recorded_object_and_of_no_other() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await.ino;
    write(&journal, a, 1000 * BLOCK_BYTES).await;
    flush_blocks(&journal, a, "1", Some(blocks(0, 1000, 1))).await;
    for block in [0, 127, 128, 999] {
        assert_eq!(digest_of(&journal, a, "1", block).await, Some(1), "{block}");
    }
    assert_eq!(digest_of(&journal, a, "1", 1000).await, None);
    let all = journal.digests(a, "1", 0..1000).await.unwrap();
    assert_eq!(all.iter().map(|row| row.digests.len()).sum::<usize>(), 1000);
    assert_eq!(digest_of(&journal, a, "other", 5).await, None);
    // The same bytes under another etag, as after a change of attributes.
    flush_blocks(&journal, a, "2", None).await;
    assert_eq!(digest_of(&journal, a, "2", 999).await, Some(1));
    assert_eq!(digest_of(&journal, a, "1", 999).await, None);
    // Part by part: what the object was is unknown as far as what will be is recorded.
    write(&journal, a, 500 * BLOCK_BYTES).await;
    let epoch = journal.inode(a).await.unwrap().unwrap().content.epoch;
    let started = journal.upload_started(a, epoch, "a", "id", 1);
    started.await.unwrap();
    let part = blocks(256, 244, 2);
    journal.upload_part(a, 2, "t", &part).await.unwrap();
    assert_eq!(digest_of(&journal, a, "2", 255).await, Some(1));
    assert_eq!(digest_of(&journal, a, "2", 257).await, None);
    flush_blocks(&journal, a, "3", Some(BlockDigests::default())).await;
    assert_eq!(digest_of(&journal, a, "3", 257).await, Some(2));
    assert_eq!(digest_of(&journal, a, "3", 255).await, None);
    assert_eq!(digest_of(&journal, a, "3", 999).await, None);
    // Of an open file nothing is known.
    write(&journal, a, BLOCK_BYTES).await;
    flush_blocks(&journal, a, "4", None).await;
    assert_eq!(digest_of(&journal, a, "4", 0).await, None);
    assert_eq!(digest_of(&journal, a, "3", 257).await, None);
}

#[tokio::test]
async fn what_somebody_else_has_put_does_not_get_the_digests_of_what_was_there() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await.ino;
    write(&journal, a, 5).await;
    flush_blocks(&journal, a, "1", Some(blocks(0, 1, 1))).await;
    let theirs = Replacement {
        etag: Some("theirs".into()),
        size: 5,
        mtime: at(40),
    };
    let taken = journal.superseded(a, &theirs, false, at(50)).await;
    assert!(taken.unwrap());
    assert_eq!(digest_of(&journal, a, "theirs", 0).await, None);
    // Its attributes are rewritten, or it moves.
    flush_blocks(&journal, a, "2", None).await;
    assert_eq!(digest_of(&journal, a, "2", 0).await, None);
}
