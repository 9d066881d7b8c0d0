//! A node that does not come back: what only its disk had is given up, and nothing keeps the others out any more.
//!
//! Whoever does that takes its place with an empty disk, and recovers as after a power cut that took all of the disk's
//! content: each file goes back to its version in the store, or to the one that it had replaced, or is gone. What
//! waits for the store without any bytes (names, attributes, deletions) is done then, as by that node.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use journal::{Inode, Journal, Kind, Timestamp};

use super::membership::here;
use super::{Error, OpenRooms};
use crate::options::MountOptions;
use crate::vfs::NoKernel;

/// Rows read at once.
const PAGE: usize = 512;
/// How often it is looked whether all is done.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A file whose newest version is on that node's disk only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its path; of several names, the one that makes the object's key.
    pub path: Vec<u8>,
    /// Length of that version in bytes, as far as the journal knows.
    pub bytes: u64,
    /// There is an earlier version in the store.
    pub has_earlier: bool,
}

/// What only the disk of this journal's node has.
pub async fn held(journal: &Journal) -> Result<Vec<Held>, Error> {
    let mut held = Vec::new();
    let mut after = None;
    loop {
        let rows = journal.unsynced(after, PAGE).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.ino);
        for row in &rows {
            if let Some(inode) = journal.inode(row.ino).await?
                && inode.kind == Kind::File
                && inode.is_content_dirty()
            {
                held.push(held_as(journal, &inode).await?);
            }
        }
    }
    for ino in journal.writers(journal.node()).await? {
        let is_known = journal.unsynced_row(ino).await?.is_some();
        if let Some(inode) = journal.inode(ino).await?.filter(|_| !is_known) {
            held.push(held_as(journal, &inode).await?);
        }
    }
    Ok(held)
}

async fn held_as(journal: &Journal, inode: &Inode) -> Result<Held, Error> {
    let path = journal.path(inode.ino).await?;
    Ok(Held {
        path: path.map_or_else(|| b"(no name)".to_vec(), |path| path.join(&b'/')),
        bytes: inode.size,
        has_earlier: inode.content.origin.is_some(),
    })
}

