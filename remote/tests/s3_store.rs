//! What only S3 can get wrong: strange keys, wrong credentials, broken servers, other people's tools.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may"
)]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use remote::{
    Access, Condition, Error, FileVersion, ObjectKey, PosixAttrs, ProbeError, Remote, Settings,
    StoreUrl,
};
use support::{KEY, SECRET, Server, run};

fn key(text: &str) -> ObjectKey {
    ObjectKey::from(text)
}

fn open(url: &str, endpoint: &str, id: &str, secret: &str) -> Remote {
    let settings = Settings::from_vars([
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", id),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ]);
    Remote::open(&StoreUrl::parse(url).unwrap(), &settings).unwrap()
}

async fn why_not(remote: &Remote) -> ProbeError {
    let started = Instant::now();
    let error = remote.probe(Access::ReadWrite).await.unwrap_err();
    assert!(
        started.elapsed() < Duration::from_secs(11),
        "the probe took {:?}",
        started.elapsed()
    );
    error
}

#[test]
fn the_probe_tells_wrong_keys_from_a_wrong_bucket() {
    let Some(server) = Server::seaweed() else {
        return;
    };
    run(async {
        let error = why_not(&open("s3://bucket", &server.endpoint, "nobody", SECRET)).await;
        assert!(matches!(error, ProbeError::BadCredentials(_)), "{error}");
        let error = why_not(&open("s3://bucket", &server.endpoint, KEY, "wrong")).await;
        assert!(matches!(error, ProbeError::BadCredentials(_)), "{error}");
        assert!(!error.to_string().contains("wrong"), "{error}");
        let error = why_not(&open("s3://no-such-bucket", &server.endpoint, KEY, SECRET)).await;
        assert!(matches!(error, ProbeError::NoSuchBucket(_)), "{error}");
    });
}

#[test]
fn the_probe_says_that_nobody_answers() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    run(async {
        for endpoint in [
            format!("http://{closed}"),
            "http://no-such-host.invalid".to_owned(),
        ] {
            let error = why_not(&open("s3://bucket", &endpoint, KEY, SECRET)).await;
            assert!(matches!(error, ProbeError::Unreachable { .. }), "{error}");
        }
    });
}

#[test]
fn a_server_that_never_answers_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    run(async {
        let error = why_not(&open("s3://bucket", &endpoint, KEY, SECRET)).await;
        assert!(matches!(error, ProbeError::Unreachable { .. }), "{error}");
    });
}

#[test]
fn a_web_server_is_not_taken_for_a_store() {
    let endpoint = canned("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>");
    run(async {
        let error = why_not(&open("s3://bucket", &endpoint, KEY, SECRET)).await;
        assert!(error.to_string().contains("not as S3 does"), "{error}");
    });
}

#[test]
fn a_body_that_breaks_off_is_an_error() {
    let headers =
        "HTTP/1.1 206 Partial Content\r\ncontent-length: 10\r\ncontent-range: bytes 0-9/10\r\n";
    let cut = canned(&format!("{headers}connection: close\r\n\r\n12345"));
    let short = canned(
        "HTTP/1.1 206 Partial Content\r\ncontent-length: 5\r\ncontent-range: bytes 0-4/10\r\nconnection: close\r\n\r\n12345",
    );
    run(async {
        let error = open("s3://bucket", &cut, KEY, SECRET)
            .get(&key("k"), 0..10, None)
            .await
            .unwrap_err();
        assert!(error.is_retryable(), "{error}");
        let error = open("s3://bucket", &short, KEY, SECRET)
            .get(&key("k"), 0..10, None)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                Error::ShortBody {
                    wanted: 10,
                    got: 5,
                    ..
                }
            ),
            "{error}"
        );
    });
}

#[test]
fn another_range_or_version_than_asked_for_is_an_error() {
    let shifted = canned(
        "HTTP/1.1 206 Partial Content\r\ncontent-length: 1\r\ncontent-range: bytes 0-0/9\r\n\r\nx",
    );
    let other = canned(
        "HTTP/1.1 206 Partial Content\r\ncontent-length: 1\r\ncontent-range: bytes 3-3/9\r\netag: \"b\"\r\n\r\nx",
    );
    run(async {
        let error = open("s3://bucket", &shifted, KEY, SECRET)
            .get(&key("k"), 3..4, None)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Other { .. }), "{error}");
        let old = remote::ETag("\"a\"".into());
        let error = open("s3://bucket", &other, KEY, SECRET)
            .get(&key("k"), 3..4, Some(&old))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Changed { .. }), "{error}");
    });
}

