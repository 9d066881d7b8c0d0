//! Replacing, copying, describing and deleting files, and making directories.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat, renameat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use super::tree::{errno_error, io_error, sync_dir};
use super::{Inner, meta};
use crate::attrs::PosixAttrs;
use crate::error::{Error, Result};
use crate::keys::{ObjectKey, STAGING};
use crate::types::{Condition, ETag, Put};

/// Mode of files whose own isn't known.
const FILE_MODE: u32 = 0o644;
/// How often a write makes its directory anew when somebody removes it in the same moment.
const PARENT_TRIES: u32 = 3;
/// Buffers for comparing files.
const COMPARE_BYTES: usize = 256 * 1024;

/// A file on its way, in the staging folder; removed when dropped.
pub(super) struct Staged {
    dir: OwnedFd,
    name: OsString,
    pub(super) file: File,
    /// Whether it stays (it was renamed, or belongs to an upload that goes on).
    keep: bool,
}

impl Staged {
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }

    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.keep
            && let Err(errno) = unlinkat(&self.dir, &*self.name, UnlinkatFlags::NoRemoveDir)
        {
            tracing::warn!(name = %self.name.display(), %errno, "a file stays behind in the staging folder");
        }
    }
}

impl Inner {
    /// The staging folder, made if it isn't there.
    pub(super) fn staging(&self, op: &'static str, key: &ObjectKey) -> Result<OwnedFd> {
        let root = self.tree.root(op)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let open = || openat(&*root, STAGING, flags, Mode::empty());
        let opened = match open() {
            Err(Errno::ENOENT) => match mkdirat(&*root, STAGING, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {
                    sync_dir(&*root, op, key)?;
                    open()
                }
                Err(errno) => Err(errno),
            },
            other => other,
        };
        opened.map_err(|errno| match errno {
            Errno::ENOTDIR | Errno::ELOOP => Error::other(
                op,
                key.as_str(),
                format!("'{STAGING}' in the store's root is not a folder; move it away"),
            ),
            errno => errno_error(op, key, errno),
        })
    }

    pub(super) fn stage(&self, op: &'static str, key: &ObjectKey) -> Result<Staged> {
        let dir = self.staging(op, key)?;
        let name = OsString::from(format!("{:032x}", rand::random::<u128>()));
        let flags =
            OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file =
            openat(&dir, &*name, flags, mode).map_err(|errno| errno_error(op, key, errno))?;
        Ok(Staged {
            dir,
            name,
            file: File::from(file),
            keep: false,
        })
    }

    /// Opens what an earlier call staged; `None` if it isn't there.
    pub(super) fn staged(
        &self,
        op: &'static str,
        key: &ObjectKey,
        name: &str,
    ) -> Result<Option<Staged>> {
        let dir = self.staging(op, key)?;
        match openat(
            &dir,
            name,
            OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        ) {
            Ok(file) => Ok(Some(Staged {
                dir,
                name: name.into(),
                file: File::from(file),
                keep: true,
            })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno_error(op, key, errno)),
        }
    }

