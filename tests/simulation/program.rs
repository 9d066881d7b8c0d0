//! A program: calls as a process makes them, one after the other, in a folder of its own, and the tree that it
//! must find there.

use std::collections::BTreeSet;
use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use fused::vfs::{self, Attributes, Caller, Mode, OpenRequest, Opened, SetAttributes, Vfs};
use journal::{Ino, Kind as FileKind, NewInode, RenameMode, XattrMode};
use nix::errno::Errno;
use parking_lot::Mutex;

use crate::bucket::Bucket;
use crate::tree::{Kind, Node, Tree, is_below};
use crate::world::{self, World};

/// Few names, so that they come again.
const NAMES: u64 = 5;
const DIRECTORIES: [&str; 5] = ["d0", "d1", "d1/e", "d1/e/f", "d2"];
/// The longest file; many times the smallest part.
const BYTES_MAX: u64 = 160_000;
/// The longest pause between two calls.
const PAUSE_MS_MAX: u64 = 4_000;
/// For how long the store is not asked again after it did not answer, and more; and how often a check asks.
const AWAY: Duration = Duration::from_secs(6);
const TRIES_MAX: usize = 5;
const XATTR: &[u8] = b"user.word";
const ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
};

/// A program and what it knows. Survives the daemon, as its author does.
pub struct Program {
    world: Arc<World>,
    bucket: Arc<Mutex<Bucket>>,
    number: usize,
    /// Its folder.
    root: String,
    /// The cache may be full.
    is_tight: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tree: Tree,
    /// What a call that is under way makes of it.
    next: Option<Tree>,
}

/// A file that it has open.
struct Held {
    opened: Opened,
    node: Node,
    writes: bool,
}

