//! A stable view of one version of a file.
//!
//! Bytes come from the extent file; ranges that are not resident but inside the origin's valid length come
//! from the origin by ranged gets with If-Match, so a large file of which a few pages were changed needs
//! no fetch into the cache first. Everything else is zero.
//!
//! Nobody is kept from writing meanwhile. Instead the view is *checked* after the bytes were read and before
//! they are published ([`Snapshot::still_true`]):
//!
//! - of a closed file: the same epoch and generation, and still no writer. A writer that came and went
//!   without a change leaves the epoch alone, and the bytes too.
//! - of an open file (fsync to the store): moreover size and mtime of the extent file are as before. Linux
//!   gives a write after a stat a newer mtime (multigrain timestamps, 6.13; before that, within a tick).

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use extents::{ExtentFile, ExtentId};
use journal::{BlockDigests, Inode};

use crate::core::Core;
use crate::digests;
use crate::error::Error;

/// Reads up to this size go through the page cache, where a freshly written file still is.
const BUFFERED_BYTES_MAX: u64 = 1 << 20;

/// The size and time of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    mtime: (i64, u32),
}

/// One version of a file.
pub(crate) struct Snapshot {
    pub(crate) inode: Inode,
    pub(crate) size: u64,
    extent: Option<Arc<ExtentFile>>,
    /// Set while a writer has it open.
    stamp: Option<Stamp>,
}

impl Snapshot {
    /// Begins a view of the inode as just read from the journal.
    pub(crate) async fn take(core: &Core, inode: Inode) -> Result<Self, Error> {
        let (inode, extent) = local(core, inode).await?;
        let mut stamp = None;
        if let Some(extent) = &extent {
            extent.load_residency()?;
            if inode.content.writer.is_some() {
                stamp = Some(stamp_of(extent)?);
            }
        }
        Ok(Self {
            size: stamp.map_or(inode.size, |stamp| stamp.size),
            inode,
            extent,
            stamp,
        })
    }

    /// The extent file of this version.
    pub(crate) fn extent_id(&self) -> ExtentId {
        extent_id(&self.inode)
    }

    /// A writer has it open.
    pub(crate) fn is_open(&self) -> bool {
        self.inode.content.writer.is_some()
    }

    /// Whether this is still what the journal holds.
    pub(crate) async fn still_true(&self, core: &Core) -> Result<bool, Error> {
        let Some(now) = core.journal().inode(self.inode.ino).await? else {
            return Ok(false);
        };
        let (before, after) = (&self.inode.content, &now.content);
        let same_version = now.nlink > 0
            && after.epoch == before.epoch
            && after.generation == before.generation
            && (after.writer.is_none() || self.is_open());
        if !same_version {
            return Ok(false);
        }
        match (&self.extent, self.stamp) {
            (Some(extent), Some(stamp)) => Ok(stamp_of(extent)? == stamp),
            _ => Ok(now.size == self.size),
        }
    }

    /// What is neither here nor zero, within `range`.
    pub(crate) fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let valid = self.inode.content.valid.min(self.size);
        let range = range.start..range.end.min(valid);
        if range.is_empty() {
            return Vec::new();
        }
        let holes = match &self.extent {
            Some(extent) => extent.missing(range.clone(), valid),
            None => vec![range.clone()],
        };
        // Holes are whole granules; only the part that was asked for is of interest.
        holes
            .into_iter()
            .map(|hole| hole.start.max(range.start)..hole.end.min(range.end))
            .filter(|hole| !hole.is_empty())
            .collect()
    }

    /// The bytes of `range`, which must be within the file.
    pub(crate) async fn read(&self, core: &Core, range: Range<u64>) -> Result<Bytes, Error> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        // Looked at before reading: what gets filled in between is read as hole and fetched again.
        let missing = self.missing(range.clone());
        let local = match &self.extent {
            None => Bytes::new(),
            Some(extent) if length as u64 <= BUFFERED_BYTES_MAX => {
                extent.read_buffered(range.start, length).await?
            }
            Some(extent) => extent.read_large(range.start, length).await?,
        };
        if missing.is_empty() && local.len() == length {
            return Ok(local);
        }
        let mut whole = BytesMut::zeroed(length);
        let known = local.len().min(length);
        whole[..known].copy_from_slice(&local[..known]);
        drop(local);
        for hole in missing {
            let fetched = self.fetch(core, hole.clone()).await?;
            let at = usize::try_from(hole.start - range.start).unwrap_or(usize::MAX);
            whole[at..at + fetched.len()].copy_from_slice(&fetched);
        }
        Ok(whole.freeze())
    }

    /// Bytes of the origin.
    pub(crate) async fn fetch(&self, core: &Core, range: Range<u64>) -> Result<Bytes, Error> {
        let Some(origin) = &self.inode.content.origin else {
            return Err(Error::BaseLost {
                key: format!("inode {}", self.inode.ino),
            });
        };
        let range = range.start..range.end.min(origin.size);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        match digests::get(core, self.inode.ino, origin, range).await {
            Err(Error::Store(remote::Error::Changed { .. } | remote::Error::NotFound { .. })) => {
                Err(Error::BaseLost {
                    key: origin.key.clone(),
                })
            }
            fetched => fetched,
        }
    }

    /// The digests of bytes that were read from `start` on. An open file has none: it may have changed without
    /// a new epoch by the time they are recorded.
    pub(crate) async fn digests(&self, core: &Core, start: u64, bytes: &Bytes) -> BlockDigests {
        match core.config.verify && !self.is_open() {
            true => digests::digests_of(start, bytes).await,
            false => BlockDigests::default(),
        }
    }
}

/// The extent file of an inode, and the inode as it then is.
///
/// An extent file that should be there may be gone: a power cut takes the name of one that nobody synced, and somebody
/// may remove it. Zeros must not pass for its bytes. Those of a clean file are the object's.
pub(crate) async fn local(
    core: &Core,
    inode: Inode,
) -> Result<(Inode, Option<Arc<ExtentFile>>), Error> {
    let extent = core.extents().open_file(extent_id(&inode))?;
    if extent.is_some() || inode.size <= inode.content.valid {
        return Ok((inode, extent));
    }
    let key = format!("inode {}", inode.ino);
    let (epoch, generation) = (inode.content.epoch, inode.content.generation);
    // It may have been given up since the inode was read.
    match core.journal().inode(inode.ino).await? {
        Some(now) if now.content.generation == generation && now.content.valid < now.size => {}
        _ => return Err(Error::Unsteady { key }),
    }
    if !core.journal().evicted(inode.ino, epoch, generation).await? {
        return Err(Error::Gone { key });
    }
    tracing::info!(ino = %inode.ino, "its extent file is not here; its bytes are the object's");
    match core.journal().inode(inode.ino).await? {
        Some(now) => Ok((now, None)),
        None => Err(Error::Unsteady { key }),
    }
}

pub(crate) fn extent_id(inode: &Inode) -> ExtentId {
    ExtentId {
        ino: inode.ino.0,
        generation: inode.content.generation,
    }
}

fn stamp_of(extent: &ExtentFile) -> Result<Stamp, Error> {
    let stat = extent.stat()?;
    Ok(Stamp {
        size: stat.size,
        mtime: stat.mtime,
    })
}
