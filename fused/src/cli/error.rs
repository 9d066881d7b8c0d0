//! Why a command failed, as the sentence behind `fused: ` and the exit code.

use std::path::PathBuf;

use crate::control::client;
use crate::options;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A wrong option.
    #[error(transparent)]
    Options(#[from] options::Error),
    /// The daemon can't be asked.
    #[error(transparent)]
    Control(#[from] client::Error),
    /// The daemon's own reason.
    #[error(transparent)]
    Daemon(#[from] crate::daemon::Error),
    /// A cache directory can't be examined.
    #[error(transparent)]
    Doctor(#[from] crate::doctor::Error),
    /// A journal can't be read.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// A sentence that is complete already.
    #[error("{0}")]
    Failed(String),
    /// Something about one path.
    #[error("{path}: {problem}")]
    Path {
        /// The path as the user wrote it.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// Everything has been said already; only the exit code is left.
    #[error("failed")]
    Told {
        /// The exit code.
        exit_code: u8,
    },
}

impl Error {
    /// An error about one path.
    pub(super) fn path(path: impl Into<PathBuf>, problem: impl Into<String>) -> Error {
        Error::Path {
            path: path.into(),
            problem: problem.into(),
        }
    }

    /// 2 if the command line is to blame, 1 otherwise.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Error::Options(_) => 2,
            Error::Told { exit_code } => *exit_code,
            _ => 1,
        }
    }

    /// What is left to say.
    pub(super) fn sentence(&self) -> Option<String> {
        match self {
            Error::Told { .. } => None,
            other => Some(other.to_string()),
        }
    }
}
