//! What can be wrong with options. No message shows a value of something that may be a secret.

use std::fmt;
use std::path::{Path, PathBuf};

/// What is wrong with the options of a mount, in a sentence for the user.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No such option.
    #[error("unknown option `{name}`{}{}", Where(file), Nearest(nearest))]
    Unknown {
        /// What was written.
        name: String,
        /// The nearest known name, if one is near at all.
        nearest: Option<&'static str>,
        /// The TOML file it stands in; `None` = the command line.
        file: Option<PathBuf>,
    },
    /// An option without the value that it needs.
    #[error("option `{name}`{} needs a value: {name}={shape}", Where(file))]
    NeedsValue {
        /// The option.
        name: String,
        /// The form of its value.
        shape: &'static str,
        /// The TOML file it stands in; `None` = the command line.
        file: Option<PathBuf>,
    },
    /// A switch with a value.
    #[error("option `{name}` takes no value: write it alone, or leave it out")]
    TakesNoValue {
        /// The option.
        name: String,
    },
    /// A value that can't be.
    #[error("option `{name}`{}: {problem}", Where(file))]
    BadValue {
        /// The option.
        name: String,
        /// What is wrong with the value, and what would be right.
        problem: String,
        /// The TOML file it stands in; `None` = the command line.
        file: Option<PathBuf>,
    },
    /// A setting of the store where everybody can read it.
    #[error(
        "`{name}` is not taken{}: settings and credentials of a store come from its usual \
         environment variables or profile (for S3: AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL, \
         ...), or from a table such as [s3] in a TOML file given by `-o config=FILE`",
        Where(file)
    )]
    StoreSetting {
        /// The option.
        name: String,
        /// The TOML file it stands in; `None` = the command line.
        file: Option<PathBuf>,
    },
    /// `remount` was asked for.
    #[error(
        "a mounted fused can't be remounted with other options: `fused umount DIR`, then mount again"
    )]
    Remount,
    /// A double quote that nothing closes.
    #[error(
        "the option list ends inside double quotes: close them, or write \\\" for the character"
    )]
    OpenQuote,
    /// The store's URL can't be understood, or holds credentials.
    #[error(transparent)]
    Url(#[from] remote::UrlError),
    /// A path that can't be made absolute.
    #[error("{path}: {problem}")]
    Path {
        /// The path as given.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// The TOML file can't be read or isn't TOML.
    #[error("config file {file}: {problem}")]
    File {
        /// The file.
        file: PathBuf,
        /// Why not.
        problem: String,
    },
}

impl Error {
    /// The same error, said of a TOML file.
    pub(super) fn in_file(mut self, path: &Path) -> Error {
        if let Error::Unknown { file, .. }
        | Error::NeedsValue { file, .. }
        | Error::BadValue { file, .. }
        | Error::StoreSetting { file, .. } = &mut self
        {
            *file = Some(path.to_owned());
        }
        self
    }
}

struct Where<'a>(&'a Option<PathBuf>);

impl fmt::Display for Where<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(file) => write!(f, " in {}", file.display()),
            None => Ok(()),
        }
    }
}

struct Nearest<'a>(&'a Option<&'static str>);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, "; the nearest known one is `{name}`"),
            None => write!(f, "; `fused mount --help` lists all"),
        }
    }
}
