//! Credentials, endpoint and region of a store: from the environment, from AWS's profile files, or
//! from a table of the configuration file.
//!
//! Everything is kept as names and values, in lower case: `AWS_ACCESS_KEY_ID` is `aws_access_key_id`,
//! and a table's plain names (`endpoint`, `region`, `access_key_id`…) stand for those of the store at
//! hand. Names that this crate doesn't know itself but `object_store` does (`aws_sse_customer_key`,
//! `google_service_account`, `azure_client_id`…) are handed to it.
//!
//! Order of precedence: the table, then the environment, then the profile; for credentials after that
//! what the machine offers (web identity, container, instance metadata).
//!
//! | name (S3) | meaning | default |
//! |---|---|---|
//! | `endpoint`, `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` | where the store is | Amazon |
//! | `region`, `AWS_REGION`, `AWS_DEFAULT_REGION` | | `us-east-1` |
//! | `access_key_id`, `secret_access_key`, `session_token` | | |
//! | `profile`, `AWS_PROFILE` | section of `~/.aws/config` and `~/.aws/credentials` | `default` |
//! | `path_style` | bucket in the path, not in the host name | yes with an endpoint of one's own |
//! | `allow_http` | | yes if the endpoint says `http://` |
//! | `anonymous` | unsigned requests, for public buckets | no |
//! | `unsigned_payload`, `AWS_UNSIGNED_PAYLOAD` | signatures leave out the bodies | no over `http://`, yes over TLS, which protects them |
//! | `ca_bundle`, `AWS_CA_BUNDLE` | file of certificates to trust besides the system's | |

mod profile;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::error::SettingsError;

/// Names a table may hold that aren't spelled with a store's prefix.
const PLAIN_NAMES: &[&str] = &[
    "endpoint",
    "region",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "profile",
    "path_style",
    "allow_http",
    "anonymous",
    "unsigned_payload",
    "ca_bundle",
    // Google
    "service_account",
    "service_account_key",
    "application_credentials",
    // Azure
    "account",
    "account_name",
    "account_key",
    "access_key",
    "sas_token",
    "client_id",
    "client_secret",
    "tenant_id",
];
/// Variables of the environment that are taken in, by their beginning.
const PREFIXES: &[&str] = &["aws_", "google_", "azure_"];

/// What is needed to reach a store. `Debug` shows names, never values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    table: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    /// For the profile files' usual places.
    home: Option<PathBuf>,
}

impl Settings {
    /// From this process's environment.
    pub fn from_env() -> Settings {
        Settings::from_vars(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    /// From the given variables, as if they were the environment (`HOME` included).
    pub fn from_vars<N: Into<String>, V: Into<String>>(
        vars: impl IntoIterator<Item = (N, V)>,
    ) -> Settings {
        let mut settings = Settings::default();
        for (name, value) in vars {
            let (name, value) = (name.into(), value.into());
            if name == "HOME" {
                settings.home = Some(PathBuf::from(value));
                continue;
            }
            let name = name.to_ascii_lowercase();
            if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !value.is_empty() {
                settings.environment.insert(name, value);
            }
        }
        settings
    }

    /// With what a table of the configuration file says on top.
    pub fn with_table(mut self, table: &toml::Table) -> Result<Settings, SettingsError> {
        for (name, value) in table {
            let value = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Boolean(flag) => flag.to_string(),
                toml::Value::Integer(number) => number.to_string(),
                _ => {
                    return Err(SettingsError::BadValue {
                        name: name.clone(),
                        problem: "must be a text, a number or true/false".into(),
                    });
                }
            };
            self = self.with(name, &value)?;
        }
        Ok(self)
    }

    /// With one setting on top, by the name a table would use.
    pub fn with(mut self, name: &str, value: &str) -> Result<Settings, SettingsError> {
        let name = name.to_ascii_lowercase().replace('-', "_");
        if !PLAIN_NAMES.contains(&name.as_str())
            && !PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        {
            return Err(SettingsError::UnknownName(name));
        }
        self.table.insert(name, value.to_owned());
        Ok(self)
    }

    /// The first of `names` that is set; the table counts before the environment.
    pub(crate) fn get(&self, names: &[&str]) -> Option<&str> {
        [&self.table, &self.environment]
            .into_iter()
            .find_map(|layer| names.iter().find_map(|name| layer.get(*name)))
            .map(String::as_str)
    }

    /// Like [`Settings::get`], for something that is yes or no.
    pub(crate) fn flag(&self, names: &[&str]) -> Result<Option<bool>, SettingsError> {
        match self.get(names) {
            None => Ok(None),
            Some(value) => match value.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => Ok(Some(true)),
                "0" | "false" | "no" | "off" => Ok(Some(false)),
                _ => Err(SettingsError::BadValue {
                    name: names[0].to_owned(),
                    problem: "must be true or false".into(),
                }),
            },
        }
    }

