//! What only Azure and HDFS can get wrong: reasons not to mount, what other tools leave there, odd names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may"
)]

mod support;

use std::net::TcpListener;

use http::Method;
use remote::{
    Access, Condition, Error, ObjectKey, PosixAttrs, ProbeError, Remote, Settings, StoreUrl,
};
use support::objects::{attributes, key, list, names, noise, put, text, upload};
use support::{azurite, run};

async fn why_not(url: &str, settings: &Settings) -> ProbeError {
    let remote = Remote::open(&StoreUrl::parse(url).unwrap(), settings).unwrap();
    remote.probe(Access::ReadWrite).await.unwrap_err()
}

/// An address where nobody answers.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn azures_reasons_not_to_mount_are_told_apart() {
    let Some(endpoint) = azurite::endpoint() else {
        return;
    };
    run(async {
        let good = azurite::settings(endpoint, azurite::KEY);
        let error = why_not("az://no-such-container", &good).await;
        assert!(matches!(error, ProbeError::NoSuchBucket(_)), "{error}");
        let wrong = azurite::settings(endpoint, "d3Jvbmc=");
        let error = why_not("az://container", &wrong).await;
        assert!(matches!(error, ProbeError::BadCredentials(_)), "{error}");
        assert!(!error.to_string().contains("d3Jvbmc="), "{error}");
    });
}

#[test]
fn an_azure_that_does_not_answer_is_unreachable() {
    run(async {
        let away = azurite::settings(&format!("http://{}/a", nobody()), azurite::KEY);
        let error = why_not("az://container", &away).await;
        assert!(matches!(error, ProbeError::Unreachable { .. }), "{error}");
    });
}

#[test]
fn keys_that_no_file_can_have_do_not_spoil_an_azure_listing() {
    let Some(store) = support::azurite() else {
        return;
    };
    let endpoint = azurite::endpoint().unwrap();
    run(async {
        put(&store.remote, "dir/file", text("1")).await;
        let base = format!("{}/{}", azurite::CONTAINER, store.url.prefix());
        let block = [("x-ms-blob-type", "BlockBlob")];
        // Azurite itself fails over control characters, so this is all that can be tried.
        let path = format!("{base}/dir//x");
        let (status, _) = azurite::request(endpoint, Method::PUT, &path, &block, "x").await;
        assert_eq!(status, 201);
        let page = list(&store.remote, "dir/", 100).await;
        assert_eq!(names(&page), ["file"]);
        assert_eq!(page.hidden.len(), 1, "{:?}", page.hidden);
    });
}

#[test]
fn a_folder_of_another_azure_tool_is_a_directory() {
    let Some(store) = support::azurite() else {
        return;
    };
    let endpoint = azurite::endpoint().unwrap();
    run(async {
        let path = format!("{}/{}/folder", azurite::CONTAINER, store.url.prefix());
        let folder = [
            ("x-ms-blob-type", "BlockBlob"),
            ("x-ms-meta-hdi_isfolder", "true"),
        ];
        azurite::request(endpoint, Method::PUT, &path, &folder, "").await;
        let page = list(&store.remote, "", 100).await;
        assert_eq!(names(&page), [""; 0]);
        assert_eq!(page.directories, ["folder"]);
        assert_eq!(store.remote.head(&key("folder")).await.unwrap(), None);
    });
}

#[test]
fn what_other_azure_tools_put_on_an_object_survives_new_attributes() {
    let Some(store) = support::azurite() else {
        return;
    };
    let endpoint = azurite::endpoint().unwrap();
    run(async {
        let path = format!("{}/{}/object", azurite::CONTAINER, store.url.prefix());
        let theirs = [
            ("x-ms-blob-type", "BlockBlob"),
            ("x-ms-meta-purpose", "test"),
            ("x-ms-blob-content-type", "text/html"),
        ];
        azurite::request(endpoint, Method::PUT, &path, &theirs, "x").await;
        let object = key("object");
        let (to, attrs) = (key("copy"), attributes());
        let set = store.remote.set_attributes(&object, None, &attrs);
        set.await.unwrap();
        store
            .remote
            .copy(&object, &to, &PosixAttrs::default(), None)
            .await
            .unwrap();
        for name in ["object", "copy"] {
            let path = format!("{}/{}/{name}", azurite::CONTAINER, store.url.prefix());
            let (_, headers) = azurite::request(endpoint, Method::HEAD, &path, &[], "").await;
            assert_eq!(headers["x-ms-meta-purpose"], "test", "{name}");
            assert_eq!(headers["content-type"], "text/html", "{name}");
            let meta = store.remote.head(&key(name)).await.unwrap().unwrap();
            assert_eq!(meta.posix, attributes(), "{name}");
        }
    });
}

#[test]
fn an_azure_listing_has_the_attributes() {
    let Some(store) = support::azurite() else {
        return;
    };
    run(async {
        let (object, attrs, none) = (key("d/f"), attributes(), Condition::None);
        let put = store.remote.put(&object, text("1"), &attrs, &none);
        put.await.unwrap();
        let page = list(&store.remote, "d/", 10).await;
        assert_eq!(page.files[0].posix, attributes());
    });
}

#[test]
fn hdfss_reasons_not_to_mount_are_told_apart() {
    let Some(store) = support::hdfs() else {
        return;
    };
    run(async {
        let none = Settings::default();
        let error = why_not(&format!("{}/none", store.url), &none).await;
        assert!(matches!(error, ProbeError::NoSuchBucket(_)), "{error}");
        put(&store.remote, "file", text("1")).await;
        let error = why_not(&format!("{}/file", store.url), &none).await;
        assert!(matches!(error, ProbeError::NotADirectory(_)), "{error}");
    });
}

#[test]
fn an_hdfs_that_does_not_answer_is_unreachable() {
    run(async {
        let error = why_not(&format!("hdfs://{}/x", nobody()), &Settings::default()).await;
        assert!(matches!(error, ProbeError::Unreachable { .. }), "{error}");
    });
}

#[test]
fn nothing_is_left_in_hdfss_staging_folder() {
    let Some(store) = support::hdfs() else {
        return;
    };
    run(async {
        let body = noise(11 * 1024 * 1024, 1);
        let (id, parts) = upload(&store, "object", &body).await;
        let object = key("object");
        let done = store
            .remote
            .complete(&object, &id, &parts, &Condition::Absent);
        done.await.unwrap();
        for _ in 0..2 {
            let absent = Condition::Absent;
            let attrs = PosixAttrs::default();
            let refused = store.remote.put(&object, text("2"), &attrs, &absent).await;
            assert!(matches!(refused, Err(Error::PreconditionFailed { .. })));
        }
        let (id, _) = upload(&store, "other", &body).await;
        store.remote.abort(&key("other"), &id).await.unwrap();
        let staging = format!("{}/.fused-staging", store.url);
        let inside = Remote::open(&StoreUrl::parse(&staging).unwrap(), &store.settings).unwrap();
        let page = inside.list_page(&ObjectKey::default(), None, 10).await;
        assert_eq!(page.unwrap(), remote::ListPage::default());
    });
}

#[test]
fn a_name_too_long_for_hdfs_is_refused_as_such() {
    let Some(store) = support::hdfs() else {
        return;
    };
    run(async {
        let attrs = PosixAttrs::default();
        let long = key(&"x".repeat(256));
        let refused = store.remote.put(&long, text("1"), &attrs, &Condition::None);
        let refused = refused.await.unwrap_err();
        assert!(matches!(refused, Error::KeyTooLong { .. }), "{refused}");
    });
}
