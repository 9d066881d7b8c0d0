//! The layout of keys, in bytes.
//!
//! The first byte says what the row is. Numbers are big-endian, so that byte order is number order
//! and a range read of a prefix gives rows in order. Names and object keys come last or are followed
//! by a NUL, which they can't contain.
//!
//! | key | row |
//! |---|---|
//! | `F` | format: version, store URL |
//! | `J` | which journal this is: a random number |
//! | `C` `i`, `C` `s`, `C` `n` | counters, 8 bytes little-endian: next inode number, next sequence number, inodes in existence |
//! | `A` node:8 slot:4 | id of the last operation that used this slot, 16 bytes (see [`crate::attempts`]) |
//! | `I` ino:8 | inode |
//! | `D` parent:8 name | directory entry -> ino, kind |
//! | `L` ino:8 parent:8 name | link: the other direction; flag: the primary one, which gives the object its key |
//! | `T` ino:8 chunk:1 | target of a symlink in pieces of 2 KiB |
//! | `X` ino:8 name | extended attribute: length, and the value up to 2 KiB |
//! | `x` ino:8 name NUL chunk:2 | further 2 KiB of its value |
//! | `U` node:8 ino:8 | unsynced: order, stamp, since |
//! | `W` node:8 ino:8 | opened by this node for writing; empty |
//! | `O` node:8 ino:8 | unlinked on this node and waiting to be reaped; empty |
//! | `B` node:8 ino:8 | the version before a truncating open, kept until the next one is safe |
//! | `H` node:8 ino:8 | held on the local disk of this node, with all below it: a pin; empty |
//! | `K` object key | claim -> the inode whose origin is this object |
//! | `G` object key | garbage: an object to delete |
//! | `P` ino:8 | multipart upload under way |
//! | `p` ino:8 part:4 | a part of it that the store has |
//! | `V` ino:8 | of which version of the object the digests are; those of its first blocks |
//! | `v` ino:8 block:8 | digests of blocks from this one on |
//! | `N` object key | multipart uploads that were asked for, and whose names were not heard |
//! | `M` object key | what the store was asked for there, and may yet do |
//! | `S` ino:8 | what is known of a directory's listing in the store |
//! | `E` node:8 | a daemon that mounts or has mounted this: where, since when, last seen |
//! | `R` ino:8 | a directory below which keys may be those from before a rename |

use crate::types::{Ino, NodeId};

/// Format row.
pub(crate) const FORMAT: &[u8] = b"F";
/// Which journal this is.
pub(crate) const JOURNAL_ID: &[u8] = b"J";
/// Next inode number.
pub(crate) const NEXT_INO: &[u8] = b"Ci";
/// Next sequence number.
pub(crate) const NEXT_SEQ: &[u8] = b"Cs";
/// Inodes in existence.
pub(crate) const INODES: &[u8] = b"Cn";
/// All nodes.
pub(crate) const NODES: &[u8] = b"E";

/// A key being put together: the tag, then numbers and bytes.
fn key(tag: u8, numbers: &[u64], tail: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + 8 * numbers.len() + tail.len());
    key.push(tag);
    for number in numbers {
        key.extend_from_slice(&number.to_be_bytes());
    }
    key.extend_from_slice(tail);
    key
}

/// The key after every key that starts with `prefix`.
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    // All 0xff: no key of ours starts so.
    vec![0xff]
}

