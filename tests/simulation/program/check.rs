//! What the mount shows is the tree that was left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fused::vfs::{self, Vfs};
use journal::Kind as FileKind;
use nix::errno::Errno;

use super::walk::{contents, find, names_in};
use super::{Program, State, XATTR};
use crate::tree::{Kind, Thing, Tree};
use crate::world;

/// For how long the store is not asked again after it did not answer, and more; and how often a check asks.
const AWAY: Duration = Duration::from_secs(6);
const TRIES_MAX: usize = 20;

/// Ends the name of an earlier version of a torn file where the file that it had replaced is back.
pub(super) const ASIDE: &str = ".before-power-cut";

impl Program {
    /// Panics unless the mount shows the tree; after a crash, one of the two that may be.
    pub async fn check(&self, vfs: &Vfs) {
        let mut tries = 0;
        let found = loop {
            match look(vfs, &self.root).await {
                Ok(found) => break found,
                Err((path, error)) => {
                    // For a while after an outage nobody asks the store. What was opened meanwhile may turn out to be a
                    // version that has been replaced there, by an upload of which a power cut took the record.
                    let passes = match error.errno() {
                        Errno::EIO => true,
                        Errno::ESTALE => self.may_be_torn(),
                        _ => false,
                    };
                    assert!(passes && tries < TRIES_MAX, "{path}: {error:?}");
                    tries += 1;
                    tokio::time::sleep(AWAY).await;
                }
            }
        };
        let mut state = self.state.lock();
        if let Some(version) = state.was_cut.take() {
            self.find_after_cut(&mut state, version, &found);
            return;
        }
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

impl Program {
    /// After a power cut: one of the trees that were, and each file as it was at some time since it was synced.
    fn find_after_cut(&self, state: &mut State, version: u64, found: &[Seen]) {
        let State {
            tree,
            next,
            undurable,
            ..
        } = state;
        let undurable = undurable.as_mut().expect("it is known what may be lost");
        let mut differences = Vec::new();
        let those_that_were: Vec<Tree> = undurable.trees(version).cloned().collect();
        for mut was in those_that_were {
            was.continues(next.as_ref().unwrap_or(tree));
            // What was being changed may be torn: then it is put aside, and what was there before is back, if there
            // is anything.
            for path in was.paths(|thing| thing.bytes().is_some()) {
                let node = was.names[&path];
                let is_loose = was.thing(node).is_some_and(|thing| {
                    thing.writers > 0 || undurable.is_loose(node, thing.bytes())
                });
                let seen = found.iter().find(|seen| seen.path == path);
                // What it was itself before, in the store, if another is back under its name.
                let aside = format!("{path}{ASIDE}");
                let aside = found
                    .iter()
                    .find(|seen| seen.path == aside && !was.names.contains_key(&aside));
                // What a file with several names took the place of is back under the one by which it did.
                let is_back_elsewhere = || {
                    found.iter().any(|seen| {
                        let is_its_name = was.names.get(&seen.path) == Some(&node);
                        is_its_name
                            && seen.path != path
                            && matches!(&seen.kind, Kind::File(bytes) if undurable.in_place_of(node, bytes).is_some())
                    })
                };
                // Two may have the same bytes.
                let is_itself = aside.is_none()
                    && seen.is_some_and(|seen| {
                        was.thing(node).is_some_and(|thing| is_like(thing, seen))
                    });
                match seen.map(|seen| &seen.kind) {
                    Some(Kind::File(bytes))
                        if is_itself && undurable.may_be(node, is_loose, bytes) =>
                    {
                        was.set_bytes(node, bytes);
                    }
                    Some(Kind::File(bytes)) if is_loose => {
                        if let Some(old) = undurable.in_place_of(node, bytes).cloned() {
                            let torn = was.thing(node).cloned();
                            was.put_back(&path, old.clone());
                            was.set_bytes(old.0, bytes);
                            if let (Some(torn), Some(seen)) = (torn, aside)
                                && let Kind::File(bytes) = &seen.kind
                                && undurable.may_be(node, true, bytes)
                            {
                                was.put_back(&seen.path, (node, torn));
                                was.set_bytes(node, bytes);
                            }
                        }
                    }
                    None if is_loose
                        && (undurable.may_be_gone(node, &was) || is_back_elsewhere()) =>
                    {
                        was.remove(&path);
                    }
                    _ => {}
                }
            }
            was.close_all();
            let Some(difference) = differs(&was, found) else {
                self.publish(&Tree::default(), &was);
                undurable.begins_anew(&was);
                (*tree, *next) = (was, None);
                return;
            };
            differences.push(difference);
        }
        panic!(
            "after a power cut the tree is none of those that were; from the last one on: {differences:#?}"
        );
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

/// Whether a file has the attributes that it was given.
fn is_like(thing: &Thing, seen: &Seen) -> bool {
    (thing.mode, &thing.xattr) == (seen.mode, &seen.xattr)
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
