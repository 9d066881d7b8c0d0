//! `object_store`'s errors as this crate's.

use object_store::client::{HttpError, HttpErrorKind};

use crate::error::{Error, ProbeError, chain, excerpt};
use crate::keys::ObjectKey;

/// What the failure of the network was, if it was one.
fn network(error: &object_store::Error) -> Option<HttpErrorKind> {
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = at {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return Some(http.kind());
        }
        at = error.source();
    }
    None
}

pub(super) fn mapped(op: &'static str, key: &ObjectKey, error: object_store::Error) -> Error {
    use object_store::Error as Theirs;
    let (text, detail) = (key.as_str(), chain(&error));
    match error {
        Theirs::NotFound { .. } => Error::not_found(op, text),
        Theirs::AlreadyExists { .. } | Theirs::Precondition { .. } | Theirs::NotModified { .. } => {
            Error::precondition(op, text)
        }
        Theirs::PermissionDenied { .. } | Theirs::Unauthenticated { .. } => {
            Error::denied(op, text, detail)
        }
        Theirs::InvalidPath { .. } => Error::other(
            op,
            text,
            format!(
                "a key in this directory has an empty part, '.', '..' or a control character, with which this store can't be listed; rename that object ({detail})"
            ),
        ),
        error => match network(&error) {
            Some(HttpErrorKind::Connect) => Error::unreachable(op, text, detail),
            Some(_) => Error::transient(op, text, detail),
            // The status is only in the words.
            None if ["status code: 5", "status code: 429", "status code: 408"]
                .iter()
                .any(|s| detail.contains(s)) =>
            {
                Error::transient(op, text, detail)
            }
            None => Error::other(op, text, detail),
        },
    }
}

pub(super) fn probe_error(error: object_store::Error, store: &str) -> ProbeError {
    use object_store::Error as Theirs;
    let detail = excerpt(chain(&error));
    match &error {
        Theirs::NotFound { .. } => ProbeError::NoSuchBucket(store.to_owned()),
        // A listing's refusal comes as words only.
        _ if chain(&error).contains("<Code>NoSuchBucket</Code>") => {
            ProbeError::NoSuchBucket(store.to_owned())
        }
        Theirs::Unauthenticated { .. } => ProbeError::BadCredentials(detail),
        Theirs::PermissionDenied { .. } => ProbeError::AccessDenied {
            operation: "list objects".to_owned(),
            store: store.to_owned(),
        },
        _ if network(&error).is_some() => ProbeError::Unreachable {
            endpoint: store.to_owned(),
            detail,
        },
        _ => ProbeError::Other(format!("{store}: {detail}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_bucket_is_said_to_be_missing() {
        let words = format!(
            "GET {} - 404 Not Found: <Error><Code>NoSuchBucket</Code></Error>",
            "x".repeat(400)
        );
        let error = object_store::Error::Generic {
            store: "GCS",
            source: words.into(),
        };
        assert!(matches!(
            probe_error(error, "gs://b"),
            ProbeError::NoSuchBucket(_)
        ));
    }
}
