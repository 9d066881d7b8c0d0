//! The vocabulary: what a program can do to files, as values that can be generated, sent to another
//! process, shrunk, and printed in a form that is the source text of a test.
//!
//! A sequence works in a small world, so that its steps get in each other's way: a few names, two
//! processes with [`SLOTS`] descriptors and [`MAPS`] mappings each, four users. The same descriptor
//! number means a file on both sides; what is kept in it stays open while names change around it.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;

use nix::libc;
use serde::{Deserialize, Serialize};

/// Processes that take turns.
pub const PROCESSES: u8 = 2;
/// Descriptors that each of them can hold.
pub const SLOTS: u8 = 3;
/// Mappings that each of them can hold.
pub const MAPS: u8 = 2;

/// One step of a sequence.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// A process does something in some user's name, on both sides.
    Do(u8, Identity, Operation),
    /// Something happens to the mount; the plain folder has no part in it.
    World(Event),
}

/// What this process does, as that user.
pub fn by(process: u8, who: Identity, what: Operation) -> Step {
    Step::Do(process, who, what)
}

/// What happens next to the mount.
pub fn then(event: Event) -> Step {
    Step::World(event)
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Do(process, who, what) => write!(f, "by({process}, {who:?}, {what:?})"),
            Self::World(event) => write!(f, "then({event:?})"),
        }
    }
}

/// What must not be noticed by programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// `fused sync`: everything is an object then.
    Sync,
    /// `fused sync` and `fused free`: the bytes are only in the store then.
    Free,
    /// Every descriptor is closed; `fused umount`; the same is mounted again.
    Remount,
    /// Every descriptor is closed; the daemon is killed at once; the same is mounted again.
    Crash,
    /// Long enough for a file system's clock to move on.
    Pause,
}

/// Who does it: [`Root`](Self::Root) with all its capabilities, and three who have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// The superuser.
    Root,
    /// 1001:1001, and in the team.
    Ann,
    /// 1002:1002, and in the team.
    Bob,
    /// 1003:1003, and in no other group.
    Eve,
}

/// The group that Ann and Bob share.
pub const TEAM: u32 = 2000;

impl Identity {
    /// User, group, and the supplementary groups.
    pub fn numbers(self) -> (u32, u32, &'static [u32]) {
        match self {
            Self::Root => (0, 0, &[]),
            Self::Ann => (1001, 1001, &[TEAM]),
            Self::Bob => (1002, 1002, &[TEAM]),
            Self::Eve => (1003, 1003, &[]),
        }
    }
}

/// A path: from the folder of the sequence, or from a directory that a slot holds open.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The slot of the directory that the path starts at.
    pub slot: Option<u8>,
    /// The path; a character up to U+00FF stands for the byte of that number.
    pub path: String,
}

/// A path from the folder of the sequence.
pub fn at(path: &str) -> Place {
    Place {
        slot: None,
        path: path.to_owned(),
    }
}

/// A path from an open directory.
#[allow(dead_code, reason = "sequences are printed with it")]
pub fn below(slot: u8, path: &str) -> Place {
    Place {
        slot: Some(slot),
        path: path.to_owned(),
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slot {
            None => write!(f, "at({:?})", self.path),
            Some(slot) => write!(f, "below({slot}, {:?})", self.path),
        }
    }
}

/// The bytes of a path that is written with one character a byte.
pub fn bytes_of(path: &str) -> OsString {
    OsString::from_vec(path.chars().map(|c| c as u32 as u8).collect())
}

/// The opposite of [`bytes_of`].
pub fn text_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// What an operation is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// What the path leads to.
    Name(Place),
    /// What the path names, be it a symlink.
    Link(Place),
    /// What is open there.
    Slot(u8),
}

/// The flags of open(2), without those that are always given (`O_CLOEXEC`, `O_NONBLOCK`).
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags(pub i32);

/// Every flag that is generated, with its name.
pub const OPEN_FLAGS: &[(&str, i32)] = &[
    ("O_CREAT", libc::O_CREAT),
    ("O_EXCL", libc::O_EXCL),
    ("O_TRUNC", libc::O_TRUNC),
    ("O_APPEND", libc::O_APPEND),
    ("O_DIRECTORY", libc::O_DIRECTORY),
    ("O_NOFOLLOW", libc::O_NOFOLLOW),
    ("O_DSYNC", libc::O_DSYNC),
    ("O_PATH", libc::O_PATH),
];

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.0 & libc::O_ACCMODE {
            libc::O_RDONLY => "O_RDONLY",
            libc::O_WRONLY => "O_WRONLY",
            _ => "O_RDWR",
        };
        write!(f, "Flags({access}")?;
        for (name, flag) in OPEN_FLAGS {
            if self.0 & flag == *flag {
                write!(f, " | {name}")?;
            }
        }
        write!(f, ")")
    }
}

/// Permission bits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode(pub u32);

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mode(0o{:o})", self.0)
    }
}

/// Bytes to write: none is zero, and each depends on the seed and on its place.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// What tells two writes apart.
    pub seed: u8,
    /// How many.
    pub len: u32,
}

/// That many bytes of that seed.
pub fn data(seed: u8, len: u32) -> Data {
    Data { seed, len }
}

impl Data {
    /// The bytes.
    pub fn bytes(self) -> Vec<u8> {
        let seed = u32::from(self.seed) * 37;
        let byte = |i: u32| (1 + (seed + i + i / 255 * 3) % 255) as u8;
        (0..self.len).map(byte).collect()
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data({}, {})", self.seed, self.len)
    }
}

/// A time that utimensat(2) sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    /// The present one.
    Now,
    /// What it was.
    Omit,
    /// Seconds and nanoseconds.
    At(i64, u32),
}

