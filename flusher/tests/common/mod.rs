//! The harness that the tests share: a journal, an extent store and a store in temporary folders, the
//! little that a file system does to them, and a flusher on top.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests"
)]

pub mod seaweed;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use extents::{ExtentId, ExtentStore};
use flusher::{Flusher, FlusherConfig, Rooms};
use harness::Proxy;
use journal::{
    EmbeddedOptions, EmbeddedStore, EndWrite, Found, Identity, Ino, Inode, Journal, Kind, NewInode,
    NodeId, RenameMode, Timestamp,
};
use remote::{Access, Condition, ObjectKey, ObjectMeta, PosixAttrs, Remote, Settings, StoreUrl};
use tempfile::TempDir;

pub const NODE: NodeId = NodeId(0x2a);
/// Longest time that one test may take.
const TEST_TIME_MAX: Duration = Duration::from_secs(100);
/// S3's smallest part.
pub const PART: usize = 5 << 20;

/// Runs a test on a runtime of its own, in bounded time.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(TEST_TIME_MAX, test)
            .await
            .expect("the test took too long");
    });
}

/// Makes a test of an `async fn(Rig)` for each kind of store.
#[macro_export]
macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        mod in_a_folder { $(#[test] fn $name() {
            $crate::common::run(async { super::$name($crate::common::Rig::folder().await).await });
        })* }
        mod in_a_bucket { $(#[test] fn $name() {
            $crate::common::run(async {
                if let Some(rig) = $crate::common::Rig::bucket().await { super::$name(rig).await }
            });
        })* }
    };
}

/// Everything below a mount, without the mount.
pub struct Rig {
    pub config: FlusherConfig,
    pub journal: Journal,
    pub extents: ExtentStore,
    /// Past the proxy, as another client of the bucket.
    pub store: Remote,
    /// Between the flusher and an S3 server.
    pub proxy: Option<Proxy>,
    _dir: TempDir,
}

