//! Puts a request together, signs it, sends it, and repeats it while that is quick and harmless.
//!
//! Every request made here may be repeated: writes carry their condition, and who repeats a conditional
//! one looks whether the first try took place (`objects`). It is repeated at most [`RETRIES_MAX`] times,
//! after 0.1, 0.4 and 1.6 seconds (with jitter), as the S3 back end does.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use object_store::azure::{AzureAuthorizer, AzureCredential, AzureCredentialProvider};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};

use super::error::Refusal;
use crate::error::{Error, Result, chain};
use crate::wire::{escape, escape_path, network_error};

/// How often a request is sent again.
const RETRIES_MAX: u32 = 3;
/// Wait before the first repetition; each further one is four times as long.
const BACKOFF: Duration = Duration::from_millis(100);
/// Of the protocol; requests that carry a bearer token must say one.
const VERSION: &str = "2023-11-03";

/// A request to the container, before it is signed.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// What is done, for messages.
    op: &'static str,
    /// On which key below the prefix, for messages.
    shown_key: String,
    method: Method,
    /// Blob in the container; `None` for the container itself.
    blob: Option<String>,
    query: Vec<(&'static str, String)>,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    pub(super) fn new(
        op: &'static str,
        shown_key: &str,
        method: Method,
        blob: Option<String>,
    ) -> Request {
        Request {
            op,
            shown_key: shown_key.to_owned(),
            method,
            blob,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Request {
        self.query.push((name, value.into()));
        self
    }

    /// Adds a header. Values that HTTP can't carry are an error.
    pub(super) fn header(mut self, name: &str, value: &str) -> Result<Request> {
        let problem = || self.failed(format!("'{name}' can't be sent as a header"));
        let parsed_name = HeaderName::try_from(name).map_err(|_| problem())?;
        let parsed_value = HeaderValue::try_from(value).map_err(|_| problem())?;
        self.headers.insert(parsed_name, parsed_value);
        Ok(self)
    }

    pub(super) fn headers(
        mut self,
        pairs: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    ) -> Result<Request> {
        for (name, value) in pairs {
            self = self.header(name.as_ref(), value.as_ref())?;
        }
        Ok(self)
    }

    pub(super) fn body(mut self, body: Bytes) -> Request {
        self.body = body;
        self
    }

    fn failed(&self, detail: impl std::fmt::Display) -> Error {
        Error::other(self.op, &self.shown_key, detail)
    }
}

/// An answer with a status of success.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A signed connection to one container.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) http: HttpClient,
    /// `None`: unsigned requests, for public containers.
    pub(super) credentials: Option<AzureCredentialProvider>,
    pub(super) account: String,
    /// Scheme, host, and the account where it is in the path.
    pub(super) endpoint: String,
    pub(super) container: String,
}

impl Client {
    /// Sends a request; an answer that is no success is this crate's error.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer> {
        match self.try_send(request).await? {
            Ok(answer) => Ok(answer),
            Err(refusal) => Err(refusal.into_error(request.op, &request.shown_key)),
        }
    }

    /// Sends a request; the inner result tells what the server answered, so that the caller can look
    /// at the code of a refusal.
    pub(super) async fn try_send(&self, request: &Request) -> Result<Result<Answer, Refusal>> {
        let mut backoff = BACKOFF;
        for retries in 0.. {
            let outcome = self.send_once(request).await;
            let again = match &outcome {
                Ok(Ok(_)) => false,
                Ok(Err(refusal)) => refusal.is_temporary(),
                Err(error) => error.is_retryable(),
            };
            if !again || retries == RETRIES_MAX {
                return outcome;
            }
            tracing::debug!(
                op = request.op,
                key = request.shown_key,
                retries,
                "the store did not answer, trying again"
            );
            tokio::time::sleep(backoff.mul_f64(rand::random_range(0.5..1.5))).await;
            backoff *= 4;
        }
        Err(Error::transient(request.op, &request.shown_key, "gave up"))
    }

    async fn send_once(&self, request: &Request) -> Result<Result<Answer, Refusal>> {
        let signed = self.sign(request).await?;
        let network = |error: object_store::client::HttpError| {
            network_error(request.op, &request.shown_key, &error)
        };
        let response = self.http.execute(signed).await.map_err(network)?;
        let (parts, body) = response.into_parts();
        let body = match request.method == Method::HEAD {
            true => Bytes::new(),
            false => body.bytes().await.map_err(network)?,
        };
        Ok(match parts.status.is_success() {
            true => Ok(Answer {
                headers: parts.headers,
                body,
            }),
            false => Err(Refusal::read(parts.status, &parts.headers, &body)),
        })
    }

    async fn sign(&self, request: &Request) -> Result<HttpRequest> {
        let mut url = self.blob_url(request, request.blob.as_deref())?;
        for (at, (name, value)) in request.query.iter().enumerate() {
            url.push(if at == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.push_str(&escape(value));
        }
        let mut signed = http::Request::builder()
            .method(request.method.clone())
            .uri(url)
            .body(HttpRequestBody::from(request.body.clone()))
            .map_err(|e| request.failed(format!("can't be put into a request: {e}")))?;
        signed.headers_mut().extend(request.headers.clone());
        signed
            .headers_mut()
            .insert("x-ms-version", HeaderValue::from_static(VERSION));
        if request.method == Method::PUT {
            signed
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from(request.body.len()));
        }
        if let Some(credential) = self.credential(request).await? {
            AzureAuthorizer::new(&credential, &self.account)
                .try_authorize(&mut signed)
                .map_err(|e| request.failed(format!("signing: {}", chain(&e))))?;
        }
        Ok(signed)
    }

    async fn credential(
        &self,
        request: &Request,
    ) -> Result<Option<std::sync::Arc<AzureCredential>>> {
        let Some(provider) = &self.credentials else {
            return Ok(None);
        };
        let credential = provider.get_credential().await.map_err(|e| {
            Error::denied(
                request.op,
                &request.shown_key,
                format!("no credentials: {}", chain(&e)),
            )
        })?;
        Ok(Some(credential))
    }

    fn blob_url(&self, request: &Request, blob: Option<&str>) -> Result<String> {
        let container = format!("{}/{}", self.endpoint, self.container);
        let Some(blob) = blob else {
            return Ok(container);
        };
        if blob.split('/').any(|part| part == "." || part == "..") {
            return Err(
                request.failed("a key with '.' or '..' between slashes can't be sent over HTTP")
            );
        }
        Ok(format!("{container}/{}", escape_path(blob)))
    }

    /// A blob's URL for the server to copy from, with what it needs to read it.
    pub(super) async fn source_url(&self, request: &Request, blob: &str) -> Result<String> {
        let mut url = self.blob_url(request, Some(blob))?;
        if let Some(credential) = self.credential(request).await?
            && let AzureCredential::SASToken(pairs) = &*credential
        {
            for (at, (name, value)) in pairs.iter().enumerate() {
                url.push(if at == 0 { '?' } else { '&' });
                url.push_str(&format!("{}={}", escape(name), escape(value)));
            }
        }
        Ok(url)
    }
}

/// Whether the answer to a request for a blob means that there is none.
pub(super) fn is_missing(refusal: &Refusal) -> bool {
    refusal.status == StatusCode::NOT_FOUND && !refusal.is_no_container()
}
