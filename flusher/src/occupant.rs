//! A key that another inode still uses.
//!
//! After `mv a b; mv c a` the file c must not be copied over the object `a` before that was copied to `b`.
//! So before a key is written, its *claim* is looked at: the inode whose origin it is. If that inode wants
//! to be elsewhere, it moves first (it is asked to vacate, and may do so while a writer has it open). If it
//! has no name any more (unlinked, still open), what it needs is fetched first.
//!
//! Exchanged names make a circle in which everybody waits. One of them, the one with the fewest bytes to
//! fetch, breaks it by making itself independent of its object ([`crate::detach`]); it is then uploaded.
//! Every member of the circle finds the same one, and each inode only ever detaches itself, under the locks
//! of its own step (or a nameless one, which has no step).
//!
//! A directory may be part of a circle: a file takes the name that the directory had, what is still below that name
//! waits for the file's old one, and the directory waits for what is below. The file breaks it.
//!
//! The order of publishing can close a circle as well: what must move away was renamed after the new file was
//! closed, and may not be visible under its new name before that. It detaches itself too (see `dispatch`).

use journal::{Ino, Wanted};

use crate::core::Core;
use crate::detach::{detach, withdraw};
use crate::error::Error;
use crate::key::wanted_key;

/// Circles and chains longer than this are taken apart piece by piece, by retrying.
const CHAIN_MAX: usize = 64;

/// Whether the key can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Nobody needs the object there.
    Free,
    /// This inode must move away first.
    Behind(Ino),
    /// The inode itself was made independent of its object: plan again.
    Detached,
}

/// Finds out whether `wanted` may take `key`, and breaks circles.
pub(crate) async fn make_room(core: &Core, wanted: &Wanted, key: &str) -> Result<Room, Error> {
    let ino = wanted.inode.ino;
    let below = format!("{key}/");
    if let Some(directory) = directory_in_the_way(core, &below).await? {
        return behind_directory(core, wanted, &below, &directory).await;
    }
    // The directory has moved, and left what others took out of it.
    if has_left(wanted, key)
        && core.journal().garbage_row(&below).await?.is_some()
        && is_waited_for_below(core, wanted.inode.ino, &below).await?
    {
        return become_independent(core, wanted).await;
    }
    let Some(owner) = owner_of(core, key).await? else {
        return Ok(Room::Free);
    };
    if owner.inode.ino == ino {
        return Ok(Room::Free);
    }
    let Some(mut next_key) = wanted_key(&owner) else {
        // Deleted but still open: it keeps its bytes, the key is free.
        detach(core, &owner).await?;
        return Ok(Room::Free);
    };
    if next_key.as_str() == key {
        // Both want it: two names that encode to one key. The journal allows only one of them.
        return Ok(Room::Behind(owner.inode.ino));
    }
    let mut circle = vec![cost(wanted)];
    let first = owner.inode.ino;
    let mut at = owner;
    for _ in 0..CHAIN_MAX {
        circle.push(cost(&at));
        let Some(next) = owner_of(core, next_key.as_str()).await? else {
            break;
        };
        if next.inode.ino == ino {
            let cheapest = circle.iter().min().map(|(_, ino)| *ino);
            if cheapest != Some(ino) {
                break;
            }
            tracing::debug!(%ino, key, "exchanged names: one file becomes independent of its object");
            detach(core, wanted).await?;
            return Ok(Room::Detached);
        }
        let Some(key) = wanted_key(&next).filter(|_| next.inode.ino != at.inode.ino) else {
            break;
        };
        next_key = key;
        at = next;
    }
    Ok(Room::Behind(first))
}

/// The directory that was at the file's key and is to be elsewhere: where the store is a tree, what is in
/// it has to move before there can be a file.
async fn directory_in_the_way(core: &Core, key: &str) -> Result<Option<Wanted>, Error> {
    let directory = owner_of(core, key).await?;
    Ok(directory
        .filter(|directory| wanted_key(directory).is_some_and(|wanted| wanted.as_str() != key)))
}

/// Whether a file's object is somewhere else.
fn has_left(wanted: &Wanted, key: &str) -> bool {
    let origin = wanted.inode.content.origin.as_ref();
    origin.is_some_and(|origin| origin.key != key)
}

/// What the file waits for waits for it.
async fn become_independent(core: &Core, wanted: &Wanted) -> Result<Room, Error> {
    tracing::debug!(ino = %wanted.inode.ino, "what it waits for waits for it: the file becomes independent of its object");
    detach(core, wanted).await?;
    Ok(Room::Detached)
}

/// A directory can't move to, or below, the place where the file still is, and the file can't wait for
/// it then: its object goes.
async fn behind_directory(
    core: &Core,
    wanted: &Wanted,
    old: &str,
    directory: &Wanted,
) -> Result<Room, Error> {
    let origin = wanted.inode.content.origin.as_ref();
    let at = origin.map(|origin| format!("{}/", origin.key));
    let to = wanted_key(directory);
    let is_circle = at
        .zip(to.as_ref())
        .is_some_and(|(at, to)| to.as_str().starts_with(&at));
    if is_circle {
        tracing::debug!(ino = %wanted.inode.ino, "exchanged with a directory: the file leaves the store first");
        withdraw(core, wanted).await?;
        return Ok(Room::Detached);
    }
    // It is in that directory, which waits for its object; and nothing else will ever be below the file's new key.
    let is_in_it = to.is_some_and(|to| old.starts_with(to.as_str()))
        && origin.is_some_and(|origin| origin.key.starts_with(old));
    if is_in_it {
        tracing::debug!(ino = %wanted.inode.ino, "its directory waits for it: the file leaves the store first");
        withdraw(core, wanted).await?;
        return Ok(Room::Detached);
    }
    if origin.is_some() && is_waited_for_below(core, wanted.inode.ino, old).await? {
        return become_independent(core, wanted).await;
    }
    Ok(Room::Behind(directory.inode.ino))
}

/// Whether something whose object is still below the directory's old key waits, by itself or behind others, for the
/// file to move away.
async fn is_waited_for_below(core: &Core, file: Ino, old: &str) -> Result<bool, Error> {
    let mut waiting = vec![file];
    let mut at = 0;
    while let Some(ino) = waiting.get(at).copied().filter(|_| at < CHAIN_MAX) {
        at += 1;
        for behind in core.work.lock().waiting_behind(ino) {
            if !waiting.contains(&behind) {
                waiting.push(behind);
            }
        }
        let inode = core.journal().inode(ino).await?.filter(|_| at > 1);
        let origin = inode.and_then(|inode| inode.content.origin);
        if origin.is_some_and(|origin| origin.key.starts_with(old)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The inode whose object is at `key`, if its origin says so too.
async fn owner_of(core: &Core, key: &str) -> Result<Option<Wanted>, Error> {
    let Some(ino) = core.journal().claim(key).await? else {
        return Ok(None);
    };
    let owner = core.journal().wanted(ino).await?;
    Ok(owner.filter(|owner| {
        owner
            .inode
            .content
            .origin
            .as_ref()
            .is_some_and(|origin| origin.key == key)
    }))
}

/// An upper bound of what it costs to detach it, and its number, so that all agree.
fn cost(wanted: &Wanted) -> (u64, Ino) {
    let content = &wanted.inode.content;
    (content.valid.min(wanted.inode.size), wanted.inode.ino)
}
