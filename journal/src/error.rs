//! The one error type of the journal. Variants are by what the caller can do about them; the errno
//! that a program will see is decided here, where the cause is known.

use crate::kv::KvError;
use crate::types::{Ino, Kind, NodeId};
use libc::c_int;

/// Why a typed transaction did nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such inode, or no such name in it.
    #[error("{}", not_found(*.ino, .name.as_deref()))]
    NotFound {
        /// The inode, or the directory that lacks the name.
        ino: Ino,
        /// The missing name.
        name: Option<Vec<u8>>,
    },
    /// The name is taken.
    #[error("{name:?} exists already in directory {parent} as inode {ino}")]
    Exists {
        /// The directory.
        parent: Ino,
        /// The name.
        name: String,
        /// What has the name.
        ino: Ino,
        /// The kind of what has the name.
        kind: Kind,
    },
    /// A directory was needed.
    #[error("inode {ino} is not a directory")]
    NotDirectory {
        /// What isn't one.
        ino: Ino,
    },
    /// A directory was given where none is allowed.
    #[error("inode {ino} is a directory")]
    IsDirectory {
        /// The directory.
        ino: Ino,
    },
    /// A hard link to a directory was asked for.
    #[error("inode {ino} is a directory, which can't have a second name")]
    LinkToDirectory {
        /// The directory.
        ino: Ino,
    },
    /// The directory has entries.
    #[error("directory {ino} is not empty")]
    NotEmpty {
        /// The directory.
        ino: Ino,
    },
    /// A directory was to be moved below itself.
    #[error("directory {ino} can't be moved into its own subtree")]
    IntoItself {
        /// The directory.
        ino: Ino,
    },
    /// Not a name: empty, `.`, `..`, or with a slash or NUL.
    #[error("{name:?} can't be the name of a file")]
    InvalidName {
        /// The name, as far as it is text.
        name: String,
    },
    /// More than 255 bytes (4095 for the target of a symlink).
    #[error("a name of {bytes} bytes is too long; the limit is {bytes_max}")]
    NameTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The operation makes no sense for this kind of inode.
    #[error("inode {ino} is a {kind:?}: can't {operation}")]
    WrongKind {
        /// The inode.
        ino: Ino,
        /// What it is.
        kind: Kind,
        /// What was asked for.
        operation: &'static str,
    },
    /// 2^32-1 links are enough.
    #[error("inode {ino} has too many links")]
    TooManyLinks {
        /// The inode.
        ino: Ino,
    },
    /// No such extended attribute.
    #[error("inode {ino} has no such extended attribute")]
    NoAttribute {
        /// The inode.
        ino: Ino,
    },
    /// The extended attribute exists and the caller wanted to create it.
    #[error("inode {ino} has that extended attribute already")]
    AttributeExists {
        /// The inode.
        ino: Ino,
    },
    /// The name of an extended attribute is empty or longer than 255 bytes.
    #[error("the name of an extended attribute must have 1 to 255 bytes, not {bytes}")]
    AttributeName {
        /// Its length.
        bytes: usize,
    },
    /// The value of an extended attribute is longer than 64 KiB.
    #[error("an extended attribute of {bytes} bytes is too large; the limit is {bytes_max}")]
    AttributeTooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The names of all extended attributes of an inode would be longer than listxattr(2) can return.
    #[error("inode {ino} has too many extended attributes")]
    TooManyAttributes {
        /// The inode.
        ino: Ino,
    },
    /// Not an access control list.
    #[error("not a valid access control list: {why}")]
    InvalidAcl {
        /// What is wrong with it.
        why: &'static str,
    },
    /// An access control list in a format of its own.
    #[error("an access control list of an unknown version")]
    UnknownAclVersion,
    /// Symlinks have no access control lists.
    #[error("inode {ino} is a symlink, which has no access control list")]
    NoAcl {
        /// The symlink.
        ino: Ino,
    },
    /// Only directories have a default access control list.
    #[error("inode {ino} is no directory and can't have a default access control list")]
    NoDefaultAcl {
        /// The inode.
        ino: Ino,
    },
    /// Another node is writing this file.
    #[error("inode {ino} is being written by node {node}; try again when it is closed there")]
    WrittenElsewhere {
        /// The inode.
        ino: Ino,
        /// Who has it open.
        node: NodeId,
    },
    /// Another node has this file system mounted, or has left something that is only on its disk.
    #[error("{}", elsewhere(*.node, .host, .mountpoint, *.mounted))]
    NodeElsewhere {
        /// Which one.
        node: NodeId,
        /// Its machine.
        host: String,
        /// Where it mounted.
        mountpoint: String,
        /// It has not unmounted.
        mounted: bool,
    },
    /// The journal was written by a newer program.
    #[error(
        "the journal has format {found}, this program knows formats up to {known}; use a newer program"
    )]
    NewerFormat {
        /// The format found.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// Somebody began to import a journal here and did not end.
    #[error(
        "an import into this journal has not ended, so there is no file system in it: run `fused journal import` again"
    )]
    UnfinishedImport,
    /// The journal belongs to another store.
    #[error(
        "the journal belongs to {found}, not to {wanted}; give each store its own cache directory"
    )]
    OtherStore {
        /// The store it belongs to.
        found: String,
        /// The store that was asked for.
        wanted: String,
    },
    /// A row can't be read.
    #[error("the journal is damaged: {what} (row {key})")]
    Corrupt {
        /// What is wrong.
        what: String,
        /// The key of the row in hexadecimal.
        key: String,
    },
    /// A row or a request is beyond what the journal can hold.
    #[error("too large for the journal: {what}")]
    TooLarge {
        /// What is.
        what: &'static str,
    },
    /// Others changed the same rows again and again.
    #[error("gave up after {attempts} attempts that all met with a conflict")]
    Contention {
        /// How often it was tried.
        attempts: u32,
    },
    /// The key-value store failed.
    #[error(transparent)]
    Store(#[from] KvError),
}

