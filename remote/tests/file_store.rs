//! What only a folder can get wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may"
)]

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use bytes::Bytes;
use remote::{
    Access, Condition, Error, ObjectKey, PosixAttrs, ProbeError, Remote, Settings, StoreUrl,
};
use support::{Store, run};

fn key(text: &str) -> ObjectKey {
    ObjectKey::from(text)
}

fn store() -> (Store, PathBuf) {
    let store = support::folder().unwrap();
    let path = PathBuf::from(store.url.prefix());
    (store, path)
}

async fn put(store: &Store, name: &str, body: &'static str) -> Result<remote::Put, Error> {
    let body = Bytes::from_static(body.as_bytes());
    store
        .remote
        .put(&key(name), body, &PosixAttrs::default(), &Condition::None)
        .await
}

#[test]
fn attributes_are_the_files_own() {
    let (store, path) = store();
    run(async {
        let attrs = PosixAttrs {
            mode: Some(0o4710),
            mtime_ns: Some(-1),
            ..Default::default()
        };
        store
            .remote
            .put(&key("a/b"), Bytes::new(), &attrs, &Condition::None)
            .await
            .unwrap();
        let found = std::fs::metadata(path.join("a/b")).unwrap();
        assert_eq!(
            (found.mode() & 0o7777, found.mtime(), found.mtime_nsec()),
            (0o4710, -1, 999_999_999)
        );
    });
}

#[test]
fn a_file_that_others_wrote_is_an_object() {
    let (store, path) = store();
    run(async {
        std::fs::write(path.join("theirs"), "bytes").unwrap();
        std::fs::set_permissions(path.join("theirs"), PermissionsExt::from_mode(0o604)).unwrap();
        let meta = store.remote.head(&key("theirs")).await.unwrap().unwrap();
        assert_eq!((meta.size, meta.posix.mode), (5, Some(0o604)));
        let old = meta.etag.unwrap();
        assert_eq!(
            store
                .remote
                .get(&key("theirs"), 1..4, Some(&old))
                .await
                .unwrap(),
            "yte"
        );
        std::fs::write(path.join("theirs"), "bytes!").unwrap();
        let error = store
            .remote
            .get(&key("theirs"), 1..4, Some(&old))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Changed { .. }), "{error}");
    });
}

#[test]
fn nothing_leads_out_of_the_folder() {
    let (store, path) = store();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path(), path.join("dir")).unwrap();
    symlink(outside.path().join("secret"), path.join("link")).unwrap();
    run(async {
        for name in ["dir/secret", "link"] {
            assert_eq!(store.remote.head(&key(name)).await.unwrap(), None, "{name}");
            let error = store.remote.get(&key(name), 0..6, None).await.unwrap_err();
            assert!(matches!(error, Error::NotFound { .. }), "{error}");
            let error = put(&store, name, "overwritten").await.unwrap_err();
            assert!(matches!(error, Error::Other { .. }), "{error}");
            store.remote.delete(&key(name)).await.unwrap();
        }
        for name in ["../x", "a/../../x", "./x", "a//x", "x/."] {
            let error = put(&store, name, "overwritten").await.unwrap_err();
            assert!(matches!(error, Error::Other { .. }), "{error}");
        }
        let page = store.remote.list_page(&key(""), None, 10).await.unwrap();
        assert_eq!((page.files.len(), page.directories.len()), (0, 0));
        assert_eq!(page.hidden, ["dir", "link"]);
        assert_eq!(
            store
                .remote
                .list_page(&key("dir/"), None, 10)
                .await
                .unwrap()
                .files,
            []
        );
    });
    assert_eq!(
        std::fs::read_to_string(outside.path().join("secret")).unwrap(),
        "secret"
    );
    assert!(path.join("link").is_symlink());
}

#[test]
fn a_fifo_is_hidden_and_never_waited_for() {
    let (store, path) = store();
    nix::unistd::mkfifo(&path.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    run(async {
        assert_eq!(store.remote.head(&key("fifo")).await.unwrap(), None);
        let error = store
            .remote
            .get(&key("fifo"), 0..1, None)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        assert_eq!(
            store
                .remote
                .list_page(&key(""), None, 10)
                .await
                .unwrap()
                .hidden,
            ["fifo"]
        );
    });
}

#[test]
fn a_folder_in_the_way_is_an_error_that_says_so() {
    let (store, path) = store();
    std::fs::create_dir(path.join("a")).unwrap();
    std::fs::write(path.join("file"), "").unwrap();
    run(async {
        let error = put(&store, "a", "x").await.unwrap_err();
        assert!(
            error.to_string().contains("a folder of the same name"),
            "{error}"
        );
        let error = put(&store, "file/below", "x").await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("'file' in its path is not a folder"),
            "{error}"
        );
    });
}

