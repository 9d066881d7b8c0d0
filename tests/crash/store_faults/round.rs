//! One round: work under faults, kills and restarts, then fair weather and the check of the bucket.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use harness::{Bucket, Cache, Mount, MountOptions, Proxy, Store, fused, scratch};
use nix::sys::signal::Signal;

use super::faults::{Kind, Weather};
use super::tree::{Content, Tree};
use crate::content::Dice;

/// Longest pause of the programs between two calls, so that uploads begin meanwhile.
const PAUSE_MS_MAX: usize = 40;
/// Uploads that nobody knows of any more are found and given up within this time.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(40);

/// Files that lie only in the store, and are read under faults.
const COLD: [(&str, usize); 4] = [
    ("cold/small", 1000),
    ("cold/medium", 300_000),
    ("cold/large", 17 << 20),
    ("cold/larger", 25 << 20),
];

/// What kind of round.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub kind: Kind,
    /// Times of work, with a crash or a restart after each.
    pub phases: usize,
    pub phase: Duration,
    /// How long an outage, or the like, lasts.
    pub spell: Duration,
}

/// A bucket mounted through a proxy.
pub struct Stand {
    pub store: Store,
    pub proxy: Arc<Proxy>,
    pub cache: Cache,
    pub at: tempfile::TempDir,
}

impl Stand {
    pub fn new() -> Self {
        let store = Store::seaweedfs();
        let proxy = store.proxy();
        Self {
            store,
            proxy: Arc::new(proxy),
            cache: Cache::new(),
            at: scratch(),
        }
    }

    pub fn options(&self) -> MountOptions {
        Mount::of(&self.store)
            .through(&self.proxy)
            .env(
                "RUST_LOG",
                &std::env::var("FAULTS_LOG").unwrap_or("info".into()),
            )
            .cache(&self.cache)
            .at(self.at.path())
            .option("settle=50ms")
            .option("stale_uploads=0s")
    }

    pub fn bucket(&self) -> &Bucket {
        self.store.bucket()
    }
}

impl Plan {
    /// Does it.
    #[track_caller]
    pub fn run(self) {
        let seed = super::seed();
        eprintln!("{self:?}");
        let stand = Stand::new();
        let mut mount = stand.options().start();
        let mut tree = Tree::new(mount.path(), self.kind, seed);
        let mut dice = Dice::new(seed ^ 0xc4a5);
        let mut weather = Weather::new(self.kind, seed, self.spell);
        let reader = Reader::start(&mount, self.kind);

        let began = Instant::now();
        for phase in 0..self.phases {
            weather.begin(&stand.proxy);
            let until = Instant::now() + self.phase;
            while Instant::now() < until {
                tree.step();
                weather.pass(&stand.proxy);
                thread::sleep(Duration::from_millis(dice.below(PAUSE_MS_MAX) as u64));
            }
            if phase + 1 < self.phases {
                mount = again(mount, &stand, &reader, &mut dice);
            }
        }
        let worked = began.elapsed();
        stand.proxy.mend();
        let (reads, failed) = reader.end();
        mount.sync();
        eprintln!(
            "{} calls and {reads} cold reads in {worked:.1?}, {} and {failed} reads failed; all in the store \
             {:.1?} later; injected {:?}",
            tree.calls,
            tree.failed_reads,
            began.elapsed() - worked,
            stand.proxy.injected(),
        );
        check_bucket(stand.bucket(), &tree);
        tree.check();
        let status = mount.status();
        assert_eq!(
            status["conflicts"]["total"], 0,
            "nobody else was there: {status}"
        );
        mount.unmount().is_sound(&[]);
    }
}

/// The daemon is killed or told to end, and mounts again, in some cases while the faults go on.
fn again(mount: Mount, stand: &Stand, reader: &Reader, dice: &mut Dice) -> Mount {
    reader.disturb();
    let stormy = dice.chance(40);
    if !stormy {
        stand.proxy.mend();
    }
    let options = match dice.below(3) {
        0 => mount.end_by(Signal::SIGTERM),
        _ => mount.crash(),
    };
    let mounted = match stormy.then(|| options.clone().try_start()) {
        Some(Ok(mount)) => mount,
        Some(Err(refused)) => {
            eprintln!("no mount meanwhile: {}", refused.said.trim());
            assert!(refused.code.is_some_and(|code| code > 0), "{refused:?}");
            stand.proxy.mend();
            options.start()
        }
        None => options.start(),
    };
    reader.disturb();
    mounted
}

