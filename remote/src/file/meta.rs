//! `stat` to metadata, and attributes onto files.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};
use rustix::fs::XattrFlags;

use super::tree::errno_error;
use crate::attrs::{FileVersion, PosixAttrs, split_nanos, system_time};
use crate::error::Result;
use crate::keys::ObjectKey;
use crate::types::{ETag, ObjectMeta};

/// Where a file's version is kept; see [`crate::attrs`].
const VERSION_XATTR: &str = "user.fused.version";
/// Longest version: four numbers of 16 digits, the leading 1 and the hyphens, and some room.
const VERSION_BYTES_MAX: usize = 100;

/// What the file system knows of a file.
pub(super) struct Stat(FileStat);

impl Stat {
    pub(super) fn is_file(&self) -> bool {
        self.kind() == SFlag::S_IFREG
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind() == SFlag::S_IFDIR
    }

    fn kind(&self) -> SFlag {
        SFlag::from_bits_truncate(self.0.st_mode & SFlag::S_IFMT.bits())
    }

    pub(super) fn size(&self) -> u64 {
        u64::try_from(self.0.st_size).unwrap_or(0)
    }

    pub(super) fn ino(&self) -> u64 {
        self.0.st_ino
    }

    pub(super) fn mtime_ns(&self) -> i128 {
        i128::from(self.0.st_mtime) * 1_000_000_000 + i128::from(self.0.st_mtime_nsec)
    }

    pub(super) fn etag(&self) -> ETag {
        ETag(format!(
            "{:x}-{:x}-{:x}",
            self.ino(),
            self.mtime_ns(),
            self.size()
        ))
    }

    pub(super) fn posix(&self) -> PosixAttrs {
        PosixAttrs {
            mode: Some(self.0.st_mode & 0o7777),
            uid: Some(self.0.st_uid),
            gid: Some(self.0.st_gid),
            mtime_ns: Some(self.mtime_ns()),
            atime_ns: Some(
                i128::from(self.0.st_atime) * 1_000_000_000 + i128::from(self.0.st_atime_nsec),
            ),
            version: None,
        }
    }

    pub(super) fn meta(&self, key: &ObjectKey) -> ObjectMeta {
        let directory = self.is_dir();
        ObjectMeta {
            key: key.clone(),
            size: if directory { 0 } else { self.size() },
            etag: (!directory).then(|| self.etag()),
            modified: system_time(self.mtime_ns()),
            posix: self.posix(),
        }
    }
}

/// Of something open.
pub(super) fn stat(file: impl AsFd, op: &'static str, key: &ObjectKey) -> Result<Stat> {
    fstat(file)
        .map(Stat)
        .map_err(|errno| errno_error(op, key, errno))
}

/// Of a name in a directory, of a link itself if it is one. `None` if it isn't there.
pub(super) fn stat_at(
    dir: impl AsFd,
    name: &OsStr,
    op: &'static str,
    key: &ObjectKey,
) -> Result<Option<Stat>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Stat(stat))),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno_error(op, key, errno)),
    }
}

/// The version that a file carries; `None` if it has none or the file system can't keep it.
pub(super) fn version(file: impl AsFd) -> Option<FileVersion> {
    let mut value = [0; VERSION_BYTES_MAX];
    let length = rustix::fs::fgetxattr(file, VERSION_XATTR, &mut value[..]).ok()?;
    FileVersion::decode(std::str::from_utf8(value.get(..length)?).ok()?)
}

/// Gives a file attributes, those that are known. Who may not give files away keeps them.
pub(super) fn apply(
    file: impl AsFd,
    attrs: &PosixAttrs,
    op: &'static str,
    key: &ObjectKey,
) -> Result<()> {
    let file = file.as_fd();
    if attrs.uid.is_some() || attrs.gid.is_some() {
        match fchown(
            file,
            attrs.uid.map(Uid::from_raw),
            attrs.gid.map(Gid::from_raw),
        ) {
            Ok(()) => {}
            Err(Errno::EPERM) => {
                tracing::debug!(%key, "not allowed to set the owner; it stays as it is")
            }
            Err(errno) => return Err(errno_error(op, key, errno)),
        }
    }
    // After the owner: a change of owner takes the set-id bits away.
    if let Some(mode) = attrs.mode {
        fchmod(file, Mode::from_bits_truncate(mode & 0o7777))
            .map_err(|errno| errno_error(op, key, errno))?;
    }
    if let Some(version) = attrs.version {
        let value = version.encode();
        if let Err(error) =
            rustix::fs::fsetxattr(file, VERSION_XATTR, value.as_bytes(), XattrFlags::empty())
        {
            tracing::debug!(%key, %error, "the file system keeps no version on the file");
        }
    }
    if attrs.mtime_ns.is_some() || attrs.atime_ns.is_some() {
        let spec = |nanos: Option<i128>| match nanos.map(split_nanos) {
            Some((seconds, nanos)) => TimeSpec::new(seconds, nanos),
            None => TimeSpec::UTIME_OMIT,
        };
        futimens(file, &spec(attrs.atime_ns), &spec(attrs.mtime_ns))
            .map_err(|errno| errno_error(op, key, errno))?;
    }
    Ok(())
}
