//! Where the bucket is and who asks: from settings to addresses and credentials.
//!
//! Addressing: Amazon wants the bucket in the host name; servers of one's own seldom have the DNS for
//! that, so with an endpoint the bucket goes into the path unless `path_style = false`. A bucket with
//! a dot goes into the path too, because no certificate matches it in a host name.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredentialProvider};
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};
use url::Url;

use super::setting;
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::url::StoreUrl;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence while a response is awaited or read; an upload's own time counts too, so that it
/// has to leave room for a large part on a slow link.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(900);

/// All that requests to a bucket need.
#[derive(Debug)]
pub(super) struct Config {
    /// URL of the bucket, without a trailing '/'.
    pub(super) bucket_url: String,
    /// The bucket's name, for copies.
    pub(super) bucket: String,
    /// Host and port, for messages.
    pub(super) endpoint: String,
    pub(super) region: String,
    /// `None`: requests aren't signed.
    pub(super) credentials: Option<AwsCredentialProvider>,
    /// Whether signatures cover bodies. A body's SHA-256 costs each side about a second per GiB, and over TLS
    /// protects nothing that TLS doesn't: Amazon's own SDKs leave it out there, too.
    pub(super) sign_bodies: bool,
    pub(super) client_options: ClientOptions,
    /// Headers for requests that write an object (server-side encryption).
    pub(super) write_headers: Vec<(&'static str, String)>,
}

impl Config {
    pub(super) fn resolve(url: &StoreUrl, settings: &Settings) -> Result<Config> {
        let profile = settings.aws_profile().map_err(setting)?;
        let get = |names: &[&str]| {
            settings.get(names).or_else(|| {
                names
                    .iter()
                    .find_map(|name| profile.get(*name).map(String::as_str))
            })
        };
        let endpoint = get(&[
            "endpoint",
            "aws_endpoint_url_s3",
            "aws_endpoint_url",
            "aws_endpoint",
        ])
        .map(parse_endpoint)
        .transpose()?;
        let region = get(&["region", "aws_region", "aws_default_region"])
            .unwrap_or("us-east-1")
            .to_owned();
        if region.is_empty()
            || !region
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        {
            return Err(Error::other(
                "open",
                "",
                "the region must be a name such as us-east-1",
            ));
        }
        let path_style = match settings.flag(&["path_style"]).map_err(setting)? {
            Some(asked) => asked,
            None => match settings
                .flag(&["aws_virtual_hosted_style_request"])
                .map_err(setting)?
            {
                Some(virtual_hosted) => !virtual_hosted,
                None if profile
                    .get("aws_s3.addressing_style")
                    .is_some_and(|style| style == "virtual") =>
                {
                    false
                }
                None => endpoint.is_some() || url.bucket().contains('.'),
            },
        };
        let bucket_url = bucket_url(endpoint.as_ref(), url.bucket(), &region, path_style)?;
        let http = bucket_url.starts_with("http://");
        if http
            && settings
                .flag(&["allow_http", "aws_allow_http"])
                .map_err(setting)?
                == Some(false)
        {
            return Err(Error::other(
                "open",
                "",
                "the endpoint is http:// but allow_http is false",
            ));
        }
        let client_options = client_options(http, get(&["ca_bundle", "aws_ca_bundle"]))?;
        let anonymous = settings
            .flag(&["anonymous", "aws_skip_signature"])
            .map_err(setting)?
            == Some(true);
        let credentials = match anonymous {
            true => None,
            false => Some(credentials(
                url.bucket(),
                &region,
                settings,
                &profile,
                client_options.clone(),
            )?),
        };
        let unsigned_bodies = settings
            .flag(&["unsigned_payload", "aws_unsigned_payload"])
            .map_err(setting)?;
        let host = Url::parse(&bucket_url).map_err(setting)?;
        let endpoint = match host.port() {
            Some(port) => format!("{}:{port}", host.host_str().unwrap_or_default()),
            None => host.host_str().unwrap_or_default().to_owned(),
        };
        let write_headers = encryption_headers(&get);
        Ok(Config {
            bucket_url,
            bucket: url.bucket().to_owned(),
            endpoint,
            region,
            credentials,
            sign_bodies: !unsigned_bodies.unwrap_or(!http),
            client_options,
            write_headers,
        })
    }
}

fn parse_endpoint(text: &str) -> Result<Url> {
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let url = Url::parse(&with_scheme)
        .map_err(|e| Error::other("open", "", format!("the endpoint is not a URL: {e}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(Error::other(
            "open",
            "",
            "the endpoint must be a URL such as http://127.0.0.1:9000",
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::other(
            "open",
            "",
            "the endpoint must not hold credentials",
        ));
    }
    Ok(url)
}

fn bucket_url(
    endpoint: Option<&Url>,
    bucket: &str,
    region: &str,
    path_style: bool,
) -> Result<String> {
    let domain = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    };
    Ok(match (endpoint, path_style) {
        (None, true) => format!("https://s3.{region}.{domain}/{bucket}"),
        (None, false) => format!("https://{bucket}.s3.{region}.{domain}"),
        (Some(url), true) => format!("{}/{bucket}", url.as_str().trim_end_matches('/')),
        (Some(url), false) => {
            let mut url = url.clone();
            let host = format!("{bucket}.{}", url.host_str().unwrap_or_default());
            url.set_host(Some(&host)).map_err(setting)?;
            url.as_str().trim_end_matches('/').to_owned()
        }
    })
}

fn client_options(http: bool, ca_bundle: Option<&str>) -> Result<ClientOptions> {
    let mut options = ClientOptions::new()
        .with_allow_http(http)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout_disabled()
        .with_read_timeout(SILENCE_TIMEOUT)
        // Connections are many and bodies large: one connection a request beats one shared HTTP/2.
        .with_http1_only();
    if let (Some(path), false) = (ca_bundle, http) {
        let pem = std::fs::read(path)
            .map_err(|e| setting(format!("can't read the CA bundle {path}: {e}")))?;
        let bundle = Certificate::from_pem_bundle(&pem)
            .map_err(|_| setting(format!("the CA bundle {path} holds no certificates")))?;
        for certificate in bundle {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

/// Retries are ours, except while credentials are fetched.
fn retry_config() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 2,
        retry_timeout: Duration::from_secs(5),
    }
}

fn credentials(
    bucket: &str,
    region: &str,
    settings: &Settings,
    profile: &std::collections::BTreeMap<String, String>,
    client_options: ClientOptions,
) -> Result<AwsCredentialProvider> {
    let mut builder = AmazonS3Builder::new()
        .with_retry(retry_config())
        .with_client_options(client_options);
    // Keys belong together: a secret from one place must not meet the id from another.
    let mut layers = vec![];
    if settings
        .get(&["access_key_id", "aws_access_key_id"])
        .is_none()
    {
        layers.extend(
            profile
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
    }
    layers.extend(settings.with_prefix(&["aws_"]));
    for (name, value) in layers {
        // Where and how is settled already; only what concerns credentials is passed on.
        let known = matches!(
            name.as_str(),
            "aws_access_key_id"
                | "aws_secret_access_key"
                | "aws_session_token"
                | "aws_web_identity_token_file"
                | "aws_role_arn"
                | "aws_role_session_name"
                | "aws_endpoint_url_sts"
                | "aws_container_credentials_relative_uri"
                | "aws_container_credentials_full_uri"
                | "aws_container_authorization_token_file"
                | "aws_metadata_endpoint"
                | "aws_imdsv1_fallback"
        );
        if let (true, Ok(key)) = (known, name.parse::<AmazonS3ConfigKey>()) {
            builder = builder.with_config(key, value);
        }
    }
    let store = builder
        .with_bucket_name(bucket)
        .with_region(region)
        .build()
        .map_err(|e| setting(format!("credentials: {}", crate::error::chain(&e))))?;
    Ok(Arc::clone(store.credentials()))
}

/// Server-side encryption, by the names that `object_store` gives it.
fn encryption_headers<'a>(
    get: &impl Fn(&[&str]) -> Option<&'a str>,
) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    if let Some(kind) = get(&["aws_server_side_encryption"]) {
        headers.push(("x-amz-server-side-encryption", kind.to_owned()));
    }
    if let Some(key) = get(&["aws_sse_kms_key_id"]) {
        headers.push((
            "x-amz-server-side-encryption-aws-kms-key-id",
            key.to_owned(),
        ));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(url: &str, vars: &[(&str, &str)]) -> Result<Config> {
        let vars = vars
            .iter()
            .copied()
            .chain([("AWS_ACCESS_KEY_ID", "K"), ("AWS_SECRET_ACCESS_KEY", "S")]);
        Config::resolve(&StoreUrl::parse(url).unwrap(), &Settings::from_vars(vars))
    }

    #[test]
    fn amazon_is_addressed_by_host_name() {
        let config = resolve("s3://b/p", &[("AWS_REGION", "eu-west-1")]).unwrap();
        assert_eq!(config.bucket_url, "https://b.s3.eu-west-1.amazonaws.com");
        let dotted = resolve("s3://b.c", &[]).unwrap();
        assert_eq!(dotted.bucket_url, "https://s3.us-east-1.amazonaws.com/b.c");
    }

    #[test]
    fn a_server_of_ones_own_is_addressed_by_path() {
        let config = resolve(
            "s3://b/p",
            &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9000/")],
        )
        .unwrap();
        assert_eq!(
            (config.bucket_url.as_str(), config.endpoint.as_str()),
            ("http://127.0.0.1:9000/b", "127.0.0.1:9000")
        );
        let special = resolve(
            "s3://b",
            &[
                ("AWS_ENDPOINT_URL", "http://a"),
                ("AWS_ENDPOINT_URL_S3", "https://s3.lab"),
                ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true"),
            ],
        );
        assert_eq!(special.unwrap().bucket_url, "https://b.s3.lab");
    }

    #[test]
    fn half_of_a_key_pair_is_refused() {
        let settings = Settings::from_vars([("AWS_ACCESS_KEY_ID", "K")]);
        assert!(Config::resolve(&StoreUrl::parse("s3://b").unwrap(), &settings).is_err());
    }

    #[test]
    fn an_endpoint_with_credentials_is_refused_without_showing_them() {
        let error = resolve("s3://b", &[("AWS_ENDPOINT_URL", "http://u:hunter2@h")]).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
