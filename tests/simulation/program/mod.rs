//! A program: calls as a process makes them, one after the other, in a folder of its own, and the tree that it
//! must find there.

mod attributes;
mod check;
mod files;
mod names;
mod undurable;
mod upload;
mod walk;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use fused::vfs::{self, Opened, Vfs};
use nix::errno::Errno;
use parking_lot::Mutex;

use crate::bucket::Bucket;
use crate::kv;
use crate::plan::Plan;
use crate::tree::{Kind, Node, Tree};
use crate::world::World;
use undurable::Undurable;

/// Few names, so that they come again.
const NAMES: u64 = 5;
const DIRECTORIES: [&str; 5] = ["d0", "d1", "d1/e", "d1/e/f", "d2"];
/// The longest pause between two calls.
const PAUSE_MS_MAX: u64 = 4_000;

const XATTR: &[u8] = b"user.word";

/// A program and what it knows. Survives the daemon, as its author does.
pub struct Program {
    world: Arc<World>,
    bucket: Arc<Mutex<Bucket>>,
    journal: Arc<kv::Disk>,
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
    /// Where the power may go.
    undurable: Option<Undurable>,
    /// It has gone, and this version of the journal is left.
    was_cut: Option<u64>,
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
        (bucket, journal): (&Arc<Mutex<Bucket>>, &Arc<kv::Disk>),
        number: usize,
        plan: &Plan,
    ) -> Arc<Self> {
        let undurable = plan.cuts.then(|| Undurable::new(plan.tears));
        Arc::new(Self {
            world: Arc::clone(world),
            bucket: Arc::clone(bucket),
            journal: Arc::clone(journal),
            number,
            root: format!("p{number}"),
            is_tight: plan.cache_bytes.is_some(),
            state: Mutex::new(State {
                undurable,
                ..State::default()
            }),
        })
    }

    /// A copy of the tree that it must find.
    pub fn tree(&self) -> Tree {
        self.state.lock().tree.clone()
    }

    /// The daemon is dead. What was open is closed, as it is.
    pub fn bereaved(&self) {
        let mut state = self.state.lock();
        let State {
            tree,
            next,
            undurable,
            ..
        } = &mut *state;
        if let (Some(undurable), Some(next)) = (undurable, &next) {
            undurable.may_have_ended(next);
        }
        for tree in [Some(tree), next.as_mut()].into_iter().flatten() {
            let before = tree.clone();
            tree.close_all();
            self.publish(&before, tree);
        }
    }

    /// The power has gone, and this version of the journal is left.
    pub fn cut(&self, version: u64) {
        let mut state = self.state.lock();
        // The next daemon may have died before anybody looked.
        state.was_cut = Some(state.was_cut.map_or(version, |before| before.min(version)));
        let safe = state
            .undurable
            .iter()
            .flat_map(|undurable| undurable.of_safe_files());
        for (node, bytes) in safe {
            self.world.is_version((self.number, node), bytes);
        }
        let files = state
            .undurable
            .iter()
            .flat_map(|undurable| undurable.names_of_files());
        for (path, node) in files {
            self.world
                .has_path((self.number, node), &format!("{path}{}", check::ASIDE));
            // What it once took the place of may be back, at the name that it has by now.
            for old in state
                .undurable
                .iter()
                .flat_map(|undurable| undurable.replaced_by(node))
            {
                self.world.has_path((self.number, old), path);
            }
        }
    }

    /// Whether there are power cuts in this world.
    fn may_be_cut(&self) -> bool {
        self.state.lock().undurable.is_some()
    }

    /// Whether these take bytes that nobody synced.
    fn may_be_torn(&self) -> bool {
        let state = self.state.lock();
        state.undurable.as_ref().is_some_and(Undurable::tears)
    }

    /// Whether a part of what is written into this file in place may be there after a power cut (README).
    fn may_be_mixed(&self, node: Node) -> bool {
        let state = self.state.lock();
        state
            .undurable
            .as_ref()
            .is_some_and(|undurable| undurable.may_be_mixed(node))
    }

    /// What a power cut can't take any more, where there are any.
    fn durable(&self, note: impl FnOnce(&mut Undurable, &Tree)) {
        let mut state = self.state.lock();
        let State {
            tree, undurable, ..
        } = &mut *state;
        if let Some(undurable) = undurable {
            note(undurable, tree);
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
            if let Some(undurable) = &mut state.undurable {
                undurable.begins(&next, self.journal.version());
            }
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
                let State {
                    tree, undurable, ..
                } = &mut *state;
                if let Some(undurable) = undurable {
                    undurable.ended(tree, self.journal.version());
                }
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
}
