//! Set-user-ID and set-group-ID bits go when somebody changes the file who may not set them.
//!
//! The kernel leaves that to us (FUSE_HANDLE_KILLPRIV_V2). Otherwise it would ask before every single
//! write whether the file has capabilities, also in passthrough mode: 15 us instead of 2.5 for 4 KiB. So:
//!
//! | what happens | whose bits go |
//! |---|---|
//! | chown(2) | everybody's |
//! | write through the daemon | the kernel says so with the request |
//! | truncate, O_TRUNC, fallocate, copy_file_range | unless the caller has CAP_FSETID |
//! | write by passthrough | a file with such bits is not opened so, but it may get them while it is open |
//!
//! In that last case the file is *watched*: size and time of its extent file are noted with the chmod, and
//! whoever looks at its attributes afterwards, or closes it, finds out whether it was written since, by
//! whomever.
//! That is soon enough: a file that is open for writing can't be executed (ETXTBSY), closing it comes here
//! first, and executing it asks for its attributes anew, since the kernel is told not to keep those of
//! files with such bits ([`Attributes::is_set_id`]).

use std::collections::HashMap;

use journal::{Ino, Inode, Kind, SetAttr, Timestamp};
use parking_lot::Mutex;

use super::open_table::{Mode, OpenFile};
use super::{Attributes, Caller, Result, Vfs, attributes, now};

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o010;

/// Files that got such bits while the kernel writes by itself. A lock for moments, before those of the open
/// files' table.
#[derive(Default)]
pub struct Watched {
    files: Mutex<HashMap<Ino, Version>>,
}

/// What tells whether a file was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    size: u64,
    mtime: Timestamp,
}

/// The bits that go. A set-group-ID bit without the group's execute bit is another thing, and stays.
fn clears(mode: u32) -> u32 {
    match mode & (SET_GROUP_ID | GROUP_EXECUTES) == SET_GROUP_ID | GROUP_EXECUTES {
        true => mode & (SET_USER_ID | SET_GROUP_ID),
        false => mode & SET_USER_ID,
    }
}

impl Attributes {
    /// Whether the kernel must not rely on its memory of these.
    pub fn is_set_id(&self) -> bool {
        self.kind == Kind::File && clears(self.mode) != 0
    }
}

impl Vfs {
    /// The caller has changed the bytes of a file: the bits go, unless it may keep them.
    pub async fn changed_by(&self, ino: Ino, caller: Caller) -> Result<()> {
        let inode = self.inode(ino).await?;
        match inode.kind == Kind::File && clears(inode.mode) != 0 && !caller.keeps_set_id() {
            true => self.clear_set_id(&inode).await,
            false => Ok(()),
        }
    }

    /// Somebody who may not keep the bits is about to write.
    pub async fn written_by_others(&self, ino: Ino) -> Result<()> {
        let inode = self.inode(ino).await?;
        match clears(inode.mode) != 0 {
            true => self.clear_set_id(&inode).await,
            false => Ok(()),
        }
    }

    async fn clear_set_id(&self, inode: &Inode) -> Result<()> {
        let change = SetAttr {
            mode: Some(inode.mode & !clears(inode.mode)),
            ..SetAttr::default()
        };
        self.journal().set_attr(inode.ino, change, now()).await?;
        self.inner.parts.invalidate.inode(inode.ino);
        self.flusher().wake();
        Ok(())
    }

    /// The mode that chown(2) leaves, if it is another one. The kernel has checked who may change the owner. Of
    /// whoever changes none (`nothing`) it has not, nor does it tell such a call from a write by others: their bits
    /// stay here.
    pub(super) async fn mode_after_chown(
        &self,
        ino: Ino,
        nothing: bool,
        caller: Caller,
    ) -> Result<Option<u32>> {
        let inode = self.inode(ino).await?;
        let clears = clears(inode.mode);
        let changes = inode.kind != Kind::Directory
            && clears != 0
            && (!nothing || caller.may_act_for(inode.uid));
        Ok(changes.then_some(inode.mode & !clears))
    }

    /// A mode or a time was set, of a file that may be open in passthrough mode: from here on, a write
    /// shows.
    pub(super) fn watch(&self, inode: &Inode, open: Option<&OpenFile>) -> Result<()> {
        let open = open.filter(|file| file.mode == Mode::Passthrough && clears(inode.mode) != 0);
        let version = open.map(version).transpose()?;
        let mut files = self.inner.watched.files.lock();
        match version {
            Some(version) => files.insert(inode.ino, version),
            None => files.remove(&inode.ino),
        };
        Ok(())
    }

    /// Whether a watched file that is open was written since it got its bits.
    fn was_written(&self, open: &OpenFile) -> Result<bool> {
        let watched = self.inner.watched.files.lock().get(&open.ino).copied();
        match watched {
            Some(watched) => Ok(version(open)? != watched),
            None => Ok(false),
        }
    }

    /// The bits that an open file still has.
    pub(super) fn present_mode(&self, inode: &Inode, open: &OpenFile) -> Result<u32> {
        match self.was_written(open)? {
            true => Ok(inode.mode & !clears(inode.mode)),
            false => Ok(inode.mode),
        }
    }

    /// Clears the bits of a watched file that was written. To be called before one is closed, and
    /// before its attributes are told.
    pub async fn check_watched(&self, ino: Ino) -> Result<()> {
        let Some(open) = self.inner.opens.get(ino) else {
            return Ok(());
        };
        if self.was_written(&open)? {
            let inode = self.inode(ino).await?;
            self.clear_set_id(&inode).await?;
            self.inner.watched.files.lock().remove(&ino);
        }
        Ok(())
    }

    /// A file was closed: without opens, nothing can go unnoticed.
    pub fn unwatch_closed(&self, ino: Ino) {
        let mut files = self.inner.watched.files.lock();
        if !files.is_empty() && self.inner.opens.get(ino).is_none() {
            files.remove(&ino);
        }
    }
}

fn version(file: &OpenFile) -> Result<Version> {
    let stat = file.extents.stat()?;
    Ok(Version {
        size: stat.size,
        mtime: attributes::timestamp(stat.mtime),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_group_id_bit_that_nobody_executes_stays() {
        assert_eq!(clears(0o6755), 0o6000);
        assert_eq!(clears(0o6745), 0o4000);
        assert_eq!(clears(0o2755), 0o2000);
        assert_eq!(clears(0o2745), 0);
        assert_eq!(clears(0o1777), 0);
    }
}
