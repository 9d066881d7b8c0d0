//! Head, Get, Put and Delete of one object, and of the marker of a directory.
//!
//! A conditional write whose answer got lost looks, on the second try, as if somebody else had written.
//! So where a condition fails, the object is looked at: if its ETag is the MD5 of the very bytes that
//! were to be written and its attributes are the same, the write has taken place.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chrono::DateTime;
use http::{Method, StatusCode};
use md5::{Digest, Md5};

use super::S3;
use super::client::{Answer, Repeated, Request};
use crate::attrs::PosixAttrs;
use crate::error::{Error, Result};
use crate::keys::ObjectKey;
use crate::types::{Condition, ETag, ObjectMeta, Put};

/// Begins the names of headers that carry user metadata.
pub(super) const USER_METADATA: &str = "x-amz-meta-";
/// What directory markers call themselves, as other tools' do.
const MARKER_TYPE: &str = "application/x-directory";

/// Up to this size the etag of what was written is compared with the MD5 of the bytes, which takes no longer than
/// the look at the object that it saves.
const PROVEN_BYTES_MAX: usize = 1 << 20;
/// Up to this size a digest takes less time than handing it to another thread.
const DIGEST_INLINE_BYTES: usize = 16 << 10;

/// Attributes as request headers.
pub(super) fn metadata_headers(attrs: &PosixAttrs, directory: bool) -> Vec<(String, String)> {
    attrs
        .to_metadata(directory)
        .into_iter()
        .map(|(name, value)| (format!("{USER_METADATA}{name}"), value))
        .collect()
}

/// A condition on the object written to as a request header.
pub(super) fn condition_header(condition: &Condition) -> Option<(&'static str, &str)> {
    match condition {
        Condition::None => None,
        Condition::Absent => Some(("if-none-match", "*")),
        Condition::Match(etag) => Some(("if-match", &etag.0)),
    }
}

