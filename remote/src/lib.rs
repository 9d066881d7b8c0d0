//! The object store behind the file system: S3, Google Cloud Storage, Azure Blob Storage, HDFS or
//! a local folder, behind one set of calls.
//!
//! A store is named by a [`StoreUrl`], reached with [`Settings`] (credentials, endpoint, region) and
//! spoken to through a [`Remote`]. Everything below a URL's prefix is addressed by [`ObjectKey`]s,
//! which are made of file names by [`keys`]; mode, owner and times travel as [`PosixAttrs`].
//!
//! What all stores promise alike:
//!
//! * a [`Remote::put`] or [`Remote::complete`] that returned is durable, and readers see the old
//!   object or the complete new one, never a mixture;
//! * a [`Remote::get`] returns exactly the bytes that were asked for, of the version that was asked
//!   for, or an error;
//! * a [`Condition`] is checked by the store in the same step as the write where
//!   [`Capabilities`] says so, and shortly before it otherwise;
//! * every call returns within a bounded time ([`Error::is_retryable`] tells whether to come back).
//!
//! What differs (conditions, markers of empty directories, attributes) is found out by
//! [`Remote::probe`] by trying it, because servers that speak S3 differ from their own manuals.
//!
//! | folder | store | by |
//! |---|---|---|
//! | `s3` | `s3://` | signed requests of our own over `object_store`'s client, signer and credentials |
//! | `azure` | `az://` | the same |
//! | `google` | `gs://` | `object_store` |
//! | `file` | `file://` | system calls |
//! | `hdfs` | `hdfs://` | `hdfs-native` |

mod attrs;
mod azure;
mod backend;
mod error;
mod file;
mod google;
#[cfg(feature = "hdfs")]
mod hdfs;
pub mod keys;
mod probe;
mod remote;
mod s3;
mod settings;
mod spelling;
mod types;
mod url;
mod wire;

pub use attrs::{FileVersion, PosixAttrs};
pub use backend::Backend;
pub use error::{Error, ProbeError, Result, SettingsError, UrlError};
pub use keys::ObjectKey;
pub use probe::ProbeNotes;
pub use remote::Remote;
pub use settings::Settings;
pub use types::{
    Access, Capabilities, Condition, DirMarkers, ETag, ListPage, ListToken, ObjectMeta, OpenUpload,
    PartTag, Put, UploadId,
};
pub use url::{Scheme, StoreUrl};