    /// Makes a staged file, whole and flushed or not, the object.
    pub(super) fn publish(
        &self,
        op: &'static str,
        key: &ObjectKey,
        staged: &mut Staged,
        attrs: &PosixAttrs,
        condition: &Condition,
    ) -> Result<Put> {
        let attrs = PosixAttrs {
            mode: Some(attrs.mode.unwrap_or(FILE_MODE)),
            ..*attrs
        };
        meta::apply(&staged.file, &attrs, op, key)?;
        staged.file.sync_all().map_err(|e| io_error(op, key, e))?;
        for _ in 0..PARENT_TRIES {
            let (dir, name) = self.tree.make_parent(op, key)?;
            match self.commit(op, key, staged, &dir, &name, condition) {
                Ok(put) => {
                    sync_dir(&dir, op, key)?;
                    return Ok(put);
                }
                // Somebody removed the directory between the two steps.
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::transient(
            op,
            key.as_str(),
            "its directory was removed in the same moment",
        ))
    }

    fn commit(
        &self,
        op: &'static str,
        key: &ObjectKey,
        staged: &mut Staged,
        dir: &OwnedFd,
        name: &OsStr,
        condition: &Condition,
    ) -> Result<Put> {
        let new = meta::stat(&staged.file, op, key)?;
        let lock = self.commit.lock();
        let old = meta::stat_at(dir, name, op, key)?;
        if let Some(old) = &old
            && !old.is_file()
        {
            let what = if old.is_dir() {
                "a folder"
            } else {
                "something that is no regular file"
            };
            return Err(Error::other(
                op,
                key.as_str(),
                format!("{what} of the same name is in the way; move it away"),
            ));
        }
        let holds = match (condition, &old) {
            (Condition::None, _) | (Condition::Absent, None) => true,
            (Condition::Absent, Some(_)) | (Condition::Match(_), None) => false,
            (Condition::Match(etag), Some(old)) => old.etag() == *etag,
        };
        let renamed = match (holds, condition) {
            (false, _) => Err(Errno::EEXIST),
            (true, Condition::Absent) => rename_absent(staged, dir, name),
            (true, _) => renameat(&staged.dir, &*staged.name, dir, name),
        };
        drop(lock);
        match renamed {
            Ok(()) => {
                staged.keep();
                Ok(Put::of(Some(new.etag())))
            }
            Err(Errno::EEXIST) => match self.already_there(op, key, staged, &new)? {
                Some(etag) => Ok(Put::of(Some(etag))),
                None => Err(Error::precondition(op, key.as_str())),
            },
            Err(errno) => Err(errno_error(op, key, errno)),
        }
    }

    /// Whether the object is already what is staged: a write of ours, before a crash, that nobody
    /// recorded. Only if time and length are the same are the bytes compared.
    fn already_there(
        &self,
        op: &'static str,
        key: &ObjectKey,
        staged: &Staged,
        new: &meta::Stat,
    ) -> Result<Option<ETag>> {
        let Some(there) = self.tree.open_file(op, key, OFlag::O_RDONLY)? else {
            return Ok(None);
        };
        let old = meta::stat(&there, op, key)?;
        if old.size() != new.size() || old.mtime_ns() != new.mtime_ns() {
            return Ok(None);
        }
        let ours = staged
            .file
            .try_clone()
            .and_then(|mut file| file.rewind().map(|()| file));
        let same = ours
            .and_then(|ours| same_bytes(ours, there))
            .map_err(|e| io_error(op, key, e))?;
        if !same {
            return Ok(None);
        }
        if let Some((dir, _)) = self.tree.parent(op, key)? {
            sync_dir(&dir, op, key)?;
        }
        Ok(Some(old.etag()))
    }

    pub(super) fn put(
        &self,
        key: &ObjectKey,
        body: &[u8],
        attrs: &PosixAttrs,
        condition: &Condition,
    ) -> Result<Put> {
        let mut staged = self.stage("write", key)?;
        staged
            .file
            .write_all(body)
            .map_err(|e| io_error("write", key, e))?;
        self.publish("write", key, &mut staged, attrs, condition)
    }

    pub(super) fn copy(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        attrs: &PosixAttrs,
        if_match: Option<&ETag>,
    ) -> Result<Put> {
        const OP: &str = "copy";
        let Some(mut source) = self.tree.open_file(OP, from, OFlag::O_RDONLY)? else {
            return Err(Error::not_found(OP, from.as_str()));
        };
        let before = meta::stat(&source, OP, from)?;
        if if_match.is_some_and(|etag| before.etag() != *etag) {
            return Err(Error::precondition(OP, from.as_str()));
        }
        let mut staged = self.stage(OP, from)?;
        // By copy_file_range, which shares the blocks where the file system can.
        std::io::copy(&mut source, &mut staged.file).map_err(|e| io_error(OP, from, e))?;
        if meta::stat(&source, OP, from)?.etag() != before.etag() {
            return Err(Error::precondition(OP, from.as_str()));
        }
        let had = PosixAttrs {
            version: meta::version(&source),
            ..before.posix()
        };
        self.publish(OP, to, &mut staged, &attrs.or(had), &Condition::None)
    }

    pub(super) fn set_attributes(
        &self,
        key: &ObjectKey,
        etag: Option<&ETag>,
        attrs: &PosixAttrs,
    ) -> Result<Put> {
        const OP: &str = "set attributes of";
        if key.is_directory() {
            let Some(dir) = self.tree.dir(OP, key)? else {
                return Err(Error::not_found(OP, key.as_str()));
            };
            meta::apply(&dir, attrs, OP, key)?;
            sync_dir(&dir, OP, key)?;
            return Ok(Put::of(None));
        }
        let Some(file) = self.tree.open_file(OP, key, OFlag::O_RDONLY)? else {
            return Err(Error::not_found(OP, key.as_str()));
        };
        let lock = self.commit.lock();
        if etag.is_some_and(|etag| {
            meta::stat(&file, OP, key).map_or(true, |stat| stat.etag() != *etag)
        }) {
            return Err(Error::precondition(OP, key.as_str()));
        }
        meta::apply(&file, attrs, OP, key)?;
        let new = meta::stat(&file, OP, key)?.etag();
        drop(lock);
        file.sync_all().map_err(|e| io_error(OP, key, e))?;
        Ok(Put::of(Some(new)))
    }

    pub(super) fn delete(&self, key: &ObjectKey, if_match: Option<&ETag>) -> Result<()> {
        const OP: &str = "delete";
        let Some((dir, name)) = self.tree.parent(OP, key)? else {
            return Ok(());
        };
        {
            let _lock = self.commit.lock();
            match meta::stat_at(&dir, &name, OP, key)? {
                Some(stat) if stat.is_file() => {
                    if if_match.is_some_and(|etag| stat.etag() != *etag) {
                        return Err(Error::precondition(OP, key.as_str()));
                    }
                }
                // Not an object, so there is none.
                _ => return Ok(()),
            }
            match unlinkat(&dir, &*name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno_error(OP, key, errno)),
            }
        }
        sync_dir(&dir, OP, key)
    }

