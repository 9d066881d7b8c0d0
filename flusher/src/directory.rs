//! Markers of directories, and what a renamed directory leaves behind.
//!
//! A directory's origin is its marker `name/`, and until everything was moved after a rename, also the place
//! where its files are in the store. So the marker moves last: first the old prefix is listed; what the
//! journal didn't know yet is imported (a huge directory may never have been listed) and moved like every
//! other file; when nothing of it is left there, the marker follows. Objects there that belong to somebody
//! else by now (a new directory of the old name) are left alone.

use journal::{FlushOutcome, Flushed, Found, Ino, Inode, Kind, Origin, Timestamp};
use remote::{ListPage, ObjectKey};

use crate::core::Core;
use crate::error::Error;
use crate::expect::{Writing, announce, durable};
use crate::garbage::resolve;
use crate::identity::attributes;
use crate::key::wanted_key;

/// Entries listed at a time; the rest follows when these are moved.
const PAGE_ENTRIES: usize = 1000;
/// Files that are told to be still where the directory was.
const LEFT_MAX: usize = 64;

/// Makes the directory's marker at `key`.
pub(crate) async fn make(
    core: &Core,
    inode: &Inode,
    key: &ObjectKey,
) -> Result<FlushOutcome, Error> {
    if let Some(origin) = inode
        .content
        .origin
        .as_ref()
        .filter(|origin| origin.key != key.0)
    {
        let old = ObjectKey::from(origin.key.as_str());
        let left = match is_resyncing(core, inode.ino).await? {
            true => Some(Vec::new()),
            false => leaves_something(core, inode, &old).await?,
        };
        if let Some(left) = left {
            return Err(Error::StillMoving { key: old.0, left });
        }
    }
    let epoch = inode.content.epoch;
    let attrs = attributes(inode, core.config.node, epoch, key);
    if core.abilities().markers {
        let writing = Writing {
            inode,
            epoch,
            size: 0,
            key,
        };
        let what = writing.replacement();
        announce(core, &writing, what).await?;
        durable(core).await?;
        core.asking(key, what, core.remote().make_dir(key, &attrs))
            .await?;
    }
    let now = Timestamp::now();
    let origin = Origin {
        key: key.0.clone(),
        etag: None,
        size: 0,
        epoch,
        meta_epoch: inode.meta_epoch,
        checked: now,
    };
    let flushed = Flushed {
        epoch,
        meta_epoch: inode.meta_epoch,
        origin,
        blocks: None,
        heard: core.has_heard_all(key.as_str()),
    };
    Ok(core.journal().flushed(inode.ino, flushed, now).await?)
}

/// Whether what is in the directory has yet to learn of its new path.
async fn is_resyncing(core: &Core, ino: Ino) -> Result<bool, Error> {
    let before = Ino(ino.0.saturating_sub(1));
    let rows = core.journal().resync(Some(before), 1).await?;
    Ok(rows.first().is_some_and(|row| row.dir == ino))
}

/// Some of what is in this directory and still under its old key; None if nothing is. Imports what wasn't known.
async fn leaves_something(
    core: &Core,
    inode: &Inode,
    old: &ObjectKey,
) -> Result<Option<Vec<Ino>>, Error> {
    let mut token = None;
    loop {
        let asked = Timestamp::now();
        let page = core
            .remote()
            .list_page(old, token.as_ref(), PAGE_ENTRIES)
            .await?;
        let left = left_behind(core, inode, old, &page).await?;
        if !left.is_empty() {
            core.journal().import(inode.ino, &left, asked).await?;
            let mut some = Vec::new();
            for found in &left {
                if let Some(child) = core.journal().lookup(inode.ino, &found.name).await? {
                    let journal = core.journal();
                    journal.mark_left_at(child.ino, &found.key, asked).await?;
                    if some.len() < LEFT_MAX {
                        some.push(child.ino);
                    }
                }
            }
            return Ok(Some(some));
        }
        token = page.next;
        if token.is_none() {
            return Ok(None);
        }
    }
}

/// The entries of a page that this directory still has to take with it.
async fn left_behind(
    core: &Core,
    inode: &Inode,
    old: &ObjectKey,
    page: &ListPage,
) -> Result<Vec<Found>, Error> {
    let mut left = Vec::new();
    for meta in &page.files {
        let Some(name) = remote::keys::decode_name(meta.key.name()) else {
            continue;
        };
        if !is_ours(core, inode, &name, meta.key.as_str()).await? {
            continue;
        }
        left.push(Found {
            name,
            kind: Kind::File,
            key: meta.key.0.clone(),
            etag: meta.etag.clone().map(|etag| etag.0),
            size: meta.size,
            mtime: meta.modified.into(),
            mode: meta.posix.mode,
            uid: meta.posix.uid,
            gid: meta.posix.gid,
            learned: meta.posix.mode.is_some(),
        });
    }
    for component in &page.directories {
        let key = format!("{}{component}/", old.as_str());
        let Some(name) = remote::keys::decode_name(component) else {
            continue;
        };
        if !is_ours(core, inode, &name, &key).await? || is_ghost(core, inode, &name, &key).await? {
            continue;
        }
        left.push(Found {
            name,
            kind: Kind::Directory,
            key,
            etag: None,
            size: 0,
            mtime: Timestamp::now(),
            mode: None,
            uid: None,
            gid: None,
            learned: true,
        });
    }
    Ok(left)
}

/// Whether the object at `key` is this directory's entry `name`, known or not yet.
async fn is_ours(core: &Core, inode: &Inode, name: &[u8], key: &str) -> Result<bool, Error> {
    if core.journal().is_garbage(key).await? {
        return Ok(false);
    }
    let child = core.journal().lookup(inode.ino, name).await?;
    match core.journal().claim(key).await? {
        Some(claimed) if child.as_ref().is_none_or(|child| child.ino != claimed) => Ok(false),
        // A link that it has here moves nothing if it belongs where its object is.
        Some(claimed) => {
            let wanted = core.journal().wanted(claimed).await?;
            let belongs = wanted.and_then(|wanted| wanted_key(&wanted));
            Ok(belongs.is_none_or(|belongs| belongs.as_str() != key))
        }
        // Nobody's: an entry that was never listed, unless a child of that name has another object.
        None => {
            Ok(child
                .is_none_or(|child| child.content.origin.is_some_and(|origin| origin.key == key)))
        }
    }
}

/// Whether a directory that is new here is not really: another one has that path by now, perhaps this very one,
/// and its marker is yet to come. Or it is only listed: some stores do that for a while after the last object in
/// it went, and what was removed would be made anew under the new name.
async fn is_ghost(core: &Core, inode: &Inode, name: &[u8], key: &str) -> Result<bool, Error> {
    if core.journal().lookup(inode.ino, name).await?.is_some() {
        return Ok(false);
    }
    let there = resolve(core, key.trim_end_matches('/')).await?;
    if there.is_some_and(|there| there.kind == Kind::Directory) {
        return Ok(true);
    }
    Ok(!core.remote().exists_below(&ObjectKey::from(key)).await?)
}
