//! Somebody else changed the object: nothing of either version is lost.
//!
//! By default both are kept where programs see them. The local version gets a new name next to the old one,
//! `<name>.conflict-<node>-<n>`, by an ordinary rename in the journal, so programs see it at once; it is then
//! uploaded under that name like any other file. The store's version keeps the key and appears under the old
//! name with the next listing.
//!
//! With `on_conflict=theirs` the file takes their content. The local version is copied to the folder of
//! what was kept aside, durably; then the journal is told two things that in any other case come one after the
//! other: that our version is in the store, and that somebody has replaced it since. A crash between the two
//! leaves what every later look at the object puts right. A file that is being written, or of which a part
//! was only in the object that they replaced, can't be kept so: of it both versions are kept as by default.
//!
//! (`on_conflict=ours` hardly comes here: `expect` replaces their object under the version that it has.)

use std::path::Path;

use journal::{Flushed, Ino, Inode, Origin, RenameMode, Seen, Timestamp, Wanted};
use remote::{ObjectKey, ObjectMeta};

use crate::config::OnConflict;
use crate::core::Core;
use crate::error::Error;
use crate::snapshot::Snapshot;
use crate::status::{Conflict, Resolution};

/// Longest name of a file, as everywhere on Linux.
const NAME_BYTES_MAX: usize = 255;
/// Names tried before something is wrong.
const NAMES_MAX: u32 = 1000;

/// Does about the foreign object at `key` what was asked for.
pub(crate) async fn resolve(core: &Core, wanted: &Wanted, key: &ObjectKey) -> Result<(), Error> {
    if let OnConflict::Theirs { aside } = &core.config.on_conflict
        && take_theirs(core, &wanted.inode, key, aside).await?
    {
        return Ok(());
    }
    keep_both(core, wanted, key).await
}

/// Takes their content, if ours can be kept aside whole.
async fn take_theirs(
    core: &Core,
    inode: &Inode,
    key: &ObjectKey,
    folder: &Path,
) -> Result<bool, Error> {
    let snapshot = Snapshot::take(core, inode.clone()).await?;
    if snapshot.is_open() || !snapshot.missing(0..snapshot.size).is_empty() {
        return Ok(false);
    }
    let Some(theirs) = core.remote().head(key).await? else {
        // Gone: there is no conflict any more.
        return Ok(true);
    };
    let ino = inode.ino;
    let ours = snapshot.extent_id();
    let kept = core.extents().copy_aside(ours, folder).await?;
    if !snapshot.still_true(core).await? {
        // A program has begun to write again. It will be looked at anew.
        let removed = std::fs::remove_file(&kept);
        if let Err(error) = removed {
            tracing::warn!(file = %kept.display(), %error, "a copy that is not needed stays");
        }
        return Ok(true);
    }
    // Told first: whoever sees the file settled sees how, too.
    tracing::warn!(
        %key, kept_as = %kept.display(),
        "somebody else changed this object in the store; the file shows theirs (on_conflict=theirs), the local \
         version is kept aside"
    );
    let conflict = Conflict {
        key: key.0.clone(),
        resolution: Resolution::KeptAside(kept),
    };
    core.stats.conflict(ino, conflict);
    let flushed = Flushed {
        epoch: inode.content.epoch,
        meta_epoch: inode.meta_epoch,
        origin: ours_replaced_by(&theirs, inode, key),
        blocks: None,
        heard: core.has_heard_all(key.as_str()),
    };
    core.journal()
        .flushed(ino, flushed, Timestamp::now())
        .await?;
    let seen = as_seen(theirs);
    core.journal().refresh(ino, &seen, Timestamp::now()).await?;
    core.journal().sync().await?;
    core.config.events.superseded(ino, ours);
    Ok(true)
}

/// An object of ours as it might have been before theirs: unlike it in every respect that is compared.
fn ours_replaced_by(theirs: &ObjectMeta, inode: &Inode, key: &ObjectKey) -> Origin {
    Origin {
        key: key.0.clone(),
        etag: Some("replaced".to_owned()),
        size: theirs.size.wrapping_add(1),
        epoch: inode.content.epoch,
        meta_epoch: inode.meta_epoch,
        checked: Timestamp::now(),
    }
}

