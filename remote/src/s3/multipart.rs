//! Uploads in parts.
//!
//! Beginning is sent once: a repeated one would make two uploads, and nobody would know of the first.
//!
//! Completing takes the condition on the object. It is sent once: if the answer gets lost, a second
//! try finds no upload any more, or an object that fails the condition. In both cases the object is
//! looked at: its ETag must be the one that the parts give, the MD5 over the parts' MD5s with their
//! number behind it; then the upload is complete.

use std::fmt::Write;

use bytes::Bytes;
use http::Method;
use md5::{Digest, Md5};
use serde::Deserialize;

use super::S3;
use super::client::{Repeated, Request};
use super::objects::{condition_header, etag_of, hex, put_of};
use crate::error::{Error, Result};
use crate::keys::ObjectKey;
use crate::types::{Condition, PartTag, Put, UploadId};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    upload_id: String,
}

#[derive(Deserialize)]
struct Completed {
    #[serde(rename = "ETag")]
    e_tag: Option<String>,
}

impl S3 {
    pub(super) async fn create_upload(
        &self,
        key: &ObjectKey,
        headers: &[(String, String)],
    ) -> Result<UploadId> {
        const OP: &str = "begin upload of";
        let request = Request::new(OP, key.as_str(), Method::POST, Some(self.full(key)))
            .query("uploads", "")
            .headers(headers)?
            .headers(self.client.write_headers())?
            .repeated(Repeated::UnlessSent);
        let answer = self.client.send(request).await?;
        let created: Created = quick_xml::de::from_reader(&answer.body[..]).map_err(|e| {
            Error::other(
                OP,
                key.as_str(),
                format!("the store's answer can't be read: {e}"),
            )
        })?;
        if created.upload_id.is_empty() {
            return Err(Error::other(
                OP,
                key.as_str(),
                "the store gave the upload no name",
            ));
        }
        Ok(UploadId(created.upload_id))
    }

    pub(super) async fn upload_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> Result<PartTag> {
        const OP: &str = "upload part of";
        let request = Request::new(OP, key.as_str(), Method::PUT, Some(self.full(key)))
            .query("partNumber", number.to_string())
            .query("uploadId", upload.0.clone())
            .body(body);
        let answer = match self.client.try_send(&request).await? {
            Ok(answer) => answer,
            Err(refusal) if refusal.is_no_such_upload() => {
                return Err(Error::NoSuchUpload {
                    op: OP,
                    key: key.0.clone(),
                });
            }
            Err(refusal) => return Err(refusal.into_error(OP, key.as_str())),
        };
        match answer.header("etag") {
            Some(etag) => Ok(PartTag(etag.to_owned())),
            None => Err(Error::other(
                OP,
                key.as_str(),
                "the store gave no receipt for the part",
            )),
        }
    }

    pub(super) async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[(u32, PartTag)],
        condition: &Condition,
    ) -> Result<Put> {
        const OP: &str = "complete upload of";
        let mut request = Request::new(OP, key.as_str(), Method::POST, Some(self.full(key)))
            .query("uploadId", upload.0.clone())
            .header("content-type", "application/xml")?
            .body(Bytes::from(parts_document(parts)))
            .repeated(Repeated::UnlessSent);
        if let Some((name, value)) = condition_header(condition) {
            request = request.header(name, value)?;
        }
        let refusal = match self.client.try_send(&request).await? {
            Ok(answer) => {
                let completed: Option<Completed> =
                    quick_xml::de::from_reader(&answer.body[..]).ok();
                let etag = completed
                    .and_then(|completed| completed.e_tag)
                    .map(|etag| etag_of(&etag));
                return Ok(Put::of(etag.or(put_of(&answer).etag)));
            }
            Err(refusal) => refusal,
        };
        let gone = refusal.is_no_such_upload();
        let conflict = *condition != Condition::None
            && (refusal.is_precondition() || refusal.is_no_such_key());
        if let (true, Some(etag)) = (gone || conflict, etag_of_parts(parts)) {
            match self.already_written(OP, key, &etag, None).await {
                Err(Error::PreconditionFailed { .. }) if gone => {}
                result => return result,
            }
        }
        if conflict && !gone {
            Err(Error::precondition(OP, key.as_str()))
        } else {
            Err(refusal.into_error(OP, key.as_str()))
        }
    }

    pub(super) async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        const OP: &str = "abort upload of";
        let request = Request::new(OP, key.as_str(), Method::DELETE, Some(self.full(key)))
            .query("uploadId", upload.0.clone());
        match self.client.try_send(&request).await? {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.is_no_such_upload() || refusal.is_no_such_key() => Ok(()),
            Err(refusal) => Err(refusal.into_error(OP, key.as_str())),
        }
    }
}

fn parts_document(parts: &[(u32, PartTag)]) -> String {
    let mut xml =
        String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (number, tag) in parts {
        let tag = quick_xml::escape::escape(&tag.0);
        // Writing to a String can't fail.
        let _ = write!(
            xml,
            "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
        );
    }
    xml.push_str("</CompleteMultipartUpload>");
    xml
}

/// The ETag of an object made of these parts, if their tags are MD5s (they aren't under some kinds of
/// encryption).
fn etag_of_parts(parts: &[(u32, PartTag)]) -> Option<String> {
    let mut digest = Md5::new();
    for (_, tag) in parts {
        let text = tag.0.trim_matches('"');
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        for at in (0..32).step_by(2) {
            digest.update([u8::from_str_radix(&text[at..at + 2], 16).ok()?]);
        }
    }
    Some(format!("{}-{}", hex(&digest.finalize()), parts.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_etag_of_an_upload_follows_from_its_parts() {
        // One part with the five bytes "hello", as Amazon answers it.
        let parts = [(1, PartTag("\"5d41402abc4b2a76b9719d911017c592\"".into()))];
        assert_eq!(
            etag_of_parts(&parts).as_deref(),
            Some("62109206880d38a4010a98e11243924a-1")
        );
        assert_eq!(etag_of_parts(&[(1, PartTag("opaque".into()))]), None);
    }

    #[test]
    fn tags_are_escaped_in_the_list_of_parts() {
        let xml = parts_document(&[(1, PartTag("\"a&b\"".into()))]);
        assert!(xml.contains("<ETag>&quot;a&amp;b&quot;</ETag>"), "{xml}");
    }
}
