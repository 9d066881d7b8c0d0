//! Answers that are lost, cut off or wrong, one at a time.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod common;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use common::{PART, Rig, bytes, found, run};
use flusher::Flusher;
use harness::{Fault, Proxy};
use journal::{Found, Ino, RenameMode, Timestamp};
use remote::{Access, ObjectKey, PosixAttrs};

/// The fault happens to the first requests that are so, `times` times.
fn inject(proxy: &Proxy, fault: Fault, mut times: usize, is: fn(&str) -> bool) {
    proxy.judge(move |line| {
        let hit = times > 0 && is(line);
        times -= usize::from(hit);
        hit.then_some(fault)
    });
}

fn is_put(line: &str) -> bool {
    line.starts_with("PUT") && !line.contains("partNumber=")
}

fn is_begin(line: &str) -> bool {
    line.starts_with("POST") && line.contains("?uploads")
}

async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let mut waited = 0;
    while !is().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
        waited += 1;
        assert!(waited < 1000, "waited in vain: {what}");
    }
}

async fn uploads(rig: &Rig, key: &str) -> usize {
    rig.store
        .uploads(&ObjectKey::from(key))
        .await
        .unwrap()
        .len()
}

/// Writes `f`, whose object arrives without anybody hearing of it, and nothing gets through after that.
async fn arrived_unheard(rig: &Rig, flusher: &Flusher) -> Ino {
    let mut lost = false;
    rig.proxy.as_ref().unwrap().judge(move |line| {
        let put = is_put(line) && !std::mem::replace(&mut lost, true);
        Some(match put {
            true => Fault::LoseAnswer,
            false => Fault::Refuse(503, "SlowDown"),
        })
    });
    let ino = rig.write(Ino::ROOT, "f", b"ours").await;
    flusher.flush_all();
    until("it arrives", async || rig.object("f").await.is_some()).await;
    ino
}

#[test]
fn an_object_that_arrived_unheard_goes_with_its_file() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let flusher = rig.start();
        arrived_unheard(&rig, &flusher).await;
        rig.unlink("f").await;
        rig.proxy.as_ref().unwrap().mend();
        rig.settled(&flusher).await;
        assert!(rig.keys().await.is_empty(), "{:?}", rig.keys().await);
    });
}

#[test]
fn an_object_that_arrived_unheard_does_not_stay_under_its_files_old_name() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let flusher = rig.start();
        arrived_unheard(&rig, &flusher).await;
        rig.rename("f", "g").await;
        rig.proxy.as_ref().unwrap().mend();
        rig.settled(&flusher).await;
        assert_eq!(rig.keys().await, ["g"]);
        assert_eq!(rig.object("g").await.unwrap(), "ours");
        assert_eq!(flusher.status().conflicts, 0);
    });
}

#[test]
fn an_object_that_arrived_unheard_before_a_crash_does_not_stay_either() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let flusher = rig.start();
        arrived_unheard(&rig, &flusher).await;
        flusher.stop().await;
        rig.unlink("f").await;
        rig.proxy.as_ref().unwrap().mend();
        let flusher = rig.start();
        rig.settled(&flusher).await;
        assert!(rig.keys().await.is_empty(), "{:?}", rig.keys().await);
    });
}

#[test]
fn an_object_that_arrives_after_a_crash_and_after_its_file_does_not_stay() {
    run(async {
        let Some(mut rig) = Rig::bucket().await else {
            return;
        };
        rig.config.late_max = Duration::from_secs(4);
        let proxy = rig.proxy.as_ref().unwrap();
        inject(proxy, Fault::Delay(Duration::from_secs(2)), 1, is_put);
        let flusher = rig.start();
        rig.write(Ino::ROOT, "f", b"ours").await;
        flusher.flush_all();
        until("it is on its way", async || !proxy.injected().is_empty()).await;
        flusher.stop().await;
        rig.unlink("f").await;
        let flusher = rig.start();
        // It arrives, maybe for a moment only.
        rig.settled(&flusher).await;
        let proxy = rig.proxy.as_ref().unwrap();
        assert_eq!(proxy.count(|line| line.starts_with("DELETE")), 1);
        assert!(rig.keys().await.is_empty(), "{:?}", rig.keys().await);
    });
}

