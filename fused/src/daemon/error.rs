//! Why a mount failed: one sentence for the user.

use std::io;
use std::path::PathBuf;

/// Why a mount failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process could not get what it needs from the system.
    #[error("cannot start {what}: {source}")]
    Start {
        /// What it needs.
        what: &'static str,
        /// The system's words.
        source: io::Error,
    },

    /// The test that runs it asks for something that is not there.
    #[error("{0}")]
    KillPoint(String),

    /// The cache directory can't be made or used.
    #[error("cache directory {}: {problem}", path.display())]
    CacheDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },

    /// Another daemon has the cache directory.
    #[error(
        "cache directory {} is in use by another fused ({owner}): unmount that one, or choose \
         another with -o cache_dir=DIR",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// What is known of the other one.
        owner: String,
    },

    /// The cache directory belongs to another store.
    #[error(
        "cache directory {} belongs to the store {found}, not to {wanted}: choose another with \
         -o cache_dir=DIR",
        path.display()
    )]
    OtherStore {
        /// The directory.
        path: PathBuf,
        /// The store that it belongs to.
        found: String,
        /// The store to be mounted.
        wanted: String,
    },

    /// The cache directory belongs to another journal of this store.
    #[error(
        "cache directory {} belongs to another journal, {found}: what is in it may not be in the store yet, and only \
         that journal knows it; name that one, or choose another directory with -o cache_dir=DIR",
        path.display()
    )]
    OtherJournal {
        /// The directory.
        path: PathBuf,
        /// The one that it belongs to.
        found: String,
    },

    /// The extents can't be opened.
    #[error(transparent)]
    Extents(#[from] extents::Error),

    /// The journal can't be opened.
    #[error(transparent)]
    Journal(#[from] journal::Error),

    /// This program was built without a feature that the options ask for.
    #[error("{what} needs a fused that was built with `--features {feature}`")]
    NotBuiltIn {
        /// What was asked for.
        what: &'static str,
        /// The cargo feature.
        feature: &'static str,
    },

    /// The URL can't be understood.
    #[error(transparent)]
    Url(#[from] remote::UrlError),

    /// The store's settings can't be used.
    #[error(transparent)]
    Settings(#[from] remote::SettingsError),

    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] remote::Error),

    /// The store does not do what the mount needs.
    #[error(transparent)]
    Probe(#[from] remote::ProbeError),

    /// What the last daemon left behind can't be put right, or this one can't leave safely.
    #[error("cannot bring the cache in order: {0}")]
    Recovery(#[source] crate::vfs::Error),

    /// A node can't be forgotten yet.
    #[error(
        "not all is done in the store that the node had begun ({problem}); what only its disk had is given up, the rest \
         waits for another `fused forget-node`"
    )]
    StillHeld {
        /// What failed last.
        problem: String,
    },

    /// The kernel refused the mount.
    #[error("cannot mount at {}: {source}{hint}", mountpoint.display())]
    Mount {
        /// Where.
        mountpoint: PathBuf,
        /// The system's words.
        source: io::Error,
        /// What may help.
        hint: &'static str,
    },

    /// The control socket can't be opened.
    #[error("cannot open the control socket: {0}")]
    ControlSocket(#[source] io::Error),

    /// The session ended with an error.
    #[error("the FUSE session failed: {0}")]
    Session(#[source] io::Error),
}
