//! What a server's refusal means.
//!
//! Servers agree on few status codes but on most names of errors, so the name in the body counts
//! first. `HEAD` has no body: there the status is all.

use http::StatusCode;
use http::header::HeaderMap;
use serde::Deserialize;

use crate::error::{Error, ProbeError, excerpt};

/// A server said no.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// Name of the error, such as `NoSuchKey`; empty if the server gave none.
    pub(super) code: String,
    message: String,
    /// Where the bucket really is, if that is the trouble.
    region: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ErrorDocument {
    code: String,
    message: String,
    region: Option<String>,
}

impl Refusal {
    pub(super) fn is_error_document(body: &[u8]) -> bool {
        let text = String::from_utf8_lossy(&body[..body.len().min(512)]);
        let root = text
            .trim_start()
            .strip_prefix("<?xml")
            .and_then(|rest| rest.split_once("?>"))
            .map_or(&*text, |(_, rest)| rest);
        root.trim_start().starts_with("<Error")
    }

    pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
        let document: ErrorDocument = match Refusal::is_error_document(body) {
            true => quick_xml::de::from_reader(body).unwrap_or_default(),
            false => ErrorDocument::default(),
        };
        let region = headers
            .get("x-amz-bucket-region")
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned);
        Refusal {
            status,
            code: document.code,
            message: document.message,
            region: document.region.or(region),
        }
    }

    /// Whether the same request may succeed a little later.
    pub(super) fn is_temporary(&self) -> bool {
        if self.is_full() || self.status == StatusCode::NOT_IMPLEMENTED {
            return false;
        }
        self.status.is_server_error()
            || self.status == StatusCode::TOO_MANY_REQUESTS
            || matches!(
                self.code.as_str(),
                "RequestTimeout" | "SlowDown" | "InternalError" | "ServiceUnavailable"
            )
            || matches!(
                self.code.as_str(),
                "ConditionalRequestConflict" | "OperationAborted"
            )
    }

    /// Whether the server refused to begin with it, for now. Of another temporary failure nobody knows how much
    /// was done before it.
    pub(super) fn is_not_now(&self) -> bool {
        let code = matches!(self.code.as_str(), "SlowDown" | "ServiceUnavailable");
        let status = matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        self.is_temporary() && (code || status)
    }

    /// Whether a condition of the request did not hold.
    pub(super) fn is_precondition(&self) -> bool {
        self.status == StatusCode::PRECONDITION_FAILED
            || self.status == StatusCode::NOT_MODIFIED
            || self.code == "PreconditionFailed"
    }

    pub(super) fn is_no_such_upload(&self) -> bool {
        self.code == "NoSuchUpload" || self.code == "InvalidPart"
    }

    pub(super) fn is_no_such_key(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
            && !matches!(self.code.as_str(), "NoSuchBucket" | "NoSuchUpload")
    }

    fn is_full(&self) -> bool {
        self.status == StatusCode::INSUFFICIENT_STORAGE
            || matches!(
                self.code.as_str(),
                "QuotaExceeded"
                    | "XMinioStorageFull"
                    | "XMinioAdminBucketQuotaExceeded"
                    | "StorageFull"
                    | "InsufficientStorage"
            )
    }

    fn is_bad_credentials(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
            || matches!(
                self.code.as_str(),
                "InvalidAccessKeyId"
                    | "SignatureDoesNotMatch"
                    | "InvalidToken"
                    | "ExpiredToken"
                    | "TokenRefreshRequired"
                    | "RequestTimeTooSkewed"
                    | "InvalidSecurity"
                    | "NotSignedUp"
            )
    }

    fn words(&self) -> String {
        match (self.code.is_empty(), self.message.is_empty()) {
            (true, _) => format!("HTTP {}", self.status),
            (false, true) => format!("{}, HTTP {}", self.code, self.status.as_u16()),
            (false, false) => excerpt(format_args!("{}: {}", self.code, self.message)),
        }
    }

    fn is_wrong_region(&self) -> bool {
        self.status.is_redirection()
            || self.code == "AuthorizationHeaderMalformed"
            || self.code == "IllegalLocationConstraintException"
    }

    fn wrong_region(&self) -> String {
        match &self.region {
            Some(region) => format!("the bucket is in region {region}; set AWS_REGION={region}"),
            None => "the bucket is in another region or at another endpoint; set AWS_REGION or AWS_ENDPOINT_URL".to_owned(),
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
        if self.is_temporary() {
            return Error::transient(op, key, self.words());
        }
        if self.is_wrong_region() {
            return Error::other(op, key, self.wrong_region());
        }
        if self.status == StatusCode::FORBIDDEN || self.is_bad_credentials() {
            return Error::denied(op, key, self.words());
        }
        if self.is_no_such_key() {
            return Error::not_found(op, key);
        }
        if self.code == "KeyTooLongError" {
            return Error::KeyTooLong {
                key: key.chars().take(60).collect(),
                bytes: key.len(),
                bytes_max: super::KEY_BYTES_MAX,
            };
        }
        Error::other(op, key, self.words())
    }

    /// As the reason why the bucket can't be mounted.
    pub(super) fn into_probe_error(self, operation: &str, store: &str) -> ProbeError {
        if self.code == "NoSuchBucket"
            || (self.status == StatusCode::NOT_FOUND && self.code.is_empty())
        {
            return ProbeError::NoSuchBucket(store.to_owned());
        }
        if self.is_bad_credentials() {
            return ProbeError::BadCredentials(self.words());
        }
        if self.is_wrong_region() {
            return ProbeError::Other(format!("{store}: {}", self.wrong_region()));
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

    fn refusal(status: u16, body: &str) -> Refusal {
        Refusal::read(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::new(),
            body.as_bytes(),
        )
    }

    #[test]
    fn reasons_not_to_mount_are_told_apart() {
        let probe = |status, body| refusal(status, body).into_probe_error("list objects", "s3://b");
        assert!(matches!(
            probe(404, "<Error><Code>NoSuchBucket</Code></Error>"),
            ProbeError::NoSuchBucket(_)
        ));
        assert!(matches!(
            probe(403, "<Error><Code>InvalidAccessKeyId</Code></Error>"),
            ProbeError::BadCredentials(_)
        ));
        assert!(matches!(
            probe(403, "<Error><Code>SignatureDoesNotMatch</Code></Error>"),
            ProbeError::BadCredentials(_)
        ));
        assert!(matches!(
            probe(403, "<Error><Code>AccessDenied</Code></Error>"),
            ProbeError::AccessDenied { .. }
        ));
        let moved = probe(
            301,
            "<Error><Code>PermanentRedirect</Code><Region>eu-west-1</Region></Error>",
        );
        assert!(
            moved.to_string().contains("AWS_REGION=eu-west-1"),
            "{moved}"
        );
        assert!(matches!(probe(418, "I'm a teapot"), ProbeError::Other(_)));
    }

    #[test]
    fn refusals_become_the_error_that_tells_what_to_do() {
        let error = |status, code: &str| {
            refusal(
                status,
                &format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code></Error>"),
            )
            .into_error("write", "k")
        };
        assert!(matches!(
            error(412, "PreconditionFailed"),
            Error::PreconditionFailed { .. }
        ));
        assert!(matches!(
            error(409, "ConditionalRequestConflict"),
            Error::Transient { .. }
        ));
        assert!(matches!(error(503, "SlowDown"), Error::Transient { .. }));
        assert!(matches!(
            error(404, "NoSuchUpload"),
            Error::NoSuchUpload { .. }
        ));
        assert!(matches!(error(404, "NoSuchKey"), Error::NotFound { .. }));
        assert!(matches!(
            error(507, "XMinioStorageFull"),
            Error::Full { .. }
        ));
        assert!(matches!(
            error(403, "AccessDenied"),
            Error::AccessDenied { .. }
        ));
        assert!(matches!(error(501, "NotImplemented"), Error::Other { .. }));
    }

    #[test]
    fn an_error_in_the_body_of_a_success_is_seen() {
        assert!(Refusal::is_error_document(
            b"<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code></Error>"
        ));
        assert!(Refusal::is_error_document(b"\n\n<Error/>"));
        assert!(!Refusal::is_error_document(
            b"<CompleteMultipartUploadResult/>"
        ));
        assert!(!Refusal::is_error_document(b""));
    }
}