/// A server that gives everybody the same answer.
fn canned(answer: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let answer = answer.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    endpoint
}

#[test]
fn an_answer_proves_what_has_arrived_by_the_digest_of_the_bytes_alone() {
    let answering = |etag: &str| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\netag: {etag}\r\n");
        canned(&format!("{head}connection: close\r\n\r\n"))
    };
    // `printf hello | md5sum`
    let right = answering("\"5d41402abc4b2a76b9719d911017c592\"");
    let other = answering("\"0d41402abc4b2a76b9719d911017c592\"");
    let opaque = answering("\"5d41402abc4b2a76b9719d911017c592-1\"");
    run(async {
        for (endpoint, proven) in [(right, true), (other, false), (opaque, false)] {
            let remote = open("s3://bucket", &endpoint, KEY, SECRET);
            let (hello, attributes) = (Bytes::from_static(b"hello"), PosixAttrs::default());
            let put = remote
                .put(&key("k"), hello, &attributes, &Condition::None)
                .await
                .unwrap();
            assert_eq!(put.proven, proven, "{:?}", put.etag);
        }
    });
}

#[test]
fn a_bucket_with_strange_keys_is_listed_and_the_strange_ones_reported() {
    let Some(server) = Server::moto() else { return };
    run(async {
        let bucket = "strange";
        server
            .request("PUT", &format!("/{bucket}"), b"")
            .await
            .unwrap();
        let long = "l".repeat(1024);
        for path in [
            "a",
            "a/b",
            "a//c",
            "//x",
            "d/",
            "d/e",
            "ctl%01x",
            "%E9%9B%AA",
            "plus%2B%20space",
            "p%2520q",
            &long,
        ] {
            let (status, _) = server
                .request("PUT", &format!("/{bucket}/{path}"), path.as_bytes())
                .await
                .unwrap();
            assert_eq!(status, 200, "{path}");
        }
        let remote = open(&format!("s3://{bucket}"), &server.endpoint, KEY, SECRET);
        let root = remote.list_page(&key(""), None, 1000).await.unwrap();
        let mut names: Vec<&str> = root.files.iter().map(|meta| meta.key.as_str()).collect();
        names.sort();
        let mut wanted = vec!["a", &long, "p%20q", "plus+ space", "雪"];
        wanted.sort();
        assert_eq!(names, wanted);
        assert_eq!(root.directories, ["a", "d"]);
        let mut hidden = root.hidden.clone();
        hidden.sort();
        assert_eq!(hidden, ["/", "ctl\u{1}x"]);

        let a = remote.list_page(&key("a/"), None, 1000).await.unwrap();
        assert_eq!(
            a.files
                .iter()
                .map(|meta| meta.key.as_str())
                .collect::<Vec<_>>(),
            ["a/b"]
        );
        assert_eq!(a.hidden, ["a//"]);
        let d = remote.list_page(&key("d/"), None, 1000).await.unwrap();
        assert_eq!(
            (d.files.len(), d.marker.unwrap().size),
            (1, 2),
            "a marker with content is a marker"
        );

        for (name, path) in [
            ("a//c", "a//c"),
            ("ctl\u{1}x", "ctl%01x"),
            (long.as_str(), long.as_str()),
        ] {
            let meta = remote.head(&key(name)).await.unwrap().expect("it is there");
            assert_eq!(
                remote.get(&key(name), 0..meta.size, None).await.unwrap(),
                path.as_bytes()
            );
        }
        for name in ["a//c", "ctl\u{1}x"] {
            remote.delete(&key(name)).await.unwrap();
            assert_eq!(remote.head(&key(name)).await.unwrap(), None);
        }
        let error = remote
            .put(
                &key(&"x".repeat(1025)),
                Bytes::new(),
                &PosixAttrs::default(),
                &Condition::None,
            )
            .await;
        assert!(matches!(error, Err(Error::KeyTooLong { .. })));
    });
}

