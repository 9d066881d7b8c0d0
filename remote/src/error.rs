//! What can go wrong with a store, by what the caller can do about it.
//!
//! Messages name the operation and the key and what to do next. They never carry credentials,
//! signed headers or file contents; what a server answered is cut to [`DETAIL_CHARS_MAX`].

/// Result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Longest excerpt of a server's own words that goes into a message, in characters.
const DETAIL_CHARS_MAX: usize = 300;

/// A call to the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// There is no such object.
    #[error("{op} '{key}': there is no such object in the store")]
    NotFound {
        /// What was tried.
        op: &'static str,
        /// On which key.
        key: String,
    },
    /// The [`Condition`](crate::Condition) of a write did not hold: somebody else changed the object.
    #[error(
        "{op} '{key}': the object in the store is not the one expected; somebody else changed it"
    )]
    PreconditionFailed {
        /// What was tried.
        op: &'static str,
        /// On which key.
        key: String,
    },
    /// The object is no longer the version that a read asked for.
    #[error(
        "{op} '{key}': the object was replaced in the store since it was opened; open it again"
    )]
    Changed {
        /// What was tried.
        op: &'static str,
        /// On which key.
        key: String,
    },
    /// The store sent fewer or more bytes than were asked for.
    #[error("read '{key}': the store sent {got} bytes where {wanted} were asked for")]
    ShortBody {
        /// Which key.
        key: String,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes received.
        got: u64,
    },
    /// A multipart upload is not known (any more): it has to be started again.
    #[error(
        "{op} '{key}': the store does not know this upload any more; it has to be started again"
    )]
    NoSuchUpload {
        /// What was tried.
        op: &'static str,
        /// On which key.
        key: String,
    },
    /// The credentials are wrong or don't allow it.
    #[error(
        "{op} '{key}': access denied ({detail}); check the credentials and the bucket's policy"
    )]
    AccessDenied {
        /// What was tried.
        op: &'static str,
        /// On which key.
        key: String,
        /// The store's words.
        detail: String,
    },
    /// No answer: no route, no such host, connection refused.
    #[error("{op} '{key}': the store can't be reached ({detail})")]
    Unreachable {
        /// What was tried.
        op: &'static str,
        /// On which key.
        key: String,
        /// The system's words.
        detail: String,
    },
    /// The store is there but could not answer now.
    #[error("{op} '{key}': the store is busy or failed for the moment ({detail})")]
    Transient {
        /// What was tried.
        op: &'static str,
        /// On which key.
        key: String,
        /// The store's words.
        detail: String,
    },
    /// The store can't hold a key this long.
    #[error(
        "'{key}': the name is too long for the store ({bytes} bytes, {bytes_max} are possible); use shorter names"
    )]
    KeyTooLong {
        /// The beginning of the key.
        key: String,
        /// Its length, with the URL's prefix.
        bytes: usize,
        /// The store's limit.
        bytes_max: usize,
    },
    /// No space, or a quota is reached.
    #[error("{op} '{key}': the store is full ({detail}); free some space or raise the quota")]
    Full {
        /// What was tried.
        op: &'static str,
        /// On which key.
        key: String,
        /// The store's words.
        detail: String,
    },
    /// Nothing can be written there at all.
    #[error("{op} '{key}': the store is read-only; mount it with -o ro, or make it writable")]
    ReadOnly {
        /// What was tried.
        op: &'static str,
        /// On which key.
        key: String,
    },
    /// Anything else.
    #[error("{op} '{key}': {detail}")]
    Other {
        /// What was tried.
        op: &'static str,
        /// On which key.
        key: String,
        /// What happened.
        detail: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Error::Unreachable { .. } | Error::Transient { .. } | Error::ShortBody { .. }
        )
    }

    /// Whether the store may have done what it was asked for, or may yet do it: the answer was lost or said nothing.
    pub fn leaves_open_what_was_done(&self) -> bool {
        matches!(
            self,
            Error::Transient { .. } | Error::ShortBody { .. } | Error::Other { .. }
        )
    }

    pub(crate) fn not_found(op: &'static str, key: &str) -> Error {
        Error::NotFound {
            op,
            key: key.to_owned(),
        }
    }

    pub(crate) fn precondition(op: &'static str, key: &str) -> Error {
        Error::PreconditionFailed {
            op,
            key: key.to_owned(),
        }
    }

    pub(crate) fn changed(op: &'static str, key: &str) -> Error {
        Error::Changed {
            op,
            key: key.to_owned(),
        }
    }

    pub(crate) fn other(op: &'static str, key: &str, detail: impl std::fmt::Display) -> Error {
        Error::Other {
            op,
            key: key.to_owned(),
            detail: excerpt(detail),
        }
    }

    pub(crate) fn transient(op: &'static str, key: &str, detail: impl std::fmt::Display) -> Error {
        Error::Transient {
            op,
            key: key.to_owned(),
            detail: excerpt(detail),
        }
    }

    pub(crate) fn unreachable(
        op: &'static str,
        key: &str,
        detail: impl std::fmt::Display,
    ) -> Error {
        Error::Unreachable {
            op,
            key: key.to_owned(),
            detail: excerpt(detail),
        }
    }

    pub(crate) fn denied(op: &'static str, key: &str, detail: impl std::fmt::Display) -> Error {
        Error::AccessDenied {
            op,
            key: key.to_owned(),
            detail: excerpt(detail),
        }
    }

    pub(crate) fn full(op: &'static str, key: &str, detail: impl std::fmt::Display) -> Error {
        Error::Full {
            op,
            key: key.to_owned(),
            detail: excerpt(detail),
        }
    }
}

