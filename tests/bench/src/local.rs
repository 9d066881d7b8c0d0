//! The loops over a file or a folder.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

const REQUEST_BYTES: usize = 1 << 20;
const SCATTERED_BYTES: usize = 64 << 10;

/// Writes data that no store can compress or deduplicate by the block.
pub(crate) fn write(path: &Path, bytes: usize, fsync: bool) -> io::Result<f64> {
    let mut block: Vec<u8> = Vec::with_capacity(REQUEST_BYTES);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while block.len() < REQUEST_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend(state.to_le_bytes());
    }
    let began = Instant::now();
    let mut file = File::create(path)?;
    let mut left = bytes;
    while left > 0 {
        block[..8].copy_from_slice(&left.to_le_bytes());
        let count = left.min(REQUEST_BYTES);
        file.write_all(&block[..count])?;
        left -= count;
    }
    if fsync {
        file.sync_all()?;
    }
    drop(file);
    Ok(began.elapsed().as_secs_f64())
}

pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<f64> {
    let mut buffer = vec![0; REQUEST_BYTES];
    let mut source = File::open(from)?;
    let began = Instant::now();
    let mut file = File::create(to)?;
    loop {
        match source.read(&mut buffer)? {
            0 => break,
            count => file.write_all(&buffer[..count])?,
        }
    }
    drop(file);
    Ok(began.elapsed().as_secs_f64())
}

pub(crate) fn read(path: &Path, drop_cache: bool) -> io::Result<f64> {
    let mut buffer = vec![0; REQUEST_BYTES];
    let mut file = File::open(path)?;
    if drop_cache {
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    let began = Instant::now();
    while file.read(&mut buffer)? > 0 {}
    drop(file);
    Ok(began.elapsed().as_secs_f64())
}

pub(crate) fn list(dir: &Path) -> io::Result<f64> {
    let began = Instant::now();
    for entry in fs::read_dir(dir)? {
        entry?.metadata()?;
    }
    Ok(began.elapsed().as_secs_f64())
}

pub(crate) fn each(
    dir: &str,
    count: usize,
    act: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<f64> {
    let paths: Vec<PathBuf> = (0..count)
        .map(|n| Path::new(dir).join(format!("f{n:06}")))
        .collect();
    let began = Instant::now();
    for path in &paths {
        act(path)?;
    }
    Ok(began.elapsed().as_secs_f64())
}

pub(crate) fn scattered(path: &Path, count: usize) -> io::Result<f64> {
    let file = File::open(path)?;
    let places = file
        .metadata()?
        .len()
        .saturating_sub(SCATTERED_BYTES as u64);
    let mut buffer = vec![0; SCATTERED_BYTES];
    let began = Instant::now();
    for n in 1..=count as u64 {
        let offset = n.wrapping_mul(11_400_714_819_323_198_485) % places.max(1);
        file.read_exact_at(&mut buffer, offset)?;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// Every file below a folder, in the order of names, by as many threads as a loader has workers.
pub(crate) fn read_each(dir: &Path, threads: usize) -> io::Result<f64> {
    let mut paths = Vec::new();
    below(dir, &mut paths)?;
    paths.sort_unstable();
    let (paths, next) = (&paths, &AtomicUsize::new(0));
    let began = Instant::now();
    let worker = || {
        let mut buffer = Vec::new();
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            buffer.clear();
            File::open(path)?.read_to_end(&mut buffer)?;
        }
        Ok::<(), io::Error>(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| {
            let ended = worker.join();
            ended.unwrap_or_else(|_| Err(io::Error::other("a reader panicked")))
        })
    })?;
    Ok(began.elapsed().as_secs_f64())
}

fn below(dir: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => below(&entry.path(), paths)?,
            false => paths.push(entry.path()),
        }
    }
    Ok(())
}
