//! Puts a request together, signs it, sends it, and repeats it while that is quick and harmless.
//!
//! A request is repeated at most [`RETRIES_MAX`] times, after 0.1, 0.4 and 1.6 seconds (with jitter):
//! when the connection could not be made or broke, and for answers that say "not now" (429 and 5xx).
//! How far that goes is for each request to say ([`Repeated`]): of one that makes or deletes an object, the first
//! try may arrive after the second, and after what followed it; the caller must know that it was not heard of.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use object_store::aws::AwsAuthorizer;
use object_store::client::{
    HttpClient, HttpConnector, HttpErrorKind, HttpRequest, HttpRequestBody, ReqwestConnector,
};

use super::config::Config;
use super::error::Refusal;
use crate::error::{Error, Result, chain};
use crate::wire::{escape, escape_path, network_error};

/// How often a request is sent again.
const RETRIES_MAX: u32 = 3;
/// Wait before the first repetition; each further one is four times as long.
const BACKOFF: Duration = Duration::from_millis(100);
/// Bodies above this are hashed on a thread of their own: a megabyte takes about a millisecond.
const HASH_INLINE_BYTES: usize = 1024 * 1024;
/// Longest response that isn't an object: a listing of 1000 keys of 1024 bytes, each three times as long encoded.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// When a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeated {
    /// Whenever that may help.
    Always,
    /// Only if the server can't have done it.
    UnlessUnheard,
    /// Only if it never left this machine.
    UnlessSent,
}

/// A request to the bucket, before it is signed.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// What is done, for messages.
    op: &'static str,
    /// On which key below the prefix, for messages.
    shown_key: String,
    method: Method,
    /// Key in the bucket; `None` for the bucket itself.
    key: Option<String>,
    query: Vec<(&'static str, String)>,
    headers: HeaderMap,
    body: Bytes,
    repeated: Repeated,
}