fn elsewhere(node: NodeId, host: &str, mountpoint: &str, mounted: bool) -> String {
    let what = match mounted {
        true => {
            "has this file system mounted: unmount it there first (after a crash, mount it there again; if it is lost \
             for good, see `fused forget-node`)"
        }
        false => {
            "has files that are not in the store yet: mount it there, and `fused sync` (if it is lost for good, see \
             `fused forget-node`)"
        }
    };
    format!("node {node} ({mountpoint} on {host}) {what}")
}

fn not_found(ino: Ino, name: Option<&[u8]>) -> String {
    match name {
        Some(name) => format!(
            "directory {ino} has no entry {:?}",
            String::from_utf8_lossy(name)
        ),
        None => format!("no inode {ino}"),
    }
}

impl Error {
    /// The inode does not exist.
    pub(crate) fn no_inode(ino: Ino) -> Error {
        Error::NotFound { ino, name: None }
    }

    /// The name does not exist.
    pub(crate) fn no_entry(parent: Ino, name: &[u8]) -> Error {
        Error::NotFound {
            ino: parent,
            name: Some(name.to_vec()),
        }
    }

    /// What a program sees in `errno`.
    #[must_use]
    pub fn errno(&self) -> c_int {
        match self {
            Error::NotFound { .. } => libc::ENOENT,
            Error::Exists { .. } | Error::AttributeExists { .. } => libc::EEXIST,
            Error::NotDirectory { .. } => libc::ENOTDIR,
            Error::IsDirectory { .. } => libc::EISDIR,
            Error::LinkToDirectory { .. } => libc::EPERM,
            Error::NotEmpty { .. } => libc::ENOTEMPTY,
            Error::IntoItself { .. }
            | Error::InvalidName { .. }
            | Error::WrongKind { .. }
            | Error::InvalidAcl { .. } => libc::EINVAL,
            Error::UnknownAclVersion | Error::NoAcl { .. } => libc::EOPNOTSUPP,
            Error::NoDefaultAcl { .. } => libc::EACCES,
            Error::TooManyAttributes { .. } | Error::Store(KvError::Full(_)) => libc::ENOSPC,
            Error::NameTooLong { .. } => libc::ENAMETOOLONG,
            Error::TooManyLinks { .. } => libc::EMLINK,
            Error::NoAttribute { .. } => libc::ENODATA,
            Error::AttributeName { .. } => libc::ERANGE,
            Error::AttributeTooLarge { .. } | Error::TooLarge { .. } => libc::E2BIG,
            Error::WrittenElsewhere { .. } | Error::NodeElsewhere { .. } => libc::EBUSY,
            Error::Contention { .. } => libc::EAGAIN,
            Error::NewerFormat { .. }
            | Error::UnfinishedImport
            | Error::OtherStore { .. }
            | Error::Corrupt { .. }
            | Error::Store(_) => libc::EIO,
        }
    }
}
