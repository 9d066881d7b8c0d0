//! Names: create, link, unlink, rmdir and rename follow POSIX.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected must fail"
)]

mod common;

use common::{NODE, at, dir, file, fresh, names, new, object, write};
use journal::{EndWrite, Error, Ino, Kind, Orphan, RenameMode, Seal, Timestamp, Unsynced};

const ROOT: Ino = Ino::ROOT;

#[tokio::test]
async fn a_created_file_is_found_by_name_and_is_unsynced() {
    let (_dir, journal) = fresh().await;
    let made = file(&journal, ROOT, "a").await;
    assert_eq!(
        journal.lookup(ROOT, b"a").await.unwrap(),
        Some(made.clone())
    );
    assert!(made.is_content_dirty() && made.is_meta_dirty());
    let row = journal.unsynced_row(made.ino).await.unwrap().unwrap();
    assert_eq!(row.since, at(10));
    let root = journal.inode(ROOT).await.unwrap().unwrap();
    assert_eq!((root.mtime, root.ctime, root.nlink), (at(10), at(10), 2));
}

#[tokio::test]
async fn what_the_store_cannot_hold_is_not_unsynced() {
    let (_dir, journal) = fresh().await;
    for (name, kind) in [
        ("p", Kind::Fifo),
        ("s", Kind::Socket),
        ("c", Kind::CharDevice),
    ] {
        let made = journal
            .create(ROOT, name.as_bytes(), new(kind), at(1))
            .await
            .unwrap();
        assert_eq!(journal.unsynced_row(made.ino).await.unwrap(), None);
    }
    assert_eq!(journal.counters().await.unwrap().unsynced, 0);
}

#[tokio::test]
async fn the_target_of_a_symlink_survives_at_every_length() {
    let (_dir, journal) = fresh().await;
    for bytes in [1usize, 2047, 2048, 2049, 4095] {
        let target = vec![b'x'; bytes];
        let mut request = new(Kind::Symlink);
        request.target = Some(target.clone());
        let name = format!("l{bytes}");
        let made = journal
            .create(ROOT, name.as_bytes(), request, at(1))
            .await
            .unwrap();
        assert_eq!(made.size, bytes as u64);
        assert_eq!(journal.read_link(made.ino).await.unwrap(), target);
    }
    let mut request = new(Kind::Symlink);
    request.target = Some(vec![b'x'; 4096]);
    let error = journal
        .create(ROOT, b"long", request, at(1))
        .await
        .unwrap_err();
    assert_eq!(error.errno(), libc::ENAMETOOLONG);
}

#[tokio::test]
async fn names_that_cannot_be_are_refused() {
    let (_dir, journal) = fresh().await;
    for (name, errno) in [
        (b"".to_vec(), libc::EINVAL),
        (b".".to_vec(), libc::EINVAL),
        (b"..".to_vec(), libc::EINVAL),
        (b"a/b".to_vec(), libc::EINVAL),
        (b"a\0".to_vec(), libc::EINVAL),
        (vec![b'x'; 256], libc::ENAMETOOLONG),
    ] {
        let error = journal
            .create(ROOT, &name, new(Kind::File), at(1))
            .await
            .unwrap_err();
        assert_eq!(error.errno(), errno, "{name:?}");
    }
    let longest = vec![b'x'; 255];
    journal
        .create(ROOT, &longest, new(Kind::File), at(1))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_taken_name_says_who_has_it() {
    let (_dir, journal) = fresh().await;
    let made = file(&journal, ROOT, "a").await;
    let error = journal
        .create(ROOT, b"a", new(Kind::Directory), at(1))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Exists { ino, kind: Kind::File, .. } if ino == made.ino));
}

