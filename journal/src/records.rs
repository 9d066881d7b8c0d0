//! The layout of values, in bytes.
//!
//! Every value starts with one byte, the version of its record (1 for all so far); after it come the
//! fields in the order of declaration, in [postcard](https://postcard.jamesmunns.com/wire-format)'s
//! encoding: unsigned numbers as LEB128 varints, signed ones zigzag before that, booleans and the
//! presence of an option as one byte, enum variants as the varint of their position, text and bytes
//! with their length in front. A record of a later version gets a new byte and its own struct here;
//! old ones stay readable. The tests below hold the bytes of each version ever released.
//!
//! Exceptions, which are never versioned: counters (8 bytes little-endian, so that they can be added
//! to blindly) and operation ids (16 bytes).
//!
//! No value is larger than [`ROW_BYTES_MAX`]: a torn write of a value that spans pages keeps the
//! embedded store from opening.

use crate::Error;
use crate::types::{Epoch, Garbage, Ino, Inode, Kind, NodeId, Place, Seal, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The newest format of the whole journal that this program knows.
pub(crate) const FORMAT: u32 = 1;

/// In place of a format: an import has not ended, and nothing there is to be believed.
pub(crate) const UNFINISHED: u32 = u32::MAX;

/// Largest value in bytes, version byte included.
pub(crate) const ROW_BYTES_MAX: usize = 4000;

/// What is cut into pieces is cut into pieces of so many bytes.
pub(crate) const CHUNK_BYTES: usize = 2048;

/// A stored value.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// Its version byte.
    const VERSION: u8 = 1;

    /// The record that an earlier version wrote.
    fn from_earlier(_version: u8, _fields: &[u8]) -> Option<postcard::Result<Self>> {
        None
    }
}

/// `F`: which format, whose journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FormatRow {
    pub(crate) format: u32,
    pub(crate) store_url: String,
}

/// No row: what an export begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeaderRow {
    pub(crate) store_url: String,
    pub(crate) journal: u64,
    pub(crate) node: NodeId,
}

/// `J`: a number that no other journal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournalIdRow {
    pub(crate) id: u64,
}

/// `I`: an inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InodeRow {
    pub(crate) inode: Inode,
    /// The node that has an unsynced row for it.
    pub(crate) unsynced_on: Option<NodeId>,
    /// The node that has an orphan row for it.
    pub(crate) orphan_on: Option<NodeId>,
    /// A directory whose origin is the key of an earlier path: what is found there must move.
    pub(crate) moved: bool,
}

/// `D`: a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DirentRow {
    pub(crate) ino: Ino,
    pub(crate) kind: Kind,
}

/// `L`: a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkRow {
    /// This name is the one that makes the object's key.
    pub(crate) primary: bool,
}

/// `T`, `x`: a piece of something longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunkRow {
    pub(crate) bytes: Vec<u8>,
}

/// `X`: an extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct XattrRow {
    /// Length of the whole value.
    pub(crate) length: u32,
    /// Its first bytes.
    pub(crate) head: Vec<u8>,
}

/// `U`: an unsynced inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnsyncedRow {
    pub(crate) seq: u64,
    pub(crate) stamp: u64,
    pub(crate) since: Timestamp,
}

/// `O`: an inode that lost its last name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrphanRow {
    /// The inode that took its name, of which the bytes were not safe then.
    pub(crate) spare_for: Option<Ino>,
    /// That name, and the directory that it is in.
    pub(crate) place: Option<(Ino, Vec<u8>)>,
}

/// `B`: the version of a file before a truncating open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FormerRow {
    pub(crate) generation: u64,
    pub(crate) epoch: Epoch,
    pub(crate) size: u64,
    pub(crate) valid: u64,
    pub(crate) mtime: Timestamp,
    pub(crate) since: Timestamp,
    pub(crate) seal: Seal,
}

/// `E`: a daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRow {
    pub(crate) place: Place,
    pub(crate) since: Timestamp,
    pub(crate) seen: Timestamp,
    pub(crate) mounted: bool,
    /// The last one to join has the highest; 0: it never took its turn.
    pub(crate) turn: u64,
}

