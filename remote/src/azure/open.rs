//! From a URL and settings to a connection.
//!
//! Settings go to `object_store` by its own names (`azure_storage_account_key`…, or the same without the
//! beginning), which makes credentials of them; names that it doesn't know are left out. With
//! `azure_storage_use_emulator` the store is an Azurite with its usual account and key, at its usual
//! address if no endpoint is given.

use std::time::Duration;

use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::{HttpConnector, ReqwestConnector};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::Azure;
use super::client::Client;
use crate::error::{Error, Result, chain};
use crate::settings::Settings;
use crate::url::StoreUrl;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence, an upload's own time included.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(900);
/// What every Azurite has.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_ENDPOINT: &str = "http://127.0.0.1:10000";

impl Azure {
    pub(crate) fn open(url: &StoreUrl, settings: &Settings) -> Result<Azure> {
        let mut builder = MicrosoftAzureBuilder::new().with_retry(retry());
        for (name, value) in settings.with_prefix(&["azure_"]) {
            let name = match name.as_str() {
                "azure_account" => "azure_account_name",
                name => name,
            };
            if let Some(key) = known(name) {
                builder = builder.with_config(key, value);
            }
        }
        if let Some(account) = url.account() {
            builder = builder.with_account(account);
        }
        let read = |key| builder.get_config_value(&key);
        if read(AzureConfigKey::EncryptionKey).is_some() {
            return Err(failed(
                "keys for encryption that the customer provides are not supported on Azure; use the account's",
            ));
        }
        let emulator = is_true(read(AzureConfigKey::UseEmulator));
        let unsigned = is_true(read(AzureConfigKey::SkipSignature));
        let account = read(AzureConfigKey::AccountName)
            .or_else(|| emulator.then(|| EMULATOR_ACCOUNT.to_owned()))
            .ok_or_else(|| {
                failed("no storage account; set AZURE_STORAGE_ACCOUNT_NAME and a key")
            })?;
        let endpoint = match read(AzureConfigKey::Endpoint) {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None if emulator => format!("{EMULATOR_ENDPOINT}/{account}"),
            None if is_true(read(AzureConfigKey::UseFabricEndpoint)) => {
                format!("https://{account}.blob.fabric.microsoft.com")
            }
            None => format!("https://{account}.blob.core.windows.net"),
        };
        let options = client_options(endpoint.starts_with("http://"));
        let http = ReqwestConnector::default()
            .connect(&options)
            .map_err(|e| failed(format!("no HTTP client: {}", chain(&e))))?;
        let credentials = match unsigned {
            true => None,
            false => Some(library(builder, url, options)?.credentials().clone()),
        };
        Ok(Azure {
            client: Client {
                http,
                credentials,
                account,
                endpoint,
                container: url.bucket().to_owned(),
            },
            prefix: match url.prefix() {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            },
            url: url.to_string(),
        })
    }
}

/// The library's own store, for the sake of its credentials.
fn library(
    builder: MicrosoftAzureBuilder,
    url: &StoreUrl,
    options: ClientOptions,
) -> Result<MicrosoftAzure> {
    builder
        .with_container_name(url.bucket())
        .with_client_options(options)
        .build()
        .map_err(|e| {
            failed(format!(
                "{}; set AZURE_STORAGE_ACCOUNT_NAME and a key",
                chain(&e)
            ))
        })
}

fn failed(detail: impl std::fmt::Display) -> Error {
    Error::other("open", "", detail)
}

fn known(name: &str) -> Option<AzureConfigKey> {
    name.parse()
        .ok()
        .or_else(|| name.strip_prefix("azure_")?.parse().ok())
}

/// As the library reads it.
fn is_true(value: Option<String>) -> bool {
    value.is_some_and(|value| {
        matches!(
            value.to_ascii_lowercase().as_str(),
            "1" | "true" | "yes" | "on" | "y"
        )
    })
}

fn client_options(http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(http)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout_disabled()
        .with_read_timeout(SILENCE_TIMEOUT)
        // Connections are many and bodies large: one connection a request beats one shared HTTP/2.
        .with_http1_only()
}

/// Retries are ours, except while credentials are fetched.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 2,
        retry_timeout: Duration::from_secs(5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str, vars: &[(&str, &str)]) -> Result<Azure> {
        let settings = Settings::from_vars(vars.iter().copied());
        Azure::open(&StoreUrl::parse(url).unwrap(), &settings)
    }

    #[test]
    fn a_container_opens_with_the_account_of_its_url() {
        let url = "abfs://box@acct.dfs.core.windows.net/p";
        let azure = open(url, &[("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")]).unwrap();
        assert_eq!(
            (azure.prefix.as_str(), azure.client.endpoint.as_str()),
            ("p/", "https://acct.blob.core.windows.net")
        );
    }

    #[test]
    fn a_container_without_an_account_says_what_to_set() {
        let error = open("az://box", &[]).unwrap_err();
        assert!(
            error.to_string().contains("AZURE_STORAGE_ACCOUNT_NAME"),
            "{error}"
        );
    }

    #[test]
    fn an_emulator_needs_nothing_else() {
        let azure = open("az://box", &[("AZURE_STORAGE_USE_EMULATOR", "true")]).unwrap();
        assert_eq!(
            azure.client.endpoint,
            "http://127.0.0.1:10000/devstoreaccount1"
        );
        assert!(azure.client.credentials.is_some());
    }
}
