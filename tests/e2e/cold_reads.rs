//! Reading what is only in the store: what is fetched, and that it is right, whatever the order.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::thread;

use harness::{Way, wait_until};

use crate::partial_files::{in_the_store, resident};

const MIB: usize = 1 << 20;
const KIB: usize = 1 << 10;

harness::every_way!(
    reads_at_random_places_fetch_little_more_than_they_ask_for,
    a_file_that_is_read_through_is_all_here_afterwards,
    readers_of_all_kinds_see_the_same_bytes,
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
    let fetched = resident(&mount);
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
    wait_until(
        "all of it is here",
        std::time::Duration::from_secs(30),
        || resident(&mount) == content.len(),
    );
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
