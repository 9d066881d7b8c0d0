//! The journal under test, the naive tree, a bucket, a simple flusher and another client.

use super::common::{CREATION, NODE, at, new};
use super::now;
use super::ops::{Name, Op};
use super::tree::Tree;
use journal::{
    EndWrite, FlushOutcome, Flushed, Found, Ino, Journal, Kind, Listing, Origin, SetAttr, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

/// A put that is under way.
pub struct Flight {
    ino: Ino,
    key: String,
    flushed: Flushed,
}

pub struct World {
    pub journal: Journal,
    pub tree: Tree,
    /// Key to ETag.
    pub bucket: BTreeMap<String, String>,
    pub flights: Vec<Flight>,
    /// A listing that was asked for: directory, when, and what it will say.
    pub listing: Option<(u64, Timestamp, Vec<Found>)>,
    pub etags: u64,
    /// Keys that another client put and that never became visible here.
    pub foreign: BTreeSet<String>,
}

pub fn errno<T>(result: &Result<T, journal::Error>) -> i32 {
    result.as_ref().map_or_else(journal::Error::errno, |_| 0)
}

pub fn key_of(path: &[Vec<u8>], kind: Kind) -> String {
    let names: Vec<&str> = path
        .iter()
        .map(|name| std::str::from_utf8(name).unwrap())
        .collect();
    let slash = if kind == Kind::Directory && !names.is_empty() {
        "/"
    } else {
        ""
    };
    format!("{}{slash}", names.join("/"))
}

impl World {
    pub fn dir(&self, n: usize) -> u64 {
        let dirs = self.tree.dirs();
        dirs[n % dirs.len()]
    }

    pub fn any(&self, n: usize) -> u64 {
        let all: Vec<u64> = self.tree.nodes.keys().copied().collect();
        all[all.len() - 1 - n % all.len()]
    }

    pub fn etag(&mut self) -> String {
        self.etags += 1;
        format!("e{}", self.etags)
    }

    pub fn is_busy(&self, key: &str) -> bool {
        self.flights.iter().any(|flight| flight.key == key)
    }

    pub async fn apply(&mut self, op: Op) {
        let now = at(100);
        let journal = self.journal.clone();
        match op {
            Op::Create(n, name, kind) => {
                let dir = self.dir(n);
                let mut request = new(kind);
                request.target = (kind == Kind::Symlink).then(|| b"to".to_vec());
                let made = journal
                    .create(Ino(dir), name.as_bytes(), request, now)
                    .await;
                let taken = self.tree.names.contains_key(&(dir, name.clone()));
                assert_eq!(errno(&made), if taken { libc::EEXIST } else { 0 });
                if let Ok(made) = made {
                    self.tree
                        .add(dir, &name, made.ino.0, kind, made.size, made.mode);
                }
            }
            Op::Link(i, n, name) => {
                let (ino, dir) = (self.any(i), self.dir(n));
                let node = self.tree.nodes[&ino].clone();
                let expected = if node.kind == Kind::Directory {
                    libc::EPERM
                } else if node.nlink == 0 {
                    libc::ENOENT
                } else if self.tree.names.contains_key(&(dir, name.clone())) {
                    libc::EEXIST
                } else {
                    self.tree.nodes.get_mut(&ino).unwrap().nlink += 1;
                    self.tree.names.insert((dir, name.clone()), ino);
                    0
                };
                let linked = journal.link(Ino(ino), Ino(dir), name.as_bytes(), now).await;
                assert_eq!(errno(&linked), expected);
            }
            Op::Unlink(n, name) => self.remove(n, name, false).await,
            Op::Rmdir(n, name) => self.remove(n, name, true).await,
            Op::Rename(n, name, m, other, mode) => {
                let (from, to) = ((self.dir(n), name), (self.dir(m), other));
                let (a, b) = (from.clone(), to.clone());
                self.list_child(to.0, &to.1).await;
                let expected = self.tree.rename(from, to, mode);
                let renamed = journal
                    .rename(
                        Ino(a.0),
                        a.1.as_bytes(),
                        Ino(b.0),
                        b.1.as_bytes(),
                        mode,
                        now,
                    )
                    .await;
                assert_eq!(errno(&renamed), expected);
            }
            Op::Truncate(i, size) => {
                let ino = self.any(i);
                let set = SetAttr {
                    size: Some(size),
                    ..SetAttr::default()
                };
                if journal.set_attr(Ino(ino), set, now).await.is_ok() {
                    self.tree.nodes.get_mut(&ino).unwrap().size = size;
                }
            }
            Op::Chmod(i, mode) => {
                let ino = self.any(i);
                let set = SetAttr {
                    mode: Some(mode),
                    ..SetAttr::default()
                };
                journal.set_attr(Ino(ino), set, now).await.unwrap();
                self.tree.nodes.get_mut(&ino).unwrap().mode = mode;
            }
            Op::Write(i, size) => {
                let ino = self.any(i);
                if journal
                    .begin_write(Ino(ino), NODE, false, now)
                    .await
                    .is_ok()
                {
                    self.end(ino, size, true, true).await;
                }
            }
            Op::OpenTruncate(i) => {
                let ino = self.any(i);
                if journal.begin_write(Ino(ino), NODE, true, now).await.is_ok() {
                    self.tree.nodes.get_mut(&ino).unwrap().size = 0;
                }
            }
            Op::Close(i, changed) => {
                let ino = self.any(i);
                if self.tree.nodes[&ino].kind == Kind::File {
                    self.end(ino, 3, changed, true).await;
                }
            }
            Op::Pin(i, on) => {
                let ino = self.any(i);
                let node = &self.tree.nodes[&ino];
                let can = node.nlink > 0 && matches!(node.kind, Kind::File | Kind::Directory);
                let changed = match on {
                    true => journal.pin(Ino(ino)).await,
                    false => journal.unpin(Ino(ino)).await,
                };
                assert_eq!(changed.is_ok(), can || !on);
                let expected = match (on, can) {
                    (true, true) => self.tree.pins.insert(ino),
                    (true, false) => false,
                    (false, _) => self.tree.pins.remove(&ino),
                };
                assert_eq!(changed.unwrap_or(false), expected);
            }
            Op::Reap(i) => {
                let ino = self.any(i);
                let reaped = journal.reap(Ino(ino)).await.unwrap();
                assert_eq!(reaped.is_some(), self.tree.nodes[&ino].nlink == 0);
                if reaped.is_some() {
                    self.tree.nodes.remove(&ino);
                }
            }
            Op::FlushStart(i) => self.start_flush(Ino(self.any(i))).await,
            Op::FlushEnd(i) => {
                if !self.flights.is_empty() {
                    let flight = self.flights.remove(i % self.flights.len());
                    self.end_flush(flight).await;
                }
            }
            Op::Resync(i) => {
                let waiting = journal.resync(None, 100).await.unwrap();
                if !waiting.is_empty() {
                    self.resync(waiting[i % waiting.len()].dir, 2).await;
                }
            }
            Op::Collect(i) => {
                let garbage = journal.garbage(None, 100).await.unwrap();
                if !garbage.is_empty() {
                    self.collect(&garbage[i % garbage.len()].key).await;
                }
            }
            Op::ForeignPut(n, name, directory) => self.foreign_put(n, &name, directory).await,
            Op::ListStart(n) => {
                let dir = self.dir(n);
                let (time, found) = self.list(dir).await;
                self.listing = Some((dir, time, found));
            }
            Op::ListEnd => {
                if let Some((dir, time, found)) = self.listing.take()
                    && self.tree.nodes.get(&dir).is_some_and(|node| node.nlink > 0)
                {
                    self.import(dir, time, &found).await;
                }
            }
        }
    }

    pub async fn remove(&mut self, n: usize, name: Name, rmdir: bool) {
        let dir = self.dir(n);
        if rmdir {
            self.list_child(dir, &name).await;
        }
        let expected = self.tree.check_remove(dir, &name, rmdir);
        let removed = if rmdir {
            self.journal.rmdir(Ino(dir), name.as_bytes(), at(100)).await
        } else {
            self.journal
                .unlink(Ino(dir), name.as_bytes(), at(100))
                .await
        };
        assert_eq!(errno(&removed), expected);
        if expected == 0 {
            self.tree.remove(dir, &name);
        }
    }

    pub async fn end(&mut self, ino: u64, size: u64, changed: bool, close: bool) {
        let end = EndWrite {
            size,
            mtime: at(100),
            changed,
            close,
            seal: None,
        };
        self.journal
            .end_write(Ino(ino), NODE, end, at(100))
            .await
            .unwrap();
        if changed {
            self.tree.nodes.get_mut(&ino).unwrap().size = size;
        }
    }

    /// The flusher decides what to put, one put of a key at a time.
    pub async fn start_flush(&mut self, ino: Ino) {
        let Some(wanted) = self.journal.wanted(ino).await.unwrap() else {
            return;
        };
        let (Some(path), Some(_)) = (wanted.path, wanted.unsynced) else {
            return;
        };
        let key = key_of(&path, wanted.inode.kind);
        if wanted.inode.content.writer.is_some()
            || self.is_busy(&key)
            || self.flights.iter().any(|flight| flight.ino == ino)
        {
            return;
        }
        let origin = wanted.inode.content.origin.as_ref();
        if origin.is_none_or(|origin| origin.key != key) {
            let directory = wanted.inode.kind == Kind::Directory;
            let attempted = async || {
                let journal = &self.journal;
                journal.attempted(ino, &key, directory, CREATION).await
            };
            if !attempted().await.unwrap() {
                // Names were exchanged, or the other is deleted and still open: it keeps its bytes.
                let other = self.journal.claim(&key).await.unwrap().unwrap();
                let inode = self.journal.inode(other).await.unwrap().unwrap();
                let generation = inode.content.generation;
                let detached = self.journal.detach(other, generation, at(100)).await;
                assert!(detached.unwrap());
                assert!(attempted().await.unwrap());
            }
        }
        let etag = self.etag();
        let flushed = Flushed {
            epoch: wanted.inode.content.epoch,
            meta_epoch: wanted.inode.meta_epoch,
            origin: Origin {
                key: key.clone(),
                etag: Some(etag),
                size: wanted.inode.size,
                epoch: wanted.inode.content.epoch,
                meta_epoch: wanted.inode.meta_epoch,
                checked: now(),
            },
            blocks: None,
            heard: true,
        };
        self.flights.push(Flight { ino, key, flushed });
    }

    pub async fn end_flush(&mut self, flight: Flight) {
        let etag = flight.flushed.origin.etag.clone().unwrap();
        self.foreign.remove(&flight.key);
        self.bucket.insert(flight.key, etag);
        let outcome = self
            .journal
            .flushed(flight.ino, flight.flushed, now())
            .await
            .unwrap();
        if outcome == FlushOutcome::Clean {
            assert_eq!(self.journal.unsynced_row(flight.ino).await.unwrap(), None);
        }
    }

    /// A renamed directory: list what it has in the store, then a step.
    pub async fn resync(&mut self, dir: Ino, limit: usize) {
        let (time, found) = self.list(dir.0).await;
        self.import(dir.0, time, &found).await;
        self.journal.resync_step(dir, limit, at(100)).await.unwrap();
    }

    /// Deletes a key, unless its path is wanted by something that will be put there.
    pub async fn collect(&mut self, key: &str) {
        if self.is_busy(key) {
            return;
        }
        let directory = key.ends_with('/');
        let mut at = Some(Ino::ROOT);
        for name in key.trim_end_matches('/').split('/') {
            at = match at {
                Some(dir) => self
                    .journal
                    .lookup(dir, name.as_bytes())
                    .await
                    .unwrap()
                    .map(|inode| inode.ino),
                None => None,
            };
        }
        if let Some(ino) = at
            && self.journal.unsynced_row(ino).await.unwrap().is_some()
            && self.tree.is_dir(ino.0) == directory
        {
            return;
        }
        // A directory goes after what is below, as far as that is ours.
        for other in self.bucket.keys() {
            if directory && other != key && other.starts_with(key) && !self.foreign.contains(other)
            {
                return;
            }
        }
        self.bucket.remove(key);
        self.journal.garbage_done(key).await.unwrap();
    }

    /// Where a directory's entries are in the bucket.
    pub async fn prefix(&self, dir: u64) -> String {
        let inode = self.journal.inode(Ino(dir)).await.unwrap().unwrap();
        match inode.content.origin {
            Some(origin) => origin.key,
            None => key_of(
                &self.journal.path(Ino(dir)).await.unwrap().unwrap(),
                Kind::Directory,
            ),
        }
    }

    pub async fn list(&self, dir: u64) -> (Timestamp, Vec<Found>) {
        let time = now();
        let prefix = self.prefix(dir).await;
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        for (key, etag) in &self.bucket {
            let Some(rest) = key.strip_prefix(&prefix) else {
                continue;
            };
            let Some(name) = rest.split('/').next().filter(|name| !name.is_empty()) else {
                continue;
            };
            let is_dir = rest.contains('/');
            let (key, etag) = if is_dir {
                (format!("{prefix}{name}/"), None)
            } else {
                (key.clone(), Some(etag.clone()))
            };
            // Where the bucket has both, the directory wins.
            if is_dir || !found.contains_key(name) {
                found.insert(
                    name.to_owned(),
                    Found {
                        name: name.into(),
                        kind: if is_dir { Kind::Directory } else { Kind::File },
                        key,
                        etag,
                        size: 5,
                        mtime: at(1),
                        mode: None,
                        uid: None,
                        gid: None,
                        learned: false,
                    },
                );
            }
        }
        (time, found.into_values().collect())
    }

    pub async fn import(&mut self, dir: u64, time: Timestamp, found: &[Found]) {
        self.journal.import(Ino(dir), found, time).await.unwrap();
        let listing = Listing {
            at: time,
            complete: true,
        };
        self.journal.set_listing(Ino(dir), listing).await.unwrap();
        // What is new here is new in the tree; what was there must not have changed kind.
        for entry in self.journal.read_dir(Ino(dir), None, 1000).await.unwrap() {
            let name = String::from_utf8(entry.name).unwrap();
            let inode = self.journal.inode(entry.ino).await.unwrap().unwrap();
            match self.tree.names.get(&(dir, name.clone())) {
                Some(ino) => {
                    assert_eq!(*ino, entry.ino.0);
                    self.tree.nodes.get_mut(ino).unwrap().size = inode.size;
                }
                None => {
                    let object = inode.content.origin.as_ref().unwrap();
                    let is_there = |key: &String| key.starts_with(&object.key);
                    assert!(
                        self.foreign.iter().any(is_there),
                        "{} was brought back",
                        object.key
                    );
                    self.foreign.remove(&object.key);
                    self.tree
                        .add(dir, &name, entry.ino.0, entry.kind, inode.size, inode.mode);
                }
            }
        }
    }

    /// Another client puts an object where the tree has nothing.
    pub async fn foreign_put(&mut self, n: usize, name: &Name, directory: bool) {
        let dir = self.dir(n);
        if self.tree.names.contains_key(&(dir, name.clone())) {
            return;
        }
        let path = self.journal.path(Ino(dir)).await.unwrap().unwrap();
        let prefix = key_of(&path, Kind::Directory);
        // Where directories are on the move, the foreign client would need our eyes.
        if self.prefix(dir).await != prefix
            || !self.journal.resync(None, 1).await.unwrap().is_empty()
        {
            return;
        }
        let tail = if directory { "/c" } else { "" };
        let key = format!("{prefix}{name}{tail}");
        let over = format!("{prefix}{name}");
        if self.bucket.keys().any(|other| other.starts_with(&over)) || self.is_busy(&key) {
            return;
        }
        for key in [key.clone(), over.clone(), format!("{over}/")] {
            if self.journal.claim(&key).await.unwrap().is_some()
                || self.journal.is_garbage(&key).await.unwrap()
            {
                return;
            }
        }
        let etag = self.etag();
        self.foreign.insert(key.clone());
        self.bucket.insert(key, etag);
    }

    /// A directory that is to go must be known to be empty.
    pub async fn list_child(&mut self, dir: u64, name: &Name) {
        if let Some(&ino) = self.tree.names.get(&(dir, name.clone()))
            && self.tree.is_dir(ino)
        {
            let (time, found) = self.list(ino).await;
            self.import(ino, time, &found).await;
        }
    }

    /// The journal and the naive tree agree.
    pub async fn check(&self) {
        let mut names = BTreeMap::new();
        for dir in self.tree.dirs() {
            for entry in self.journal.read_dir(Ino(dir), None, 1000).await.unwrap() {
                assert_eq!(entry.kind, self.tree.nodes[&entry.ino.0].kind);
                names.insert((dir, String::from_utf8(entry.name).unwrap()), entry.ino.0);
            }
        }
        assert_eq!(names, self.tree.names);
        let usage = self.journal.counters().await.unwrap();
        assert_eq!(usage.inodes, self.tree.nodes.len() as u64);
        let unsynced = self.journal.unsynced(None, 10_000).await.unwrap();
        assert_eq!(usage.unsynced, unsynced.len() as u64);
        let unsynced: BTreeSet<u64> = unsynced.iter().map(|row| row.ino.0).collect();
        for (ino, node) in &self.tree.nodes {
            let inode = self.journal.inode(Ino(*ino)).await.unwrap().unwrap();
            assert_eq!(
                (inode.kind, inode.nlink, inode.size, inode.mode),
                (node.kind, node.nlink, node.size, node.mode)
            );
            assert!(inode.content.valid <= inode.size);
            let path = self.journal.path(Ino(*ino)).await.unwrap();
            assert_eq!(path.is_some(), node.nlink > 0);
            let is_synced = matches!(node.kind, Kind::File | Kind::Directory) && *ino != 1;
            if is_synced && node.nlink > 0 && (inode.is_content_dirty() || inode.is_meta_dirty()) {
                assert!(unsynced.contains(ino), "{inode:?} is dirty and forgotten");
            }
            if node.nlink == 0 {
                assert!(!unsynced.contains(ino));
            }
        }
        let pins = self.journal.pins(None, 1000).await.unwrap();
        let pins: Vec<u64> = pins.iter().map(|ino| ino.0).collect();
        let expected = self.tree.pins.iter().copied();
        let expected: Vec<u64> = expected
            .filter(|ino| self.tree.nodes.contains_key(ino))
            .collect();
        assert_eq!(pins, expected);
        for garbage in self.journal.garbage(None, 1000).await.unwrap() {
            if garbage.attempted {
                continue;
            }
            assert_eq!(
                self.journal.claim(&garbage.key).await.unwrap(),
                None,
                "{garbage:?} is owned"
            );
        }
        for key in self.bucket.keys() {
            if let Some(ino) = self.journal.claim(key).await.unwrap() {
                let owner = self.journal.inode(ino).await.unwrap();
                assert!(owner.is_some(), "{key} is claimed by nobody");
            }
        }
    }

    /// Everything is closed and the flusher works until it has nothing more to do.
    pub async fn drain(&mut self) {
        for ino in self.journal.writers(NODE).await.unwrap() {
            self.end(ino.0, 4, true, true).await;
        }
        for orphan in self.journal.orphans(NODE, None, 1000).await.unwrap() {
            let ino = orphan.ino;
            self.journal.reap(ino).await.unwrap().unwrap();
            self.tree.nodes.remove(&ino.0);
        }
        for _ in 0..50 {
            while let Some(flight) = self.flights.pop() {
                self.end_flush(flight).await;
            }
            for waiting in self.journal.resync(None, 1000).await.unwrap() {
                self.resync(waiting.dir, 100).await;
            }
            for row in self.journal.unsynced(None, 1000).await.unwrap() {
                self.start_flush(row.ino).await;
            }
            for garbage in self.journal.garbage(None, 1000).await.unwrap() {
                self.collect(&garbage.key).await;
            }
            if self.flights.is_empty()
                && self.journal.resync(None, 1).await.unwrap().is_empty()
                && self.journal.unsynced(None, 1).await.unwrap().is_empty()
                && self.journal.garbage(None, 1).await.unwrap().is_empty()
            {
                return;
            }
        }
        panic!(
            "the flusher never finishes: resync {:?} unsynced {:?} garbage {:?} bucket {:?}",
            self.journal.resync(None, 10).await,
            self.journal.unsynced(None, 10).await,
            self.journal.garbage(None, 10).await,
            self.bucket
        );
    }

    /// The bucket is what the tree says.
    pub async fn check_bucket(&self) {
        let mut files = BTreeMap::new();
        let mut dirs = BTreeSet::new();
        for (ino, node) in &self.tree.nodes {
            let path = self.journal.path(Ino(*ino)).await.unwrap().unwrap();
            let key = key_of(&path, node.kind);
            let inode = self.journal.inode(Ino(*ino)).await.unwrap().unwrap();
            if node.kind == Kind::File {
                let origin = inode.content.origin.unwrap();
                assert_eq!(origin.key, key);
                assert_eq!(self.journal.claim(&key).await.unwrap(), Some(Ino(*ino)));
                files.insert(key, origin.etag.unwrap());
            } else if node.kind == Kind::Directory {
                dirs.insert(key);
            }
        }
        let (bucket_dirs, bucket_files): (BTreeMap<_, _>, BTreeMap<_, _>) = self
            .bucket
            .clone()
            .into_iter()
            .partition(|(key, _)| key.ends_with('/'));
        let visible = |(key, _): &(String, String)| !self.foreign.contains(key);
        let bucket_files: BTreeMap<_, _> = bucket_files.into_iter().filter(visible).collect();
        assert_eq!(bucket_files, files);
        for key in bucket_dirs.keys() {
            assert!(dirs.contains(key), "the marker {key} is left over");
        }
    }
}
