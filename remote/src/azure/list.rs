//! List Blobs, one directory at a time, with each blob's metadata, which costs nothing more.
//!
//! Blobs that say `hdi_isfolder` are folders of other tools (Hadoop, Data Lake): empty, and named without
//! the trailing '/' that ours have.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use http::Method;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::client::{Answer, Request};
use super::properties::{FOLDER, etag_of, parse_time};
use super::{Azure, SPELLING};
use crate::attrs::PosixAttrs;
use crate::error::{Error, ProbeError, Result};
use crate::keys::ObjectKey;
use crate::types::{ListPage, ListToken, ObjectMeta};

/// Most entries that the service puts into a page.
const PAGE_MAX: usize = 5000;

#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Listing {
    blobs: Blobs,
    next_marker: Option<String>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Blobs {
    blob: Vec<Blob>,
    blob_prefix: Vec<Prefix>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "PascalCase")]
struct Blob {
    name: Name,
    properties: Properties,
    metadata: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "PascalCase")]
struct Prefix {
    name: Name,
}

/// Names that XML can't hold come escaped, and say so.
#[derive(Deserialize, Debug)]
struct Name {
    #[serde(rename = "@Encoded")]
    encoded: Option<bool>,
    #[serde(rename = "$text", default)]
    text: String,
}

#[derive(Deserialize, Debug)]
struct Properties {
    #[serde(rename = "Content-Length", default)]
    length: u64,
    #[serde(rename = "Etag")]
    etag: Option<String>,
    #[serde(rename = "Last-Modified")]
    modified: Option<String>,
    /// `directory` in a Data Lake.
    #[serde(rename = "ResourceType")]
    kind: Option<String>,
}

impl Name {
    fn read(self) -> String {
        match self.encoded {
            Some(true) => percent_decode_str(&self.text)
                .decode_utf8_lossy()
                .into_owned(),
            _ => self.text,
        }
    }
}

impl Azure {
    pub(super) async fn list_blobs(
        &self,
        dir: &ObjectKey,
        after: Option<&ListToken>,
        max: usize,
    ) -> Result<ListPage> {
        let mut request = self
            .list_request("list", dir, max)
            .query("delimiter", "/")
            .query("include", "metadata");
        if let Some(token) = after {
            request = request.query("marker", token.0.clone());
        }
        let listing = read_listing("list", dir, self.client.send(&request).await?)?;
        Ok(self.page(dir, listing))
    }

    pub(super) async fn any_below(&self, dir: &ObjectKey) -> Result<bool> {
        const OP: &str = "look below";
        let mut marker = None;
        // A page may be empty and still not be the last.
        loop {
            let mut request = self.list_request(OP, dir, 1);
            if let Some(marker) = marker {
                request = request.query("marker", marker);
            }
            let listing = read_listing(OP, dir, self.client.send(&request).await?)?;
            if !listing.blobs.blob.is_empty() {
                return Ok(true);
            }
            marker = listing.next_marker.filter(|marker| !marker.is_empty());
            if marker.is_none() {
                return Ok(false);
            }
        }
    }

    /// The first thing a mount asks: may this be listed?
    pub(super) async fn check_container(&self) -> Result<(), ProbeError> {
        let root = ObjectKey::default();
        let endpoint = &self.client.endpoint;
        match self
            .client
            .try_send(&self.list_request("list", &root, 1))
            .await
        {
            Ok(Ok(answer)) => read_listing("list", &root, answer).map(drop).map_err(|_| {
                ProbeError::Other(format!(
                    "{endpoint} answers, but not as Azure's blob service does; check the endpoint"
                ))
            }),
            Ok(Err(refusal)) => Err(refusal.into_probe_error("list objects", &self.url)),
            Err(Error::AccessDenied { detail, .. }) => Err(ProbeError::BadCredentials(detail)),
            Err(Error::Unreachable { detail, .. } | Error::Transient { detail, .. }) => {
                Err(ProbeError::Unreachable {
                    endpoint: endpoint.clone(),
                    detail,
                })
            }
            Err(error) => Err(ProbeError::Other(error.to_string())),
        }
    }

    fn list_request(&self, op: &'static str, dir: &ObjectKey, max: usize) -> Request {
        Request::new(op, dir.as_str(), Method::GET, None)
            .query("restype", "container")
            .query("comp", "list")
            .query("maxresults", max.min(PAGE_MAX).to_string())
            .query("prefix", self.full(dir))
    }

    fn page(&self, dir: &ObjectKey, listing: Listing) -> ListPage {
        let mut page = ListPage {
            next: listing
                .next_marker
                .filter(|marker| !marker.is_empty())
                .map(ListToken),
            ..ListPage::default()
        };
        let full_dir = self.full(dir);
        for blob in listing.blobs.blob {
            let name = blob.name.read();
            let Some(spelled) = name.strip_prefix(&full_dir) else {
                page.hidden.push(name);
                continue;
            };
            let metadata = blob.metadata.unwrap_or_default();
            let folder = blob.properties.kind.as_deref() == Some("directory")
                || metadata.get(FOLDER).is_some_and(|value| value == "true");
            let mut posix = PosixAttrs::default();
            for (name, value) in &metadata {
                posix.take_metadata(name, value);
            }
            let meta = ObjectMeta {
                key: dir.child(&SPELLING.read_name(spelled)),
                size: blob.properties.length,
                etag: blob.properties.etag.as_deref().map(etag_of),
                modified: blob
                    .properties
                    .modified
                    .as_deref()
                    .map_or(UNIX_EPOCH, parse_time),
                posix,
            };
            if spelled.is_empty() {
                // The root is there whether or not somebody made a marker of the URL's prefix.
                page.marker = (!dir.0.is_empty()).then_some(meta);
            } else if folder || meta.key.is_directory() {
                page.directories.push(meta.key.name().to_owned());
            } else {
                page.files.push(meta);
            }
        }
        for prefix in listing.blobs.blob_prefix {
            let name = prefix.name.read();
            match name
                .strip_prefix(&full_dir)
                .and_then(|name| name.strip_suffix('/'))
            {
                Some(name) => page.directories.push(SPELLING.read_name(name)),
                None => page.hidden.push(name),
            }
        }
        page.directories.sort();
        page.directories.dedup();
        page
    }
}

fn read_listing(op: &'static str, dir: &ObjectKey, answer: Answer) -> Result<Listing> {
    let problem = |detail: String| {
        Error::other(
            op,
            dir.as_str(),
            format!("the store's listing can't be read: {detail}"),
        )
    };
    let text = std::str::from_utf8(&answer.body).map_err(|e| problem(e.to_string()))?;
    if !text.contains("<EnumerationResults") {
        return Err(problem("it is no EnumerationResults".to_owned()));
    }
    quick_xml::de::from_str(text.trim_start_matches('\u{feff}')).map_err(|e| problem(e.to_string()))
}