/// `W`, `H`: the key says it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarkRow;

/// `K`: a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClaimRow {
    pub(crate) ino: Ino,
}

/// `G`: garbage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GarbageRow {
    /// Empty text: an object of ours may be there or may yet come ([`GarbageRow::ATTEMPT`]).
    pub(crate) etag: Option<String>,
    pub(crate) directory: bool,
}

/// `P`: a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadRow {
    pub(crate) epoch: Epoch,
    pub(crate) key: String,
    pub(crate) upload_id: String,
    pub(crate) part_bytes: u64,
}

/// `N`: uploads asked for under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AskedRow {
    /// How many names were not heard.
    pub(crate) count: u32,
    /// When the first and the last of them were asked for.
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

/// `p`: a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartRow {
    pub(crate) etag: String,
}

/// `V`: of which version of an object the digests are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DigestedRow {
    pub(crate) epoch: Epoch,
    pub(crate) etag: Option<String>,
    /// Digests of the first blocks, one after the other; empty if they are rows.
    pub(crate) head: Vec<u8>,
}

/// `v`: digests of blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DigestRow {
    pub(crate) epoch: Epoch,
    /// One after the other.
    pub(crate) digests: Vec<u8>,
}

/// `R`: a directory to be resynced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResyncRow {
    /// The last name that was handled.
    pub(crate) cursor: Option<Vec<u8>>,
}

impl GarbageRow {
    /// The etag of a row that was written before an object, in case nobody hears whether that arrived.
    /// No store has an empty one.
    const ATTEMPT: &'static str = "";

    pub(crate) fn attempt(directory: bool) -> Self {
        Self {
            etag: Some(Self::ATTEMPT.to_owned()),
            directory,
        }
    }

    /// As callers see it.
    pub(crate) fn into_garbage(self, key: String) -> Garbage {
        let attempted = self.etag.as_deref() == Some(Self::ATTEMPT);
        Garbage {
            etag: self.etag.filter(|_| !attempted),
            attempted,
            // Earlier versions forgot it where the directory was gone.
            directory: self.directory || key.ends_with('/'),
            key,
        }
    }
}

impl Record for FormatRow {}
impl Record for HeaderRow {}
impl Record for JournalIdRow {}
impl Record for InodeRow {}
impl Record for DirentRow {}
impl Record for LinkRow {}
impl Record for ChunkRow {}
impl Record for XattrRow {}
impl Record for UnsyncedRow {}
impl Record for OrphanRow {
    const VERSION: u8 = 2;

    fn from_earlier(version: u8, fields: &[u8]) -> Option<postcard::Result<Self>> {
        // No place.
        (version == 1).then(|| postcard::from_bytes(&[fields, &[0]].concat()))
    }
}
impl Record for FormerRow {
    const VERSION: u8 = 2;

    fn from_earlier(version: u8, fields: &[u8]) -> Option<postcard::Result<Self>> {
        // Only synced versions were kept.
        (version == 1).then(|| postcard::from_bytes(&[fields, &SYNCED].concat()))
    }
}
impl Record for NodeRow {}
impl Record for MarkRow {}
impl Record for ClaimRow {}
impl Record for GarbageRow {}
impl Record for UploadRow {}
impl Record for AskedRow {}
impl Record for PartRow {}
impl Record for DigestedRow {}
impl Record for DigestRow {}
impl Record for ResyncRow {}
/// `M`: what the store may yet do.
impl Record for crate::types::Sent {}
/// `S`: a listing.
impl Record for crate::types::Listing {}

/// [`Seal::Synced`], as it is written.
const SYNCED: [u8; 1] = [1];

/// The bytes of a record.
pub(crate) fn encode<R: Record>(record: &R) -> Result<Vec<u8>, Error> {
    let mut start = Vec::with_capacity(160);
    start.push(R::VERSION);
    let bytes =
        postcard::to_extend(record, start).map_err(|_| Error::TooLarge { what: "a row" })?;
    if bytes.len() > ROW_BYTES_MAX {
        return Err(Error::TooLarge {
            what: "a row of more than 4,000 bytes (is the object's key that long?)",
        });
    }
    Ok(bytes)
}

