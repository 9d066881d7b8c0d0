//! Making a file independent of its object, so that the object may be overwritten.
//!
//! Whatever is only in the object is fetched into the extent file and made durable; then one transaction
//! forgets the origin and counts the content as dirty. From then on the file is like a new one. The order
//! matters: after a crash either the origin is still recorded, or the bytes are on the disk. Meanwhile nobody may
//! give up the local bytes again ([`crate::holds`]), and another generation of them is not what was fetched.

use journal::{Ino, Inode, Sent, Timestamp, Wanted};

use crate::core::Core;
use crate::error::Error;
use crate::holds::Hold;
use crate::lost::record_again;
use crate::snapshot::{Snapshot, extent_id, local};

/// Bytes fetched by one request.
const FETCH_BYTES: u64 = 8 << 20;

/// Fetches what is missing, and forgets the origin.
pub(crate) async fn detach(core: &Core, wanted: &Wanted) -> Result<(), Error> {
    let Some(here) = bring_here(core, wanted).await? else {
        return Ok(());
    };
    // Whom the key is left to may be gone before it has put anything there.
    let nothing = Sent::default();
    core.journal()
        .attempted(here.ino, &here.key, false, nothing)
        .await?;
    let detached = core
        .journal()
        .detach(here.ino, here.generation, Timestamp::now());
    here.done(detached.await?)
}

/// As [`detach`], and the object is to be deleted.
pub(crate) async fn withdraw(core: &Core, wanted: &Wanted) -> Result<(), Error> {
    let Some(here) = bring_here(core, wanted).await? else {
        return Ok(());
    };
    let withdrawn = core
        .journal()
        .withdraw(here.ino, here.generation, Timestamp::now());
    here.done(withdrawn.await?)
}

/// A file whose bytes are all in this generation of its extent file, durably, and stay there.
struct Here {
    ino: Ino,
    key: String,
    generation: u64,
    _hold: Hold,
}

impl Here {
    fn done(self, parted: bool) -> Result<(), Error> {
        match parted {
            true => Ok(()),
            // Somebody has replaced the object, or a program the file: it is planned again.
            false => Err(Error::Unsteady { key: self.key }),
        }
    }
}

/// Makes every byte local and durable; None if there is no object.
async fn bring_here(core: &Core, wanted: &Wanted) -> Result<Option<Here>, Error> {
    let Some(origin) = &wanted.inode.content.origin else {
        return Ok(None);
    };
    let (ino, key) = (wanted.inode.ino, origin.key.clone());
    let Some(hold) = core.holds.hold(ino) else {
        return Err(Error::Unsteady { key });
    };
    // What was read before it was held may be given up by now.
    let Some(inode) = core.journal().inode(ino).await? else {
        return Ok(None);
    };
    let generation = localize_newest(core, &inode).await?;
    Ok(Some(Here {
        ino,
        key,
        generation,
        _hold: hold,
    }))
}

/// The generation that has the bytes. Its own newer version may have taken the place of what is known to be
/// there, if the answer to that upload was lost.
async fn localize_newest(core: &Core, inode: &Inode) -> Result<u64, Error> {
    match localize(core, inode).await {
        Err(Error::BaseLost { .. }) if record_again(core, inode.ino).await? => {
            match core.journal().inode(inode.ino).await? {
                Some(newer) => localize(core, &newer).await,
                None => Ok(inode.content.generation),
            }
        }
        localized => localized,
    }
}

async fn localize(core: &Core, inode: &Inode) -> Result<u64, Error> {
    // If it is gone, what is made here instead must not count as the file's bytes.
    let (inode, _) = local(core, inode.clone()).await?;
    let id = extent_id(&inode);
    let extent = core.extents().open_or_create(id)?;
    extent.load_residency()?;
    if inode.content.writer.is_none() && extent.stat()?.size < inode.size {
        extent.truncate(inode.size)?;
    }
    let snapshot = Snapshot::take(core, inode).await?;
    for hole in snapshot.missing(0..snapshot.size) {
        let mut at = hole.start;
        while at < hole.end {
            let until = hole.end.min(at + FETCH_BYTES);
            let memory = core.memory.large(until - at).await;
            let bytes = snapshot.fetch(core, at..until).await?;
            extent.fill(at, bytes).await?;
            drop(memory);
            at = until;
        }
    }
    extent.sync_data().await?;
    Ok(id.generation)
}
