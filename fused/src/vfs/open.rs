//! Opening and closing regular files.
//!
//! The first open decides the mode: passthrough when the kernel can use the extent file alone
//! (every byte resident, no setuid or setgid bit), the daemon otherwise. Opening for writing marks
//! the inode as being written in the journal, so that a crash finds it; the last close of a writer
//! records what became of it in one transaction, and wakes the flusher.

use std::sync::Arc;
use std::time::Duration;

use extents::{ExtentFile, ExtentId};
use journal::{EndWrite, Ino, Inode, Kind, NewInode, Seal, Timestamp};
use nix::errno::Errno;

use super::changes::{Agreed, Seen};
use super::open_table::{Mode, OpenFile, Slot};
use super::{Attributes, Result, Vfs, attributes, extent_id, former_id, next_generation, now};

/// The flags of open(2) that matter here.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenRequest {
    /// O_WRONLY or O_RDWR.
    pub writes: bool,
    /// O_TRUNC.
    pub truncate: bool,
    /// O_EXCL.
    pub exclusive: bool,
}

/// An open file, as the front needs it.
pub struct Opened {
    /// Names this open in later calls.
    pub handle: u64,
    /// The extent file and who uses it.
    pub file: Arc<OpenFile>,
}

/// setuid and setgid: the kernel must be able to drop them at a write, so no passthrough.
const SET_ID_BITS: u32 = 0o6000;

/// How long a truncating open waits for the close before it. The kernel sends it right after close(2).
const RELEASE_WAIT: Duration = Duration::from_millis(20);

impl Vfs {
    /// open(2) of an existing regular file.
    pub async fn open(&self, ino: Ino, request: OpenRequest) -> Result<Opened> {
        self.learn_before_use(ino).await?;
        let opened = self.open_unnoticed(ino, request).await?;
        opened.file.use_it();
        self.inner.space.tenants.opened(ino);
        if !request.writes && !request.truncate {
            self.foresee_files(&opened.file);
        }
        Ok(opened)
    }

    /// Opens a file once more, in another mode. It may have been truncated, so it waits for nothing.
    pub async fn reopen(&self, opened: Opened, request: OpenRequest) -> Result<Opened> {
        let ino = opened.file.ino;
        self.release(opened.handle).await?;
        drop(opened);
        let again = OpenRequest {
            truncate: false,
            ..request
        };
        let reopened = self.open_at_once(ino, again).await?;
        reopened.file.use_it();
        self.inner.space.tenants.opened(ino);
        Ok(reopened)
    }

    /// The same for ourselves: it tells nothing of what programs use.
    pub(super) async fn open_unnoticed(&self, ino: Ino, request: OpenRequest) -> Result<Opened> {
        if request.writes || request.truncate {
            self.writable()?;
            self.wait_for_space().await?;
        }
        self.open_at_once(ino, request).await
    }

    async fn open_at_once(&self, ino: Ino, request: OpenRequest) -> Result<Opened> {
        let slot = self.inner.opens.slot(ino);
        let opened = async {
            if request.truncate {
                self.await_release(&slot, ino).await?;
            }
            let _gate = slot.gate.lock().await;
            self.open_gated(&slot, ino, request).await
        };
        let opened = opened.await;
        self.inner.opens.put(ino, slot);
        opened
    }

    async fn open_gated(&self, slot: &Slot, ino: Ino, request: OpenRequest) -> Result<Opened> {
        if let Some(file) = slot.open_file() {
            return self.open_again(slot, file, request).await;
        }
        let mut inode = self.inode(ino).await?;
        match inode.kind {
            Kind::File => {}
            Kind::Directory => return Err(Errno::EISDIR.into()),
            _ => return Err(Errno::EINVAL.into()),
        }
        let mut local = None;
        if !request.truncate {
            inode = self.revalidate(inode).await?;
            (inode, local) = self.local(inode).await?;
        }
        let mut prepared_extents = None;
        if request.writes || request.truncate {
            (inode, prepared_extents) = self.begin_writing(&inode, request.truncate).await?;
        } else if let Some(extents) = &local {
            self.secure_before_reading(&inode, extents).await?;
        }
        let prepared = self.prepare(&inode, prepared_extents);
        drop(local);
        let file = match prepared {
            Ok(file) => file,
            Err(error) => {
                self.abandon_write(ino, request.writes || request.truncate)
                    .await;
                return Err(error);
            }
        };
        let handle = self.inner.opens.opened(slot, file.clone(), request.writes);
        if request.truncate && !request.writes {
            // O_RDONLY|O_TRUNC truncates, and nobody will close a writer.
            self.settle_gated(&file, true).await?;
        }
        Ok(Opened { handle, file })
    }

