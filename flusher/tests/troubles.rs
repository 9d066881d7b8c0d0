//! Somebody else's changes, outages, restarts, and the order in which files become visible.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{PART, Rig, bytes, run};
use flusher::{OnConflict, PublishOrder, Resolution, State};
use journal::Ino;

on_every_store!(
    both_versions_are_kept_when_somebody_else_changed_the_object,
    both_versions_are_kept_when_a_new_file_meets_an_unknown_object,
    with_ours_the_local_version_replaces_what_somebody_else_put,
    with_theirs_the_local_version_is_kept_aside_and_the_file_is_theirs,
    with_theirs_a_file_that_is_open_keeps_a_name_of_its_own,
    an_object_that_somebody_else_deleted_is_written_again,
    what_somebody_else_put_at_a_deleted_key_is_not_deleted,
);

async fn both_versions_are_kept_when_somebody_else_changed_the_object(rig: Rig) {
    let flusher = rig.start();
    let ino = rig.write(Ino::ROOT, "f", b"ours").await;
    rig.settled(&flusher).await;
    rig.foreign_put("f", b"theirs, later").await;
    rig.rewrite(ino, b"ours, changed").await;
    rig.settled(&flusher).await;
    let kept_as = format!("f.conflict-{}-1", common::NODE);
    assert_eq!(rig.keys().await, ["f", &kept_as]);
    assert_eq!(rig.object("f").await.unwrap(), "theirs, later");
    assert_eq!(rig.object(&kept_as).await.unwrap(), "ours, changed");
    let renamed = rig
        .journal
        .lookup(Ino::ROOT, kept_as.as_bytes())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        renamed.ino, ino,
        "programs find the local version under the new name"
    );
    let status = flusher.status();
    assert_eq!(
        (status.conflicts, &status.conflict_list[0].resolution),
        (1, &Resolution::KeptAs(kept_as))
    );
    assert_eq!(flusher.state(ino).await, State::Conflict);
}

async fn both_versions_are_kept_when_a_new_file_meets_an_unknown_object(rig: Rig) {
    rig.foreign_put("f", b"theirs").await;
    rig.write(Ino::ROOT, "f", b"ours").await;
    let flusher = rig.start();
    rig.settled(&flusher).await;
    assert_eq!(rig.object("f").await.unwrap(), "theirs");
    let kept_as = format!("f.conflict-{}-1", common::NODE);
    assert_eq!(rig.object(&kept_as).await.unwrap(), "ours");
}

async fn with_ours_the_local_version_replaces_what_somebody_else_put(mut rig: Rig) {
    rig.config.on_conflict = OnConflict::Ours;
    let flusher = rig.start();
    rig.foreign_put("new", b"theirs").await;
    rig.write(Ino::ROOT, "new", b"ours").await;
    let ino = rig.write(Ino::ROOT, "f", b"ours").await;
    rig.settled(&flusher).await;
    assert_eq!(rig.object("new").await.unwrap(), "ours");
    rig.foreign_put("f", b"theirs, later").await;
    let large = bytes(3 * PART, 5);
    rig.rewrite(ino, &large).await;
    rig.settled(&flusher).await;
    assert_eq!(rig.keys().await, ["f", "new"]);
    assert_eq!(rig.object("f").await.unwrap(), large);
    let status = flusher.status();
    assert_eq!(status.conflicts, 2);
    let mut told = status.conflict_list.iter();
    assert!(told.all(|conflict| conflict.resolution == Resolution::ReplacedTheirs));
    assert_eq!(flusher.state(ino).await, State::Clean);
}

async fn with_theirs_the_local_version_is_kept_aside_and_the_file_is_theirs(mut rig: Rig) {
    let first = rig.extents.directories().next().unwrap();
    let aside = first.with_file_name("aside");
    rig.config.on_conflict = OnConflict::Theirs { aside };
    let flusher = rig.start();
    let ino = rig.write(Ino::ROOT, "f", b"ours").await;
    rig.settled(&flusher).await;
    for round in 1..=2 {
        let theirs = format!("theirs, no. {round}");
        rig.foreign_put("f", theirs.as_bytes()).await;
        rig.rewrite(ino, b"ours, changed").await;
        rig.settled(&flusher).await;
        assert_eq!(rig.keys().await, ["f"]);
        assert_eq!(rig.object("f").await.unwrap(), theirs);
        let inode = rig.journal.inode(ino).await.unwrap().unwrap();
        assert_eq!((inode.size, inode.content.valid), (13, 13));
        assert!(!inode.is_content_dirty() && !inode.is_meta_dirty());
        let status = flusher.status();
        assert_eq!(status.conflicts, round);
        let kept = match &status.conflict_list[0].resolution {
            Resolution::KeptAside(kept) => std::fs::read(kept).unwrap(),
            _ => Vec::new(),
        };
        assert_eq!(kept, b"ours, changed");
    }
    rig.rewrite(ino, b"ours again").await;
    rig.settled(&flusher).await;
    assert_eq!(rig.object("f").await.unwrap(), "ours again");
    assert_eq!(flusher.status().conflicts, 2);
}

