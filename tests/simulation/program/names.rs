//! Names come, go and move.

use std::collections::BTreeSet;

use fused::vfs::Vfs;
use journal::{Kind as FileKind, NewInode, RenameMode};

use super::walk::{find, names_in, new, parent_of};
use super::{DIRECTORIES, Program};
use crate::tree::{Kind, Tree, is_below};

impl Program {
    pub(super) async fn rename_file(&self, vfs: &Vfs) {
        let (Some((from, node)), to) = (self.some_file(), self.some_path()) else {
            return;
        };
        let mut next = self.tree();
        let old = next.names.get(&to).copied();
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
        if let Some(old) = old {
            self.durable(|undurable, tree| undurable.replaces(node, old, tree));
        }
        self.rename(vfs, &from, &to, RenameMode::Replace, next)
            .await;
    }

    pub(super) async fn rename(
        &self,
        vfs: &Vfs,
        from: &str,
        to: &str,
        mode: RenameMode,
        next: Tree,
    ) {
        self.call(|| format!("rename {from} {to} {mode:?}"), next, async {
            let from = parent_of(vfs, from).await?;
            let to = parent_of(vfs, to).await?;
            vfs.rename(from, to, mode).await
        })
        .await;
    }

    pub(super) async fn rename_directory(&self, vfs: &Vfs) {
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

    pub(super) async fn exchange(&self, vfs: &Vfs) {
        let mut paths: Vec<String> = self.tree().names.into_keys().collect();
        paths.retain(|path| *path != self.root);
        let pick = || self.dice(|dice| dice.pick(&paths).cloned());
        let (Some(a), Some(b)) = (pick(), pick()) else {
            return;
        };
        let mut next = self.tree();
        let is_written = next.things().any(|(_, thing)| thing.writers > 0);
        if is_written && self.may_be_torn() {
            // README: not kept yet.
            return;
        }
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

    pub(super) async fn unlink(&self, vfs: &Vfs) {
        let files = self.tree().paths(|thing| thing.kind != Kind::Directory);
        let Some(path) = self.dice(|dice| dice.pick(&files).cloned()) else {
            return;
        };
        self.unlink_this(vfs, &path).await;
    }

    pub(super) async fn unlink_this(&self, vfs: &Vfs, path: &str) -> bool {
        let mut next = self.tree();
        next.remove(path);
        let removed = self.call(|| format!("unlink {path}"), next, async {
            let (parent, name) = parent_of(vfs, path).await?;
            vfs.unlink(parent, name).await
        });
        removed.await.is_some()
    }

    pub(super) async fn make_some_directory(&self, vfs: &Vfs) {
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

    pub(super) async fn make_directory(&self, vfs: &Vfs, path: String) {
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
    pub(super) async fn remove_directory(&self, vfs: &Vfs) {
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

    pub(super) async fn link(&self, vfs: &Vfs) {
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

    pub(super) async fn symlink(&self, vfs: &Vfs) {
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

    pub(super) async fn read_directory(&self, vfs: &Vfs) {
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
}
