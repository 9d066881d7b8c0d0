//! A file, directory or other node as the journal knows it.

use super::{Epoch, Ino, NodeId, Timestamp};
use serde::{Deserialize, Serialize};

/// What kind of node it is. Stored by position: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file; an object in the store.
    File,
    /// A directory; a prefix, and a marker object where the store has markers.
    Directory,
    /// A symbolic link; lives in the journal only.
    Symlink,
    /// A named pipe; lives in the journal only.
    Fifo,
    /// A socket; lives in the journal only.
    Socket,
    /// A character device; lives in the journal only.
    CharDevice,
    /// A block device; lives in the journal only.
    BlockDevice,
}

impl Kind {
    /// Whether the store can hold such a node. The others survive in the journal only.
    #[must_use]
    pub fn is_synced(self) -> bool {
        matches!(self, Kind::File | Kind::Directory)
    }
}

/// One inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inode {
    /// Its number.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, `07777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that lead to it; a directory has 2 and one more for each child directory. 0: unlinked.
    pub nlink: u32,
    /// Device number of a device node.
    pub rdev: u32,
    /// Length in bytes (of the target for a symlink).
    pub size: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the bytes.
    pub mtime: Timestamp,
    /// Last change of bytes or attributes.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
    /// A directory's parent; for others the parent of the first link (a hint, links are rows).
    pub parent: Ino,
    /// Bumped whenever something that travels on the object changed: mode, uid, gid, mtime, and the
    /// name (so that a flush that raced with a rename is not taken for the last word).
    pub meta_epoch: u64,
    /// The bytes; the default for everything that isn't a file, except that a directory keeps its
    /// origin here.
    pub content: Content,
}

impl Inode {
    /// The bytes here are not the bytes in the store.
    #[must_use]
    pub fn is_content_dirty(&self) -> bool {
        match &self.content.origin {
            Some(origin) => origin.epoch != self.content.epoch,
            None => true,
        }
    }

    /// The attributes or the name here are not those in the store.
    #[must_use]
    pub fn is_meta_dirty(&self) -> bool {
        match &self.content.origin {
            Some(origin) => origin.meta_epoch != self.meta_epoch,
            None => true,
        }
    }

    /// Nothing of it was ever changed here: a cached entry of the store's listing.
    #[must_use]
    pub fn is_only_cached(&self) -> bool {
        self.content.epoch == Epoch(0)
            && self.meta_epoch == 0
            && self.content.origin.is_some()
            && self.content.writer.is_none()
    }
}

/// Where a file's bytes are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Which extent file holds the bytes; bumped by a truncating open and when the store has a
    /// newer object.
    pub generation: u64,
    /// Version of the bytes; bumped by whatever changed them.
    pub epoch: Epoch,
    /// A node that has it open for writing.
    pub writer: Option<NodeId>,
    /// The object that holds this version or an older one.
    pub origin: Option<Origin>,
    /// Bytes in `[0, valid)` that are not resident locally come from the origin; beyond it a hole
    /// is zero.
    pub valid: u64,
    /// What is known of the extent file, for recovery after a power cut.
    pub seal: Option<Seal>,
    /// Mode, owner and times were read from the object itself; a listing does not have them.
    pub learned: bool,
}

/// The object that a file came from or went to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its key, relative to the store URL.
    pub key: String,
    /// Its ETag exactly as the store says it, where the store has them.
    pub etag: Option<String>,
    /// Its length in bytes.
    pub size: u64,
    /// Which version of the bytes it holds.
    pub epoch: Epoch,
    /// Which version of the attributes it carries.
    pub meta_epoch: u64,
    /// When we last knew for sure that the store has it so.
    pub checked: Timestamp,
}

/// How a dirty extent file can be judged after a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seal {
    /// What it looked like when it was last closed: if it still does, nothing was lost.
    Closed {
        /// Length in bytes.
        size: u64,
        /// Digest of its map of holes.
        map_digest: u64,
    },
    /// It was fsynced since it was created or truncated: whatever is there counts, as on any local
    /// file system. Stays until the next truncating open.
    Synced,
    /// Closed, and known to be on the disk: it was found whole after a power cut.
    Survived {
        /// Length in bytes.
        size: u64,
        /// Digest of its map of holes.
        map_digest: u64,
    },
    /// The file had lost its last name, and no version of it survived a power cut: it is not to come back.
    Lost,
    /// It was fsynced, and changed since: as `Synced`, but not all of it is on the disk.
    Touched,
}

impl Seal {
    /// A power cut would leave this version whole.
    #[must_use]
    pub fn is_safe(self) -> bool {
        match self {
            Self::Closed { .. } | Self::Lost => false,
            Self::Synced | Self::Touched | Self::Survived { .. } => true,
        }
    }

    /// A program has fsynced it, or the daemon has: after a power cut whatever is there counts.
    #[must_use]
    pub fn is_fsynced(self) -> bool {
        matches!(self, Self::Synced | Self::Touched)
    }
}
