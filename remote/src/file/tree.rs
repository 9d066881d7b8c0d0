//! From keys to open directories, without ever leaving the folder.
//!
//! A file's name on disk is the name that its key component stands for, so the folder looks like the
//! mounted file system, whatever bytes names hold. The exception are names of our own: there the escaped
//! component is the name on disk, so that a user's `.fused-staging` isn't taken for ours.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use parking_lot::Mutex;

use crate::error::{Error, ProbeError, Result, excerpt};
use crate::keys::{self, ObjectKey};

/// Opening a directory: to walk through, to read or flush.
const WALK: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
const READ: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
/// Mode of directories that are made because something is put into them.
const DIR_MODE: Mode = Mode::from_bits_truncate(0o755);

/// The folder.
#[derive(Debug)]
pub(super) struct Tree {
    path: PathBuf,
    /// Opened at the first use and kept: if something else gets mounted there, it's not written to.
    root: Mutex<Option<Arc<OwnedFd>>>,
}

impl Tree {
    pub(super) fn new(path: PathBuf) -> Tree {
        Tree {
            path,
            root: Mutex::new(None),
        }
    }

    pub(super) fn folder(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) fn check(&self) -> Result<(), ProbeError> {
        let folder = self.folder();
        match self.open_root() {
            Ok(_) => Ok(()),
            Err(Errno::ENOENT) => Err(ProbeError::NoSuchBucket(format!("the folder {folder}"))),
            Err(Errno::ENOTDIR) => Err(ProbeError::NotADirectory(folder)),
            Err(Errno::EACCES | Errno::EPERM) => Err(ProbeError::AccessDenied {
                operation: "list files".into(),
                store: folder,
            }),
            Err(errno) => Err(ProbeError::Unreachable {
                endpoint: folder,
                detail: errno.desc().to_owned(),
            }),
        }
    }

    pub(super) fn root(&self, op: &'static str) -> Result<Arc<OwnedFd>> {
        self.open_root().map_err(|errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR => {
                Error::unreachable(op, "", format!("the folder {} is not there", self.folder()))
            }
            errno => errno_error(op, &ObjectKey::default(), errno),
        })
    }

    fn open_root(&self) -> nix::Result<Arc<OwnedFd>> {
        let mut root = self.root.lock();
        if let Some(open) = &*root {
            return Ok(Arc::clone(open));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = Arc::new(nix::fcntl::open(&self.path, flags, Mode::empty())?);
        *root = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// The directory that a key's last component is in, and that component's name on disk. `None` if
    /// there is no such directory.
    pub(super) fn parent(
        &self,
        op: &'static str,
        key: &ObjectKey,
    ) -> Result<Option<(OwnedFd, OsString)>> {
        let (dirs, name) = split(op, key)?;
        match self.walk(op, key, &dirs, false)? {
            Some(dir) => Ok(Some((dir, name))),
            None => Ok(None),
        }
    }

    /// Like [`Tree::parent`], but directories that are missing are made.
    pub(super) fn make_parent(
        &self,
        op: &'static str,
        key: &ObjectKey,
    ) -> Result<(OwnedFd, OsString)> {
        let (dirs, name) = split(op, key)?;
        match self.walk(op, key, &dirs, true)? {
            Some(dir) => Ok((dir, name)),
            None => Err(Error::transient(
                op,
                key.as_str(),
                "its directory was removed in the same moment",
            )),
        }
    }

    /// The directory that a key names.
    pub(super) fn dir(&self, op: &'static str, key: &ObjectKey) -> Result<Option<OwnedFd>> {
        let mut names = Vec::new();
        if !key.0.is_empty() {
            let (dirs, name) = split(op, key)?;
            names = dirs;
            names.push(name);
        }
        self.walk(op, key, &names, false)
    }

    /// A regular file, opened; `None` if there is none.
    pub(super) fn open_file(
        &self,
        op: &'static str,
        key: &ObjectKey,
        flags: OFlag,
    ) -> Result<Option<File>> {
        let Some((dir, name)) = self.parent(op, key)? else {
            return Ok(None);
        };
        // Without O_NONBLOCK a fifo would hold us up for ever.
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        match openat(&dir, &*name, flags, Mode::empty()) {
            Ok(fd) => {
                let file = File::from(fd);
                let regular = file.metadata().map_err(|e| io_error(op, key, e))?.is_file();
                Ok(regular.then_some(file))
            }
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO | Errno::ENOTDIR | Errno::EISDIR) => {
                Ok(None)
            }
            Err(errno) => Err(errno_error(op, key, errno)),
        }
    }

    fn walk(
        &self,
        op: &'static str,
        key: &ObjectKey,
        dirs: &[OsString],
        make: bool,
    ) -> Result<Option<OwnedFd>> {
        let root = self.root(op)?;
        let mut at = openat(&*root, ".", READ, Mode::empty())
            .map_err(|errno| errno_error(op, key, errno))?;
        for (depth, name) in dirs.iter().enumerate() {
            let flags = if depth + 1 == dirs.len() { READ } else { WALK };
            let mut opened = openat(&at, &**name, flags, Mode::empty());
            if make && matches!(opened, Err(Errno::ENOENT)) {
                make_dir(&at, name, op, key)?;
                opened = openat(&at, &**name, flags, Mode::empty());
            }
            at = match opened {
                Ok(dir) => dir,
                Err(Errno::ENOENT) => return Ok(None),
                Err(Errno::ENOTDIR | Errno::ELOOP) if !make => return Ok(None),
                Err(Errno::ENOTDIR | Errno::ELOOP) => {
                    let name = excerpt(name.to_string_lossy());
                    return Err(Error::other(
                        op,
                        key.as_str(),
                        format!("'{name}' in its path is not a folder; move it away"),
                    ));
                }
                Err(errno) => return Err(errno_error(op, key, errno)),
            };
        }
        Ok(Some(at))
    }
}

