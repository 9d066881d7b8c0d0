//! The vocabulary of the journal: what callers put in and what they get back.
//!
//! [`ids`] are the numbers, [`inode`] is the file as the journal knows it, [`requests`] what a
//! typed transaction is asked for, [`answers`] what it tells, [`acl`] who may do what. Everything that is also stored derives
//! serde; the order of fields is the order of bytes (see [`crate::records`]), so it is part of the
//! format and guarded by fixtures.

mod acl;
mod answers;
mod digests;
mod ids;
mod inode;
mod requests;
mod time;

pub use acl::{Acl, AclKind};
pub use answers::{
    AskedUploads, DirEntry, FlushOutcome, Former, Garbage, Node, Orphan, Removed, Renamed, Resync,
    Unsynced, Upload, Usage, Wanted,
};
pub use digests::{BLOCK_BYTES, BlockDigest, BlockDigests};
pub use ids::{Epoch, Ino, NodeId};
pub use inode::{Content, Inode, Kind, Origin, Seal};
pub use requests::{
    EndWrite, Flushed, Found, Identity, Listing, NewInode, Place, RenameMode, Replacement, Seen,
    Sent, SentVersion, SetAttr, XattrMode,
};
pub use time::Timestamp;
