//! stat, chmod, chown, utimens.
//!
//! The kernel clears set-user-ID and set-group-ID bits by itself where writing, truncating or chown(2)
//! must, by a chmod of its own before or with the change; but for O_TRUNC, see
//! [`Vfs::truncated_by_open`].

use journal::{Ino, Inode, Kind, SetAttr, Timestamp};

use super::{Attributes, Caller, Result, Vfs, now};

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
        let inode = self.inode(ino).await?;
        self.attributes_of(&inode)
    }

    /// The attributes of an inode just read: from its extent file while somebody writes it.
    pub(super) fn attributes_of(&self, inode: &Inode) -> Result<Attributes> {
        match self.inner.opens.get(inode.ino) {
            Some(file) if file.has_writers() => {
                Ok(Attributes::of_open(inode, &file.extents.stat()?))
            }
            _ => Ok(Attributes::of(inode)),
        }
    }

    /// chmod(2), chown(2), truncate(2), utimensat(2), in one call as the kernel sends them.
    pub async fn set_attributes(&self, ino: Ino, set: SetAttributes) -> Result<Attributes> {
        self.writable()?;
        if let Some(size) = set.size {
            self.truncate(ino, size).await?;
        }
        let change = SetAttr {
            mode: set.mode,
            uid: set.uid,
            gid: set.gid,
            size: None,
            atime: set.atime,
            mtime: set.mtime,
            ..SetAttr::default()
        };
        if set.mode.is_some()
            || set.uid.is_some()
            || set.gid.is_some()
            || set.atime.is_some()
            || set.mtime.is_some()
        {
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

    /// Clears the set-user-ID and set-group-ID bits of a file that was opened with O_TRUNC. The kernel
    /// leaves that to whoever truncates in the open itself. A set-group-ID bit without the group's
    /// execute bit is another thing, and stays.
    pub async fn truncated_by_open(&self, ino: Ino, caller: Caller) -> Result<()> {
        let inode = self.inode(ino).await?;
        let clears = match inode.mode {
            mode if mode & 0o2010 == 0o2010 => 0o6000,
            _ => 0o4000,
        };
        if inode.kind != Kind::File || inode.mode & clears == 0 || caller.keeps_set_id() {
            return Ok(());
        }
        let change = SetAttributes {
            mode: Some(inode.mode & !clears),
            ..SetAttributes::default()
        };
        self.set_attributes(ino, change).await?;
        self.inner.parts.invalidate.inode(ino);
        Ok(())
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
        Ok(inode)
    }
}
