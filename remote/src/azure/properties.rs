//! Properties of a blob, spelt as headers and listings spell them.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;

use crate::types::ETag;

/// Metadata by which Microsoft's own tools know a folder.
pub(super) const FOLDER: &str = "hdi_isfolder";

/// A version always in quotes: listings leave them out.
pub(super) fn etag_of(text: &str) -> ETag {
    match text.starts_with('"') {
        true => ETag(text.to_owned()),
        false => ETag(format!("\"{text}\"")),
    }
}

/// A time as headers and listings have it: `Mon, 02 Jan 2006 15:04:05 GMT`.
pub(super) fn parse_time(text: &str) -> SystemTime {
    DateTime::parse_from_rfc2822(text).map_or(UNIX_EPOCH, SystemTime::from)
}
