//! What every store that is spoken to over HTTP needs alike: escaping, and what a broken connection means.

use object_store::client::{HttpError, HttpErrorKind};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{Error, chain};

/// What the rules of signatures leave unescaped.
const STRICT: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const STRICT_PATH: AsciiSet = STRICT.remove(b'/');

/// Escapes a value for the query of a request.
pub(crate) fn escape(value: &str) -> String {
    utf8_percent_encode(value, &STRICT).to_string()
}

/// Escapes a key for the path of a request, as signatures want it.
pub(crate) fn escape_path(key: &str) -> String {
    utf8_percent_encode(key, &STRICT_PATH).to_string()
}

/// What a failure of the network means.
pub(crate) fn network_error(op: &'static str, key: &str, error: &HttpError) -> Error {
    match error.kind() {
        HttpErrorKind::Connect => Error::unreachable(op, key, innermost(error)),
        _ => Error::transient(op, key, innermost(error)),
    }
}

/// The last cause, which is the one in plain words, with the first, which says what was going on.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last: &(dyn std::error::Error + 'static) = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let (all, last) = (chain(error), last.to_string());
    if all.contains("dns error") && !last.contains("dns") {
        format!("no such host: {last}")
    } else {
        last
    }
}
