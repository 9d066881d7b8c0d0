//! Making a file independent of its object, so that the object may be overwritten.
//!
//! Whatever is only in the object is fetched into the extent file and made durable; then one transaction
//! forgets the origin and counts the content as dirty. From then on the file is like a new one. The order
//! matters: after a crash either the origin is still recorded, or the bytes are on the disk.

use extents::ExtentId;
use journal::{Timestamp, Wanted};

use crate::core::Core;
use crate::error::Error;
use crate::lost::record_again;
use crate::snapshot::Snapshot;

/// Bytes fetched by one request.
const FETCH_BYTES: u64 = 8 << 20;

/// Fetches what is missing, and forgets the origin.
pub(crate) async fn detach(core: &Core, wanted: &Wanted) -> Result<(), Error> {
    if let Some(origin) = &wanted.inode.content.origin {
        localize_newest(core, wanted).await?;
        let ino = wanted.inode.ino;
        // Whom the key is left to may be gone before it has put anything there.
        core.journal().attempted(ino, &origin.key, false).await?;
        core.journal().detach(ino, Timestamp::now()).await?;
    }
    Ok(())
}

/// As [`detach`], and the object is to be deleted.
pub(crate) async fn withdraw(core: &Core, wanted: &Wanted) -> Result<(), Error> {
    if wanted.inode.content.origin.is_some() {
        localize_newest(core, wanted).await?;
        let ino = wanted.inode.ino;
        core.journal().withdraw(ino, Timestamp::now()).await?;
    }
    Ok(())
}

/// Makes every byte local and durable. Its own newer version may have taken the place of what is known to be
/// there, if the answer to that upload was lost.
async fn localize_newest(core: &Core, wanted: &Wanted) -> Result<(), Error> {
    let ino = wanted.inode.ino;
    match localize(core, wanted).await {
        Err(Error::BaseLost { .. }) if record_again(core, ino).await? => {
            match core.journal().wanted(ino).await? {
                Some(newer) => localize(core, &newer).await,
                None => Ok(()),
            }
        }
        localized => localized,
    }
}

async fn localize(core: &Core, wanted: &Wanted) -> Result<(), Error> {
    let inode = &wanted.inode;
    let id = ExtentId {
        ino: inode.ino.0,
        generation: inode.content.generation,
    };
    let extent = core.extents().open_or_create(id)?;
    extent.load_residency()?;
    if inode.content.writer.is_none() && extent.stat()?.size < inode.size {
        extent.truncate(inode.size)?;
    }
    let snapshot = Snapshot::take(core, inode.clone())?;
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
    Ok(extent.sync_data().await?)
}
