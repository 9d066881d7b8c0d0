//! Bytes: read, write, truncate, allocate, copy, sync.
//!
//! In passthrough mode the kernel reads and writes by itself; what still comes here is fsync,
//! truncation, fallocate, SEEK_DATA and copy_file_range, and they act on the same extent file.

use std::sync::Arc;

use bytes::Bytes;
use extents::SeekTo;
use journal::{EndWrite, Ino, Inode, Seal, SetAttr};
use nix::errno::Errno;
use nix::libc;

use super::changes::Seen;
use super::open_table::{Handle, OpenFile, Slot};
use super::{Result, Vfs, attributes, extent_id, now};

/// The most that one copy_file_range(2) copies: before it, both ranges are fetched.
const COPY_BYTES_MAX: u64 = 64 << 20;

impl Vfs {
    fn handle(&self, handle: u64) -> Result<Handle> {
        Ok(self.inner.opens.handle(handle).ok_or(Errno::EBADF)?)
    }

    /// Reads up to `len` bytes at `offset`; short at the end of the file.
    pub async fn read(&self, handle: u64, offset: u64, len: usize) -> Result<Bytes> {
        let file = self.handle(handle)?.file;
        let here = Arc::clone(&file.residency).read_owned().await;
        if self.needs_fetch(&file) {
            return self.read_cold(&file, here, offset, len).await;
        }
        Ok(file.extents.read_hot(offset, len).await?)
    }

    /// Writes all of `data` at `offset`, if that needs nothing from the store; `None` if it does.
    pub fn write_resident(&self, handle: u64, offset: u64, data: &[u8]) -> Option<Result<()>> {
        let handle = match self.handle(handle) {
            Ok(handle) => handle,
            Err(error) => return Some(Err(error)),
        };
        let _here = handle.file.residency.try_read().ok()?;
        if self.needs_edges(&handle.file, offset, data.len() as u64) {
            return None;
        }
        Some(self.write_extents(&handle, offset, data))
    }

    /// Writes all of `data` at `offset`. What is not touched stays where it is, in the store.
    pub async fn write(&self, handle: u64, offset: u64, data: &[u8]) -> Result<()> {
        let handle = self.handle(handle)?;
        let _here = handle.file.residency.read().await;
        self.fetch_edges(&handle.file, offset, data.len() as u64)
            .await?;
        self.write_extents(&handle, offset, data)
    }

    fn write_extents(&self, handle: &Handle, offset: u64, data: &[u8]) -> Result<()> {
        if !handle.writes {
            return Err(Errno::EBADF.into());
        }
        let written = handle.file.extents.write_at(offset, data);
        // After an error some of it may be there.
        handle.file.note_written();
        Ok(written?)
    }

    /// truncate(2) and ftruncate(2).
    pub async fn truncate(&self, ino: Ino, size: u64) -> Result<Inode> {
        self.writable()?;
        let slot = self.inner.opens.slot(ino);
        let truncated = {
            let _gate = slot.gate.lock().await;
            self.truncate_gated(&slot, ino, size).await
        };
        self.inner.opens.put(ino, slot);
        self.flusher().wake();
        truncated
    }

    /// The journal first, then the extent file: a crash between the two leaves an extent file that
    /// is cut to the journal's size when it is opened next. Where the extent file can't be cut, the journal
    /// takes it back: who is refused must find the file as it was.
    pub(super) async fn truncate_gated(&self, slot: &Slot, ino: Ino, size: u64) -> Result<Inode> {
        let open = slot.open_file();
        if let Some(file) = &open {
            self.settle_gated(file, false).await?;
        }
        let mut before = self.inode(ino).await?;
        if open.is_none() && size > 0 {
            (before, _) = self.local(before).await?;
        }
        let change = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        let inode = self.journal().set_attr(ino, change, now()).await?;
        self.resize(open, &before, &inode).await?;
        if let Err(error) = self.seal_truncated(&inode).await {
            // It is cut, whatever a power cut would make of it.
            tracing::warn!(%ino, %error, "a truncated file will be taken for whole after a power cut");
        }
        Ok(inode)
    }

