//! S3 servers on loopback, and buckets seen by a client that is not the program's own.
//!
//! `tests/programs/serve.py` starts the servers, `tests/programs/s3.py` (boto3) is the client.
//! `scripts/test` starts one SeaweedFS and one moto for the whole run and names them in
//! `FUSED_TEST_SEAWEEDFS` and `FUSED_TEST_MOTO`; a test without those, or one that wants to stop or
//! kill its server, starts one of its own.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::files::scratch;
use crate::process::Guarded;
use crate::programs::python;

const ACCESS_KEY: &str = "fused-test";
const SECRET_KEY: &str = "fused-test-secret";
/// What servers answer when a condition does not hold.
const REFUSALS: [&str; 4] = [
    "PreconditionFailed",
    "412",
    "NoSuchKey",
    "ConditionalRequestConflict",
];
const REGION: &str = "us-east-1";

/// A running S3 server.
#[derive(Debug)]
pub struct Server {
    endpoint: String,
    name: &'static str,
    own: Option<Own>,
}

/// A server that belongs to one test.
#[derive(Debug)]
struct Own {
    directory: tempfile::TempDir,
    starter: Guarded,
    pid: Pid,
}

impl Server {
    /// SeaweedFS, the run's shared one if there is one.
    pub fn seaweedfs() -> Self {
        Self::shared("seaweedfs", "FUSED_TEST_SEAWEEDFS")
    }

    /// moto, the run's shared one if there is one.
    pub fn moto() -> Self {
        Self::shared("moto", "FUSED_TEST_MOTO")
    }

    /// A SeaweedFS of the test's own, to be paused, killed and restarted.
    pub fn own_seaweedfs() -> Self {
        Self::start("seaweedfs")
    }

    fn shared(name: &'static str, variable: &str) -> Self {
        match std::env::var(variable) {
            Ok(endpoint) => Self {
                endpoint,
                name,
                own: None,
            },
            Err(_) => Self::start(name),
        }
    }

    fn start(name: &'static str) -> Self {
        let directory = scratch();
        let (starter, pid, endpoint) = launch(name, directory.path(), None);
        Self {
            endpoint,
            name,
            own: Some(Own {
                directory,
                starter,
                pid,
            }),
        }
    }

    /// Its address, like `http://127.0.0.1:8333`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Freezes the server: connections stay open and nothing is answered.
    pub fn pause(&self) {
        kill(self.own().pid, Signal::SIGSTOP).expect("a signal to the server");
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        kill(self.own().pid, Signal::SIGCONT).expect("a signal to the server");
    }

    /// Kills the server; its data and its port are kept for [`restart`](Self::restart).
    pub fn kill(&mut self) {
        let own = self.own.as_mut().expect("a server of the test's own");
        kill(own.pid, Signal::SIGKILL).expect("a signal to the server");
        // The starter ends once its server has.
        let _ = own.starter.child().wait();
    }

    /// Starts the killed server again, with the same data at the same address.
    pub fn restart(&mut self) {
        let port = self.endpoint.rsplit(':').next().expect("a port").to_owned();
        let own = self.own.as_mut().expect("a server of the test's own");
        (own.starter, own.pid, _) = launch(self.name, own.directory.path(), Some(&port));
    }

    fn own(&self) -> &Own {
        self.own.as_ref().expect("a server of the test's own")
    }

    /// The AWS variables that make a program speak to this server.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_REGION", REGION),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// A new, empty bucket, removed with its content when the guard goes.
    pub fn bucket(&self) -> Bucket {
        let name = format!("t-{:016x}", rand::random::<u64>());
        let client = Client::connect(&self.environment());
        client
            .call("make_bucket", json!({ "bucket": name }))
            .expect("a new bucket");
        Bucket {
            name,
            client,
            environment: self.environment(),
        }
    }
}

