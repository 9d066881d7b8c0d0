//! What the mount shows is the tree that was left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fused::vfs::{self, Vfs};
use journal::Kind as FileKind;
use nix::errno::Errno;

use super::walk::{contents, find, names_in};
use super::{Program, XATTR};
use crate::tree::{Kind, Tree};
use crate::world;

/// For how long the store is not asked again after it did not answer, and more; and how often a check asks.
const AWAY: Duration = Duration::from_secs(6);
const TRIES_MAX: usize = 5;

impl Program {
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