async fn with_theirs_a_file_that_is_open_keeps_a_name_of_its_own(mut rig: Rig) {
    let first = rig.extents.directories().next().unwrap();
    let aside = first.with_file_name("aside");
    rig.config.on_conflict = OnConflict::Theirs { aside };
    let flusher = rig.start();
    let ino = rig.create_open(Ino::ROOT, "f", b"open").await;
    rig.foreign_put("f", b"theirs").await;
    // Somebody waits for what a program has open: it goes on writing to a file of its own.
    flusher.flush_now(&rig.inode(ino).await, None);
    let kept_as = format!("f.conflict-{}-1", common::NODE);
    for _ in 0..500 {
        if rig.keys().await.contains(&kept_as) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(rig.object(&kept_as).await.unwrap(), "open");
    assert_eq!(rig.object("f").await.unwrap(), "theirs");
    rig.close(ino, 4, true).await;
}

async fn an_object_that_somebody_else_deleted_is_written_again(rig: Rig) {
    let flusher = rig.start();
    let ino = rig.write(Ino::ROOT, "f", b"ours").await;
    rig.settled(&flusher).await;
    rig.store.delete(&"f".into()).await.unwrap();
    rig.rewrite(ino, b"ours, changed").await;
    rig.settled(&flusher).await;
    assert_eq!(rig.object("f").await.unwrap(), "ours, changed");
    assert_eq!(flusher.status().conflicts, 0);
}

async fn what_somebody_else_put_at_a_deleted_key_is_not_deleted(rig: Rig) {
    let flusher = rig.start();
    rig.write(Ino::ROOT, "f", b"ours").await;
    rig.settled(&flusher).await;
    rig.foreign_put("f", b"theirs").await;
    rig.unlink("f").await;
    rig.settled(&flusher).await;
    assert_eq!(rig.object("f").await.unwrap(), "theirs");
}

fn is_part(line: &str) -> bool {
    line.starts_with("PUT") && line.contains("partNumber=")
}

#[test]
fn a_restart_in_the_middle_of_a_large_upload_sends_only_the_missing_parts() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let proxy = rig.proxy.as_ref().unwrap();
        let content = bytes(6 * PART, 9);
        let ino = rig.write(Ino::ROOT, "large", &content).await;
        let passed = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&passed);
        // Two parts pass, the others are held until the flusher has gone.
        proxy.hold(move |line| is_part(line) && counter.fetch_add(1, Ordering::SeqCst) >= 2);
        let flusher = rig.start();
        flusher.flush_all();
        let recorded = async {
            while rig
                .journal
                .upload(ino)
                .await
                .unwrap()
                .is_none_or(|upload| upload.parts.len() < 2)
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        recorded.await;
        flusher.stop().await;
        let upload = rig.journal.upload(ino).await.unwrap().unwrap();
        assert_eq!(upload.parts.len(), 2);
        proxy.release();
        let before = proxy.count(is_part);
        let flusher = rig.start();
        rig.settled(&flusher).await;
        assert!(rig.object("large").await.unwrap() == content);
        // Those that were held had been sent by the first flusher; each may be passed on when released.
        let after = proxy.requests();
        let sent: Vec<_> = after.iter().filter(|line| is_part(line)).collect();
        assert!(
            sent.iter().all(|line| line.contains(&upload.upload_id)),
            "the same upload went on"
        );
        for (number, _) in &upload.parts {
            let part = format!("partNumber={number}&");
            assert_eq!(
                sent.iter().filter(|line| line.contains(&part)).count(),
                1,
                "part {number}: {sent:?}"
            );
        }
        assert!(sent.len() > before);
    });
}

