//! A naive tree that knows POSIX and nothing of stores.

use super::ops::Name;
use journal::{Kind, RenameMode};
use std::collections::{BTreeMap, BTreeSet};

/// What the naive tree knows of an inode.
#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    pub nlink: u32,
    pub size: u64,
    pub mode: u32,
}

/// A tree of names without any cleverness.
#[derive(Default, Debug)]
pub struct Tree {
    pub nodes: BTreeMap<u64, Node>,
    pub names: BTreeMap<(u64, Name), u64>,
    /// Those of what is gone do not count.
    pub pins: BTreeSet<u64>,
}

impl Tree {
    pub fn dirs(&self) -> Vec<u64> {
        let live = |(ino, node): (&u64, &Node)| {
            (node.kind == Kind::Directory && node.nlink > 0).then_some(*ino)
        };
        self.nodes.iter().filter_map(live).collect()
    }

    pub fn is_dir(&self, ino: u64) -> bool {
        self.nodes[&ino].kind == Kind::Directory
    }

    pub fn is_empty(&self, dir: u64) -> bool {
        !self.names.keys().any(|(parent, _)| *parent == dir)
    }

    pub fn is_below(&self, ino: u64, dir: u64) -> bool {
        ino == dir
            || self
                .names
                .iter()
                .any(|((parent, _), child)| *child == ino && self.is_below(*parent, dir))
    }

    pub fn add(&mut self, dir: u64, name: &Name, ino: u64, kind: Kind, size: u64, mode: u32) {
        let nlink = if kind == Kind::Directory { 2 } else { 1 };
        let node = Node {
            kind,
            nlink,
            size,
            mode,
        };
        self.nodes.insert(ino, node);
        self.names.insert((dir, name.clone()), ino);
        if kind == Kind::Directory {
            self.nodes.get_mut(&dir).unwrap().nlink += 1;
        }
    }

    pub fn remove(&mut self, dir: u64, name: &Name) {
        let ino = self.names.remove(&(dir, name.clone())).unwrap();
        if self.is_dir(ino) {
            self.nodes.get_mut(&ino).unwrap().nlink = 0;
            self.nodes.get_mut(&dir).unwrap().nlink -= 1;
        } else {
            self.nodes.get_mut(&ino).unwrap().nlink -= 1;
        }
    }

    /// The errno of an unlink or rmdir, or 0.
    pub fn check_remove(&self, dir: u64, name: &Name, rmdir: bool) -> i32 {
        match self.names.get(&(dir, name.clone())) {
            None => libc::ENOENT,
            Some(ino) if self.is_dir(*ino) && !rmdir => libc::EISDIR,
            Some(ino) if !self.is_dir(*ino) && rmdir => libc::ENOTDIR,
            Some(ino) if rmdir && !self.is_empty(*ino) => libc::ENOTEMPTY,
            Some(_) => 0,
        }
    }

    pub fn rename(&mut self, from: (u64, Name), to: (u64, Name), mode: RenameMode) -> i32 {
        let Some(&source) = self.names.get(&from) else {
            return libc::ENOENT;
        };
        let target = self.names.get(&to).copied();
        match (target, mode) {
            (Some(_), RenameMode::NoReplace) => return libc::EEXIST,
            (None, RenameMode::Exchange) => return libc::ENOENT,
            (Some(target), _) if target == source => return 0,
            _ => {}
        }
        let swap = mode == RenameMode::Exchange;
        if self.is_dir(source) && self.is_below(to.0, source) {
            return libc::EINVAL;
        }
        if let Some(target) = target {
            if swap && self.is_dir(target) && self.is_below(from.0, target) {
                return libc::EINVAL;
            }
            if !swap {
                match (self.is_dir(source), self.is_dir(target)) {
                    (true, false) => return libc::ENOTDIR,
                    (false, true) => return libc::EISDIR,
                    (true, true) if !self.is_empty(target) => return libc::ENOTEMPTY,
                    _ => self.remove(to.0, &to.1),
                }
            }
        }
        let mut step = |ino: u64, away: u64, into: u64| {
            if self.nodes[&ino].kind == Kind::Directory {
                self.nodes.get_mut(&away).unwrap().nlink -= 1;
                self.nodes.get_mut(&into).unwrap().nlink += 1;
            }
        };
        step(source, from.0, to.0);
        if let (Some(target), true) = (target, swap) {
            step(target, to.0, from.0);
            self.names.insert(from, target);
        } else {
            self.names.remove(&from);
        }
        self.names.insert(to, source);
        0
    }
}