impl Program {
    pub fn new(
        world: &Arc<World>,
        bucket: &Arc<Mutex<Bucket>>,
        number: usize,
        is_tight: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            bucket: Arc::clone(bucket),
            number,
            root: format!("p{number}"),
            is_tight,
            state: Mutex::default(),
        })
    }

    /// A copy of the tree that it must find.
    pub fn tree(&self) -> Tree {
        self.state.lock().tree.clone()
    }

    /// The daemon is dead. What was open is closed, as it is.
    pub fn bereaved(&self) {
        let mut state = self.state.lock();
        let State { tree, next } = &mut *state;
        for tree in [Some(tree), next.as_mut()].into_iter().flatten() {
            let before = tree.clone();
            tree.close_all();
            self.publish(&before, tree);
        }
    }

    fn dice<T>(&self, ask: impl FnOnce(&mut crate::dice::Dice) -> T) -> T {
        self.world.dice(ask)
    }

    fn chance(&self, permille: u64) -> bool {
        self.dice(|dice| dice.chance(permille))
    }

    /// Complete versions that the store may show from now on.
    fn publish(&self, before: &Tree, next: &Tree) {
        for (path, node, thing) in next.all() {
            let Some(bytes) = thing.bytes() else {
                continue;
            };
            if before.names.get(path) != Some(&node) {
                self.world.has_path((self.number, node), path);
            }
            let known = before.thing(node).is_some_and(|known| {
                known.writers == 0 && known.bytes().is_some_and(|known| Arc::ptr_eq(known, bytes))
            });
            if thing.writers == 0 && !known {
                self.world.is_version((self.number, node), bytes);
            }
        }
    }

    /// A call that makes `next` of the tree, or fails honestly and changes nothing.
    async fn call<T>(
        &self,
        what: impl FnOnce() -> String,
        next: Tree,
        call: impl Future<Output = vfs::Result<T>>,
    ) -> Option<T> {
        {
            let mut state = self.state.lock();
            self.publish(&state.tree, &next);
            state.next = Some(next);
        }
        let what = what();
        self.world.say(|| what.clone());
        self.world.mortal_point().await;
        let answer = call.await;
        self.world.mortal_point().await;
        let mut state = self.state.lock();
        let next = state.next.take();
        match answer {
            Ok(answer) => {
                state.tree = next.unwrap_or_default();
                self.world.say(|| format!("{what}: done"));
                Some(answer)
            }
            Err(error) => {
                drop(state);
                self.tolerate(&what, &error);
                None
            }
        }
    }

    /// A call that changes nothing.
    async fn ask<T>(
        &self,
        what: impl FnOnce() -> String,
        call: impl Future<Output = vfs::Result<T>>,
    ) -> Option<T> {
        let tree = self.tree();
        self.call(what, tree, call).await
    }

    /// Panics unless a program may see this error in this weather.
    #[track_caller]
    fn tolerate(&self, what: &str, error: &vfs::Error) {
        self.world.say(|| format!("{what}: {error}"));
        let honest = match error.errno() {
            Errno::EIO => !self.world.is_fair(),
            Errno::ENOSPC => self.is_tight,
            _ => false,
        };
        assert!(honest, "{what}: a program saw an error: {error:?}");
    }

    /// Works for so many steps.
    pub async fn work(self: Arc<Self>, vfs: Vfs, steps: u64) {
        let mut held = Vec::new();
        if self.tree().names.is_empty() {
            self.make_directory(&vfs, self.root.clone()).await;
        }
        for _ in 0..steps {
            if self.tree().names.is_empty() {
                self.make_directory(&vfs, self.root.clone()).await;
                continue;
            }
            self.step(&vfs, &mut held).await;
            let pause = self.dice(|dice| dice.any_magnitude(PAUSE_MS_MAX));
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        for file in held {
            self.close(&vfs, file).await;
        }
    }

    async fn step(&self, vfs: &Vfs, held: &mut Vec<Held>) {
        match self.dice(|dice| dice.below(100)) {
            0..25 => self.write(vfs, held).await,
            25..33 => self.patch(vfs).await,
            33..46 => self.rename_file(vfs).await,
            46..54 => self.unlink(vfs).await,
            54..58 => self.chmod(vfs).await,
            58..61 => self.set_xattr(vfs).await,
            61..64 => self.truncate(vfs).await,
            64..70 => self.make_some_directory(vfs).await,
            70..73 => self.remove_directory(vfs).await,
            73..79 => self.rename_directory(vfs).await,
            79..81 => self.exchange(vfs).await,
            81..84 => self.link(vfs).await,
            84..85 => self.symlink(vfs).await,
            85..90 => self.read(vfs).await,
            90..92 => self.read_directory(vfs).await,
            92..95 => self.free(vfs).await,
            95..97 => self.sync(vfs).await,
            _ => match held.is_empty() {
                true => self.write(vfs, held).await,
                false => {
                    let at = self.dice(|dice| dice.below(held.len() as u64)) as usize;
                    let file = held.swap_remove(at);
                    if file.writes && self.chance(500) {
                        self.write_some(vfs, &file, None).await;
                    }
                    self.close(vfs, file).await;
                }
            },
        }
    }

    /// A path in a directory that is there.
    fn some_path(&self) -> String {
        let directories = self.tree().paths(|thing| thing.kind == Kind::Directory);
        self.dice(|dice| {
            let name = format!("f{}", dice.below(NAMES));
            let directory = dice.pick(&directories);
            format!("{}/{name}", directory.map_or(self.root.as_str(), |d| d))
        })
    }

    fn some_file(&self) -> Option<(String, Node)> {
        let tree = self.tree();
        let files = tree.paths(|thing| thing.bytes().is_some());
        let path = self.dice(|dice| dice.pick(&files).cloned())?;
        let node = *tree.names.get(&path)?;
        Some((path, node))
    }

    fn some_directory(&self) -> Option<String> {
        let mut directories = self.tree().paths(|thing| thing.kind == Kind::Directory);
        directories.retain(|path| *path != self.root);
        self.dice(|dice| dice.pick(&directories).cloned())
    }

    async fn write(&self, vfs: &Vfs, held: &mut Vec<Held>) {
        let path = self.some_path();
        let tree = self.tree();
        let Some(file) = (match tree.at(&path).map(|thing| &thing.kind) {
            None => self.create(vfs, &path).await,
            Some(Kind::File(_)) => self.open(vfs, &path, true).await,
            Some(_) => return,
        }) else {
            return;
        };
        let pieces = self.dice(|dice| 1 + dice.below(3));
        for _ in 0..pieces {
            if !self.write_some(vfs, &file, None).await {
                break;
            }
            if self.chance(200) {
                let pause = self.dice(|dice| dice.any_magnitude(PAUSE_MS_MAX));
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
        if self.chance(200) {
            let handle = file.opened.handle;
            self.ask(|| format!("fsync {path}"), vfs.fsync(handle))
                .await;
        }
        match held.len() < 2 && self.chance(100) {
            true => held.push(file),
            false => self.close(vfs, file).await,
        }
    }

    async fn create(&self, vfs: &Vfs, path: &str) -> Option<Held> {
        let mut next = self.tree();
        let node = next.make(path, Kind::File(Arc::default()), 0o644);
        next.change(node, |thing| thing.writers += 1);
        let request = OpenRequest {
            writes: true,
            truncate: false,
            exclusive: true,
        };
        let created = self.call(|| format!("create {path}"), next, async {
            let (parent, name) = parent_of(vfs, path).await?;
            vfs.create(parent, name, new(FileKind::File, 0o644), request)
                .await
        });
        let (_, opened) = created.await?;
        Some(Held {
            opened,
            node,
            writes: true,
        })
    }

    async fn open(&self, vfs: &Vfs, path: &str, truncate: bool) -> Option<Held> {
        let mut next = self.tree();
        let node = *next.names.get(path)?;
        next.change(node, |thing| thing.writers += 1);
        if truncate {
            next.truncate(node, 0);
        }
        let request = OpenRequest {
            writes: true,
            truncate,
            exclusive: false,
        };
        let opened = self.call(
            || format!("open {path}, O_TRUNC: {truncate}"),
            next,
            async { vfs.open(find(vfs, path).await?.ino, request).await },
        );
        Some(Held {
            opened: opened.await?,
            node,
            writes: true,
        })
    }

    /// Writes a piece, behind what is there unless told where.
    async fn write_some(&self, vfs: &Vfs, file: &Held, at: Option<usize>) -> bool {
        let mut next = self.tree();
        let size = next
            .thing(file.node)
            .and_then(|thing| thing.bytes())
            .map_or(0, |bytes| bytes.len());
        let at = at.unwrap_or(size);
        let left = BYTES_MAX.saturating_sub(at as u64);
        let bytes = self.dice(|dice| {
            let len = dice.any_magnitude(left);
            vec![dice.next() as u8; len as usize]
        });
        if bytes.is_empty() {
            return true;
        }
        next.write(file.node, at, &bytes);
        let mode = file.opened.file.mode;
        let written = self.call(
            || {
                format!(
                    "write {} at {at} of #{}, {mode:?}",
                    world::outline(&bytes),
                    file.node
                )
            },
            next,
            async {
                match mode {
                    Mode::Passthrough => {
                        // As the kernel does, past the daemon.
                        let extents = file.opened.file.extents.as_fd();
                        let extents =
                            File::from(extents.try_clone_to_owned().expect("a descriptor"));
                        extents.write_all_at(&bytes, at as u64).expect("room");
                        Ok(())
                    }
                    Mode::Daemon => vfs.write(file.opened.handle, at as u64, &bytes).await,
                }
            },
        );
        written.await.is_some()
    }

    async fn close(&self, vfs: &Vfs, file: Held) {
        let handle = file.opened.handle;
        let mut next = self.tree();
        if file.writes {
            next.change(file.node, |thing| thing.writers -= 1);
        }
        let closed = self.call(|| format!("close #{}", file.node), next, async {
            let flushed = vfs.flush(handle).await;
            vfs.release(handle).await?;
            flushed
        });
        assert!(closed.await.is_some(), "a close failed");
    }

    async fn patch(&self, vfs: &Vfs) {
        let Some((path, node)) = self.some_file() else {
            return;
        };
        let Some(file) = self.open(vfs, &path, false).await else {
            return;
        };
        let size = self
            .tree()
            .thing(node)
            .and_then(|thing| thing.bytes().map(|bytes| bytes.len()))
            .unwrap_or(0);
        let at = self.dice(|dice| match dice.chance(300) {
            true => size,
            false => dice.below(size as u64 + 1) as usize,
        });
        self.write_some(vfs, &file, Some(at)).await;
        self.close(vfs, file).await;
    }

    async fn rename_file(&self, vfs: &Vfs) {
        let (Some((from, node)), to) = (self.some_file(), self.some_path()) else {
            return;
        };
        let mut next = self.tree();
        match next.names.get(&to) {
            Some(there) if *there == node => return,
            Some(_)
                if next
                    .at(&to)
                    .is_some_and(|thing| thing.kind == Kind::Directory) =>
            {
                return;
            }
            _ => next.rename(&from, &to),
        }
        self.rename(vfs, &from, &to, RenameMode::Replace, next)
            .await;
    }

    async fn rename(&self, vfs: &Vfs, from: &str, to: &str, mode: RenameMode, next: Tree) {
        self.call(|| format!("rename {from} {to} {mode:?}"), next, async {
            let from = parent_of(vfs, from).await?;
            let to = parent_of(vfs, to).await?;
            vfs.rename(from, to, mode).await
        })
        .await;
    }

    async fn rename_directory(&self, vfs: &Vfs) {
        let Some(from) = self.some_directory() else {
            return;
        };
        let to = self.dice(|dice| match dice.chance(700) {
            true => format!("{}/r{}", self.root, dice.below(3)),
            false => {
                let name = dice.pick(&DIRECTORIES).copied().unwrap_or_default();
                format!("{}/{name}", self.root)
            }
        });
        let mut next = self.tree();
        let parent = to.rsplit_once('/').map_or("", |(parent, _)| parent);
        let has_place = next
            .at(parent)
            .is_some_and(|thing| thing.kind == Kind::Directory);
        let is_taken = match next.at(&to) {
            None => false,
            Some(thing) => {
                thing.kind != Kind::Directory || next.names.keys().any(|path| is_below(path, &to))
            }
        };
        if !has_place || is_taken || to == from || is_below(&to, &from) {
            return;
        }
        next.rename(&from, &to);
        self.rename(vfs, &from, &to, RenameMode::Replace, next)
            .await;
    }

    async fn exchange(&self, vfs: &Vfs) {
        let mut paths: Vec<String> = self.tree().names.into_keys().collect();
        paths.retain(|path| *path != self.root);
        let pick = || self.dice(|dice| dice.pick(&paths).cloned());
        let (Some(a), Some(b)) = (pick(), pick()) else {
            return;
        };
        let mut next = self.tree();
        if a == b
            || is_below(&a, &b)
            || is_below(&b, &a)
            || next.names.get(&a) == next.names.get(&b)
        {
            return;
        }
        next.exchange(&a, &b);
        self.rename(vfs, &a, &b, RenameMode::Exchange, next).await;
    }

    async fn unlink(&self, vfs: &Vfs) {
        let files = self.tree().paths(|thing| thing.kind != Kind::Directory);
        let Some(path) = self.dice(|dice| dice.pick(&files).cloned()) else {
            return;
        };
        self.unlink_this(vfs, &path).await;
    }

    async fn unlink_this(&self, vfs: &Vfs, path: &str) -> bool {
        let mut next = self.tree();
        next.remove(path);
        let removed = self.call(|| format!("unlink {path}"), next, async {
            let (parent, name) = parent_of(vfs, path).await?;
            vfs.unlink(parent, name).await
        });
        removed.await.is_some()
    }

    async fn chmod(&self, vfs: &Vfs) {
        let paths: Vec<String> = self.tree().names.into_keys().collect();
        let Some(path) = self.dice(|dice| dice.pick(&paths).cloned()) else {
            return;
        };
        let mut next = self.tree();
        let node = next.names[&path];
        if matches!(
            next.thing(node).map(|thing| &thing.kind),
            Some(Kind::Symlink(_)) | None
        ) {
            return;
        }
        let mode = self.dice(|dice| *dice.pick(&[0o600, 0o640, 0o750]).unwrap_or(&0o600));
        next.change(node, |thing| thing.mode = mode);
        let set = SetAttributes {
            mode: Some(mode),
            ..SetAttributes::default()
        };
        self.call(|| format!("chmod {path} {mode:o}"), next, async {
            let ino = find(vfs, &path).await?.ino;
            vfs.set_attributes(ino, set, ROOT).await
        })
        .await;
    }

    async fn set_xattr(&self, vfs: &Vfs) {
        let Some((path, node)) = self.some_file() else {
            return;
        };
        let mut next = self.tree();
        let value = self.dice(|dice| vec![dice.next() as u8; dice.below(20) as usize]);
        next.change(node, |thing| thing.xattr = Some(value.clone()));
        self.call(|| format!("setxattr {path}"), next, async {
            let ino = find(vfs, &path).await?.ino;
            vfs.set_xattr(ino, XATTR, &value, XattrMode::Any, ROOT)
                .await
        })
        .await;
    }

    async fn truncate(&self, vfs: &Vfs) {
        let Some((path, node)) = self.some_file() else {
            return;
        };
        let mut next = self.tree();
        let len = self.dice(|dice| dice.any_magnitude(BYTES_MAX));
        next.truncate(node, len as usize);
        self.call(|| format!("truncate {path} {len}"), next, async {
            let ino = find(vfs, &path).await?.ino;
            vfs.truncate(ino, len).await
        })
        .await;
    }

    async fn make_some_directory(&self, vfs: &Vfs) {
        let name = self.dice(|dice| dice.pick(&DIRECTORIES).copied().unwrap_or_default());
        let path = format!("{}/{name}", self.root);
        let tree = self.tree();
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let has_place = tree
            .at(parent)
            .is_some_and(|thing| thing.kind == Kind::Directory);
        if has_place && tree.at(&path).is_none() {
            self.make_directory(vfs, path).await;
        }
    }

    async fn make_directory(&self, vfs: &Vfs, path: String) {
        let mut next = self.tree();
        next.make(&path, Kind::Directory, 0o755);
        self.call(|| format!("mkdir {path}"), next, async {
            let (parent, name) = parent_of(vfs, &path).await?;
            vfs.make(parent, name, new(FileKind::Directory, 0o755))
                .await
        })
        .await;
    }

    /// With all that is in it.
    async fn remove_directory(&self, vfs: &Vfs) {
        let Some(directory) = self.some_directory() else {
            return;
        };
        let tree = self.tree();
        let mut inside: Vec<String> = tree.names.into_keys().collect();
        inside.retain(|path| *path == directory || is_below(path, &directory));
        for path in inside.into_iter().rev() {
            let is_directory = {
                let tree = self.tree();
                tree.at(&path)
                    .is_some_and(|thing| thing.kind == Kind::Directory)
            };
            let removed = match is_directory {
                false => self.unlink_this(vfs, &path).await,
                true => {
                    let mut next = self.tree();
                    next.remove(&path);
                    let removed = self.call(|| format!("rmdir {path}"), next, async {
                        let (parent, name) = parent_of(vfs, &path).await?;
                        vfs.rmdir(parent, name).await
                    });
                    removed.await.is_some()
                }
            };
            if !removed {
                return;
            }
        }
    }

    async fn link(&self, vfs: &Vfs) {
        let (Some((from, _)), to) = (self.some_file(), self.some_path()) else {
            return;
        };
        let mut next = self.tree();
        if next.at(&to).is_some() {
            return;
        }
        next.link(&from, &to);
        self.call(|| format!("link {from} {to}"), next, async {
            let ino = find(vfs, &from).await?.ino;
            let (parent, name) = parent_of(vfs, &to).await?;
            vfs.link(ino, parent, name).await
        })
        .await;
    }

    async fn symlink(&self, vfs: &Vfs) {
        let path = self.some_path();
        let mut next = self.tree();
        if next.at(&path).is_some() {
            return;
        }
        next.make(&path, Kind::Symlink("elsewhere".to_owned()), 0o777);
        self.call(|| format!("symlink {path}"), next, async {
            let (parent, name) = parent_of(vfs, &path).await?;
            let new = NewInode {
                target: Some(b"elsewhere".to_vec()),
                ..new(FileKind::Symlink, 0o777)
            };
            vfs.make(parent, name, new).await
        })
        .await;
    }

    async fn read(&self, vfs: &Vfs) {
        let Some((path, node)) = self.some_file() else {
            return;
        };
        let read = self.ask(|| format!("read {path}"), async {
            let ino = find(vfs, &path).await?.ino;
            contents(vfs, ino).await
        });
        if let Some(found) = read.await {
            let tree = self.tree();
            let wanted = tree.thing(node).and_then(|thing| thing.bytes());
            let wanted = wanted.map(|bytes| bytes.as_slice()).unwrap_or_default();
            assert!(
                found == wanted,
                "{path} reads as {}, but is {}",
                world::outline(&found),
                world::outline(wanted)
            );
        }
    }

    async fn read_directory(&self, vfs: &Vfs) {
        let tree = self.tree();
        let directories = tree.paths(|thing| thing.kind == Kind::Directory);
        let Some(path) = self.dice(|dice| dice.pick(&directories).cloned()) else {
            return;
        };
        let read = self.ask(|| format!("ls {path}"), async {
            let ino = find(vfs, &path).await?.ino;
            names_in(vfs, ino).await
        });
        if let Some(found) = read.await {
            let below = tree.names.keys();
            let wanted: BTreeSet<String> = below
                .filter_map(|other| other.strip_prefix(&format!("{path}/")))
                .filter(|name| !name.contains('/'))
                .map(str::to_owned)
                .collect();
            let found: BTreeSet<String> = found.into_iter().map(|(name, _)| name).collect();
            assert_eq!(found, wanted, "what is in {path}");
        }
    }

    async fn free(&self, vfs: &Vfs) {
        let path = match self.some_file() {
            Some((path, _)) if self.chance(500) => path,
            _ => self.root.clone(),
        };
        self.ask(|| format!("free {path}"), async {
            vfs.free(|of| of == path.as_bytes() || of.starts_with(format!("{path}/").as_bytes()))
                .await
        })
        .await;
    }

    /// Waits, not for ever, until a file is in the store.
    async fn sync(&self, vfs: &Vfs) {
        let Some((path, node)) = self.some_file() else {
            return;
        };
        let tree = self.tree();
        if tree.thing(node).is_some_and(|thing| thing.writers > 0) {
            return;
        }
        let synced = self.ask(|| format!("sync {path}"), async {
            let ino = find(vfs, &path).await?.ino;
            let wait = tokio::time::timeout(Duration::from_secs(90), async {
                // What is below a renamed directory is marked a piece at a time.
                while !vfs.journal().resync(None, 1).await?.is_empty() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                vfs.flush_to_store(ino).await
            });
            match wait.await {
                Ok(synced) => synced.map(Some),
                Err(_) => Ok(None),
            }
        });
        if let Some(Some(())) = synced.await {
            let wanted = tree.thing(node).and_then(|thing| thing.bytes());
            let bucket = self.bucket.lock();
            let names = tree.all().filter(|(_, other, _)| *other == node);
            let mut objects = names.filter_map(|(path, _, _)| bucket.objects.get(path));
            assert!(
                objects.any(|object| wanted.is_some_and(|bytes| object.bytes == bytes[..])),
                "{path} was synced, and its object is not the file"
            );
        }
    }

    /// Panics unless the mount shows the tree; after a crash, one of the two that may be.
    pub async fn check(&self, vfs: &Vfs) {
        let mut tries = 0;
        let found = loop {
            match look(vfs, &self.root).await {
                Ok(found) => break found,
                Err((path, error)) => {
                    // For a while after an outage nobody asks the store.
                    let passes = error.errno() == Errno::EIO && tries < TRIES_MAX;
                    assert!(passes, "{path}: {error:?}");
                    tries += 1;
                    tokio::time::sleep(AWAY).await;
                }
            }
        };
        let mut state = self.state.lock();
        let Some(difference) = differs(&state.tree, &found) else {
            state.next = None;
            return;
        };
        let next = state.next.take();
        let other = next.as_ref().map(|next| differs(next, &found));
        match (next, &other) {
            (Some(next), Some(None)) => state.tree = next,
            _ => {
                drop(state);
                panic!(
                    "the tree is not as it was left: {difference}; or, if the last call was done: {other:?}"
                )
            }
        }
    }
}

/// What is at a path of the mount.
struct Seen {
    path: String,
    kind: Kind,
    mode: u32,
    nlink: u32,
    xattr: Option<Vec<u8>>,
}

/// What is at and below a path; or what failed where.
async fn look(vfs: &Vfs, root: &str) -> Result<Vec<Seen>, (String, vfs::Error)> {
    let mut seen = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let at = |error| (path.clone(), error);
        let there = match find(vfs, &path).await {
            Err(error) if path == root && error.errno() == Errno::ENOENT => break,
            found => found.map_err(at)?,
        };
        let kind = match there.kind {
            FileKind::Directory => {
                let inside = names_in(vfs, there.ino).await.map_err(at)?;
                pending.extend(inside.iter().map(|(name, _)| format!("{path}/{name}")));
                Kind::Directory
            }
            FileKind::File => Kind::File(Arc::new(contents(vfs, there.ino).await.map_err(at)?)),
            FileKind::Symlink => {
                let target = vfs.read_link(there.ino).await.map_err(at)?;
                Kind::Symlink(String::from_utf8_lossy(&target).into_owned())
            }
            other => panic!("{path} is a {other:?}"),
        };
        seen.push(Seen {
            path,
            kind,
            mode: there.mode,
            nlink: there.nlink,
            xattr: vfs.get_xattr(there.ino, XATTR).await.ok(),
        });
    }
    Ok(seen)
}

/// The first difference.
fn differs(tree: &Tree, found: &[Seen]) -> Option<String> {
    let names: BTreeSet<&String> = found.iter().map(|seen| &seen.path).collect();
    if let Some(missing) = tree.names.keys().find(|path| !names.contains(path)) {
        return Some(format!("{missing} is gone"));
    }
    for seen in found {
        let path = &seen.path;
        let Some(thing) = tree.at(path) else {
            return Some(format!("{path} is there"));
        };
        match (&seen.kind, &thing.kind) {
            (Kind::File(is), Kind::File(was)) if is != was => {
                let (is, was) = (world::outline(is), world::outline(was));
                return Some(format!("{path} is {is}, and was {was}"));
            }
            (is, was) if is != was => return Some(format!("{path} is {is:?}, and was {was:?}")),
            _ => {}
        }
        let links = tree.names.values();
        let links = links
            .filter(|node| tree.names.get(path) == Some(node))
            .count();
        if matches!(seen.kind, Kind::File(_)) && seen.nlink as usize != links {
            return Some(format!("{path} has {} links, and had {links}", seen.nlink));
        }
        if !matches!(seen.kind, Kind::Symlink(_)) && seen.mode != thing.mode {
            return Some(format!(
                "{path} is {:o}, and was {:o}",
                seen.mode, thing.mode
            ));
        }
        if seen.xattr != thing.xattr {
            return Some(format!("{path} has lost its attribute, or has another"));
        }
    }
    None
}

fn new(kind: FileKind, mode: u32) -> NewInode {
    NewInode {
        kind,
        mode,
        umask: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        target: None,
        writer: None,
    }
}

/// What has this path, component by component, as the kernel asks.
async fn find(vfs: &Vfs, path: &str) -> vfs::Result<Attributes> {
    let mut at = vfs.attributes(Ino::ROOT).await?;
    for name in path.split('/') {
        at = vfs.lookup(at.ino, name.as_bytes()).await?;
    }
    Ok(at)
}

async fn parent_of<'p>(vfs: &Vfs, path: &'p str) -> vfs::Result<(Ino, &'p [u8])> {
    match path.rsplit_once('/') {
        Some((parent, name)) => Ok((find(vfs, parent).await?.ino, name.as_bytes())),
        None => Ok((Ino::ROOT, path.as_bytes())),
    }
}

async fn contents(vfs: &Vfs, ino: Ino) -> vfs::Result<Vec<u8>> {
    let opened = vfs.open(ino, OpenRequest::default()).await?;
    let size = vfs.attributes(ino).await?.size;
    let read = vfs.read(opened.handle, 0, size as usize + 1).await;
    vfs.release(opened.handle).await?;
    Ok(read?.to_vec())
}

async fn names_in(vfs: &Vfs, ino: Ino) -> vfs::Result<Vec<(String, Ino)>> {
    let handle = vfs.open_directory(ino).await?.handle;
    let mut names = Vec::new();
    let mut offset = 0;
    let read = loop {
        match vfs.read_directory(handle, offset).await {
            Err(error) => break Err(error),
            Ok(entries) => {
                let Some(last) = entries.last() else {
                    break Ok(());
                };
                offset = last.offset;
                let entries = entries
                    .iter()
                    .map(|entry| (String::from_utf8_lossy(&entry.name).into_owned(), entry.ino));
                names.extend(entries.filter(|(name, _)| name != "." && name != ".."));
            }
        }
    };
    vfs.close_directory(handle);
    read.map(|()| names)
}
