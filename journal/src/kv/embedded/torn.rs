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
use std::os::unix::fs::FileExt;
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
    let whole = whole_bytes(BufReader::with_capacity(1 << 20, &file), ANY_SEQUENCE)?;
    if whole == len {
        return Ok(0);
    }
    let torn = keep(&file, whole, &path.with_extension("torn"))?;
    file.set_len(whole)?;
    file.sync_all()?;
    Ok(torn)
}

/// Leaves in the log what comes before a sequence number: that of a batch that was refused and not written to its
/// end, yet. Its rest may be in fjall's buffer, which its threads write out as they please, also at the end of a file
/// after which they begin another one.
pub(super) fn cut_off_from(dir: &Path, sequence: u64) -> io::Result<()> {
    let mut files = files(dir)?;
    if let Some((_, newest)) = files.pop() {
        cut_file(&newest, sequence, true)?;
    }
    if let Some((_, before)) = files.pop() {
        cut_file(&before, sequence, false)?;
    }
    Ok(())
}

/// One file of the log. One before the newest ends with its last batch, or in zeros, and may be left so.
fn cut_file(path: &Path, sequence: u64, is_newest: bool) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let whole = whole_bytes(BufReader::with_capacity(1 << 20, &file), sequence)?;
    let mut next = [0];
    let goes_on = file.read_at(&mut next, whole)? == 1 && next != [0];
    if is_newest || goes_on {
        file.set_len(whole)?;
        file.sync_all()?;
    }
    Ok(())
}

fn newest(dir: &Path) -> io::Result<Option<PathBuf>> {
    Ok(files(dir)?.pop().map(|(_, path)| path))
}

/// The files of the log with their numbers, in their order.
fn files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_log = path.extension().is_some_and(|extension| extension == "jnl");
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        files.extend(number.filter(|_| is_log).map(|number| (number, path)));
    }
    files.sort();
    Ok(files)
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

/// Every sequence number is below this one.
const ANY_SEQUENCE: u64 = u64::MAX;

/// Where the last whole batch ends whose sequence number is below this one.
fn whole_bytes(log: impl Read, below: u64) -> io::Result<u64> {
    let mut log = Counted { log, at: 0 };
    let mut whole = 0;
    loop {
        match batch(&mut log) {
            Ok(Some(sequence)) if sequence < below => whole = log.at,
            Ok(_) => return Ok(whole),
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

/// Reads one batch; its sequence number, if it is whole.
fn batch(log: &mut Counted<impl Read>) -> io::Result<Option<u64>> {
    if log.take()? != [START] {
        return Ok(None);
    }
    let mut left = u32::from_le_bytes(log.take()?);
    let sequence = u64::from_le_bytes(log.take()?);
    let mut digest = Xxh3::new();
    loop {
        match log.take()? {
            [ITEM] if left > 0 => {
                if !item(log, &mut digest)? {
                    return Ok(None);
                }
            }
            [CLEAR] if left > 0 => {
                let keyspace: [u8; 8] = log.take()?;
                digest.update(&[CLEAR]);
                digest.update(&keyspace);
            }
            [END] if left == 0 => {
                let expected = u64::from_le_bytes(log.take()?);
                let is_whole = log.take()? == TRAILER && digest.digest() == expected;
                return Ok(is_whole.then_some(sequence));
            }
            _ => return Ok(None),
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
            ends.push(whole_bytes(File::open(&path).unwrap(), ANY_SEQUENCE).unwrap());
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

    fn next_sequence(store: &EmbeddedStore) -> u64 {
        store.inner.engine.read().as_ref().unwrap().db.seqno()
    }

    /// Its caller was told that it was refused, and then a thread of fjall's wrote the rest of it.
    #[tokio::test]
    async fn a_refused_batch_goes_although_it_was_written_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), EmbeddedOptions::default()).unwrap();
        for key in 0..3 {
            set(&store, key, 600).await;
        }
        let refused = next_sequence(&store);
        set(&store, 3, 600).await;
        drop(store);
        let log = newest(dir.path()).unwrap().unwrap();
        let all = fs::read(&log).unwrap();
        for begins_another_file in [false, true] {
            fs::write(&log, &all).unwrap();
            let next = dir.path().join("99.jnl");
            if begins_another_file {
                fs::write(&next, [0; 9000]).unwrap();
            }
            cut_off_from(dir.path(), refused).unwrap();
            if begins_another_file {
                fs::remove_file(next).unwrap();
            }
            let store = EmbeddedStore::open(dir.path(), EmbeddedOptions::default()).unwrap();
            assert_eq!(keys(&store, 0..20).await, [0, 1, 2]);
            drop(store);
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
