//! What can go wrong here, and which errno a program is told.
//!
//! The errno is decided where the cause is known: an error of the kernel keeps its own number (a full
//! disk stays ENOSPC), our own refusals choose one. Messages name the file or the directory and the
//! operation, never contents.

use std::io;
use std::path::PathBuf;

use crate::ExtentId;

/// Every way in which the extent store fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on an extent file or on the cache directory failed.
    #[error("{op} of {what} failed: {source}{}", hint(source))]
    Io {
        /// The operation, as a verb.
        op: &'static str,
        /// The extent or the path it was done to.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },

    /// The cache directory can't be written.
    #[error("the cache directory {} can't be written ({source}); make it writable for the daemon's user or choose another one", dir.display())]
    NotWritable {
        /// The directory.
        dir: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },

    /// The cache directory is on a network or user-space file system.
    #[error("the cache directory {} is on {kind}, which is not a local disk; choose a directory on ext4, XFS, btrfs or tmpfs", dir.display())]
    NetworkFilesystem {
        /// The directory.
        dir: PathBuf,
        /// The name of that kind of file system.
        kind: &'static str,
    },

    /// The file system of the cache directory doesn't report or make holes.
    #[error("the file system of the cache directory {} has no usable holes ({why}); choose a directory on ext4, XFS, btrfs or tmpfs", dir.display())]
    NoHoles {
        /// The directory.
        dir: PathBuf,
        /// Which part of the probe failed.
        why: String,
    },

    /// The cache directory was written by a newer release.
    #[error("the cache directory {} has format {found}, this release knows up to {known}; use the newer release, or an empty directory", dir.display())]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format known here.
        known: u32,
    },

    /// The extent file to be created is there already.
    #[error("extent {id} exists already")]
    Exists {
        /// Which one.
        id: ExtentId,
    },

    /// A fill that doesn't start on a granule.
    #[error("fill of extent {id} at {offset} doesn't start at a multiple of {granule}")]
    Unaligned {
        /// Which extent file.
        id: ExtentId,
        /// Where the fill was to start.
        offset: u64,
        /// The store's granule.
        granule: u64,
    },

    /// An fdatasync failed earlier: what was written before it may be lost, so nothing more is accepted.
    #[error(
        "the cache device failed and accepts no more writes: {reason}; replace the device, then restart with a fresh cache directory"
    )]
    Poisoned {
        /// The failure that poisoned the store.
        reason: String,
    },

    /// The I/O engine has stopped, because the store is closing or its ring failed.
    #[error("{op} of {what} was given up, because the I/O engine has stopped; restart the daemon")]
    Stopped {
        /// The operation, as a verb.
        op: &'static str,
        /// The extent.
        what: String,
    },
}

/// What to do about an errno that a user can do something about.
fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOSPC) => "; free space on the cache's file system or lower the cache's size",
        Some(libc::EDQUOT) => "; raise the disk quota of the daemon's user",
        Some(libc::EMFILE) => "; raise the limit of open files (LimitNOFILE)",
        Some(libc::EFBIG) => {
            "; raise the file size limit (LimitFSIZE), or use a file system with larger files"
        }
        _ => "",
    }
}

impl Error {
    /// The errno that tells a program about this error.
    pub fn errno(&self) -> i32 {
        match self {
            Error::Io { source, .. } | Error::NotWritable { source, .. } => {
                source.raw_os_error().unwrap_or(libc::EIO)
            }
            Error::NetworkFilesystem { .. } | Error::NoHoles { .. } => libc::EOPNOTSUPP,
            Error::NewerFormat { .. } | Error::Unaligned { .. } => libc::EINVAL,
            Error::Exists { .. } => libc::EEXIST,
            Error::Poisoned { .. } | Error::Stopped { .. } => libc::EIO,
        }
    }

    pub(crate) fn io(op: &'static str, what: impl ToString, source: impl Into<io::Error>) -> Error {
        Error::Io {
            op,
            what: what.to_string(),
            source: source.into(),
        }
    }
}