    /// How a file that was cut is judged after a power cut, as at a close: many close without writing any more. Where
    /// nothing is left, or part of it is to be fetched, nothing tells what is missing.
    async fn seal_truncated(&self, inode: &Inode) -> Result<()> {
        if inode.size == 0 || inode.content.seal.is_some() {
            return Ok(());
        }
        let Some(extents) = self.extents().open_file(extent_id(inode))? else {
            return Ok(());
        };
        if extents.is_resident(inode.content.valid) {
            let extents::Seal { size, map_digest } = extents.seal()?;
            let (epoch, seal) = (inode.content.epoch, Seal::Closed { size, map_digest });
            self.journal().seal(inode.ino, epoch, seal).await?;
        }
        Ok(())
    }

    /// The extent file after the journal, which knew `before` and knows `inode` now.
    pub(super) async fn resize(
        &self,
        open: Option<Arc<OpenFile>>,
        before: &Inode,
        inode: &Inode,
    ) -> Result<()> {
        let (ino, size) = (inode.ino, inode.size);
        // Who still reads the version before this one, which others replaced in the store, goes on reading it.
        let open = open.filter(|file| file.extents.id() == extent_id(inode));
        let resized = match &open {
            Some(file) => file.resize(size),
            None => self.resize_closed(inode, size),
        };
        if let Err(error) = resized {
            self.take_back_resize(before, inode).await;
            return Err(error);
        }
        if let Some(file) = open
            && let Err(error) = self.match_times(&file, inode)
        {
            // It has the time of its truncation, which is as good.
            tracing::warn!(%ino, %error, "a truncated file keeps another time than the journal's");
        }
        Ok(())
    }

    fn resize_closed(&self, inode: &Inode, size: u64) -> Result<()> {
        // What is beyond the object's bytes is zeros, and those are the extent file's.
        let extents = match size > inode.content.valid {
            true => Some(self.extents().open_or_create(extent_id(inode))?),
            false => self.extents().open_file(extent_id(inode))?,
        };
        if let Some(extents) = extents {
            extents.truncate(size)?;
        }
        Ok(())
    }

