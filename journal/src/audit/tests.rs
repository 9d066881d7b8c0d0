//! Damage made by hand, row by row: exactly it is told, mended, and nothing is left.

use super::*;
use crate::kv::{EmbeddedOptions, EmbeddedStore, Mode};
use crate::records::{ClaimRow, DirentRow, LinkRow, MarkRow, PartRow, encode};
use crate::types::{EndWrite, NewInode, NodeId, Timestamp, XattrMode};
use tempfile::TempDir;

const NODE: NodeId = NodeId(7);

struct Stand {
    _dir: TempDir,
    store: Arc<dyn KvStore>,
    journal: Journal,
}

fn identity() -> Identity {
    Identity {
        store_url: "s3://bucket".into(),
        node: NODE,
    }
}

fn now() -> Timestamp {
    Timestamp { secs: 9, nanos: 0 }
}

fn new(kind: Kind) -> NewInode {
    NewInode {
        kind,
        mode: 0o644,
        umask: 0,
        uid: 1,
        gid: 1,
        rdev: 0,
        target: (kind == Kind::Symlink).then(|| vec![b'x'; 3000]),
        writer: None,
    }
}

impl Stand {
    /// A tree with something of every kind: `d/e/f` (hard link `d/g`, attribute, upload), `s -> ...`, an
    /// orphan, a file being written, and a file known from the store.
    async fn new() -> Stand {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), EmbeddedOptions::default()).unwrap();
        let store: Arc<dyn KvStore> = Arc::new(store);
        let journal = Journal::open(Arc::clone(&store), identity()).await.unwrap();
        let make = async |parent, name: &str, kind| {
            let made = journal.create(parent, name.as_bytes(), new(kind), now());
            made.await.unwrap().ino
        };
        let d = make(Ino::ROOT, "d", Kind::Directory).await;
        let e = make(d, "e", Kind::Directory).await;
        let f = make(e, "f", Kind::File).await;
        journal.link(f, d, b"g", now()).await.unwrap();
        let value = vec![1; 5000];
        let set = journal.set_xattr(f, b"user.x", &value, XattrMode::Any, now());
        set.await.unwrap();
        make(Ino::ROOT, "s", Kind::Symlink).await;
        make(Ino::ROOT, "gone", Kind::File).await;
        journal.unlink(Ino::ROOT, b"gone", now()).await.unwrap();
        let w = make(Ino::ROOT, "w", Kind::File).await;
        journal.begin_write(w, NODE, true, now()).await.unwrap();
        let end = EndWrite {
            size: 5,
            mtime: now(),
            changed: true,
            close: false,
            seal: None,
        };
        journal.end_write(w, NODE, end, now()).await.unwrap();
        let found = crate::types::Found {
            name: b"cold".to_vec(),
            kind: Kind::File,
            key: "cold".into(),
            etag: Some("e".into()),
            size: 9,
            mtime: now(),
            mode: None,
            uid: None,
            gid: None,
            learned: false,
        };
        journal.import(Ino::ROOT, &[found], now()).await.unwrap();
        journal.upload_asked("d/e/f", now()).await.unwrap();
        let started = journal.upload_started(f, crate::types::Epoch(1), "d/e/f", "id", 8);
        started.await.unwrap();
        let blocks = crate::types::BlockDigests {
            first: 0,
            digests: vec![[1; 16]; 300],
        };
        let part = journal.upload_part(f, 1, "etag", &blocks);
        part.await.unwrap();
        Stand {
            _dir: dir,
            store,
            journal,
        }
    }

    async fn ino(&self, path: &str) -> Ino {
        let mut at = Ino::ROOT;
        for name in path.split('/') {
            let found = self.journal.lookup(at, name.as_bytes()).await.unwrap();
            at = found.unwrap().ino;
        }
        at
    }

    async fn clear(&self, key: &[u8]) {
        let mut txn = self.store.begin(Mode::Serial).unwrap();
        assert!(
            txn.get(key, true).await.unwrap().is_some(),
            "there is such a row"
        );
        txn.clear(key);
        txn.commit().await.unwrap();
    }

    async fn set(&self, key: &[u8], value: Vec<u8>) {
        let mut txn = self.store.begin(Mode::Serial).unwrap();
        txn.set(key, value);
        txn.commit().await.unwrap();
    }

    async fn change(&self, ino: Ino, change: impl Fn(&mut InodeRow)) {
        let key = keys::inode(ino);
        let mut txn = self.store.begin(Mode::Serial).unwrap();
        let value = txn.get(&key, true).await.unwrap().unwrap();
        let mut row: InodeRow = records::decode(&key, &value).unwrap();
        change(&mut row);
        txn.set(&key, encode(&row).unwrap());
        txn.commit().await.unwrap();
    }

    async fn audit(&self) -> Vec<Damage> {
        // As the doctor does: without the memory of whoever made it.
        let journal = Journal::open_as_is(Arc::clone(&self.store), identity());
        let audit = journal.await.unwrap().audit().await.unwrap();
        assert_eq!(audit.left_out, 0);
        audit.damages
    }

    /// Exactly these kinds are told, in any order.
    async fn shows(&self, wanted: &[&str]) -> Vec<Damage> {
        let damages = self.audit().await;
        let mut kinds: Vec<_> = damages.iter().map(|damage| damage.kind).collect();
        kinds.sort_unstable();
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        assert_eq!(kinds, wanted, "{damages:#?}");
        damages
    }

    /// Exactly these are told, every one can be mended, and nothing is wrong after that.
    async fn mends(&self, wanted: &[&str]) {
        for damage in self.shows(wanted).await {
            let mend = damage.mend.as_ref().unwrap_or_else(|| panic!("{damage:?}"));
            let mended = self.journal.mend(mend, now()).await.unwrap();
            assert!(mended, "{damage:?}");
        }
        self.shows(&[]).await;
    }
}

