//! What stat(2) shows of a file: the journal's inode, corrected by its extent file while a writer
//! has it open (a passthrough write is known to the extent file alone until it is settled), or a reader an older version.

use extents::Stat;
use journal::{Ino, Inode, Kind, Timestamp};

/// The attributes of an inode as programs see them.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// Inode number.
    pub ino: Ino,
    /// File type.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky (07777).
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of device nodes.
    pub rdev: u32,
    /// Size in bytes.
    pub size: u64,
    /// Blocks of 512 bytes; what is only in the store counts as data.
    pub blocks: u64,
    /// Last access. Reads do not move it (as with `noatime`).
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
}

impl Attributes {
    /// Attributes of an inode that no writer has open.
    pub fn of(inode: &Inode) -> Self {
        Self {
            ino: inode.ino,
            kind: inode.kind,
            mode: inode.mode,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            rdev: inode.rdev,
            size: inode.size,
            blocks: inode.size.div_ceil(512),
            atime: inode.atime,
            mtime: inode.mtime,
            ctime: inode.ctime,
            btime: inode.btime,
        }
    }

    /// Attributes of an inode of which a program has the version before the present one open.
    pub fn of_older(inode: &Inode, stat: &Stat) -> Self {
        let mtime = timestamp(stat.mtime);
        Self {
            size: stat.size,
            blocks: stat.size.div_ceil(512),
            mtime,
            ..Self::of(inode)
        }
    }

    /// Attributes of an inode whose extent file may be ahead of the journal.
    pub fn of_open(inode: &Inode, stat: &Stat, changed: bool) -> Self {
        let mut attributes = Self::of(inode);
        attributes.size = stat.size;
        if changed {
            attributes.mtime = timestamp(stat.mtime);
            attributes.ctime = attributes.ctime.max(change_time(stat));
        }
        let local = stat.allocated_bytes.div_ceil(512);
        let elsewhere = inode.content.valid.div_ceil(512);
        attributes.blocks = local.max(elsewhere);
        attributes
    }
}

/// A `(seconds, nanoseconds)` pair of fstat(2) as a timestamp.
pub(crate) fn timestamp((secs, nanos): (i64, u32)) -> Timestamp {
    Timestamp { secs, nanos }
}

/// When the bytes of a file were changed last. Not its extent file's ctime, which our own work on it moves
/// as well; but a time set by hand may lie in the future.
pub(crate) fn change_time(stat: &Stat) -> Timestamp {
    timestamp(stat.mtime).min(super::now())
}
