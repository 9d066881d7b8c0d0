//! ListObjectsV2, one directory at a time.
//!
//! Keys are asked for URL-encoded, because XML can't hold every character that a key can. In that
//! encoding a space comes as `+` from some servers and as `%20` from others, and a plus sign always as
//! `%2B`. The page's token is the server's own.

use chrono::DateTime;
use http::Method;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use std::time::{SystemTime, UNIX_EPOCH};

use super::S3;
use super::client::{Answer, Request};
use super::objects::etag_of;
use crate::attrs::PosixAttrs;
use crate::error::{Error, ProbeError, Result};
use crate::keys::ObjectKey;
use crate::types::{ListPage, ListToken, ObjectMeta};

/// Most entries that servers put into a page.
const PAGE_MAX: usize = 1000;

#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "PascalCase", default)]
struct Listing {
    encoding_type: Option<String>,
    contents: Vec<Entry>,
    common_prefixes: Vec<CommonPrefix>,
    is_truncated: bool,
    next_continuation_token: Option<String>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(default)]
    key: String,
    #[serde(default)]
    size: u64,
    #[serde(rename = "ETag")]
    e_tag: Option<String>,
    last_modified: Option<String>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "PascalCase")]
struct CommonPrefix {
    #[serde(default)]
    prefix: String,
}

impl S3 {
    pub(super) async fn list_objects(
        &self,
        dir: &ObjectKey,
        after: Option<&ListToken>,
        max: usize,
    ) -> Result<ListPage> {
        let mut request = self.list_request("list", dir, max).query("delimiter", "/");
        if let Some(token) = after {
            request = request.query("continuation-token", token.0.clone());
        }
        let listing = read_listing("list", dir, self.client.send(request).await?)?;
        self.page(dir, listing)
    }

    pub(super) async fn any_below(&self, dir: &ObjectKey) -> Result<bool> {
        let request = self.list_request("look below", dir, 1);
        let listing = read_listing("look below", dir, self.client.send(request).await?)?;
        Ok(!listing.contents.is_empty() || !listing.common_prefixes.is_empty())
    }

    /// The first thing a mount asks: may this be listed?
    pub(super) async fn check_bucket(&self) -> Result<(), ProbeError> {
        let root = ObjectKey::default();
        match self
            .client
            .try_send(&self.list_request("list", &root, 1))
            .await
        {
            Ok(Ok(answer)) => match read_listing("list", &root, answer) {
                Ok(_) => Ok(()),
                Err(_) => Err(ProbeError::Other(format!(
                    "{} answers, but not as S3 does; check the endpoint (the S3 port, not the web console's)",
                    self.client.endpoint()
                ))),
            },
            Ok(Err(refusal)) => Err(refusal.into_probe_error("list objects", &self.url)),
            Err(Error::AccessDenied { detail, .. }) => Err(ProbeError::BadCredentials(detail)),
            Err(Error::Unreachable { detail, .. } | Error::Transient { detail, .. }) => {
                Err(ProbeError::Unreachable {
                    endpoint: self.client.endpoint(),
                    detail,
                })
            }
            Err(error) => Err(ProbeError::Other(error.to_string())),
        }
    }

    fn list_request(&self, op: &'static str, dir: &ObjectKey, max: usize) -> Request {
        Request::new(op, dir.as_str(), Method::GET, None)
            .query("list-type", "2")
            .query("encoding-type", "url")
            .query("max-keys", max.min(PAGE_MAX).to_string())
            .query("prefix", self.full(dir))
    }

    fn page(&self, dir: &ObjectKey, listing: Listing) -> Result<ListPage> {
        let encoded = listing.encoding_type.as_deref() == Some("url");
        let full_dir = self.full(dir);
        let mut page = ListPage::default();
        for entry in listing.contents {
            let full_key = decode(&entry.key, encoded);
            let Some(key) = full_key
                .as_deref()
                .and_then(|key| key.strip_prefix(&self.prefix))
            else {
                page.hidden.push(entry.key);
                continue;
            };
            let meta = ObjectMeta {
                key: ObjectKey::new(key),
                size: entry.size,
                etag: entry.e_tag.as_deref().map(etag_of),
                modified: entry
                    .last_modified
                    .as_deref()
                    .map_or(UNIX_EPOCH, parse_time),
                posix: PosixAttrs::default(),
            };
            if meta.key == *dir {
                // The root is there whether or not somebody made a marker of the URL's prefix.
                page.marker = (!dir.0.is_empty()).then_some(meta);
            } else if meta.key.is_directory() {
                // Some servers give the marker of a directory below as an object beside its prefix.
                page.directories.push(meta.key.name().to_owned());
            } else {
                page.files.push(meta);
            }
        }
        for common in listing.common_prefixes {
            let prefix = decode(&common.prefix, encoded);
            let name = prefix
                .as_deref()
                .and_then(|p| p.strip_prefix(&full_dir)?.strip_suffix('/'));
            match name {
                Some(name) => page.directories.push(name.to_owned()),
                None => page.hidden.push(common.prefix),
            }
        }
        page.directories.sort();
        page.directories.dedup();
        page.next = match (listing.is_truncated, listing.next_continuation_token) {
            (false, _) => None,
            (true, Some(token)) => Some(ListToken(token)),
            (true, None) => {
                return Err(Error::other(
                    "list",
                    dir.as_str(),
                    "the store broke off a listing without saying where to go on",
                ));
            }
        };
        Ok(page)
    }
}

fn read_listing(op: &'static str, dir: &ObjectKey, answer: Answer) -> Result<Listing> {
    let problem = |detail: String| {
        Error::transient(
            op,
            dir.as_str(),
            format!("the store's listing can't be read: {detail}"),
        )
    };
    let text = std::str::from_utf8(&answer.body).map_err(|e| problem(e.to_string()))?;
    // One that is cut off must not count as all there is.
    if !text.contains("</ListBucketResult>") {
        return Err(problem("it is not a whole ListBucketResult".to_owned()));
    }
    quick_xml::de::from_str(text).map_err(|e| problem(e.to_string()))
}

pub(super) fn decode(text: &str, encoded: bool) -> Option<String> {
    if !encoded {
        return Some(text.to_owned());
    }
    let text = text.replace('+', " ");
    percent_decode_str(&text)
        .decode_utf8()
        .ok()
        .map(|text| text.into_owned())
}

/// A time as listings have it: `2026-01-02T03:04:05.000Z`.
pub(super) fn parse_time(text: &str) -> SystemTime {
    DateTime::parse_from_rfc3339(text).map_or(UNIX_EPOCH, SystemTime::from)
}
