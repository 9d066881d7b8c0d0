//! The disk that the cache is on fills up: by others, by passthrough writers, by both, and while programs work.
//!
//! A program is told ENOSPC, or waits; nothing that was acknowledged is lost or changed by it; and when there is
//! space again everything goes on by itself, with the same daemon, and arrives in the store.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Device, Mount, Store};
use nix::errno::Errno;

use crate::content::{self, Dice};

const DISK_BYTES: u64 = 768 << 20;
const WORKERS: usize = 3;
const NAMES: usize = 40;
const FILE_BYTES_MAX: usize = 3 << 20;

/// How long the disk stays full.
const FULL_FOR: Duration = Duration::from_millis(2500);

/// How long the work goes on with space between.
const EMPTY_FOR: Duration = Duration::from_millis(800);

/// By when new files are welcome again after space was freed: `dirty_wait` and some looks of the evictor.
const RECOVERS_WITHIN: Duration = Duration::from_secs(15);

/// Which mount, and how often its disk is filled.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub passthrough: &'static str,
    pub bucket: bool,
    pub cycles: usize,
    pub limit: Limit,
}

/// What there is no more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Blocks of the disk.
    Disk,
    /// What the user, or the folder, may have of it.
    Quota,
}

impl Limit {
    /// So much of it; the reason, where there is no such thing.
    fn device(self, bytes: u64) -> Result<Device, String> {
        match self {
            Limit::Disk => Ok(Device::ext4(bytes)),
            Limit::Quota => Device::btrfs_with_quota(4 * bytes, bytes),
        }
    }

    /// Whether a program may be told so.
    fn allows(self, error: &io::Error) -> bool {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC) => true,
            // Where the kernel writes by itself.
            Some(Errno::EDQUOT) => self == Limit::Quota,
            _ => false,
        }
    }
}

/// What a worker knows of its files: the version and length that were acknowledged.
#[derive(Debug, Default)]
struct Book {
    files: BTreeMap<PathBuf, (u64, usize)>,
    acknowledged: u64,
    refused: u64,
    /// Files that could not even be removed; nothing is promised of them.
    unknown: Vec<PathBuf>,
}

struct Worker {
    at: PathBuf,
    dice: Dice,
    number: u64,
    book: Book,
    limit: Limit,
}

impl Worker {
    fn run(mut self, stop: &AtomicBool) -> Book {
        while !stop.load(Ordering::Relaxed) {
            let path = self.at.join(format!("f{}", self.dice.below(NAMES)));
            match self.dice.below(100) {
                0..50 => self.overwrite(&path),
                50..70 => self.replace(&path),
                70..80 => self.remove(&path),
                _ => self.read(&path),
            }
        }
        self.book
    }

    fn next_version(&mut self) -> (u64, usize) {
        self.number += 1;
        let len = match self.dice.chance(60) {
            true => content::VERSION_BYTES_MIN + self.dice.below(16 << 10),
            false => content::VERSION_BYTES_MIN + self.dice.below(FILE_BYTES_MAX),
        };
        (self.number, len)
    }

    /// In place, as torch.save does.
    fn overwrite(&mut self, path: &Path) {
        let version = self.next_version();
        let file = match File::create(path) {
            Ok(file) => file,
            // Refused before anything was changed: what was there is still there.
            Err(error) => return self.refused("creating", path, &error),
        };
        self.book.files.remove(path);
        match write_and_close(file, version, self.dice.chance(30)) {
            Ok(()) => self.acknowledge(path, version),
            Err(error) => {
                self.refused("writing", path, &error);
                self.clean_up(path);
            }
        }
    }

    /// By a temporary file, as safetensors does.
    fn replace(&mut self, path: &Path) {
        let version = self.next_version();
        let temporary = path.with_extension("tmp");
        let file = match File::create(&temporary) {
            Ok(file) => file,
            Err(error) => return self.refused("creating", &temporary, &error),
        };
        if let Err(error) = write_and_close(file, version, false) {
            self.refused("writing", &temporary, &error);
            return self.clean_up(&temporary);
        }
        match fs::rename(&temporary, path) {
            Ok(()) => self.acknowledge(path, version),
            Err(error) => {
                self.refused("renaming", &temporary, &error);
                self.clean_up(&temporary);
            }
        }
    }