/// Panics unless the bucket is exactly the tree: complete objects, no other keys, no unfinished uploads.
#[track_caller]
pub fn check_bucket(bucket: &Bucket, tree: &Tree) {
    let cold = COLD.iter().map(|(path, _)| (*path).to_owned());
    let mut wanted = tree.keys();
    wanted.extend(cold);
    wanted.insert("cold/".to_owned());
    let mut found: BTreeSet<String> = bucket.keys().into_iter().collect();
    found.retain(|key| !key.starts_with(".fused-probe-"));
    let report = |keys: Vec<&String>| -> Vec<String> {
        let lines = keys.into_iter();
        lines
            .map(|key| format!("{key}, of which: {:#?}", tree.history_of(key)))
            .collect()
    };
    let stray = report(not_in(&found, &wanted));
    let missing = report(not_in(&wanted, &found));
    assert!(
        stray.is_empty(),
        "nobody wants these objects: {}",
        stray.join("\n")
    );
    assert!(
        missing.is_empty(),
        "not in the bucket: {}",
        missing.join("\n")
    );
    for (path, content) in tree.files() {
        content.check(&object(bucket, path), &format!("object {path}"));
    }
    no_upload_is_left(bucket);
}

fn not_in<'a>(some: &'a BTreeSet<String>, others: &BTreeSet<String>) -> Vec<&'a String> {
    some.iter().filter(|key| !others.contains(*key)).collect()
}

/// Panics unless every multipart upload was completed or aborted. A mount that was refused because the store
/// was unwell may leave one of its probe, under a name of its own.
#[track_caller]
pub fn no_upload_is_left(bucket: &Bucket) {
    let mut left = Vec::new();
    let began = Instant::now();
    while began.elapsed() < CLEAN_UP_LIMIT {
        left = bucket.unfinished_uploads();
        left.retain(|key| !key.starts_with(".fused-probe-"));
        if left.is_empty() {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("uploads are left behind: {left:?}");
}

/// An object's bytes.
#[track_caller]
pub fn object(bucket: &Bucket, key: &str) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    assert!(bucket.get(key, file.path()), "no object {key}");
    fs::read(file.path()).expect("a fetched object")
}

/// Reads what is only in the store, again and again, in a thread of its own.
struct Reader {
    shared: Arc<Reading>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Reading {
    ended: AtomicBool,
    /// Moves before and after the daemon is away.
    disturbed: AtomicU64,
    reads: AtomicU64,
    failed: AtomicU64,
}

impl Reader {
    fn start(mount: &Mount, kind: Kind) -> Self {
        fs::create_dir(mount.join("cold")).expect("a folder");
        // SeaweedFS 4.48 may lose a marker that is put in the same millisecond as the first object below it (18 of
        // 6,000, by a plain client): the folder that it makes for the object takes the marker's place.
        mount.sync();
        for (number, (path, len)) in COLD.iter().enumerate() {
            fs::write(mount.join(path), cold(number, *len).bytes()).expect("a file");
        }
        mount.sync();
        free(&mount.join("cold"));
        let shared = Arc::new(Reading::default());
        let (reading, root) = (Arc::clone(&shared), mount.path().to_owned());
        let thread = thread::spawn(move || reading.read_all(&root, kind));
        Self { shared, thread }
    }

    fn disturb(&self) {
        self.shared.disturbed.fetch_add(1, Ordering::SeqCst);
    }

    /// How many reads there were, and how many of them failed.
    #[track_caller]
    fn end(self) -> (u64, u64) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.thread
            .join()
            .expect("every read was right or failed honestly");
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        (count(&self.shared.reads), count(&self.shared.failed))
    }
}

impl Reading {
    fn read_all(&self, root: &Path, kind: Kind) {
        while !self.ended.load(Ordering::SeqCst) {
            for (number, (path, len)) in COLD.iter().enumerate() {
                self.read(&root.join(path), &cold(number, *len), kind);
            }
            // The daemon may be away just now.
            let path = root.join("cold");
            fused([std::ffi::OsStr::new("free"), path.as_os_str()]);
        }
    }

    fn read(&self, path: &PathBuf, wanted: &Content, kind: Kind) {
        let before = self.disturbed.load(Ordering::SeqCst);
        let read = fs::read(path);
        let undisturbed =
            before.is_multiple_of(2) && self.disturbed.load(Ordering::SeqCst) == before;
        self.reads.fetch_add(1, Ordering::SeqCst);
        match read {
            Ok(bytes) => wanted.check(&bytes, &path.display().to_string()),
            Err(error) if undisturbed => {
                self.failed.fetch_add(1, Ordering::SeqCst);
                let honest = error.raw_os_error().is_some_and(|no| kind.allows(no));
                assert!(honest, "{}: {error}", path.display());
            }
            Err(_) => {}
        }
    }
}

fn cold(number: usize, len: usize) -> Content {
    Content::new(0xc01d_0000 + number as u64, len)
}

fn free(path: &Path) {
    fused([std::ffi::OsStr::new("free"), path.as_os_str()]).success();
}
