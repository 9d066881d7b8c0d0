//! What typed transactions are asked for.

use super::{BlockDigests, Epoch, Ino, Kind, NodeId, Origin, Seal, Timestamp};
use serde::{Deserialize, Serialize};

/// Which file system this journal belongs to, and who is opening it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Canonical URL of the store, without secrets.
    pub store_url: String,
    /// This daemon.
    pub node: NodeId,
}

/// Where a node mounts, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The machine's name.
    pub host: String,
    /// The mount point there.
    pub mountpoint: String,
}

/// The attributes of a node to be created.
#[derive(Clone, Debug)]
pub struct NewInode {
    /// What it is.
    pub kind: Kind,
    /// Permission bits as the program asked for them.
    pub mode: u32,
    /// Permission bits that the program takes from them, where no default access control list is
    /// inherited. A symlink has no mode and takes no notice.
    pub umask: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, else 0.
    pub rdev: u32,
    /// Target of a symlink, else `None`.
    pub target: Option<Vec<u8>>,
    /// For a file that is opened by the same request: the node that writes it.
    pub writer: Option<NodeId>,
}

/// How `rename` treats an existing target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it, as rename(2) does.
    Replace,
    /// Refuse (`RENAME_NOREPLACE`).
    NoReplace,
    /// Swap the two (`RENAME_EXCHANGE`).
    Exchange,
}

/// Attributes to change; `None` leaves one alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes (files only).
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<Timestamp>,
    /// Last change of the bytes.
    pub mtime: Option<Timestamp>,
    /// Last change of attributes; by default the transaction's `now`.
    pub ctime: Option<Timestamp>,
}

/// How `set_xattr` treats an existing attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Create or replace.
    Any,
    /// Only create (`XATTR_CREATE`).
    Create,
    /// Only replace (`XATTR_REPLACE`).
    Replace,
}

/// What a writer did to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndWrite {
    /// Length in bytes now; ignored unless `changed`.
    pub size: u64,
    /// Last change of the bytes; ignored unless `changed`.
    pub mtime: Timestamp,
    /// Whether the bytes changed since `begin_write` or the previous `end_write`.
    pub changed: bool,
    /// Whether this was the last close of a writer.
    pub close: bool,
    /// What the extent file looks like; ignored unless `changed`.
    pub seal: Option<Seal>,
}

/// What the flusher put into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// The version of the bytes that it put.
    pub epoch: Epoch,
    /// The version of the attributes that it put.
    pub meta_epoch: u64,
    /// The object as the store has it now. Its two epochs are overwritten by those above, its
    /// `checked` by the transaction's time.
    pub origin: Origin,
    /// What its blocks are, those apart that went with parts of it; `None` if no bytes were sent, or if it is
    /// not known.
    pub blocks: Option<BlockDigests>,
    /// Nothing that the store was asked for under its key can arrive any more.
    pub heard: bool,
}

/// What the store was asked for under a key, and may yet do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// An object where there is none.
    pub created: bool,
    /// This version, in place of whatever is there, or of a known etag.
    pub replaced: Option<SentVersion>,
    /// That there is no object.
    pub deleted: bool,
}

/// A version of a file, or of a directory's marker, as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentVersion {
    /// Of which inode.
    pub ino: Ino,
    /// The version of its bytes.
    pub epoch: Epoch,
    /// The version of its attributes.
    pub meta_epoch: u64,
}

/// An entry that a listing or a look at the store found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name in the directory.
    pub name: Vec<u8>,
    /// [`Kind::File`] or [`Kind::Directory`]; others are ignored.
    pub kind: Kind,
    /// Its key; a directory's ends with `/`.
    pub key: String,
    /// Its ETag, where known.
    pub etag: Option<String>,
    /// Its length in bytes.
    pub size: u64,
    /// Last change.
    pub mtime: Timestamp,
    /// Permission bits, where known; else 0644 or 0755.
    pub mode: Option<u32>,
    /// Owner, where known; else the directory's.
    pub uid: Option<u32>,
    /// Group, where known; else the directory's.
    pub gid: Option<u32>,
    /// Mode, owner and times are the object's own; otherwise they are guesses, and a look at the
    /// object itself will tell.
    pub learned: bool,
}

/// What a second look at one object showed, for `refresh`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is there.
    Object {
        /// Its ETag, where the store has them.
        etag: Option<String>,
        /// Its length in bytes.
        size: u64,
        /// Last change.
        mtime: Timestamp,
        /// Permission bits, where known.
        mode: Option<u32>,
        /// Owner, where known.
        uid: Option<u32>,
        /// Group, where known.
        gid: Option<u32>,
    },
    /// It is no longer there.
    Gone,
}

/// Somebody else's object in the place of one of ours, for `superseded`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Its ETag, where the store has them.
    pub etag: Option<String>,
    /// Its length in bytes.
    pub size: u64,
    /// Last change.
    pub mtime: Timestamp,
}

/// What is known about a directory's listing in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// When the listing was asked for.
    pub at: Timestamp,
    /// Whether every entry was imported.
    pub complete: bool,
}