    fn remove(&mut self, path: &Path) {
        match fs::remove_file(path) {
            Ok(()) => drop(self.book.files.remove(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                assert!(!self.book.files.contains_key(path), "{path:?} is gone");
            }
            Err(error) => self.refused("removing", path, &error),
        }
    }

    fn read(&mut self, path: &Path) {
        let Some(&(number, len)) = self.book.files.get(path) else {
            return;
        };
        match fs::read(path) {
            Ok(bytes) => assert_eq!(content::difference(&bytes, number, len), None, "{path:?}"),
            Err(error) => self.refused("reading", path, &error),
        }
    }

    fn acknowledge(&mut self, path: &Path, version: (u64, usize)) {
        self.book.acknowledged += 1;
        self.book.unknown.retain(|unknown| unknown != path);
        self.book.files.insert(path.to_owned(), version);
    }

    #[track_caller]
    fn refused(&mut self, what: &str, path: &Path, error: &io::Error) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        assert!(self.limit.allows(error), "{what} {path:?} {now:?}: {error}");
        self.book.refused += 1;
        // A program that is refused does not come back at once.
        thread::sleep(Duration::from_millis(20));
    }

    fn clean_up(&mut self, path: &Path) {
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                self.refused("cleaning up", path, &error);
                self.book.unknown.push(path.to_owned());
            }
        }
    }
}

fn write_and_close(mut file: File, (number, len): (u64, usize), sync: bool) -> io::Result<()> {
    for chunk in content::version(number, len).chunks(1 << 20) {
        file.write_all(chunk)?;
    }
    if sync {
        file.sync_all()?;
    }
    // Dropping it would not tell of an error.
    Ok(nix::unistd::close(file.into_raw_fd())?)
}

/// Somebody else's files on the disk.
struct Filler {
    at: PathBuf,
    file: Option<File>,
}

impl Filler {
    /// Takes all there is, to the last block.
    fn take_all(&mut self) {
        let path = self.at.clone();
        let file = self.file.get_or_insert_with(|| {
            let mut options = OpenOptions::new();
            let opened = options.create(true).append(true).open(path);
            opened.expect("a filler")
        });
        for bytes in [4 << 20, 64 << 10, 4 << 10] {
            let zeros = vec![0; bytes];
            while matches!(file.write(&zeros), Ok(written) if written == bytes) {}
        }
    }

    /// Leaves so much.
    fn leave(&mut self, bytes: u64) {
        self.take_all();
        if let Some(file) = &self.file {
            let len = file.metadata().expect("the filler").len();
            file.set_len(len.saturating_sub(bytes)).expect("shorter");
        }
    }

    fn go(&mut self) {
        self.file = None;
        fs::remove_file(&self.at).expect("the filler");
    }
}

impl Plan {
    pub fn run(self) {
        harness::require_mounts!();
        let seed = match std::env::var("CRASH_SEED") {
            Ok(seed) => seed.parse().expect("a number"),
            Err(_) => Dice::new(std::process::id().into()).next(),
        };
        eprintln!("CRASH_SEED={seed} {self:?}");
        let store = match self.bucket {
            true => Store::seaweedfs(),
            false => Store::folder(),
        };
        let disk = match self.limit.device(DISK_BYTES) {
            Ok(disk) => disk,
            Err(reason) => return harness::skip(&reason),
        };
        let mut mount = mount_on(&store, &disk, self.passthrough);
        let pid = mount.daemon().pid();
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..WORKERS)
            .map(|nr| {
                let at = mount.join(format!("w{nr}"));
                fs::create_dir(&at).expect("a folder");
                let worker = Worker {
                    at,
                    dice: Dice::new(seed ^ nr as u64),
                    number: (nr as u64) << 32,
                    book: Book::default(),
                    limit: self.limit,
                };
                let stop = Arc::clone(&stop);
                thread::spawn(move || worker.run(&stop))
            })
            .collect();
        let mut filler = Filler {
            at: disk.path().join("filler"),
            file: None,
        };
        let mut slowest = Duration::ZERO;
        for cycle in 0..self.cycles {
            thread::sleep(EMPTY_FOR);
            match self.limit {
                Limit::Disk => fill(&mut filler, cycle),
                // A file on btrfs can't be shortened then.
                Limit::Quota => fill(&mut filler, cycle % 2),
            }
            filler.go();
            slowest = slowest.max(recovers(&mount));
        }
        stop.store(true, Ordering::Relaxed);
        let books: Vec<_> = workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker that is content"))
            .collect();
        mount.sync();
        check(&mount, &store, &books);
        assert_eq!(mount.daemon().pid(), pid);
        assert!(mount.daemon().ended().is_none(), "the daemon has ended");
        let log = mount.log();
        assert!(!log.contains("poisoned"), "{log}");
        let sum = |of: fn(&Book) -> u64| books.iter().map(of).sum::<u64>();
        let (acknowledged, refused) = (sum(|book| book.acknowledged), sum(|book| book.refused));
        eprintln!(
            "{} fillings: {acknowledged} versions acknowledged, {refused} calls refused, space noticed within \
             {slowest:.1?}, journal opened again {} times",
            self.cycles,
            log.matches("journal has been opened again").count()
        );
        assert!(refused > 0, "the disk was never full");
        mount.unmount();
    }
}

