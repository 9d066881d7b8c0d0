//! What came of an operation, in a form in which both sides can be compared.

use std::fmt;

use nix::libc;
use serde::{Deserialize, Serialize};

/// What one side answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// There was nothing to do it with: the slot is empty.
    Nothing,
    /// It was done, and there is nothing more to say.
    Done,
    /// How many, or where.
    Count(u64),
    /// The bytes that were read.
    Bytes(Summary),
    /// A text, like a symlink's.
    Text(String),
    /// Names, sorted.
    Names(Vec<String>),
    /// The attributes of a file.
    About(Attributes),
    /// The errno's name.
    Failed(String),
    /// The side contradicts itself.
    Wrong(String),
}

/// Bytes: shorter than they are, with the bytes themselves until they are sent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How many.
    pub len: usize,
    digest: String,
    #[serde(skip)]
    bytes: Vec<u8>,
}

impl Summary {
    /// Of these bytes.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self {
            len: bytes.len(),
            digest: blake3::hash(&bytes).to_hex()[..16].to_owned(),
            bytes,
        }
    }

    /// Where two first differ.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        let at = self
            .bytes
            .iter()
            .zip(&other.bytes)
            .position(|(a, b)| a != b);
        Some(match at {
            Some(at) => format!(
                "byte {at} is {} here and {} there",
                self.bytes[at], other.bytes[at]
            ),
            None => format!("{} bytes here and {} there", self.len, other.len),
        })
    }
}

impl fmt::Debug for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes ({})", self.len, self.digest)
    }
}

/// A point in time: nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment(pub i128);

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rest) = (
            self.0.div_euclid(1_000_000_000),
            self.0.rem_euclid(1_000_000_000),
        );
        write!(f, "{seconds}.{rest:09}")
    }
}

/// What stat(2) tells, as far as it can be the same on two file systems.
///
/// Not in it: device and inode number, blocks, and the size of a directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of stat(2)")]
pub struct Attributes {
    pub mode: String,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u64,
    pub size: u64,
    pub atime: Moment,
    pub mtime: Moment,
    pub ctime: Moment,
}

impl Attributes {
    /// Of what stat(2) gave.
    pub fn of(stat: &rustix::fs::Stat) -> Self {
        let kind = match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => "file",
            libc::S_IFDIR => "directory",
            libc::S_IFLNK => "symlink",
            libc::S_IFIFO => "fifo",
            _ => "other",
        };
        let moment = |seconds: i64, nanoseconds: u64| {
            Moment(i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds))
        };
        Self {
            mode: format!("{kind} {:04o}", stat.st_mode & 0o7777),
            uid: stat.st_uid,
            gid: stat.st_gid,
            nlink: stat.st_nlink,
            size: if kind == "directory" {
                0
            } else {
                stat.st_size.cast_unsigned()
            },
            atime: moment(stat.st_atime, stat.st_atime_nsec),
            mtime: moment(stat.st_mtime, stat.st_mtime_nsec),
            ctime: moment(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// One name of a tree with everything that is known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The path from the folder of the sequence.
    pub path: String,
    /// What stat(2) tells.
    pub about: Attributes,
    /// The first name, in order, of the same file.
    pub same_as: String,
    /// What is in a file, or where a symlink leads.
    pub content: Outcome,
    /// The extended attributes.
    pub xattrs: Vec<(String, Outcome)>,
}