/// The key right after `key`.
pub(crate) fn just_after(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

pub(crate) fn operation(node: NodeId, slot: u32) -> Vec<u8> {
    key(b'A', &[node.0], &slot.to_be_bytes())
}

pub(crate) fn inode(ino: Ino) -> Vec<u8> {
    key(b'I', &[ino.0], &[])
}

pub(crate) fn dirent(parent: Ino, name: &[u8]) -> Vec<u8> {
    key(b'D', &[parent.0], name)
}

/// Where the name starts in a key made by [`dirent`].
pub(crate) const DIRENT_NAME: usize = 9;

pub(crate) fn link(ino: Ino, parent: Ino, name: &[u8]) -> Vec<u8> {
    key(b'L', &[ino.0, parent.0], name)
}

pub(crate) fn links(ino: Ino) -> Vec<u8> {
    key(b'L', &[ino.0], &[])
}

/// Takes a key made by [`link`] apart: parent and name.
pub(crate) fn parse_link(key: &[u8]) -> Option<(Ino, &[u8])> {
    let parent = number_at(key, 9)?;
    Some((Ino(parent), key.get(17..)?))
}

pub(crate) fn target(ino: Ino, chunk: u8) -> Vec<u8> {
    key(b'T', &[ino.0], &[chunk])
}

pub(crate) fn targets(ino: Ino) -> Vec<u8> {
    key(b'T', &[ino.0], &[])
}

pub(crate) fn xattr(ino: Ino, name: &[u8]) -> Vec<u8> {
    key(b'X', &[ino.0], name)
}

/// Where the name starts in a key made by [`xattr`].
pub(crate) const XATTR_NAME: usize = 9;

/// All further chunks of one attribute.
pub(crate) fn xattr_chunks(ino: Ino, name: &[u8]) -> Vec<u8> {
    let mut key = key(b'x', &[ino.0], name);
    key.push(0);
    key
}

/// One further chunk.
pub(crate) fn xattr_chunk(ino: Ino, name: &[u8], chunk: u16) -> Vec<u8> {
    let mut key = xattr_chunks(ino, name);
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

/// All further chunks of all attributes.
pub(crate) fn all_xattr_chunks(ino: Ino) -> Vec<u8> {
    key(b'x', &[ino.0], &[])
}

pub(crate) fn unsynced(node: NodeId, ino: Ino) -> Vec<u8> {
    key(b'U', &[node.0, ino.0], &[])
}

pub(crate) fn writer(node: NodeId, ino: Ino) -> Vec<u8> {
    key(b'W', &[node.0, ino.0], &[])
}

pub(crate) fn orphan(node: NodeId, ino: Ino) -> Vec<u8> {
    key(b'O', &[node.0, ino.0], &[])
}

pub(crate) fn former(node: NodeId, ino: Ino) -> Vec<u8> {
    key(b'B', &[node.0, ino.0], &[])
}

pub(crate) fn pin(node: NodeId, ino: Ino) -> Vec<u8> {
    key(b'H', &[node.0, ino.0], &[])
}

pub(crate) fn node(node: NodeId) -> Vec<u8> {
    key(b'E', &[node.0], &[])
}

/// The node in a key made by [`node`].
pub(crate) fn parse_node(key: &[u8]) -> Option<NodeId> {
    let number = key.get(1..)?.try_into().ok()?;
    Some(NodeId(u64::from_be_bytes(number)))
}

/// All rows of a tag and a node.
pub(crate) fn of_node(tag: u8, node: NodeId) -> Vec<u8> {
    key(tag, &[node.0], &[])
}

/// The inode in a key made by [`unsynced`], [`writer`], [`orphan`], [`former`] or [`pin`].
pub(crate) fn parse_of_node(key: &[u8]) -> Option<Ino> {
    number_at(key, 9).map(Ino)
}

pub(crate) fn claim(object: &str) -> Vec<u8> {
    key(b'K', &[], object.as_bytes())
}

pub(crate) fn garbage(object: &str) -> Vec<u8> {
    key(b'G', &[], object.as_bytes())
}

pub(crate) fn sent(object: &str) -> Vec<u8> {
    key(b'M', &[], object.as_bytes())
}

pub(crate) fn upload(ino: Ino) -> Vec<u8> {
    key(b'P', &[ino.0], &[])
}

pub(crate) fn upload_part(ino: Ino, part: u32) -> Vec<u8> {
    key(b'p', &[ino.0], &part.to_be_bytes())
}

pub(crate) fn upload_parts(ino: Ino) -> Vec<u8> {
    key(b'p', &[ino.0], &[])
}

pub(crate) fn digested(ino: Ino) -> Vec<u8> {
    key(b'V', &[ino.0], &[])
}

pub(crate) fn digests(ino: Ino, block: u64) -> Vec<u8> {
    key(b'v', &[ino.0, block], &[])
}

pub(crate) fn all_digests(ino: Ino) -> Vec<u8> {
    key(b'v', &[ino.0], &[])
}

/// The first block in a key made by [`digests`].
pub(crate) fn parse_digests(key: &[u8]) -> Option<u64> {
    number_at(key, 9)
}

/// Uploads asked for.
pub(crate) fn asked_uploads(object: &str) -> Vec<u8> {
    key(b'N', &[], object.as_bytes())
}

/// The part's number in a key made by [`upload_part`].
pub(crate) fn parse_upload_part(key: &[u8]) -> Option<u32> {
    let bytes = key.get(9..13)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

pub(crate) fn listing(dir: Ino) -> Vec<u8> {
    key(b'S', &[dir.0], &[])
}

pub(crate) fn resync(dir: Ino) -> Vec<u8> {
    key(b'R', &[dir.0], &[])
}

/// The inode in a key of a tag and an inode, such as [`upload`] or [`resync`].
pub(crate) fn parse_ino(key: &[u8]) -> Option<Ino> {
    number_at(key, 1).map(Ino)
}

fn number_at(key: &[u8], at: usize) -> Option<u64> {
    let bytes = key.get(at..at + 8)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_documented_bytes() {
        let (one, two) = (Ino(1), Ino(0x0203));
        assert_eq!(inode(two), b"I\0\0\0\0\0\0\x02\x03");
        assert_eq!(dirent(one, b"a"), b"D\0\0\0\0\0\0\0\x01a");
        assert_eq!(
            link(two, one, b"a"),
            b"L\0\0\0\0\0\0\x02\x03\0\0\0\0\0\0\0\x01a"
        );
        assert_eq!(target(one, 1), b"T\0\0\0\0\0\0\0\x01\x01");
        assert_eq!(xattr(one, b"user.x"), b"X\0\0\0\0\0\0\0\x01user.x");
        assert_eq!(
            xattr_chunk(one, b"user.x", 258),
            b"x\0\0\0\0\0\0\0\x01user.x\0\x01\x02"
        );
        let node = NodeId(5);
        for (tag, key) in [
            (b'U', unsynced(node, one)),
            (b'W', writer(node, one)),
            (b'O', orphan(node, one)),
            (b'B', former(node, one)),
            (b'H', pin(node, one)),
        ] {
            assert_eq!(key[0], tag);
            assert_eq!(&key[1..], b"\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x01");
            assert!(key.starts_with(&of_node(tag, node)));
        }
        assert_eq!(super::node(node), b"E\0\0\0\0\0\0\0\x05");
        assert_eq!(parse_node(&super::node(node)), Some(node));
        assert_eq!(parse_node(b"E\0"), None);
        assert_eq!(claim("d/x"), b"Kd/x");
        assert_eq!(garbage("d/x"), b"Gd/x");
        assert_eq!(asked_uploads("d/x"), b"Nd/x");
        assert_eq!(sent("d/x"), b"Md/x");
        assert_eq!(upload(one), b"P\0\0\0\0\0\0\0\x01");
        assert_eq!(upload_part(one, 7), b"p\0\0\0\0\0\0\0\x01\0\0\0\x07");
        assert_eq!(digested(one), b"V\0\0\0\0\0\0\0\x01");
        assert_eq!(digests(one, 3), b"v\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x03");
        assert_eq!(listing(one), b"S\0\0\0\0\0\0\0\x01");
        assert_eq!(resync(one), b"R\0\0\0\0\0\0\0\x01");
        assert_eq!(operation(node, 3), b"A\0\0\0\0\0\0\0\x05\0\0\0\x03");
    }

    #[test]
    fn keys_can_be_taken_apart() {
        assert_eq!(
            parse_link(&link(Ino(9), Ino(8), b"name")),
            Some((Ino(8), b"name".as_slice()))
        );
        assert_eq!(parse_of_node(&unsynced(NodeId(1), Ino(7))), Some(Ino(7)));
        assert_eq!(parse_upload_part(&upload_part(Ino(7), 9)), Some(9));
        assert_eq!(parse_digests(&digests(Ino(7), 8)), Some(8));
        assert_eq!(parse_ino(&resync(Ino(6))), Some(Ino(6)));
        assert_eq!(parse_link(b"L"), None);
    }

    #[test]
    fn the_end_of_a_prefix_is_after_all_its_keys() {
        assert_eq!(after_prefix(b"D\x01"), b"D\x02");
        assert_eq!(after_prefix(b"D\xff\xff"), b"E");
        assert!(after_prefix(b"D\xff") > b"D\xff\xff\xff".to_vec());
        assert_eq!(just_after(b"a"), b"a\0");
    }
}
