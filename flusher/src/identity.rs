//! The mark on our objects, and the attributes that travel with them.
//!
//! A put whose answer was lost may have happened. When the next attempt finds an object where it expected
//! none, it must know whether that is its own earlier attempt or somebody else's file. Etags can't tell
//! (their computation is the store's business), so every object carries a mark: node, inode, epoch and
//! attribute epoch ([`FileVersion`]), and a digest of the key that it is put to, its *place*.
//!
//! Inode numbers are never reused by one journal, and the node is random per cache directory, so a mark
//! names one version of one file. Other tools that copy objects copy the mark: a size and an epoch that
//! fit are asked for as well, and a foreign copy under our key with our mark *is* our version.
//!
//! The place matters where another file of ours takes the key: after a crash the journal may not know of what
//! an earlier file put there, nor of that file. With this key as its place the object is ours to replace;
//! with another it is somebody's copy.

use journal::{Epoch, Inode, NodeId, Timestamp};
use remote::{FileVersion, ObjectKey, PosixAttrs};

/// The attributes of an inode as they travel on its object at `key` that holds version `epoch`.
pub(crate) fn attributes(inode: &Inode, node: NodeId, epoch: Epoch, key: &ObjectKey) -> PosixAttrs {
    PosixAttrs {
        mode: Some(inode.mode),
        uid: Some(inode.uid),
        gid: Some(inode.gid),
        mtime_ns: Some(nanoseconds(inode.mtime)),
        atime_ns: Some(nanoseconds(inode.atime)),
        version: Some(FileVersion {
            node: node.0,
            ino: inode.ino.0,
            epoch: epoch.0,
            meta_epoch: inode.meta_epoch,
            place: place(key),
        }),
    }
}

/// The mark among an object's attributes, if this node made it.
pub(crate) fn own_mark(attrs: &PosixAttrs, node: NodeId) -> Option<FileVersion> {
    attrs.version.filter(|mark| mark.node == node.0)
}

/// Whether this mark was put to this key, and not copied there.
pub(crate) fn is_in_place(mark: &FileVersion, key: &ObjectKey) -> bool {
    mark.place == place(key)
}

/// The first eight bytes, little-endian, of the BLAKE3 hash of the key; never 0.
fn place(key: &ObjectKey) -> u64 {
    let digest = blake3::hash(key.as_str().as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(first).max(1)
}

fn nanoseconds(at: Timestamp) -> i128 {
    i128::from(at.secs) * 1_000_000_000 + i128::from(at.nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_negative_nanoseconds() {
        let at = |secs, nanos| nanoseconds(Timestamp { secs, nanos });
        assert_eq!(at(1, 5), 1_000_000_005);
        assert_eq!(at(-1, 999_999_999), -1);
    }

    #[test]
    fn a_mark_of_another_node_is_not_ours() {
        let version = FileVersion {
            node: 1,
            ino: 2,
            epoch: 3,
            meta_epoch: 4,
            place: 5,
        };
        let attrs = PosixAttrs {
            version: Some(version),
            ..PosixAttrs::default()
        };
        assert_eq!(own_mark(&attrs, NodeId(1)), Some(version));
        assert_eq!(own_mark(&attrs, NodeId(2)), None);
    }
}
