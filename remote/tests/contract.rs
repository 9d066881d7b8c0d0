//! What every store promises, tried on a folder, a SeaweedFS, a moto, an Azurite and an HDFS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may"
)]

#[path = "contract/probes.rs"]
mod probes;
mod support;

use bytes::Bytes;
use probes::{
    a_probe_removes_what_an_earlier_one_has_left, the_probe_finds_out_what_the_store_can_do,
};
use remote::{Condition, ETag, Error, ListPage, PosixAttrs, keys};
use support::Store;
use support::objects::{MIB, attributes, key, list, names, noise, put, read, text, upload};

const ABSENT: Condition = Condition::Absent;

async fn an_object_comes_back_byte_for_byte(store: Store) {
    for length in [0, 1, 4097, 3 * MIB + 1] {
        let body = noise(length, length as u64);
        let etag = put(&store.remote, "dir/object", body.clone()).await;
        let meta = store
            .remote
            .head(&key("dir/object"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((meta.size, meta.etag), (length as u64, Some(etag)));
        assert_eq!(read(&store.remote, "dir/object").await, body);
        if length > 100 {
            let part = store
                .remote
                .get(&key("dir/object"), 17..99, None)
                .await
                .unwrap();
            assert_eq!(part, body[17..99]);
        }
    }
}

async fn a_range_beyond_the_end_is_an_error(store: Store) {
    put(&store.remote, "object", text("12345")).await;
    for range in [3..8, 5..6, 100..200] {
        let error = store
            .remote
            .get(&key("object"), range, None)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::ShortBody { .. }), "{error}");
    }
    assert_eq!(
        store.remote.get(&key("object"), 5..5, None).await.unwrap(),
        ""
    );
}

async fn what_is_not_there_is_said_to_be_missing(store: Store) {
    assert_eq!(store.remote.head(&key("none")).await.unwrap(), None);
    assert_eq!(store.remote.head(&key("none/below")).await.unwrap(), None);
    let error = store
        .remote
        .get(&key("none"), 0..1, None)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    store.remote.delete(&key("none")).await.unwrap();
    assert_eq!(list(&store.remote, "none/", 10).await, ListPage::default());
    assert!(!store.remote.exists_below(&key("none/")).await.unwrap());
}

async fn attributes_travel_with_the_object(store: Store) {
    store
        .remote
        .put(&key("object"), text("1"), &attributes(), &Condition::None)
        .await
        .unwrap();
    assert_eq!(
        store
            .remote
            .head(&key("object"))
            .await
            .unwrap()
            .unwrap()
            .posix,
        (store.kept)(attributes())
    );
}

async fn new_attributes_leave_the_bytes_alone(store: Store) {
    let old = store
        .remote
        .put(
            &key("object"),
            text("bytes"),
            &attributes(),
            &Condition::None,
        )
        .await
        .unwrap();
    let change = PosixAttrs {
        mode: Some(0o400),
        mtime_ns: Some(5_000_000_000),
        ..Default::default()
    };
    let new = store
        .remote
        .set_attributes(&key("object"), old.etag.as_ref(), &change)
        .await
        .unwrap();
    let meta = store.remote.head(&key("object")).await.unwrap().unwrap();
    assert_eq!(meta.etag, new.etag);
    let wanted = PosixAttrs {
        mode: Some(0o400),
        mtime_ns: Some(5_000_000_000),
        ..attributes()
    };
    assert_eq!(meta.posix, (store.kept)(wanted), "what was left open stays");
    assert_eq!(read(&store.remote, "object").await, "bytes");
    let wrong = ETag("\"0123456789abcdef0123456789abcdef\"".into());
    let error = store
        .remote
        .set_attributes(&key("object"), Some(&wrong), &change)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::PreconditionFailed { .. }), "{error}");
}

