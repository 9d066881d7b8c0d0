//! A container on Azurite, Microsoft's own simulator of its blob store.
//!
//! `FUSED_TEST_AZURITE` names a running one (`tests/programs/serve.py azurite -- COMMAND` starts it
//! and makes the container); its account and key are those that every Azurite has.

use std::sync::OnceLock;

use http::Method;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpConnector, HttpRequestBody, ReqwestConnector};
use remote::Settings;

pub const ACCOUNT: &str = "devstoreaccount1";
/// Not a secret: it is printed in Azurite's manual.
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
pub const CONTAINER: &str = "container";

/// The endpoint; `None` where no server is.
pub fn endpoint() -> Option<&'static str> {
    static ENDPOINT: OnceLock<Option<String>> = OnceLock::new();
    let name = "Azurite, which scripts/test installs where there is npm,";
    ENDPOINT
        .get_or_init(|| super::running("FUSED_TEST_AZURITE", name))
        .as_deref()
}

pub fn settings(endpoint: &str, key: &str) -> Settings {
    Settings::from_vars([
        ("AZURE_STORAGE_ENDPOINT", endpoint),
        ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT),
        ("AZURE_STORAGE_ACCOUNT_KEY", key),
    ])
}

/// A signed request past the crate under test. `path` is escaped already.
pub async fn request(
    endpoint: &str,
    method: Method,
    path: &str,
    headers: &[(&'static str, &str)],
    body: &'static str,
) -> (u16, http::HeaderMap) {
    let client = ReqwestConnector::default()
        .connect(&object_store::ClientOptions::new().with_allow_http(true))
        .unwrap();
    let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).unwrap());
    let mut request = http::Request::builder()
        .method(method)
        .uri(format!("{endpoint}/{path}"))
        .header("content-length", body.len());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request
        .body(HttpRequestBody::from(body.as_bytes().to_vec()))
        .unwrap();
    AzureAuthorizer::new(&credential, ACCOUNT)
        .try_authorize(&mut request)
        .unwrap();
    let (parts, _) = client.execute(request).await.unwrap().into_parts();
    (parts.status.as_u16(), parts.headers)
}
