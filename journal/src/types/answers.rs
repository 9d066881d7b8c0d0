//! What typed transactions answer.

use super::{Epoch, Ino, Inode, Kind, NodeId, Place, Seal, Timestamp};
use serde::{Deserialize, Serialize};

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Vec<u8>,
    /// What it names.
    pub ino: Ino,
    /// The kind of what it names.
    pub kind: Kind,
}

/// A daemon that mounts this file system, or has mounted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Which one.
    pub node: NodeId,
    /// Where it is, or was last.
    pub place: Place,
    /// When it mounted, by its own clock.
    pub since: Timestamp,
    /// When it last said that it is there, by its own clock.
    pub seen: Timestamp,
    /// It has not unmounted.
    pub mounted: bool,
}

/// A name was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The inode after the removal.
    pub inode: Inode,
    /// It was the last name; the inode waits for `reap`.
    pub last: bool,
}

/// A name was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// The inode that has the new name now.
    pub moved: Inode,
    /// What had the new name before and lost it.
    pub replaced: Option<Removed>,
    /// What has the old name now, after an exchange.
    pub exchanged: Option<Inode>,
}

/// An inode that lost its last name and waits for `reap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Which one.
    pub ino: Ino,
    /// It was replaced by a rename of this inode, whose bytes might not have survived a power cut
    /// then. Until they would, this one must stay: it is what `restore` brings back.
    pub spare_for: Option<Ino>,
}

/// A complete version of a file that a truncating open ended before the store had it. Its extent file stays
/// until the version after it would survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Former {
    /// The file.
    pub ino: Ino,
    /// Which extent file holds it.
    pub generation: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Bytes in `[0, valid)` that are not in the extent file were the object's.
    pub valid: u64,
    /// When it was ended.
    pub since: Timestamp,
    /// How it can be judged after a power cut.
    pub seal: Seal,
}

/// An inode whose state the store doesn't have yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsynced {
    /// Which one.
    pub ino: Ino,
    /// Order of becoming visible: stamped by creation, by each close that changed bytes, by
    /// truncation and by rename; not by changes of attributes.
    pub seq: u64,
    /// Stamped by every change; `settle` compares it.
    pub stamp: u64,
    /// Time of the oldest change that isn't in the store.
    pub since: Timestamp,
}

/// What the flusher has to make true for one inode; read at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The inode.
    pub inode: Inode,
    /// Its names from the root; `None` when unlinked.
    pub path: Option<Vec<Vec<u8>>>,
    /// Its unsynced row, if it has one on this node.
    pub unsynced: Option<Unsynced>,
}

/// Whether the store has the last word of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushOutcome {
    /// Nothing newer is here; the unsynced row is gone.
    Clean,
    /// Something changed meanwhile; the unsynced row stays.
    Newer,
}

/// A key that nobody here wants any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// The key to delete.
    pub key: String,
    /// The version that we knew; somebody else's newer one need not be deleted.
    pub etag: Option<String>,
    /// Not known to be there: something of ours was about to be put there, and nothing more was heard.
    /// Whatever is there may be somebody else's.
    pub attempted: bool,
    /// It is a directory's key.
    pub directory: bool,
}

/// A renamed directory below which keys may still be the old ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resync {
    /// The directory.
    pub dir: Ino,
    /// The last name that was handled.
    pub cursor: Option<Vec<u8>>,
}

/// A multipart upload that can be resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The version of the bytes being uploaded.
    pub epoch: Epoch,
    /// The key it goes to.
    pub key: String,
    /// The store's name for it.
    pub upload_id: String,
    /// Length of each part but the last, in bytes.
    pub part_bytes: u64,
    /// The parts that the store has acknowledged, in order: number from 1, and ETag.
    pub parts: Vec<(u32, String)>,
}

/// Multipart uploads under one key that were asked for, and whose names were not heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedUploads {
    /// The object key.
    pub key: String,
    /// When the first of them was asked for.
    pub since: Timestamp,
    /// When the last of them was asked for.
    pub until: Timestamp,
}

/// Totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Inodes in the journal, cached entries of the store included.
    pub inodes: u64,
    /// Inodes of this node whose state the store doesn't have yet.
    pub unsynced: u64,
}