/// Gives up what only the disk of these rooms' node had, and ends its membership. Its extents are empty, in a
/// folder of their own.
///
/// # Errors
///
/// The store or the journal failed, or not all was done after `patience`: the node is still a member then, and this
/// can be tried again.
pub async fn give_up(
    rooms: &OpenRooms,
    options: &MountOptions,
    torn: &Path,
    patience: Duration,
) -> Result<(), Error> {
    let journal = &rooms.rooms.journal;
    let place = here(Path::new("fused forget-node"));
    journal.join(&place, Timestamp::now()).await?;
    let kernel = Arc::new(NoKernel);
    let vfs = rooms.assemble(options, kernel, torn.to_owned(), |config| {
        config.settle = Duration::ZERO;
        config.settle_temporary = Duration::ZERO;
    });
    let recovered = vfs.recover(true, torn).await.map_err(Error::Recovery)?;
    tracing::info!(?recovered, "what a lost node had is given up");
    vfs.begin();
    let began = Instant::now();
    let done = loop {
        vfs.flusher().flush_all();
        match journal.resign().await {
            Ok(false) if began.elapsed() < patience => tokio::time::sleep(LOOK_EVERY).await,
            ended => break ended,
        }
    };
    vfs.end();
    vfs.flusher().stop().await;
    journal.sync().await?;
    match done? {
        true => Ok(()),
        false => Err(Error::StillHeld {
            problem: vfs.flusher().status().last_error.map_or_else(
                || "nothing has failed so far".to_owned(),
                |error| error.message,
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use extents::ExtentStore;
    use flusher::Rooms;
    use journal::{
        EmbeddedOptions, EmbeddedStore, EndWrite, Found, Identity, Ino, KvStore, NewInode, NodeId,
        RenameMode,
    };
    use remote::{Access, Remote, Settings, StoreUrl};
    use tempfile::TempDir;

    use super::*;

    const LOST: NodeId = NodeId(7);
    const OTHER: NodeId = NodeId(8);

    /// One journal and one bucket, a folder.
    struct Stand {
        dir: TempDir,
        url: StoreUrl,
        rows: Arc<dyn KvStore>,
    }

    impl Stand {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let bucket = dir.path().join("bucket");
            fs::create_dir(&bucket).unwrap();
            let url = StoreUrl::parse(&format!("file://{}", bucket.display())).unwrap();
            let options = EmbeddedOptions::default();
            let rows = EmbeddedStore::open(&dir.path().join("journal"), options).unwrap();
            let rows = Arc::new(rows);
            Self { dir, url, rows }
        }

        async fn journal(&self, node: NodeId) -> Journal {
            let store_url = self.url.to_string();
            let identity = Identity { store_url, node };
            Journal::open(self.rows.clone(), identity).await.unwrap()
        }

        async fn forget(&self, patience: Duration) -> Result<(), Error> {
            let remote = Remote::open(&self.url, &Settings::default()).unwrap();
            let rooms = OpenRooms {
                rooms: Rooms {
                    journal: self.journal(LOST).await,
                    extents: ExtentStore::open(
                        &self.dir.path().join("extents"),
                        extents::Options::default(),
                    )
                    .unwrap(),
                    capabilities: remote.probe(Access::ReadWrite).await.unwrap(),
                    remote,
                },
                node: LOST,
            };
            let options =
                MountOptions::from_lists(&self.url.to_string(), Path::new("/mnt"), &[]).unwrap();
            let torn = self.dir.path().join("torn");
            give_up(&rooms, &options, &torn, patience).await
        }

        fn object(&self, key: &str) -> Option<String> {
            fs::read_to_string(self.dir.path().join("bucket").join(key)).ok()
        }
    }

    async fn joined(journal: &Journal) -> bool {
        let place = here(Path::new("/mnt"));
        let joined = journal.join(&place, Timestamp::now()).await;
        journal.take_turn().await.ok();
        joined.is_ok()
    }

    /// A file that is written and closed, with bytes on a disk that is not there.
    async fn written(journal: &Journal, name: &str) -> Ino {
        let new = NewInode {
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            umask: 0,
            rdev: 0,
            target: None,
            writer: Some(LOST),
        };
        let now = Timestamp::now();
        let made = journal.create(Ino::ROOT, name.as_bytes(), new, now).await;
        let ino = made.unwrap().ino;
        close(journal, ino).await;
        ino
    }

    async fn close(journal: &Journal, ino: Ino) {
        let end = EndWrite {
            size: 1000,
            mtime: Timestamp::now(),
            changed: true,
            close: true,
            seal: None,
        };
        let closed = journal.end_write(ino, LOST, end, Timestamp::now()).await;
        closed.unwrap();
    }

    /// A file that was in the bucket before.
    async fn imported(stand: &Stand, journal: &Journal, name: &str) -> Ino {
        fs::write(stand.dir.path().join("bucket").join(name), name).unwrap();
        let remote = Remote::open(&stand.url, &Settings::default()).unwrap();
        let meta = remote.head(&name.into()).await.unwrap().unwrap();
        let found = Found {
            name: name.into(),
            kind: Kind::File,
            key: name.into(),
            etag: meta.etag.map(|etag| etag.0),
            size: meta.size,
            mtime: meta.modified.into(),
            mode: None,
            uid: None,
            gid: None,
            learned: true,
        };
        let now = Timestamp::now();
        journal.import(Ino::ROOT, &[found], now).await.unwrap();
        let inode = journal.lookup(Ino::ROOT, name.as_bytes()).await;
        inode.unwrap().unwrap().ino
    }

    async fn names(journal: &Journal) -> Vec<String> {
        let entries = journal.read_dir(Ino::ROOT, None, 100).await.unwrap();
        let names = entries.into_iter();
        names
            .map(|entry| String::from_utf8(entry.name).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn what_only_its_disk_had_is_given_up_and_what_the_store_has_stays() {
        let stand = Stand::new();
        let lost = stand.journal(LOST).await;
        assert!(joined(&lost).await);
        let overwritten = imported(&stand, &lost, "overwritten").await;
        let now = Timestamp::now();
        lost.begin_write(overwritten, LOST, true, now)
            .await
            .unwrap();
        close(&lost, overwritten).await;
        imported(&stand, &lost, "replaced").await;
        written(&lost, "temporary").await;
        let (root, mode) = (Ino::ROOT, RenameMode::Replace);
        let renamed = lost.rename(root, b"temporary", root, b"replaced", mode, now);
        renamed.await.unwrap();
        imported(&stand, &lost, "before").await;
        let renamed = lost.rename(root, b"before", root, b"moved", mode, now);
        renamed.await.unwrap();
        imported(&stand, &lost, "removed").await;
        lost.unlink(root, b"removed", now).await.unwrap();
        written(&lost, "new").await;
        let writing = imported(&stand, &lost, "writing").await;
        lost.begin_write(writing, LOST, false, now).await.unwrap();

        let only_there = held(&lost).await.unwrap();
        let mut told: Vec<_> = only_there
            .iter()
            .map(|held| (std::str::from_utf8(&held.path).unwrap(), held.has_earlier))
            .collect();
        told.sort_unstable();
        let expected = [
            ("new", false),
            ("overwritten", true),
            ("replaced", false),
            ("writing", true),
        ];
        assert_eq!(told, expected);
        let other = stand.journal(OTHER).await;
        assert!(!joined(&other).await, "it keeps others out");

        stand.forget(Duration::from_secs(60)).await.unwrap();
        assert_eq!(
            names(&other).await,
            ["moved", "overwritten", "replaced", "writing"]
        );
        for (name, content) in [
            ("moved", "before"),
            ("overwritten", "overwritten"),
            ("replaced", "replaced"),
            ("writing", "writing"),
        ] {
            let inode = other.lookup(root, name.as_bytes()).await.unwrap().unwrap();
            assert_eq!(inode.size, content.len() as u64, "{name}");
            assert!(!inode.is_content_dirty() && inode.content.valid == inode.size);
            assert_eq!(stand.object(name).as_deref(), Some(content), "{name}");
        }
        for gone in ["new", "temporary", "before", "removed"] {
            // Whoever comes next may have to remove it.
            let goes = other.is_garbage(gone).await.unwrap();
            assert!(goes || stand.object(gone).is_none(), "{gone}");
        }
        assert!(other.nodes().await.unwrap().is_empty());
        assert!(joined(&other).await);
    }

    #[tokio::test]
    async fn what_cannot_be_done_in_the_store_keeps_it_a_member() {
        let stand = Stand::new();
        let lost = stand.journal(LOST).await;
        assert!(joined(&lost).await);
        imported(&stand, &lost, "before").await;
        let (root, now) = (Ino::ROOT, Timestamp::now());
        let renamed = lost.rename(root, b"before", root, b"moved", RenameMode::Replace, now);
        renamed.await.unwrap();
        let in_the_way = stand.dir.path().join("bucket/moved/by/others");
        fs::create_dir_all(&in_the_way).unwrap();
        let refused = stand.forget(Duration::from_secs(2)).await.unwrap_err();
        assert!(matches!(refused, Error::StillHeld { .. }), "{refused}");
        let other = stand.journal(OTHER).await;
        assert_eq!(other.nodes().await.unwrap().len(), 1);
        assert!(!joined(&other).await);

        fs::remove_dir_all(stand.dir.path().join("bucket/moved")).unwrap();
        stand.forget(Duration::from_secs(60)).await.unwrap();
        assert_eq!(stand.object("moved").as_deref(), Some("before"));
        assert!(joined(&other).await);
    }
}