/// The names of extended attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Xattr {
    /// `user.a`
    UserA,
    /// `user.b`
    UserB,
    /// `trusted.a`: for the superuser only.
    Trusted,
    /// `security.a`
    Security,
}

impl Xattr {
    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::UserA => "user.a",
            Self::UserB => "user.b",
            Self::Trusted => "trusted.a",
            Self::Security => "security.a",
        }
    }
}

/// How setxattr(2) treats what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Put {
    /// Whatever is there.
    Any,
    /// `XATTR_CREATE`
    Create,
    /// `XATTR_REPLACE`
    Replace,
}

/// How renameat2(2) treats what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Over {
    /// It is replaced.
    Replace,
    /// `RENAME_NOREPLACE`
    NoReplace,
    /// `RENAME_EXCHANGE`
    Exchange,
}

/// What fallocate(2) does. Collapsing and inserting are left out: the kernel's FUSE refuses them itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Space {
    /// Mode 0.
    Allocate,
    /// `FALLOC_FL_KEEP_SIZE`
    KeepSize,
    /// `FALLOC_FL_PUNCH_HOLE`
    Punch,
    /// `FALLOC_FL_ZERO_RANGE`
    Zero,
    /// `FALLOC_FL_ZERO_RANGE` and `FALLOC_FL_KEEP_SIZE`
    ZeroKeepSize,
}

/// A lock that is asked for without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lock {
    /// Together with other readers.
    Shared,
    /// Alone.
    Exclusive,
    /// Given back.
    Free,
}

/// Whose a lock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockKind {
    /// flock(2): the whole file, owned by the open file description.
    Whole,
    /// `F_SETLK`: a range, owned by the process.
    Process,
    /// `F_OFD_SETLK`: a range, owned by the open file description.
    Description,
}

/// One system call, or a few that belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of the system calls")]
pub enum Operation {
    /// openat(2) into a slot; what was there is closed.
    Open {
        slot: u8,
        path: Place,
        flags: Flags,
        mode: Mode,
    },
    /// close(2)
    Close { slot: u8 },
    /// read(2) where the descriptor stands
    Read { slot: u8, len: u32 },
    /// write(2) where the descriptor stands, or at the end with `O_APPEND`
    Write { slot: u8, data: Data },
    /// lseek(2) from the start
    Seek { slot: u8, offset: u64 },
    /// lseek(2) from the end
    SeekEnd { slot: u8, offset: i64 },
    /// pread(2)
    Pread { slot: u8, offset: u64, len: u32 },
    /// pwrite(2)
    Pwrite { slot: u8, offset: u64, data: Data },
    /// truncate(2)
    Truncate { path: String, len: u64 },
    /// ftruncate(2)
    Ftruncate { slot: u8, len: u64 },
    /// fallocate(2)
    Fallocate {
        slot: u8,
        space: Space,
        offset: u64,
        len: u64,
    },
    /// `copy_file_range(2)` until it is done
    Copy {
        from: u8,
        to: u8,
        from_offset: u64,
        to_offset: u64,
        len: u64,
    },
    /// lseek(2) with `SEEK_DATA` and `SEEK_HOLE` over the whole file: no byte may be in a hole
    Holes { slot: u8 },
    /// fsync(2), or fdatasync(2)
    Fsync { slot: u8, data_only: bool },
    /// mmap(2) of the start of what is open in a slot
    Map {
        map: u8,
        slot: u8,
        shared: bool,
        write: bool,
    },
    /// Reading from a mapping, up to the end of the file
    MapRead { map: u8, offset: u32, len: u32 },
    /// Writing to a mapping, up to the end of the file
    MapWrite { map: u8, offset: u32, data: Data },
    /// msync(2)
    MapSync { map: u8 },
    /// munmap(2)
    Unmap { map: u8 },
    /// mkdirat(2)
    Mkdir { path: Place, mode: Mode },
    /// unlinkat(2) with `AT_REMOVEDIR`
    Rmdir { path: Place },
    /// unlinkat(2)
    Unlink { path: Place },
    /// renameat2(2)
    Rename { from: Place, to: Place, over: Over },
    /// linkat(2)
    Hardlink {
        from: Place,
        to: Place,
        follow: bool,
    },
    /// symlinkat(2)
    Symlink { to: String, path: Place },
    /// readlinkat(2)
    Readlink { path: Place },
    /// mknodat(2)
    Mkfifo { path: Place, mode: Mode },
    /// fchmodat(2), fchmod(2)
    Chmod { on: Target, mode: Mode },
    /// fchownat(2), fchown(2)
    Chown {
        on: Target,
        user: Option<u32>,
        group: Option<u32>,
    },
    /// utimensat(2), futimens(3)
    Utimens {
        on: Target,
        atime: When,
        mtime: When,
    },
    /// setxattr(2) and its like
    SetXattr {
        on: Target,
        name: Xattr,
        value: Data,
        put: Put,
    },
    /// getxattr(2) and its like
    GetXattr { on: Target, name: Xattr },
    /// listxattr(2) and its like
    ListXattr { on: Target },
    /// removexattr(2) and its like
    RemoveXattr { on: Target, name: Xattr },
    /// stat(2) and its like
    Stat { on: Target },
    /// faccessat(2): 4 to read, 2 to write, 1 to execute
    Access { path: Place, wanted: u32 },
    /// Every entry of the directory, with its type
    List { on: Target },
    /// A lock
    Lock {
        slot: u8,
        kind: LockKind,
        lock: Lock,
    },
    /// umask(2)
    Umask { mask: Mode },
}
