//! The cache directory: whose it is, and that one daemon at a time has it. Further ones on other devices belong to it
//! ([`super::further_dirs`]).
//!
//! ```text
//! CACHE_DIR/            mode 0700, of the daemon's user
//!   lock                flock(2)ed by the daemon; its text says by whom
//!   identity.toml       format, the store's URL, the node's number; with format = 2 the further directories
//!   probes              numbers of the objects by which the store is being tried, while there are any
//!   exported.toml       which export of its journal holds all that is in here; until the next mount
//!   journal/            the embedded journal; in it `reserve`, room for it on a full disk
//!   extents/            the bytes
//!   torn/               what is left of versions that a power cut destroyed, or others replaced (on_conflict=theirs)
//!   fused.log.DATE      the log of a background mount
//! ```

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use extents::ExtentStore;
use journal::EmbeddedStore;
use nix::errno::Errno;
use nix::fcntl::Flock;
use serde::{Deserialize, Serialize};

use super::Error;
use super::dir_files::{EXTENTS, IDENTITY, explain, is_full, lock_file, read_toml, write_toml};
use super::further_dirs::{self, Belonging, FurtherDir, Listed};
use super::probes::Probes;
use crate::options::{JournalKind, MountOptions};

/// The layout above. Without further directories it is still 1, which older releases know.
const FORMAT: u32 = 2;

/// Says which export of the journal is as new as the directory.
const EXPORTED: &str = "exported.toml";

#[derive(Serialize, Deserialize)]
struct Exported {
    blake3: String,
}

/// Which store a cache directory belongs to, and which node it is in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    format: u32,
    /// The store's URL in its canonical form.
    pub store: String,
    /// The node's number: random, 63 bits (TOML's integers are signed).
    pub node: u64,
    /// The journal that knows what is in it; see [`journal::Journal::id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    journal: Option<u64>,
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
                    journal: None,
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
        let taken = Self {
            path,
            identity,
            further,
            _lock: lock,
        };
        taken.forget_export()?;
        Ok(taken)
    }

    /// Takes the cache directory of these options to look at it; nothing is made.
    pub fn lock_existing(options: &MountOptions, command: &str) -> Result<Self, Error> {
        let path = options.cache_dir.clone();
        let problem = |problem: String| Error::CacheDir {
            path: path.clone(),
            problem,
        };
        let read = || read_identity(&path).map_err(|error| problem(explain(&error)));
        // Before the lock file is made in a folder that is none of ours.
        read()?.ok_or_else(|| problem("is none: there is no identity.toml in it".into()))?;
        let owner = format!("fused {command} of {}", options.url);
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

    /// Whether the journal of these options can be the one that knows what is in here; before it is opened, or made.
    /// Any other one would take the extent files for nobody's.
    ///
    /// # Errors
    ///
    /// [`Error::OtherJournal`].
    pub fn check_journal(
        &self,
        options: &MountOptions,
        extents: &ExtentStore,
    ) -> Result<(), Error> {
        let has_own = self.journal().is_dir();
        match options.journal {
            JournalKind::Embedded if has_own => Ok(()),
            JournalKind::Embedded => {
                let mut files = extents.list();
                let holds = |id| extents.allocated_bytes(id).is_ok_and(|bytes| bytes > 0);
                match files.any(|id| id.is_ok_and(holds)) {
                    true => Err(self.other_journal("one that is not in it (in FoundationDB?)")),
                    false => Ok(()),
                }
            }
            JournalKind::FoundationDb { .. } if has_own => {
                Err(self.other_journal("the embedded one in it"))
            }
            JournalKind::FoundationDb { .. } => Ok(()),
        }
    }

    /// All that is in here is in this export of its journal, until somebody uses it again.
    pub fn note_export(&self, digest: &str) -> Result<(), Error> {
        let exported = Exported {
            blake3: digest.to_owned(),
        };
        let written = write_toml(&self.path, EXPORTED, &exported);
        written.map_err(|error| self.problem(&error))
    }

    /// The export of its journal that knows all that is in here.
    pub fn exported(&self) -> Result<Option<String>, Error> {
        let found = read_toml::<Exported>(&self.path, EXPORTED);
        let found = found.map_err(|error| self.problem(&error))?;
        Ok(found.map(|exported| exported.blake3))
    }

    /// No export does any more: what was made of it may be changed.
    pub fn forget_export(&self) -> Result<(), Error> {
        let removed = match std::fs::remove_file(self.path.join(EXPORTED)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed,
        };
        let durable = removed.and_then(|()| File::open(&self.path)?.sync_all());
        durable.map_err(|error| self.problem(&error))
    }

    /// The embedded journal is not the one of this directory any more. It is kept under another name.
    pub fn put_journal_aside(&self) -> Result<(), Error> {
        let from = self.journal();
        if !from.is_dir() {
            return Ok(());
        }
        let name = |number: u32| self.path.join(format!("journal.moved-{number}"));
        let free = (1..=u32::MAX).map(name).find(|path| !path.exists());
        let moved = match free {
            Some(to) => std::fs::rename(from, to),
            None => Err(io::ErrorKind::AlreadyExists.into()),
        };
        let durable = moved.and_then(|()| File::open(&self.path)?.sync_all());
        durable.map_err(|error| self.problem(&error))
    }

    fn problem(&self, error: &io::Error) -> Error {
        Error::CacheDir {
            path: self.path.clone(),
            problem: explain(error),
        }
    }

    /// From now on this journal knows what is in here.
    ///
    /// # Errors
    ///
    /// [`Error::OtherJournal`] if another one does.
    pub fn take_journal(&self, id: u64) -> Result<(), Error> {
        match self.identity.journal {
            Some(known) if known == id => Ok(()),
            Some(_) => Err(self.other_journal("another one than this")),
            None => {
                let identity = Identity {
                    journal: Some(id),
                    ..self.identity.clone()
                };
                match write_identity(&self.path, &identity) {
                    Ok(()) => Ok(()),
                    // One that an earlier fused has filled: the next start remembers it.
                    Err(error) if is_full(&error) => {
                        tracing::warn!(%error, "the cache directory does not remember yet whose it is");
                        Ok(())
                    }
                    Err(error) => Err(Error::CacheDir {
                        path: self.path.clone(),
                        problem: explain(&error),
                    }),
                }
            }
        }
    }

    fn other_journal(&self, found: &str) -> Error {
        Error::OtherJournal {
            path: self.path.clone(),
            found: found.to_owned(),
        }
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

fn read_identity(path: &Path) -> io::Result<Option<Identity>> {
    read_toml(path, IDENTITY)
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
