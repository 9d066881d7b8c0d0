//! The cache directory: whose it is, and that one daemon at a time has it. Further ones on other devices belong to it
//! ([`super::further_dirs`]).
//!
//! ```text
//! CACHE_DIR/            mode 0700, of the daemon's user
//!   lock                flock(2)ed by the daemon; its text says by whom
//!   identity.toml       format, the store's URL, the node's number; with format = 2 the further directories
//!   probes              numbers of the objects by which the store is being tried, while there are any
//!   journal/            the embedded journal; in it `reserve`, room for it on a full disk
//!   extents/            the bytes
//!   torn/               what is left of versions that a power cut destroyed, or others replaced (on_conflict=theirs)
//!   fused.log.DATE      the log of a background mount
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use extents::ExtentStore;
use journal::EmbeddedStore;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Error;
use super::further_dirs::{self, Belonging, FurtherDir, Listed};
use super::probes::Probes;
use crate::options::MountOptions;

/// The layout above. Without further directories it is still 1, which older releases know.
const FORMAT: u32 = 2;

/// The folder of extents in each directory.
pub(super) const EXTENTS: &str = "extents";

/// Says which directory it is.
pub(super) const IDENTITY: &str = "identity.toml";

/// Which store a cache directory belongs to, and which node it is in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    format: u32,
    /// The store's URL in its canonical form.
    pub store: String,
    /// The node's number: random, 63 bits (TOML's integers are signed).
    pub node: u64,
    /// Further directories that may hold bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    further: Vec<Listed>,
}

/// A cache directory that is ours until this is dropped.
pub struct CacheDir {
    path: PathBuf,
    identity: Identity,
    further: Vec<FurtherDir>,
    _lock: Flock<File>,
}

impl CacheDir {
    /// Takes the cache directory of these options, made if there is none.
    pub fn lock(options: &MountOptions) -> Result<Self, Error> {
        let path = options.cache_dir.clone();
        let problem = |error: io::Error| Error::CacheDir {
            path: path.clone(),
            problem: explain(&error),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(problem)?;
        let owner = format!("{} at {}", options.url, options.mountpoint.display());
        let lock = lock_file(&path, &owner)?;
        let store = remote::StoreUrl::parse(&options.url)?.to_string();
        let mut identity = match read_identity(&path).map_err(problem)? {
            Some(identity) => check_identity(&path, identity, store)?,
            None => {
                further_dirs::refuse_part(&path)?;
                let identity = Identity {
                    format: 1,
                    store,
                    node: rand::random::<u64>() >> 1,
                    further: Vec::new(),
                };
                write_identity(&path, &identity).map_err(problem)?;
                identity
            }
        };
        let belongs = Belonging {
            store: &identity.store,
            node: identity.node,
            owner: &owner,
        };
        let further = belongs.take(options, &identity.further)?;
        let listed: Vec<Listed> = further.iter().map(FurtherDir::listed).collect();
        if listed != identity.further {
            identity.format = if listed.is_empty() { 1 } else { FORMAT };
            identity.further = listed;
            write_identity(&path, &identity).map_err(problem)?;
        }
        Ok(Self {
            path,
            identity,
            further,
            _lock: lock,
        })
    }

    /// Takes the cache directory of these options to look at it; nothing is made.
    pub fn lock_existing(options: &MountOptions) -> Result<Self, Error> {
        let path = options.cache_dir.clone();
        let problem = |problem: String| Error::CacheDir {
            path: path.clone(),
            problem,
        };
        let read = || read_identity(&path).map_err(|error| problem(explain(&error)));
        // Before the lock file is made in a folder that is none of ours.
        read()?.ok_or_else(|| problem("is none: there is no identity.toml in it".into()))?;
        let owner = format!("fused doctor of {}", options.url);
        let lock = lock_file(&path, &owner)?;
        let identity = read()?.ok_or_else(|| problem("has just been removed".into()))?;
        let store = remote::StoreUrl::parse(&options.url)?.to_string();
        let identity = check_identity(&path, identity, store)?;
        let belongs = Belonging {
            store: &identity.store,
            node: identity.node,
            owner: &owner,
        };
        Ok(Self {
            further: belongs.take_listed(&identity.further)?,
            identity,
            path,
            _lock: lock,
        })
    }

    /// The store that a cache directory belongs to; `None` if it is none.
    pub fn store_of(path: &Path) -> io::Result<Option<String>> {
        Ok(read_identity(path)?.map(|identity| identity.store))
    }

    /// Whose it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The folder of the embedded journal.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The folder for what is left of torn files.
    pub fn torn(&self) -> PathBuf {
        self.path.join("torn")
    }

    /// Where it is noted which objects the store is being tried by.
    pub fn probes(&self) -> Probes {
        Probes::in_dir(&self.path)
    }

    /// Opens the extents. That takes some space, on a full disk from the journal's reserve.
    pub fn open_extents(&self) -> Result<ExtentStore, Error> {
        let extents = |dir: &Path| dir.join(EXTENTS);
        let further: Vec<_> = self.further.iter().map(|dir| extents(dir.path())).collect();
        let options = extents::Options::default();
        let open = || ExtentStore::open_all(&extents(&self.path), &further, options);
        match open() {
            Err(full) if matches!(Errno::from_raw(full.errno()), Errno::ENOSPC | Errno::EDQUOT) => {
                let given_up = EmbeddedStore::give_up_reserve(&self.journal());
                match given_up.map_err(journal::Error::from)? {
                    true => Ok(open()?),
                    false => Err(full.into()),
                }
            }
            opened => Ok(opened?),
        }
    }
}

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
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) =>
        {
            Err(Error::CacheDir {
                path: path.to_path_buf(),
                problem: explain(&error),
            })
        }
        _ => Ok(lock),
    }
}

fn read_identity(path: &Path) -> io::Result<Option<Identity>> {
    read_toml(path, IDENTITY)
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

fn check_identity(path: &Path, identity: Identity, store: String) -> Result<Identity, Error> {
    if identity.format > FORMAT {
        return Err(Error::CacheDir {
            path: path.to_path_buf(),
            problem: format!(
                "was written by a newer fused (format {}, this one knows {FORMAT}): use that one, \
                 or choose another with -o cache_dir=DIR",
                identity.format
            ),
        });
    }
    if identity.store != store {
        return Err(Error::OtherStore {
            path: path.to_path_buf(),
            found: identity.store,
            wanted: store,
        });
    }
    Ok(identity)
}

/// Everything else in the directory depends on it.
fn write_identity(path: &Path, identity: &Identity) -> io::Result<()> {
    write_toml(path, IDENTITY, identity)
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