async fn a_write_that_expects_nothing_is_refused_over_something(store: Store) {
    let attrs = PosixAttrs::default();
    store
        .remote
        .put(&key("object"), text("1"), &attrs, &ABSENT)
        .await
        .unwrap();
    let error = store
        .remote
        .put(&key("object"), text("2"), &attrs, &ABSENT)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::PreconditionFailed { .. }), "{error}");
    assert_eq!(read(&store.remote, "object").await, "1");
}

async fn a_write_that_expects_a_version_is_refused_over_another(store: Store) {
    let attrs = PosixAttrs::default();
    let first = put(&store.remote, "object", text("1")).await;
    let second = store
        .remote
        .put(
            &key("object"),
            text("22"),
            &attrs,
            &Condition::Match(first.clone()),
        )
        .await
        .unwrap();
    let error = store
        .remote
        .put(
            &key("object"),
            text("333"),
            &attrs,
            &Condition::Match(first),
        )
        .await
        .unwrap_err();
    assert!(matches!(error, Error::PreconditionFailed { .. }), "{error}");
    assert_eq!(read(&store.remote, "object").await, "22");
    let gone = Condition::Match(second.etag.unwrap());
    store.remote.delete(&key("object")).await.unwrap();
    let error = store
        .remote
        .put(&key("object"), text("4"), &attrs, &gone)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::PreconditionFailed { .. }), "{error}");
}

async fn a_lost_answer_is_not_taken_for_a_conflict(store: Store) {
    let first = store
        .remote
        .put(&key("object"), text("1"), &attributes(), &ABSENT)
        .await
        .unwrap();
    let again = store
        .remote
        .put(&key("object"), text("1"), &attributes(), &ABSENT)
        .await
        .unwrap();
    assert_eq!(first, again);
}

