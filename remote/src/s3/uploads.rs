//! ListMultipartUploads for one key, and whether an upload has any part.

use http::Method;
use serde::Deserialize;

use super::S3;
use super::client::{Answer, Request};
use super::list::{decode, parse_time};
use crate::error::{Error, Result};
use crate::keys::ObjectKey;
use crate::types::{OpenUpload, UploadId};

/// Pages of 1000 uploads looked at; a key has hardly ever two.
const PAGES_MAX: usize = 10;

#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "PascalCase", default)]
struct Uploads {
    encoding_type: Option<String>,
    upload: Vec<Upload>,
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    #[serde(default)]
    key: String,
    upload_id: String,
    initiated: String,
}

#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "PascalCase", default)]
struct Parts {
    part: Vec<Part>,
}

#[derive(Deserialize, Debug)]
struct Part {}

impl S3 {
    /// The open uploads of exactly this key.
    pub(super) async fn list_uploads(&self, key: &ObjectKey) -> Result<Vec<OpenUpload>> {
        const OP: &str = "list uploads of";
        let full = self.full(key);
        let mut found = Vec::new();
        let mut after: Option<(String, String)> = None;
        for _ in 0..PAGES_MAX {
            let mut request = Request::new(OP, key.as_str(), Method::GET, None)
                .query("uploads", "")
                .query("encoding-type", "url")
                .query("prefix", full.clone());
            if let Some((key, upload)) = after.take() {
                request = request
                    .query("key-marker", key)
                    .query("upload-id-marker", upload);
            }
            let answer = self.client.send(request).await?;
            let page: Uploads = read(OP, key, "ListMultipartUploadsResult", &answer)?;
            let encoded = page.encoding_type.as_deref() == Some("url");
            for upload in page.upload {
                // Longer keys begin so too.
                if decode(&upload.key, encoded).as_deref() == Some(full.as_str()) {
                    found.push(OpenUpload {
                        begun: parse_time(&upload.initiated),
                        id: UploadId(upload.upload_id),
                    });
                }
            }
            let next_key = page.next_key_marker.unwrap_or_default();
            let next = decode(&next_key, encoded).zip(page.next_upload_id_marker);
            match next.filter(|(key, _)| page.is_truncated && *key <= full) {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        Ok(found)
    }

    /// Whether the store has any part of an upload.
    pub(super) async fn any_part(&self, key: &ObjectKey, upload: &UploadId) -> Result<bool> {
        const OP: &str = "list parts of";
        let request = Request::new(OP, key.as_str(), Method::GET, Some(self.full(key)))
            .query("uploadId", upload.0.clone())
            .query("max-parts", "1");
        let answer = self.client.send(request).await?;
        let parts: Parts = read(OP, key, "ListPartsResult", &answer)?;
        Ok(!parts.part.is_empty())
    }
}

/// An answer that is not whole is an error, not an empty list.
fn read<T: serde::de::DeserializeOwned>(
    op: &'static str,
    key: &ObjectKey,
    root: &str,
    answer: &Answer,
) -> Result<T> {
    let text = String::from_utf8_lossy(&answer.body);
    let whole = text.contains(&format!("</{root}>"));
    let parsed = quick_xml::de::from_str(&text).ok();
    parsed
        .filter(|_| whole)
        .ok_or_else(|| Error::transient(op, key.as_str(), "the store's listing can't be read"))
}