    /// Marks a file as being written. What it had before goes, unless that is kept until what comes is safe.
    ///
    /// A truncation makes a new extent file, which is returned. All that could fail for want of space comes before
    /// the journal's transaction: an open that is refused must leave the old content.
    async fn begin_writing(
        &self,
        inode: &Inode,
        truncate: bool,
    ) -> Result<(Inode, Option<Arc<ExtentFile>>)> {
        let (journal, node) = (self.journal(), self.inner.parts.node);
        let former = match truncate {
            true => journal.former(node, inode.ino).await?,
            false => None,
        };
        let at = now();
        let emptied = truncate.then(|| next_generation(extent_id(inode)));
        let made = emptied.map(|id| self.make_empty(id, at)).transpose()?;
        let begun = match journal.begin_write(inode.ino, node, truncate, at).await {
            Ok(begun) => begun,
            Err(error) => {
                drop(made);
                self.forget_extents(emptied);
                return Err(error.into());
            }
        };
        let made = match made {
            Some(made) if made.id() == extent_id(&begun) => Some(made),
            // Others replaced it in the store meanwhile.
            _ => {
                self.forget_extents(emptied);
                None
            }
        };
        let kept = match truncate {
            true => journal.former(node, inode.ino).await,
            false => Ok(None),
        };
        match kept {
            Ok(kept) => {
                let needed = [Some(extent_id(&begun)), kept.as_ref().map(former_id)];
                for before in [Some(extent_id(inode)), former.as_ref().map(former_id)] {
                    if let Some(id) = before.filter(|_| !needed.contains(&before)) {
                        self.inner.reaper.remove_extents(id);
                    }
                }
                if kept.is_some() {
                    self.inner.reaper.look();
                }
            }
            Err(error) => {
                tracing::error!(ino = %inode.ino, %error, "what it had before stays until the next start");
            }
        }
        Ok((begun, made))
    }

    /// An empty extent file as of `at`.
    fn make_empty(&self, id: ExtentId, at: Timestamp) -> Result<Arc<ExtentFile>> {
        let made = self.extents().open_or_create(id)?;
        if let Err(error) = made.set_mtime((at.secs, at.nanos)) {
            drop(made);
            self.forget_extents(Some(id));
            return Err(error.into());
        }
        Ok(made)
    }

    /// Takes back an extent file that nobody has heard of.
    pub(super) fn forget_extents(&self, id: Option<ExtentId>) {
        let removed = id.map(|id| self.extents().remove(id)).transpose();
        if let Err(error) = removed {
            tracing::error!(%error, "an extent file that is nobody's stays until the next start");
        }
    }

    /// The last close of whoever had it open may still be on its way to us. A complete version can only be kept
    /// from being truncated in place when nobody has it open any more.
    async fn await_release(&self, slot: &Slot, ino: Ino) -> Result<()> {
        let closed = slot.closed.notified();
        tokio::pin!(closed);
        closed.as_mut().enable();
        if slot.open_file().is_none() {
            return Ok(());
        }
        let inode = self.inode(ino).await?;
        let is_complete = |seal| !matches!(seal, Seal::Closed { size: 0, .. } | Seal::Lost);
        if inode.is_content_dirty() && inode.content.seal.is_some_and(is_complete) {
            // Somebody keeps it open, if it takes that long.
            let _ = tokio::time::timeout(RELEASE_WAIT, closed).await;
        }
        Ok(())
    }

