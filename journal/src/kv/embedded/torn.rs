//! The end of the write-ahead log, after a power cut.
//!
//! The log is a file of 64 MiB, preallocated as a hole, and its pages reach the disk in any order: behind the
//! last fdatasync one may be there without the one before it. fjall (3.1) takes a record that ends in a hole
//! for one that is not finished, and cuts it off. One whose *middle* is a hole it takes for corruption, or
//! stumbles over, and the journal could not be opened again. So before fjall sees the newest file, everything
//! from the first batch that is not whole is cut off here: none of it was ever synced, because a sync covers
//! all that is before it. What is cut off is kept beside the log, for the case that it was the disk's fault.
//!
//! The layout, all numbers little-endian:
//!
//! | entry | bytes |
//! |---|---|
//! | start | 1, count of entries u32, sequence number u64 |
//! | item | 2, type u8, compression u8, keyspace u64, key length u16, value length u32, stored length u32, key, stored value |
//! | clear | 4, keyspace u64 |
//! | end | 3, XXH3-64 of the bytes of all items and clears u64, `FJL` 3 |

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: [u8; 4] = *b"FJL\x03";

/// Stored lengths beyond this are no lengths of ours: a transaction is at most 10 MB.
const STORED_BYTES_MAX: u32 = 16 << 20;

/// Cuts off the newest log file what is not whole. Answers how many bytes of it were not just zeros. Does
/// nothing to a log that somebody has open.
pub(super) fn cut_off(dir: &Path) -> io::Result<u64> {
    let lock = match File::open(dir.join("lock")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        lock => lock?,
    };
    // Held until the end; then fjall takes it.
    if lock.try_lock().is_err() {
        return Ok(0);
    }
    let Some(path) = newest(dir)? else {
        return Ok(0);
    };
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let len = file.metadata()?.len();
    let whole = whole_bytes(BufReader::with_capacity(1 << 20, &file))?;
    if whole == len {
        return Ok(0);
    }
    let torn = keep(&file, whole, &path.with_extension("torn"))?;
    file.set_len(whole)?;
    file.sync_all()?;
    Ok(torn)
}

/// Where the newest file of a log ends that could not be written to its end.
pub(super) struct End {
    path: PathBuf,
    bytes: u64,
}

impl End {
    /// Where its last whole batch ends. Nobody is writing to it.
    pub(super) fn of(dir: &Path) -> io::Result<Option<End>> {
        let Some(path) = newest(dir)? else {
            return Ok(None);
        };
        let bytes = whole_bytes(BufReader::with_capacity(1 << 20, File::open(&path)?))?;
        Ok(Some(End { path, bytes }))
    }

    /// Takes away what was written behind it.
    pub(super) fn cut_off(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.set_len(self.bytes)?;
        file.sync_all()
    }
}