#[test]
fn an_object_that_was_put_again_and_deleted_does_not_come_back_by_the_put_that_failed() {
    run(async {
        let Some(mut rig) = Rig::bucket().await else {
            return;
        };
        rig.config.late_max = Duration::from_secs(12);
        let late = Duration::from_secs(4);
        let proxy = rig.proxy.as_ref().unwrap();
        inject(proxy, Fault::Overtaken(late), 1, is_put);
        let flusher = rig.start();
        rig.write(Ino::ROOT, "f", b"ours").await;
        flusher.flush_all();
        until("it is put again", async || rig.object("f").await.is_some()).await;
        assert_eq!(proxy.injected()["overtaken"], 1);
        rig.unlink("f").await;
        flusher.flush_all();
        until("it is deleted", async || rig.object("f").await.is_none()).await;
        // By now all of them have arrived.
        tokio::time::sleep(late + Duration::from_secs(1)).await;
        rig.settled(&flusher).await;
        assert!(rig.keys().await.is_empty(), "{:?}", rig.keys().await);
    });
}

#[test]
fn a_deletion_that_arrives_late_does_not_take_the_next_object_with_it() {
    run(async {
        let Some(mut rig) = Rig::bucket().await else {
            return;
        };
        rig.config.late_max = Duration::from_secs(6);
        let late = Duration::from_secs(3);
        let proxy = rig.proxy.as_ref().unwrap();
        let flusher = rig.start();
        rig.write(Ino::ROOT, "f", b"the same again").await;
        rig.settled(&flusher).await;
        let is_delete = |line: &str| line.starts_with("DELETE");
        inject(proxy, Fault::Overtaken(late), 1, is_delete);
        rig.unlink("f").await;
        flusher.flush_all();
        until("it is deleted", async || rig.object("f").await.is_none()).await;
        assert_eq!(proxy.injected()["overtaken"], 1);
        // An etag says what the content is, so no condition tells the two objects apart.
        rig.write(Ino::ROOT, "f", b"the same again").await;
        rig.settled(&flusher).await;
        tokio::time::sleep(late).await;
        assert_eq!(rig.object("f").await.unwrap(), "the same again");
    });
}

#[test]
fn a_put_that_failed_does_not_bring_back_what_the_next_daemon_has_deleted() {
    run(async {
        let Some(mut rig) = Rig::bucket().await else {
            return;
        };
        rig.config.late_max = Duration::from_secs(12);
        let late = Duration::from_secs(4);
        let proxy = rig.proxy.as_ref().unwrap();
        inject(proxy, Fault::Overtaken(late), 1, is_put);
        let flusher = rig.start();
        rig.write(Ino::ROOT, "f", b"ours").await;
        rig.settled(&flusher).await;
        assert_eq!(proxy.injected()["overtaken"], 1);
        flusher.stop().await;
        let flusher = rig.start();
        rig.unlink("f").await;
        flusher.flush_all();
        until("it is deleted", async || rig.object("f").await.is_none()).await;
        tokio::time::sleep(late + Duration::from_secs(1)).await;
        rig.settled(&flusher).await;
        assert!(rig.keys().await.is_empty(), "{:?}", rig.keys().await);
    });
}

#[test]
fn a_deletion_of_the_last_daemon_does_not_take_the_next_object_with_it() {
    run(async {
        let Some(mut rig) = Rig::bucket().await else {
            return;
        };
        rig.config.late_max = Duration::from_secs(6);
        let late = Duration::from_secs(3);
        let proxy = rig.proxy.as_ref().unwrap();
        let flusher = rig.start();
        rig.write(Ino::ROOT, "f", b"the same again").await;
        rig.settled(&flusher).await;
        let is_delete = |line: &str| line.starts_with("DELETE");
        inject(proxy, Fault::Overtaken(late), 1, is_delete);
        rig.unlink("f").await;
        flusher.flush_all();
        until("it is deleted", async || rig.object("f").await.is_none()).await;
        assert_eq!(proxy.injected()["overtaken"], 1);
        flusher.stop().await;
        let flusher = rig.start();
        rig.write(Ino::ROOT, "f", b"the same again").await;
        rig.settled(&flusher).await;
        tokio::time::sleep(late).await;
        assert_eq!(rig.object("f").await.unwrap(), "the same again");
    });
}

#[test]
fn what_somebody_else_has_put_over_an_object_that_arrived_unheard_stays() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let flusher = rig.start();
        arrived_unheard(&rig, &flusher).await;
        rig.foreign_put("f", b"theirs").await;
        rig.unlink("f").await;
        rig.proxy.as_ref().unwrap().mend();
        rig.settled(&flusher).await;
        assert_eq!(rig.object("f").await.unwrap(), "theirs");
    });
}

