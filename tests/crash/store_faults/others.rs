//! Somebody else writes to the bucket meanwhile. Whoever replaces a version must have known it: both
//! versions are kept otherwise, ours as `NAME.conflict-...`.
//!
//! The other client is careful: it replaces only the version that it has read (`If-Match`), so what it
//! replaces is given up knowingly. The mount believes its listing for an hour, so it never sees what the
//! other one wrote, and must therefore never replace it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Bucket, Fault, Mount, MountOptions, fused};

use super::faults::{Kind, Weather};
use super::round::{Stand, no_upload_is_left, object};
use crate::content::{self, Dice};

/// Names that both write.
const NAMES: [&str; 6] = ["p0", "p1", "p2", "d/p3", "d/p4", "d/p5"];
const LARGE_BYTES: usize = 9 << 20;

fn unseeing(stand: &Stand) -> MountOptions {
    stand.options().option("revalidate=1h")
}

fn is_conflict(key: &str, of: &str) -> bool {
    key.starts_with(&format!("{of}.conflict-"))
}

/// Both versions of `key` are in the bucket, and ours is on the mount under its new name.
#[track_caller]
fn both_are_kept(stand: &Stand, mount: &Mount, key: &str, theirs: &[u8], ours: &[u8]) {
    mount.sync();
    assert!(
        object(stand.bucket(), key) == theirs,
        "{key} is not theirs any more"
    );
    let keys = stand.bucket().keys();
    let kept: Vec<_> = keys
        .iter()
        .filter(|found| is_conflict(found, key))
        .collect();
    assert_eq!(kept.len(), 1, "{keys:?}");
    assert!(
        object(stand.bucket(), kept[0]) == ours,
        "{} is not ours",
        kept[0]
    );
    assert!(fs::read(mount.join(kept[0])).expect("our version") == ours);
    assert_eq!(mount.status()["conflicts"]["total"], 1);
}

#[test]
fn a_version_put_before_our_upload_stays() {
    harness::require_mounts!();
    let stand = Stand::new();
    let mount = unseeing(&stand).option("settle=10m").start();
    fs::write(mount.join("f"), "ours").expect("a file");
    stand.bucket().put("f", "theirs");
    both_are_kept(&stand, &mount, "f", b"theirs", b"ours");
}

#[test]
fn a_version_put_over_ours_stays_when_ours_is_written_again() {
    harness::require_mounts!();
    let stand = Stand::new();
    let mount = unseeing(&stand).start();
    fs::write(mount.join("f"), "ours, old").expect("a file");
    mount.sync();
    stand.bucket().put("f", "theirs");
    fs::write(mount.join("f"), "ours, new").expect("a file");
    both_are_kept(&stand, &mount, "f", b"theirs", b"ours, new");
}

#[test]
fn a_version_put_before_an_upload_is_completed_stays() {
    harness::require_mounts!();
    let stand = Stand::new();
    let mount = unseeing(&stand).start();
    let ours = content::version(7, LARGE_BYTES);
    stand
        .proxy
        .hold(|line| line.starts_with("POST") && line.contains("uploadId="));
    fs::write(mount.join("f"), &ours).expect("a file");
    stand.proxy.wait_for_held();
    stand.bucket().put("f", "theirs");
    stand.proxy.release();
    both_are_kept(&stand, &mount, "f", b"theirs", &ours);
    assert!(stand.bucket().unfinished_uploads().is_empty());
}

#[test]
fn a_version_put_over_ours_stays_when_we_never_heard_that_ours_arrived() {
    harness::require_mounts!();
    let stand = Stand::new();
    let mount = unseeing(&stand).start();
    // The put is done and nobody hears of it; whatever asks for it is not answered.
    let mut lost = false;
    stand.proxy.judge(move |line| {
        let put = line.starts_with("PUT") && !std::mem::replace(&mut lost, true);
        Some(match put {
            true => Fault::LoseAnswer,
            false => Fault::Refuse(503, "SlowDown"),
        })
    });
    fs::write(mount.join("f"), "ours").expect("a file");
    harness::wait_until("ours is there", Duration::from_secs(20), || {
        stand.bucket().text("f").as_deref() == Some("ours")
    });
    stand.bucket().put("f", "theirs");
    stand.proxy.mend();
    both_are_kept(&stand, &mount, "f", b"theirs", b"ours");
}

