//! Further cache directories, on other devices: they hold nothing but bytes.
//!
//! ```text
//! DIR/                  mode 0700, of the daemon's user
//!   lock                as in the cache directory
//!   part.toml           format = 1, the store's URL, the number of the node that it belongs to, its own number
//!   extents/            the bytes
//!   torn/               as in the cache directory
//! ```
//!
//! Whether bytes are there cannot be told without the directory: files would seem to have holes, or to be torn. So the
//! cache directory lists them, and a mount that lacks one is refused, unless that one is empty, or is said to be lost.
//! What is not the listed one, such as the empty folder that its disk should be mounted on, is refused as well.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;
use serde::{Deserialize, Serialize};

use super::Error;
use super::dir_files::{EXTENTS, IDENTITY, explain, lock_file, read_toml, write_toml};
use crate::options::MountOptions;

/// The layout above.
const FORMAT: u32 = 1;

const PART: &str = "part.toml";

/// How the cache directory knows a further one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its number: random, 63 bits.
    number: u64,
    /// Where it was last.
    path: PathBuf,
}

/// What a further directory says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    format: u32,
    store: String,
    node: u64,
    number: u64,
}

/// A further directory that is ours until this is dropped.
pub(super) struct FurtherDir {
    listed: Listed,
    _lock: Flock<File>,
}

impl FurtherDir {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.listed.path
    }

    /// How it is to be listed.
    pub(super) fn listed(&self) -> Listed {
        self.listed.clone()
    }
}

/// What further directories must belong to.
pub(super) struct Belonging<'a> {
    pub(super) store: &'a str,
    pub(super) node: u64,
    /// Who uses them now, for others.
    pub(super) owner: &'a str,
}

impl Belonging<'_> {
    /// Takes the further directories of these options; new ones are made. `before` are those that there were.
    pub(super) fn take(
        &self,
        options: &MountOptions,
        before: &[Listed],
    ) -> Result<Vec<FurtherDir>, Error> {
        let (lost, before): (Vec<Listed>, Vec<Listed>) = before
            .iter()
            .cloned()
            .partition(|listed| options.lost_cache_dirs.contains(&listed.path));
        for listed in lost {
            tracing::error!(path = %listed.path.display(), "a cache directory is given up as lost");
        }
        let taken = options.further_cache_dirs.iter();
        let taken: Vec<_> = taken
            .map(|path| self.take_one(path, &before))
            .collect::<Result<_, _>>()?;
        for listed in &before {
            let is_taken = |dir: &FurtherDir| dir.listed.number == listed.number;
            if !taken.iter().any(is_taken) {
                self.may_be_left_out(listed)?;
            }
        }
        Ok(taken)
    }

    /// Takes those that there are, and makes none.
    pub(super) fn take_listed(&self, listed: &[Listed]) -> Result<Vec<FurtherDir>, Error> {
        let takes = listed.iter().map(|one| {
            self.number_at(&one.path)?
                .filter(|number| *number == one.number)
                .ok_or_else(|| is_not_mounted(&one.path))?;
            self.take_one(&one.path, listed)
        });
        takes.collect()
    }

    fn take_one(&self, path: &Path, before: &[Listed]) -> Result<FurtherDir, Error> {
        let failed = |error: io::Error| problem(path, explain(&error));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let lock = lock_file(path, self.owner)?;
        let number = match self.number_at(path)? {
            Some(number) => {
                let is_listed = before.iter().any(|one| one.number == number);
                if !is_listed && !is_empty(path).map_err(failed)? {
                    return Err(problem(
                        path,
                        "was given up once, and what is in it has been replaced since: empty it before you use it \
                         again"
                            .into(),
                    ));
                }
                number
            }
            None if path.join(IDENTITY).exists() => {
                return Err(problem(
                    path,
                    "is the first cache directory of some mount, and can't be a further one".into(),
                ));
            }
            None if before.iter().any(|one| one.path == path) => return Err(is_not_mounted(path)),
            None => self.make(path).map_err(failed)?,
        };
        Ok(FurtherDir {
            listed: Listed {
                number,
                path: path.to_owned(),
            },
            _lock: lock,
        })
    }

    /// The number of the further directory at a path, if there is one and it is ours.
    fn number_at(&self, path: &Path) -> Result<Option<u64>, Error> {
        let part = read_toml::<Part>(path, PART);
        let Some(part) = part.map_err(|error| problem(path, explain(&error)))? else {
            return Ok(None);
        };
        if part.format > FORMAT {
            let found = part.format;
            return Err(problem(
                path,
                format!(
                    "was written by a newer fused (format {found}, this one knows {FORMAT}): use that one"
                ),
            ));
        }
        if part.node != self.node || part.store != self.store {
            return Err(problem(
                path,
                format!(
                    "belongs to another mount, of the store {}: choose another",
                    part.store
                ),
            ));
        }
        Ok(Some(part.number))
    }

    fn make(&self, path: &Path) -> io::Result<u64> {
        let part = Part {
            format: FORMAT,
            store: self.store.to_owned(),
            node: self.node,
            number: rand::random::<u64>() >> 1,
        };
        write_toml(path, PART, &part)?;
        Ok(part.number)
    }

    /// One that was used before is not named any more.
    fn may_be_left_out(&self, listed: &Listed) -> Result<(), Error> {
        let path = &listed.path;
        let is_it = self.number_at(path)? == Some(listed.number);
        match is_it.then(|| is_empty(path)) {
            Some(Ok(true)) => {
                tracing::info!(path = %path.display(), "a cache directory is empty and no longer used");
                Ok(())
            }
            Some(Ok(false)) => Err(problem(
                path,
                "holds files of this mount, and is not named: add it to cache_dir; to do without it, mount with it, \
                 `fused free` the mount, and unmount"
                    .into(),
            )),
            Some(Err(error)) => Err(problem(path, explain(&error))),
            None => Err(problem(
                path,
                "was used by the mount before, may hold files that are nowhere else, and is not there: mount its \
                 disk and name it in cache_dir; only if it is lost for good, say lost_cache_dir=DIR"
                    .into(),
            )),
        }
    }
}

/// Refuses to make a cache directory of what belongs to another.
pub(super) fn refuse_part(path: &Path) -> Result<(), Error> {
    match path.join(PART).exists() {
        true => Err(problem(
            path,
            "is a further directory of another cache directory: name it behind that one".into(),
        )),
        false => Ok(()),
    }
}

/// Whether there are no extents.
fn is_empty(path: &Path) -> io::Result<bool> {
    let shards = match fs::read_dir(path.join(EXTENTS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        shards => shards?,
    };
    for shard in shards {
        let shard = shard?;
        if shard.file_type()?.is_dir() && fs::read_dir(shard.path())?.next().is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_not_mounted(path: &Path) -> Error {
    problem(
        path,
        "is not the one that was used before: is its disk mounted? If it is lost for good, say \
         lost_cache_dir=DIR, and choose another place"
            .into(),
    )
}

fn problem(path: &Path, problem: String) -> Error {
    Error::CacheDir {
        path: path.to_owned(),
        problem,
    }
}