#[test]
fn no_half_written_file_is_left_or_listed() {
    let (store, path) = store();
    run(async {
        let id = store
            .remote
            .multipart(&key("big"), &PosixAttrs::default())
            .await
            .unwrap();
        store
            .remote
            .put_part(&key("big"), &id, 1, Bytes::from_static(b"part"))
            .await
            .unwrap();
        put(&store, "small", "1").await.unwrap();
        put(&store, "small/x", "1").await.unwrap_err();
        let page = store.remote.list_page(&key(""), None, 10).await.unwrap();
        assert_eq!(page.files.len(), 1, "only what is complete is listed");
        assert_eq!((page.directories.len(), page.hidden.len()), (0, 0));
        store.remote.abort(&key("big"), &id).await.unwrap();
    });
    assert_eq!(
        std::fs::read_dir(path.join(".fused-staging"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn names_on_disk_are_the_names_of_the_files() {
    let (store, path) = store();
    run(async {
        use std::os::unix::ffi::OsStrExt;
        let name = b"not\xFFtext\n%41";
        let object = remote::keys::encode(&[&name[..]]);
        store
            .remote
            .put(
                &object,
                Bytes::new(),
                &PosixAttrs::default(),
                &Condition::Absent,
            )
            .await
            .unwrap();
        assert!(path.join(std::ffi::OsStr::from_bytes(name)).is_file());
    });
}

#[test]
fn a_listing_goes_on_although_its_snapshot_is_gone() {
    let (store, _) = store();
    run(async {
        for n in 0..9 {
            put(&store, &format!("d/{n}"), "x").await.unwrap();
        }
        let first = store.remote.list_page(&key("d/"), None, 4).await.unwrap();
        let rest = store
            .reopen()
            .list_page(&key("d/"), first.next.as_ref(), 100)
            .await
            .unwrap();
        let names: Vec<&str> = rest.files.iter().map(|meta| meta.key.name()).collect();
        assert_eq!(names, ["4", "5", "6", "7", "8"]);
    });
}

#[test]
fn parts_of_odd_lengths_are_put_together() {
    let (store, path) = store();
    run(async {
        let id = store
            .remote
            .multipart(&key("odd"), &PosixAttrs::default())
            .await
            .unwrap();
        let mut parts = Vec::new();
        for (number, body) in [(4, "gh"), (1, "abc"), (2, "d"), (3, "efxxx")] {
            let body = Bytes::from_static(if number == 3 { b"ef" } else { body.as_bytes() });
            parts.push((
                number,
                store
                    .remote
                    .put_part(&key("odd"), &id, number, body)
                    .await
                    .unwrap(),
            ));
        }
        parts.sort_by_key(|(number, _)| *number);
        store
            .remote
            .complete(&key("odd"), &id, &parts, &Condition::Absent)
            .await
            .unwrap();
    });
    assert_eq!(
        std::fs::read_to_string(path.join("odd")).unwrap(),
        "abcdefgh"
    );
    assert_eq!(
        std::fs::read_dir(path.join(".fused-staging"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn the_probe_tells_why_a_folder_can_not_be_mounted() {
    let (_store, path) = store();
    std::fs::write(path.join("file"), "").unwrap();
    let probe = |path: PathBuf| async move {
        let url = StoreUrl::parse(&format!("file://{}", path.display())).unwrap();
        Remote::open(&url, &Settings::default())
            .unwrap()
            .probe(Access::ReadWrite)
            .await
            .unwrap_err()
    };
    run(async {
        let missing = probe(path.join("none")).await;
        assert!(matches!(missing, ProbeError::NoSuchBucket(_)), "{missing}");
        let file = probe(path.join("file")).await;
        assert!(matches!(file, ProbeError::NotADirectory(_)), "{file}");
        // /proc takes no files, whoever asks.
        let refused = probe(PathBuf::from("/proc")).await;
        assert!(!refused.to_string().is_empty());
    });
}
