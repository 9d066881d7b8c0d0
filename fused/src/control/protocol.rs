//! What the daemon and `fused status`, `fused sync`, `fused load`, `fused pin`, `fused ls`, `fused free`, `fused umount` say to each other.
//!
//! A Unix stream socket, one JSON object a line, UTF-8, in both directions. A client sends a [`Request`];
//! the daemon answers with [`Reply`] lines:
//!
//! - `{"op":"status"}` is answered by one `{"event":"status", ...}` with the fields of [`Status`];
//! - `{"op":"sync","paths":["a/b"],"timeout_ms":1000}` by any number of `{"event":"progress", ...}`, at least
//!   one every ten seconds (so that a client can tell a long upload from a dead daemon), then one
//!   `{"event":"done","unflushed":[...]}`;
//! - `{"op":"load","paths":["a/b"]}` by `{"event":"loading", ...}` several times a second, then one
//!   `{"event":"loaded", ...}` with the fields of [`Loaded`]; the load ends when the client closes the connection;
//! - `{"op":"pin","paths":["a/b"]}` by `{"event":"pinned","count":1}`, `{"op":"unpin","paths":["a/b"]}` by one
//!   `{"event":"unpinned", ...}` with the fields of [`Unpinned`]; both are durable then;
//! - `{"op":"list","paths":["a/b"],"each":false}` by any number of `{"event":"entry", ...}` with the fields of
//!   [`Entry`], `{"event":"unlisted", ...}` for what can't be listed, `{"event":"listing"}` as a sign of life, and
//!   one `{"event":"listed"}` at the end;
//! - `{"op":"free","paths":["a/b"]}` is answered by one `{"event":"freed", ...}` with the fields of [`Freed`];
//! - what the daemon doesn't understand, or can't do, by `{"event":"error","message":"..."}`.
//!
//! After the last line of an answer the client may ask again. **The daemon keeps every connection open until
//! the client closes it or the daemon's process ends**: its end, after the cache directory's lock is
//! released, is what `fused umount` waits for on an idle connection.
//!
//! Fields may be added: readers ignore unknown ones and take the default for missing ones.
//!
//! The socket is `<major>:<minor>.sock`, the device numbers of the mount as in `/proc/self/mountinfo`, in the
//! directory that [`super::socket_dir`] names (mode 0700, socket 0600).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest line that either side accepts, in bytes; a `sync` of many thousand paths fits.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// How is the mount?
    Status,
    /// Tell me when everything at and below these paths is in the store.
    Sync {
        /// Relative to the root of the file system; the empty path is the root.
        paths: Vec<WirePath>,
        /// Give up after so many milliseconds; `None` = wait for ever.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// Bring everything at and below these paths into the cache.
    Load {
        /// As for [`Request::Sync`].
        paths: Vec<WirePath>,
    },
    /// Keep these files and what is below these directories in the cache.
    Pin {
        /// As for [`Request::Sync`].
        paths: Vec<WirePath>,
    },
    /// Take the pins from everything at and below these paths.
    Unpin {
        /// As for [`Request::Sync`].
        paths: Vec<WirePath>,
    },
    /// How much of what is at and below these paths is in the cache?
    List {
        /// As for [`Request::Sync`].
        paths: Vec<WirePath>,
        /// Each file below them, instead of a sum for each entry of theirs.
        #[serde(default)]
        each: bool,
    },
    /// Give up the local bytes of what is at and below these paths and in the store.
    Free {
        /// As for [`Request::Sync`].
        paths: Vec<WirePath>,
    },
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Sync`], while it waits.
    Progress(Progress),
    /// To [`Request::Sync`], at its end.
    Done(Done),
    /// To [`Request::Load`], while it goes on.
    Loading(Loading),
    /// To [`Request::Load`], at its end.
    Loaded(Loaded),
    /// To [`Request::Pin`].
    Pinned {
        /// Paths that were not pinned before.
        count: u64,
    },
    /// To [`Request::Unpin`].
    Unpinned(Unpinned),
    /// To [`Request::List`], while it goes on.
    Listing,
    /// To [`Request::List`].
    Entry(Entry),
    /// To [`Request::List`]: this could not be listed.
    Unlisted(Failed),
    /// To [`Request::List`], at its end.
    Listed,
    /// To [`Request::Free`].
    Freed(Freed),
    /// The request wasn't understood or couldn't be served.
    Error {
        /// A sentence for the user.
        message: String,
    },
}

/// How far a `sync` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Files that are not in the store yet.
    pub files_left: u64,
    /// Their bytes that are not in the store yet.
    pub bytes_left: u64,
    /// Files that the sync waits or waited for.
    pub files_total: u64,
    /// Their bytes.
    pub bytes_total: u64,
}

/// How a `sync` ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    /// What is still not in the store; empty = everything is. The daemon may name the first ones only and
    /// say in `unflushed_total` how many there are.
    pub unflushed: Vec<Unflushed>,
    /// How many files are not in the store (at least the length of `unflushed`).
    pub unflushed_total: u64,
    /// Files that the sync waited for.
    pub files_total: u64,
    /// Their bytes.
    pub bytes_total: u64,
}

/// How far a `load` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Loading {
    /// Files that are not done yet.
    pub files_left: u64,
    /// Bytes that are still to be fetched.
    pub bytes_left: u64,
    /// Files met so far.
    pub files_total: u64,
    /// Bytes to be fetched in all, as far as they are known.
    pub bytes_total: u64,
    /// The totals may still grow.
    pub listing: bool,
}

/// How a `load` ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Loaded {
    /// Files of which something was fetched, and that are all in the cache now.
    pub files: u64,
    /// Bytes that were fetched.
    pub bytes: u64,
    /// Files that were all in the cache already.
    pub resident: u64,
    /// Files that by a rule do not stay in the cache.
    pub skipped: u64,
    /// What could not be loaded. The daemon may name the first ones only.
    pub failed: Vec<Failed>,
    /// How many could not (at least the length of `failed`).
    pub failed_total: u64,
    /// Why it ended before its end, in words.
    pub stopped: Option<String>,
}

/// What could not be loaded or listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Relative to the root of the file system.
    pub path: WirePath,
    /// Why not, in words.
    pub reason: String,
}

/// What an `unpin` did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unpinned {
    /// Pins that are gone.
    pub count: u64,
    /// What stays in the cache all the same.
    pub still: Vec<StillPinned>,
}

/// What a pinned directory keeps in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillPinned {
    /// Relative to the root of the file system.
    pub path: WirePath,
    /// The directory above it that is pinned.
    pub by: WirePath,
}

/// How much of a file, or of everything below a directory, is in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative to the root of the file system.
    pub path: WirePath,
    /// What it is.
    pub kind: EntryKind,
    /// Files that are counted.
    pub files: u64,
    /// Their sizes in bytes.
    pub bytes: u64,
    /// Of these, bytes in the cache.
    pub resident: u64,
    /// Files whose newest version is not in the store.
    pub dirty: u64,
    /// Whether it is pinned, or something above it is.
    pub pinned: bool,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory, with everything below it.
    Directory,
    /// What only the journal has.
    Other,
}

impl Entry {
    /// `dirty`: something is not in the store yet; `store`: everything is, and nothing is here; else `clean`.
    pub fn state(&self) -> &'static str {
        match (self.dirty, self.bytes, self.resident) {
            (1.., _, _) => "dirty",
            (0, 1.., 0) => "store",
            _ => "clean",
        }
    }
}

/// What a `free` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Freed {
    /// Files whose local bytes were given up.
    pub files: u64,
    /// Their sizes in bytes.
    pub bytes: u64,
    /// Files kept because they are not in the store yet.
    pub dirty: u64,
    /// Files kept because they are open and the kernel reads and writes them by itself.
    pub in_use: u64,
    /// Files kept because they are pinned.
    pub pinned: u64,
}

/// A file that is not in the store after a `sync`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unflushed {
    /// Relative to the root of the file system.
    pub path: WirePath,
    /// Why not, in words.
    pub reason: String,
}

/// How a mount is. Sizes are bytes, `_s` are seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// Where it is mounted.
    pub mountpoint: WirePath,
    /// The store's URL.
    pub store: String,
    /// Whether the last request to the store was answered.
    pub store_ok: bool,
    /// `embedded` or `fdb:FILE`.
    pub journal: String,
    /// The identity of this cache directory in the journal.
    pub node: String,
    /// The cache directory.
    pub cache_dir: WirePath,
    /// Further ones on other devices.
    pub further_cache_dirs: Vec<WirePath>,
    /// What the cache may use.
    pub cache_size: u64,
    /// What the cache uses.
    pub cache_used: u64,
    /// Bytes that are not in the store yet.
    pub dirty_bytes: u64,
    /// Files that are not in the store yet.
    pub dirty_files: u64,
    /// Age of the oldest change that is not in the store yet.
    pub oldest_unflushed_age_s: Option<f64>,
    /// Upload rate of the last seconds.
    pub upload_bytes_per_s: f64,
    /// Bytes uploaded since the mount.
    pub uploaded_bytes: u64,
    /// What is being uploaded now.
    pub uploading: Vec<Uploading>,
    /// Whether the kernel reads and writes cached files by itself.
    pub passthrough: PassthroughState,
    /// Blocks that came from the store as something else than was uploaded.
    #[serde(default)]
    pub corrupt_blocks: u64,
    /// What was brought in ahead of readers since the mount.
    #[serde(default)]
    pub prefetched: Prefetched,
    /// Files whose object was changed by somebody else meanwhile.
    pub conflicts: Sample,
    /// Paths that are pinned.
    pub pinned: Sample,
    /// Keys of the bucket that can't be shown as file names.
    pub hidden_keys: Sample,
    /// The last thing that failed.
    pub last_error: Option<LastError>,
    /// How long it has been mounted.
    pub uptime_s: f64,
    /// Nothing may be changed through this mount.
    pub read_only: bool,
}

/// A file on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Uploading {
    /// The object's key.
    pub key: String,
    /// Bytes that the store has.
    pub bytes_done: u64,
    /// Bytes of the file.
    pub bytes_total: u64,
}

/// Whether the kernel reads and writes cached files by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PassthroughState {
    /// It does.
    pub on: bool,
    /// Why not, in words.
    pub reason: Option<String>,
}

/// What was brought in ahead of readers since the mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Prefetched {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// Files that were expected to be opened next.
    pub foreseen: u64,
    /// Of these, files that were.
    pub opened: u64,
}

/// The first few of possibly many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// How many there are.
    pub total: u64,
    /// The first ones (the daemon sends a hundred at most).
    pub first: Vec<String>,
}

/// The last thing that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastError {
    /// When, in seconds since 1970.
    pub when: i64,
    /// The object's key, if it was about one.
    pub key: Option<String>,
    /// What failed, in a sentence without credentials.
    pub message: String,
}

/// A path as JSON text, whatever its bytes are.
///
/// Text is text; a byte that is no UTF-8, a control character and a literal `%` are written as `%` and two
/// hexadecimal digits (`100%` is `100%25`). Every path has exactly one such text; reading takes any
/// `%XX`, and a `%` that isn't followed by two digits is an error.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WirePath(Vec<u8>);

impl WirePath {
    /// The path's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path.
    pub fn to_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The path.
    pub fn into_path(self) -> PathBuf {
        PathBuf::from(OsString::from_vec(self.0))
    }

    fn encode(&self) -> String {
        let mut text = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c == '%' || c.is_control() {
                    let mut buffer = [0; 4];
                    push_hex(&mut text, c.encode_utf8(&mut buffer).as_bytes());
                } else {
                    text.push(c);
                }
            }
            push_hex(&mut text, chunk.invalid());
        }
        text
    }

    fn decode(text: &str) -> Option<WirePath> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            rest = tail;
            if first != b'%' {
                bytes.push(first);
                continue;
            }
            let (digits, tail) = rest.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits)
                .ok()
                .filter(|d| !d.starts_with('+'))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = tail;
        }
        Some(WirePath(bytes))
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str(&format!("%{byte:02X}"));
    }
}

impl From<&Path> for WirePath {
    fn from(path: &Path) -> WirePath {
        WirePath(path.as_os_str().as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for WirePath {
    fn from(bytes: Vec<u8>) -> WirePath {
        WirePath(bytes)
    }
}

impl fmt::Display for WirePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.encode())
    }
}

impl fmt::Debug for WirePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.encode())
    }
}

impl Serialize for WirePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for WirePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WirePath, D::Error> {
        let text = String::deserialize(deserializer)?;
        WirePath::decode(&text).ok_or_else(|| {
            serde::de::Error::custom("a `%` in a path without two hexadecimal digits")
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_look_as_documented() {
        let line = serde_json::to_string(&Request::Status).unwrap();
        assert_eq!(line, r#"{"op":"status"}"#);
        let sync = Request::Sync {
            paths: vec![Path::new("a/b 100%").into()],
            timeout_ms: Some(5),
        };
        let line = serde_json::to_string(&sync).unwrap();
        assert_eq!(
            line,
            r#"{"op":"sync","paths":["a/b 100%25"],"timeout_ms":5}"#
        );
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), sync);
    }

    #[test]
    fn replies_look_as_documented() {
        let done = r#"{"event":"done","unflushed":[{"path":"a","reason":"open for writing"}]}"#;
        let Reply::Done(done) = serde_json::from_str(done).unwrap() else {
            panic!("not done")
        };
        assert_eq!(done.unflushed[0].reason, "open for writing");
        let line = serde_json::to_string(&Reply::Status(Box::default())).unwrap();
        assert!(
            line.starts_with(r#"{"event":"status","version":"#),
            "{line}"
        );
    }

    #[test]
    fn a_reader_takes_unknown_and_missing_fields() {
        let line = r#"{"event":"status","pid":7,"from_the_future":[1]}"#;
        let Reply::Status(status) = serde_json::from_str(line).unwrap() else {
            panic!("no status")
        };
        assert_eq!((status.pid, status.dirty_files), (7, 0));
    }

    #[test]
    fn a_torn_escape_in_a_path_is_refused() {
        for text in [r#""%4""#, r#""a%""#, r#""%+1""#, r#""%zz""#] {
            assert!(serde_json::from_str::<WirePath>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_survive_as_a_path(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let path = WirePath::from(bytes);
            let json = serde_json::to_string(&path).unwrap();
            prop_assert_eq!(serde_json::from_str::<WirePath>(&json).unwrap(), path);
        }

        #[test]
        fn any_text_survives_as_a_path(text in ".*") {
            let path = WirePath::from(text.into_bytes());
            let json = serde_json::to_string(&path).unwrap();
            prop_assert_eq!(serde_json::from_str::<WirePath>(&json).unwrap(), path);
        }
    }
}