#[tokio::test]
async fn a_sound_journal_has_no_damage_and_is_not_changed_by_the_look() {
    let stand = Stand::new().await;
    let all = async || {
        let mut reader = Reader::new(&stand.journal.shared);
        reader.range(b"", &[0xff], 1000).await.unwrap()
    };
    let before = all().await;
    stand.shows(&[]).await;
    assert_eq!(all().await, before);
    let audit = stand.journal.audit().await.unwrap();
    assert_eq!((audit.inodes, audit.names), (8, 7));
}

#[tokio::test]
async fn either_direction_of_a_name_brings_the_other_back() {
    let stand = Stand::new().await;
    let (d, e, f) = (
        stand.ino("d").await,
        stand.ino("d/e").await,
        stand.ino("d/e/f").await,
    );
    for key in [
        keys::dirent(e, b"f"),
        keys::link(f, e, b"f"),
        keys::dirent(d, b"g"),
        keys::link(f, d, b"g"),
        keys::dirent(d, b"e"),
        keys::link(e, d, b"e"),
    ] {
        stand.clear(&key).await;
        stand.mends(&["half-name"]).await;
    }
    assert_eq!(stand.ino("d/g").await, stand.ino("d/e/f").await);
    let path = stand.journal.path(f).await.unwrap().unwrap();
    assert_eq!(
        path,
        [b"d".to_vec(), b"e".to_vec(), b"f".to_vec()],
        "the same key as before"
    );
}