    /// The extent file of a file that nobody has open, and the inode as it then is.
    ///
    /// One that should be there may be gone: a power cut takes the name of one that nobody synced, and somebody may
    /// remove it. Zeros must not pass for its bytes: they are fetched from the object, or the answer is EIO.
    pub(super) async fn local(&self, inode: Inode) -> Result<(Inode, Option<Arc<ExtentFile>>)> {
        let ino = inode.ino;
        let local = self.extents().open_file(extent_id(&inode))?;
        if local.is_some() || inode.size <= inode.content.valid {
            return Ok((inode, local));
        }
        let (epoch, generation) = (inode.content.epoch, inode.content.generation);
        if self.journal().evicted(ino, epoch, generation).await? {
            tracing::info!(%ino, "its extent file is not here; its bytes are the object's");
            return Ok((self.inode(ino).await?, None));
        }
        tracing::error!(%ino, extents = %extent_id(&inode), "its extent file is gone, and no object has its bytes");
        Err(Errno::EIO.into())
    }

    /// A further open of an inode that is open: same mode, same extent file.
    async fn open_again(
        &self,
        slot: &Slot,
        file: Arc<OpenFile>,
        request: OpenRequest,
    ) -> Result<Opened> {
        let ino = file.ino;
        if request.writes && !file.has_writers() {
            let inode = self
                .journal()
                .begin_write(ino, self.inner.parts.node, false, now())
                .await?;
            if extent_id(&inode) != file.extents.id() {
                // The store has another version by now, and readers still hold the old one open. What would be
                // written into that one's extents would be nobody's.
                tracing::warn!(%ino, "not opened for writing: a program still reads the version before this one");
                self.abandon_write(ino, true).await;
                return Err(Errno::ESTALE.into());
            }
        }
        if request.truncate
            && let Err(error) = self.begin_again(&file).await
        {
            let first_writer = request.writes && !file.has_writers();
            self.abandon_write(ino, first_writer).await;
            return Err(error);
        }
        let handle = self.inner.opens.opened(slot, file.clone(), request.writes);
        Ok(Opened { handle, file })
    }

    /// Reading fetches what is missing of a file into its holes. Recovery judges a file that was only closed by its
    /// map of holes, and would take it for a torn one after a power cut.
    async fn secure_before_reading(&self, inode: &Inode, extents: &ExtentFile) -> Result<()> {
        let judged_by_map = matches!(
            inode.content.seal,
            Some(Seal::Closed { .. } | Seal::Survived { .. })
        );
        if inode.is_content_dirty() && judged_by_map && !extents.is_resident(inode.content.valid) {
            extents.sync_data().await?;
            self.seal_synced(inode).await?;
            self.journal().sync().await?;
        }
        Ok(())
    }

    /// The extent file, unless there is one already, and mode for the first open of `inode`.
    fn prepare(&self, inode: &Inode, extents: Option<Arc<ExtentFile>>) -> Result<Arc<OpenFile>> {
        let extents = match extents {
            Some(extents) => extents,
            None => self.extents().open_or_create(extent_id(inode))?,
        };
        let mut stat = extents.stat()?;
        if stat.size != inode.size {
            // A truncation that a crash interrupted, or a file that is only in the store so far.
            extents.truncate(inode.size)?;
        }
        let mtime = (inode.mtime.secs, inode.mtime.nanos);
        let mut has_its_time = true;
        if stat.size != inode.size || stat.mtime != mtime {
            // What is fetched, evicted or made anew here is no change of the file.
            if let Err(error) = extents.set_mtime(mtime) {
                // A quota that is used up refuses this, too. The daemon's own times do as well.
                tracing::warn!(ino = %inode.ino, %error, "not opened for the kernel to read and write by itself");
                has_its_time = false;
            }
            stat = extents.stat()?;
        }
        let passthrough = has_its_time
            && self.may_pass_through(inode)
            && extents.is_resident(inode.content.valid);
        let mode = match passthrough {
            true => Mode::Passthrough,
            false => Mode::Daemon,
        };
        let agreed = Agreed::with(&Seen { stat, changes: 0 }, now());
        let flights = self.inner.fetcher.flights_of(extents.id());
        let file = OpenFile::new(inode, mode, extents, agreed);
        Ok(Arc::new(file.with_flights(flights)))
    }