fn as_seen(object: ObjectMeta) -> Seen {
    Seen::Object {
        etag: object.etag.map(|etag| etag.0),
        size: object.size,
        mtime: match object.posix.mtime_ns {
            Some(ns) => Timestamp::from_nanos(ns),
            None => Timestamp::from(object.modified),
        },
        mode: object.posix.mode.map(|mode| mode & 0o7777),
        uid: object.posix.uid,
        gid: object.posix.gid,
    }
}

/// Renames the local version out of the way of the foreign one at `key`.
async fn keep_both(core: &Core, wanted: &Wanted, key: &ObjectKey) -> Result<(), Error> {
    let unsteady = || Error::Unsteady { key: key.0.clone() };
    let Some((name, directories)) = wanted.path.as_deref().and_then(<[_]>::split_last) else {
        return Ok(());
    };
    let mut parent = Ino::ROOT;
    for directory in directories {
        let found = core.journal().lookup(parent, directory).await?;
        parent = found.ok_or_else(unsteady)?.ino;
    }
    let ino = wanted.inode.ino;
    for n in 1..=NAMES_MAX {
        let kept_as = conflict_name(name, core.config.node, n);
        let now = Timestamp::now();
        let renamed = core
            .journal()
            .rename(parent, name, parent, &kept_as, RenameMode::NoReplace, now)
            .await;
        match renamed {
            Err(journal::Error::Exists { .. }) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        forget_key(core, wanted, key).await?;
        let kept = String::from_utf8_lossy(&kept_as).into_owned();
        tracing::warn!(
            %key, kept_as = %kept,
            "somebody else changed this object in the store; both versions are kept, the local one under a new name"
        );
        let conflict = Conflict {
            key: key.0.clone(),
            resolution: Resolution::KeptAs(kept),
        };
        core.stats.conflict(ino, conflict);
        core.config.events.conflict(ino, &kept_as);
        return Ok(());
    }
    Err(unsteady())
}

/// The foreign object's key is not ours any more, nor to be deleted as our old one. What is only in the
/// version we knew is lost with it, so the origin of an incomplete file stays, and says so.
async fn forget_key(core: &Core, wanted: &Wanted, key: &ObjectKey) -> Result<(), Error> {
    let inode = &wanted.inode;
    let at_key = inode
        .content
        .origin
        .as_ref()
        .is_some_and(|origin| origin.key == key.0);
    if !at_key {
        return Ok(());
    }
    // Whoever is giving up its local bytes has the object for them: the origin stays as well.
    let Some(_hold) = core.holds.hold(inode.ino) else {
        return Ok(());
    };
    let Some(inode) = core.journal().inode(inode.ino).await? else {
        return Ok(());
    };
    let snapshot = Snapshot::take(core, inode).await?;
    if snapshot.missing(0..snapshot.size).is_empty() {
        // From now on they are nowhere else.
        let id = snapshot.extent_id();
        if let Some(extent) = core.extents().open_file(id)? {
            extent.sync_data().await?;
        }
        core.journal()
            .detach(Ino(id.ino), id.generation, Timestamp::now())
            .await?;
    }
    Ok(())
}

/// The name of the `n`th local version kept, short enough to be one.
fn conflict_name(name: &[u8], node: journal::NodeId, n: u32) -> Vec<u8> {
    let suffix = format!(".conflict-{node}-{n}");
    let mut end = name.len().min(NAME_BYTES_MAX - suffix.len());
    // Not in the middle of a character.
    while end > 0 && end < name.len() && (name[end] & 0b1100_0000) == 0b1000_0000 {
        end -= 1;
    }
    let mut kept_as = name[..end].to_vec();
    kept_as.extend_from_slice(suffix.as_bytes());
    kept_as
}

#[cfg(test)]
mod tests {
    use super::*;
    use journal::NodeId;

    #[test]
    fn the_kept_version_has_the_old_name_the_node_and_a_number() {
        assert_eq!(
            conflict_name(b"model.pt", NodeId(0xab), 2),
            b"model.pt.conflict-00000000000000ab-2"
        );
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let name = "ä".repeat(127);
        let kept_as = conflict_name(name.as_bytes(), NodeId(1), 1);
        assert!(kept_as.len() <= NAME_BYTES_MAX);
        assert!(String::from_utf8(kept_as).is_ok());
    }
}