    pub(super) fn make_dir(&self, key: &ObjectKey, attrs: &PosixAttrs) -> Result<()> {
        const OP: &str = "make directory";
        if key.0.is_empty() {
            return Ok(());
        }
        // The parent of something in it is the directory itself.
        let (dir, _) = self.tree.make_parent(OP, &key.child("x"))?;
        meta::apply(&dir, attrs, OP, key)?;
        sync_dir(&dir, OP, key)
    }

    pub(super) fn remove_dir(&self, key: &ObjectKey) -> Result<()> {
        const OP: &str = "remove directory";
        let Some((dir, name)) = self.tree.parent(OP, key)? else {
            return Ok(());
        };
        match unlinkat(&dir, &*name, UnlinkatFlags::RemoveDir) {
            Ok(()) => sync_dir(&dir, OP, key),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENOTEMPTY | Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno_error(OP, key, errno)),
        }
    }
}

/// Renames only if nothing is there.
fn rename_absent(staged: &Staged, dir: &OwnedFd, name: &OsStr) -> nix::Result<()> {
    match renameat2(
        &staged.dir,
        &*staged.name,
        dir,
        name,
        RenameFlags::RENAME_NOREPLACE,
    ) {
        // Not every file system has it (NFS).
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP) => {
            linkat(&staged.dir, &*staged.name, dir, name, AtFlags::empty())?;
            unlinkat(&staged.dir, &*staged.name, UnlinkatFlags::NoRemoveDir)
        }
        result => result,
    }
}

fn same_bytes(mut a: File, mut b: File) -> std::io::Result<bool> {
    let (mut left, mut right) = (vec![0; COMPARE_BYTES], vec![0; COMPARE_BYTES]);
    loop {
        let got = a.read(&mut left)?;
        if got == 0 {
            return Ok(b.read(&mut right)? == 0);
        }
        match b.read_exact(&mut right[..got]) {
            Ok(()) if left[..got] == right[..got] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