fn mount_on(store: &Store, disk: &Device, passthrough: &str) -> Mount {
    let cache = disk.path().join("cache");
    Mount::of(store)
        .option(format!("cache_dir={}", cache.display()))
        .option(passthrough)
        .option("dirty_wait=1s")
        .option("settle=0s")
        .env(
            "RUST_LOG",
            &std::env::var("DISKS_LOG").unwrap_or("info".into()),
        )
        .start()
}

/// Full to the last block again and again, full once, and nearly full.
fn fill(filler: &mut Filler, cycle: usize) {
    let began = Instant::now();
    match cycle % 3 {
        0 => {
            while began.elapsed() < FULL_FOR {
                filler.take_all();
                thread::sleep(Duration::from_millis(5));
            }
        }
        1 => {
            filler.take_all();
            thread::sleep(FULL_FOR);
        }
        _ => {
            for percent in [5, 3, 2, 1] {
                filler.leave(DISK_BYTES / 100 * percent);
                thread::sleep(FULL_FOR / 4);
            }
        }
    }
}

/// How long it takes until something new can be made.
fn recovers(mount: &Mount) -> Duration {
    let began = Instant::now();
    while let Err(error) = fs::write(mount.join("probe"), "room") {
        assert!(
            began.elapsed() < RECOVERS_WITHIN,
            "there is space again, and nothing goes on: {error}"
        );
        thread::sleep(Duration::from_millis(50));
    }
    began.elapsed()
}

fn check(mount: &Mount, store: &Store, books: &[Book]) {
    for book in books {
        for (path, &(number, len)) in &book.files {
            let here = fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            assert_eq!(content::difference(&here, number, len), None, "{path:?}");
            let key = path.strip_prefix(mount.path()).expect("on the mount");
            let object = store.get(key.to_str().expect("a plain name"));
            let object = object.unwrap_or_else(|| panic!("{path:?} has no object"));
            assert_eq!(
                content::difference(&object, number, len),
                None,
                "the object of {path:?}"
            );
        }
    }
    let known = |path: &Path| {
        let mut books = books.iter();
        books.any(|book| book.files.contains_key(path) || book.unknown.iter().any(|u| u == path))
    };
    for key in store.files() {
        let path = mount.join(&key);
        assert!(key == "probe" || known(&path), "{key} was taken back");
    }
}

#[test]
fn a_disk_filled_by_others_while_the_kernel_writes() {
    Plan {
        passthrough: "passthrough=auto",
        bucket: false,
        cycles: 6,
        limit: Limit::Disk,
    }
    .run();
}

#[test]
fn a_disk_filled_by_others_while_the_daemon_writes() {
    Plan {
        passthrough: "passthrough=off",
        bucket: false,
        cycles: 6,
        limit: Limit::Disk,
    }
    .run();
}

#[test]
#[ignore = "takes minutes"]
fn a_disk_filled_by_others_for_long() {
    for passthrough in ["passthrough=auto", "passthrough=off"] {
        for bucket in [false, true] {
            Plan {
                passthrough,
                bucket,
                cycles: 30,
                limit: Limit::Disk,
            }
            .run();
        }
    }
}

/// One program writes more than the disk holds. What it was told is written is what there is.
pub fn outruns(limit: Limit, passthrough: &str) {
    harness::require_mounts!();
    let store = Store::folder();
    let disk = match limit.device(256 << 20) {
        Ok(disk) => disk,
        Err(reason) => return harness::skip(&reason),
    };
    let mount = mount_on(&store, &disk, passthrough);
    fs::write(mount.join("before"), "kept").expect("a small file");
    let mut file = File::create(mount.join("big")).expect("a new file");
    let chunk = content::log(7, 1 << 20);
    let mut acknowledged = 0;
    let error = loop {
        match file.write(&chunk) {
            Ok(written) => acknowledged += written,
            Err(error) => break error,
        }
        assert!(acknowledged < 400 << 20, "the disk is not that large");
    };
    assert!(limit.allows(&error), "{error}");
    file.sync_all().expect("what is written can be synced");
    nix::unistd::close(file.into_raw_fd()).expect("and closed");
    let size = fs::metadata(mount.join("big")).expect("the file").len();
    // The kernel may have written a part of the last chunk without a word.
    assert!((acknowledged as u64..acknowledged as u64 + chunk.len() as u64).contains(&size));
    mount.sync();
    let object = store.get("big").expect("the object");
    assert_eq!(object.len() as u64, size);
    let mut chunks = object.chunks(chunk.len()).take(acknowledged / chunk.len());
    assert!(chunks.all(|bytes| bytes == chunk));
    assert_eq!(store.get("before").as_deref(), Some(&b"kept"[..]));
    fs::write(mount.join("after"), "it goes on").expect("room, since the big file is in the store");
}

