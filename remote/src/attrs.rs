//! Mode, owner and times of a file, and how they are written on an object.
//!
//! The spelling is the one that AWS's own tools (DataSync, FSx for Lustre, Storage Gateway) read and
//! write as user metadata, so that they and a second mount understand it:
//!
//! | name | value | example |
//! |---|---|---|
//! | `file-permissions` | type and mode bits, octal | `0100644`, `0040755` of a directory |
//! | `file-owner`, `file-group` | decimal | `1000` |
//! | `file-mtime`, `file-atime` | time since 1970 with its unit | `1700000000123456789ns` |
//! | `fused-version` | which version of which file this is: `1-<node>-<ino>-<epoch>-<meta epoch>`, hexadecimal | `1-2a-10-3-1` |
//!
//! The last is ours: by it a writer recognises what it wrote itself, when the answer to the write got
//! lost, and doesn't take it for somebody else's change. A folder keeps it as the extended attribute
//! `user.fused.version` where the file system has such.
//!
//! On reading, `ns`, `us`, `ms`, `s` and (as older tools wrote it) no unit, meaning seconds, with or
//! without a fraction, are understood, and a value that can't be is left out. Azure allows no hyphens
//! in names, so there they are underscores; both are read everywhere.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// File type bits of a regular file and a directory, as `stat` has them.
const TYPE_FILE: u32 = 0o100000;
const TYPE_DIRECTORY: u32 = 0o040000;
/// Permission bits, set-id bits and sticky bit.
const MODE_MASK: u32 = 0o7777;
/// Nanoseconds in a second.
const NANOS: i128 = 1_000_000_000;

/// POSIX attributes as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PosixAttrs {
    /// Permission bits (07777).
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last change of the bytes, nanoseconds since 1970.
    pub mtime_ns: Option<i128>,
    /// Last read, nanoseconds since 1970.
    pub atime_ns: Option<i128>,
    /// Which version of which file this is; opaque to this crate.
    pub version: Option<FileVersion>,
}

/// A version of a file, as its writer counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion {
    /// The node that wrote it.
    pub node: u64,
    /// The file's number there.
    pub ino: u64,
    /// The version of its bytes.
    pub epoch: u64,
    /// The version of its attributes.
    pub meta_epoch: u64,
    /// What the writer says of the key that it is written to; 0 if it says nothing. Tells the object that was
    /// put there from a copy of one that was put elsewhere, for tools copy this along with the bytes.
    pub place: u64,
}

impl FileVersion {
    /// As it stands on an object.
    pub(crate) fn encode(self) -> String {
        let FileVersion {
            node,
            ino,
            epoch,
            meta_epoch,
            place,
        } = self;
        format!("2-{node:x}-{ino:x}-{epoch:x}-{meta_epoch:x}-{place:x}")
    }

    /// From what stands on an object; `None` for anything else. The first spelling knew no place.
    pub(crate) fn decode(text: &str) -> Option<FileVersion> {
        let fields: Vec<&str> = text.split('-').collect();
        let (node, ino, epoch, meta_epoch, place) = match fields[..] {
            ["1", node, ino, epoch, meta_epoch] => (node, ino, epoch, meta_epoch, "0"),
            ["2", node, ino, epoch, meta_epoch, place] => (node, ino, epoch, meta_epoch, place),
            _ => return None,
        };
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        Some(FileVersion {
            node: number(node)?,
            ino: number(ino)?,
            epoch: number(epoch)?,
            meta_epoch: number(meta_epoch)?,
            place: number(place)?,
        })
    }
}

impl PosixAttrs {
    /// As user metadata for an object: name without any store's prefix, and value.
    pub(crate) fn to_metadata(self, directory: bool) -> Vec<(&'static str, String)> {
        let kind = if directory { TYPE_DIRECTORY } else { TYPE_FILE };
        let mut pairs = Vec::with_capacity(6);
        if let Some(mode) = self.mode {
            pairs.push((
                "file-permissions",
                format!("{:07o}", kind | (mode & MODE_MASK)),
            ));
        }
        if let Some(uid) = self.uid {
            pairs.push(("file-owner", uid.to_string()));
        }
        if let Some(gid) = self.gid {
            pairs.push(("file-group", gid.to_string()));
        }
        if let Some(mtime) = self.mtime_ns {
            pairs.push(("file-mtime", format!("{mtime}ns")));
        }
        if let Some(atime) = self.atime_ns {
            pairs.push(("file-atime", format!("{atime}ns")));
        }
        if let Some(version) = self.version {
            pairs.push(("fused-version", version.encode()));
        }
        pairs
    }

    /// These, and where they leave something open, what `had` says.
    pub fn or(self, had: PosixAttrs) -> PosixAttrs {
        PosixAttrs {
            mode: self.mode.or(had.mode),
            uid: self.uid.or(had.uid),
            gid: self.gid.or(had.gid),
            mtime_ns: self.mtime_ns.or(had.mtime_ns),
            atime_ns: self.atime_ns.or(had.atime_ns),
            version: self.version.or(had.version),
        }
    }

    /// Takes in one pair of user metadata. Returns whether the name was one of ours.
    pub(crate) fn take_metadata(&mut self, name: &str, value: &str) -> bool {
        let value = value.trim();
        match name.to_ascii_lowercase().replace('_', "-").as_str() {
            "file-permissions" => {
                self.mode = u32::from_str_radix(value, 8)
                    .ok()
                    .map(|mode| mode & MODE_MASK)
            }
            "file-owner" => self.uid = value.parse().ok(),
            "file-group" => self.gid = value.parse().ok(),
            "file-mtime" => self.mtime_ns = parse_time(value),
            "file-atime" => self.atime_ns = parse_time(value),
            "fused-version" => self.version = FileVersion::decode(value),
            _ => return false,
        }
        true
    }
}