    fn may_pass_through(&self, inode: &Inode) -> bool {
        self.inner
            .passthrough
            .load(std::sync::atomic::Ordering::Relaxed)
            && inode.mode & SET_ID_BITS == 0
    }

    /// creat(2): makes the file and opens it.
    pub async fn create(
        &self,
        parent: Ino,
        name: &[u8],
        new: NewInode,
        request: OpenRequest,
    ) -> Result<(Attributes, Opened)> {
        self.writable()?;
        self.wait_for_space().await?;
        self.check_name(parent, name).await?;
        let new = NewInode {
            writer: Some(self.inner.parts.node),
            ..new
        };
        let inode = match self.journal().create(parent, name, new, now()).await {
            // The kernel believed that there was none: with ESTALE it looks again, and opens this one.
            Err(journal::Error::Exists { .. }) if !request.exclusive => {
                return Err(Errno::ESTALE.into());
            }
            created => created?,
        };
        self.file_created(inode.ino);
        let slot = self.inner.opens.slot(inode.ino);
        let created = {
            let _gate = slot.gate.lock().await;
            self.create_gated(&slot, &inode, request).await
        };
        self.inner.opens.put(inode.ino, slot);
        match created {
            Ok(opened) => Ok((Attributes::of(&inode), opened)),
            Err(error) => {
                if let Err(undo) = self.take_back(parent, name, inode.ino).await {
                    tracing::error!(ino = %inode.ino, %undo, "cannot take back a failed create");
                }
                Err(error)
            }
        }
    }

    /// The name of a failed create must not stay behind: the caller was told that nothing was made.
    /// If somebody has put another file in its place meanwhile, that one is not ours to remove.
    async fn take_back(&self, parent: Ino, name: &[u8], ino: Ino) -> Result<()> {
        let there = self.journal().lookup(parent, name).await?;
        if there.is_some_and(|there| there.ino == ino) {
            self.journal().unlink(parent, name, now()).await?;
            self.inner.reaper.orphan(ino, false);
        }
        Ok(())
    }

    async fn create_gated(
        &self,
        slot: &Slot,
        inode: &Inode,
        request: OpenRequest,
    ) -> Result<Opened> {
        let extents = match self.extents().create(extent_id(inode)) {
            Err(error) if error.errno() == Errno::EEXIST as i32 => {
                // Somebody found the new name and was faster.
                let writes = OpenRequest {
                    writes: true,
                    ..request
                };
                return self.open_gated(slot, inode.ino, writes).await;
            }
            created => created?,
        };
        let stat = extents.stat()?;
        let mode = match self.may_pass_through(inode) {
            true => Mode::Passthrough,
            false => Mode::Daemon,
        };
        let agreed = Agreed::created(&Seen { stat, changes: 0 });
        let file = Arc::new(OpenFile::new(inode, mode, extents, agreed));
        // Even O_RDONLY|O_CREAT counts as a writer: its close ends the write that `create` began.
        let handle = self.inner.opens.opened(slot, file.clone(), true);
        Ok(Opened { handle, file })
    }

    /// close(2) of one descriptor: what was written is recorded, and survives a crash of the
    /// daemon, or of the machine where the store is waited for. The last word is at [`Vfs::release`].
    pub async fn flush(&self, handle: u64) -> Result<()> {
        let handle = self.inner.opens.handle(handle).ok_or(Errno::EBADF)?;
        if !handle.writes {
            return Ok(());
        }
        let rule = self.rule_of(handle.file.ino).await?;
        let waits = rule.map(|rule| rule.close_waits_for_store);
        match waits.unwrap_or(self.inner.config.close_waits_for_store) {
            true => self.flush_to_store(handle.file.ino).await,
            false => self.settle(&handle.file).await,
        }
    }

    /// The last descriptor of an open is gone.
    pub async fn release(&self, handle: u64) -> Result<()> {
        let file = self.inner.opens.handle(handle).ok_or(Errno::EBADF)?.file;
        // What readers have had already is here for the next open.
        file.fetch.flights.stored().await;
        let ino = file.ino;
        drop(file);
        let slot = self.inner.opens.slot(ino);
        let released = {
            let _gate = slot.gate.lock().await;
            self.release_gated(&slot, handle).await
        };
        self.inner.opens.put(ino, slot);
        if self.inner.opens.get(ino).is_none() {
            self.begin_time(ino).await?;
        }
        released
    }