#[test]
fn what_somebody_waits_for_is_no_reason_to_publish_half_of_the_next_version() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let proxy = rig.proxy.as_ref().unwrap();
        for fault in [Fault::Delay(Duration::from_millis(700)), Fault::LoseAnswer] {
            let flusher = rig.start();
            let ino = rig.write(Ino::ROOT, "f", b"whole").await;
            let before = proxy.injected().values().sum::<u64>();
            inject(proxy, fault, 1, is_put);
            flusher.flush_now(&rig.inode(ino).await, None);
            until("it is on its way", async || {
                proxy.injected().values().sum::<u64>() > before
            })
            .await;
            rig.rewrite_open(ino, b"half").await;
            rig.close(ino, 4, false).await;
            flusher.wake();
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert_eq!(rig.object("f").await.unwrap(), "whole", "{fault:?}");
            rig.close(ino, 4, true).await;
            rig.settled(&flusher).await;
            assert_eq!(rig.object("f").await.unwrap(), "half");
            // It is asked for, and then it is no more.
            let asked = rig.inode(ino).await;
            rig.rewrite_open(ino, b"quarter").await;
            rig.close(ino, 7, false).await;
            flusher.flush_now(&asked, None);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(rig.object("f").await.unwrap(), "half");
            rig.close(ino, 7, true).await;
            flusher.stop().await;
            rig.unlink("f").await;
        }
    });
}

#[test]
fn an_upload_whose_name_was_never_heard_is_aborted_and_nobody_elses_is() {
    run(async {
        let Some(mut rig) = Rig::bucket().await else {
            return;
        };
        rig.config.stray_age = Duration::ZERO;
        let (key, attrs) = (ObjectKey::from("large"), PosixAttrs::default());
        // One with a part under the same key, and one without any that we never asked for.
        let theirs = rig.store.multipart(&key, &attrs).await.unwrap();
        let part = Bytes::from_static(b"theirs");
        rig.store.put_part(&key, &theirs, 1, part).await.unwrap();
        let other = ObjectKey::from("other");
        rig.store.multipart(&other, &attrs).await.unwrap();
        let proxy = rig.proxy.as_ref().unwrap();
        inject(proxy, Fault::LoseAnswer, 2, is_begin);
        let flusher = rig.start();
        let content = bytes(2 * PART, 3);
        rig.write(Ino::ROOT, "large", &content).await;
        rig.settled(&flusher).await;
        assert!(rig.object("large").await.unwrap() == content);
        assert_eq!(proxy.injected()["lost answer"], 2);
        until("the unheard ones are gone", async || {
            uploads(&rig, "large").await == 1
        })
        .await;
        let left = rig.store.uploads(&key).await.unwrap();
        assert_eq!(left[0].id, theirs);
        assert_eq!(uploads(&rig, "other").await, 1);
    });
}

#[test]
fn an_upload_that_begins_after_somebody_looked_for_it_is_aborted_too() {
    run(async {
        let Some(mut rig) = Rig::bucket().await else {
            return;
        };
        rig.config.stray_age = Duration::ZERO;
        // Of a daemon that was killed: one request is on its way yet, the other can't be any more.
        let now = Timestamp::now();
        let long_ago = SystemTime::from(now) - Duration::from_secs(3600);
        rig.journal.upload_asked("late", now).await.unwrap();
        let asked = rig.journal.upload_asked("old", long_ago.into());
        asked.await.unwrap();
        let _flusher = rig.start();
        until("the old one is forgotten, the other is not", async || {
            let asked = rig.journal.asked_uploads(None, 9).await.unwrap();
            matches!(&asked[..], [asked] if asked.key == "late")
        })
        .await;
        let (key, attrs) = (ObjectKey::from("late"), PosixAttrs::default());
        rig.store.multipart(&key, &attrs).await.unwrap();
        until("it is gone", async || uploads(&rig, "late").await == 0).await;
    });
}

#[test]
fn a_lost_upload_is_left_alone_until_it_is_old() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        inject(rig.proxy.as_ref().unwrap(), Fault::LoseAnswer, 1, is_begin);
        let flusher = rig.start();
        rig.write(Ino::ROOT, "large", &bytes(2 * PART, 3)).await;
        rig.settled(&flusher).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(uploads(&rig, "large").await, 1);
        assert_eq!(rig.journal.asked_uploads(None, 9).await.unwrap().len(), 1);
    });
}

