//! stat, chmod, chown, utimens.

use journal::{Ino, Inode, Kind, SetAttr, Timestamp};

use super::{Attributes, Caller, Result, Vfs, extent_id, now};

/// Files up to this size are shown as having no holes: asking costs more than it tells.
const DENSE_BYTES_MAX: u64 = 128 << 10;

/// The changes that one setattr asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributes {
    /// Permission bits (07777).
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<Timestamp>,
    /// Modification time.
    pub mtime: Option<Timestamp>,
}

impl Vfs {
    /// stat(2).
    pub async fn attributes(&self, ino: Ino) -> Result<Attributes> {
        self.check_watched(ino).await?;
        let inode = self.inode(ino).await?;
        self.attributes_of(&inode)
    }

    /// The attributes of an inode just read: from its extent file while somebody writes it, or reads a version that
    /// has been replaced in the store. Who has it open shares size and pages with all others.
    pub(super) fn attributes_of(&self, inode: &Inode) -> Result<Attributes> {
        match self.inner.opens.get(inode.ino) {
            Some(file) if file.extents.id() != extent_id(inode) => {
                Ok(Attributes::of_older(inode, &file.extents.stat()?))
            }
            Some(file) if file.has_writers() => {
                let seen = file.look()?;
                let changed = file.changed(&seen);
                let mut attributes = Attributes::of_open(inode, &seen.stat, changed);
                attributes.mode = self.present_mode(inode, &file)?;
                Ok(attributes)
            }
            _ => self.attributes_of_closed(inode),
        }
    }

    fn attributes_of_closed(&self, inode: &Inode) -> Result<Attributes> {
        let mut attributes = Attributes::of(inode);
        // What is in the store counts as data; of what is only here, the extent file knows the holes.
        if inode.kind == Kind::File && inode.size > DENSE_BYTES_MAX && inode.content.valid == 0 {
            let local = self.extents().allocated_bytes(extent_id(inode))?;
            attributes.blocks = local.div_ceil(512);
        }
        Ok(attributes)
    }

    /// chmod(2), chown(2), truncate(2), utimensat(2), in one call as the kernel sends them.
    pub async fn set_attributes(
        &self,
        ino: Ino,
        set: SetAttributes,
        caller: Caller,
    ) -> Result<Attributes> {
        self.writable()?;
        self.learn_before_use(ino).await?;
        self.check_watched(ino).await?;
        if let Some(size) = set.size {
            self.truncate(ino, size).await?;
            self.changed_by(ino, caller).await?;
        }
        let sets_times = set.atime.is_some() || set.mtime.is_some();
        let changes_owner = set.uid.is_some() || set.gid.is_some();
        // A chown(-1, -1), which does all that chown does but change the owner.
        let nothing = !changes_owner && set.mode.is_none() && set.size.is_none() && !sets_times;
        let is_chown = changes_owner || nothing;
        let mode = match set.mode {
            None if is_chown => self.mode_after_chown(ino, nothing, caller).await?,
            mode => mode,
        };
        let change = SetAttr {
            mode,
            uid: set.uid,
            gid: set.gid,
            size: None,
            atime: set.atime,
            mtime: set.mtime,
            ..SetAttr::default()
        };
        if set.mode.is_some() || is_chown || sets_times {
            let slot = self.inner.opens.slot(ino);
            let changed = {
                let _gate = slot.gate.lock().await;
                self.change_gated(&slot, ino, change).await
            };
            self.inner.opens.put(ino, slot);
            changed?;
            self.flusher().wake();
        }
        self.attributes(ino).await
    }

    /// What was written so far is recorded before a program sets the times by hand: the writes
    /// must count as a change, and the times must stay as set (cp -p sets them before it closes).
    async fn change_gated(
        &self,
        slot: &super::open_table::Slot,
        ino: Ino,
        change: SetAttr,
    ) -> Result<Inode> {
        let written = slot.open_file().filter(|file| file.has_writers());
        if let (Some(file), Some(_)) = (&written, change.mtime) {
            self.settle_gated(file, false).await?;
        }
        let sets_mtime = change.mtime.is_some();
        let inode = self.journal().set_attr(ino, change, now()).await?;
        if let (Some(file), true) = (&written, sets_mtime) {
            self.match_times(file, &inode)?;
        }
        if change.mode.is_some() || sets_mtime {
            self.watch(&inode, slot.open_file().as_deref())?;
        }
        Ok(inode)
    }
}
