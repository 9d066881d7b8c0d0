//! Stores for the tests: a temporary folder, and S3 servers on free loopback ports.
//!
//! A server is started once per test program, by a shell that waits for the program's end (its standard
//! input closes), kills the server it started, by its process id, and deletes its folder. So nothing is
//! left behind even if a test is killed. Where a server isn't installed the tests say so and pass; the
//! variables `FUSED_TEST_WEED` and `FUSED_TEST_MOTO` name the programs, else PATH and the project's
//! `.venv/bin` are searched.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod azurite;
pub mod objects;

use std::fs::OpenOptions;
use std::future::Future;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpConnector, HttpRequestBody, ReqwestConnector};
use remote::{ObjectKey, PosixAttrs, Remote, Settings, StoreUrl};

/// Longest time that one test may take.
const TEST_TIME_MAX: Duration = Duration::from_secs(120);
/// Longest time that a server may take to start.
const START_TIME_MAX: Duration = Duration::from_secs(60);
pub const KEY: &str = "test-key";
pub const SECRET: &str = "test-secret";

/// Runs a test on a runtime of its own, in bounded time.
pub fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(TEST_TIME_MAX, test)
            .await
            .expect("the test took too long")
    });
}

/// A store to test, with what keeps it alive.
pub struct Store {
    pub remote: Remote,
    pub url: StoreUrl,
    pub settings: Settings,
    /// Whether the server checks conditions as it should; a simulator may not.
    pub strict: bool,
    /// Whether the server is a file system behind: it keeps no metadata on directories and takes
    /// a backslash for a slash.
    pub filer: bool,
    /// Whether what was uploaded can be thrown away at once.
    pub aborts: bool,
    /// What comes back of attributes.
    pub kept: fn(PosixAttrs) -> PosixAttrs,
    _folder: Option<tempfile::TempDir>,
}

impl Store {
    /// The same store as another process would open it.
    pub fn reopen(&self) -> Remote {
        Remote::open(&self.url, &self.settings).unwrap()
    }
}

/// A temporary folder.
pub fn folder() -> Option<Store> {
    let folder = tempfile::tempdir().unwrap();
    let url = StoreUrl::parse(&format!("file://{}", folder.path().display())).unwrap();
    let settings = Settings::default();
    let remote = Remote::open(&url, &settings).unwrap();
    Some(Store {
        remote,
        url,
        settings,
        strict: true,
        filer: false,
        aborts: true,
        kept: |attrs| attrs,
        _folder: Some(folder),
    })
}

/// A place of its own in a SeaweedFS.
pub fn seaweed() -> Option<Store> {
    server_store(Server::seaweed()?, true, true)
}

/// A place of its own in a moto.
pub fn moto() -> Option<Store> {
    server_store(Server::moto()?, false, false)
}

/// A place of its own in an Azurite.
pub fn azurite() -> Option<Store> {
    let settings = azurite::settings(azurite::endpoint()?, azurite::KEY);
    Some(Store {
        aborts: false,
        ..place(&format!("az://{}", azurite::CONTAINER), settings)
    })
}

/// A folder of its own in an HDFS: `FUSED_TEST_HDFS` is its NameNode's address.
pub fn hdfs() -> Option<Store> {
    static NAME_NODE: OnceLock<Option<String>> = OnceLock::new();
    let name_node = NAME_NODE
        .get_or_init(|| {
            running(
                "FUSED_TEST_HDFS",
                "HDFS, which scripts/test --long installs,",
            )
        })
        .as_ref()?;
    let store = place(&format!("hdfs://{name_node}"), Settings::default());
    run(async {
        let (root, attrs) = (ObjectKey::default(), PosixAttrs::default());
        store.remote.make_dir(&root, &attrs).await.unwrap();
    });
    Some(Store {
        strict: false,
        // Owners are names there, times have milliseconds, and there is no place for our mark.
        kept: |attrs| PosixAttrs {
            uid: None,
            gid: None,
            mtime_ns: attrs.mtime_ns.map(|ns| ns - ns % 1_000_000),
            atime_ns: attrs.atime_ns.map(|ns| ns - ns % 1_000_000),
            version: None,
            ..attrs
        },
        ..store
    })
}

fn server_store(server: &Server, strict: bool, filer: bool) -> Option<Store> {
    let bucket = format!("s3://{}", server.bucket);
    Some(Store {
        strict,
        filer,
        ..place(&bucket, server.settings())
    })
}

/// A place of its own below a URL.
fn place(base: &str, settings: Settings) -> Store {
    let url = StoreUrl::parse(&format!("{base}/test-{:016x}", rand::random::<u64>())).unwrap();
    let remote = Remote::open(&url, &settings).unwrap();
    Store {
        remote,
        url,
        settings,
        strict: true,
        filer: false,
        aborts: true,
        kept: |attrs| attrs,
        _folder: None,
    }
}

/// The address of a server that was started for the tests, by its variable.
fn running(variable: &str, name: &str) -> Option<String> {
    let address = std::env::var(variable).ok();
    if address.is_none() {
        skip(&format!("{name} is not served here ({variable})"));
    }
    address
}

