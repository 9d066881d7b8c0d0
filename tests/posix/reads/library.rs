//! Files with known content, in versions, and who reads them.
//!
//! While a program has a file open, all that open it see the same version: the kernel keeps one file's pages once. So
//! which version is the oldest that an open may show is decided when the first one opens the file.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use harness::{Bucket, Random};

/// From nothing to some requests' worth; odd ends, and borders of pages and requests.
const SIZES: &[usize] = &[
    0, 1, 4095, 4096, 4097, 33_000, 65_536, 100_001, 262_144, 262_145, 900_000, 1_048_576,
    3_000_007, 5_242_880, 8_388_608, 8_388_609, 20_000_003,
];

/// All files.
pub struct Library {
    seed: u64,
    files: Vec<Mutex<File>>,
}

#[derive(Default)]
struct File {
    /// Every version whose put has begun, the newest last.
    versions: Vec<Arc<Vec<u8>>>,
    /// Versions whose put has ended.
    ended: usize,
    /// Readers that have it open, the oldest version that they may see, and when the last one left.
    readers: usize,
    oldest: usize,
    left: Option<Instant>,
}

/// The daemon learns of a close some time after it.
const CLOSED_AFTER: Duration = Duration::from_secs(1);

/// A file that a reader has open.
pub struct Opened<'a> {
    library: &'a Library,
    file: usize,
    /// The oldest version that it may show, and the newest that was there before it was opened.
    pub oldest: usize,
    newest: usize,
}

impl Opened<'_> {
    /// Versions that it may show. The second says whether another one has come since it was opened.
    pub fn versions(&self) -> (Vec<Arc<Vec<u8>>>, bool) {
        self.library.file(self.file, |file| {
            let was_replaced = file.versions.len() > self.newest + 1 || self.newest > self.oldest;
            (file.versions[self.oldest..].to_vec(), was_replaced)
        })
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.library.file(self.file, |file| {
            file.readers -= 1;
            file.left = Some(Instant::now());
        });
    }
}

impl Library {
    /// Files without a version yet.
    pub fn new(seed: u64) -> Library {
        Library {
            seed,
            files: SIZES.iter().map(|_| Mutex::default()).collect(),
        }
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Its key, and its path below the mount.
    pub fn name(&self, file: usize) -> String {
        format!("shelf-{}/book-{file}", file % 3)
    }

    /// Bytes of the newest versions.
    pub fn bytes(&self) -> u64 {
        let lens = (0..self.len()).map(|file| self.file(file, |file| file.newest_bytes()));
        lens.sum()
    }

    /// Writes another version, of another length, past the mount.
    pub fn put(&self, file: usize, bucket: &Bucket) {
        let number = self.file(file, |file| file.versions.len());
        let bytes = match number {
            0 => SIZES[file],
            _ => SIZES[file] + number * 977 % 5000,
        };
        let seed = self.seed ^ (file as u64) << 32 ^ (number as u64) << 8;
        let content = Arc::new(Random::new(seed).bytes(bytes));
        self.file(file, |file| file.versions.push(Arc::clone(&content)));
        let mut source = tempfile::NamedTempFile::new().expect("a temporary file");
        source.write_all(&content).expect("a temporary file");
        bucket.put_file(&self.name(file), source.path());
        self.file(file, |file| file.ended = number + 1);
    }

    /// A reader is about to open a file.
    pub fn open(&self, number: usize) -> Opened<'_> {
        self.file(number, |file| {
            let is_closed = file.left.is_none_or(|left| left.elapsed() > CLOSED_AFTER);
            if file.readers == 0 && is_closed {
                file.oldest = file.ended - 1;
            }
            file.readers += 1;
            Opened {
                library: self,
                file: number,
                oldest: file.oldest,
                newest: file.ended - 1,
            }
        })
    }

    /// Which version a piece may be of, of all that there ever were, the newest last.
    pub fn candidates(&self, file: usize, is_of: impl Fn(&[u8]) -> bool) -> Vec<usize> {
        self.file(file, |file| {
            let versions = file.versions.iter().enumerate();
            versions
                .filter(|(_, content)| is_of(content))
                .map(|(number, _)| number)
                .collect()
        })
    }

    fn file<T>(&self, file: usize, with: impl FnOnce(&mut File) -> T) -> T {
        let mut file = self.files[file]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        with(&mut file)
    }
}

impl File {
    fn newest_bytes(&self) -> u64 {
        self.versions
            .last()
            .map_or(0, |content| content.len() as u64)
    }
}