    pub(super) async fn take_back_resize(&self, before: &Inode, resized: &Inode) {
        let ino = before.ino;
        match self.journal().undo_resize(before, resized, now()).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::error!(%ino, "a failed truncation stays: the file is another one by now")
            }
            Err(error) => tracing::error!(%ino, %error, "a failed truncation can't be taken back"),
        }
    }

    /// Gives the extent file the journal's mtime, and takes the two as agreed.
    pub(super) fn match_times(&self, file: &OpenFile, inode: &Inode) -> Result<()> {
        file.set_mtime(inode.mtime)
    }

    /// fsync(2): bytes, size and name survive a power cut once this returns.
    pub async fn fsync(&self, handle: u64) -> Result<()> {
        let file = self.handle(handle)?.file;
        self.fsync_file(&file).await?;
        if self.inner.config.fsync_waits_for_store {
            self.flush_to_store(file.ino).await?;
        }
        Ok(())
    }

    pub(super) async fn fsync_file(&self, file: &Arc<OpenFile>) -> Result<()> {
        let before = file.look()?;
        // Also a reader may ask that what somebody else wrote and closed be safe.
        let closed = match file.has_writers() {
            true => None,
            false => Some(self.inode(file.ino).await?.content.epoch),
        };
        file.extents.sync_data().await?;
        let slot = self.inner.opens.slot(file.ino);
        let recorded = {
            let _gate = slot.gate.lock().await;
            match closed.filter(|_| !file.has_writers()) {
                Some(epoch) => self.record_secured(file.ino, epoch).await,
                None => self.record_synced(file, before).await,
            }
        };
        self.inner.opens.put(file.ino, slot);
        recorded?;
        Ok(self.journal().sync().await?)
    }

    /// Records what was on the disk when the sync began. Later writes differ from it, and are
    /// settled by the next fsync or close.
    async fn record_synced(&self, file: &OpenFile, seen: Seen) -> Result<()> {
        let stat = &seen.stat;
        let end = EndWrite {
            size: stat.size.min(file.extents.stat()?.size),
            mtime: attributes::timestamp(stat.mtime),
            changed: file.changed(&seen),
            close: false,
            seal: Some(Seal::Synced),
        };
        if !file.has_writers() {
            return Ok(());
        }
        let ctime = attributes::change_time(stat);
        self.journal()
            .end_write(file.ino, self.inner.parts.node, end, ctime)
            .await?;
        file.settled(&seen);
        Ok(())
    }

    /// Waits until the present content of `ino` is an object in the store. That it is, and its names, also those of
    /// which the store knows nothing, survive a power cut then.
    pub async fn flush_to_store(&self, ino: Ino) -> Result<()> {
        if let Some(file) = self.inner.opens.get(ino) {
            self.settle(&file).await?;
        }
        let inode = self.inode(ino).await?;
        self.flusher().flush_now(&inode, None);
        if !self.flusher().wait_clean(ino, inode.content.epoch).await {
            // The flusher stops only with the daemon.
            return Err(Errno::EIO.into());
        }
        // Without the record of the upload a power cut that tears the local bytes would bring an earlier version back,
        // and that would replace the object.
        Ok(self.journal().sync().await?)
    }

    /// fsync(2) of a directory: the names in it survive a power cut.
    pub async fn fsync_directory(&self) -> Result<()> {
        Ok(self.journal().sync().await?)
    }

    /// fallocate(2), with the modes that the local file system has.
    pub async fn allocate(&self, handle: u64, mode: i32, offset: u64, len: u64) -> Result<()> {
        let handle = self.handle(handle)?;
        if !handle.writes {
            return Err(Errno::EBADF.into());
        }
        let file = &handle.file;
        let _here = file.residency.read().await;
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        if mode & !libc::FALLOC_FL_KEEP_SIZE == 0 {
            // An unwritten extent counts as resident.
            self.fetch_now(file, offset, len).await?;
            return allocated(file, mode, offset, len);
        }
        // These make holes that are zero: no byte there may come from the object afterwards.
        if !self.needs_fetch(file) {
            self.localize(file).await?;
            return allocated(file, mode, offset, len);
        }
        let valid = file.source.read().valid;
        let below = offset.min(valid)..end.min(valid);
        self.fetch_edges(file, below.start, below.end - below.start)
            .await?;
        let zeroed = file.extents.zero_range(below.clone());
        file.note_written();
        zeroed?;
        let start = below.end.max(offset);
        match end > start {
            true => allocated(file, mode, start, end - start),
            false => Ok(()),
        }
    }

    /// Parts a wholly resident file from its object.
    async fn localize(&self, file: &Arc<OpenFile>) -> Result<()> {
        if file.source.read().valid == 0 {
            return Ok(());
        }
        file.extents.sync_data().await?;
        let generation = file.extents.id().generation;
        self.journal().localized(file.ino, generation).await?;
        file.source.write().valid = 0;
        Ok(())
    }

    /// SEEK_DATA and SEEK_HOLE. What is only in the store is data.
    pub async fn seek(&self, handle: u64, offset: u64, to: SeekTo) -> Result<u64> {
        let file = self.handle(handle)?.file;
        let _here = file.residency.read().await;
        let size = file.extents.stat()?.size;
        if offset >= size {
            return Err(Errno::ENXIO.into());
        }
        if self.needs_fetch(&file) {
            return Ok(match to {
                SeekTo::Data => offset,
                SeekTo::Hole => size,
            });
        }
        Ok(file.extents.seek(offset, to)?.ok_or(Errno::ENXIO)?)
    }

    /// copy_file_range(2): in the kernel, by reflink where the local file system has it.
    pub async fn copy_range(&self, from: (u64, u64), to: (u64, u64), len: u64) -> Result<u64> {
        let source = self.handle(from.0)?.file;
        let target = self.handle(to.0)?;
        if !target.writes {
            return Err(Errno::EBADF.into());
        }
        // In the order of inodes, and never twice: an evictor may be waiting in between.
        let mut both = [&source, &target.file];
        both.sort_by_key(|file| file.ino);
        let _first = both[0].residency.read().await;
        let _second = match both[0].ino == both[1].ino {
            true => None,
            false => Some(both[1].residency.read().await),
        };
        // Programs go on after a short copy.
        let len = len.min(COPY_BYTES_MAX);
        self.fetch_now(&source, from.1, len).await?;
        self.fetch_now(&target.file, to.1, len).await?;
        let copied = source
            .extents
            .copy_range(from.1, &target.file.extents, to.1, len)
            .await;
        target.file.note_written();
        Ok(copied?)
    }
}

fn allocated(file: &OpenFile, mode: i32, offset: u64, len: u64) -> Result<()> {
    let allocated = file.extents.allocate(mode, offset, len);
    file.note_written();
    Ok(allocated?)
}
