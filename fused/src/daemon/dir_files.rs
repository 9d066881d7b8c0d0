//! What cache directories have in common: the lock, and small files that are replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;

/// The folder of extents in each directory.
pub(super) const EXTENTS: &str = "extents";

/// Says which directory it is.
pub(super) const IDENTITY: &str = "identity.toml";

/// Takes the lock of a directory; `owner` is for whoever finds it taken.
pub(super) fn lock_file(path: &Path, owner: &str) -> Result<Flock<File>, Error> {
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join("lock"));
    let file = open.map_err(|error| Error::CacheDir {
        path: path.to_path_buf(),
        problem: explain(&error),
    })?;
    let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut owner = String::new();
            // Without its words the sentence is only less helpful.
            let _ = file.read_to_string(&mut owner);
            return Err(Error::InUse {
                path: path.to_path_buf(),
                owner: match owner.trim() {
                    "" => "just starting".into(),
                    owner => owner.into(),
                },
            });
        }
        Err((_, errno)) => {
            return Err(Error::CacheDir {
                path: path.to_path_buf(),
                problem: format!("cannot be locked: {}", errno.desc()),
            });
        }
    };
    let noted = lock.set_len(0).and_then(|()| {
        lock.write_all(format!("process {}, {owner}\n", std::process::id()).as_bytes())
    });
    match noted {
        // Whose it is, is only told to others; that is no reason not to start on a full disk.
        Err(error) if !is_full(&error) => Err(Error::CacheDir {
            path: path.to_path_buf(),
            problem: explain(&error),
        }),
        _ => Ok(lock),
    }
}

/// Whether only space is missing.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// What a file says; `None` if it isn't there.
pub(super) fn read_toml<T: DeserializeOwned>(path: &Path, name: &str) -> io::Result<Option<T>> {
    let text = match fs::read_to_string(path.join(name)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{name}: {error}"));
    Ok(Some(toml::from_str(&text).map_err(invalid)?))
}

/// Replaces a file, whole or not at all, also in a power cut.
pub(super) fn write_toml(path: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    let text = toml::to_string(value).map_err(io::Error::other)?;
    let temporary = path.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path.join(name))?;
    File::open(path)?.sync_all()
}

/// What the system says, and what to do about it.
pub(super) fn explain(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": free some space, or choose another with -o cache_dir=DIR"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ": the cache needs a writable local disk, choose another with -o cache_dir=DIR"
        }
        io::ErrorKind::PermissionDenied => ": choose one that you may write, with -o cache_dir=DIR",
        _ => "",
    };
    format!("{error}{advice}")
}