/// The record in a value; `key` is for the message.
pub(crate) fn decode<R: Record>(key: &[u8], bytes: &[u8]) -> Result<R, Error> {
    match bytes.split_first() {
        Some((&version, fields)) => {
            let record = match version == R::VERSION {
                true => Some(postcard::from_bytes(fields)),
                false => R::from_earlier(version, fields),
            };
            match record {
                Some(record) => record.map_err(|error| corrupt(key, format!("{error}"))),
                None => Err(corrupt(
                    key,
                    format!("a record of unknown version {version}"),
                )),
            }
        }
        None => Err(corrupt(key, "an empty record".into())),
    }
}

/// An error that names the row.
pub(crate) fn corrupt(key: &[u8], what: String) -> Error {
    // The tag and numbers identify the row; names and object keys stay out of messages.
    let key = key
        .iter()
        .take(17)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Error::Corrupt { what, key }
}

/// The value of a counter.
pub(crate) fn decode_counter(key: &[u8], bytes: Option<&[u8]>) -> Result<u64, Error> {
    match bytes {
        None => Ok(0),
        Some(bytes) => bytes
            .try_into()
            .map(u64::from_le_bytes)
            .map_err(|_| corrupt(key, "a counter that isn't 8 bytes".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Content, Listing, Origin, Sent, SentVersion};

    fn check<R: Record + PartialEq + std::fmt::Debug>(record: R, golden: &[u8]) {
        assert_eq!(
            encode(&record).unwrap(),
            golden,
            "{record:?} is encoded otherwise"
        );
        assert_eq!(decode::<R>(b"?", golden).unwrap(), record);
    }

    fn time(secs: i64) -> Timestamp {
        Timestamp { secs, nanos: 7 }
    }

    #[test]
    fn records_of_version_1_keep_their_bytes() {
        check(
            FormatRow {
                format: 1,
                store_url: "s3://b/p".into(),
            },
            b"\x01\x01\x08s3://b/p",
        );
        check(JournalIdRow { id: 300 }, b"\x01\xac\x02");
        check(
            DirentRow {
                ino: Ino(300),
                kind: Kind::Directory,
            },
            b"\x01\xac\x02\x01",
        );
        check(
            NodeRow {
                place: Place {
                    host: "h".into(),
                    mountpoint: "/m".into(),
                },
                since: time(1),
                seen: time(2),
                mounted: true,
                turn: 3,
            },
            b"\x01\x01h\x02/m\x02\x07\x04\x07\x01\x03",
        );
        check(LinkRow { primary: true }, b"\x01\x01");
        check(
            ChunkRow {
                bytes: b"abc".to_vec(),
            },
            b"\x01\x03abc",
        );
        check(
            XattrRow {
                length: 3,
                head: b"abc".to_vec(),
            },
            b"\x01\x03\x03abc",
        );
        check(
            UnsyncedRow {
                seq: 1,
                stamp: 2,
                since: time(-1),
            },
            b"\x01\x01\x02\x01\x07",
        );
        check(MarkRow, b"\x01");
        check(OrphanRow::default(), b"\x02\x00\x00");
        let spare = OrphanRow {
            spare_for: Some(Ino(300)),
            place: Some((Ino(2), b"n".to_vec())),
        };
        check(spare.clone(), b"\x02\x01\xac\x02\x01\x02\x01n");
        let before = decode::<OrphanRow>(b"?", b"\x01\x01\xac\x02").unwrap();
        let unplaced = OrphanRow {
            place: None,
            ..spare
        };
        assert_eq!(before, unplaced);
        check(
            FormerRow {
                generation: 3,
                epoch: Epoch(4),
                size: 300,
                valid: 5,
                mtime: time(1),
                since: time(2),
                seal: Seal::Synced,
            },
            b"\x02\x03\x04\xac\x02\x05\x02\x07\x04\x07\x01",
        );
        check(ClaimRow { ino: Ino(2) }, b"\x01\x02");
        check(
            GarbageRow {
                etag: Some("e".into()),
                directory: true,
            },
            b"\x01\x01\x01e\x01",
        );
        check(
            UploadRow {
                epoch: Epoch(4),
                key: "k".into(),
                upload_id: "u".into(),
                part_bytes: 128,
            },
            b"\x01\x04\x01k\x01u\x80\x01",
        );
        let asked = AskedRow {
            count: 2,
            since: time(1),
            until: time(2),
        };
        check(asked, b"\x01\x02\x02\x07\x04\x07");
        let replaced = SentVersion {
            ino: Ino(300),
            epoch: Epoch(4),
            meta_epoch: 5,
        };
        let sent = Sent {
            created: true,
            replaced: Some(replaced),
            deleted: false,
        };
        check(sent, b"\x01\x01\x01\xac\x02\x04\x05\x00");
        check(PartRow { etag: "e".into() }, b"\x01\x01e");
        let digested = DigestedRow {
            epoch: Epoch(4),
            etag: Some("e".into()),
            head: b"ab".to_vec(),
        };
        check(digested, b"\x01\x04\x01\x01e\x02ab");
        let digests = b"ab".to_vec();
        let epoch = Epoch(4);
        check(DigestRow { epoch, digests }, b"\x01\x04\x02ab");
        check(
            ResyncRow {
                cursor: Some(b"n".to_vec()),
            },
            b"\x01\x01\x01n",
        );
        check(
            Listing {
                at: time(1),
                complete: true,
            },
            b"\x01\x02\x07\x01",
        );
    }

    #[test]
    fn an_inode_of_version_1_keeps_its_bytes() {
        let inode = Inode {
            ino: Ino(2),
            kind: Kind::File,
            mode: 0o644,
            uid: 3,
            gid: 4,
            nlink: 1,
            rdev: 0,
            size: 5,
            atime: time(1),
            mtime: time(2),
            ctime: time(3),
            btime: time(4),
            parent: Ino::ROOT,
            meta_epoch: 6,
            content: Content {
                generation: 1,
                epoch: Epoch(9),
                writer: Some(NodeId(8)),
                origin: Some(Origin {
                    key: "k".into(),
                    etag: None,
                    size: 5,
                    epoch: Epoch(8),
                    meta_epoch: 5,
                    checked: time(5),
                }),
                valid: 5,
                seal: Some(Seal::Closed {
                    size: 5,
                    map_digest: 11,
                }),
                learned: true,
            },
        };
        check(
            InodeRow {
                inode,
                unsynced_on: Some(NodeId(8)),
                orphan_on: None,
                moved: true,
            },
            &[
                1, 2, 0, 0xa4, 3, 3, 4, 1, 0, 5, // ino kind mode:2 uid gid nlink rdev size
                2, 7, 4, 7, 6, 7, 8, 7, // times
                1, 6, // parent, meta_epoch
                1, 9, 1, 8, // generation, epoch, writer
                1, 1, b'k', 0, 5, 8, 5, 10, 7, // origin
                5, 1, 0, 5, 11, 1, // valid, seal, learned
                1, 8, 0, 1, // unsynced_on, orphan_on, moved
            ],
        );
    }

    #[test]
    fn an_unknown_version_is_an_error_and_not_a_guess() {
        assert!(matches!(
            decode::<MarkRow>(b"W", b"\x02"),
            Err(Error::Corrupt { .. })
        ));
        assert!(decode::<MarkRow>(b"W", b"").is_err());
    }

    #[test]
    fn a_row_that_could_be_torn_is_refused() {
        let row = PartRow {
            etag: "x".repeat(ROW_BYTES_MAX),
        };
        assert!(matches!(encode(&row), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn a_former_version_of_before_they_had_seals_was_synced() {
        let first = b"\x01\x03\x04\xac\x02\x05\x02\x07\x04\x07";
        let row: FormerRow = decode(b"B", first).expect("known");
        assert_eq!((row.generation, row.seal), (3, Seal::Synced));
        assert!(decode::<FormerRow>(b"B", &[&b"\x03"[..], &first[1..]].concat()).is_err());
    }
}
