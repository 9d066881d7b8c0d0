//! The name of an extent file, and where it lies in the cache directory.
//!
//! `dir/XX/<ino>-<generation>`: both numbers in lower-case hexadecimal without leading zeros, `XX` the
//! low byte of the inode number as two digits. Inode numbers are consecutive, so the 256 shards fill
//! evenly, and all generations of an inode lie in one shard.

use std::fmt;
use std::path::{Path, PathBuf};

/// Which extent file: an inode and the generation of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtentId {
    /// The inode number.
    pub ino: u64,
    /// The generation of its content; a file truncated on open gets the next one.
    pub generation: u64,
}

impl fmt::Display for ExtentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.ino, self.generation)
    }
}

impl ExtentId {
    /// The shard that the file lies in.
    pub(crate) fn shard(self) -> u8 {
        (self.ino & 0xff) as u8
    }

    /// Where the file lies below the cache directory.
    pub(crate) fn path(self, dir: &Path) -> PathBuf {
        shard_path(dir, self.shard()).join(self.to_string())
    }

    /// The id of a file name; `None` for anything that `Display` would not have written.
    pub(crate) fn parse(name: &str) -> Option<ExtentId> {
        let (ino, generation) = name.split_once('-')?;
        let id = ExtentId {
            ino: u64::from_str_radix(ino, 16).ok()?,
            generation: u64::from_str_radix(generation, 16).ok()?,
        };
        (id.to_string() == name).then_some(id)
    }
}

/// The directory of a shard.
pub(crate) fn shard_path(dir: &Path, shard: u8) -> PathBuf {
    dir.join(format!("{shard:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_parses_back_to_its_id() {
        for id in [
            ExtentId {
                ino: 0,
                generation: 0,
            },
            ExtentId {
                ino: u64::MAX,
                generation: 0x1f,
            },
        ] {
            assert_eq!(ExtentId::parse(&id.to_string()), Some(id));
        }
    }

    #[test]
    fn a_name_that_is_not_ours_is_no_id() {
        for name in ["", "1", "1-", "-1", "01-1", "1-A", "+1-1", "1-1-1", "x-1"] {
            assert_eq!(ExtentId::parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_shard_is_the_low_byte_of_the_inode_number() {
        let id = ExtentId {
            ino: 0x1234,
            generation: 2,
        };
        assert_eq!(id.path(Path::new("/c")), Path::new("/c/34/1234-2"));
    }
}
