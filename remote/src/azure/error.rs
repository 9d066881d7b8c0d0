//! What Azure's refusals mean. Every answer names its error in a header, `HEAD`'s too.

use http::StatusCode;
use http::header::HeaderMap;
use serde::Deserialize;

use crate::error::{Error, ProbeError, excerpt};

/// The server said no.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// Name of the error, such as `BlobNotFound`; empty if the server gave none.
    code: String,
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ErrorDocument {
    code: String,
    message: String,
}

impl Refusal {
    pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
        // Azure puts a byte order mark before its XML.
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        let document: ErrorDocument = quick_xml::de::from_reader(body).unwrap_or_default();
        let code = headers
            .get("x-ms-error-code")
            .and_then(|value| value.to_str().ok())
            .map_or(document.code, str::to_owned);
        Refusal {
            status,
            code,
            // What follows the first line is the request's number and time.
            message: document
                .message
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        }
    }

    /// Whether the same request may succeed a little later.
    pub(super) fn is_temporary(&self) -> bool {
        self.status.is_server_error()
            && !self.is_full()
            && self.status != StatusCode::NOT_IMPLEMENTED
            || self.status == StatusCode::TOO_MANY_REQUESTS
            || self.status == StatusCode::REQUEST_TIMEOUT
    }

    /// Whether a condition of the request did not hold. A lease that somebody holds has the same
    /// status, and is something else.
    pub(super) fn is_precondition(&self) -> bool {
        matches!(
            self.code.as_str(),
            "ConditionNotMet"
                | "SourceConditionNotMet"
                | "TargetConditionNotMet"
                | "BlobAlreadyExists"
        ) || (self.code.is_empty() && self.status == StatusCode::PRECONDITION_FAILED)
    }

    /// Whether the blocks of an upload are not there any more: they were never sent, a week has passed,
    /// or the blob was written otherwise meanwhile.
    pub(super) fn is_no_such_upload(&self) -> bool {
        matches!(self.code.as_str(), "InvalidBlockList")
    }

    pub(super) fn is_no_container(&self) -> bool {
        matches!(
            self.code.as_str(),
            "ContainerNotFound" | "ContainerDisabled" | "ContainerBeingDeleted"
        )
    }

    fn is_held(&self) -> bool {
        self.code.starts_with("Lease") || self.code == "PendingCopyOperation"
    }

    fn is_full(&self) -> bool {
        self.status == StatusCode::INSUFFICIENT_STORAGE || self.code == "AccountQuotaExceeded"
    }

    fn is_bad_credentials(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
            || matches!(
                self.code.as_str(),
                "AuthenticationFailed"
                    | "InvalidAuthenticationInfo"
                    | "NoAuthenticationInformation"
            )
            // Azurite's code for a wrong key is Azure's for a firewall; the words are the same.
            || self.message.contains("failed to authenticate")
    }

    fn words(&self) -> String {
        match (self.code.is_empty(), self.message.is_empty()) {
            (true, _) => format!("HTTP {}", self.status),
            (false, true) => format!("{}, HTTP {}", self.code, self.status.as_u16()),
            (false, false) => excerpt(format_args!("{}: {}", self.code, self.message)),
        }
    }

    /// As an error of a call.
    pub(super) fn into_error(self, op: &'static str, key: &str) -> Error {
        if self.is_no_such_upload() {
            return Error::NoSuchUpload {
                op,
                key: key.to_owned(),
            };
        }
        if self.is_precondition() {
            return Error::precondition(op, key);
        }
        if self.is_full() {
            return Error::full(op, key, self.words());
        }
        if self.is_temporary() || self.is_held() {
            return Error::transient(op, key, self.words());
        }
        if self.status == StatusCode::FORBIDDEN || self.is_bad_credentials() {
            return Error::denied(op, key, self.words());
        }
        // That the container is gone is nobody's missing file.
        if self.status == StatusCode::NOT_FOUND && !self.is_no_container() {
            return Error::not_found(op, key);
        }
        Error::other(op, key, self.words())
    }

    /// As the reason why the container can't be mounted.
    pub(super) fn into_probe_error(self, operation: &str, store: &str) -> ProbeError {
        if self.is_no_container() || (self.status == StatusCode::NOT_FOUND && self.code.is_empty())
        {
            return ProbeError::NoSuchBucket(store.to_owned());
        }
        if self.is_bad_credentials() {
            return ProbeError::BadCredentials(self.words());
        }
        if self.status == StatusCode::FORBIDDEN {
            return ProbeError::AccessDenied {
                operation: operation.to_owned(),
                store: store.to_owned(),
            };
        }
        ProbeError::Other(format!(
            "{store}: the store refused to {operation} ({})",
            self.words()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, code: &str) -> Refusal {
        let body = format!(
            "\u{feff}<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Words.\nRequestId:1</Message></Error>"
        );
        Refusal::read(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::new(),
            body.as_bytes(),
        )
    }

    #[test]
    fn refusals_become_the_error_that_tells_what_to_do() {
        let error = |status, code| refusal(status, code).into_error("write", "k");
        for (status, code) in [(412, "ConditionNotMet"), (409, "BlobAlreadyExists")] {
            assert!(matches!(
                error(status, code),
                Error::PreconditionFailed { .. }
            ));
        }
        assert!(matches!(
            error(412, "LeaseIdMissing"),
            Error::Transient { .. }
        ));
        assert!(matches!(error(503, "ServerBusy"), Error::Transient { .. }));
        assert!(matches!(
            error(400, "InvalidBlockList"),
            Error::NoSuchUpload { .. }
        ));
        assert!(matches!(error(404, "BlobNotFound"), Error::NotFound { .. }));
        assert!(matches!(
            error(404, "ContainerNotFound"),
            Error::Other { .. }
        ));
        assert!(matches!(
            error(403, "AuthorizationFailure"),
            Error::AccessDenied { .. }
        ));
        assert_eq!(
            error(409, "InvalidBlobType").to_string(),
            "write 'k': InvalidBlobType: Words."
        );
    }

    #[test]
    fn reasons_not_to_mount_are_told_apart() {
        let probe = |status, code| refusal(status, code).into_probe_error("list objects", "az://c");
        assert!(matches!(
            probe(404, "ContainerNotFound"),
            ProbeError::NoSuchBucket(_)
        ));
        assert!(matches!(
            probe(403, "AuthenticationFailed"),
            ProbeError::BadCredentials(_)
        ));
        assert!(matches!(
            probe(403, "AuthorizationPermissionMismatch"),
            ProbeError::AccessDenied { .. }
        ));
        assert!(matches!(
            probe(409, "AccountBeingCreated"),
            ProbeError::Other(_)
        ));
    }
}