#[test]
fn a_version_put_over_ours_stays_when_ours_is_removed_or_renamed() {
    harness::require_mounts!();
    let stand = Stand::new();
    let mount = unseeing(&stand).start();
    for name in ["removed", "renamed", "replaced"] {
        fs::write(mount.join(name), "ours").expect("a file");
    }
    fs::write(mount.join("other"), "other").expect("a file");
    mount.sync();
    for name in ["removed", "renamed", "replaced"] {
        stand.bucket().put(name, "theirs");
    }
    fs::remove_file(mount.join("removed")).expect("ours");
    fs::rename(mount.join("renamed"), mount.join("new")).expect("ours");
    fs::rename(mount.join("other"), mount.join("replaced")).expect("ours");
    mount.sync();
    for name in ["removed", "renamed", "replaced"] {
        assert_eq!(
            stand.bucket().text(name).as_deref(),
            Some("theirs"),
            "{name}"
        );
    }
    assert_eq!(stand.bucket().text("new").as_deref(), Some("ours"));
    let keys = stand.bucket().keys();
    let kept = keys.iter().find(|key| is_conflict(key, "replaced"));
    let kept = kept.unwrap_or_else(|| panic!("our version is gone: {keys:?}"));
    assert_eq!(stand.bucket().text(kept).as_deref(), Some("other"));
}

/// The bytes that were replaced were only there: what is left is theirs, under both names.
#[test]
fn a_version_put_over_ours_stays_when_ours_is_renamed_and_not_cached() {
    harness::require_mounts!();
    let stand = Stand::new();
    let mount = unseeing(&stand).start();
    for name in ["renamed", "changed"] {
        fs::write(mount.join(name), "ours").expect("a file");
    }
    mount.sync();
    fused([std::ffi::OsStr::new("free"), mount.path().as_os_str()]).success();
    for name in ["renamed", "changed"] {
        stand.bucket().put(name, "theirs");
    }
    fs::rename(mount.join("renamed"), mount.join("new")).expect("ours");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(mount.join("changed"), mode).expect("ours");
    mount.sync();
    for name in ["renamed", "changed", "new"] {
        assert_eq!(
            stand.bucket().text(name).as_deref(),
            Some("theirs"),
            "{name}"
        );
    }
    assert_eq!(fs::read(mount.join("new")).expect("a file"), b"theirs");
}

#[test]
fn an_object_that_somebody_deleted_is_written_again_with_the_next_version() {
    harness::require_mounts!();
    let stand = Stand::new();
    let mount = unseeing(&stand).start();
    fs::write(mount.join("f"), "ours, old").expect("a file");
    mount.sync();
    stand.bucket().delete("f");
    fs::write(mount.join("f"), "ours, new").expect("a file");
    mount.sync();
    assert_eq!(stand.bucket().text("f").as_deref(), Some("ours, new"));
    assert_eq!(mount.status()["conflicts"]["total"], 0);
}

#[test]
fn nothing_that_two_wrote_at_random_is_gone() {
    harness::require_mounts!();
    let seed = super::seed();
    for kind in [None, Some(Kind::All)] {
        meddle(seed, kind, Duration::from_secs(6));
    }
}

#[test]
#[ignore = "takes minutes"]
fn nothing_that_two_wrote_at_random_is_gone_for_long() {
    harness::require_mounts!();
    for _ in 0..4 {
        meddle(super::seed(), Some(Kind::All), Duration::from_secs(60));
        meddle(super::seed(), None, Duration::from_secs(30));
    }
}

fn meddle(seed: u64, kind: Option<Kind>, time: Duration) {
    let stand = Stand::new();
    let mount = unseeing(&stand).start();
    fs::create_dir(mount.join("d")).expect("a folder");
    mount.sync();
    let mut both = Both::new(seed, mount.path());
    let mut weather = kind.map(|kind| Weather::new(kind, seed, Duration::from_millis(700)));
    if let Some(weather) = &mut weather {
        weather.begin(&stand.proxy);
    }
    let until = Instant::now() + time;
    while Instant::now() < until {
        match both.dice.chance(60) {
            true => both.program(),
            false => both.other(stand.bucket()),
        }
        if let Some(weather) = &mut weather {
            weather.pass(&stand.proxy);
        }
        thread::sleep(Duration::from_millis(both.dice.below(50) as u64));
    }
    stand.proxy.mend();
    mount.sync();
    both.check(stand.bucket(), &mount);
}

/// What the programs on the mount and the other client wrote.
struct Both {
    root: std::path::PathBuf,
    dice: Dice,
    next: u64,
    /// Every version ever written, with its length.
    lengths: BTreeMap<u64, usize>,
    /// The versions that nobody gave up.
    wanted: BTreeSet<u64>,
    /// What the programs wrote last under a name.
    ours: BTreeMap<&'static str, u64>,
    theirs: BTreeSet<u64>,
    history: Vec<String>,
}