/// `text` on one line, without control characters, cut to [`DETAIL_CHARS_MAX`].
pub(crate) fn excerpt(text: impl std::fmt::Display) -> String {
    let text = text.to_string();
    let mut clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(DETAIL_CHARS_MAX)
        .collect();
    if text.chars().nth(DETAIL_CHARS_MAX).is_some() {
        clean.push('…');
    }
    clean
}

/// An error with all that caused it, innermost last, as one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

/// Why a store can't be mounted: one sentence each, for the person at the terminal.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProbeError {
    /// The bucket, container or folder doesn't exist.
    #[error("{0} does not exist; create it first, or correct the URL")]
    NoSuchBucket(String),
    /// No credentials, or ones the store doesn't know.
    #[error(
        "the store does not accept the credentials ({0}); check the access key, the secret and the region"
    )]
    BadCredentials(String),
    /// The credentials are known but may not do this.
    #[error(
        "access denied: the credentials do not allow to {operation} in {store}; extend the policy"
    )]
    AccessDenied {
        /// What was refused, as a verb: "list objects", "write objects".
        operation: String,
        /// The store's URL.
        store: String,
    },
    /// Nobody answers there.
    #[error("{endpoint} can't be reached ({detail}); check the endpoint and the network")]
    Unreachable {
        /// Host, address or folder that was tried.
        endpoint: String,
        /// The system's words.
        detail: String,
    },
    /// The store can be read but not written at all (a read-only file system).
    #[error("{0} is read-only; mount it with -o ro, or make it writable")]
    ReadOnly(String),
    /// A `file://` URL that names something else than a folder.
    #[error("{0} is not a folder; give the URL of a folder")]
    NotADirectory(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A store's URL can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL at all.
    #[error("'{0}' is not a store URL; write one such as s3://bucket/prefix or file:///path")]
    NotAUrl(String),
    /// A scheme that is not known here.
    #[error("'{0}://' is not a known kind of store; known are s3, gs, az, hdfs and file")]
    UnknownScheme(String),
    /// The part that names the bucket is missing or malformed.
    #[error("{0}")]
    Malformed(String),
}

/// The settings of a store can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A table of the configuration file has a name that means nothing here.
    #[error("unknown store setting '{0}'; see the README for the list")]
    UnknownName(String),
    /// A setting has a value of the wrong kind. The value itself isn't shown: it may be a secret.
    #[error("store setting '{name}': {problem}")]
    BadValue {
        /// Which setting.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// `AWS_PROFILE` names a profile that is in neither file.
    #[error("the AWS profile '{profile}' is neither in {config} nor in {credentials}")]
    NoSuchProfile {
        /// The profile's name.
        profile: String,
        /// Path of the configuration file.
        config: String,
        /// Path of the credentials file.
        credentials: String,
    },
}