#[test]
fn a_wrong_version_in_the_answer_to_a_put_is_found_by_a_look_at_the_object() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let proxy = rig.proxy.as_ref().unwrap();
        inject(proxy, Fault::WrongEtag, 1, is_put);
        let flusher = rig.start();
        let ino = rig.write(Ino::ROOT, "f", b"ours").await;
        rig.settled(&flusher).await;
        assert_eq!(proxy.injected()["wrong etag"], 1);
        let found = rig.store.head(&ObjectKey::from("f")).await.unwrap();
        let inode = rig.journal.inode(ino).await.unwrap().unwrap();
        let origin = inode.content.origin.unwrap();
        assert_eq!(found.unwrap().etag.map(|etag| etag.0), origin.etag);
    });
}

#[test]
fn an_upload_with_a_part_that_the_store_does_not_know_is_begun_anew_and_none_is_left() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let proxy = rig.proxy.as_ref().unwrap();
        inject(proxy, Fault::WrongEtag, 1, |line| {
            line.contains("partNumber=1")
        });
        let flusher = rig.start();
        let content = bytes(2 * PART, 3);
        rig.write(Ino::ROOT, "large", &content).await;
        rig.settled(&flusher).await;
        assert!(rig.object("large").await.unwrap() == content);
        assert_eq!(uploads(&rig, "large").await, 0);
    });
}

#[test]
fn an_abort_that_is_never_answered_holds_up_nothing_else() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let proxy = rig.proxy.as_ref().unwrap();
        let is_part = |line: &str| line.contains("partNumber=");
        proxy.hold(is_part);
        rig.write(Ino::ROOT, "large", &bytes(2 * PART, 1)).await;
        let flusher = rig.start();
        flusher.flush_all();
        proxy.wait_for_held();
        flusher.stop().await;
        proxy.release();
        rig.unlink("large").await;
        inject(proxy, Fault::Silence, usize::MAX, |line| {
            line.starts_with("DELETE") && line.contains("uploadId=")
        });
        let flusher = rig.start();
        until("an abort is tried", async || {
            proxy.injected().contains_key("silence")
        })
        .await;
        rig.write(Ino::ROOT, "small", b"s").await;
        rig.settled(&flusher).await;
        assert_eq!(rig.object("small").await.unwrap(), "s");
    });
}

#[test]
fn a_store_that_is_unwell_while_it_is_probed_is_not_taken_for_one_without_uploads_in_parts() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let proxy = rig.proxy.as_ref().unwrap();
        let remote = &rig.config.rooms.remote;
        inject(proxy, Fault::Refuse(503, "SlowDown"), 4, is_begin);
        let capabilities = remote.probe(Access::ReadWrite).await.unwrap();
        assert!(capabilities.multipart && capabilities.conditional_complete);
        inject(proxy, Fault::Refuse(503, "SlowDown"), usize::MAX, is_begin);
        assert!(remote.probe(Access::ReadWrite).await.is_err());
    });
}

#[test]
fn half_a_listing_is_no_listing_and_half_a_body_is_asked_for_again() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        for n in 0..5 {
            rig.foreign_put(&format!("f{n}"), b"0123456789").await;
        }
        let (proxy, remote) = (rig.proxy.as_ref().unwrap(), &rig.config.rooms.remote);
        inject(proxy, Fault::ShortAnswer, usize::MAX, |line| {
            line.contains("list-type=2")
        });
        let root = ObjectKey::default();
        assert!(remote.list_page(&root, None, 1000).await.is_err());
        inject(proxy, Fault::ShortAnswer, 2, |line| line.starts_with("GET"));
        let read = remote.get(&ObjectKey::from("f1"), 0..10, None).await;
        assert_eq!(read.unwrap(), "0123456789");
        inject(proxy, Fault::ShortAnswer, usize::MAX, |line| {
            line.starts_with("GET")
        });
        let read = remote.get(&ObjectKey::from("f1"), 0..10, None).await;
        assert!(matches!(read, Err(remote::Error::ShortBody { .. })));
    });
}

