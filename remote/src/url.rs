//! The URL that names a store: `scheme://place/prefix`.
//!
//! | URL | place | prefix |
//! |---|---|---|
//! | `s3://bucket/a/b` (also `s3a`) | bucket | `a/b` |
//! | `gs://bucket/a` | bucket | `a` |
//! | `az://container/a`, `az://account@container`…  see below | container | `a` |
//! | `hdfs://host:8020/a` | NameNode or name service | path `/a` |
//! | `file:///srv/data` | none | path `/srv/data` |
//!
//! Azure's account comes from the settings, or from the URL in Microsoft's own spelling,
//! `abfs[s]://container@account.dfs.core.windows.net/a`. Prefixes are taken literally: no percent
//! decoding, because S3 URLs aren't written with it. Credentials in a URL are refused: they would end
//! up in process lists, `/proc/mounts` and logs.

use std::fmt;
use std::str::FromStr;

use crate::error::UrlError;

/// The kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// S3 and everything that speaks it.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
    /// Hadoop's file system.
    Hdfs,
    /// A local folder.
    File,
}

impl Scheme {
    /// As it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::S3 => "s3",
            Scheme::Gs => "gs",
            Scheme::Az => "az",
            Scheme::Hdfs => "hdfs",
            Scheme::File => "file",
        }
    }
}

/// Names a store and the place in it that is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreUrl {
    scheme: Scheme,
    bucket: String,
    account: Option<String>,
    prefix: String,
}

impl StoreUrl {
    /// Reads a URL.
    pub fn parse(text: &str) -> Result<StoreUrl, UrlError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(UrlError::NotAUrl(without_secrets(text)));
        };
        if text.chars().any(|c| c.is_control()) {
            return Err(malformed("a store URL can't hold control characters"));
        }
        match scheme.to_ascii_lowercase().as_str() {
            "s3" | "s3a" => Self::bucket_url(Scheme::S3, rest),
            "gs" | "gcs" => Self::bucket_url(Scheme::Gs, rest),
            "az" | "azure" => Self::bucket_url(Scheme::Az, rest),
            "abfs" | "abfss" | "wasb" | "wasbs" => Self::azure_url(rest),
            "hdfs" => Self::hdfs_url(rest),
            "file" => Self::file_url(rest),
            other => Err(UrlError::UnknownScheme(other.to_owned())),
        }
    }

    /// The kind of store.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Bucket, container or NameNode; empty for a folder.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The place in the bucket that is mounted, without '/' at either end; of a folder or of HDFS
    /// the absolute path (with its leading '/').
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Azure's storage account, if the URL names it.
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    fn bucket_url(scheme: Scheme, rest: &str) -> Result<StoreUrl, UrlError> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains(['@', ':']) {
            return Err(malformed(
                "credentials and ports don't belong into a store URL; use the environment or the configuration file",
            ));
        }
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'$');
        if bucket.is_empty() || !bucket.bytes().all(legal) {
            return Err(malformed(&format!(
                "'{bucket}' can't be the name of a bucket; write {}://bucket/prefix",
                scheme.as_str()
            )));
        }
        Ok(StoreUrl {
            scheme,
            bucket: bucket.to_owned(),
            account: None,
            prefix: checked_prefix(prefix)?,
        })
    }

    fn azure_url(rest: &str) -> Result<StoreUrl, UrlError> {
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let Some((container, host)) = authority.split_once('@') else {
            return Self::bucket_url(Scheme::Az, rest);
        };
        let account = host.split('.').next().unwrap_or_default();
        let mut url = Self::bucket_url(Scheme::Az, &format!("{container}/{prefix}"))?;
        if account.is_empty() || !account.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(malformed(
                "no storage account in the URL; write abfs://container@account.dfs.core.windows.net/prefix",
            ));
        }
        url.account = Some(account.to_owned());
        Ok(url)
    }

    fn hdfs_url(rest: &str) -> Result<StoreUrl, UrlError> {
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() || host.contains('@') {
            return Err(malformed(
                "write hdfs://host:port/path, with the NameNode or the name service, without credentials",
            ));
        }
        let prefix = checked_prefix(path)?;
        Ok(StoreUrl {
            scheme: Scheme::Hdfs,
            bucket: host.to_owned(),
            account: None,
            prefix: format!("/{prefix}"),
        })
    }

    fn file_url(rest: &str) -> Result<StoreUrl, UrlError> {
        let path = rest
            .strip_prefix("localhost")
            .filter(|path| path.starts_with('/'))
            .unwrap_or(rest);
        if !path.starts_with('/') {
            return Err(malformed(
                "a folder's URL has three slashes and an absolute path: file:///srv/data",
            ));
        }
        let prefix = checked_prefix(&path[1..])?;
        Ok(StoreUrl {
            scheme: Scheme::File,
            bucket: String::new(),
            account: None,
            prefix: format!("/{prefix}"),
        })
    }
}