#[tokio::test]
async fn directories_count_their_children() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    dir(&journal, d.ino, "e").await;
    dir(&journal, d.ino, "f").await;
    file(&journal, d.ino, "g").await;
    assert_eq!(journal.inode(d.ino).await.unwrap().unwrap().nlink, 4);
    let removed = journal.rmdir(d.ino, b"e", at(20)).await.unwrap();
    assert!(removed.last && removed.inode.nlink == 0);
    let d = journal.inode(d.ino).await.unwrap().unwrap();
    assert_eq!((d.nlink, d.mtime), (3, at(20)));
    let error = journal.rmdir(ROOT, b"d", at(20)).await.unwrap_err();
    assert_eq!(error.errno(), libc::ENOTEMPTY);
}

#[tokio::test]
async fn nothing_can_be_created_in_a_removed_directory() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    file(&journal, ROOT, "a").await;
    journal.rmdir(ROOT, b"d", at(1)).await.unwrap();
    let error = journal
        .create(d.ino, b"x", new(Kind::File), at(1))
        .await
        .unwrap_err();
    assert_eq!(error.errno(), libc::ENOENT);
    let moved = journal
        .rename(ROOT, b"a", d.ino, b"a", RenameMode::Replace, at(1))
        .await;
    assert_eq!(moved.unwrap_err().errno(), libc::ENOENT);
}

#[tokio::test]
async fn an_unlinked_file_lives_until_it_is_reaped() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let removed = journal.unlink(ROOT, b"a", at(50)).await.unwrap();
    assert!(removed.last);
    assert_eq!((removed.inode.nlink, removed.inode.ctime), (0, at(50)));
    assert_eq!(journal.lookup(ROOT, b"a").await.unwrap(), None);
    assert_eq!(
        journal.orphans(NODE, None, 9).await.unwrap(),
        [unneeded(a.ino)]
    );
    assert_eq!(journal.unsynced_row(a.ino).await.unwrap(), None);
    assert_eq!(journal.path(a.ino).await.unwrap(), None);
    write(&journal, a.ino, 5).await;
    assert_eq!(journal.unsynced_row(a.ino).await.unwrap(), None);
    assert_eq!(journal.reap(a.ino).await.unwrap().unwrap().size, 5);
    assert_eq!(journal.inode(a.ino).await.unwrap(), None);
    assert!(journal.orphans(NODE, None, 9).await.unwrap().is_empty());
    assert_eq!(journal.reap(a.ino).await.unwrap(), None);
}

/// An orphan that nothing may need back.
fn unneeded(ino: Ino) -> Orphan {
    Orphan {
        ino,
        spare_for: None,
    }
}

