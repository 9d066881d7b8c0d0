//! Access control lists and the mode, in one transaction each.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected must fail"
)]

mod common;

use common::{at, dir, file, fresh, new, object};
use journal::{Acl, AclKind, Ino, Journal, Kind, NewInode, Seen, SetAttr, XattrMode};

const ROOT: Ino = Ino::ROOT;
const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

/// Entries as (tag, permissions, id): 1 owner, 2 user, 4 owning group, 8 group, 16 mask, 32 others.
fn acl(entries: &[(u16, u16, u32)]) -> Acl {
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    Acl::parse(&bytes).unwrap().unwrap()
}

/// `user::rw-, user:1001:rwx, group::r--, mask::MASK, other::---`
fn named(mask: u16) -> Acl {
    acl(&[
        (1, 6, 0),
        (2, 7, 1001),
        (4, 4, 0),
        (16, mask, 0),
        (32, 0, 0),
    ])
}

async fn list(journal: &Journal, ino: Ino, name: &[u8]) -> Option<Acl> {
    let bytes = journal.get_xattr(ino, name).await.unwrap()?;
    Acl::parse(&bytes).unwrap()
}

fn mode(mode: u32) -> SetAttr {
    SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    }
}

#[tokio::test]
async fn an_access_list_sets_the_mode_which_travels() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    journal
        .flushed(a.ino, object("a", "1", &a), at(30))
        .await
        .unwrap();
    let set = journal
        .set_acl(a.ino, AclKind::Access, Some(&named(6)), true, at(40))
        .await
        .unwrap();
    assert_eq!((set.mode, set.ctime), (0o660, at(40)));
    assert!(set.is_meta_dirty() && !set.is_content_dirty());
    assert!(journal.unsynced_row(a.ino).await.unwrap().is_some());
    assert_eq!(list(&journal, a.ino, ACCESS).await, Some(named(6)));
    assert_eq!(journal.list_xattr(a.ino).await.unwrap(), [ACCESS]);
}

#[tokio::test]
async fn a_list_that_is_a_mode_is_not_kept() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    for list in [named(7), acl(&[(1, 7, 0), (4, 5, 0), (32, 1, 0)])] {
        journal
            .set_acl(a.ino, AclKind::Access, Some(&list), true, at(40))
            .await
            .unwrap();
    }
    assert_eq!(journal.inode(a.ino).await.unwrap().unwrap().mode, 0o751);
    assert!(journal.list_xattr(a.ino).await.unwrap().is_empty());
    for _ in 0..2 {
        let removed = journal.set_acl(a.ino, AclKind::Access, None, true, at(41));
        assert_eq!(removed.await.unwrap().mode, 0o751);
    }
}

#[tokio::test]
async fn chmod_and_the_mode_of_a_newer_object_change_the_list() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    journal
        .set_acl(a.ino, AclKind::Access, Some(&named(7)), true, at(20))
        .await
        .unwrap();
    let a = journal.set_attr(a.ino, mode(0o640), at(21)).await.unwrap();
    assert_eq!(list(&journal, a.ino, ACCESS).await, Some(named(4)));
    journal
        .flushed(a.ino, object("a", "1", &a), at(30))
        .await
        .unwrap();
    let seen = Seen::Object {
        etag: Some("2".into()),
        size: 5,
        mtime: at(50),
        mode: Some(0o620),
        uid: None,
        gid: None,
    };
    let seen = journal.refresh(a.ino, &seen, at(60)).await.unwrap();
    assert_eq!(seen.mode, 0o620);
    assert_eq!(list(&journal, a.ino, ACCESS).await, Some(named(2)));
}

#[tokio::test]
async fn the_set_group_id_bit_stays_for_those_who_may_set_it() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    for (keeps, left) in [(true, 0o6660), (false, 0o4660)] {
        journal.set_attr(a.ino, mode(0o6755), at(20)).await.unwrap();
        let list = named(6);
        let set = journal.set_acl(a.ino, AclKind::Access, Some(&list), keeps, at(21));
        assert_eq!(set.await.unwrap().mode, left);
    }
}

#[tokio::test]
async fn what_is_made_inherits_the_default_list_or_else_minds_the_umask() {
    let (_dir, journal) = fresh().await;
    let d = dir(&journal, ROOT, "d").await;
    let asked = |kind, mode| NewInode {
        mode,
        umask: 0o027,
        ..new(kind)
    };
    let make = async |name: &str, kind, mode| {
        journal
            .create(d.ino, name.as_bytes(), asked(kind, mode), at(20))
            .await
            .unwrap()
    };
    assert_eq!(make("plain", Kind::File, 0o666).await.mode, 0o640);
    assert_eq!(make("link", Kind::Symlink, 0o777).await.mode, 0o777);
    journal
        .set_acl(d.ino, AclKind::Default, Some(&named(7)), true, at(21))
        .await
        .unwrap();
    let kept = journal.inode(d.ino).await.unwrap().unwrap();
    assert_eq!(kept.mode, d.mode, "a default list has no say in the mode");

    let below = make("file", Kind::File, 0o4666).await;
    assert_eq!(below.mode, 0o4660, "its own mask, not the umask");
    assert_eq!(list(&journal, below.ino, ACCESS).await, Some(named(6)));
    assert_eq!(list(&journal, below.ino, DEFAULT).await, None);
    let below = make("dir", Kind::Directory, 0o777).await;
    assert_eq!(list(&journal, below.ino, ACCESS).await, Some(named(7)));
    assert_eq!(list(&journal, below.ino, DEFAULT).await, Some(named(7)));
    let below = make("symlink", Kind::Symlink, 0o777).await;
    assert!(journal.list_xattr(below.ino).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_cannot_have_a_list_is_told_so() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let link = journal
        .create(ROOT, b"link", new(Kind::Symlink), at(10))
        .await
        .unwrap();
    for (ino, kind, errno) in [
        (a.ino, AclKind::Default, libc::EACCES),
        (link.ino, AclKind::Access, libc::EOPNOTSUPP),
        (Ino(999_999), AclKind::Access, libc::ENOENT),
    ] {
        let list = named(7);
        let refused = journal.set_acl(ino, kind, Some(&list), true, at(20));
        assert_eq!(refused.await.unwrap_err().errno(), errno);
    }
    let none = journal.set_acl(a.ino, AclKind::Default, None, true, at(20));
    assert!(none.await.is_ok(), "there is nothing to remove");
}

#[tokio::test]
async fn all_names_together_can_be_listed() {
    let (_dir, journal) = fresh().await;
    let a = file(&journal, ROOT, "a").await;
    let name = |number: u32| format!("user.{number:0>250}").into_bytes();
    let mut count = 0;
    let full = loop {
        let name = name(count);
        let set = journal.set_xattr(a.ino, &name, b"", XattrMode::Any, at(20));
        match set.await {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full.errno(), libc::ENOSPC);
    assert_eq!(count, 255, "of 256 bytes each, in 64 KiB less two lists");
    journal
        .set_xattr(a.ino, &name(0), b"changed", XattrMode::Replace, at(21))
        .await
        .unwrap();
    for kind in [AclKind::Access, AclKind::Default] {
        let d = dir(&journal, ROOT, &format!("{kind:?}")).await;
        journal
            .set_acl(d.ino, kind, Some(&named(7)), true, at(22))
            .await
            .unwrap();
    }
}