#[tokio::test]
async fn a_lost_inode_is_told_by_its_name_and_the_store_may_bring_it_back() {
    let stand = Stand::new().await;
    let cold = stand.ino("cold").await;
    stand.clear(&keys::inode(cold)).await;
    let damages = stand
        .shows(&[
            "dangling-name",
            "rows-without-inode",
            "stale-claim",
            "counter",
        ])
        .await;
    let name = damages.iter().find(|damage| damage.kind == "dangling-name");
    let name = name.unwrap();
    assert_eq!(name.path.as_deref(), Some(&[b"cold".to_vec()][..]));
    assert_eq!(name.ino, Some(cold));
    stand
        .mends(&[
            "dangling-name",
            "rows-without-inode",
            "stale-claim",
            "counter",
        ])
        .await;
    assert!(
        stand
            .journal
            .lookup(Ino::ROOT, b"cold")
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_lost_directory_keeps_what_was_in_it_from_being_mended() {
    let stand = Stand::new().await;
    let e = stand.ino("d/e").await;
    stand.clear(&keys::inode(e)).await;
    let damages = stand
        .shows(&[
            "dangling-name",
            "name-without-directory",
            "rows-without-inode",
            "dangling-row",
            "counter",
        ])
        .await;
    for damage in damages {
        let mended = match &damage.mend {
            Some(mend) => stand.journal.mend(mend, now()).await.unwrap(),
            None => false,
        };
        // The name is all that is left of where the children were.
        let kept = [
            "name-without-directory",
            "dangling-name",
            "rows-without-inode",
        ];
        assert_eq!(!mended, kept.contains(&damage.kind), "{damage:?}");
    }
    stand
        .shows(&[
            "name-without-directory",
            "dangling-name",
            "rows-without-inode",
        ])
        .await;
}

#[tokio::test]
async fn what_is_left_of_a_lost_symlink_stays() {
    let stand = Stand::new().await;
    let s = stand.ino("s").await;
    stand.clear(&keys::inode(s)).await;
    for link in [true, false] {
        if !link {
            stand.clear(&keys::link(s, Ino::ROOT, b"s")).await;
        }
        let kinds = ["dangling-name", "rows-without-inode", "counter"];
        for damage in stand.shows(&kinds).await {
            if let Some(mend) = damage.mend.filter(|_| damage.kind == "rows-without-inode") {
                assert!(!stand.journal.mend(&mend, now()).await.unwrap());
            }
        }
    }
    let mut reader = Reader::new(&stand.journal.shared);
    assert!(reader.has(&keys::target(s, 1)).await.unwrap());
}

#[tokio::test]
async fn an_object_is_known_to_be_its_files() {
    let stand = Stand::new().await;
    stand.clear(&keys::claim("cold")).await;
    stand.mends(&["missing-claim"]).await;
    let cold = stand.ino("cold").await;
    assert_eq!(stand.journal.claim("cold").await.unwrap(), Some(cold));
}

#[tokio::test]
async fn a_mend_that_comes_too_late_does_nothing() {
    let stand = Stand::new().await;
    let orphan = stand.journal.orphans(NODE, None, 9).await.unwrap()[0].ino;
    stand.clear(&keys::orphan(NODE, orphan)).await;
    let damages = stand.shows(&["forgotten-orphan"]).await;
    stand.change(orphan, |row| row.inode.nlink = 1).await;
    let mend = damages[0].mend.as_ref().unwrap();
    assert!(!stand.journal.mend(mend, now()).await.unwrap());
}

#[tokio::test]
async fn link_counts_are_counted() {
    let stand = Stand::new().await;
    for path in ["d", "d/e", "d/e/f", "s"] {
        let ino = stand.ino(path).await;
        stand.change(ino, |row| row.inode.nlink += 3).await;
        stand.mends(&["link-count"]).await;
    }
    stand.change(Ino::ROOT, |row| row.inode.nlink = 2).await;
    stand.mends(&["link-count"]).await;
    assert_eq!(
        stand
            .journal
            .inode(stand.ino("d/g").await)
            .await
            .unwrap()
            .unwrap()
            .nlink,
        2
    );
}

#[tokio::test]
async fn the_name_that_makes_the_key_is_one() {
    let stand = Stand::new().await;
    let (d, e, f) = (
        stand.ino("d").await,
        stand.ino("d/e").await,
        stand.ino("d/e/f").await,
    );
    let link = |primary| encode(&LinkRow { primary }).unwrap();
    stand.set(&keys::link(f, d, b"g"), link(true)).await;
    stand.mends(&["primary-name"]).await;
    for (parent, name) in [(d, b"g"), (e, b"f")] {
        stand.set(&keys::link(f, parent, name), link(false)).await;
    }
    stand.mends(&["primary-name"]).await;
    assert!(stand.journal.path(f).await.unwrap().is_some());
    stand.change(f, |row| row.inode.parent = Ino::ROOT).await;
    stand.mends(&["wrong-parent"]).await;
}

#[tokio::test]
async fn rows_that_nobody_needs_are_dropped() {
    let stand = Stand::new().await;
    let f = stand.ino("d/e/f").await;
    let ghost = Ino(999);
    let mark = || encode(&MarkRow).unwrap();
    let claim = encode(&ClaimRow { ino: f }).unwrap();
    stand.set(&keys::writer(NODE, ghost), mark()).await;
    stand.set(&keys::writer(NODE, f), mark()).await;
    stand.set(&keys::claim("elsewhere"), claim).await;
    stand.set(&keys::xattr_chunk(f, b"user.y", 0), mark()).await;
    let part = PartRow { etag: "e".into() };
    stand
        .set(&keys::upload_part(ghost, 4), encode(&part).unwrap())
        .await;
    let listing = keys::listing(stand.ino("d").await);
    let listing = Reader::new(&stand.journal.shared).get(&listing).await;
    let listing = listing.unwrap().unwrap();
    stand.set(&keys::listing(f), listing).await;
    let stale = encode(&LinkRow { primary: false }).unwrap();
    stand.set(&keys::link(f, Ino::ROOT, b"w"), stale).await;
    stand
        .mends(&[
            "dangling-row",
            "dangling-row",
            "dangling-row",
            "dangling-row",
            "dangling-row",
            "stale-claim",
            "stale-link",
        ])
        .await;
}

#[tokio::test]
async fn what_waits_for_its_upload_is_known_to_the_flusher() {
    let stand = Stand::new().await;
    let f = stand.ino("d/e/f").await;
    stand.clear(&keys::unsynced(NODE, f)).await;
    stand.mends(&["never-uploaded"]).await;
    stand.clear(&keys::unsynced(NODE, f)).await;
    stand.change(f, |row| row.unsynced_on = None).await;
    stand.mends(&["never-uploaded"]).await;
    stand.change(f, |row| row.unsynced_on = None).await;
    stand.mends(&["dangling-row", "never-uploaded"]).await;
    assert!(stand.journal.unsynced_row(f).await.unwrap().is_some());
}

#[tokio::test]
async fn the_writer_and_the_orphan_are_known_to_their_rows() {
    let stand = Stand::new().await;
    let w = stand.ino("w").await;
    stand.clear(&keys::writer(NODE, w)).await;
    stand.shows(&["writer-row"]).await;
    stand
        .set(&keys::writer(NODE, w), encode(&MarkRow).unwrap())
        .await;
    let orphan = stand.journal.orphans(NODE, None, 9).await.unwrap()[0].ino;
    stand.clear(&keys::orphan(NODE, orphan)).await;
    stand.mends(&["forgotten-orphan"]).await;
    stand.change(w, |row| row.orphan_on = Some(NODE)).await;
    stand.mends(&["live-orphan"]).await;
}

#[tokio::test]
async fn numbers_are_never_handed_out_twice() {
    let stand = Stand::new().await;
    for key in [keys::INODES, keys::NEXT_INO, keys::NEXT_SEQ] {
        stand.set(key, 3u64.to_le_bytes().to_vec()).await;
        stand.mends(&["counter"]).await;
    }
}

#[tokio::test]
async fn what_needs_a_guess_is_told_and_left_alone() {
    let stand = Stand::new().await;
    let (d, e, s) = (
        stand.ino("d").await,
        stand.ino("d/e").await,
        stand.ino("s").await,
    );
    stand.clear(&keys::target(s, 1)).await;
    stand.shows(&["torn-symlink"]).await;
    stand.set(&keys::target(s, 1), vec![1, 0]).await;
    stand.set(&keys::inode(s), vec![9]).await;
    stand.shows(&["unreadable-row"]).await;
    stand.set(b"Z", vec![1]).await;
    stand.shows(&["unreadable-row", "unknown-row"]).await;
    let stand = Stand {
        ..Stand::new().await
    };
    // d and e contain each other; what hangs below them does not.
    let below = new(Kind::Directory);
    let below = stand.journal.create(e, b"below", below, now()).await;
    below.unwrap();
    stand.clear(&keys::dirent(Ino::ROOT, b"d")).await;
    stand.clear(&keys::link(d, Ino::ROOT, b"d")).await;
    let entry = DirentRow {
        ino: d,
        kind: Kind::Directory,
    };
    stand
        .set(&keys::dirent(e, b"d"), encode(&entry).unwrap())
        .await;
    stand
        .set(
            &keys::link(d, e, b"d"),
            encode(&LinkRow { primary: true }).unwrap(),
        )
        .await;
    stand.change(d, |row| row.inode.parent = e).await;
    stand.change(e, |row| row.inode.nlink = 4).await;
    stand.change(Ino::ROOT, |row| row.inode.nlink = 2).await;
    let damages = stand.shows(&["circle", "circle"]).await;
    assert!(
        damages
            .iter()
            .all(|damage| damage.grade == Grade::Lost && damage.mend.is_none())
    );
}

#[tokio::test]
async fn a_pin_of_what_is_not_there_goes() {
    let stand = Stand::new().await;
    let d = stand.ino("d").await;
    assert!(stand.journal.pin(d).await.unwrap());
    stand.shows(&[]).await;
    let row = encode(&MarkRow).unwrap();
    stand.set(&keys::pin(NODE, Ino(77)), row).await;
    stand.mends(&["dangling-row"]).await;
    assert_eq!(stand.journal.pins(None, 9).await.unwrap(), [d]);
}

#[tokio::test]
async fn the_kind_in_a_directory_follows_the_inode() {
    let stand = Stand::new().await;
    let e = stand.ino("d/e").await;
    let entry = DirentRow {
        ino: e,
        kind: Kind::File,
    };
    let d = stand.ino("d").await;
    stand
        .set(&keys::dirent(d, b"e"), encode(&entry).unwrap())
        .await;
    stand.mends(&["wrong-kind"]).await;
}

#[tokio::test]
async fn a_journal_of_another_store_or_a_newer_format_is_refused() {
    let stand = Stand::new().await;
    let other = Identity {
        store_url: "s3://other".into(),
        node: NODE,
    };
    let refused = Journal::open_as_is(Arc::clone(&stand.store), other).await;
    assert!(matches!(refused, Err(Error::OtherStore { .. })));
}

#[tokio::test]
async fn digests_that_cannot_be_read_go_and_those_of_no_inode_too() {
    let stand = Stand::new().await;
    let f = stand.ino("d/e/f").await;
    let second = keys::digests(f, 128);
    stand.set(&second, b"nonsense".to_vec()).await;
    stand.set(&keys::digested(f), b"nonsense".to_vec()).await;
    stand
        .mends(&["unreadable-digests", "unreadable-digests"])
        .await;
    stand.clear(&keys::digests(f, 0)).await;
    let ghost = Ino(77);
    let row = crate::records::DigestRow {
        epoch: crate::types::Epoch(1),
        digests: vec![1; 16],
    };
    stand
        .set(&keys::digests(ghost, 0), encode(&row).unwrap())
        .await;
    stand.shows(&["rows-without-inode"]).await;
    let damages = stand.audit().await;
    let mend = damages[0].mend.clone().unwrap();
    assert!(stand.journal.mend(&mend, now()).await.unwrap());
    stand.shows(&[]).await;
}