/// Makes a directory and flushes its name; one that is there already is fine.
fn make_dir(parent: &OwnedFd, name: &OsString, op: &'static str, key: &ObjectKey) -> Result<()> {
    match mkdirat(parent, &**name, DIR_MODE) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return Ok(()),
        Err(errno) => return Err(errno_error(op, key, errno)),
    }
    // The parent may be open for walking only.
    let readable =
        openat(parent, ".", READ, Mode::empty()).map_err(|errno| errno_error(op, key, errno))?;
    sync_dir(&readable, op, key)
}

/// Flushes the names in a directory.
pub(super) fn sync_dir(dir: impl AsFd, op: &'static str, key: &ObjectKey) -> Result<()> {
    match nix::unistd::fsync(dir) {
        // Some file systems have nothing to flush there.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOTSUP) => Ok(()),
        Err(errno) => Err(errno_error(op, key, errno)),
    }
}

/// A key's directories and last name, as they are on disk.
fn split(op: &'static str, key: &ObjectKey) -> Result<(Vec<OsString>, OsString)> {
    let path = key.0.strip_suffix('/').unwrap_or(&key.0);
    let mut names = Vec::new();
    for component in path.split('/') {
        match to_disk(component) {
            Some(name) => names.push(OsString::from_vec(name)),
            None => {
                return Err(Error::other(
                    op,
                    key.as_str(),
                    "this key can't be the path of a file",
                ));
            }
        }
    }
    match names.pop() {
        Some(name) => Ok((names, name)),
        None => Err(Error::other(
            op,
            key.as_str(),
            "the root of the store is not a file",
        )),
    }
}

/// The name on disk of a key component.
fn to_disk(component: &str) -> Option<Vec<u8>> {
    if component.starts_with(keys::PROBE_PREFIX) && keys::is_reserved(component.as_bytes()) {
        return Some(component.as_bytes().to_vec());
    }
    let name = keys::decode_name(component)?;
    Some(if keys::is_reserved_family(&name) {
        component.as_bytes().to_vec()
    } else {
        name
    })
}

/// The key component of a name on disk; `None` for what is our own.
pub(super) fn from_disk(name: &std::ffi::OsStr) -> Option<String> {
    let name = name.as_bytes();
    if keys::is_reserved(name) {
        None
    } else if keys::is_reserved_family(name) {
        Some(String::from_utf8_lossy(name).into_owned())
    } else {
        Some(keys::encode_name(name))
    }
}

/// What the system said, as this crate's error.
pub(super) fn io_error(op: &'static str, key: &ObjectKey, error: std::io::Error) -> Error {
    match error.raw_os_error() {
        Some(code) => errno_error(op, key, Errno::from_raw(code)),
        None => Error::other(op, key.as_str(), error),
    }
}

/// Like [`io_error`], from the bare number.
pub(super) fn errno_error(op: &'static str, key: &ObjectKey, errno: Errno) -> Error {
    let (text, detail) = (key.as_str(), errno.desc());
    match errno {
        Errno::ENOENT => Error::not_found(op, text),
        Errno::EACCES | Errno::EPERM => Error::denied(op, text, detail),
        Errno::ENOSPC | Errno::EDQUOT => Error::full(op, text, detail),
        Errno::EROFS => Error::ReadOnly {
            op,
            key: text.to_owned(),
        },
        Errno::ENAMETOOLONG => Error::KeyTooLong {
            key: text.chars().take(60).collect(),
            bytes: text.len(),
            bytes_max: 255,
        },
        Errno::EAGAIN
        | Errno::EBUSY
        | Errno::EINTR
        | Errno::EMFILE
        | Errno::ENFILE
        | Errno::ENOMEM => Error::transient(op, text, detail),
        Errno::ESTALE
        | Errno::ETIMEDOUT
        | Errno::EHOSTDOWN
        | Errno::EHOSTUNREACH
        | Errno::ENOTCONN
        | Errno::ENODEV => Error::unreachable(op, text, detail),
        Errno::EXDEV => Error::other(
            op,
            text,
            "another file system is mounted inside the folder; give its own URL",
        ),
        _ => Error::other(op, text, detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsStr;

    proptest! {
        #[test]
        fn every_key_has_its_own_name_on_disk(name in "(%(25)?)?(2E|[.])?fused-staging|[a-z%25.\u{1}]{1,9}") {
            prop_assume!(name != "." && name != "..");
            let component = keys::encode_name(name.as_bytes());
            let disk = to_disk(&component).unwrap();
            prop_assert!(!keys::is_reserved(&disk), "a user's file never lands in a place of our own");
            prop_assert_eq!(from_disk(OsStr::from_bytes(&disk)), Some(component));
        }
    }

    #[test]
    fn names_that_are_no_text_are_themselves_on_disk() {
        assert_eq!(to_disk("a%FF").unwrap(), b"a\xFF");
        assert_eq!(from_disk(OsStr::from_bytes(b"a\xFF")).unwrap(), "a%FF");
        assert_eq!(to_disk("%2Efused-staging").unwrap(), b"%2Efused-staging");
        assert_eq!(to_disk(".fused-staging"), None);
        assert_eq!(to_disk(".."), None);
    }
}