fn launch(name: &str, directory: &Path, port: Option<&str>) -> (Guarded, Pid, String) {
    let mut program = python("serve.py").arg("--dir").arg(directory);
    if let Some(port) = port {
        program = program.args(["--s3-port", port]);
    }
    let mut command = program.arg(name).into_command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut starter = Guarded::spawn_as_is(&mut command).expect("serve.py");
    let mut line = String::new();
    let output = starter.child().stdout.take().expect("its output");
    BufReader::new(output)
        .read_line(&mut line)
        .expect("serve.py's line");
    let said: Value = serde_json::from_str(&line)
        .unwrap_or_else(|_| panic!("{name} did not start; see {}", directory.display()));
    let pid = said["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok())
        .expect("a pid");
    let endpoint = said["endpoint"].as_str().expect("an endpoint").to_owned();
    (starter, Pid::from_raw(pid), endpoint)
}

/// A bucket of one test, seen through boto3.
#[derive(Debug)]
pub struct Bucket {
    name: String,
    client: Client,
    environment: Vec<(String, String)>,
}

/// What a HEAD request says of an object.
#[derive(Debug)]
pub struct Head {
    /// Length in bytes.
    pub size: u64,
    /// The entity tag, with its quotes.
    pub etag: String,
    /// The user metadata.
    pub metadata: Value,
}

impl Bucket {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As a URL for `fused mount`.
    pub fn url(&self) -> String {
        format!("s3://{}", self.name)
    }

    /// The AWS variables of its server.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Every key that begins with `prefix`.
    pub fn keys_below(&self, prefix: &str) -> Vec<String> {
        let keys = self
            .do_it("list_keys", json!({ "prefix": prefix }))
            .expect("a listing");
        let keys = keys.as_array().expect("an array").iter();
        keys.map(|key| key.as_str().expect("a key").to_owned())
            .collect()
    }

    /// Every key.
    pub fn keys(&self) -> Vec<String> {
        self.keys_below("")
    }

    /// Writes an object with this text.
    pub fn put(&self, key: &str, text: &str) {
        self.do_it("put", json!({ "key": key, "text": text }))
            .expect("a put");
    }

    /// Writes an object with the content of a file, in parts if it is large.
    pub fn put_file(&self, key: &str, file: &Path) {
        self.do_it("put", json!({ "key": key, "file": file }))
            .expect("a put");
    }

    /// Writes an object in the place of the version `over`, or where there is none; false, and nothing
    /// is written, if something else is there.
    pub fn put_if(&self, key: &str, bytes: &[u8], over: Option<&str>) -> bool {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(bytes).expect("a temporary file");
        let request = json!({ "key": key, "file": file.path(), "over": over });
        match self.do_it("put_if", request) {
            Ok(_) => true,
            Err(error) if REFUSALS.iter().any(|code| error["error"] == *code) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Fetches an object into a file; false if there is none.
    pub fn get(&self, key: &str, file: &Path) -> bool {
        present(self.do_it("get", json!({ "key": key, "file": file }))).is_some()
    }

    /// An object's content as text; None if there is none.
    pub fn text(&self, key: &str) -> Option<String> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        self.get(key, file.path())
            .then(|| std::fs::read_to_string(file.path()).expect("text"))
    }

    /// What HEAD says; None if there is no such object.
    pub fn head(&self, key: &str) -> Option<Head> {
        let found = present(self.do_it("head", json!({ "key": key })))?;
        Some(Head {
            size: found["size"].as_u64().expect("a size"),
            etag: found["etag"].as_str().expect("an etag").to_owned(),
            metadata: found["metadata"].clone(),
        })
    }

    /// Deletes an object.
    pub fn delete(&self, key: &str) {
        self.do_it("delete", json!({ "key": key }))
            .expect("a delete");
    }

    /// Keys of multipart uploads that nobody completed or aborted.
    pub fn unfinished_uploads(&self) -> Vec<String> {
        let keys = self.do_it("list_uploads", json!({})).expect("a listing");
        let keys = keys.as_array().expect("an array").iter();
        keys.map(|key| key.as_str().expect("a key").to_owned())
            .collect()
    }

    fn do_it(&self, what: &str, mut request: Value) -> Result<Value, Value> {
        request["bucket"] = self.name.clone().into();
        self.client.call(what, request)
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // Where the test has killed its server there is nothing to tidy.
        let _ = self.do_it("remove_bucket", json!({}));
    }
}

/// None for "no such object", a panic for every other error.
fn present(answer: Result<Value, Value>) -> Option<Value> {
    match answer {
        Ok(found) => Some(found),
        Err(error) if matches!(error["error"].as_str(), Some("NoSuchKey" | "404")) => None,
        Err(error) => panic!("{error}"),
    }
}

/// boto3 in a process of its own, asked line by line.
#[derive(Debug)]
pub struct Client {
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    _process: Guarded,
}

impl Client {
    /// Starts the client with the AWS variables of a server.
    pub fn connect(environment: &[(String, String)]) -> Self {
        let mut command: Command = python("s3.py").into_command();
        command
            .envs(environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Guarded::spawn_as_is(&mut command).expect("s3.py");
        let input = process.child().stdin.take().expect("its input");
        let output = BufReader::new(process.child().stdout.take().expect("its output"));
        Self {
            pipes: RefCell::new((input, output)),
            _process: process,
        }
    }

    /// One request of `tests/programs/s3.py`; the whole answer is the error.
    pub fn call(&self, what: &str, mut request: Value) -> Result<Value, Value> {
        request["do"] = what.into();
        let (input, output) = &mut *self.pipes.borrow_mut();
        let mut line = String::new();
        writeln!(input, "{request}")
            .and_then(|()| input.flush())
            .expect("the client's input");
        output.read_line(&mut line).expect("the client's answer");
        let mut answer: Value = serde_json::from_str(&line).expect("JSON");
        if answer.get("error").is_some() {
            Err(answer)
        } else {
            Ok(answer["ok"].take())
        }
    }
}
