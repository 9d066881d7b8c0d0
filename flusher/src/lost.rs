//! A power cut takes the record of an object that has replaced another.
//!
//! Before an object replaces another the journal is made durable ([`crate::expect`]), so after the cut the
//! journal still knows the version that was sent, as dirty, and the object that it was made from, which is not
//! there any more. Of a file that was written to in part, the rest is in that object only. But all of it is in
//! the new object, which says by its mark what it is. So the record is made again. The same goes for an object
//! whose attributes were rewritten and nobody heard of it: some stores give it another etag.

use journal::{Flushed, Ino, Origin, Timestamp};
use remote::ObjectKey;

use crate::core::Core;
use crate::error::Error;
use crate::identity::{is_in_place, own_mark};

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
    let Some(mark) = own_mark(&meta.posix, core.config.node) else {
        return Ok(false);
    };
    let epochs = origin.epoch.0..=inode.content.epoch.0;
    let may_be = mark.epoch != origin.epoch.0 || meta.size == origin.size;
    if mark.ino != ino.0 || !is_in_place(&mark, &key) || !epochs.contains(&mark.epoch) || !may_be {
        return Ok(false);
    }
    let etag = meta.etag.map(|etag| etag.0);
    if etag == origin.etag {
        return Ok(false);
    }
    tracing::info!(%key, "an upload whose record was lost in a crash is recorded again");
    let now = Timestamp::now();
    let epoch = journal::Epoch(mark.epoch);
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
    };
    core.journal().flushed(ino, flushed, now).await?;
    Ok(true)
}
