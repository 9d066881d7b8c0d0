//! Giving up local bytes that the store has as well.
//!
//! Of a closed file the whole extent file goes: the journal begins a new generation, which is all in the
//! store, and the old one is removed once that is durable. A file that a program has open keeps its extent
//! file; in daemon mode it is punched, after the journal has durably said that its holes are the object's.
//! In passthrough mode the kernel uses the extent file alone, so nothing can be taken from it until the
//! last close. What is not in the store is never given up, nor is what is pinned.

use std::sync::Arc;
use std::time::Duration;

use extents::ExtentId;
use journal::{Ino, Inode, Kind};

use super::open_table::{Mode, OpenFile, Source};
use super::pins::Pinned;
use super::{Result, Vfs, extent_id};

/// How long the reads of an open file are waited for.
const READS_END_MAX: Duration = Duration::from_secs(1);

/// What became of a file's local bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// This extent file is not needed any more; to be removed once the journal is durable.
    Superseded {
        /// Which one.
        id: ExtentId,
        /// The file's size.
        bytes: u64,
    },
    /// The file is open; its extent file has been emptied.
    Emptied {
        /// The file's size.
        bytes: u64,
    },
    /// The store does not have this version.
    Dirty,
    /// It is to stay.
    Pinned,
    /// The kernel is using the extent file, a read takes long, a program reads a version that has been replaced in the
    /// store, or the flusher is making the file independent of its object.
    InUse,
    /// There was nothing.
    Nothing,
}

/// What [`Vfs::free`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Files whose local bytes were given up.
    pub files: u64,
    /// Their sizes.
    pub bytes: u64,
    /// Files kept because the store does not have them yet.
    pub dirty: u64,
    /// Files kept because they are being used.
    pub in_use: u64,
    /// Files kept because they are pinned.
    pub pinned: u64,
}

impl Vfs {
    /// Gives up the local bytes of what is in the store and chosen by its path, relative to the root.
    pub async fn free(&self, chosen: impl Fn(&[u8]) -> bool) -> Result<Freed> {
        let mut freed = Freed::default();
        let mut unneeded = Vec::new();
        let ids = self
            .extents()
            .list()
            .collect::<std::result::Result<Vec<_>, _>>()?;
        for id in ids {
            let ino = Ino(id.ino);
            let path = self.journal().path(ino).await?;
            if !path.is_some_and(|path| chosen(&path.join(&b'/'))) {
                continue;
            }
            match self.evict_even_open(ino).await? {
                Evicted::Superseded { id, bytes } => {
                    unneeded.push(id);
                    freed.files += 1;
                    freed.bytes += bytes;
                }
                Evicted::Emptied { bytes } => {
                    freed.files += 1;
                    freed.bytes += bytes;
                }
                Evicted::Dirty => freed.dirty += 1,
                Evicted::InUse => freed.in_use += 1,
                Evicted::Pinned => freed.pinned += 1,
                Evicted::Nothing => {}
            }
        }
        self.remove_all(unneeded).await?;
        Ok(freed)
    }

    /// Evicts a file that nobody has open.
    pub(super) async fn evict(&self, ino: Ino) -> Result<Evicted> {
        let slot = self.inner.opens.slot(ino);
        let evicted = {
            let _gate = slot.gate.lock().await;
            let hold = self.flusher().hold(ino);
            match slot.open_file() {
                _ if hold.is_none() => Ok(Evicted::InUse),
                Some(_) => Ok(Evicted::InUse),
                None => self.evict_closed(ino).await,
            }
        };
        self.inner.opens.put(ino, slot);
        evicted
    }

    async fn evict_even_open(&self, ino: Ino) -> Result<Evicted> {
        let slot = self.inner.opens.slot(ino);
        let evicted = {
            let _gate = slot.gate.lock().await;
            let hold = self.flusher().hold(ino);
            match slot.open_file() {
                _ if hold.is_none() => Ok(Evicted::InUse),
                Some(file) if file.mode == Mode::Passthrough => Ok(Evicted::InUse),
                Some(file) => self.evict_open(&file).await,
                None => self.evict_closed(ino).await,
            }
        };
        self.inner.opens.put(ino, slot);
        evicted
    }

    async fn evict_closed(&self, ino: Ino) -> Result<Evicted> {
        let Some(inode) = self.evictable(ino).await? else {
            return Ok(Evicted::Nothing);
        };
        if self.extents().standing(extent_id(&inode))?.is_none() {
            return Ok(Evicted::Nothing);
        }
        if self.pinned(ino).await? != Pinned::No {
            return Ok(Evicted::Pinned);
        }
        if !self
            .journal()
            .evicted(ino, inode.content.epoch, inode.content.generation)
            .await?
        {
            return Ok(Evicted::Dirty);
        }
        // The extent file of the generation that has just ended.
        Ok(Evicted::Superseded {
            id: extent_id(&inode),
            bytes: inode.size,
        })
    }

    /// Under the gate of the slot, so that the file stays open; nobody reads or writes it meanwhile.
    async fn evict_open(&self, file: &Arc<OpenFile>) -> Result<Evicted> {
        if self.pinned(file.ino).await? != Pinned::No {
            return Ok(Evicted::Pinned);
        }
        // Who reads from a store that does not answer may take a minute, and whoever comes after us waits for us.
        let alone = tokio::time::timeout(READS_END_MAX, file.residency.write());
        let Ok(_alone) = alone.await else {
            return Ok(Evicted::InUse);
        };
        let id = file.extents.id();
        let is_older = |inode: &Inode| extent_id(inode) != id;
        match self.evictable(file.ino).await? {
            None => return Ok(Evicted::Nothing),
            // Somebody replaced the object since it was opened. Its bytes are nowhere else any more, and those of the
            // present one must not come in their place.
            Some(inode) if is_older(&inode) => return Ok(Evicted::InUse),
            Some(_) => {}
        }
        self.settle_gated(file, false).await?;
        let inode = self.evictable(file.ino).await?;
        let Some(inode) = inode.filter(|inode| !is_older(inode)) else {
            return Ok(Evicted::InUse);
        };
        let epoch = inode.content.epoch;
        let evicted = self.journal().evicted_open(file.ino, epoch, id.generation);
        if !evicted.await? {
            return Ok(Evicted::Dirty);
        }
        *file.source.write() = Source {
            valid: inode.size,
            origin: inode.content.origin.clone(),
        };
        file.fetch.restart();
        // A hole must not come back as zeros: the journal has to say first whose it is.
        self.journal().sync().await?;
        file.extents.empty()?;
        // Punching counts as a change of the extent file; of the file it is none.
        self.match_times(file, &inode)?;
        Ok(Evicted::Emptied { bytes: inode.size })
    }

    async fn evictable(&self, ino: Ino) -> Result<Option<Inode>> {
        let inode = self.journal().inode(ino).await?;
        Ok(inode.filter(|inode| inode.kind == Kind::File))
    }
}
