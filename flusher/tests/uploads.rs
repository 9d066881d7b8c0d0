//! How bytes get to the store.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod common;

use bytes::Bytes;
use common::{PART, Rig, bytes};
use journal::{Ino, SetAttr, Timestamp};
use remote::{Condition, FileVersion, ObjectKey, PosixAttrs};

on_every_store!(
    a_closed_file_becomes_an_object_with_its_bytes_and_attributes,
    a_large_file_goes_in_parts_and_arrives_whole,
    an_empty_file_becomes_an_empty_object,
    a_file_rewritten_after_its_upload_replaces_its_object,
    a_change_of_attributes_reaches_the_object_and_leaves_its_bytes,
    a_patch_of_a_file_that_is_mostly_in_the_store_uploads_the_merged_file,
    an_open_file_is_left_until_it_is_closed,
    an_open_file_is_sent_when_somebody_waits_for_the_object,
    what_was_unsynced_before_a_restart_is_uploaded_after_it,
    an_own_upload_whose_answer_was_lost_is_recognised,
);

async fn a_closed_file_becomes_an_object_with_its_bytes_and_attributes(rig: Rig) {
    let flusher = rig.start();
    let directory = rig.mkdir(Ino::ROOT, "ckpt").await;
    let ino = rig.write(directory, "step-1.pt", b"weights").await;
    flusher.wake();
    assert!(flusher.wait_clean(ino, journal::Epoch(1)).await);
    rig.settled(&flusher).await;
    assert_eq!(rig.object("ckpt/step-1.pt").await.unwrap(), "weights");
    let meta = rig
        .store
        .head(&ObjectKey::from("ckpt/step-1.pt"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(meta.posix.mode, Some(0o640));
    let inode = rig.journal.inode(ino).await.unwrap().unwrap();
    let origin = inode.content.origin.unwrap();
    assert_eq!((origin.key.as_str(), origin.size), ("ckpt/step-1.pt", 7));
    assert_eq!(flusher.state(ino).await, flusher::State::Clean);
    assert_eq!(flusher.status().uploaded_bytes_total, 7);
    if let Some(proxy) = &rig.proxy {
        // The answer to the put has proven what arrived.
        let looks = proxy.count(|line| line.starts_with("HEAD") && line.contains("step-1.pt"));
        assert_eq!(looks, 0, "{:?}", proxy.requests());
    }
}

async fn a_large_file_goes_in_parts_and_arrives_whole(rig: Rig) {
    let flusher = rig.start();
    let content = bytes(2 * PART + 12345, 1);
    let ino = rig.write(Ino::ROOT, "large", &content).await;
    rig.settled(&flusher).await;
    assert!(rig.object("large").await.unwrap() == content);
    assert!(
        rig.journal.upload(ino).await.unwrap().is_none(),
        "the record of the upload is cleared"
    );
    if let Some(proxy) = &rig.proxy {
        assert_eq!(
            proxy.count(|line| line.starts_with("PUT") && line.contains("partNumber=")),
            3
        );
    }
}

async fn an_empty_file_becomes_an_empty_object(rig: Rig) {
    let flusher = rig.start();
    rig.write(Ino::ROOT, "empty", b"").await;
    rig.settled(&flusher).await;
    assert_eq!(rig.object("empty").await.unwrap(), "");
}

async fn a_file_rewritten_after_its_upload_replaces_its_object(rig: Rig) {
    let flusher = rig.start();
    let ino = rig.write(Ino::ROOT, "f", b"first").await;
    rig.settled(&flusher).await;
    rig.rewrite(ino, b"second version").await;
    rig.settled(&flusher).await;
    assert_eq!(rig.object("f").await.unwrap(), "second version");
    assert_eq!(flusher.status().conflicts, 0);
}

async fn a_change_of_attributes_reaches_the_object_and_leaves_its_bytes(rig: Rig) {
    let flusher = rig.start();
    let ino = rig.write(Ino::ROOT, "f", b"bytes").await;
    rig.settled(&flusher).await;
    let set = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    rig.journal
        .set_attr(ino, set, Timestamp::now())
        .await
        .unwrap();
    rig.settled(&flusher).await;
    let meta = rig
        .store
        .head(&ObjectKey::from("f"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(meta.posix.mode, Some(0o600));
    assert_eq!(rig.object("f").await.unwrap(), "bytes");
    assert_eq!(
        flusher.status().uploaded_bytes_total,
        5,
        "its bytes were sent once"
    );
}

async fn a_patch_of_a_file_that_is_mostly_in_the_store_uploads_the_merged_file(rig: Rig) {
    let mut content = bytes(300_000, 3);
    rig.foreign_put("data", &content).await;
    let imported = rig.import(Ino::ROOT, "data").await;
    rig.patch(imported, content.len(), 65536, &[7; 4096]).await;
    content[65536..65536 + 4096].fill(7);
    let flusher = rig.start();
    rig.settled(&flusher).await;
    assert!(rig.object("data").await.unwrap() == content);
    assert_eq!(flusher.status().conflicts, 0);
}

async fn an_open_file_is_left_until_it_is_closed(rig: Rig) {
    let flusher = rig.start();
    let open = rig.create_open(Ino::ROOT, "open", b"half").await;
    rig.write(Ino::ROOT, "closed", b"x").await;
    flusher.flush_all();
    let closed = rig
        .journal
        .lookup(Ino::ROOT, b"closed")
        .await
        .unwrap()
        .unwrap();
    assert!(flusher.wait_clean(closed.ino, closed.content.epoch).await);
    assert_eq!(rig.object("open").await, None);
    rig.close(open, 4, true).await;
    rig.settled(&flusher).await;
    assert_eq!(rig.object("open").await.unwrap(), "half");
}

async fn an_open_file_is_sent_when_somebody_waits_for_the_object(rig: Rig) {
    let flusher = rig.start();
    let ino = rig.create_open(Ino::ROOT, "log", b"so far").await;
    rig.close(ino, 6, false).await;
    let inode = rig.inode(ino).await;
    flusher.flush_now(&inode, None);
    assert!(flusher.wait_clean(ino, inode.content.epoch).await);
    assert_eq!(rig.object("log").await.unwrap(), "so far");
}

async fn what_was_unsynced_before_a_restart_is_uploaded_after_it(rig: Rig) {
    rig.write(Ino::ROOT, "f", b"written without a flusher")
        .await;
    let flusher = rig.start();
    rig.settled(&flusher).await;
    flusher.stop().await;
    rig.write(Ino::ROOT, "g", b"and once more").await;
    let flusher = rig.start();
    rig.settled(&flusher).await;
    assert_eq!(rig.keys().await, ["f", "g"]);
}

async fn an_own_upload_whose_answer_was_lost_is_recognised(rig: Rig) {
    if !rig.config.rooms.capabilities.attributes {
        return;
    }
    let ino = rig.write(Ino::ROOT, "f", b"bytes").await;
    let inode = rig.journal.inode(ino).await.unwrap().unwrap();
    let attrs = PosixAttrs {
        version: Some(FileVersion {
            node: common::NODE.0,
            ino: ino.0,
            epoch: inode.content.epoch.0,
            meta_epoch: inode.meta_epoch,
            place: 0,
        }),
        ..PosixAttrs::default()
    };
    let key = ObjectKey::from("f");
    let body = Bytes::from_static(b"bytes");
    rig.store
        .put(&key, body, &attrs, &Condition::None)
        .await
        .unwrap();
    if rig
        .store
        .head(&key)
        .await
        .unwrap()
        .unwrap()
        .posix
        .version
        .is_none()
    {
        eprintln!("skipped: the file system of the folder keeps no extended attributes");
        return;
    }
    let flusher = rig.start();
    rig.settled(&flusher).await;
    assert_eq!(flusher.status().conflicts, 0);
    assert_eq!(rig.keys().await, ["f"]);
}
