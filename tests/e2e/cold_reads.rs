//! Reading what is only in the store: what is fetched, and that it is right, whatever the order.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use harness::{Way, fused, wait_until};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::partial_files::{in_the_store, resident};

const MIB: usize = 1 << 20;
const KIB: usize = 1 << 10;
const LIMIT: Duration = Duration::from_secs(30);

harness::every_way!(
    reads_at_random_places_fetch_little_more_than_they_ask_for,
    a_file_that_is_read_through_is_all_here_afterwards,
    readers_of_all_kinds_see_the_same_bytes,
    what_a_finished_write_has_replaced_is_not_read_again,
    what_a_finished_truncation_has_cut_is_not_read_again,
);

/// Offsets all over the file, no two near each other.
fn scattered(count: usize, below: usize) -> impl Iterator<Item = usize> {
    (1..=count).map(move |n| n.wrapping_mul(11_400_714_819_323_198_485) % below)
}

#[track_caller]
fn read(file: &File, content: &[u8], offset: usize, len: usize) {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset as u64).unwrap();
    assert!(bytes == content[offset..offset + len], "{len} at {offset}");
}

fn reads_at_random_places_fetch_little_more_than_they_ask_for(way: &Way) {
    const READS: usize = 60;
    let (mount, content) = in_the_store(way, 96 * MIB + 5);
    let file = File::open(mount.join("f")).unwrap();
    for offset in scattered(READS, 95 * MIB) {
        read(&file, &content, offset, 64 * KIB);
    }
    let asked = READS * 64 * KIB;
    // What has been read may still be on its way to the disk, and so may what was fetched around it.
    let mut fetched = 0;
    wait_until("it is kept", LIMIT, || {
        let before = std::mem::replace(&mut fetched, resident(&mount));
        std::thread::sleep(Duration::from_millis(300));
        fetched >= asked && before == fetched
    });
    assert!(
        (asked..=2 * asked).contains(&fetched),
        "{fetched} of {asked}"
    );
    read(&file, &content, 96 * MIB, 5);
    assert!(
        resident(&mount) < fetched + MIB,
        "the end of a file is no reason to fetch it whole"
    );
}

fn a_file_that_is_read_through_is_all_here_afterwards(way: &Way) {
    let (mount, content) = in_the_store(way, 40 * MIB + 7);
    assert_eq!(resident(&mount), 0);
    assert!(fs::read(mount.join("f")).unwrap() == content);
    wait_until("all of it is here", LIMIT, || {
        resident(&mount) == content.len()
    });
    assert!(fs::read(mount.join("f")).unwrap() == content);
}

/// Several at once on one file: forwards, backwards, at random, by small and large reads.
fn readers_of_all_kinds_see_the_same_bytes(way: &Way) {
    let (mount, content) = in_the_store(way, 24 * MIB + 4321);
    let (path, content) = (mount.join("f"), &content);
    let open = || File::open(&path).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| assert!(fs::read(&path).unwrap() == *content));
        scope.spawn(|| {
            let file = open();
            for start in (0..content.len()).step_by(300 * KIB).rev() {
                read(
                    &file,
                    content,
                    start,
                    (300 * KIB).min(content.len() - start),
                );
            }
        });
        for seed in 1..4 {
            scope.spawn(move || {
                let file = open();
                for offset in scattered(100, content.len() - 200 * KIB) {
                    read(&file, content, offset / seed, 50_000 * seed);
                }
            });
        }
    });
}

/// A file of pages that each say, in every eight bytes, which page and which version it is.
const PAGE: usize = 4 * KIB;
const PAGES: usize = 4096;

fn page(number: usize, version: u64) -> Vec<u8> {
    let word = (number as u64) << 32 | version;
    word.to_le_bytes().repeat(PAGE / 8)
}

/// Reads a page past the kernel's cache of this mount, and answers its version.
#[track_caller]
fn version_of(file: &File, number: usize) -> u64 {
    let offset = number * PAGE;
    posix_fadvise(
        file.as_fd(),
        offset as i64,
        PAGE as i64,
        PosixFadviseAdvice::POSIX_FADV_DONTNEED,
    )
    .unwrap();
    let mut bytes = vec![0; PAGE];
    file.read_exact_at(&mut bytes, offset as u64).unwrap();
    let word = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let version = word & u64::from(u32::MAX);
    assert!(bytes == page(number, version), "page {number}: {word:x}");
    version
}

/// Programs that open the file for writing for a moment, beside readers that fetch, and somebody who evicts.
fn what_a_finished_write_has_replaced_is_not_read_again(way: &Way) {
    const WRITES: usize = 400;
    let mount = way.mount();
    let path = mount.join("f");
    let first: Vec<u8> = (0..PAGES).flat_map(|number| page(number, 0)).collect();
    fs::write(&path, first).unwrap();
    let written: Vec<AtomicU64> = (0..PAGES).map(|_| AtomicU64::new(0)).collect();
    let (path, written, is_over) = (&path, &written, &AtomicBool::new(false));
    let evict = || {
        mount.sync();
        fused(["free".as_ref(), path.as_os_str()]).success();
    };
    evict();
    assert_eq!(resident(&mount), 0);
    thread::scope(|scope| {
        for seed in 1..4 {
            scope.spawn(move || {
                let mut at: usize = seed;
                while !is_over.load(Ordering::Relaxed) {
                    let file = File::open(path).unwrap();
                    // Some pages one after another, so that others are fetched ahead.
                    at = at
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(seed);
                    let start = (at >> 33) % (PAGES - 32);
                    for (number, written) in written.iter().enumerate().skip(start).take(32) {
                        let least = written.load(Ordering::Acquire);
                        let found = version_of(&file, number);
                        assert!(found >= least, "page {number}: {found} after {least}");
                    }
                }
            });
        }
        for (turn, offset) in scattered(WRITES, PAGES * PAGE).enumerate() {
            let number = offset / PAGE;
            let version = turn as u64 + 1;
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&page(number, version), (number * PAGE) as u64)
                .unwrap();
            written[number].store(version, Ordering::Release);
            drop(file);
            if turn % 100 == 99 {
                evict();
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let file = File::open(path).unwrap();
    for (number, written) in written.iter().enumerate() {
        assert_eq!(version_of(&file, number), written.load(Ordering::Acquire));
    }
}

/// By path, so that nobody has the file open for writing.
fn what_a_finished_truncation_has_cut_is_not_read_again(way: &Way) {
    const LEN: usize = 4 * MIB;
    for turn in 0..8 {
        let (mount, content) = in_the_store(way, LEN);
        let file = File::open(mount.join("f")).unwrap();
        let kept = LEN / 2 + turn * 777;
        read(&file, &content, 0, 300 * KIB);
        for len in [kept, LEN] {
            nix::unistd::truncate(&mount.join("f"), len as i64).unwrap();
        }
        let mut expected = content;
        expected[kept..].fill(0);
        assert!(fs::read(mount.join("f")).unwrap() == expected);
        read(&file, &expected, 0, LEN);
    }
}