#[tokio::test]
async fn what_a_file_that_is_not_safe_replaced_is_its_spare_and_can_be_restored() {
    let (_dir, journal) = fresh().await;
    let old = file(&journal, ROOT, "f").await;
    let old = write(&journal, old.ino, 4).await;
    journal
        .flushed(old.ino, object("f", "1", &old), at(30))
        .await
        .unwrap();
    let new = file(&journal, ROOT, "f.tmp").await;
    write(&journal, new.ino, 5).await;
    let rename = journal.rename(ROOT, b"f.tmp", ROOT, b"f", RenameMode::Replace, at(31));
    rename.await.unwrap();
    let spare = Orphan {
        ino: old.ino,
        spare_for: Some(new.ino),
    };
    assert_eq!(journal.orphans(NODE, None, 9).await.unwrap(), [spare]);
    assert_eq!(journal.orphan(NODE, old.ino).await.unwrap(), Some(spare));

    assert!(
        journal
            .restore(old.ino, new.ino, None, at(40))
            .await
            .unwrap()
    );
    let back = journal.lookup(ROOT, b"f").await.unwrap().unwrap();
    assert_eq!((back.ino, back.nlink, back.size), (old.ino, 1, 4));
    assert!(journal.unsynced_row(old.ino).await.unwrap().is_some());
    assert_eq!(
        journal.orphans(NODE, None, 9).await.unwrap(),
        [unneeded(new.ino)]
    );
    assert!(
        !journal
            .restore(old.ino, new.ino, None, at(41))
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn what_a_lost_file_replaced_has_the_name_that_the_lost_one_has_by_now() {
    let (_dir, journal) = fresh().await;
    let old = file(&journal, ROOT, "f").await;
    let new = file(&journal, ROOT, "f.tmp").await;
    write(&journal, new.ino, 5).await;
    for (from, to) in [("f.tmp", "f"), ("f", "g")] {
        let rename = journal.rename(
            ROOT,
            from.as_bytes(),
            ROOT,
            to.as_bytes(),
            RenameMode::Replace,
            at(31),
        );
        rename.await.unwrap();
    }
    let other = file(&journal, ROOT, "f").await;
    assert!(
        journal
            .restore(old.ino, new.ino, None, at(40))
            .await
            .unwrap()
    );
    let name = |name: &'static [u8]| journal.lookup(ROOT, name);
    assert_eq!(name(b"f").await.unwrap().unwrap().ino, other.ino);
    assert_eq!(name(b"g").await.unwrap().unwrap().ino, old.ino);
}

#[tokio::test]
async fn a_lost_file_can_be_kept_beside_what_is_restored() {
    let (_dir, journal) = fresh().await;
    let old = file(&journal, ROOT, "f").await;
    let new = file(&journal, ROOT, "g").await;
    write(&journal, new.ino, 5).await;
    let rename = journal.rename(ROOT, b"g", ROOT, b"f", RenameMode::Replace, at(31));
    rename.await.unwrap();
    let aside = Some(&b"f.torn"[..]);
    assert!(
        journal
            .restore(old.ino, new.ino, aside, at(40))
            .await
            .unwrap()
    );
    let name = |name: &'static [u8]| journal.lookup(ROOT, name);
    assert_eq!(name(b"f").await.unwrap().unwrap().ino, old.ino);
    assert_eq!(name(b"f.torn").await.unwrap().unwrap().ino, new.ino);
    assert!(journal.orphans(NODE, None, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_safe_or_empty_file_replaced_is_nobodys_spare() {
    let (_dir, journal) = fresh().await;
    for name in ["empty", "synced"] {
        let old = file(&journal, ROOT, "f").await;
        let new = file(&journal, ROOT, name).await;
        if name == "synced" {
            write(&journal, new.ino, 5).await;
            let sync = EndWrite {
                size: 5,
                mtime: at(6),
                changed: false,
                close: false,
                seal: Some(Seal::Synced),
            };
            journal.end_write(new.ino, NODE, sync, at(6)).await.unwrap();
        }
        let rename = journal.rename(
            ROOT,
            name.as_bytes(),
            ROOT,
            b"f",
            RenameMode::Replace,
            at(7),
        );
        rename.await.unwrap();
        let orphans = journal.orphans(NODE, None, 9).await.unwrap();
        assert_eq!(orphans, [unneeded(old.ino)], "{name}");
        journal.reap(old.ino).await.unwrap();
        journal.unlink(ROOT, b"f", at(8)).await.unwrap();
        journal.reap(new.ino).await.unwrap();
    }
}

#[tokio::test]
async fn a_file_with_a_name_is_never_reaped() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    assert_eq!(journal.reap(a.ino).await.unwrap(), None);
    assert!(journal.inode(a.ino).await.unwrap().is_some());
}

#[tokio::test]
async fn a_second_link_takes_over_the_key_when_the_first_goes() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    let z = file(&journal, ROOT, "z").await;
    journal
        .flushed(z.ino, object("z", "1", &z), at(30))
        .await
        .unwrap();
    let linked = journal.link(z.ino, d.ino, b"a", at(40)).await.unwrap();
    assert_eq!(linked.nlink, 2);
    assert_eq!(journal.unsynced_row(z.ino).await.unwrap(), None);
    assert_eq!(journal.path(z.ino).await.unwrap().unwrap(), [b"z"]);
    let removed = journal.unlink(ROOT, b"z", at(50)).await.unwrap();
    assert!(!removed.last);
    assert_eq!(journal.path(z.ino).await.unwrap().unwrap(), [b"d", b"a"]);
    assert_eq!(removed.inode.parent, d.ino);
    assert!(journal.unsynced_row(z.ino).await.unwrap().is_some());
}

#[tokio::test]
async fn directories_cannot_be_linked() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    let error = journal.link(d.ino, ROOT, b"e", at(1)).await.unwrap_err();
    assert_eq!(error.errno(), libc::EPERM);
}

async fn rename(
    journal: &journal::Journal,
    from: (Ino, &str),
    to: (Ino, &str),
    mode: RenameMode,
) -> Result<journal::Renamed, i32> {
    journal
        .rename(
            from.0,
            from.1.as_bytes(),
            to.0,
            to.1.as_bytes(),
            mode,
            at(60),
        )
        .await
        .map_err(|error| error.errno())
}

#[tokio::test]
async fn rename_replaces_a_file_in_one_step() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let b = file(&journal, ROOT, "b").await;
    let renamed = rename(&journal, (ROOT, "a"), (ROOT, "b"), RenameMode::Replace)
        .await
        .unwrap();
    assert_eq!(renamed.moved.ino, a.ino);
    let replaced = renamed.replaced.unwrap();
    assert!(replaced.last && replaced.inode.ino == b.ino);
    assert_eq!(names(&journal, ROOT).await, ["b"]);
    assert_eq!(
        journal.lookup(ROOT, b"b").await.unwrap().unwrap().ino,
        a.ino
    );
    assert_eq!(
        journal.orphans(NODE, None, 9).await.unwrap(),
        [unneeded(b.ino)]
    );
}

#[tokio::test]
async fn rename_of_two_names_of_one_file_does_nothing() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    journal.link(a.ino, ROOT, b"b", at(1)).await.unwrap();
    let renamed = rename(&journal, (ROOT, "a"), (ROOT, "b"), RenameMode::Replace)
        .await
        .unwrap();
    assert!(renamed.replaced.is_none());
    assert_eq!(names(&journal, ROOT).await, ["a", "b"]);
    rename(&journal, (ROOT, "a"), (ROOT, "a"), RenameMode::Replace)
        .await
        .unwrap();
    let error = rename(&journal, (ROOT, "a"), (ROOT, "b"), RenameMode::NoReplace).await;
    assert_eq!(error.unwrap_err(), libc::EEXIST);
}

