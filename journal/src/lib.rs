//! The journal: typed transactions of a file system over an ordered, transactional key-value store.
//!
//! [`Journal`] has one method for each thing that can happen to a tree of files: `create`, `rename`,
//! `end_write`, `flushed`, ... Each is one transaction: all of it or nothing, tried again on conflict,
//! and applied once even if the outcome of a commit was unknown (`attempts`). Each lives in a file
//! of its own under `ops`.
//!
//! What the journal knows, row by row, is in `keys` and `records`: inodes, names in both
//! directions, extended attributes, and four kinds of work for the flusher: *unsynced* inodes (their
//! state isn't in the store), *garbage* (keys to delete), *resync* (renamed directories whose children
//! still have keys under the old name) and *uploads* under way.
//!
//! Two ideas hold it together with the store. The *origin* of an inode is the object that holds its
//! bytes; the *claim* of an object's key is the inode whose origin it is. A key becomes garbage only
//! when the inode that has its claim gives it up, so that an object which was taken over by another
//! file is never deleted. And an inode is *clean* only if the object has its newest epoch of bytes and
//! of attributes; a rename counts as a change of attributes.
//!
//! Below is [`kv`]: the store's trait with FoundationDB's model, the embedded store, and, with the
//! feature `fdb`, FoundationDB itself.

mod attempts;
mod audit;
mod dump;
mod error;
mod journal;
mod keys;
pub mod kv;
mod numbers;
mod ops;
mod recent;
mod records;
mod shared;
mod slots;
mod transfer;
mod txn;
mod types;

pub use audit::{Audit, DAMAGES_MAX, Damage, Grade, Mend};
pub use dump::{DumpedRow, dump};
pub use error::Error;
pub use journal::Journal;
pub use kv::{EmbeddedOptions, EmbeddedStore, KvError, KvStore};
pub use transfer::{ExportOf, TransferError, Transferred, Unfinished, export, import, verify};
pub use types::{
    Acl, AclKind, AskedUploads, BLOCK_BYTES, BlockDigest, BlockDigests, Content, DirEntry,
    EndWrite, Epoch, FlushOutcome, Flushed, Former, Found, Garbage, Identity, Ino, Inode, Kind,
    Listing, NewInode, Node, NodeId, Origin, Orphan, Place, Removed, RenameMode, Renamed,
    Replacement, Resync, Seal, Seen, Sent, SentVersion, SetAttr, Timestamp, Unsynced, Upload,
    Usage, Wanted, XattrMode,
};

/// The result of a typed transaction.
pub type Result<T, E = Error> = std::result::Result<T, E>;
