//! A power cut takes the record of an object that has replaced another.
//!
//! Before an object replaces another the journal is made durable ([`crate::expect`]), so after the cut the
//! journal still knows the version that was sent, as dirty, and the object that it was made from, which is not
//! there any more. Of a file that was written to in part, the rest is in that object only. But all of it is in
//! the new object, which says by its mark what it is. So the record is made again. The same goes for an object
//! whose attributes were rewritten and nobody heard of it: some stores give it another etag.

use journal::{Flushed, Ino, Inode, NodeId, Origin, Timestamp};
use remote::{FileVersion, ObjectKey, ObjectMeta};

use crate::core::Core;
use crate::error::Error;
use crate::identity::{is_in_place, own_mark};

/// The mark of an object at the key of this inode's origin, if its own upload left it there, recorded or not.
#[must_use]
pub fn own_version(inode: &Inode, node: NodeId, meta: &ObjectMeta) -> Option<FileVersion> {
    let origin = inode.content.origin.as_ref()?;
    let key = ObjectKey::from(origin.key.as_str());
    let mark = own_mark(&meta.posix, node)?;
    let epochs = origin.epoch.0..=inode.content.epoch.0;
    let may_be = mark.epoch != origin.epoch.0 || meta.size == origin.size;
    let is_own = mark.ino == inode.ino.0
        && is_in_place(&mark, &key)
        && epochs.contains(&mark.epoch)
        && may_be;
    is_own.then_some(mark)
}

/// Records the object that this inode's own upload left at its origin's key, if that is not recorded.
/// False: the object there is none of its versions, or the one that is known.
pub(crate) async fn record_again(core: &Core, ino: Ino) -> Result<bool, Error> {
    let Some(inode) = core.journal().inode(ino).await? else {
        return Ok(false);
    };
    let Some(origin) = inode.content.origin.as_ref() else {
        return Ok(false);
    };
    let key = ObjectKey::from(origin.key.as_str());
    let Some(meta) = core.remote().head(&key).await? else {
        return Ok(false);
    };
    let Some(mark) = own_version(&inode, core.config.node, &meta) else {
        return Ok(false);
    };
    let etag = meta.etag.map(|etag| etag.0);
    if etag == origin.etag {
        return Ok(false);
    }
    tracing::info!(%key, "an upload whose record was lost in a crash is recorded again");
    let now = Timestamp::now();
    let epoch = journal::Epoch(mark.epoch);
    let heard = core.has_heard_all(&key.0);
    let flushed = Flushed {
        epoch,
        meta_epoch: mark.meta_epoch,
        origin: Origin {
            key: key.0,
            etag,
            size: meta.size,
            epoch,
            meta_epoch: mark.meta_epoch,
            checked: now,
        },
        blocks: None,
        heard,
    };
    core.journal().flushed(ino, flushed, now).await?;
    Ok(true)
}
