//! Attributes, sizes, writers and extended attributes of one inode.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected must fail"
)]

mod common;

use common::{NODE, at, dir, file, fresh, object, write};
use journal::{EndWrite, Epoch, Ino, NodeId, Seal, SetAttr, XattrMode};

const ROOT: Ino = Ino::ROOT;

fn size(size: u64) -> SetAttr {
    SetAttr {
        size: Some(size),
        ..SetAttr::default()
    }
}

#[tokio::test]
async fn a_truncation_is_a_new_epoch_and_shortens_what_comes_from_the_origin() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let a = write(&journal, a.ino, 100).await;
    journal
        .flushed(a.ino, object("a", "1", &a), at(30))
        .await
        .unwrap();
    assert!(
        journal
            .evicted(a.ino, a.content.epoch, a.content.generation)
            .await
            .unwrap()
    );
    let cut = journal.set_attr(a.ino, size(40), at(50)).await.unwrap();
    assert_eq!((cut.size, cut.content.valid), (40, 40));
    assert_eq!(cut.content.epoch, Epoch(a.content.epoch.0 + 1));
    assert_eq!((cut.mtime, cut.ctime), (at(50), at(50)));
    let grown = journal.set_attr(a.ino, size(90), at(51)).await.unwrap();
    assert_eq!((grown.size, grown.content.valid), (90, 40));
    assert!(journal.unsynced_row(a.ino).await.unwrap().is_some());
}

#[tokio::test]
async fn a_truncation_that_failed_is_taken_back_with_what_comes_from_the_origin() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let a = write(&journal, a.ino, 100).await;
    journal
        .flushed(a.ino, object("a", "1", &a), at(30))
        .await
        .unwrap();
    assert!(
        journal
            .evicted(a.ino, a.content.epoch, a.content.generation)
            .await
            .unwrap()
    );
    let a = journal.inode(a.ino).await.unwrap().unwrap();
    let cut = journal.set_attr(a.ino, size(40), at(50)).await.unwrap();
    assert!(journal.undo_resize(&a, &cut, at(51)).await.unwrap());
    let back = journal.inode(a.ino).await.unwrap().unwrap();
    assert_eq!(
        (back.size, back.content.valid, back.mtime),
        (100, 100, a.mtime)
    );
    assert_eq!(back.content.seal, a.content.seal);
    assert!(back.content.epoch > cut.content.epoch);
    assert!(
        !journal.undo_resize(&a, &cut, at(52)).await.unwrap(),
        "twice"
    );

    let cut = journal.set_attr(a.ino, size(10), at(60)).await.unwrap();
    journal
        .flushed(a.ino, object("a", "2", &cut), at(61))
        .await
        .unwrap();
    assert!(!journal.undo_resize(&back, &cut, at(62)).await.unwrap());
    let stays = journal.inode(a.ino).await.unwrap().unwrap();
    assert_eq!((stays.size, stays.content.valid), (10, 10));
}

#[tokio::test]
async fn only_files_have_a_size_to_set() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    let set = SetAttr {
        size: Some(1),
        ..SetAttr::default()
    };
    let error = journal.set_attr(d.ino, set, at(1)).await.unwrap_err();
    assert_eq!(error.errno(), libc::EISDIR);
}

#[tokio::test]
async fn a_chmod_travels_and_an_atime_does_not() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    journal
        .flushed(a.ino, object("a", "1", &a), at(30))
        .await
        .unwrap();
    let atime = SetAttr {
        atime: Some(at(44)),
        ..SetAttr::default()
    };
    let touched = journal.set_attr(a.ino, atime, at(45)).await.unwrap();
    assert_eq!((touched.atime, touched.ctime), (at(44), at(45)));
    assert!(!touched.is_meta_dirty());
    assert_eq!(journal.unsynced_row(a.ino).await.unwrap(), None);
    let mode = SetAttr {
        mode: Some(0o100_600),
        ..SetAttr::default()
    };
    let changed = journal.set_attr(a.ino, mode, at(46)).await.unwrap();
    assert_eq!(changed.mode, 0o600);
    assert!(changed.is_meta_dirty() && !changed.is_content_dirty());
    assert_eq!(
        journal.unsynced_row(a.ino).await.unwrap().unwrap().since,
        at(46)
    );
}

#[tokio::test]
async fn a_writer_is_known_until_it_closes() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    journal
        .begin_write(a.ino, NODE, false, at(20))
        .await
        .unwrap();
    assert_eq!(journal.writers(NODE).await.unwrap(), [a.ino]);
    let other = journal.begin_write(a.ino, NodeId(99), false, at(20)).await;
    assert_eq!(other.unwrap_err().errno(), libc::EBUSY);
    let seal = Seal::Closed {
        size: 5,
        map_digest: 77,
    };
    let mut end = EndWrite {
        size: 5,
        mtime: at(21),
        changed: true,
        close: false,
        seal: Some(seal),
    };
    let synced = journal.end_write(a.ino, NODE, end, at(22)).await.unwrap();
    assert_eq!(synced.content.writer, Some(NODE));
    assert_eq!(
        (synced.size, synced.mtime, synced.content.seal),
        (5, at(21), Some(seal))
    );
    end.changed = false;
    end.close = true;
    end.size = 999;
    let closed = journal.end_write(a.ino, NODE, end, at(23)).await.unwrap();
    assert_eq!(closed.content.writer, None);
    assert_eq!(
        (closed.size, closed.content.epoch),
        (5, synced.content.epoch)
    );
    assert!(journal.writers(NODE).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_truncating_open_begins_a_new_generation() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let before = write(&journal, a.ino, 100).await;
    let after = journal
        .begin_write(a.ino, NODE, true, at(50))
        .await
        .unwrap();
    assert_eq!(
        (after.size, after.content.valid, after.mtime),
        (0, 0, at(50))
    );
    assert_eq!(after.content.generation, before.content.generation + 1);
    assert_eq!(after.content.epoch, Epoch(before.content.epoch.0 + 1));
    assert_eq!(after.content.seal, None);
}