#[test]
fn an_upload_of_an_older_version_is_aborted_after_a_restart() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let proxy = rig.proxy.as_ref().unwrap();
        let ino = rig.write(Ino::ROOT, "large", &bytes(2 * PART, 1)).await;
        proxy.hold(is_part);
        let flusher = rig.start();
        flusher.flush_all();
        proxy.wait_for_held();
        flusher.stop().await;
        let stale = rig.journal.upload(ino).await.unwrap().unwrap();
        proxy.release();
        rig.rewrite(ino, b"short").await;
        let flusher = rig.start();
        rig.settled(&flusher).await;
        assert_eq!(rig.object("large").await.unwrap(), "short");
        let aborted = |line: &str| line.starts_with("DELETE") && line.contains(&stale.upload_id);
        // Beside the upload of the new version, which has no need to wait for it.
        let gone = async {
            while rig.journal.upload(ino).await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let gone = tokio::time::timeout(Duration::from_secs(30), gone).await;
        gone.expect("the upload is forgotten");
        assert_eq!(proxy.count(aborted), 1, "{:?}", proxy.requests());
    });
}

#[test]
fn an_outage_is_reported_does_not_hammer_and_everything_arrives_after_it() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let proxy = rig.proxy.as_ref().unwrap();
        let flusher = rig.start();
        rig.write(Ino::ROOT, "before", b"x").await;
        rig.settled(&flusher).await;
        proxy.cut();
        for n in 0..300 {
            rig.write(Ino::ROOT, &format!("f{n:03}"), b"written during the outage")
                .await;
        }
        flusher.flush_all();
        // It may have met with the outage before it has seen the last file.
        while flusher.status().store_ok || flusher.status().dirty_files < 300 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let status = flusher.status();
        assert!(status.last_error.is_some(), "{status:?}");
        let connects = proxy.connects();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let tried = proxy.connects() - connects;
        assert!(
            tried < 150,
            "{tried} connections in two seconds while the store was away"
        );
        proxy.mend();
        rig.settled(&flusher).await;
        assert_eq!(rig.keys().await.len(), 301);
        let status = flusher.status();
        assert!(
            status.store_ok && status.dirty_files == 0 && status.last_error.is_none(),
            "{status:?}"
        );
    });
}

#[test]
fn a_commit_marker_becomes_visible_after_the_shards_closed_before_it() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let (marker_first, keys) = publish(&rig).await;
        assert!(!marker_first, "the marker was there before its shard");
        assert_eq!(
            keys,
            [
                "ckpt/",
                "ckpt/.metadata",
                "ckpt/shards/",
                "ckpt/shards/0",
                "other"
            ]
        );
    });
}

#[test]
fn without_an_order_a_commit_marker_does_not_wait() {
    run(async {
        let Some(mut rig) = Rig::bucket().await else {
            return;
        };
        rig.config.publish_order = PublishOrder::None;
        let (marker_first, _) = publish(&rig).await;
        assert!(marker_first);
    });
}

/// A shard that is held up, a marker closed after it, and a file elsewhere. Returns whether the marker was
/// there before the shard, and the keys at the end.
async fn publish(rig: &Rig) -> (bool, Vec<String>) {
    let proxy = rig.proxy.as_ref().unwrap();
    let ckpt = rig.mkdir(Ino::ROOT, "ckpt").await;
    let shards = rig.mkdir(ckpt, "shards").await;
    let flusher = rig.start();
    proxy.hold(|line| is_part(line) && line.contains("partNumber=2"));
    rig.write(Ino::ROOT, "other", b"closed first, waits for nothing")
        .await;
    let shard = rig.write(shards, "0", &bytes(2 * PART, 5)).await;
    let marker = rig.write(ckpt, ".metadata", b"all shards are there").await;
    flusher.flush_all();
    proxy.wait_for_held();
    let other = rig
        .journal
        .lookup(Ino::ROOT, b"other")
        .await
        .unwrap()
        .unwrap();
    assert!(flusher.wait_clean(other.ino, other.content.epoch).await);
    // Time enough for a marker that does not wait.
    let clean = flusher.wait_clean(marker, journal::Epoch(1));
    let marker_first = tokio::time::timeout(Duration::from_secs(1), clean)
        .await
        .is_ok();
    assert_eq!(rig.object("ckpt/.metadata").await.is_some(), marker_first);
    assert_eq!(flusher.state(shard).await, State::Uploading);
    proxy.release();
    rig.settled(&flusher).await;
    (marker_first, rig.keys().await)
}
