//! Threads that open, read at random places or from end to end, and compare.

use std::fs::File;
use std::io;
use std::ops::AddAssign;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::libc;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::library::Library;

/// What readers did.
#[derive(Debug, Default)]
pub struct Report {
    /// Opens whose bytes were all right.
    pub read: usize,
    /// Opens that failed, because the file was replaced meanwhile.
    pub failed: usize,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.failed += other.failed;
    }
}

/// Readers at work.
pub struct Readers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Report>>,
}

impl Readers {
    /// Each reads so many files, or until [`Readers::end`].
    pub fn start(
        root: &Path,
        library: &Arc<Library>,
        seed: u64,
        count: usize,
        reads: Option<usize>,
    ) -> Readers {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..count).map(|number| {
            let reader = Reader {
                root: root.to_owned(),
                library: Arc::clone(library),
                dice: StdRng::seed_from_u64(seed + number as u64),
            };
            let stop = Arc::clone(&stop);
            thread::spawn(move || reader.run(&stop, reads))
        });
        Readers {
            threads: threads.collect(),
            stop,
        }
    }

    /// Waits until all have read what they were to, or the file that they are at.
    pub fn end(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = Report::default();
        for thread in self.threads {
            report += thread.join().expect("a reader that found nothing wrong");
        }
        report
    }
}

struct Reader {
    root: PathBuf,
    library: Arc<Library>,
    dice: StdRng,
}

impl Reader {
    fn run(mut self, stop: &AtomicBool, reads: Option<usize>) -> Report {
        let mut report = Report::default();
        let mut done = 0;
        while reads.map_or(!stop.load(Ordering::Relaxed), |reads| done < reads) {
            done += 1;
            let file = self.dice.random_range(0..self.library.len());
            let library = Arc::clone(&self.library);
            let opened = library.open(file);
            let read = self.read(file);
            let (mut versions, was_replaced) = opened.versions();
            match read {
                Ok(pieces) => {
                    for piece in &pieces {
                        versions.retain(|content| piece.is_of(content));
                    }
                    let of = |piece: &Piece| {
                        let of = library.candidates(file, |content| piece.is_of(content));
                        format!("{}+{}: {of:?}", piece.offset, piece.bytes.len())
                    };
                    assert!(
                        !versions.is_empty(),
                        "{}: no version from {} on has these, but {:?}",
                        library.name(file),
                        opened.oldest,
                        pieces.iter().map(of).collect::<Vec<_>>()
                    );
                    report.read += 1;
                }
                Err(error) => {
                    let code = error.raw_os_error();
                    let may_fail = matches!(code, Some(libc::EIO | libc::ESTALE));
                    assert!(
                        was_replaced && may_fail,
                        "{}: {error}",
                        self.library.name(file)
                    );
                    report.failed += 1;
                }
            }
        }
        report
    }

    /// What one open shows: places, and what is there up to the end of the file.
    fn read(&mut self, file: usize) -> io::Result<Vec<Piece>> {
        let path = self.root.join(self.library.name(file));
        let file = File::open(path)?;
        let end = file.metadata()?.len() as usize;
        let mut pieces = Vec::new();
        if self.dice.random_bool(0.3) {
            let step = self.dice.random_range(1_000..400_000);
            for offset in (0..=end).step_by(step) {
                pieces.push(Piece::read(&file, offset, step)?);
            }
        } else {
            for _ in 0..self.dice.random_range(1..8) {
                let offset = self.dice.random_range(0..end + 100);
                let len = 1 << self.dice.random_range(0..19);
                pieces.push(Piece::read(&file, offset, len)?);
            }
        }
        Ok(pieces)
    }
}

/// What was read at a place.
struct Piece {
    offset: usize,
    asked: usize,
    bytes: Vec<u8>,
}

impl Piece {
    /// As many bytes as are there; fewer than asked for at the end of the file only.
    fn read(file: &File, offset: usize, asked: usize) -> io::Result<Piece> {
        let mut bytes = vec![0; asked];
        let mut filled = 0;
        while filled < asked {
            match file.read_at(&mut bytes[filled..], (offset + filled) as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        bytes.truncate(filled);
        Ok(Piece {
            offset,
            asked,
            bytes,
        })
    }

    /// Whether a file of that content shows this there.
    fn is_of(&self, content: &[u8]) -> bool {
        let rest = content.get(self.offset..).unwrap_or_default();
        rest[..rest.len().min(self.asked)] == self.bytes
    }
}
