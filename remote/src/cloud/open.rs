//! From a URL and settings to a store of `object_store`.
//!
//! Settings go to the library by its own names (`google_service_account`, `azure_storage_account_key`…,
//! or the same without the beginning); names it doesn't know are left out.

use std::sync::Arc;
use std::time::Duration;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::{Cloud, Service, Store};
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

pub(crate) fn open_google(url: &StoreUrl, settings: &Settings) -> Result<Cloud> {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(url.bucket())
        .with_retry(retry())
        .with_client_options(client(settings, &["google_base_url", "google_endpoint"]));
    for (name, value) in settings.with_prefix(&["google_"]) {
        if let Some(key) = known::<GoogleConfigKey>(&name, "google_") {
            builder = builder.with_config(key, value);
        }
    }
    let store = builder
        .build()
        .map_err(|e| Error::other("open", "", chain(&e)))?;
    Ok(cloud(url, Arc::new(store), Service::Google))
}

pub(crate) fn open_azure(url: &StoreUrl, settings: &Settings) -> Result<Cloud> {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_retry(retry())
        .with_client_options(client(
            settings,
            &["azure_endpoint", "azure_storage_endpoint"],
        ));
    for (name, value) in settings.with_prefix(&["azure_"]) {
        let name = if name == "azure_account" {
            "azure_account_name".to_owned()
        } else {
            name
        };
        if let Some(key) = known::<AzureConfigKey>(&name, "azure_") {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(account) = url.account() {
        builder = builder.with_account(account);
    }
    let store = builder
        .with_container_name(url.bucket())
        .build()
        .map_err(|e| {
            Error::other(
                "open",
                "",
                format!("{}; set AZURE_STORAGE_ACCOUNT_NAME and a key", chain(&e)),
            )
        })?;
    Ok(cloud(url, Arc::new(store), Service::Azure))
}

fn cloud(url: &StoreUrl, store: Arc<dyn Store>, service: Service) -> Cloud {
    let prefix = match url.prefix() {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    Cloud {
        store,
        service,
        prefix,
        url: url.to_string(),
    }
}

fn known<K: std::str::FromStr>(name: &str, prefix: &str) -> Option<K> {
    name.parse()
        .ok()
        .or_else(|| name.strip_prefix(prefix)?.parse().ok())
}

fn client(settings: &Settings, endpoints: &[&str]) -> ClientOptions {
    let asked = settings
        .get(&["allow_http"])
        .is_some_and(|value| value == "true");
    let http = settings
        .get(endpoints)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_azure_container_opens_with_the_account_of_its_url() {
        let url = StoreUrl::parse("abfs://box@acct.dfs.core.windows.net/p").unwrap();
        let settings = Settings::from_vars([("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")]);
        let cloud = open_azure(&url, &settings).unwrap();
        assert_eq!(
            (cloud.prefix.as_str(), cloud.service),
            ("p/", Service::Azure)
        );
    }

    #[test]
    fn an_azure_container_without_an_account_says_what_to_set() {
        let error =
            open_azure(&StoreUrl::parse("az://box").unwrap(), &Settings::default()).unwrap_err();
        assert!(
            error.to_string().contains("AZURE_STORAGE_ACCOUNT_NAME"),
            "{error}"
        );
    }
}
