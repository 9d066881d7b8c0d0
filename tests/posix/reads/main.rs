//! Concurrent readers at random places, while the cache is cold, half warm and warm, and while files are given up
//! and replaced in the bucket: every byte is compared, and what is fetched is counted at the server.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, also in the functions that they share"
)]

mod library;
mod readers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Cache, Mount, Proxy, Store, fused, wait_until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use library::Library;
use readers::Readers;

const SEED: u64 = 20;
const READERS: usize = 6;

/// What a read of a few bytes is rounded out to.
const ROUNDED_BYTES: u64 = 32 << 10;

/// A bucket with known content behind a proxy.
struct Stand {
    library: Arc<Library>,
    proxy: Proxy,
    cache: Cache,
    store: Store,
}

impl Stand {
    fn new() -> Stand {
        let store = Store::seaweedfs();
        let library = Arc::new(Library::new(SEED));
        for file in 0..library.len() {
            library.put(file, store.bucket());
        }
        let proxy = store.proxy();
        Stand {
            library,
            proxy,
            cache: Cache::new(),
            store,
        }
    }

    fn mount(&self, options: &[&str]) -> Mount {
        let mount = Mount::of(&self.store)
            .through(&self.proxy)
            .cache(&self.cache);
        let options = options
            .iter()
            .fold(mount, |mount, option| mount.option(*option));
        options.start()
    }

    /// What readers have had may still be on its way to the disk.
    fn wait_until_kept(&self, mount: &Mount) {
        let resident = || -> u64 {
            let files = (0..self.library.len()).map(|file| self.library.name(file));
            let bytes = files.map(|name| mount.attribute(name, "user.fused.resident"));
            bytes.map(|text| text.trim().parse::<u64>().unwrap()).sum()
        };
        wait_until("what was read is kept", Duration::from_secs(30), || {
            let before = resident();
            std::thread::sleep(Duration::from_millis(300));
            before == resident()
        });
    }

    /// Reads for a while. Nobody else is there, so nothing may fail.
    fn read(&self, mount: &Mount, reads: usize) {
        let readers = Readers::start(mount.path(), &self.library, SEED, READERS, Some(reads));
        let report = readers.end();
        assert_eq!(report.failed, 0, "{report:?}");
    }
}

fn cold_half_warm_and_warm(passthrough: &str) {
    harness::require_mounts!();
    let stand = Stand::new();
    let all_bytes = stand.library.bytes();
    let options = [passthrough, "prefetch=off"];

    // Half of the reads before, half after a restart: what was fetched is here afterwards.
    for _ in 0..2 {
        let mount = stand.mount(&options);
        stand.read(&mount, 150);
        stand.wait_until_kept(&mount);
        mount.unmount();
    }
    let fetched = stand.proxy.fetched_bytes();
    assert!(
        fetched <= all_bytes,
        "{fetched} bytes of {all_bytes}: some came twice"
    );
    let gets = stand.proxy.count(|line| line.starts_with("GET"));
    let pieces = all_bytes.div_ceil(ROUNDED_BYTES) as usize + stand.library.len();
    assert!(gets <= pieces, "{gets} requests");

    let mount = stand.mount(&options);
    fused(["load".as_ref(), mount.path().as_os_str()]).success();
    assert_eq!(stand.proxy.fetched_bytes(), all_bytes, "each byte once");
    stand.proxy.forget();
    stand.read(&mount, 150);
    assert_eq!(stand.proxy.fetched_bytes(), 0, "all of it was here");
}

#[test]
fn every_byte_is_fetched_once_and_right_by_passthrough() {
    cold_half_warm_and_warm("passthrough=auto");
}

#[test]
fn every_byte_is_fetched_once_and_right_through_the_daemon() {
    cold_half_warm_and_warm("passthrough=off");
}

/// Each open shows one version, no older than what was there when the first of those who have it open opened it; it
/// may fail only if that one was replaced meanwhile. Nobody writes here, so nothing is uploaded, either.
fn given_up_and_replaced(passthrough: &str) {
    harness::require_mounts!();
    const TIME: Duration = Duration::from_secs(20);
    let stand = Stand::new();
    let mount = stand.mount(&[passthrough, "revalidate=0", "cache_size=48MiB"]);
    let readers = Readers::start(mount.path(), &stand.library, SEED, READERS, None);
    let mut dice = StdRng::seed_from_u64(SEED);
    let began = Instant::now();
    while began.elapsed() < TIME {
        let file = dice.random_range(0..stand.library.len());
        match dice.random_bool(0.4) {
            true => stand.library.put(file, stand.store.bucket()),
            false => {
                let path = mount.join(stand.library.name(file));
                fused(["free".as_ref(), path.as_os_str()]).success();
            }
        }
    }
    let report = readers.end();
    assert!(report.read > 200, "{report:?}");
    assert!(report.failed * 5 < report.read, "{report:?}");
    let uploads = stand
        .proxy
        .count(|line| line.starts_with("PUT") && line.contains("/shelf-"));
    assert_eq!(uploads, 0, "nobody wrote anything");
    // Once it is quiet, nothing fails, and it is the newest that is read.
    std::thread::sleep(Duration::from_secs(2));
    stand.read(&mount, 60);
    assert_eq!(
        stand.store.files().len(),
        stand.library.len(),
        "and no other file"
    );
}

#[test]
fn no_open_mixes_versions_while_files_are_given_up_and_replaced_by_passthrough() {
    given_up_and_replaced("passthrough=auto");
}

#[test]
fn no_open_mixes_versions_while_files_are_given_up_and_replaced_through_the_daemon() {
    given_up_and_replaced("passthrough=off");
}
