//! What the client's errors mean. The NameNode's own come as the name of a Java class, with words.

use hdfs_native::HdfsError;

use crate::error::{Error, ProbeError, excerpt};
use crate::keys::ObjectKey;

/// Longest name of a file, as NameNodes have it by default.
const NAME_BYTES_MAX: usize = 255;

/// Classes, by their last word, that stand for "try again".
const PASSING: &[&str] = &[
    "SafeModeException",
    "StandbyException",
    "RetriableException",
    "LeaseExpiredException",
    "NotReplicatedYetException",
];

pub(super) fn mapped(op: &'static str, key: &ObjectKey, error: HdfsError) -> Error {
    let (text, detail) = (key.as_str(), error.to_string());
    match &error {
        HdfsError::FileNotFound(_) | HdfsError::IsADirectoryError(_) => Error::not_found(op, text),
        HdfsError::IOError(_) => Error::unreachable(op, text, detail),
        HdfsError::SASLError(_) | HdfsError::GSSAPIError(..) | HdfsError::NoSASLMechanism => {
            Error::denied(op, text, detail)
        }
        HdfsError::DataTransferError(_)
        | HdfsError::ChecksumError
        | HdfsError::BlocksNotFound(_) => Error::transient(op, text, detail),
        HdfsError::RPCError(class, words) | HdfsError::FatalRPCError(class, words) => {
            refused(op, key, class, words)
        }
        _ => Error::other(op, text, detail),
    }
}

fn refused(op: &'static str, key: &ObjectKey, class: &str, words: &str) -> Error {
    let text = key.as_str();
    // The words are a stack trace: its first line says it.
    let words = words.lines().next().unwrap_or_default();
    let class = class.rsplit(['.', '$']).next().unwrap_or(class);
    let detail = format!("{class}: {words}");
    match class {
        "FileNotFoundException" => Error::not_found(op, text),
        "AccessControlException" | "InvalidToken" => Error::denied(op, text, words),
        "PathComponentTooLongException" => Error::KeyTooLong {
            key: text.chars().take(60).collect(),
            bytes: key.name().len(),
            bytes_max: NAME_BYTES_MAX,
        },
        _ if words.contains("Pathname too long") => Error::KeyTooLong {
            key: text.chars().take(60).collect(),
            bytes: text.len(),
            bytes_max: super::KEY_BYTES_MAX,
        },
        _ if class.contains("QuotaExceeded") => Error::full(op, text, words),
        // No DataNode has room, or none is there.
        _ if words.contains("could only be replicated to")
            || words.contains("could only be written to") =>
        {
            Error::full(op, text, words)
        }
        _ if PASSING.contains(&class) => Error::transient(op, text, detail),
        _ => Error::other(op, text, detail),
    }
}

/// Whether the error means that a part of the path is a file.
pub(super) fn is_below_a_file(error: &HdfsError) -> bool {
    match error {
        HdfsError::RPCError(class, words) => {
            class.ends_with("ParentNotDirectoryException")
                || (class.ends_with("AccessControlException")
                    && words.contains("is not a directory"))
        }
        _ => false,
    }
}

pub(super) fn probe_error(error: HdfsError, store: &str) -> ProbeError {
    match mapped("list", &ObjectKey::default(), error) {
        Error::AccessDenied { .. } => ProbeError::AccessDenied {
            operation: "list files".to_owned(),
            store: store.to_owned(),
        },
        Error::Unreachable { detail, .. } => ProbeError::Unreachable {
            endpoint: store.to_owned(),
            detail,
        },
        Error::NotFound { .. } => ProbeError::NoSuchBucket(store.to_owned()),
        error => ProbeError::Other(excerpt(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_name_node_says_becomes_what_to_do_about_it() {
        let error = |class: &str, words: &str| {
            let error = HdfsError::RPCError(format!("org.apache.hadoop.{class}"), words.to_owned());
            mapped("write", &ObjectKey::from("k"), error)
        };
        assert!(matches!(
            error("security.AccessControlException", "Permission denied: user=x\n\tat ..."),
            Error::AccessDenied { detail, .. } if detail == "Permission denied: user=x"
        ));
        assert!(error("hdfs.server.namenode.SafeModeException", "").is_retryable());
        assert!(matches!(
            error("hdfs.protocol.DSQuotaExceededException", ""),
            Error::Full { .. }
        ));
        let words = "File /f could only be replicated to 0 nodes instead of minReplication (=1).";
        assert!(matches!(
            error("ipc.IOException", words),
            Error::Full { .. }
        ));
        let long = "hdfs.protocol.FSLimitException$PathComponentTooLongException";
        assert!(
            matches!(error(long, ""), Error::KeyTooLong { .. }),
            "{}",
            error(long, "")
        );
    }
}
