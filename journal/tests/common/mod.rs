//! The small harness that the tests share: a journal on an embedded store in a temporary directory or, with the
//! feature `foundationdb` and the variable `FUSED_TEST_FDB_CLUSTER_FILE`, in a part of that cluster named by the directory.
#![allow(dead_code, reason = "each test file uses a part of it")]

use journal::kv::KvStore;
use journal::{
    EmbeddedOptions, EmbeddedStore, EndWrite, Flushed, Found, Identity, Ino, Inode, Journal, Kind,
    NewInode, NodeId, Origin, Sent, Timestamp,
};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

pub const NODE: NodeId = NodeId(7);
pub const STORE: &str = "s3://bucket/prefix";

pub const CREATION: Sent = Sent {
    created: true,
    replaced: None,
    deleted: false,
};

pub fn at(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 0 }
}

pub fn identity() -> Identity {
    Identity {
        store_url: STORE.into(),
        node: NODE,
    }
}

pub async fn open(dir: &Path) -> Journal {
    Journal::open(store(dir), identity()).await.unwrap()
}

/// What is kept in a directory, empty at first.
pub fn store(dir: &Path) -> Arc<dyn KvStore> {
    #[cfg(feature = "foundationdb")]
    if let Some(cluster_file) = std::env::var_os("FUSED_TEST_FDB_CLUSTER_FILE") {
        use std::os::unix::ffi::OsStrExt;
        let options = journal::kv::FdbOptions {
            cluster_file: cluster_file.into(),
            prefix: dir.as_os_str().as_bytes().to_vec(),
        };
        return Arc::new(journal::kv::FdbStore::open(options).unwrap());
    }
    Arc::new(EmbeddedStore::open(dir, EmbeddedOptions::default()).unwrap())
}

/// A new journal; keep the directory as long as it is used.
pub async fn fresh() -> (TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path()).await;
    (dir, journal)
}

pub fn new(kind: Kind) -> NewInode {
    NewInode {
        kind,
        mode: if kind == Kind::Directory {
            0o755
        } else {
            0o644
        },
        uid: 1000,
        gid: 1000,
        umask: 0,
        rdev: 0,
        target: None,
        writer: None,
    }
}

pub async fn file(journal: &Journal, parent: Ino, name: &str) -> Inode {
    journal
        .create(parent, name.as_bytes(), new(Kind::File), at(10))
        .await
        .unwrap()
}

pub async fn dir(journal: &Journal, parent: Ino, name: &str) -> Inode {
    journal
        .create(parent, name.as_bytes(), new(Kind::Directory), at(10))
        .await
        .unwrap()
}

/// Bytes were written and the file was closed.
pub async fn write(journal: &Journal, ino: Ino, size: u64) -> Inode {
    journal.begin_write(ino, NODE, false, at(20)).await.unwrap();
    let end = EndWrite {
        size,
        mtime: at(21),
        changed: true,
        close: true,
        seal: None,
    };
    journal.end_write(ino, NODE, end, at(21)).await.unwrap()
}

pub fn object(key: &str, etag: &str, inode: &Inode) -> Flushed {
    Flushed {
        epoch: inode.content.epoch,
        meta_epoch: inode.meta_epoch,
        origin: Origin {
            key: key.into(),
            etag: Some(etag.into()),
            size: inode.size,
            epoch: inode.content.epoch,
            meta_epoch: inode.meta_epoch,
            checked: at(30),
        },
        blocks: None,
        heard: true,
    }
}

pub fn found(name: &str, key: &str, etag: &str, size: u64) -> Found {
    Found {
        name: name.into(),
        kind: if key.ends_with('/') {
            Kind::Directory
        } else {
            Kind::File
        },
        key: key.into(),
        etag: Some(etag.into()),
        size,
        mtime: at(5),
        mode: None,
        uid: None,
        gid: None,
        learned: false,
    }
}

pub async fn names(journal: &Journal, dir: Ino) -> Vec<String> {
    journal
        .read_dir(dir, None, 1000)
        .await
        .unwrap()
        .into_iter()
        .map(|entry| String::from_utf8(entry.name).unwrap())
        .collect()
}