#[tokio::test]
async fn rename_respects_kinds_and_emptiness() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    let full = dir(&journal, ROOT, "full").await;
    file(&journal, full.ino, "x").await;
    file(&journal, ROOT, "f").await;
    let go = |from: &'static str, to: &'static str, mode| {
        rename(&journal, (ROOT, from), (ROOT, to), mode)
    };
    assert_eq!(
        go("d", "f", RenameMode::Replace).await.unwrap_err(),
        libc::ENOTDIR
    );
    assert_eq!(
        go("f", "d", RenameMode::Replace).await.unwrap_err(),
        libc::EISDIR
    );
    assert_eq!(
        go("d", "full", RenameMode::Replace).await.unwrap_err(),
        libc::ENOTEMPTY
    );
    assert_eq!(
        go("gone", "d", RenameMode::Replace).await.unwrap_err(),
        libc::ENOENT
    );
    assert_eq!(
        go("f", "gone", RenameMode::Exchange).await.unwrap_err(),
        libc::ENOENT
    );
    let renamed = go("full", "d", RenameMode::Replace).await.unwrap();
    assert_eq!(renamed.replaced.unwrap().inode.ino, d.ino);
    let root = journal.inode(ROOT).await.unwrap().unwrap();
    assert_eq!(root.nlink, 3);
}