fn newest(dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_log = path.extension().is_some_and(|extension| extension == "jnl");
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if let Some(number) = number.filter(|_| is_log) {
            newest = newest.max(Some((number, path)));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Copies the rest of the log up to its last byte that isn't zero; answers how much that was.
fn keep(mut log: &File, from: u64, to: &Path) -> io::Result<u64> {
    let mut rest = Vec::new();
    log.seek(SeekFrom::Start(from))?;
    let mut log = BufReader::with_capacity(1 << 20, log);
    let mut chunk = vec![0; 1 << 20];
    let (mut at, mut used) = (0, 0);
    loop {
        let count = log.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        if let Some(last) = chunk[..count].iter().rposition(|byte| *byte != 0) {
            rest.resize(at, 0);
            rest.extend_from_slice(&chunk[..=last]);
            used = rest.len();
        }
        at += count;
    }
    if used > 0 {
        fs::write(to, &rest)?;
    }
    Ok(used as u64)
}

/// Where the last whole batch ends.
fn whole_bytes(log: impl Read) -> io::Result<u64> {
    let mut log = Counted { log, at: 0 };
    let mut whole = 0;
    loop {
        match batch(&mut log) {
            Ok(true) => whole = log.at,
            Ok(false) => return Ok(whole),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(whole),
            Err(error) => return Err(error),
        }
    }
}

struct Counted<R> {
    log: R,
    at: u64,
}

impl<R: Read> Counted<R> {
    fn take<const COUNT: usize>(&mut self) -> io::Result<[u8; COUNT]> {
        let mut bytes = [0; COUNT];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.log.read_exact(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// Reads one batch; whether it is whole.
fn batch(log: &mut Counted<impl Read>) -> io::Result<bool> {
    if log.take()? != [START] {
        return Ok(false);
    }
    let mut left = u32::from_le_bytes(log.take()?);
    let _sequence: [u8; 8] = log.take()?;
    let mut digest = Xxh3::new();
    loop {
        match log.take()? {
            [ITEM] if left > 0 => {
                if !item(log, &mut digest)? {
                    return Ok(false);
                }
            }
            [CLEAR] if left > 0 => {
                let keyspace: [u8; 8] = log.take()?;
                digest.update(&[CLEAR]);
                digest.update(&keyspace);
            }
            [END] if left == 0 => {
                let expected = u64::from_le_bytes(log.take()?);
                return Ok(log.take()? == TRAILER && digest.digest() == expected);
            }
            _ => return Ok(false),
        }
        left -= 1;
    }
}

/// Reads the rest of an item; whether its lengths can be true.
fn item(log: &mut Counted<impl Read>, digest: &mut Xxh3) -> io::Result<bool> {
    let fixed: [u8; 20] = log.take()?;
    let [.., k0, k1, _, _, _, _, s0, s1, s2, s3] = fixed;
    let key = usize::from(u16::from_le_bytes([k0, k1]));
    let stored = u32::from_le_bytes([s0, s1, s2, s3]);
    let is_plain = fixed[1] == 0;
    if stored > STORED_BYTES_MAX || (is_plain && fixed[12..16] != fixed[16..20]) {
        return Ok(false);
    }
    let mut bytes = vec![0; key + stored as usize];
    log.fill(&mut bytes)?;
    digest.update(&[ITEM]);
    digest.update(&fixed);
    digest.update(&bytes);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::{EmbeddedOptions, EmbeddedStore};
    use super::*;
    use crate::kv::{KvStore, Mode};
    use std::os::unix::fs::FileExt;

    async fn set(store: &EmbeddedStore, key: u8, len: usize) {
        let mut txn = store.begin(Mode::Serial).unwrap();
        txn.set(&[key], vec![key; len]);
        txn.set(&[key, key], vec![]);
        txn.clear(&[key, 0]);
        txn.commit().await.unwrap();
    }

    async fn keys(store: &EmbeddedStore, of: std::ops::Range<u8>) -> Vec<u8> {
        let mut txn = store.begin(Mode::Read).unwrap();
        let mut there = Vec::new();
        for key in of {
            if txn.get(&[key], false).await.unwrap().is_some() {
                there.push(key);
            }
        }
        there
    }

    /// Every page of the log but one is there, whichever that is.
    #[tokio::test]
    async fn a_log_that_lost_any_page_opens_with_all_that_was_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), EmbeddedOptions::default()).unwrap();
        let mut ends = Vec::new();
        let path = newest(dir.path()).unwrap().unwrap();
        for key in 0..20 {
            // Some small, some compressed.
            set(&store, key, if key % 3 == 0 { 3900 } else { 600 }).await;
            ends.push(whole_bytes(File::open(&path).unwrap()).unwrap());
        }
        drop(store);
        assert!(
            ends.is_sorted_by(|a, b| a < b),
            "each commit was seen: {ends:?}"
        );
        let log = fs::read(&path).unwrap();
        let used = *ends.last().unwrap() as usize;
        for page in 0..used.div_ceil(4096) {
            let copy = tempfile::tempdir().unwrap();
            let copied = std::process::Command::new("cp")
                .arg("-r")
                .arg(dir.path())
                .arg(copy.path().join("kv"))
                .status();
            assert!(copied.unwrap().success());
            let dir = copy.path().join("kv");
            let torn = OpenOptions::new()
                .write(true)
                .open(newest(&dir).unwrap().unwrap())
                .unwrap();
            let lost = page * 4096..log.len().min((page + 1) * 4096);
            torn.write_all_at(&vec![0; lost.len()], lost.start as u64)
                .unwrap();
            let store = EmbeddedStore::open(&dir, EmbeddedOptions::default()).unwrap();
            let before = ends.iter().filter(|end| **end <= lost.start as u64).count() as u8;
            let expected: Vec<u8> = (0..before).collect();
            assert_eq!(keys(&store, 0..20).await, expected, "without page {page}");
            set(&store, 30, 10).await;
            drop(store);
            let store = EmbeddedStore::open(&dir, EmbeddedOptions::default()).unwrap();
            assert_eq!(keys(&store, 30..31).await, [30]);
        }
    }

    #[test]
    fn no_log_and_an_empty_one_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(cut_off(&dir.path().join("none")).unwrap(), 0);
        fs::write(dir.path().join("lock"), "").unwrap();
        fs::write(dir.path().join("3.jnl"), "").unwrap();
        assert_eq!(cut_off(dir.path()).unwrap(), 0);
        fs::write(dir.path().join("3.jnl"), [0; 9000]).unwrap();
        assert_eq!(cut_off(dir.path()).unwrap(), 0);
        fs::write(dir.path().join("3.jnl"), b"\x01\xff\xff").unwrap();
        assert_eq!(cut_off(dir.path()).unwrap(), 3);
        assert_eq!(
            fs::read(dir.path().join("3.torn")).unwrap(),
            b"\x01\xff\xff"
        );
    }
}
