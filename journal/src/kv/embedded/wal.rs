//! Syncing fjall's write-ahead log through a descriptor of our own, without fjall's mutex.
//!
//! fjall (3.1) appends to `DIR/N.jnl` and, when that file is full, fsyncs it *before* it creates
//! `N+1.jnl`, whose length and directory entry are fsynced before the first record goes in. So at any
//! moment everything that was committed is durable or in the newest file, and an fdatasync of the
//! newest file completes it. If a new file appears after we looked, the one we sync has been synced
//! by fjall as well; what was committed before the caller asked is in it or in an older one.
//!
//! The descriptor stays open as long as the file is the newest: the kernel reports a failed
//! write-back once to every descriptor that was open when it failed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A thread that ends takes microseconds for it, more on a machine that is busy.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

/// The newest file of the log.
pub(super) struct Wal {
    dir: PathBuf,
    newest: Option<(u64, File)>,
}

impl Wal {
    pub(super) fn new(dir: &Path) -> Wal {
        let mut wal = Wal {
            dir: dir.to_owned(),
            newest: None,
        };
        // Opening it early catches errors from the first write on; a failure shows up again in
        // `sync`, where it can be reported.
        let _ = wal.find();
        wal
    }

    /// Makes the log durable. False: no file with the expected name, so ask fjall to do it.
    pub(super) fn sync(&mut self) -> io::Result<bool> {
        self.find()?;
        match &self.newest {
            Some((_, file)) => file.sync_data().map(|()| true),
            None => Ok(false),
        }
    }

    /// Closes the descriptor, until the next sync.
    pub(super) fn let_go(&mut self) {
        self.newest = None;
    }

    fn find(&mut self) -> io::Result<()> {
        let newest = match &self.newest {
            Some((number, _)) => {
                let mut next = *number;
                while path(&self.dir, next + 1).try_exists()? {
                    next += 1;
                }
                if next == *number {
                    return Ok(());
                }
                Some(next)
            }
            None => newest(&self.dir)?,
        };
        self.newest = match newest {
            Some(number) => Some((number, File::open(path(&self.dir, number))?)),
            None => None,
        };
        Ok(())
    }
}

/// The number of the newest file of the log in `dir`.
pub(super) fn newest(dir: &Path) -> io::Result<Option<u64>> {
    let mut newest = None;
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".jnl"))
            .and_then(|number| number.parse::<u64>().ok());
        newest = newest.max(number);
    }
    Ok(newest)
}

/// Waits until this process has no file of the log in `dir` open any more.
///
/// Dropping fjall (3.1) waits for its threads to end, but not for what they then drop: one of them may be the last
/// to hold the log, and writes what is left in its buffer when it lets go of it.
pub(super) fn await_closed(dir: &Path) -> io::Result<()> {
    let dir = dir.canonicalize()?;
    let began = Instant::now();
    while is_open(&dir)? {
        if began.elapsed() > CLOSED_WITHIN {
            return Err(io::Error::other("fjall keeps its log open"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn is_open(dir: &Path) -> io::Result<bool> {
    for descriptor in std::fs::read_dir("/proc/self/fd")? {
        // Others close theirs meanwhile.
        let Ok(target) = std::fs::read_link(descriptor?.path()) else {
            continue;
        };
        let is_log = target
            .extension()
            .is_some_and(|extension| extension == "jnl");
        if is_log && target.parent() == Some(dir) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A file of the log in `dir`.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number}.jnl"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_closed_when_the_last_thread_has_let_go_of_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(path(dir.path(), 3), "").unwrap();
        await_closed(dir.path()).unwrap();
        let held = File::open(path(dir.path(), 3)).unwrap();
        let of_another = File::open(dir.path()).unwrap();
        let began = Instant::now();
        let holder = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(held);
        });
        await_closed(dir.path()).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(50));
        holder.join().unwrap();
        drop(of_another);
    }

    fn synced(wal: &Wal) -> Option<u64> {
        wal.newest.as_ref().map(|(number, _)| *number)
    }

    #[test]
    fn the_newest_file_is_synced_wherever_the_log_has_got_to() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lock"), "").unwrap();
        let mut wal = Wal::new(dir.path());
        assert!(!wal.sync().unwrap());
        for number in [8, 9, 10] {
            std::fs::write(dir.path().join(format!("{number}.jnl")), "").unwrap();
        }
        assert!(wal.sync().unwrap());
        assert_eq!(synced(&wal), Some(10));
        std::fs::remove_file(dir.path().join("9.jnl")).unwrap();
        for number in [11, 12] {
            std::fs::write(dir.path().join(format!("{number}.jnl")), "").unwrap();
        }
        assert!(wal.sync().unwrap());
        assert_eq!(synced(&wal), Some(12));
    }
}