#[test]
fn an_object_left_to_a_file_that_is_gone_before_it_was_put_there_goes_too() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let proxy = rig.proxy.as_ref().unwrap();
        let flusher = rig.start();
        rig.write(Ino::ROOT, "f", b"first").await;
        let second = rig.write(Ino::ROOT, "g", b"second").await;
        rig.settled(&flusher).await;
        // The replaced file is not reaped yet: somebody has it open.
        let (root, now) = (Ino::ROOT, journal::Timestamp::now());
        let renamed = rig
            .journal
            .rename(root, b"g", root, b"f", journal::RenameMode::Replace, now)
            .await
            .unwrap();
        let first = renamed.replaced.unwrap().inode.ino;
        // Nothing is known of the key any more, and the copy does not get there.
        inject(proxy, Fault::Refuse(503, "SlowDown"), usize::MAX, |_| true);
        flusher.flush_all();
        until("it leaves its object", async || {
            let first = rig.journal.inode(first).await.unwrap();
            first.is_some_and(|inode| inode.content.origin.is_none())
        })
        .await;
        rig.unlink("f").await;
        rig.journal.reap(first).await.unwrap();
        assert!(rig.journal.inode(second).await.unwrap().is_none());
        proxy.mend();
        rig.settled(&flusher).await;
        assert!(rig.keys().await.is_empty(), "{:?}", rig.keys().await);
    });
}

#[test]
fn an_object_of_ours_goes_although_looks_at_it_name_wrong_versions() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let flusher = rig.start();
        rig.write(Ino::ROOT, "f", b"ours").await;
        rig.settled(&flusher).await;
        inject(rig.proxy.as_ref().unwrap(), Fault::WrongEtag, 5, |line| {
            line.starts_with("HEAD")
        });
        rig.unlink("f").await;
        rig.settled(&flusher).await;
        assert!(rig.keys().await.is_empty(), "{:?}", rig.keys().await);
    });
}

/// What a listing shows, as a mount would take it over.
async fn import_listing(rig: &Rig) {
    let asked = journal::Timestamp::now();
    let root = ObjectKey::from("");
    let page = rig.store.list_page(&root, None, 1000).await.unwrap();
    let found: Vec<Found> = page.files.into_iter().map(found).collect();
    rig.journal.import(Ino::ROOT, &found, asked).await.unwrap();
}

#[test]
fn what_somebody_else_put_at_the_old_name_of_a_file_whose_parts_were_under_way_stays() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let proxy = rig.proxy.as_ref().unwrap();
        let is_part = |line: &str| line.starts_with("PUT") && line.contains("partNumber");
        proxy.hold(is_part);
        let large = bytes(PART + 1, 7);
        rig.write(Ino::ROOT, "name", &large).await;
        let flusher = rig.start();
        flusher.flush_all();
        tokio::task::block_in_place(|| proxy.wait_for_held());
        rig.rename("name", "other").await;
        rig.foreign_put("name", b"theirs").await;
        import_listing(&rig).await;
        assert!(
            rig.journal
                .lookup(Ino::ROOT, b"name")
                .await
                .unwrap()
                .is_some()
        );
        proxy.release();
        rig.settled(&flusher).await;
        assert_eq!(rig.object("name").await.unwrap(), "theirs");
        assert!(rig.object("other").await.unwrap() == large);
        assert_eq!(rig.keys().await, ["name", "other"]);
        assert_eq!(flusher.status().conflicts, 0);
    });
}

#[test]
fn a_removed_directory_that_the_store_still_lists_does_not_move_with_the_one_above() {
    run(async {
        let Some(rig) = Rig::bucket().await else {
            return;
        };
        let proxy = rig.proxy.as_ref().unwrap();
        let flusher = rig.start();
        let old = rig.mkdir(Ino::ROOT, "old").await;
        let sub = rig.mkdir(old, "sub").await;
        rig.write(sub, "f", b"bytes").await;
        rig.settled(&flusher).await;
        // The marker goes first, and then what has moved away.
        proxy.hold(|line| line.starts_with("PUT") && line.contains("/elsewhere"));
        let (now, mode) = (journal::Timestamp::now(), RenameMode::Replace);
        let moved = rig
            .journal
            .rename(sub, b"f", Ino::ROOT, b"elsewhere", mode, now);
        moved.await.unwrap();
        rig.journal.rmdir(old, b"sub", now).await.unwrap();
        rig.journal.reap(sub).await.unwrap();
        flusher.flush_all();
        until("the marker goes", async || {
            proxy.count(|line| line.starts_with("DELETE") && line.contains("/sub/")) > 0
        })
        .await;
        proxy.release();
        rig.settled(&flusher).await;
        let listed = ObjectKey::from("old/");
        let page = rig.store.list_page(&listed, None, 9).await.unwrap();
        assert_eq!(page.directories, ["sub"], "the store has changed its ways");
        rig.rename("old", "new").await;
        rig.settled(&flusher).await;
        assert!(rig.journal.lookup(old, b"sub").await.unwrap().is_none());
        assert_eq!(rig.object("new/sub/").await, None);
        assert!(rig.object("new/").await.is_some());
    });
}