    async fn release_gated(&self, slot: &Slot, handle: u64) -> Result<()> {
        let Some(closed) = self.inner.opens.closed(slot, handle) else {
            return Err(Errno::EBADF.into());
        };
        let file = &closed.file;
        let ended = match closed.last_writer {
            true => {
                let ended = self.settle_gated(file, true).await;
                if file.take_needs_writeback() {
                    // The journal has the size; let the bytes follow to the disk now, not in 30 s.
                    file.extents.start_writeback(0..u64::MAX);
                }
                self.flusher().wake();
                ended
            }
            false => Ok(()),
        };
        if closed.last {
            // Without it, the next census knows what it takes.
            if let Ok(stat) = file.extents.stat() {
                let tenants = &self.inner.space.tenants;
                tenants.closed(file.ino, stat.allocated_bytes);
            }
            self.inner.reaper.closed(file.ino);
            self.reader_has_left(file);
        }
        ended
    }

    /// Records what was written to an open file so far.
    pub async fn settle(&self, file: &Arc<OpenFile>) -> Result<()> {
        let slot = self.inner.opens.slot(file.ino);
        let settled = {
            let _gate = slot.gate.lock().await;
            self.settle_gated(file, false).await
        };
        self.inner.opens.put(file.ino, slot);
        settled
    }

    /// Records what open files hold, at the end of a session that some programs did not wait for.
    /// They stay marked as being written: the kernel lets passthrough writers go on without us, and
    /// the next start takes what their extent files hold then.
    pub async fn settle_all(&self) {
        for file in self.inner.opens.written() {
            if let Err(error) = self.settle(&file).await {
                tracing::error!(ino = %file.ino, %error, "cannot record an open file; recovery will");
            }
        }
    }

    pub(super) async fn settle_gated(&self, file: &OpenFile, close: bool) -> Result<()> {
        let seen = file.look()?;
        let changed = file.changed(&seen);
        if !changed && !close {
            return Ok(());
        }
        // What readers fetch into holes from here on is not to be taken for what a power cut has torn.
        let is_to_be_filled = changed && file.is_left_to_readers() && self.needs_fetch(file);
        let seal = match changed {
            true if is_to_be_filled => {
                file.extents.sync_data().await?;
                Some(Seal::Synced)
            }
            true => {
                let seal = file.extents.seal()?;
                Some(Seal::Closed {
                    size: seal.size,
                    map_digest: seal.map_digest,
                })
            }
            false => None,
        };
        let end = EndWrite {
            size: seen.stat.size,
            mtime: attributes::timestamp(seen.stat.mtime),
            changed,
            close,
            seal,
        };
        let ctime = match changed {
            true => attributes::change_time(&seen.stat),
            false => now(),
        };
        self.journal()
            .end_write(file.ino, self.inner.parts.node, end, ctime)
            .await?;
        if changed {
            file.settled(&seen);
        }
        if is_to_be_filled {
            self.journal().sync().await?;
        }
        Ok(())
    }

    /// Records what passthrough writers wrote so far.
    pub async fn settle_open(&self) -> Result<()> {
        for file in self.inner.opens.written() {
            self.settle(&file).await?;
        }
        Ok(())
    }

    /// Takes back a `begin_write` whose open failed.
    async fn abandon_write(&self, ino: Ino, begun: bool) {
        if !begun {
            return;
        }
        let ended = async {
            let inode = self.inode(ino).await?;
            self.end_unbegun_write(&inode).await
        };
        if let Err(error) = ended.await {
            tracing::error!(%ino, %error, "cannot end a write that did not begin; recovery will");
        }
    }

    /// Nothing has been written since the file was opened for it.
    pub(super) async fn end_unbegun_write(&self, inode: &Inode) -> Result<()> {
        let end = EndWrite {
            size: inode.size,
            mtime: inode.mtime,
            changed: false,
            close: true,
            seal: inode.content.seal,
        };
        self.journal()
            .end_write(inode.ino, self.inner.parts.node, end, inode.ctime)
            .await?;
        Ok(())
    }
}
