//! The harness: the places and engines that every behaviour is tested on.
//!
//! Places are a disk (cargo's scratch directory), memory (/dev/shm), and an XFS of its own on a loop
//! device where we may mount; a place that isn't there is left out with the reason printed.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use extents::{ExtentFile, ExtentId, ExtentStore, IoMode, Options};

pub const ID: ExtentId = ExtentId {
    ino: 0x1234,
    generation: 1,
};
pub const BLOCK: u64 = 4096;

/// A file system to put a store on; gone when dropped.
pub struct Place {
    pub name: &'static str,
    pub dir: PathBuf,
    _scratch: tempfile::TempDir,
    _mount: Option<Mount>,
}

/// Unmounts when dropped, before its directory goes.
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts, or says why not.
    pub fn new(options: &[&str], source: &Path, target: &Path) -> Result<Mount, String> {
        std::fs::create_dir_all(target).map_err(|error| error.to_string())?;
        let mut mount = Command::new("mount");
        run(mount.args(options).arg(source).arg(target)).map(|()| Mount(target.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Completions on engine threads may hold the last descriptor for a moment: lazily.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

pub fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn scratch(parent: &Path) -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("extents-test-")
        .tempdir_in(parent)
        .unwrap()
}

pub fn disk() -> Place {
    let scratch = scratch(Path::new(env!("CARGO_TARGET_TMPDIR")));
    Place {
        name: "disk",
        dir: scratch.path().join("store"),
        _scratch: scratch,
        _mount: None,
    }
}

fn memory() -> Option<Place> {
    let shm = Path::new("/dev/shm");
    if !shm.is_dir() {
        println!("skipped on tmpfs: there is no /dev/shm");
        return None;
    }
    let scratch = scratch(shm);
    Some(Place {
        name: "tmpfs",
        dir: scratch.path().join("store"),
        _scratch: scratch,
        _mount: None,
    })
}

fn xfs() -> Result<Place, String> {
    if !is_root() {
        return Err("mounting needs root".to_owned());
    }
    let scratch = scratch(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let (image, target) = (scratch.path().join("image"), scratch.path().join("mnt"));
    std::fs::File::create(&image)
        .and_then(|file| file.set_len(320 << 20))
        .map_err(|error| error.to_string())?;
    run(Command::new("mkfs.xfs").arg("-q").arg(&image))?;
    let mount = Mount::new(&["-o", "loop"], &image, &target)?;
    // The mount is first in the struct's drop order among what holds the directory.
    Ok(Place {
        name: "xfs",
        dir: target.join("store"),
        _scratch: scratch,
        _mount: Some(mount),
    })
}

impl Drop for Place {
    fn drop(&mut self) {
        self._mount = None;
    }
}

pub fn places() -> Vec<Place> {
    let mut places = vec![disk()];
    places.extend(memory());
    match xfs() {
        Ok(place) => places.push(place),
        Err(why) => println!("skipped on XFS: {why}"),
    }
    places
}

pub fn open(dir: &Path, io: IoMode) -> ExtentStore {
    ExtentStore::open(
        dir,
        Options {
            io,
            durable_after_boot: false,
        },
    )
    .unwrap()
}

/// Runs a behaviour on every place with every engine, each on a fresh store.
pub fn everywhere<F: Future<Output = ()>>(behaviour: impl Fn(ExtentStore) -> F) {
    for place in places() {
        for io in [IoMode::Auto, IoMode::Plain] {
            let store = open(&place.dir.join(format!("{io:?}")), io);
            println!("on {} with {io:?}: {:?}", place.name, store.capabilities());
            run_bounded(behaviour(store));
        }
    }
}

/// Runs a future on a runtime with several threads, for a minute at most.
pub fn run_bounded<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), future)
            .await
            .expect("took too long")
    })
}

/// The space used once every file has been counted. The scan runs on its own thread and tells nobody
/// when it's done: asked for until then.
pub fn scanned(store: &ExtentStore) -> u64 {
    let start = Instant::now();
    loop {
        let usage = store.usage().unwrap();
        if usage.used_complete {
            return usage.used_bytes;
        }
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "the scan doesn't end"
        );
        std::thread::yield_now();
    }
}

/// Bytes that differ everywhere and from file to file.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes: Vec<u8> = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(next().to_le_bytes().map(|byte| byte | 1));
    }
    bytes.truncate(len);
    bytes
}

/// The whole file through `read_at`.
pub async fn content(file: &ExtentFile) -> Vec<u8> {
    let size = file.stat().unwrap().size as usize;
    file.read_at(0, size).await.unwrap().to_vec()
}
