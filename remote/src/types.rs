//! The nouns of the store's protocol: versions, listings, uploads, conditions and what a store can do.

use std::fmt;
use std::time::SystemTime;

use crate::attrs::PosixAttrs;
use crate::keys::ObjectKey;

/// Names one version of an object, as the store spells it (on S3 always in quotes).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ETag(pub String);

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a multipart upload; survives a restart of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(pub String);

/// An upload that was begun and is neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenUpload {
    /// Its name.
    pub id: UploadId,
    /// When it was begun, by the store's clock.
    pub begun: SystemTime,
}

/// The store's receipt for one part of a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartTag(pub String);

/// Where the next page of a listing begins; meaningful to the store that gave it, for some minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListToken(pub String);

/// What must be true of the object in the store for a write to take place.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing: replace whatever is there.
    #[default]
    None,
    /// No object is there (`If-None-Match: *`).
    Absent,
    /// Exactly this version is there (`If-Match`).
    Match(ETag),
}

/// What the store knows of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key; of a directory marker with the trailing '/'.
    pub key: ObjectKey,
    /// Its length in bytes.
    pub size: u64,
    /// Its version; no store here leaves it out for objects, but directories of `file://` have none.
    pub etag: Option<ETag>,
    /// When the store last changed it; not the file's mtime, which is in `posix`.
    pub modified: SystemTime,
    /// Mode, owner and times. From `head`, and from listings of stores where they cost nothing
    /// (`file://`, `hdfs://`); empty in the listings of others.
    pub posix: PosixAttrs,
}

/// One page of a directory's entries.
///
/// Pages come in the order of the store's keys, in which a directory `a` counts as `a/`: so `a-b`
/// comes before the directory `a`. Don't infer from one page what another can't hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Objects directly in the directory, without its own marker.
    pub files: Vec<ObjectMeta>,
    /// Names of the directories in it, as key components (see [`crate::keys::decode_name`]), without '/'.
    pub directories: Vec<String>,
    /// The directory's own marker, if this page held it.
    pub marker: Option<ObjectMeta>,
    /// Keys that can't be names in a file system, and files that are no regular files.
    pub hidden: Vec<String>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<ListToken>,
}

/// A write took place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The new version.
    pub etag: Option<ETag>,
    /// The store's answer shows that it has the very bytes that were sent: the etag is their MD5. A look at the
    /// object could tell no more.
    pub proven: bool,
}

impl Put {
    /// A write that shows no more than that the store has agreed to it.
    pub fn of(etag: Option<ETag>) -> Self {
        Self {
            etag,
            proven: false,
        }
    }
}

/// What a mount wants to do with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading and listing only; the probe writes nothing.
    ReadOnly,
    /// Everything.
    ReadWrite,
}

/// How the store keeps a directory that has nothing in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirMarkers {
    /// As an empty object `name/`.
    Object,
    /// As a directory: the store is a file system itself.
    Native,
    /// Not at all.
    None,
}

/// What a store can do, as found out by [`crate::Remote::probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `put` checks its condition atomically.
    pub conditional_put: bool,
    /// `complete` checks its condition atomically. Otherwise it is checked just before.
    pub conditional_complete: bool,
    /// `delete_matching` checks its version atomically. Otherwise it is checked just before.
    pub conditional_delete: bool,
    /// `copy` checks the version of its source atomically. Otherwise it is checked just before.
    pub conditional_copy: bool,
    /// Large objects can be uploaded in parts.
    pub multipart: bool,
    /// The store copies objects by itself.
    pub copy: bool,
    /// Mode, owner and times survive on objects.
    pub attributes: bool,
    /// How empty directories are kept.
    pub markers: DirMarkers,
    /// Smallest part of a multipart upload (except the last), in bytes.
    pub part_bytes_min: u64,
    /// Largest part of a multipart upload, in bytes.
    pub part_bytes_max: u64,
    /// Most parts a multipart upload can have.
    pub parts_max: u32,
    /// Longest key below the URL's prefix, in bytes.
    pub key_bytes_max: usize,
}
