//! What a power cut may take: the last calls, in the order in which they were made, and bytes that nobody synced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::tree::{Node, Thing, Tree};

/// What there may be after a power cut.
#[derive(Default)]
pub struct Undurable {
    /// The version of the journal at which the last call began.
    began: u64,
    /// The tree that is durable, and those that followed.
    trees: Vec<Made>,
    /// What each file was when it was last known to be whole, and ever since.
    contents: BTreeMap<Node, Vec<Arc<Vec<u8>>>>,
    /// What it was before that, since it was synced. Once it is written to again, it may go back to that.
    before: BTreeMap<Node, Vec<Arc<Vec<u8>>>>,
    /// Files of which there is some version in any case: it was synced, or is in the store.
    safe: BTreeSet<Node>,
    /// Bytes may be lost that nobody synced.
    tears: bool,
    /// Files that a program has synced, or that were left by a power cut, and that are the same since.
    solid: BTreeSet<Node>,
    /// Files that the daemon may have synced by itself, so that what they took the place of can go: another file, or
    /// a version of their own.
    secured: BTreeSet<Node>,
    /// What files replaced that may themselves be lost, the newest last.
    replaced: BTreeMap<Node, Vec<(Node, Thing)>>,
}

/// A tree that a call made, somewhere between two versions of the journal.
struct Made {
    tree: Tree,
    after: u64,
    until: u64,
}

impl Undurable {
    /// Nothing was made yet.
    pub fn new(tears: bool) -> Self {
        let mut new = Self {
            tears,
            ..Self::default()
        };
        new.is_durable(&Tree::default());
        new
    }

    /// Whether bytes may be lost that nobody synced.
    pub fn tears(&self) -> bool {
        self.tears
    }

    fn is_durable(&mut self, tree: &Tree) {
        self.trees = vec![Made {
            tree: tree.clone(),
            after: 0,
            until: 0,
        }];
    }

    /// A call that makes `next` of the tree has begun, at this version of the journal.
    pub fn begins(&mut self, next: &Tree, version: u64) {
        self.began = version;
        self.may_become(next);
    }

    fn may_become(&mut self, next: &Tree) {
        for (node, thing) in next.things() {
            let Some(bytes) = thing.bytes() else { continue };
            let known = self.contents.entry(node).or_default();
            if known.last() != Some(bytes) {
                known.push(Arc::clone(bytes));
                self.solid.remove(&node);
            }
        }
    }

    /// It has ended, at this version, and this is the tree.
    pub fn ended(&mut self, tree: &Tree, version: u64) {
        self.trees.push(Made {
            tree: tree.clone(),
            after: self.began,
            until: version,
        });
    }

    /// The daemon is dead, and nobody knows whether the last call was done.
    pub fn may_have_ended(&mut self, next: &Tree) {
        self.ended(next, u64::MAX);
    }

    /// Everything in the journal is durable, and the bytes of this file.
    pub fn synced(&mut self, node: Node, tree: &Tree) {
        self.is_durable(tree);
        self.is_safe(node, tree);
    }

    fn is_safe(&mut self, node: Node, tree: &Tree) {
        self.is_complete(node, tree);
        self.before.remove(&node);
        self.replaced.remove(&node);
        self.safe.insert(node);
        self.solid.insert(node);
    }

    /// As far as the journal knows of it, this file is whole: it was closed.
    pub fn is_complete(&mut self, node: Node, tree: &Tree) {
        if let Some(bytes) = tree.thing(node).and_then(|thing| thing.bytes()) {
            let before = self.contents.insert(node, vec![Arc::clone(bytes)]);
            if self.before.contains_key(&node) {
                self.secured.insert(node);
            }
            self.before
                .entry(node)
                .or_default()
                .extend(before.unwrap_or_default());
        }
    }

    /// A file is about to take the place of another one. As long as it may be lost, that one is kept.
    pub fn replaces(&mut self, node: Node, old: Node, tree: &Tree) {
        self.secured.insert(node);
        let mut before = self.replaced.get(&old).cloned().unwrap_or_default();
        before.extend(tree.thing(old).cloned().map(|thing| (old, thing)));
        self.replaced.entry(node).or_default().extend(before);
    }