#[tokio::test]
async fn a_directory_cannot_go_into_itself() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    let e = dir(&journal, d.ino, "e").await;
    for target in [d.ino, e.ino] {
        let moved = rename(&journal, (ROOT, "d"), (target, "x"), RenameMode::Replace).await;
        assert_eq!(moved.unwrap_err(), libc::EINVAL);
    }
    // An exchange can also put the target into itself.
    let swapped = rename(&journal, (d.ino, "e"), (ROOT, "d"), RenameMode::Exchange).await;
    assert_eq!(swapped.unwrap_err(), libc::EINVAL);
}

#[tokio::test]
async fn exchange_swaps_a_file_and_a_directory_across_parents() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    let sub = dir(&journal, d.ino, "sub").await;
    let f = file(&journal, ROOT, "f").await;
    let renamed = rename(&journal, (ROOT, "f"), (d.ino, "sub"), RenameMode::Exchange)
        .await
        .unwrap();
    assert_eq!(renamed.moved.ino, f.ino);
    assert_eq!(renamed.exchanged.unwrap().ino, sub.ino);
    assert_eq!(
        journal.path(f.ino).await.unwrap().unwrap(),
        [&b"d"[..], b"sub"]
    );
    assert_eq!(journal.path(sub.ino).await.unwrap().unwrap(), [b"f"]);
    assert_eq!(journal.inode(ROOT).await.unwrap().unwrap().nlink, 4);
    assert_eq!(journal.inode(d.ino).await.unwrap().unwrap().nlink, 2);
    assert_eq!(journal.inode(sub.ino).await.unwrap().unwrap().parent, ROOT);
}

#[tokio::test]
async fn a_directory_is_read_in_pages_in_the_order_of_names() {
    let (_dir, journal) = fresh().await;
    for n in 0..25 {
        file(&journal, ROOT, &format!("{n:02}")).await;
    }
    let mut seen = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = journal.read_dir(ROOT, after.as_deref(), 10).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        seen.extend(
            page.into_iter()
                .map(|entry| String::from_utf8(entry.name).unwrap()),
        );
    }
    let expected: Vec<String> = (0..25).map(|n| format!("{n:02}")).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_rename_comes_last_in_the_order_of_publication_and_a_chmod_does_not() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let b = file(&journal, ROOT, "b").await;
    async fn row(journal: &journal::Journal, ino: Ino) -> Unsynced {
        journal.unsynced_row(ino).await.unwrap().unwrap()
    }
    let before = row(&journal, a.ino).await;
    let set = journal::SetAttr {
        mode: Some(0o600),
        ..Default::default()
    };
    journal.set_attr(a.ino, set, at(70)).await.unwrap();
    let after = row(&journal, a.ino).await;
    assert_eq!((after.seq, after.since), (before.seq, before.since));
    assert_ne!(after.stamp, before.stamp);
    assert!(!journal.settle(&before).await.unwrap());
    rename(&journal, (ROOT, "a"), (ROOT, "c"), RenameMode::Replace)
        .await
        .unwrap();
    assert!(row(&journal, a.ino).await.seq > row(&journal, b.ino).await.seq);
    let last = row(&journal, a.ino).await;
    assert!(journal.settle(&last).await.unwrap());
    assert_eq!(journal.unsynced_row(a.ino).await.unwrap(), None);
}

#[tokio::test]
async fn many_creators_in_one_directory_all_succeed() {
    let (_dir, journal) = fresh().await;
    let tasks: Vec<_> = (0..16)
        .map(|id| {
            let journal = journal.clone();
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || {
                for n in 0..50 {
                    let name = format!("{id}-{n}");
                    let made =
                        journal.create(ROOT, name.as_bytes(), new(Kind::File), Timestamp::now());
                    runtime.block_on(made).unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(names(&journal, ROOT).await.len(), 800);
    assert_eq!(journal.counters().await.unwrap().inodes, 801);
}
