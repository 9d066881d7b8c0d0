//! The same test on every kind of store: a local folder, or a bucket on a real server.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::files::scratch;
use crate::proxy::Proxy;
use crate::server::{Bucket, Server};

/// An empty store of one test.
#[derive(Debug)]
pub enum Store {
    /// A local folder, `file://`.
    Folder(TempDir),
    /// A bucket, `s3://`.
    Bucket {
        /// The bucket; dropped first, while its server is up.
        bucket: Box<Bucket>,
        /// The server, if it is the test's own.
        server: Server,
    },
}

impl Store {
    /// An empty local folder.
    pub fn folder() -> Self {
        Self::Folder(scratch())
    }

    /// An empty bucket on SeaweedFS.
    pub fn seaweedfs() -> Self {
        Self::on(Server::seaweedfs())
    }

    /// An empty bucket on moto.
    pub fn moto() -> Self {
        Self::on(Server::moto())
    }

    /// An empty bucket on a server.
    pub fn on(server: Server) -> Self {
        Self::Bucket {
            bucket: Box::new(server.bucket()),
            server,
        }
    }

    /// The URL to mount.
    pub fn url(&self) -> String {
        match self {
            Self::Folder(folder) => format!("file://{}", folder.path().display()),
            Self::Bucket { bucket, .. } => bucket.url(),
        }
    }

    /// The variables that a mount of it needs.
    pub fn environment(&self) -> Vec<(String, String)> {
        match self {
            Self::Folder(_) => Vec::new(),
            Self::Bucket { bucket, .. } => bucket.environment().to_vec(),
        }
    }

    /// A proxy in front of the bucket's server.
    #[track_caller]
    pub fn proxy(&self) -> Proxy {
        match self {
            Self::Bucket { server, .. } => Proxy::start(server.endpoint()),
            Self::Folder(_) => panic!("this store is a folder"),
        }
    }

    /// The bucket behind it.
    #[track_caller]
    pub fn bucket(&self) -> &Bucket {
        match self {
            Self::Bucket { bucket, .. } => bucket,
            Self::Folder(_) => panic!("this store is a folder"),
        }
    }

    /// The server behind it.
    #[track_caller]
    pub fn server(&mut self) -> &mut Server {
        match self {
            Self::Bucket { server, .. } => server,
            Self::Folder(_) => panic!("this store is a folder"),
        }
    }

    /// Every key, sorted; of a folder: every file's path.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = match self {
            Self::Bucket { bucket, .. } => bucket.keys(),
            Self::Folder(folder) => {
                let mut keys = Vec::new();
                walk(folder.path(), folder.path(), &mut keys);
                keys
            }
        };
        keys.sort();
        keys
    }

    /// The keys that are files' and not the markers of directories.
    pub fn files(&self) -> Vec<String> {
        self.keys()
            .into_iter()
            .filter(|key| !key.ends_with('/'))
            .collect()
    }

    /// Whether there is such an object.
    pub fn has(&self, key: &str) -> bool {
        match self {
            Self::Bucket { bucket, .. } => bucket.head(key).is_some(),
            Self::Folder(folder) => folder.path().join(key).symlink_metadata().is_ok(),
        }
    }

    /// An object's content; None if there is none.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let file = self.fetch(key)?;
        Some(fs::read(file.path()).expect("a fetched object"))
    }

    /// An object as a file that an independent client fetched; None if there is none.
    pub fn fetch(&self, key: &str) -> Option<tempfile::NamedTempFile> {
        let file = tempfile::NamedTempFile::new_in(crate::files::scratch_base()).expect("a file");
        let found = match self {
            Self::Bucket { bucket, .. } => bucket.get(key, file.path()),
            Self::Folder(folder) => fs::copy(folder.path().join(key), file.path()).is_ok(),
        };
        found.then_some(file)
    }

    /// Puts an object there behind the program's back.
    pub fn put(&self, key: &str, text: &str) {
        match self {
            Self::Bucket { bucket, .. } => bucket.put(key, text),
            Self::Folder(folder) => {
                let path = folder.path().join(key);
                fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
                fs::write(path, text).expect("an object");
            }
        }
    }

    /// Deletes an object behind the program's back.
    pub fn delete(&self, key: &str) {
        match self {
            Self::Bucket { bucket, .. } => bucket.delete(key),
            Self::Folder(folder) => fs::remove_file(folder.path().join(key)).expect("an object"),
        }
    }
}

fn walk(base: &Path, directory: &Path, keys: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("a folder") {
        let path: PathBuf = entry.expect("an entry").path();
        if path.is_dir() {
            walk(base, &path, keys);
        } else {
            keys.push(
                path.strip_prefix(base)
                    .expect("below")
                    .to_string_lossy()
                    .into_owned(),
            );
        }
    }
}