#[test]
fn a_program_that_outruns_the_disk_through_the_kernel() {
    outruns(Limit::Disk, "passthrough=auto");
}

#[test]
fn a_program_that_outruns_the_disk_through_the_daemon() {
    outruns(Limit::Disk, "passthrough=off");
}

/// Opening with O_TRUNC is refused before the old content goes.
#[test]
fn a_refused_overwrite_leaves_the_old_file() {
    harness::require_mounts!();
    let store = Store::folder();
    let disk = Device::ext4(256 << 20);
    let mount = mount_on(&store, &disk, "passthrough=auto");
    fs::write(mount.join("f"), "the old content").expect("a small file");
    mount.sync();
    let mut filler = Filler {
        at: disk.path().join("filler"),
        file: None,
    };
    // The reserve is given up and taken, too.
    for _ in 0..20 {
        filler.take_all();
        let refused = File::create(mount.join("f"));
        if let Err(error) = &refused {
            assert_eq!(error.raw_os_error(), Some(Errno::ENOSPC as i32), "{error}");
            break;
        }
        let mut file = refused.expect("checked above");
        file.write_all(b"the old content").expect("a small file");
    }
    let there = fs::read(mount.join("f")).expect("it can still be read");
    assert_eq!(there, b"the old content");
    filler.go();
    recovers(&mount);
    mount.sync();
    assert_eq!(store.get("f").as_deref(), Some(&b"the old content"[..]));
}

/// The extent file of a mount's only regular file may only be appended to, as chattr(1) has it: no quota is needed
/// to make truncating it fail.
fn append_only(cache: &Path, only: bool) {
    let shards = fs::read_dir(cache.join("extents")).expect("extents");
    let files = shards
        .flatten()
        .filter_map(|shard| fs::read_dir(shard.path()).ok());
    let mut files = files.flatten().flatten();
    let extents = files.next().expect("an extent file").path();
    assert!(files.next().is_none(), "several extent files");
    let flag = if only { "+a" } else { "-a" };
    let done = Command::new("chattr").arg(flag).arg(&extents).status();
    assert!(done.expect("chattr").success());
}

fn refused_truncations(passthrough: &str) {
    harness::require_mounts!();
    let store = Store::folder();
    let disk = Device::ext4(256 << 20);
    let mount = mount_on(&store, &disk, passthrough);
    let (cache, path) = (disk.path().join("cache"), mount.join("f"));
    let content = content::log(11, 100_000);
    fs::write(&path, &content).expect("a small file");
    mount.sync();
    let is_as_it_was = |when: &str| {
        assert_eq!(
            fs::metadata(&path).expect("the file").len(),
            100_000,
            "{when}"
        );
        assert!(fs::read(&path).expect("the file") == content, "{when}");
    };

    append_only(&cache, true);
    nix::unistd::truncate(&path, 10).expect_err("truncate(2)");
    append_only(&cache, false);
    is_as_it_was("truncated while nobody had it open");

    let held = OpenOptions::new().read(true).write(true).open(&path);
    let held = held.expect("the file");
    append_only(&cache, true);
    held.set_len(10).expect_err("ftruncate(2)");
    is_as_it_was("truncated while it was open");
    File::create(&path).expect_err("open(2) with O_TRUNC");
    is_as_it_was("opened with O_TRUNC while it was open");
    append_only(&cache, false);
    drop(held);
    is_as_it_was("after it was closed");

    mount.sync();
    assert!(store.get("f").as_ref() == Some(&content));
    nix::unistd::truncate(&path, 10).expect("nothing is in the way now");
    assert!(fs::read(&path).expect("the file") == content[..10]);
    mount.unmount();
}

#[test]
fn a_refused_truncation_leaves_what_the_kernel_writes() {
    refused_truncations("passthrough=auto");
}

#[test]
fn a_refused_truncation_leaves_what_the_daemon_writes() {
    refused_truncations("passthrough=off");
}

#[test]
fn a_daemon_that_was_killed_on_a_full_disk_starts_on_it() {
    harness::require_mounts!();
    let store = Store::folder();
    let disk = Device::ext4(256 << 20);
    let mount = mount_on(&store, &disk, "passthrough=auto");
    mount.sync();
    store.put("theirs", "not fetched yet");
    let kept = content::log(9, 5 << 20);
    fs::write(mount.join("kept"), &kept).expect("a file");
    let mut filler = Filler {
        at: disk.path().join("filler"),
        file: None,
    };
    filler.take_all();
    let mount = mount.crash().start();
    assert!(fs::read(mount.join("kept")).expect("the file") == kept);
    mount.sync();
    assert!(store.get("kept") == Some(kept));
    let there = fs::read(mount.join("theirs")).expect("fetched to a full disk");
    assert_eq!(there, b"not fetched yet");
    filler.go();
    recovers(&mount);
    mount.unmount();
}
