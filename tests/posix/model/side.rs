//! One of the two folders as one process sees it: its descriptors, its mappings, and the system calls.
//!
//! Paths start at the working directory, which the worker sets before each call: extended attributes
//! have no system call that starts at a descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{
    self, AtFlags, CWD, Dir, FallocateFlags, FileType, FlockOperation, OFlags, RenameFlags,
    SeekFrom, Timespec, Timestamps, XattrFlags,
};

use crate::mapping::Mapping;
use crate::operation::{
    Data, Flags, Lock, LockKind, MAPS, Operation, Over, Place, Put, SLOTS, Space, Target, When,
    bytes_of, text_of,
};
use crate::outcome::{Attributes, Outcome, Summary};

/// Why there is no result.
pub enum Stop {
    /// Nothing is in that slot.
    Empty,
    /// The system call failed.
    Refused(Errno),
}

impl From<rustix::io::Errno> for Stop {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Refused(Errno::from_raw(errno.raw_os_error()))
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Refused(errno)
    }
}

type Result<T> = std::result::Result<T, Stop>;

/// One folder, and what this process has open in it.
pub struct Side {
    root: OwnedFd,
    slots: Vec<Option<OwnedFd>>,
    maps: Vec<Option<Mapping>>,
}

impl Side {
    /// A folder with nothing open yet.
    pub fn new(folder: &Path) -> rustix::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: fs::open(folder, flags, fs::Mode::empty())?,
            slots: (0..SLOTS).map(|_| None).collect(),
            maps: (0..MAPS).map(|_| None).collect(),
        })
    }

    /// Makes the folder the working directory.
    pub fn enter(&self) -> rustix::io::Result<()> {
        rustix::process::fchdir(&self.root)
    }

    /// Does it.
    pub fn perform(&mut self, operation: &Operation) -> Outcome {
        match self.attempt(operation) {
            Ok(outcome) => outcome,
            Err(Stop::Empty) => Outcome::Nothing,
            Err(Stop::Refused(errno)) => Outcome::Failed(format!("{errno:?}")),
        }
    }

    /// To be called as the superuser after each operation, see [`Mapping::settle_times`].
    pub fn settle(&self, operation: &Operation) {
        if let Operation::MapWrite { map, .. } = operation
            && let Some(mapping) = &self.maps[usize::from(*map)]
        {
            let _ = mapping.settle_times();
        }
    }

    /// Whether a path names a directory.
    pub fn is_directory(&self, place: &Place) -> bool {
        let stat = self.base(place).ok().and_then(|base| {
            fs::statat(base, bytes_of(&place.path), AtFlags::SYMLINK_NOFOLLOW).ok()
        });
        stat.is_some_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
    }

    fn attempt(&mut self, operation: &Operation) -> Result<Outcome> {
        use Operation as O;
        let done = |()| Outcome::Done;
        Ok(match operation {
            O::Open {
                slot,
                path,
                flags,
                mode,
            } => self.open(*slot, path, *flags, mode.0)?,
            O::Close { slot } => {
                let fd = self.slots[usize::from(*slot)].take().ok_or(Stop::Empty)?;
                nix::unistd::close(fd).map(done)?
            }
            O::Read { slot, len } => {
                let mut buffer = vec![0; *len as usize];
                let count = rustix::io::read(self.fd(*slot)?, &mut buffer)?;
                buffer.truncate(count);
                Outcome::Bytes(Summary::of(buffer))
            }
            O::Write { slot, data } => {
                Outcome::Count(rustix::io::write(self.fd(*slot)?, &data.bytes())? as u64)
            }
            O::Seek { slot, offset } => {
                Outcome::Count(fs::seek(self.fd(*slot)?, SeekFrom::Start(*offset))?)
            }
            O::SeekEnd { slot, offset } => {
                // Where a directory ends is each file system's own business.
                self.regular(*slot)?;
                Outcome::Count(fs::seek(self.fd(*slot)?, SeekFrom::End(*offset))?)
            }
            O::Pread { slot, offset, len } => {
                Outcome::Bytes(Summary::of(self.pread(*slot, *offset, *len as usize)?))
            }
            O::Pwrite { slot, offset, data } => {
                let fd = self.fd(*slot)?;
                Outcome::Count(rustix::io::pwrite(fd, &data.bytes(), *offset)? as u64)
            }
            O::Truncate { path, len } => {
                nix::unistd::truncate(bytes_of(path).as_os_str(), len.cast_signed()).map(done)?
            }
            O::Ftruncate { slot, len } => fs::ftruncate(self.fd(*slot)?, *len).map(done)?,
            O::Fallocate {
                slot,
                space,
                offset,
                len,
            } => fs::fallocate(self.fd(*slot)?, space_flags(*space), *offset, *len).map(done)?,
            O::Copy {
                from,
                to,
                from_offset,
                to_offset,
                len,
            } => self.copy((*from, *from_offset), (*to, *to_offset), *len)?,
            O::Holes { slot } => self.holes(*slot)?,
            O::Fsync {
                slot,
                data_only: true,
            } => fs::fdatasync(self.fd(*slot)?).map(done)?,
            O::Fsync {
                slot,
                data_only: false,
            } => fs::fsync(self.fd(*slot)?).map(done)?,
            O::Map {
                map,
                slot,
                shared,
                write,
            } => {
                self.maps[usize::from(*map)] = None;
                let mapping = Mapping::new(self.fd(*slot)?, *shared, *write)?;
                self.maps[usize::from(*map)] = Some(mapping);
                Outcome::Done
            }
            O::MapRead { map, offset, len } => {
                let bytes = self.map(*map)?.read(*offset as usize, *len as usize)?;
                Outcome::Bytes(Summary::of(bytes))
            }
            O::MapWrite { map, offset, data } => {
                Outcome::Count(self.map(*map)?.write(*offset as usize, &data.bytes())? as u64)
            }
            O::MapSync { map } => self.map(*map)?.sync().map(done)?,
            O::Unmap { map } => {
                self.maps[usize::from(*map)].take().ok_or(Stop::Empty)?;
                Outcome::Done
            }
            O::Mkdir { path, mode } => {
                fs::mkdirat(self.base(path)?, bytes_of(&path.path), mode.0.into()).map(done)?
            }
            O::Rmdir { path } => {
                fs::unlinkat(self.base(path)?, bytes_of(&path.path), AtFlags::REMOVEDIR)
                    .map(done)?
            }
            O::Unlink { path } => {
                fs::unlinkat(self.base(path)?, bytes_of(&path.path), AtFlags::empty()).map(done)?
            }
            O::Rename { from, to, over } => {
                let flags = match over {
                    Over::Replace => RenameFlags::empty(),
                    Over::NoReplace => RenameFlags::NOREPLACE,
                    Over::Exchange => RenameFlags::EXCHANGE,
                };
                let (old, new) = (bytes_of(&from.path), bytes_of(&to.path));
                fs::renameat_with(self.base(from)?, old, self.base(to)?, new, flags).map(done)?
            }
            O::Hardlink { from, to, follow } => {
                let flags = match follow {
                    true => AtFlags::SYMLINK_FOLLOW,
                    false => AtFlags::empty(),
                };
                let (old, new) = (bytes_of(&from.path), bytes_of(&to.path));
                fs::linkat(self.base(from)?, old, self.base(to)?, new, flags).map(done)?
            }
            O::Symlink { to, path } => {
                fs::symlinkat(bytes_of(to), self.base(path)?, bytes_of(&path.path)).map(done)?
            }
            O::Readlink { path } => {
                let link = fs::readlinkat(self.base(path)?, bytes_of(&path.path), Vec::new())?;
                Outcome::Text(text_of(link.as_bytes()))
            }
            O::Mkfifo { path, mode } => {
                let (base, name) = (self.base(path)?, bytes_of(&path.path));
                fs::mknodat(base, name, FileType::Fifo, mode.0.into(), 0).map(done)?
            }
            O::Chmod { on, mode } => match on {
                Target::Slot(slot) => fs::fchmod(self.fd(*slot)?, mode.0.into()).map(done)?,
                Target::Name(path) | Target::Link(path) => {
                    let (base, name) = (self.base(path)?, bytes_of(&path.path));
                    fs::chmodat(base, name, mode.0.into(), AtFlags::empty()).map(done)?
                }
            },
            O::Chown { on, user, group } => {
                let (user, group) = (user.map(fs::Uid::from_raw), group.map(fs::Gid::from_raw));
                match self.resolve(on)? {
                    Found::Open(fd) => fs::fchown(fd, user, group).map(done)?,
                    Found::Named(base, name, flags) => {
                        fs::chownat(base, name, user, group, flags).map(done)?
                    }
                }
            }
            O::Utimens { on, atime, mtime } => {
                let times = Timestamps {
                    last_access: timespec(*atime),
                    last_modification: timespec(*mtime),
                };
                match self.resolve(on)? {
                    Found::Open(fd) => fs::futimens(fd, &times).map(done)?,
                    Found::Named(base, name, flags) => {
                        fs::utimensat(base, name, &times, flags).map(done)?
                    }
                }
            }
            O::SetXattr {
                on,
                name,
                value,
                put,
            } => self.set_xattr(on, name.name(), *value, *put).map(done)?,
            O::GetXattr { on, name } => Outcome::Bytes(Summary::of(self.xattr(on, name.name())?)),
            O::ListXattr { on } => Outcome::Names(self.xattrs(on)?),
            O::RemoveXattr { on, name } => match self.resolve_from_here(on)? {
                Found::Open(fd) => fs::fremovexattr(fd, name.name()).map(done)?,
                Found::Named(_, path, flags) if flags.is_empty() => {
                    fs::removexattr(path, name.name()).map(done)?
                }
                Found::Named(_, path, _) => fs::lremovexattr(path, name.name()).map(done)?,
            },
            O::Stat { on } => Outcome::About(Attributes::of(&match self.resolve(on)? {
                Found::Open(fd) => fs::fstat(fd)?,
                Found::Named(base, name, flags) => fs::statat(base, name, flags)?,
            })),
            O::Access { path, wanted } => {
                let wanted = fs::Access::from_bits_retain(*wanted);
                let (base, name) = (self.base(path)?, bytes_of(&path.path));
                fs::accessat(base, name, wanted, AtFlags::empty()).map(done)?
            }
            O::List { on } => Outcome::Names(self.list(on)?),
            O::Lock { slot, kind, lock } => self.lock(*slot, *kind, *lock).map(done)?,
            O::Umask { mask } => {
                Outcome::Count(rustix::process::umask(mask.0.into()).bits().into())
            }
        })
    }

    fn fd(&self, slot: u8) -> Result<BorrowedFd<'_>> {
        let fd = self.slots[usize::from(slot)].as_ref();
        Ok(fd.ok_or(Stop::Empty)?.as_fd())
    }

    fn map(&self, map: u8) -> Result<&Mapping> {
        self.maps[usize::from(map)].as_ref().ok_or(Stop::Empty)
    }

    /// Where a path starts.
    fn base(&self, place: &Place) -> Result<BorrowedFd<'_>> {
        place.slot.map_or(Ok(CWD), |slot| self.fd(slot))
    }

    fn resolve(&self, target: &Target) -> Result<Found<'_>> {
        let (place, flags) = match target {
            Target::Slot(slot) => return Ok(Found::Open(self.fd(*slot)?)),
            Target::Name(place) => (place, AtFlags::empty()),
            Target::Link(place) => (place, AtFlags::SYMLINK_NOFOLLOW),
        };
        let name = bytes_of(&place.path);
        Ok(Found::Named(self.base(place)?, name, flags))
    }

    /// For calls that know no starting directory.
    fn resolve_from_here(&self, target: &Target) -> Result<Found<'_>> {
        match target {
            Target::Name(place) | Target::Link(place) if place.slot.is_some() => Err(Stop::Empty),
            other => self.resolve(other),
        }
    }

    /// The size of what is open there, if it is a file with bytes.
    fn regular(&self, slot: u8) -> Result<u64> {
        let stat = fs::fstat(self.fd(slot)?)?;
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => Ok(stat.st_size.cast_unsigned()),
            _ => Err(Stop::Empty),
        }
    }

    fn open(&mut self, slot: u8, path: &Place, flags: Flags, mode: u32) -> Result<Outcome> {
        // Without O_NONBLOCK a FIFO would wait for its other end.
        let flags = OFlags::from_bits_retain(flags.0.cast_unsigned());
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = fs::openat(self.base(path)?, bytes_of(&path.path), flags, mode.into())?;
        self.slots[usize::from(slot)] = Some(opened);
        Ok(Outcome::Done)
    }

    fn pread(&self, slot: u8, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; len];
        let count = rustix::io::pread(self.fd(slot)?, &mut buffer, offset)?;
        buffer.truncate(count);
        Ok(buffer)
    }

    fn copy(&self, from: (u8, u64), to: (u8, u64), len: u64) -> Result<Outcome> {
        let (source, sink) = (self.fd(from.0)?, self.fd(to.0)?);
        let (mut from, mut to, mut copied) = (from.1, to.1, 0);
        while copied < len {
            let rest = usize::try_from(len - copied).unwrap_or(usize::MAX);
            match fs::copy_file_range(source, Some(&mut from), sink, Some(&mut to), rest) {
                Ok(0) => break,
                Ok(count) => copied += count as u64,
                Err(errno) if copied == 0 => return Err(errno.into()),
                Err(_) => break,
            }
        }
        Ok(Outcome::Count(copied))
    }

    /// Holes may be where they like, as long as there is nothing in them.
    fn holes(&self, slot: u8) -> Result<Outcome> {
        let (size, fd) = (self.regular(slot)?, self.fd(slot)?);
        let stands = fs::seek(fd, SeekFrom::Current(0))?;
        let content = self.pread(slot, 0, size as usize)?;
        let mut place = 0;
        let outcome = loop {
            let data = match fs::seek(fd, SeekFrom::Data(place)) {
                Ok(data) => data,
                Err(rustix::io::Errno::NXIO) => size,
                Err(errno) => break Outcome::Failed(format!("SEEK_DATA {errno:?}")),
            };
            let hole = place as usize..data as usize;
            if content
                .get(hole)
                .is_none_or(|hole| hole.iter().any(|b| *b != 0))
            {
                break Outcome::Wrong(format!("data in the hole {place}..{data} of {size}"));
            }
            if data >= size {
                break Outcome::Count(size);
            }
            place = fs::seek(fd, SeekFrom::Hole(data))?;
            if place <= data {
                break Outcome::Wrong(format!("a hole at {place} before the data at {data}"));
            }
        };
        fs::seek(fd, SeekFrom::Start(stands))?;
        Ok(outcome)
    }

    fn set_xattr(&self, on: &Target, name: &str, value: Data, put: Put) -> Result<()> {
        let value = value.bytes();
        let how = match put {
            Put::Any => XattrFlags::empty(),
            Put::Create => XattrFlags::CREATE,
            Put::Replace => XattrFlags::REPLACE,
        };
        match self.resolve_from_here(on)? {
            Found::Open(fd) => fs::fsetxattr(fd, name, &value, how)?,
            Found::Named(_, path, flags) if flags.is_empty() => {
                fs::setxattr(path, name, &value, how)?
            }
            Found::Named(_, path, _) => fs::lsetxattr(path, name, &value, how)?,
        }
        Ok(())
    }

    /// The value of an extended attribute.
    pub fn xattr(&self, on: &Target, name: &str) -> Result<Vec<u8>> {
        let mut value = vec![0; 4096];
        let count = match self.resolve_from_here(on)? {
            Found::Open(fd) => fs::fgetxattr(fd, name, &mut value)?,
            Found::Named(_, path, flags) if flags.is_empty() => {
                fs::getxattr(path, name, &mut value)?
            }
            Found::Named(_, path, _) => fs::lgetxattr(path, name, &mut value)?,
        };
        value.truncate(count);
        Ok(value)
    }

    /// The names of the extended attributes, sorted.
    pub fn xattrs(&self, on: &Target) -> Result<Vec<String>> {
        let mut list = vec![0_u8; 4096];
        let count = match self.resolve_from_here(on)? {
            Found::Open(fd) => fs::flistxattr(fd, &mut list)?,
            Found::Named(_, path, flags) if flags.is_empty() => fs::listxattr(path, &mut list)?,
            Found::Named(_, path, _) => fs::llistxattr(path, &mut list)?,
        };
        let names = list[..count].split(|byte| *byte == 0);
        let mut names: Vec<_> = names.filter(|name| !name.is_empty()).map(text_of).collect();
        names.sort();
        Ok(names)
    }

    /// Every entry of a directory with its type, sorted.
    pub fn list(&self, on: &Target) -> Result<Vec<String>> {
        let opened = match self.resolve(on)? {
            Found::Open(fd) => {
                fs::seek(fd, SeekFrom::Start(0))?;
                fs::openat(
                    fd,
                    ".",
                    OFlags::DIRECTORY | OFlags::CLOEXEC,
                    fs::Mode::empty(),
                )?
            }
            Found::Named(base, name, _) => fs::openat(
                base,
                name,
                OFlags::DIRECTORY | OFlags::CLOEXEC,
                fs::Mode::empty(),
            )?,
        };
        let mut names = Vec::new();
        for entry in Dir::new(opened)? {
            let entry = entry?;
            let kind = match entry.file_type() {
                FileType::RegularFile => "file",
                FileType::Directory => "directory",
                FileType::Symlink => "symlink",
                FileType::Fifo => "fifo",
                _ => "other",
            };
            names.push(format!("{} {kind}", text_of(entry.file_name().to_bytes())));
        }
        names.sort();
        Ok(names)
    }

    fn lock(&self, slot: u8, kind: LockKind, lock: Lock) -> Result<()> {
        let fd = self.fd(slot)?;
        if kind == LockKind::Whole {
            return Ok(fs::flock(
                fd,
                match lock {
                    Lock::Shared => FlockOperation::NonBlockingLockShared,
                    Lock::Exclusive => FlockOperation::NonBlockingLockExclusive,
                    Lock::Free => FlockOperation::NonBlockingUnlock,
                },
            )?);
        }
        let range = libc::flock {
            l_type: match lock {
                Lock::Shared => libc::F_RDLCK,
                Lock::Exclusive => libc::F_WRLCK,
                Lock::Free => libc::F_UNLCK,
            } as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 100,
            l_pid: 0,
        };
        match kind {
            LockKind::Process => fcntl(fd, FcntlArg::F_SETLK(&range))?,
            _ => fcntl(fd, FcntlArg::F_OFD_SETLK(&range))?,
        };
        Ok(())
    }
}

/// What a target is for a system call.
enum Found<'a> {
    Open(BorrowedFd<'a>),
    Named(BorrowedFd<'a>, std::ffi::OsString, AtFlags),
}

fn timespec(when: When) -> Timespec {
    let (tv_sec, tv_nsec) = match when {
        When::Now => (0, libc::UTIME_NOW),
        When::Omit => (0, libc::UTIME_OMIT),
        When::At(seconds, nanoseconds) => (seconds, nanoseconds.into()),
    };
    Timespec { tv_sec, tv_nsec }
}

fn space_flags(space: Space) -> FallocateFlags {
    use FallocateFlags as F;
    match space {
        Space::Allocate => F::empty(),
        Space::KeepSize => F::KEEP_SIZE,
        Space::Punch => F::PUNCH_HOLE | F::KEEP_SIZE,
        Space::Zero => F::ZERO_RANGE,
        Space::ZeroKeepSize => F::ZERO_RANGE | F::KEEP_SIZE,
    }
}
