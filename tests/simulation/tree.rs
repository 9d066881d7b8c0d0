//! The tree that a program must find: a model of its folder.
//!
//! A call makes another tree of it. Until the call returns both are possible, and after a crash one of the
//! two must be there, whole.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Names a file or directory for good, whatever path it has.
pub type Node = u32;

/// What a file or directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    pub kind: Kind,
    pub mode: u32,
    pub xattr: Option<Vec<u8>>,
    /// Programs that have it open for writing.
    pub writers: u32,
}

/// What kind of thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File(Arc<Vec<u8>>),
    Symlink(String),
}

impl Thing {
    fn new(kind: Kind, mode: u32) -> Self {
        Self {
            kind,
            mode,
            xattr: None,
            writers: 0,
        }
    }

    /// The bytes of a file.
    pub fn bytes(&self) -> Option<&Arc<Vec<u8>>> {
        match &self.kind {
            Kind::File(bytes) => Some(bytes),
            Kind::Directory | Kind::Symlink(_) => None,
        }
    }
}

/// A folder and all below it. Paths are relative to the mount.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub names: BTreeMap<String, Node>,
    things: BTreeMap<Node, Thing>,
    next: Node,
}

impl Tree {
    /// What has this path.
    pub fn at(&self, path: &str) -> Option<&Thing> {
        self.things.get(self.names.get(path)?)
    }

    /// What it is, with or without a path.
    pub fn thing(&self, node: Node) -> Option<&Thing> {
        self.things.get(&node)
    }

    /// Something else.
    pub fn change(&mut self, node: Node, change: impl FnOnce(&mut Thing)) {
        if let Some(thing) = self.things.get_mut(&node) {
            change(thing);
        }
        self.forget_nameless();
    }

    /// Makes something new.
    pub fn make(&mut self, path: &str, kind: Kind, mode: u32) -> Node {
        self.next += 1;
        self.things.insert(self.next, Thing::new(kind, mode));
        self.names.insert(path.to_owned(), self.next);
        self.next
    }

    /// Writes into a file.
    pub fn write(&mut self, node: Node, at: usize, bytes: &[u8]) {
        self.change(node, |thing| {
            if let Kind::File(content) = &mut thing.kind {
                let content = Arc::make_mut(content);
                content.resize(content.len().max(at + bytes.len()), 0);
                content[at..at + bytes.len()].copy_from_slice(bytes);
            }
        });
    }

    /// Cuts or stretches a file.
    pub fn truncate(&mut self, node: Node, len: usize) {
        self.change(node, |thing| {
            if let Kind::File(content) = &mut thing.kind {
                Arc::make_mut(content).resize(len, 0);
            }
        });
    }

    /// Another name.
    pub fn link(&mut self, from: &str, to: &str) {
        if let Some(node) = self.names.get(from).copied() {
            self.names.insert(to.to_owned(), node);
        }
    }

    /// Takes a name away.
    pub fn remove(&mut self, path: &str) {
        self.names.remove(path);
        self.forget_nameless();
    }

    /// Gives what is at `from`, and all below it, the name `to`.
    pub fn rename(&mut self, from: &str, to: &str) {
        let names = std::mem::take(&mut self.names);
        let (moved, mut rest): (BTreeMap<_, _>, BTreeMap<_, _>) = names
            .into_iter()
            .partition(|(path, _)| path == from || is_below(path, from));
        for (path, node) in moved {
            rest.insert(format!("{to}{}", &path[from.len()..]), node);
        }
        self.names = rest;
        self.forget_nameless();
    }

    /// Two change places.
    pub fn exchange(&mut self, a: &str, b: &str) {
        let names = std::mem::take(&mut self.names);
        let elsewhere = |path: String| {
            for (from, to) in [(a, b), (b, a)] {
                if path == from || is_below(&path, from) {
                    return format!("{to}{}", &path[from.len()..]);
                }
            }
            path
        };
        self.names = names
            .into_iter()
            .map(|(path, node)| (elsewhere(path), node))
            .collect();
    }

    /// The bytes of a file are others.
    pub fn set_bytes(&mut self, node: Node, bytes: &Arc<Vec<u8>>) {
        self.change(node, |thing| thing.kind = Kind::File(Arc::clone(bytes)));
    }

    /// Another file has this path.
    pub fn put_back(&mut self, path: &str, (node, thing): (Node, Thing)) {
        self.names.insert(path.to_owned(), node);
        self.things.insert(node, thing);
        self.forget_nameless();
    }

    /// What is made from now on is none of what `other` knows.
    pub fn continues(&mut self, other: &Tree) {
        self.next = self.next.max(other.next);
    }

    /// Everything, with or without a name.
    pub fn things(&self) -> impl Iterator<Item = (Node, &Thing)> {
        self.things.iter().map(|(node, thing)| (*node, thing))
    }

    /// The daemon is dead, and so is whoever had anything open.
    pub fn close_all(&mut self) {
        self.things.values_mut().for_each(|thing| thing.writers = 0);
        self.forget_nameless();
    }

    fn forget_nameless(&mut self) {
        let names = &self.names;
        self.things
            .retain(|node, thing| thing.writers > 0 || names.values().any(|named| named == node));
    }

    /// Paths of what is like this.
    pub fn paths(&self, like: impl Fn(&Thing) -> bool) -> Vec<String> {
        let all = self.names.iter();
        all.filter(|(_, node)| self.things.get(node).is_some_and(&like))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Everything that has a name.
    pub fn all(&self) -> impl Iterator<Item = (&String, Node, &Thing)> {
        let all = self.names.iter();
        all.filter_map(|(path, node)| Some((path, *node, self.things.get(node)?)))
    }
}

/// Whether `path` is below `directory`.
pub fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with('/'))
}