/// A prefix without '/' at its ends, if keys can be put behind it.
fn checked_prefix(prefix: &str) -> Result<String, UrlError> {
    let prefix = prefix.trim_matches('/');
    if prefix
        .split('/')
        .any(|part| part == "." || part == ".." || (part.is_empty() && !prefix.is_empty()))
    {
        return Err(malformed(
            "the path of a store URL can't hold empty parts, '.' or '..'",
        ));
    }
    Ok(prefix.to_owned())
}

fn malformed(text: &str) -> UrlError {
    UrlError::Malformed(text.to_owned())
}

/// What may be shown of something that was meant as a URL.
fn without_secrets(text: &str) -> String {
    text.rsplit('@')
        .next()
        .unwrap_or_default()
        .chars()
        .take(200)
        .collect()
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.account, self.prefix.is_empty()) {
            (Some(account), true) => {
                write!(f, "abfs://{}@{account}.dfs.core.windows.net", self.bucket)
            }
            (Some(account), false) => {
                write!(
                    f,
                    "abfs://{}@{account}.dfs.core.windows.net/{}",
                    self.bucket, self.prefix
                )
            }
            (None, true) => write!(f, "{}://{}", self.scheme.as_str(), self.bucket),
            (None, false) => {
                write!(
                    f,
                    "{}://{}/{}",
                    self.scheme.as_str(),
                    self.bucket,
                    self.prefix.trim_start_matches('/')
                )
            }
        }
    }
}

impl FromStr for StoreUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<StoreUrl, UrlError> {
        StoreUrl::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_every_kind_are_understood() {
        for (text, scheme, bucket, prefix, canonical) in [
            ("s3://b", Scheme::S3, "b", "", "s3://b"),
            ("s3a://b/p/q/", Scheme::S3, "b", "p/q", "s3://b/p/q"),
            ("S3://b/a b%20", Scheme::S3, "b", "a b%20", "s3://b/a b%20"),
            ("gs://b/p", Scheme::Gs, "b", "p", "gs://b/p"),
            ("az://c/p", Scheme::Az, "c", "p", "az://c/p"),
            (
                "hdfs://nn:8020/a/b",
                Scheme::Hdfs,
                "nn:8020",
                "/a/b",
                "hdfs://nn:8020/a/b",
            ),
            ("hdfs://nn", Scheme::Hdfs, "nn", "/", "hdfs://nn/"),
            (
                "file:///srv/data/",
                Scheme::File,
                "",
                "/srv/data",
                "file:///srv/data",
            ),
            (
                "file://localhost/srv",
                Scheme::File,
                "",
                "/srv",
                "file:///srv",
            ),
        ] {
            let url = StoreUrl::parse(text).unwrap();
            assert_eq!(
                (url.scheme(), url.bucket(), url.prefix()),
                (scheme, bucket, prefix),
                "{text}"
            );
            assert_eq!(url.to_string(), canonical);
            assert_eq!(
                StoreUrl::parse(canonical).unwrap(),
                url,
                "the canonical form reads the same"
            );
        }
    }

    #[test]
    fn azures_own_spelling_names_the_account() {
        let url = StoreUrl::parse("abfss://c@acct.dfs.core.windows.net/p").unwrap();
        assert_eq!(
            (url.bucket(), url.account(), url.prefix()),
            ("c", Some("acct"), "p")
        );
        assert_eq!(StoreUrl::parse(&url.to_string()).unwrap(), url);
    }

    #[test]
    fn what_is_no_store_url_is_refused_with_advice() {
        for text in [
            "",
            "/srv",
            "s3:/b",
            "ftp://x/y",
            "s3://",
            "s3:///x",
            "s3://b/../c",
            "s3://b/a//c",
            "file://srv",
            "hdfs:///x",
            "s3://b/\n",
        ] {
            assert!(StoreUrl::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_secret_in_a_url_is_refused_and_not_repeated() {
        let error = StoreUrl::parse("s3://KEY:hunter2@bucket/x").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
        let error = StoreUrl::parse("KEY:hunter2@bucket").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