    /// The files that it took the place of, and that may come back.
    pub fn replaced_by(&self, node: Node) -> impl Iterator<Item = Node> {
        let replaced = self.replaced.get(&node).into_iter().flatten();
        replaced.map(|(old, _)| *old)
    }

    /// What may be in the place of a file, if it is not what it may be.
    pub fn in_place_of(&self, node: Node, bytes: &Arc<Vec<u8>>) -> Option<&(Node, Thing)> {
        let replaced = self.replaced.get(&node)?;
        replaced
            .iter()
            .rev()
            .find(|(old, _)| self.may_be(*old, true, bytes))
    }

    /// Whether a file may be torn: it was changed since it was known to be whole, or since it was `bytes`.
    pub fn is_loose(&self, node: Node, bytes: Option<&Arc<Vec<u8>>>) -> bool {
        let known = self.contents.get(&node);
        (self.tears && !self.solid.contains(&node))
            || known.is_some_and(|known| known.len() > 1 || known.last() != bytes)
    }

    /// Whether this file counts as it is after a power cut, whatever was written into it since: a program has synced
    /// it, or the daemon has, so that what it took the place of can go.
    pub fn may_be_mixed(&self, node: Node) -> bool {
        self.safe.contains(&node) || self.secured.contains(&node)
    }

    /// Whether nothing may be left of a file that is torn: neither it nor anything that it took the place of in this
    /// tree is there in any case. What was being written meanwhile need not be (README: not kept yet).
    pub fn may_be_gone(&self, node: Node, tree: &Tree) -> bool {
        let replaced = self.replaced.get(&node);
        let has_gone = |old: &Node| !tree.names.values().any(|named| named == old);
        let mut replaced = replaced.into_iter().flatten();
        !self.safe.contains(&node)
            && replaced
                .all(|(old, thing)| thing.writers > 0 || !self.safe.contains(old) || !has_gone(old))
    }

    /// The trees that there may be in a journal of this version, the last one first.
    pub fn trees(&self, version: u64) -> impl Iterator<Item = &Tree> {
        let made = self.trees.iter().rposition(|made| made.until <= version);
        let since = &self.trees[made.unwrap_or(0)..];
        let may_be = since.iter().enumerate();
        let may_be = may_be.filter(move |(at, made)| *at == 0 || made.after < version);
        may_be.rev().map(|(_, made)| &made.tree)
    }

    /// The names that files have in any of these trees.
    pub fn names_of_files(&self) -> impl Iterator<Item = (&String, Node)> {
        let all = self.trees.iter().flat_map(|made| made.tree.all());
        all.filter(|(_, _, thing)| thing.bytes().is_some())
            .map(|(path, node, _)| (path, node))
    }

    /// What the store may show of files that were open when the power went: an fsync is enough.
    pub fn of_safe_files(&self) -> impl Iterator<Item = (Node, &Arc<Vec<u8>>)> {
        let contents = self.contents.iter().chain(&self.before);
        contents
            .filter(|(node, _)| self.safe.contains(node))
            .flat_map(|(node, contents)| contents.iter().map(|bytes| (*node, bytes)))
    }

    /// Whether a file may be this. `is_loose`: it may be torn.
    pub fn may_be(&self, node: Node, is_loose: bool, bytes: &Arc<Vec<u8>>) -> bool {
        let Some(known) = self.contents.get(&node) else {
            return false;
        };
        let before = self.before.get(&node).filter(|_| is_loose);
        known.contains(bytes) || before.is_some_and(|before| before.contains(bytes))
    }

    /// This is what there is after a power cut; all of it stays.
    pub fn begins_anew(&mut self, tree: &Tree) {
        self.is_durable(tree);
        let before = std::mem::take(&mut self.contents);
        for (node, contents) in before {
            self.before.entry(node).or_default().extend(contents);
        }
        self.may_become(tree);
        self.solid = tree.all().map(|(_, node, _)| node).collect();
    }
}