#[test]
fn a_prefix_shows_only_what_is_below_it() {
    let Some(server) = Server::moto() else { return };
    run(async {
        for path in ["pre/x", "pre/y/z", "prefix", "other"] {
            server
                .request("PUT", &format!("/bucket/{path}"), b"1")
                .await
                .unwrap();
        }
        let remote = open("s3://bucket/pre", &server.endpoint, KEY, SECRET);
        let page = remote.list_page(&key(""), None, 1000).await.unwrap();
        assert_eq!((page.files.len(), page.files[0].key.as_str()), (1, "x"));
        assert_eq!(page.directories, ["y"]);
    });
}

#[test]
fn new_attributes_keep_what_other_tools_put_on_an_object() {
    let Some(server) = Server::moto() else { return };
    let Some(python) = python() else { return };
    let script = "s.put_object(Bucket='bucket', Key='described', Body=b'x', ContentType='text/css', \
                  CacheControl='no-cache', Metadata={'theirs': 'kept', 'file-owner': '5'})";
    boto3(&python, server, script);
    run(async {
        let remote = open("s3://bucket", &server.endpoint, KEY, SECRET);
        let attrs = PosixAttrs {
            mode: Some(0o600),
            ..Default::default()
        };
        remote
            .set_attributes(&key("described"), None, &attrs)
            .await
            .unwrap();
        let meta = remote.head(&key("described")).await.unwrap().unwrap();
        assert_eq!((meta.posix.mode, meta.posix.uid), (Some(0o600), Some(5)));
    });
    let script = "h = s.head_object(Bucket='bucket', Key='described')\n\
                  print(h['ContentType'], h['CacheControl'], h['Metadata']['theirs'])";
    assert_eq!(boto3(&python, server, script), "text/css no-cache kept\n");
}

#[test]
fn another_client_reads_the_same_bytes_and_attributes() {
    let Some(python) = python() else { return };
    for server in [Server::seaweed(), Server::moto()].into_iter().flatten() {
        run(async {
            let remote = open("s3://bucket", &server.endpoint, KEY, SECRET);
            let attrs = PosixAttrs {
                mode: Some(0o644),
                uid: Some(1000),
                gid: Some(100),
                mtime_ns: Some(1_700_000_000_123_456_789),
                atime_ns: None,
                version: Some(FileVersion {
                    node: 1,
                    ino: 2,
                    epoch: 3,
                    meta_epoch: 4,
                    place: 5,
                }),
            };
            let body: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
            remote
                .put(
                    &key("for boto/ü+ object"),
                    Bytes::from(body),
                    &attrs,
                    &Condition::None,
                )
                .await
                .unwrap();
        });
        let script = "import hashlib, struct\n\
            o = s.get_object(Bucket='bucket', Key='for boto/ü+ object')\n\
            print(o['Body'].read() == b''.join(struct.pack('<I', i) for i in range(200000)))\n\
            print(sorted(o['Metadata'].items()))";
        let wanted = "True\n[('file-group', '100'), ('file-mtime', '1700000000123456789ns'), ('file-owner', '1000'), \
                      ('file-permissions', '0100644'), ('fused-version', '2-1-2-3-4-5')]\n";
        assert_eq!(boto3(&python, server, script), wanted);
    }
}

/// The Python that runs moto, if it has boto3.
fn python() -> Option<std::path::PathBuf> {
    let python = support::program("FUSED_TEST_MOTO", "moto_server")?.with_file_name("python3");
    let has = Command::new(&python)
        .args(["-c", "import boto3"])
        .env_remove("AWS_CA_BUNDLE")
        .output();
    if has.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!("skipped: there is no boto3 beside moto");
    None
}

fn boto3(python: &std::path::Path, server: &Server, script: &str) -> String {
    let prelude = format!(
        "import boto3\ns = boto3.client('s3', endpoint_url='{}', aws_access_key_id='{KEY}', \
         aws_secret_access_key='{SECRET}', region_name='us-east-1')\n",
        server.endpoint
    );
    let output = Command::new(python)
        .args(["-c", &format!("{prelude}{script}")])
        .env_remove("AWS_CA_BUNDLE")
        .env("PYTHONIOENCODING", "utf-8")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