impl Request {
    pub(super) fn new(
        op: &'static str,
        shown_key: &str,
        method: Method,
        key: Option<String>,
    ) -> Request {
        Request {
            op,
            shown_key: shown_key.to_owned(),
            method,
            key,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            repeated: Repeated::Always,
        }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Request {
        self.query.push((name, value.into()));
        self
    }

    /// Adds a header. Values that HTTP can't carry are an error.
    pub(super) fn header(mut self, name: &str, value: &str) -> Result<Request> {
        let problem = || {
            Error::other(
                self.op,
                &self.shown_key,
                format!("'{name}' can't be sent as a header"),
            )
        };
        let parsed_name = HeaderName::try_from(name).map_err(|_| problem())?;
        let parsed_value = HeaderValue::try_from(value).map_err(|_| problem())?;
        self.headers.insert(parsed_name, parsed_value);
        Ok(self)
    }

    pub(super) fn headers(
        mut self,
        pairs: &[(impl AsRef<str>, impl AsRef<str>)],
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

    /// Says when it may be sent again.
    pub(super) fn repeated(mut self, repeated: Repeated) -> Request {
        self.repeated = repeated;
        self
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

/// A signed connection to one bucket.
#[derive(Debug)]
pub(super) struct Client {
    config: Config,
    http: HttpClient,
}

impl Client {
    pub(super) fn new(config: Config) -> Result<Client> {
        let http = ReqwestConnector::default()
            .connect(&config.client_options)
            .map_err(|e| Error::other("open", "", format!("no HTTP client: {}", chain(&e))))?;
        Ok(Client { config, http })
    }

    pub(super) fn endpoint(&self) -> String {
        self.config.endpoint.clone()
    }

    pub(super) fn bucket(&self) -> &str {
        &self.config.bucket
    }

    /// Headers for requests that write an object.
    pub(super) fn write_headers(&self) -> &[(&'static str, String)] {
        &self.config.write_headers
    }

    /// Sends a request; an answer that is no success is this crate's error.
    pub(super) async fn send(&self, request: Request) -> Result<Answer> {
        match self.try_send(&request).await? {
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
            let again = retries < RETRIES_MAX
                && match (&outcome, request.repeated) {
                    (Ok(Ok(_)), _) => false,
                    (Ok(Err(refusal)), Repeated::Always) => refusal.is_temporary(),
                    (Ok(Err(refusal)), Repeated::UnlessUnheard) => refusal.is_not_now(),
                    (Ok(Err(_)), Repeated::UnlessSent) => false,
                    (Err(Failure { sent, error }), repeated) => {
                        error.is_retryable() && (!sent || repeated == Repeated::Always)
                    }
                };
            if !again {
                return outcome.map_err(|failure| failure.error);
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

    async fn send_once(&self, request: &Request) -> Result<Result<Answer, Refusal>, Failure> {
        let not_sent = |error: Error| Failure { sent: false, error };
        let signed = self.sign(request).await.map_err(not_sent)?;
        let head = request.method == Method::HEAD;
        let network = |error: object_store::client::HttpError| Failure {
            sent: error.kind() != HttpErrorKind::Connect,
            error: network_error(request.op, &request.shown_key, &error),
        };
        let response = self.http.execute(signed).await.map_err(network)?;
        let (parts, body) = response.into_parts();
        let object_bytes = if request.method == Method::GET {
            usize::MAX
        } else {
            ANSWER_BYTES_MAX
        };
        let limit = if parts.status.is_success() {
            object_bytes
        } else {
            ANSWER_BYTES_MAX
        };
        let length = parts
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        if !head && length.is_some_and(|length| length > limit) {
            return Err(Failure {
                sent: true,
                error: Error::other(request.op, &request.shown_key, "the answer is too long"),
            });
        }
        let body = if head {
            Bytes::new()
        } else {
            body.bytes().await.map_err(network)?
        };
        // Completing and copying can fail after the status line has gone out: the error is in the body then.
        let late_error = parts.status == StatusCode::OK
            && matches!(request.method, Method::POST | Method::PUT)
            && Refusal::is_error_document(&body);
        if parts.status.is_success() && !late_error {
            return Ok(Ok(Answer {
                headers: parts.headers,
                body,
            }));
        }
        Ok(Err(Refusal::read(parts.status, &parts.headers, &body)))
    }

    async fn sign(&self, request: &Request) -> Result<HttpRequest> {
        let mut url = self.config.bucket_url.clone();
        if let Some(key) = &request.key {
            if key.split('/').any(|part| part == "." || part == "..") {
                return Err(Error::other(
                    request.op,
                    &request.shown_key,
                    "a key with '.' or '..' between slashes can't be sent over HTTP",
                ));
            }
            url.push('/');
            url.push_str(&escape_path(key));
        } else {
            url.push('/');
        }
        for (at, (name, value)) in request.query.iter().enumerate() {
            url.push(if at == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.push_str(&escape(value));
        }
        let failed = |detail: String| Error::other(request.op, &request.shown_key, detail);
        let mut signed = http::Request::builder()
            .method(request.method.clone())
            .uri(url)
            .body(HttpRequestBody::from(request.body.clone()))
            .map_err(|e| failed(format!("can't be put into a request: {e}")))?;
        signed.headers_mut().extend(request.headers.clone());
        if matches!(request.method, Method::PUT | Method::POST) {
            signed
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from(request.body.len()));
        }
        let Some(provider) = &self.config.credentials else {
            return Ok(signed);
        };
        let credential = provider.get_credential().await.map_err(|e| {
            Error::denied(
                request.op,
                &request.shown_key,
                format!("no credentials: {}", chain(&e)),
            )
        })?;
        let region = self.config.region.clone();
        let sign_body = self.config.sign_bodies;
        let authorize = move || {
            let result = AwsAuthorizer::new(&credential, "s3", &region)
                .with_sign_payload(sign_body)
                .try_authorize(&mut signed, None);
            result.map(|()| signed)
        };
        let signed = if sign_body && request.body.len() > HASH_INLINE_BYTES {
            tokio::task::spawn_blocking(authorize)
                .await
                .map_err(|e| failed(format!("signing: {e}")))?
        } else {
            authorize()
        };
        signed.map_err(|e| failed(format!("signing: {}", chain(&e))))
    }
}

/// No answer.
struct Failure {
    /// Whether the server may have seen the request.
    sent: bool,
    error: Error,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::url::StoreUrl;

    /// What a signed request says of its body.
    async fn body_digest(vars: &[(&str, &str)]) -> String {
        let keys = [("AWS_ACCESS_KEY_ID", "K"), ("AWS_SECRET_ACCESS_KEY", "S")];
        let settings = Settings::from_vars(vars.iter().copied().chain(keys));
        let url = StoreUrl::parse("s3://b").unwrap();
        let client = Client::new(Config::resolve(&url, &settings).unwrap()).unwrap();
        let request = Request::new("write", "k", Method::PUT, Some("k".to_owned()))
            .body(Bytes::from_static(b"hello"));
        let signed = client.sign(&request).await.unwrap();
        let digest = signed.headers().get("x-amz-content-sha256").unwrap();
        digest.to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn bodies_are_signed_where_nothing_else_protects_them() {
        const HTTP: (&str, &str) = ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000");
        // SHA-256 of "hello".
        const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
        assert_eq!(body_digest(&[]).await, UNSIGNED);
        assert_eq!(body_digest(&[HTTP]).await, HELLO);
        for (asked, digest) in [("true", UNSIGNED), ("false", HELLO)] {
            let asked = ("AWS_UNSIGNED_PAYLOAD", asked);
            assert_eq!(body_digest(&[asked]).await, digest);
            assert_eq!(body_digest(&[asked, HTTP]).await, digest);
        }
    }
}