async fn of_many_writers_that_expect_nothing_one_wins(store: Store) {
    if !store.strict {
        return;
    }
    let attrs = PosixAttrs::default();
    let writers = (0..8).map(|n| {
        let body = Bytes::from(format!("writer {n}"));
        let (remote, attrs) = (store.remote.clone(), attrs);
        tokio::spawn(async move {
            remote
                .put(&key("object"), body.clone(), &attrs, &ABSENT)
                .await
                .map(|_| body)
        })
    });
    let mut winners = Vec::new();
    for writer in futures::future::join_all(writers).await {
        match writer.unwrap() {
            Ok(body) => winners.push(body),
            Err(Error::PreconditionFailed { .. } | Error::Transient { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(read(&store.remote, "object").await, winners[0]);
}

async fn a_read_never_mixes_two_versions(store: Store) {
    let old = put(&store.remote, "object", text("old bytes")).await;
    assert_eq!(
        store
            .remote
            .get(&key("object"), 0..3, Some(&old))
            .await
            .unwrap(),
        "old"
    );
    put(&store.remote, "object", text("newer bytes")).await;
    let error = store
        .remote
        .get(&key("object"), 3..9, Some(&old))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
}

async fn parts_become_one_object_only_when_completed(store: Store) {
    let body = noise(11 * MIB + 5, 1);
    let (id, parts) = upload(&store, "dir/object", &body).await;
    assert_eq!(store.remote.head(&key("dir/object")).await.unwrap(), None);
    let done = store
        .reopen()
        .complete(&key("dir/object"), &id, &parts, &ABSENT)
        .await
        .unwrap();
    let meta = store
        .remote
        .head(&key("dir/object"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (meta.size, meta.etag, meta.posix),
        (body.len() as u64, done.etag, (store.kept)(attributes()))
    );
    assert_eq!(read(&store.remote, "dir/object").await, body);
}

async fn a_part_sent_again_replaces_the_first(store: Store) {
    let id = store
        .remote
        .multipart(&key("object"), &attributes())
        .await
        .unwrap();
    store
        .remote
        .put_part(&key("object"), &id, 1, noise(5 * MIB, 1))
        .await
        .unwrap();
    let second = store
        .remote
        .put_part(&key("object"), &id, 2, text("tail"))
        .await
        .unwrap();
    let first = store
        .remote
        .put_part(&key("object"), &id, 1, noise(5 * MIB, 2))
        .await
        .unwrap();
    store
        .remote
        .complete(
            &key("object"),
            &id,
            &[(1, first), (2, second)],
            &Condition::None,
        )
        .await
        .unwrap();
    let body = read(&store.remote, "object").await;
    assert_eq!(
        (&body[..5 * MIB], &body[5 * MIB..]),
        (&noise(5 * MIB, 2)[..], &b"tail"[..])
    );
}

async fn an_upload_completes_only_on_its_condition(store: Store) {
    if !store.strict {
        return;
    }
    let old = put(&store.remote, "object", text("somebody else's")).await;
    let body = noise(11 * MIB, 2);
    let (id, parts) = upload(&store, "object", &body).await;
    let wrong = Condition::Match(ETag("\"0123456789abcdef0123456789abcdef\"".into()));
    for condition in [ABSENT, wrong] {
        let error = store
            .remote
            .complete(&key("object"), &id, &parts, &condition)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::PreconditionFailed { .. }), "{error}");
        assert_eq!(read(&store.remote, "object").await, "somebody else's");
    }
    store
        .remote
        .complete(&key("object"), &id, &parts, &Condition::Match(old))
        .await
        .unwrap();
    assert_eq!(read(&store.remote, "object").await, body);
}

async fn completing_again_after_a_lost_answer_succeeds(store: Store) {
    let body = noise(11 * MIB, 3);
    let (id, parts) = upload(&store, "object", &body).await;
    let first = store
        .remote
        .complete(&key("object"), &id, &parts, &ABSENT)
        .await
        .unwrap();
    let again = store
        .reopen()
        .complete(&key("object"), &id, &parts, &ABSENT)
        .await
        .unwrap();
    assert_eq!(first, again);
}

async fn an_aborted_upload_leaves_nothing(store: Store) {
    let body = noise(11 * MIB, 4);
    let (id, parts) = upload(&store, "object", &body).await;
    store.remote.abort(&key("object"), &id).await.unwrap();
    store.remote.abort(&key("object"), &id).await.unwrap();
    assert_eq!(store.remote.head(&key("object")).await.unwrap(), None);
    if !store.aborts {
        return;
    }
    let error = store
        .remote
        .complete(&key("object"), &id, &parts, &Condition::None)
        .await
        .unwrap_err();
    // A simulator answers this with "500 Internal Server Error".
    assert!(
        matches!(error, Error::NoSuchUpload { .. }) || !store.strict,
        "{error}"
    );
    let error = store
        .remote
        .put_part(&key("object"), &id, 1, text("x"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::NoSuchUpload { .. }) || !store.strict,
        "{error}"
    );
    assert_eq!(store.remote.head(&key("object")).await.unwrap(), None);
}

async fn a_directory_is_listed_in_pages(store: Store) {
    for n in 0..25 {
        put(&store.remote, &format!("dir/file {n:02}+x"), text("123")).await;
        if n % 5 == 0 {
            put(&store.remote, &format!("dir/sub {n:02}/below"), text("1")).await;
        }
    }
    for page_entries in [1000, 7, 1] {
        let page = list(&store.remote, "dir/", page_entries).await;
        let wanted: Vec<String> = (0..25).map(|n| format!("file {n:02}+x")).collect();
        assert_eq!(names(&page), wanted, "pages of {page_entries}");
        let mut directories = page.directories.clone();
        directories.sort();
        assert_eq!(
            directories,
            ["sub 00", "sub 05", "sub 10", "sub 15", "sub 20"],
            "pages of {page_entries}"
        );
        assert_eq!(page.hidden, [""; 0]);
    }
    let one = list(&store.remote, "dir/", 1000).await.files.remove(3);
    let head = store.remote.head(&one.key).await.unwrap().unwrap();
    assert_eq!(
        (one.key, one.size, one.etag),
        (head.key, head.size, head.etag)
    );
}

async fn every_name_survives_the_way_through_the_store(store: Store) {
    let mut wanted: Vec<Vec<u8>> = [
        "plain",
        "with space",
        "plus+plus",
        "percent%",
        "a%20b",
        "%41",
        "%C3%A9",
        "ünïcödé 雪",
        "quote\"'",
        "a&b<c>",
        "back\\slash",
        "question?",
        "hash#",
        "semi;colon",
        "star*",
        "tab\there",
        "line\nbreak",
        "bell\u{7}",
        "-dash",
        ".hidden",
        "..more",
        "~tilde",
        "eq=uals",
        "at@",
        "com,ma",
        "br[ack]ets{}",
        "|pipe",
        "^caret",
        "`tick",
        "$dollar",
        "!bang",
        ".fused-staging",
        "trailing.",
        "12:30",
        "12%3A30",
        " leading",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    wanted.push(b"not\xFFtext".to_vec());
    wanted.push("x".repeat(255).into_bytes());
    wanted.retain(|name| !store.filer || !name.contains(&b'\\'));
    for name in &wanted {
        let object = keys::encode(&[b"names", name.as_slice()]);
        store
            .remote
            .put(
                &object,
                Bytes::from(name.clone()),
                &PosixAttrs::default(),
                &ABSENT,
            )
            .await
            .unwrap();
    }
    let page = list(&store.remote, "names/", 1000).await;
    assert_eq!(page.hidden, [""; 0]);
    let mut found = Vec::new();
    for meta in &page.files {
        let name = keys::decode_name(meta.key.name()).unwrap();
        let body = store
            .remote
            .get(&meta.key, 0..meta.size, meta.etag.as_ref())
            .await
            .unwrap();
        assert_eq!(body, name, "{}", meta.key);
        found.push(name);
    }
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}

async fn a_copy_has_the_bytes_and_the_attributes_it_is_given(store: Store) {
    let source = store
        .remote
        .put(
            &key("from"),
            noise(100_000, 5),
            &attributes(),
            &Condition::None,
        )
        .await
        .unwrap()
        .etag;
    let change = PosixAttrs {
        mode: Some(0o777),
        ..Default::default()
    };
    let copy = store
        .remote
        .copy(&key("from"), &key("dir/to +"), &change, source.as_ref())
        .await
        .unwrap();
    let meta = store.remote.head(&key("dir/to +")).await.unwrap().unwrap();
    assert_eq!(meta.etag, copy.etag);
    let wanted = PosixAttrs {
        mode: Some(0o777),
        ..attributes()
    };
    assert_eq!(meta.posix, (store.kept)(wanted));
    assert_eq!(read(&store.remote, "dir/to +").await, noise(100_000, 5));
    let wrong = ETag("\"0123456789abcdef0123456789abcdef\"".into());
    let error = store
        .remote
        .copy(&key("from"), &key("to"), &change, Some(&wrong))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::PreconditionFailed { .. }), "{error}");
    let error = store
        .remote
        .copy(&key("none"), &key("to"), &change, None)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

async fn only_the_version_that_is_meant_is_deleted(store: Store) {
    let old = put(&store.remote, "object", text("1")).await;
    let new = put(&store.remote, "object", text("22")).await;
    let error = store
        .remote
        .delete_matching(&key("object"), &old)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::PreconditionFailed { .. }), "{error}");
    store
        .remote
        .delete_matching(&key("object"), &new)
        .await
        .unwrap();
    assert_eq!(store.remote.head(&key("object")).await.unwrap(), None);
    store
        .remote
        .delete_matching(&key("object"), &new)
        .await
        .unwrap();
}

async fn an_empty_directory_is_kept_and_removed(store: Store) {
    let attrs = PosixAttrs {
        mode: Some(0o750),
        mtime_ns: Some(1_000_000_000),
        ..Default::default()
    };
    store
        .remote
        .make_dir(&key("a/empty/"), &attrs)
        .await
        .unwrap();
    assert_eq!(list(&store.remote, "a/", 10).await.directories, ["empty"]);
    let page = list(&store.remote, "a/empty/", 10).await;
    assert_eq!(names(&page), [""; 0]);
    assert_eq!(
        page.marker.expect("the listing has the marker").key,
        key("a/empty/")
    );
    assert!(store.remote.exists_below(&key("a/empty/")).await.unwrap());
    let meta = store
        .remote
        .head(&key("a/empty/"))
        .await
        .unwrap()
        .expect("the marker is there");
    if !store.filer {
        assert_eq!(
            (meta.posix.mode, meta.posix.mtime_ns),
            (attrs.mode, attrs.mtime_ns)
        );
    }
    store.remote.remove_dir(&key("a/empty/")).await.unwrap();
    assert_eq!(list(&store.remote, "a/", 10).await.directories, [""; 0]);
    store.remote.remove_dir(&key("a/empty/")).await.unwrap();
}

async fn removing_a_directory_keeps_what_is_in_it(store: Store) {
    store
        .remote
        .make_dir(&key("dir/"), &PosixAttrs::default())
        .await
        .unwrap();
    put(&store.remote, "dir/file", text("kept")).await;
    store.remote.remove_dir(&key("dir/")).await.unwrap();
    assert_eq!(read(&store.remote, "dir/file").await, "kept");
    assert_eq!(list(&store.remote, "", 10).await.directories, ["dir"]);
}

async fn a_key_that_is_too_long_is_refused_by_name(store: Store) {
    let long = "x/".repeat(2100) + "x";
    let error = store
        .remote
        .put(
            &key(&long),
            text("1"),
            &PosixAttrs::default(),
            &Condition::None,
        )
        .await
        .unwrap_err();
    assert!(matches!(error, Error::KeyTooLong { .. }), "{error}");
}

/// Every behaviour on every store.
macro_rules! contract {
    ($($name:ident)*) => {
        contract!(@on folder $($name)*);
        contract!(@on seaweed $($name)*);
        contract!(@on moto $($name)*);
        contract!(@on azurite $($name)*);
        contract!(@on hdfs $($name)*);
    };
    (@on $store:ident $($name:ident)*) => {
        mod $store {
            $(
                #[test]
                fn $name() {
                    if let Some(store) = super::support::$store() {
                        super::support::run(super::$name(store));
                    }
                }
            )*
        }
    };
}

contract! {
    an_object_comes_back_byte_for_byte
    a_range_beyond_the_end_is_an_error
    what_is_not_there_is_said_to_be_missing
    attributes_travel_with_the_object
    new_attributes_leave_the_bytes_alone
    a_write_that_expects_nothing_is_refused_over_something
    a_write_that_expects_a_version_is_refused_over_another
    a_lost_answer_is_not_taken_for_a_conflict
    of_many_writers_that_expect_nothing_one_wins
    a_read_never_mixes_two_versions
    parts_become_one_object_only_when_completed
    a_part_sent_again_replaces_the_first
    an_upload_completes_only_on_its_condition
    completing_again_after_a_lost_answer_succeeds
    an_aborted_upload_leaves_nothing
    a_directory_is_listed_in_pages
    every_name_survives_the_way_through_the_store
    a_copy_has_the_bytes_and_the_attributes_it_is_given
    only_the_version_that_is_meant_is_deleted
    an_empty_directory_is_kept_and_removed
    removing_a_directory_keeps_what_is_in_it
    the_probe_finds_out_what_the_store_can_do
    a_probe_removes_what_an_earlier_one_has_left
    a_key_that_is_too_long_is_refused_by_name
}