/// Nanoseconds since 1970 of a time as the table above has it.
fn parse_time(value: &str) -> Option<i128> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_nanos = match &value[digits.len()..] {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "" | "s" => NANOS,
        _ => return None,
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let negative = whole.starts_with('-');
    let whole: i128 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut nanos = whole.checked_mul(unit_nanos)?;
    let mut place = unit_nanos;
    for digit in fraction.bytes() {
        place /= 10;
        let step = i128::from(digit - b'0') * place;
        nanos += if negative { -step } else { step };
    }
    // Beyond what any file system can hold is as good as unknown.
    (nanos.unsigned_abs() < i64::MAX as u128 * NANOS as u128).then_some(nanos)
}

/// A point in time, from nanoseconds since 1970.
pub(crate) fn system_time(nanos: i128) -> SystemTime {
    let magnitude = Duration::new(
        u64::try_from(nanos.unsigned_abs() / NANOS as u128).unwrap_or(0),
        (nanos.unsigned_abs() % NANOS as u128) as u32,
    );
    let time = if nanos < 0 {
        UNIX_EPOCH.checked_sub(magnitude)
    } else {
        UNIX_EPOCH.checked_add(magnitude)
    };
    time.unwrap_or(UNIX_EPOCH)
}

/// Whole seconds (rounded down) and the nanoseconds above them.
pub(crate) fn split_nanos(nanos: i128) -> (i64, i64) {
    (
        i64::try_from(nanos.div_euclid(NANOS)).unwrap_or(0),
        nanos.rem_euclid(NANOS) as i64,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> PosixAttrs {
        let mut attrs = PosixAttrs::default();
        attrs.take_metadata(name, value);
        attrs
    }

    #[test]
    fn attributes_survive_being_written_as_metadata() {
        let attrs = PosixAttrs {
            mode: Some(0o4755),
            uid: Some(1000),
            gid: Some(0),
            mtime_ns: Some(1_700_000_000_123_456_789),
            atime_ns: Some(-5),
            version: Some(FileVersion {
                node: u64::MAX,
                ino: 16,
                epoch: 3,
                meta_epoch: 0,
                place: 9,
            }),
        };
        let mut back = PosixAttrs::default();
        for (name, value) in attrs.to_metadata(false) {
            assert!(back.take_metadata(name, &value));
        }
        assert_eq!(back, attrs);
    }

    #[test]
    fn permissions_are_spelled_as_aws_tools_spell_them() {
        let attrs = PosixAttrs {
            mode: Some(0o644),
            ..Default::default()
        };
        assert_eq!(
            attrs.to_metadata(false),
            [("file-permissions", "0100644".to_owned())]
        );
        assert_eq!(
            attrs.to_metadata(true),
            [("file-permissions", "0040644".to_owned())]
        );
        assert_eq!(read("file-permissions", "0755").mode, Some(0o755));
        assert_eq!(read("File_Permissions", "0100600").mode, Some(0o600));
    }

    #[test]
    fn times_are_read_in_every_unit_that_tools_use() {
        let second = 1_500_000_000 * NANOS;
        assert_eq!(
            read("file-mtime", "1500000000000000000ns").mtime_ns,
            Some(second)
        );
        assert_eq!(read("file-mtime", "1500000000000ms").mtime_ns, Some(second));
        assert_eq!(read("file-mtime", "1500000000").mtime_ns, Some(second));
        assert_eq!(
            read("file-mtime", "1500000000.25").mtime_ns,
            Some(second + NANOS / 4)
        );
        assert_eq!(read("file-mtime", "-0.25s").mtime_ns, Some(-NANOS / 4));
        for nonsense in [
            "",
            "ns",
            "12h",
            "1.2.3",
            "9999999999999999999999999999999999999s",
            "1.x",
        ] {
            assert_eq!(read("file-mtime", nonsense).mtime_ns, None, "{nonsense}");
        }
    }

    #[test]
    fn a_version_is_taken_only_in_our_own_spelling() {
        let version = FileVersion {
            node: 42,
            ino: 16,
            epoch: 3,
            meta_epoch: 1,
            place: 0xab,
        };
        assert_eq!(version.encode(), "2-2a-10-3-1-ab");
        assert_eq!(FileVersion::decode("2-2a-10-3-1-ab"), Some(version));
        let without = FileVersion {
            place: 0,
            ..version
        };
        assert_eq!(FileVersion::decode("1-2a-10-3-1"), Some(without));
        for other in [
            "",
            "2-2a-10-3-1",
            "3-2a-10-3-1-ab",
            "1-2a-10-3",
            "1-2a-10-3-1-1",
            "1-x-10-3-1",
            "v1",
        ] {
            assert_eq!(FileVersion::decode(other), None, "{other}");
        }
    }

    #[test]
    fn foreign_metadata_is_left_alone() {
        assert!(!PosixAttrs::default().take_metadata("content-hash", "1"));
    }

    #[test]
    fn times_before_1970_split_downwards() {
        assert_eq!(split_nanos(-1), (-1, 999_999_999));
        assert_eq!(system_time(-1), UNIX_EPOCH - Duration::from_nanos(1));
    }
}