impl Both {
    fn new(seed: u64, root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            dice: Dice::new(seed),
            next: 1 << 40,
            lengths: BTreeMap::new(),
            wanted: BTreeSet::new(),
            ours: BTreeMap::new(),
            theirs: BTreeSet::new(),
            history: Vec::new(),
        }
    }

    fn version(&mut self) -> (u64, Vec<u8>) {
        self.next += 1;
        let len = match self.dice.chance(8) {
            true => LARGE_BYTES,
            false => 20 + self.dice.below(20_000),
        };
        self.lengths.insert(self.next, len);
        (self.next, content::version(self.next, len))
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.dice.below(NAMES.len())]
    }

    /// One operation of a program. What a conflict has moved away is not found: then nothing happened.
    fn program(&mut self) {
        let (name, to) = (self.name(), self.name());
        let path = self.root.join(name);
        match self.dice.below(10) {
            0..6 => {
                let (number, bytes) = self.version();
                self.history.push(format!("we write {number} to {name}"));
                // Written from the moment when it is begun, given up from the moment when it is done.
                self.wanted.insert(number);
                fs::write(&path, bytes).expect("a write without an error");
                if let Some(old) = self.ours.insert(name, number) {
                    self.wanted.remove(&old);
                }
            }
            6..8 => {
                let renamed = found(fs::rename(&path, self.root.join(to)));
                self.history
                    .push(format!("we rename {name} to {to}: {renamed}"));
                if name == to {
                    return;
                }
                let moved = self.ours.remove(name).filter(|_| renamed);
                let replaced = moved.and_then(|number| self.ours.insert(to, number));
                if let Some(old) = replaced {
                    self.wanted.remove(&old);
                }
            }
            _ => {
                let removed = found(fs::remove_file(&path));
                self.history.push(format!("we remove {name}: {removed}"));
                if let (true, Some(number)) = (removed, self.ours.remove(name)) {
                    self.wanted.remove(&number);
                }
            }
        }
    }

    /// The other client replaces, makes or deletes an object.
    fn other(&mut self, bucket: &Bucket) {
        let name = self.name();
        let Some(etag) = bucket.head(name).map(|head| head.etag) else {
            let (number, bytes) = self.version();
            if bucket.put_if(name, &bytes, None) {
                self.theirs_is(number, name, None);
            }
            return;
        };
        let Some(there) = self.version_at(bucket, name) else {
            return;
        };
        if self.theirs.contains(&there) && self.dice.chance(40) {
            // Nobody else replaces this one, so nothing else can be deleted.
            bucket.delete(name);
            self.history.push(format!("they delete {there} at {name}"));
            self.wanted.remove(&there);
            return;
        }
        let (number, bytes) = self.version();
        if bucket.put_if(name, &bytes, Some(&etag)) {
            self.theirs_is(number, name, Some(there));
        }
    }

    fn theirs_is(&mut self, number: u64, name: &str, old: Option<u64>) {
        self.history
            .push(format!("they put {number} at {name} over {old:?}"));
        self.theirs.insert(number);
        self.wanted.insert(number);
        if let Some(old) = old {
            self.wanted.remove(&old);
        }
    }

    /// The complete version at a key; None if there is no object any more.
    #[track_caller]
    fn version_at(&self, bucket: &Bucket, key: &str) -> Option<u64> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let bytes = bucket
            .get(key, file.path())
            .then(|| fs::read(file.path()).expect("a fetched object"))?;
        Some(self.version_of(key, &bytes))
    }

    #[track_caller]
    fn version_of(&self, place: &str, bytes: &[u8]) -> u64 {
        let number = content::claimed_version(bytes).unwrap_or(0);
        let len = self.lengths.get(&number).copied();
        let whole = len.is_some_and(|len| bytes == content::version(number, len));
        assert!(
            whole,
            "{place}: {} bytes are no complete version",
            bytes.len()
        );
        number
    }

    #[track_caller]
    fn check(&self, bucket: &Bucket, mount: &Mount) {
        let keys = bucket.keys();
        let files = keys.iter().filter(|key| !key.ends_with('/'));
        let there: BTreeMap<u64, &String> = files
            .filter_map(|key| Some((self.version_at(bucket, key)?, key)))
            .collect();
        let gone: Vec<_> = self
            .wanted
            .iter()
            .filter(|number| !there.contains_key(number))
            .collect();
        assert!(
            gone.is_empty(),
            "nobody gave these up, and they are gone: {gone:?}; {there:?}\n{}",
            self.history.join("\n")
        );
        let conflicts = keys.iter().filter(|key| key.contains(".conflict-")).count();
        eprintln!(
            "{} versions, {} of them wanted and found, {conflicts} conflicts; status {}",
            self.lengths.len(),
            self.wanted.len(),
            mount.status()["conflicts"]["total"]
        );
        no_upload_is_left(bucket);
    }
}

/// False for what is not there; every other error is one.
fn found(done: io::Result<()>) -> bool {
    match done {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => panic!("a program saw an error: {error}"),
    }
}