/// Says that tests are skipped, on stderr and in the file that `FUSED_SKIP_LOG` names.
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
    if let Some(path) = std::env::var_os("FUSED_SKIP_LOG") {
        let log = OpenOptions::new().create(true).append(true).open(path);
        let _ = log.and_then(|mut log| writeln!(log, "the remote crate's contract: {reason}"));
    }
}

/// An S3 server with a bucket.
pub struct Server {
    pub endpoint: String,
    pub bucket: &'static str,
    _guard: Child,
}

impl Server {
    pub fn seaweed() -> Option<&'static Server> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        SERVER
            .get_or_init(|| Server::start_seaweed(&program("FUSED_TEST_WEED", "weed")?))
            .as_ref()
    }

    pub fn moto() -> Option<&'static Server> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        SERVER
            .get_or_init(|| Server::start_moto(&program("FUSED_TEST_MOTO", "moto_server")?))
            .as_ref()
    }

    pub fn settings(&self) -> Settings {
        Settings::from_vars([
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ])
    }

    fn start_seaweed(program: &Path) -> Option<Server> {
        let folder = scratch();
        let identities = format!(
            r#"{{"identities":[{{"name":"a","credentials":[{{"accessKey":"{KEY}","secretKey":"{SECRET}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
        );
        std::fs::write(folder.join("s3.json"), identities).unwrap();
        let ports = free_ports(8);
        let mut arguments = vec![
            "server".to_owned(),
            format!("-dir={}", folder.display()),
            "-ip=127.0.0.1".into(),
            "-ip.bind=127.0.0.1".into(),
            "-master.volumeSizeLimitMB=64".into(),
            "-volume.max=100".into(),
            "-filer".into(),
            "-s3".into(),
            format!("-s3.config={}", folder.join("s3.json").display()),
        ];
        for (at, name) in ["master", "volume", "filer", "s3"].iter().enumerate() {
            arguments.push(format!("-{name}.port={}", ports[2 * at]));
            arguments.push(format!("-{name}.port.grpc={}", ports[2 * at + 1]));
        }
        Some(Server::start(program, &arguments, &folder, ports[6]))
    }

    fn start_moto(program: &Path) -> Option<Server> {
        let port = free_ports(1)[0];
        let arguments = [
            "-H".to_owned(),
            "127.0.0.1".into(),
            "-p".into(),
            port.to_string(),
        ];
        Some(Server::start(program, &arguments, &scratch(), port))
    }

    fn start(program: &Path, arguments: &[String], folder: &Path, port: u16) -> Server {
        let script = r#"folder=$1; shift; cd "$folder" || exit 1
            "$@" >log 2>&1 </dev/null & server=$!
            cat >/dev/null
            kill -9 $server; wait $server 2>/dev/null; cd /; rm -rf "$folder""#;
        let guard = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(folder)
            .arg(program)
            .args(arguments)
            .env_remove("AWS_CA_BUNDLE")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Server {
            endpoint: format!("http://127.0.0.1:{port}"),
            bucket: "bucket",
            _guard: guard,
        };
        // A runtime of its own: this may be called from within another.
        std::thread::scope(|scope| {
            scope
                .spawn(|| run(server.make_bucket(port)))
                .join()
                .unwrap();
        });
        server
    }

    async fn make_bucket(&self, port: u16) {
        let deadline = Instant::now() + START_TIME_MAX;
        loop {
            assert!(
                Instant::now() < deadline,
                "the server did not start in time"
            );
            if TcpStream::connect(("127.0.0.1", port)).is_ok()
                && let Ok((200, _)) = self.request("PUT", &format!("/{}", self.bucket), b"").await
                // A filer that is up may still have no volume to write to.
                && let Ok((200, _)) = self.request("PUT", &format!("/{}/ready", self.bucket), b"x").await
            {
                let _ = self
                    .request("DELETE", &format!("/{}/ready", self.bucket), b"")
                    .await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A signed request past the crate under test. `path` is escaped already.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Result<(u16, bytes::Bytes), String> {
        let client = ReqwestConnector::default()
            .connect(&object_store::ClientOptions::new().with_allow_http(true))
            .map_err(|e| e.to_string())?;
        let credential = AwsCredential {
            key_id: KEY.into(),
            secret_key: SECRET.into(),
            token: None,
        };
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint))
            .header("content-length", body.len())
            .body(HttpRequestBody::from(body.to_vec()))
            .map_err(|e| e.to_string())?;
        AwsAuthorizer::new(&credential, "s3", "us-east-1")
            .try_authorize(&mut request, None)
            .map_err(|e| e.to_string())?;
        let response = client.execute(request).await.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        Ok((
            status,
            response
                .into_body()
                .bytes()
                .await
                .map_err(|e| e.to_string())?,
        ))
    }
}

/// A folder that the server's guard deletes.
fn scratch() -> PathBuf {
    tempfile::Builder::new()
        .prefix("fused-remote-test-")
        .tempdir()
        .unwrap()
        .keep()
}

/// A program by its variable, in PATH or in the project's virtual environment.
pub fn program(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(PathBuf::from(path));
    }
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin");
    let found = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .unwrap_or_default()
        .into_iter()
        .chain([venv])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        skip(&format!(
            "{name} is neither in {variable} nor in PATH nor in .venv/bin"
        ));
    }
    found
}

/// Free ports, all different.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect()
}