impl S3 {
    pub(super) async fn head_object(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>> {
        Ok(self
            .head_answer("look up", key)
            .await?
            .map(|answer| object_meta(key, &answer)))
    }

    pub(super) async fn head_answer(
        &self,
        op: &'static str,
        key: &ObjectKey,
    ) -> Result<Option<Answer>> {
        if self.full(key).is_empty() {
            return Ok(None);
        }
        let request = Request::new(op, key.as_str(), Method::HEAD, Some(self.full(key)));
        match self.client.try_send(&request).await? {
            Ok(answer) => Ok(Some(answer)),
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => Ok(None),
            Err(refusal) => Err(refusal.into_error(op, key.as_str())),
        }
    }

    pub(super) async fn get_object(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Bytes> {
        let wanted = range.end - range.start;
        let mut request = Request::new("read", key.as_str(), Method::GET, Some(self.full(key)))
            .header("range", &format!("bytes={}-{}", range.start, range.end - 1))?;
        if let Some(etag) = if_match {
            request = request.header("if-match", &etag.0)?;
        }
        let answer = match self.client.try_send(&request).await? {
            Ok(answer) => answer,
            Err(refusal) if refusal.is_precondition() => {
                return Err(Error::changed("read", key.as_str()));
            }
            Err(refusal) if refusal.status == StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(Error::ShortBody {
                    key: key.0.clone(),
                    wanted,
                    got: 0,
                });
            }
            Err(refusal) => return Err(refusal.into_error("read", key.as_str())),
        };
        // Not every server honours If-Match on reads; each says what it has read.
        if let (Some(wanted), Some(got)) = (if_match, answer.header("etag"))
            && !same_etag(&wanted.0, got)
        {
            return Err(Error::changed("read", key.as_str()));
        }
        match answer.header("content-range") {
            Some(got) if got.starts_with(&format!("bytes {}-", range.start)) => Ok(answer.body),
            // A server that ignores ranges sends all of it.
            None if range.start == 0 && answer.body.len() as u64 == wanted => Ok(answer.body),
            None if answer.body.len() as u64 >= range.end => {
                Ok(answer.body.slice(range.start as usize..range.end as usize))
            }
            _ => Err(Error::other(
                "read",
                key.as_str(),
                "the store sent another range than was asked for",
            )),
        }
    }

    pub(super) async fn put_object(
        &self,
        key: &ObjectKey,
        body: Bytes,
        attrs: &PosixAttrs,
        condition: &Condition,
    ) -> Result<Put> {
        let mut request = Request::new("write", key.as_str(), Method::PUT, Some(self.full(key)))
            .headers(&metadata_headers(attrs, false))?
            .headers(self.client.write_headers())?
            .body(body.clone())
            .repeated(Repeated::UnlessUnheard);
        if let Some((name, value)) = condition_header(condition) {
            request = request.header(name, value)?;
        }
        match self.client.try_send(&request).await? {
            Ok(answer) => {
                let mut put = put_of(&answer);
                if let Some(etag) = &put.etag
                    && body.len() <= PROVEN_BYTES_MAX
                    && is_digest(&etag.0)
                {
                    put.proven = same_etag(&etag.0, &etag_of_body(key, body).await?);
                }
                Ok(put)
            }
            Err(refusal)
                if *condition != Condition::None
                    && (refusal.is_precondition() || refusal.is_no_such_key()) =>
            {
                let etag = etag_of_body(key, body).await?;
                let put = self
                    .already_written("write", key, &etag, Some(attrs))
                    .await?;
                Ok(Put {
                    proven: true,
                    ..put
                })
            }
            Err(refusal) => Err(refusal.into_error("write", key.as_str())),
        }
    }

    /// A failed condition is no failure if the object is what was to be written.
    pub(super) async fn already_written(
        &self,
        op: &'static str,
        key: &ObjectKey,
        etag: &str,
        attrs: Option<&PosixAttrs>,
    ) -> Result<Put> {
        let found = self.head_object(key).await?;
        match found {
            Some(ObjectMeta {
                etag: Some(found),
                posix,
                ..
            }) if same_etag(&found.0, etag) && attrs.is_none_or(|attrs| *attrs == posix) => {
                Ok(Put::of(Some(found)))
            }
            _ => Err(Error::precondition(op, key.as_str())),
        }
    }

    pub(super) async fn delete_object(
        &self,
        key: &ObjectKey,
        if_match: Option<&ETag>,
    ) -> Result<()> {
        if let Some(etag) = if_match {
            // Servers that know no conditional delete ignore the header; so look before.
            match self.head_object(key).await? {
                None => return Ok(()),
                Some(found)
                    if found
                        .etag
                        .as_ref()
                        .is_some_and(|found| same_etag(&found.0, &etag.0)) => {}
                Some(_) => return Err(Error::precondition("delete", key.as_str())),
            }
        }
        self.send_delete(key, if_match).await
    }

    pub(super) async fn send_delete(&self, key: &ObjectKey, if_match: Option<&ETag>) -> Result<()> {
        let mut request =
            Request::new("delete", key.as_str(), Method::DELETE, Some(self.full(key)))
                .repeated(Repeated::UnlessUnheard);
        if let Some(etag) = if_match {
            request = request.header("if-match", &etag.0)?;
        }
        match self.client.try_send(&request).await? {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.is_no_such_key() => Ok(()),
            Err(refusal) => Err(refusal.into_error("delete", key.as_str())),
        }
    }

    pub(super) async fn put_marker(&self, dir: &ObjectKey, attrs: &PosixAttrs) -> Result<()> {
        let request = Request::new(
            "make directory",
            dir.as_str(),
            Method::PUT,
            Some(self.full(dir)),
        )
        .headers(&metadata_headers(attrs, true))?
        .headers(self.client.write_headers())?
        .header("content-type", MARKER_TYPE)?
        .repeated(Repeated::UnlessUnheard);
        self.client.send(request).await.map(drop)
    }

    pub(super) async fn delete_marker(&self, dir: &ObjectKey) -> Result<()> {
        let request = Request::new(
            "remove directory",
            dir.as_str(),
            Method::DELETE,
            Some(self.full(dir)),
        )
        .repeated(Repeated::UnlessUnheard);
        match self.client.try_send(&request).await? {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.is_no_such_key() => Ok(()),
            // Servers that are file systems keep a directory that has something in it.
            Err(refusal)
                if refusal.status == StatusCode::CONFLICT || refusal.code.contains("NotEmpty") =>
            {
                Ok(())
            }
            Err(refusal) => Err(refusal.into_error("remove directory", dir.as_str())),
        }
    }
}

/// A version as a server spelled it, always in quotes: some leave them out in some answers.
pub(super) fn etag_of(text: &str) -> ETag {
    let text = text.trim();
    ETag(if text.starts_with('"') || text.starts_with("W/") {
        text.to_owned()
    } else {
        format!("\"{text}\"")
    })
}

/// ETags are the same whether or not they are in quotes.
pub(super) fn same_etag(a: &str, b: &str) -> bool {
    a.trim_matches('"') == b.trim_matches('"')
}

/// Whether it may be the MD5 of something: it isn't under some kinds of encryption.
fn is_digest(etag: &str) -> bool {
    let bare = etag.trim_matches('"');
    bare.len() == 32 && bare.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The etag of an object that was written at once.
async fn etag_of_body(key: &ObjectKey, body: Bytes) -> Result<String> {
    if body.len() <= DIGEST_INLINE_BYTES {
        return Ok(hex(&Md5::digest(&body)));
    }
    tokio::task::spawn_blocking(move || hex(&Md5::digest(&body)))
        .await
        .map_err(|e| Error::other("write", key.as_str(), e))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    digits.collect()
}

pub(super) fn put_of(answer: &Answer) -> Put {
    Put::of(answer.header("etag").map(etag_of))
}

pub(super) fn object_meta(key: &ObjectKey, answer: &Answer) -> ObjectMeta {
    let mut posix = PosixAttrs::default();
    for (name, value) in &answer.headers {
        if let (Some(name), Ok(value)) = (name.as_str().strip_prefix(USER_METADATA), value.to_str())
        {
            posix.take_metadata(name, value);
        }
    }
    ObjectMeta {
        key: key.clone(),
        size: answer
            .header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0),
        etag: answer.header("etag").map(etag_of),
        modified: answer
            .header("last-modified")
            .and_then(|text| DateTime::parse_from_rfc2822(text).ok())
            .map_or(UNIX_EPOCH, SystemTime::from),
        posix,
    }
}
