//! The local disk below the extent files: what of them a power cut leaves.
//!
//! What was synced stays. Of a file that was never synced the name may be gone, or its end, or something in between,
//! as file systems lose it that allocate blocks late; of one that was, what was appended since. What was written in
//! place over what was synced is always there: a part of it may be, says README, and a model of all parts would be
//! none. A truncation is there at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use libc::c_int;

use crate::dice::Dice;

/// Files that lose what they can, in thousandths.
const TORN: u64 = 400;
/// What a file system allocates.
const BLOCK_BYTES: u64 = 4096;

/// A file that was written to, by the number of its inode.
#[derive(Clone, Copy)]
struct Written {
    /// What it has in any case; `None`: it was never synced.
    durable: Option<u64>,
    size: u64,
}

thread_local! {
    static FILES: RefCell<BTreeMap<u64, Written>> = const { RefCell::new(BTreeMap::new()) };
}

/// The inode of an open file, and its size.
fn about(file: c_int) -> Option<(u64, u64)> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: a place for one; the descriptor is the caller's.
    match unsafe { libc::fstat(file, stat.as_mut_ptr()) } {
        // SAFETY: it is filled in.
        0 => Some(unsafe { stat.assume_init() }).map(|stat| (stat.st_ino, stat.st_size as u64)),
        _ => None,
    }
}

fn note(file: c_int, change: impl FnOnce(&mut Written)) {
    let Some((ino, size)) = about(file) else {
        return;
    };
    FILES.with_borrow_mut(|files| {
        let written = files.entry(ino).or_insert(Written {
            durable: None,
            size,
        });
        written.size = size;
        change(written);
    });
}

/// Something was written into a file.
pub fn written(file: c_int) {
    note(file, |_| {});
}

/// A file was cut, or stretched.
pub fn truncated(file: c_int) {
    note(file, |written| {
        written.durable = written.durable.map(|durable| durable.min(written.size));
    });
}

/// All of a file is on the disk.
pub fn synced(file: c_int) {
    note(file, |written| written.durable = Some(written.size));
}

/// All of all files is.
pub fn all_synced() {
    FILES.with_borrow_mut(|files| {
        for written in files.values_mut() {
            written.durable = Some(written.size);
        }
    });
}

/// The power has gone. Tells what of the files below this directory is lost.
pub fn lose(directory: &Path, dice: &mut Dice) -> io::Result<Vec<String>> {
    let mut lost = Vec::new();
    for path in files_below(directory)? {
        let about = fs::metadata(&path)?;
        let written = FILES.with_borrow(|files| files.get(&about.ino()).copied());
        let Some(Written { durable, .. }) = written else {
            continue;
        };
        let size = about.len();
        if durable.is_some_and(|durable| size <= durable) || !dice.chance(TORN) {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match (durable, dice.below(3)) {
            (Some(durable), _) => {
                cut(&path, durable)?;
                lost.push(format!("{name} has its first {durable} bytes of {size}"));
            }
            (None, 0) => {
                fs::remove_file(&path)?;
                lost.push(format!("{name} is gone"));
            }
            (None, 1) => {
                let left = dice.below(size);
                cut(&path, left)?;
                lost.push(format!("{name} has its first {left} bytes of {size}"));
            }
            (None, _) => {
                let block = dice.below(size.div_ceil(BLOCK_BYTES));
                punch(&path, block * BLOCK_BYTES)?;
                lost.push(format!("{name} has a hole at {}", block * BLOCK_BYTES));
            }
        }
    }
    FILES.with_borrow_mut(BTreeMap::clear);
    for path in files_below(directory)? {
        synced(File::open(path)?.as_raw_fd());
    }
    Ok(lost)
}

fn cut(path: &Path, size: u64) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_len(size)
}

fn punch(path: &Path, at: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: an open file.
    match unsafe { libc::fallocate(file.as_raw_fd(), mode, at as i64, BLOCK_BYTES as i64) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Always in the same order.
fn files_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else if entry.file_name() != "state" {
            files.push(entry.path());
        }
    }
    files.sort_unstable();
    Ok(files)
}
