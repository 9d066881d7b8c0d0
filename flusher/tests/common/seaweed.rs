//! A SeaweedFS for the tests of one program, started when first needed.
//!
//! It is started by a shell that waits for the end of the test program (its standard input closes), kills
//! the server it started, by its process id, and deletes its folder.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub const BUCKET: &str = "bucket";
const START_TIME_MAX: Duration = Duration::from_secs(60);

struct Server {
    port: u16,
    _guard: Child,
}

/// The port of the S3 server; `None`, having said so, if the program isn't there.
pub fn port() -> Option<u16> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(start).as_ref().map(|server| server.port)
}

fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("FUSED_TEST_WEED") {
        return Some(PathBuf::from(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin");
    std::env::split_paths(&path)
        .chain([venv])
        .map(|folder| folder.join("weed"))
        .find(|path| path.is_file())
}

fn start() -> Option<Server> {
    let Some(program) = program() else {
        eprintln!("skipped: weed is neither in FUSED_TEST_WEED nor in PATH nor in .venv/bin");
        return None;
    };
    let folder = tempfile::Builder::new()
        .prefix("fused-flusher-test-")
        .tempdir()
        .unwrap()
        .keep();
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
    ];
    for (at, name) in ["master", "volume", "filer", "s3"].iter().enumerate() {
        arguments.push(format!("-{name}.port={}", ports[2 * at]));
        arguments.push(format!("-{name}.port.grpc={}", ports[2 * at + 1]));
    }
    let script = r#"folder=$1; shift; cd "$folder" || exit 1
        "$@" >log 2>&1 </dev/null & server=$!
        cat >/dev/null
        kill -9 $server; wait $server 2>/dev/null; cd /; rm -rf "$folder""#;
    let guard = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(&folder)
        .arg(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let port = ports[6];
    let deadline = Instant::now() + START_TIME_MAX;
    // A filer that is up may still have no volume to write to.
    while !(asked(port, "PUT", "/bucket", "") && asked(port, "PUT", "/bucket/ready", "x")) {
        assert!(
            Instant::now() < deadline,
            "the server did not start in time"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Some(Server {
        port,
        _guard: guard,
    })
}

/// Without identities configured the server takes unsigned requests.
fn asked(port: u16, method: &str, path: &str, body: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let mut answer = [0; 12];
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && (answer.ends_with(b"200") || answer.ends_with(b"409"))
}

fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect()
}
