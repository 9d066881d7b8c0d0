//! More files than the flusher looks at together.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod common;

use std::time::Duration;

use common::{PART, Rig, bytes, run};
use flusher::State;
use journal::{Epoch, Ino};

on_every_store!(
    all_of_many_files_arrive,
    the_last_of_many_files_does_not_wait_for_the_others_to_settle,
);

/// Files looked at together.
const TOGETHER: usize = 4;

/// Files.
const MANY: usize = 60;

async fn all_of_many_files_arrive(mut rig: Rig) {
    rig.config.work_items_max = TOGETHER;
    let flusher = rig.start();
    for n in 0..MANY {
        rig.write(Ino::ROOT, &format!("f{n:03}"), b"content").await;
        flusher.wake();
    }
    rig.settled(&flusher).await;
    assert_eq!(rig.keys().await.len(), MANY);
}

async fn the_last_of_many_files_does_not_wait_for_the_others_to_settle(mut rig: Rig) {
    rig.config.work_items_max = TOGETHER;
    // Longer than a test may take.
    rig.config.settle = Duration::from_secs(3600);
    let flusher = rig.start();
    let mut last = Ino::ROOT;
    for n in 0..MANY {
        last = rig.write(Ino::ROOT, &format!("f{n:03}"), b"content").await;
        flusher.wake();
    }
    flusher.scanned().await;
    let row = rig.journal.unsynced_row(last).await.unwrap();
    for row in [row.as_ref(), None] {
        rig.rewrite(last, b"new content").await;
        let inode = rig.inode(last).await;
        flusher.flush_now(&inode, row);
        assert!(flusher.wait_clean(last, inode.content.epoch).await);
    }
    let key = format!("f{:03}", MANY - 1);
    assert_eq!(rig.object(&key).await.unwrap(), "new content");
}

#[test]
fn a_commit_marker_waits_for_a_shard_that_was_not_looked_at_yet() {
    run(async {
        let Some(mut rig) = Rig::bucket().await else {
            return;
        };
        rig.config.work_items_max = TOGETHER;
        rig.config.settle = Duration::from_secs(3600);
        let proxy = rig.proxy.as_ref().unwrap();
        proxy.hold(|line| line.contains("partNumber=2"));
        let flusher = rig.start();
        let ckpt = rig.mkdir(Ino::ROOT, "ckpt").await;
        let mut files = Vec::new();
        for n in 0..MANY {
            files.push(rig.write(Ino::ROOT, &format!("f{n:03}"), b"content").await);
        }
        let shard = rig.write(ckpt, "shard", &bytes(2 * PART, 5)).await;
        let marker = rig.write(ckpt, "latest", b"the shard is there").await;
        flusher.scanned().await;
        // Makes room for one.
        let before = flusher.status().dirty_files;
        flusher.flush_now(&rig.inode(files[0]).await, None);
        while flusher.status().dirty_files == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        flusher.flush_now(&rig.inode(marker).await, None);
        let clean = flusher.wait_clean(marker, Epoch(1));
        let marker_first = tokio::time::timeout(Duration::from_secs(3), clean).await;
        assert!(
            marker_first.is_err(),
            "the marker was there before its shard"
        );
        assert_eq!(rig.object("ckpt/latest").await, None);
        assert_eq!(flusher.state(shard).await, State::Uploading);
        proxy.release();
        assert!(flusher.wait_clean(marker, Epoch(1)).await);
        assert!(rig.object("ckpt/shard").await.is_some());
    });
}
