//! Keeping what is left of a file that can't be trusted any more.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::Directory;
use crate::{Error, ExtentId, Result};

impl Directory {
    /// Copies an extent file into `folder`, under a name as [`Directory::set_aside`] chooses it; the copy and its
    /// name survive a power cut. The file stays where it is; one that isn't there leaves an empty copy.
    pub async fn copy_aside(&self, id: ExtentId, folder: &Path) -> Result<PathBuf> {
        let _point = killpoints::around("extent copy aside");
        let (from, folder) = (id.path(&self.inner.dir), folder.to_owned());
        let copied = self.aside(move || copy_into(&from, id, &folder)).await;
        let copied = copied.map_err(io::Error::other).flatten();
        copied.map_err(|error| Error::io("copying aside", id, error))
    }

    /// Moves a closed extent file into `folder` (made with mode 0700; on the same file system) and
    /// returns its new path: the file's name, with a number behind it where that is taken. An extent
    /// file that isn't there leaves an empty one.
    pub fn set_aside(&self, id: ExtentId, folder: &Path) -> Result<PathBuf> {
        let _point = killpoints::around("extent set aside");
        let failed = |error: io::Error| Error::io("setting aside", id, error);
        make_folder(folder).map_err(failed)?;
        let (live, closed_bytes) = self.before_leaving(id);
        let from = id.path(&self.inner.dir);
        for path in names_aside(id, folder) {
            match move_or_make(&from, &path) {
                Ok(true) => self.left(id, live, closed_bytes),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(failed(error)),
            }
            return Ok(path);
        }
        Err(failed(io::Error::from_raw_os_error(libc::EEXIST)))
    }
}

/// By sharing the blocks where the file system can.
fn copy_into(from: &Path, id: ExtentId, folder: &Path) -> io::Result<PathBuf> {
    make_folder(folder)?;
    let mut source = match File::open(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened?),
    };
    for path in names_aside(id, folder) {
        let mut options = OpenOptions::new();
        let mut copy = match options.write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made?,
        };
        let copied = match &mut source {
            Some(source) => io::copy(source, &mut copy).map(drop),
            None => Ok(()),
        };
        let safe = copied
            .and_then(|()| copy.sync_all())
            .and_then(|()| File::open(folder)?.sync_all());
        return match safe {
            Ok(()) => Ok(path),
            Err(error) => {
                // The reason is what counts; half a copy is of no use.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        };
    }
    Err(io::Error::from_raw_os_error(libc::EEXIST))
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The file's name, and with a number behind it where that is taken.
fn names_aside(id: ExtentId, folder: &Path) -> impl Iterator<Item = PathBuf> {
    let names =
        std::iter::once(id.to_string()).chain((1..).map(move |nr: u64| format!("{id}.{nr}")));
    names.map(|name| folder.join(name))
}

/// Moves a file without replacing another (true), or makes an empty one if there is none (false).
fn move_or_make(from: &Path, to: &Path) -> io::Result<bool> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => return Ok(true),
        Err(nix::errno::Errno::ENOENT) => {}
        // A file system without that flag: one name at a time is moved, so a look before is enough.
        Err(nix::errno::Errno::EINVAL) if !to.exists() => {
            return fs::rename(from, to).map(|()| true);
        }
        Err(nix::errno::Errno::EINVAL) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) => return Err(error.into()),
    }
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map(|_| false)
}