#[tokio::test]
async fn extended_attributes_of_every_length_survive() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    for bytes in [0usize, 1, 2048, 2049, 4097, 65_536] {
        let value: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
        journal
            .set_xattr(a.ino, b"user.v", &value, XattrMode::Any, at(30))
            .await
            .unwrap();
        assert_eq!(
            journal.get_xattr(a.ino, b"user.v").await.unwrap().unwrap(),
            value
        );
    }
    journal
        .set_xattr(a.ino, b"user.v", b"short", XattrMode::Any, at(31))
        .await
        .unwrap();
    assert_eq!(
        journal.get_xattr(a.ino, b"user.v").await.unwrap().unwrap(),
        b"short"
    );
    assert_eq!(journal.inode(a.ino).await.unwrap().unwrap().ctime, at(31));
    let too_large = vec![0; 65_537];
    let error = journal
        .set_xattr(a.ino, b"user.v", &too_large, XattrMode::Any, at(31))
        .await;
    assert_eq!(error.unwrap_err().errno(), libc::E2BIG);
}

#[tokio::test]
async fn extended_attributes_are_listed_created_replaced_and_removed() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let big = vec![7; 10_000];
    let set = |name: &'static [u8], mode| journal.set_xattr(a.ino, name, &big, mode, at(30));
    assert_eq!(
        set(b"user.b", XattrMode::Replace)
            .await
            .unwrap_err()
            .errno(),
        libc::ENODATA
    );
    set(b"user.b", XattrMode::Create).await.unwrap();
    set(b"user.a", XattrMode::Any).await.unwrap();
    set(b"user.bb", XattrMode::Any).await.unwrap();
    assert_eq!(
        set(b"user.b", XattrMode::Create).await.unwrap_err().errno(),
        libc::EEXIST
    );
    let names = journal.list_xattr(a.ino).await.unwrap();
    assert_eq!(names, [&b"user.a"[..], b"user.b", b"user.bb"]);
    journal
        .remove_xattr(a.ino, b"user.b", at(31))
        .await
        .unwrap();
    assert_eq!(journal.get_xattr(a.ino, b"user.b").await.unwrap(), None);
    assert_eq!(
        journal.get_xattr(a.ino, b"user.bb").await.unwrap().unwrap(),
        big
    );
    let again = journal.remove_xattr(a.ino, b"user.b", at(31)).await;
    assert_eq!(again.unwrap_err().errno(), libc::ENODATA);
}

#[tokio::test]
async fn reaping_removes_any_number_of_extended_attributes() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    for n in 0..300 {
        let name = format!("user.{n}");
        journal
            .set_xattr(a.ino, name.as_bytes(), b"v", XattrMode::Any, at(30))
            .await
            .unwrap();
    }
    journal.unlink(ROOT, b"a", at(40)).await.unwrap();
    journal.reap(a.ino).await.unwrap().unwrap();
    assert!(journal.list_xattr(a.ino).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_was_fsynced_is_known_until_a_truncating_open() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    journal
        .begin_write(a.ino, NODE, false, at(20))
        .await
        .unwrap();
    let mut end = EndWrite {
        size: 5,
        mtime: at(21),
        changed: true,
        close: false,
        seal: Some(Seal::Synced),
    };
    journal.end_write(a.ino, NODE, end, at(22)).await.unwrap();
    end.seal = Some(Seal::Closed {
        size: 5,
        map_digest: 1,
    });
    end.close = true;
    let closed = journal.end_write(a.ino, NODE, end, at(23)).await.unwrap();
    assert_eq!(closed.content.seal, Some(Seal::Touched));
    (end.changed, end.seal) = (false, Some(Seal::Synced));
    let synced = journal.end_write(a.ino, NODE, end, at(23)).await.unwrap();
    assert_eq!(synced.content.seal, Some(Seal::Synced));
    let set = SetAttr {
        size: Some(2),
        ..SetAttr::default()
    };
    let cut = journal.set_attr(a.ino, set, at(24)).await.unwrap();
    assert_eq!(cut.content.seal, Some(Seal::Touched));
    let open = journal
        .begin_write(a.ino, NODE, true, at(25))
        .await
        .unwrap();
    assert_eq!(open.content.seal, None);
}

#[tokio::test]
async fn a_set_group_id_directory_passes_its_group_on() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    let set = SetAttr {
        mode: Some(0o2775),
        gid: Some(55),
        ..SetAttr::default()
    };
    journal.set_attr(d.ino, set, at(20)).await.unwrap();
    let f = file(&journal, d.ino, "f").await;
    let e = dir(&journal, d.ino, "e").await;
    assert_eq!((f.gid, f.mode), (55, 0o644));
    assert_eq!((e.gid, e.mode), (55, 0o2755));
}