    /// All pairs whose name begins with one of `prefixes`, weakest first, and the table's plain names
    /// with the first of `prefixes` put before them.
    pub(crate) fn with_prefix(&self, prefixes: &[&str]) -> Vec<(String, String)> {
        let matching = |layer: &BTreeMap<String, String>| -> Vec<(String, String)> {
            layer
                .iter()
                .filter(|(name, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        };
        let plain = self
            .table
            .iter()
            .filter(|(name, _)| !PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
            .map(|(name, value)| {
                (
                    format!("{}{name}", prefixes.first().unwrap_or(&"")),
                    value.clone(),
                )
            });
        let mut pairs = matching(&self.environment);
        pairs.extend(matching(&self.table));
        pairs.extend(plain);
        pairs
    }

    /// The AWS profile in force: its settings under the names of the environment.
    pub(crate) fn aws_profile(&self) -> Result<BTreeMap<String, String>, SettingsError> {
        profile::read(self)
    }

    pub(crate) fn home(&self) -> Option<&PathBuf> {
        self.home.as_ref()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |layer: &BTreeMap<String, String>| layer.keys().cloned().collect::<Vec<_>>();
        f.debug_struct("Settings")
            .field("table", &names(&self.table))
            .field("environment", &names(&self.environment))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_counts_before_the_environment() {
        let settings = Settings::from_vars([("AWS_REGION", "from-env"), ("PATH", "/bin")])
            .with_table(&toml::from_str("region = 'from-table'\npath_style = true").unwrap())
            .unwrap();
        assert_eq!(settings.get(&["region", "aws_region"]), Some("from-table"));
        assert_eq!(settings.flag(&["path_style"]), Ok(Some(true)));
        assert_eq!(settings.get(&["path"]), None);
    }

    #[test]
    fn no_secret_is_ever_shown() {
        let settings = Settings::from_vars([("AWS_SECRET_ACCESS_KEY", "hunter2")])
            .with("secret_access_key", "hunter3")
            .unwrap();
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(shown.contains("secret_access_key"));
        let error = settings
            .with("path_style", "hunter4")
            .unwrap()
            .flag(&["path_style"])
            .unwrap_err();
        assert!(!error.to_string().contains("hunter"), "{error}");
    }

    #[test]
    fn a_mistyped_name_is_refused() {
        assert!(matches!(
            Settings::default().with("endpont", "x"),
            Err(SettingsError::UnknownName(_))
        ));
    }

    #[test]
    fn plain_names_become_the_stores_own() {
        let settings = Settings::from_vars([("AZURE_CLIENT_ID", "c"), ("AWS_REGION", "r")])
            .with("account_name", "a")
            .unwrap();
        let pairs = settings.with_prefix(&["azure_"]);
        assert_eq!(
            pairs,
            [
                ("azure_client_id".into(), "c".into()),
                ("azure_account_name".into(), "a".into())
            ] as [(String, String); 2]
        );
    }
}