impl Rig {
    /// With a folder as the store.
    pub async fn folder() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("store");
        std::fs::create_dir(&folder).unwrap();
        let url = StoreUrl::parse(&format!("file://{}", folder.display())).unwrap();
        let remote = Remote::open(&url, &Settings::default()).unwrap();
        Rig::new(dir, remote.clone(), remote, None).await
    }

    /// With a place of its own in a bucket of a SeaweedFS behind a proxy; `None` if there is none.
    pub async fn bucket() -> Option<Rig> {
        let port = seaweed::port()?;
        let proxy = Proxy::start(&format!("http://127.0.0.1:{port}"));
        let place = format!("s3://{}/{:016x}", seaweed::BUCKET, rand::random::<u64>());
        let url = StoreUrl::parse(&place).unwrap();
        let open = |port: u16| {
            let settings = Settings::from_vars([
                ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
                ("AWS_ACCESS_KEY_ID", "key".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ]);
            Remote::open(&url, &settings).unwrap()
        };
        let (through, past) = (open(proxy.port), open(port));
        Some(Rig::new(tempfile::tempdir().unwrap(), through, past, Some(proxy)).await)
    }

    async fn new(dir: TempDir, remote: Remote, store: Remote, proxy: Option<Proxy>) -> Rig {
        let rows =
            EmbeddedStore::open(&dir.path().join("journal"), EmbeddedOptions::default()).unwrap();
        let identity = Identity {
            store_url: "test".into(),
            node: NODE,
        };
        let journal = Journal::open(Arc::new(rows), identity).await.unwrap();
        let extents =
            ExtentStore::open(&dir.path().join("extents"), extents::Options::default()).unwrap();
        let capabilities = remote.probe(Access::ReadWrite).await.unwrap();
        if let Some(proxy) = &proxy {
            // The probe's own requests are of no interest.
            proxy.forget();
        }
        let rooms = Rooms {
            journal: journal.clone(),
            extents: extents.clone(),
            remote,
            capabilities,
        };
        let mut config = FlusherConfig::new(rooms, NODE);
        config.settle = Duration::from_millis(20);
        config.settle_temporary = Duration::from_millis(400);
        config.single_put_bytes_max = 1 << 20;
        config.part_bytes_min = PART as u64;
        config.late_max = Duration::ZERO;
        config.backoff.max = Duration::from_secs(1);
        config.backoff.max_permanent = Duration::from_secs(1);
        Rig {
            config,
            journal,
            extents,
            store,
            proxy,
            _dir: dir,
        }
    }

    pub fn start(&self) -> Flusher {
        Flusher::start(self.config.clone())
    }

    pub async fn mkdir(&self, parent: Ino, name: &str) -> Ino {
        let inode = self
            .journal
            .create(
                parent,
                name.as_bytes(),
                new(Kind::Directory),
                Timestamp::now(),
            )
            .await;
        inode.unwrap().ino
    }

    /// Creates a file, writes it and closes it.
    pub async fn write(&self, parent: Ino, name: &str, bytes: &[u8]) -> Ino {
        let ino = self.create_open(parent, name, bytes).await;
        self.close(ino, bytes.len(), true).await;
        ino
    }

    /// Creates a file, writes it and leaves it open.
    pub async fn create_open(&self, parent: Ino, name: &str, bytes: &[u8]) -> Ino {
        let wanted = NewInode {
            writer: Some(NODE),
            ..new(Kind::File)
        };
        let inode = self
            .journal
            .create(parent, name.as_bytes(), wanted, Timestamp::now())
            .await
            .unwrap();
        self.extents
            .create(extent_of(&inode))
            .unwrap()
            .write_at(0, bytes)
            .unwrap();
        inode.ino
    }

    pub async fn inode(&self, ino: Ino) -> Inode {
        self.journal.inode(ino).await.unwrap().unwrap()
    }

    /// Truncates an existing file, writes it and closes it.
    pub async fn rewrite(&self, ino: Ino, bytes: &[u8]) {
        self.rewrite_open(ino, bytes).await;
        self.close(ino, bytes.len(), true).await;
    }

    /// Truncates an existing file, writes it and leaves it open.
    pub async fn rewrite_open(&self, ino: Ino, bytes: &[u8]) {
        let inode = self
            .journal
            .begin_write(ino, NODE, true, Timestamp::now())
            .await
            .unwrap();
        self.extents
            .create(extent_of(&inode))
            .unwrap()
            .write_at(0, bytes)
            .unwrap();
    }

    /// Writes some bytes in the middle of a file of `size` bytes that stays that long.
    pub async fn patch(&self, ino: Ino, size: usize, offset: u64, bytes: &[u8]) {
        let inode = self
            .journal
            .begin_write(ino, NODE, false, Timestamp::now())
            .await
            .unwrap();
        let extent = self.extents.open_or_create(extent_of(&inode)).unwrap();
        extent.truncate(size as u64).unwrap();
        extent.write_at(offset, bytes).unwrap();
        self.close(ino, size, true).await;
    }

    pub async fn close(&self, ino: Ino, size: usize, close: bool) {
        let end = EndWrite {
            size: size as u64,
            mtime: Timestamp::now(),
            changed: true,
            close,
            seal: None,
        };
        self.journal
            .end_write(ino, NODE, end, Timestamp::now())
            .await
            .unwrap();
    }

    pub async fn rename(&self, from: &str, to: &str) {
        self.rename_as(from, to, RenameMode::Replace).await;
    }

    pub async fn rename_as(&self, from: &str, to: &str, mode: RenameMode) {
        let (root, now) = (Ino::ROOT, Timestamp::now());
        let renamed = self
            .journal
            .rename(root, from.as_bytes(), root, to.as_bytes(), mode, now)
            .await
            .unwrap();
        if let Some(removed) = renamed.replaced.filter(|removed| removed.last) {
            self.journal.reap(removed.inode.ino).await.unwrap();
        }
    }

    pub async fn unlink(&self, name: &str) {
        let removed = self
            .journal
            .unlink(Ino::ROOT, name.as_bytes(), Timestamp::now())
            .await
            .unwrap();
        self.journal.reap(removed.inode.ino).await.unwrap();
    }

    pub async fn rmdir(&self, name: &str) {
        let removed = self
            .journal
            .rmdir(Ino::ROOT, name.as_bytes(), Timestamp::now())
            .await
            .unwrap();
        self.journal.reap(removed.inode.ino).await.unwrap();
    }

    /// Drops the cached bytes of a clean file.
    pub async fn evict(&self, ino: Ino) {
        let inode = self.journal.inode(ino).await.unwrap().unwrap();
        assert!(
            self.journal
                .evicted(ino, inode.content.epoch, inode.content.generation)
                .await
                .unwrap()
        );
        self.extents.remove(extent_of(&inode)).unwrap();
    }

    /// Takes the extent file of a file away, and tells nobody.
    pub async fn lose(&self, ino: Ino) {
        let inode = self.inode(ino).await;
        self.extents.remove(extent_of(&inode)).unwrap();
    }

    /// Waits until the store is as the journal wants it: nothing unsynced, nothing to delete.
    pub async fn settled(&self, flusher: &Flusher) {
        let mut progress = flusher.subscribe();
        loop {
            flusher.flush_all();
            progress.mark_unchanged();
            let rows = self.journal.unsynced(None, 10).await.unwrap();
            let garbage = self.journal.garbage(None, 10).await.unwrap();
            let resync = self.journal.resync(None, 10).await.unwrap();
            if rows.is_empty() && garbage.is_empty() && resync.is_empty() {
                return;
            }
            // Something may need only time, such as a backoff.
            let _ = tokio::time::timeout(Duration::from_millis(200), progress.changed()).await;
        }
    }

    /// The bytes at a key, as another client of the store sees them.
    pub async fn object(&self, key: &str) -> Option<Bytes> {
        let key = ObjectKey::from(key);
        let meta = self.store.head(&key).await.unwrap()?;
        match self.store.get(&key, 0..meta.size, None).await {
            Err(remote::Error::NotFound { .. }) => None,
            bytes => Some(bytes.unwrap()),
        }
    }

    /// Every object below the root: files by name, directories with a slash, sorted.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        let mut directories = vec![String::new()];
        while let Some(directory) = directories.pop() {
            let page = self
                .store
                .list_page(&ObjectKey::from(directory.as_str()), None, 1000)
                .await
                .unwrap();
            keys.extend(page.files.into_iter().map(|meta| meta.key.0));
            for name in page.directories {
                let key = format!("{directory}{name}/");
                keys.push(key.clone());
                directories.push(key);
            }
        }
        keys.sort();
        keys
    }

    /// Somebody else puts an object.
    pub async fn foreign_put(&self, key: &str, bytes: &[u8]) {
        let body = Bytes::copy_from_slice(bytes);
        let (key, attrs) = (ObjectKey::from(key), PosixAttrs::default());
        self.store
            .put(&key, body, &attrs, &Condition::None)
            .await
            .unwrap();
    }

    /// What a listing of the directory would make of an object in it.
    pub async fn import(&self, parent: Ino, key: &str) -> Ino {
        let meta = self.store.head(&ObjectKey::from(key)).await;
        let found = [found(meta.unwrap().unwrap())];
        let imported = self.journal.import(parent, &found, Timestamp::now());
        imported.await.unwrap()[0].ino
    }
}

/// A file as a listing shows it.
pub fn found(meta: ObjectMeta) -> Found {
    Found {
        name: meta.key.name().into(),
        kind: Kind::File,
        key: meta.key.0,
        etag: meta.etag.map(|etag| etag.0),
        size: meta.size,
        mtime: meta.modified.into(),
        mode: None,
        uid: None,
        gid: None,
        learned: false,
    }
}

pub fn new(kind: Kind) -> NewInode {
    NewInode {
        kind,
        mode: if kind == Kind::Directory {
            0o755
        } else {
            0o640
        },
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
        umask: 0,
        rdev: 0,
        target: None,
        writer: None,
    }
}

pub fn extent_of(inode: &Inode) -> ExtentId {
    ExtentId {
        ino: inode.ino.0,
        generation: inode.content.generation,
    }
}

/// Bytes that differ from place to place and from seed to seed.
pub fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length)
        .map(|n| (n / 251) as u8 ^ (n % 251) as u8 ^ seed)
        .collect()
}
