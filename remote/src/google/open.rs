//! From a URL and settings to a store of `object_store`.
//!
//! Settings go to the library by its own names (`google_service_account`…, or the same without the
//! beginning); names it doesn't know are left out.

use std::time::Duration;

use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::Google;
use crate::error::{Error, Result, chain};
use crate::settings::Settings;
use crate::url::StoreUrl;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence, an upload's own time included.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(900);
/// The library's own retries: few and short, because the caller has its own.
const RETRIES_MAX: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);

impl Google {
    pub(crate) fn open(url: &StoreUrl, settings: &Settings) -> Result<Google> {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(url.bucket())
            .with_retry(retry())
            .with_client_options(client(settings));
        for (name, value) in settings.with_prefix(&["google_"]) {
            let name = match name.as_str() {
                "google_endpoint" => "google_base_url",
                name => name,
            };
            if let Some(key) = known(name) {
                builder = builder.with_config(key, value);
            }
        }
        let store = builder
            .build()
            .map_err(|e| Error::other("open", "", chain(&e)))?;
        Ok(Google {
            store,
            prefix: match url.prefix() {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            },
            url: url.to_string(),
        })
    }
}

fn known(name: &str) -> Option<GoogleConfigKey> {
    name.parse()
        .ok()
        .or_else(|| name.strip_prefix("google_")?.parse().ok())
}

fn client(settings: &Settings) -> ClientOptions {
    let asked = settings
        .get(&["allow_http"])
        .is_some_and(|value| value == "true");
    let http = settings
        .get(&["google_base_url", "google_endpoint"])
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    ClientOptions::new()
        .with_allow_http(http || asked)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout_disabled()
        .with_read_timeout(SILENCE_TIMEOUT)
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_TIMEOUT,
    }
}
