//! Test data that costs little to make and to check, and comparisons that say where things differ.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// Where tests keep their files: on the project's own disk, since `/tmp` may be memory.
pub(crate) fn scratch_base() -> PathBuf {
    let base = crate::programs::project().join("target/tmp");
    fs::create_dir_all(&base).expect("target/tmp");
    base.canonicalize().expect("target/tmp")
}

/// A folder of the test's own, gone when the guard goes.
pub fn scratch() -> TempDir {
    TempDir::with_prefix_in("fused-", scratch_base()).expect("a temporary folder")
}

/// Bytes that look random, are the same for the same seed, and come at gigabytes a second.
#[derive(Debug)]
pub struct Random(blake3::OutputReader);

impl Random {
    /// The endless sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self(
            blake3::Hasher::new()
                .update(&seed.to_le_bytes())
                .finalize_xof(),
        )
    }

    /// Its next bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill(&mut bytes);
        bytes
    }

    /// Writes `count` bytes of this seed to a new file in requests of 1 MiB; gives their digest.
    pub fn write_file(seed: u64, path: &Path, count: usize) -> blake3::Hash {
        let (mut random, mut digest) = (Self::new(seed), blake3::Hasher::new());
        let mut file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut left = count;
        while left > 0 {
            let chunk = random.bytes(left.min(MIB));
            digest.update(&chunk);
            file.write_all(&chunk)
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            left -= chunk.len();
        }
        digest.finalize()
    }
}

/// The digest of a file's content.
#[track_caller]
pub fn digest_of(path: &Path) -> blake3::Hash {
    let mut file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (mut digest, mut buffer) = (blake3::Hasher::new(), vec![0; MIB]);
    loop {
        match file
            .read(&mut buffer)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        {
            0 => return digest.finalize(),
            count => digest.update(&buffer[..count]),
        };
    }
}

/// Panics unless both files have the same bytes; says where they first differ.
#[track_caller]
pub fn same_bytes(one: &Path, other: &Path) {
    let open = |path: &Path| BufReader::with_capacity(MIB, File::open(path).expect("a file"));
    let size = |path: &Path| fs::metadata(path).expect("a file").len();
    assert_eq!(
        size(one),
        size(other),
        "sizes of {} and {}",
        one.display(),
        other.display()
    );
    let (mut a, mut b, mut offset) = (open(one), open(other), 0);
    let (mut left, mut right) = (vec![0; MIB], vec![0; MIB]);
    loop {
        let count = a.read(&mut left).expect("bytes");
        b.read_exact(&mut right[..count]).expect("bytes");
        if count == 0 {
            return;
        }
        let differs = left[..count]
            .iter()
            .zip(&right[..count])
            .position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!(
                "{} and {} differ at byte {}",
                one.display(),
                other.display(),
                offset + at
            );
        }
        offset += count;
    }
}

/// Panics unless both folders hold the same names, kinds, permissions, links and contents.
#[track_caller]
pub fn same_tree(one: &Path, other: &Path) {
    let (left, right) = (tree(one), tree(other));
    for name in left.keys().chain(right.keys()) {
        assert_eq!(
            left.get(name),
            right.get(name),
            "{} in {} and {}",
            String::from_utf8_lossy(name),
            one.display(),
            other.display()
        );
    }
}

/// Every path below `base` with what it is, in a form that compares and prints.
fn tree(base: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![base.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).expect("a folder") {
            let path = entry.expect("an entry").path();
            let about = path.symlink_metadata().expect("attributes");
            let mode = about.mode() & 0o7777;
            let what = if about.is_dir() {
                pending.push(path.clone());
                format!("directory {mode:o}")
            } else if about.is_symlink() {
                format!(
                    "link to {}",
                    fs::read_link(&path).expect("a link").display()
                )
            } else if about.file_type().is_fifo() {
                format!("fifo {mode:o}")
            } else {
                format!(
                    "file {mode:o} of {} bytes, {}",
                    about.len(),
                    digest_of(&path)
                )
            };
            let name = path
                .strip_prefix(base)
                .expect("below")
                .as_os_str()
                .as_bytes()
                .to_vec();
            found.insert(name, what);
        }
    }
    found
}

/// Waits for something that happens outside this process and announces itself to nobody.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < limit, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
