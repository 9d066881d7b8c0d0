//! What stays in the cache while more is read than it holds.

use std::fs;
use std::thread;
use std::time::Duration;

use harness::{Cache, Mount, MountOptions, Random, Store, wait_until};

const MIB: usize = 1 << 20;
const USED: u64 = 16;
const SCANNED: u64 = 80;

/// A folder with 16 files of 2 MiB in `used` and 80 in `scanned`; to be mounted with a cache of 80 MiB.
fn a_store() -> (Store, MountOptions) {
    let store = Store::folder();
    let mount = Mount::of(&store).start();
    for (directory, count) in [("used", USED), ("scanned", SCANNED)] {
        fs::create_dir(mount.join(directory)).unwrap();
        for n in 0..count {
            let path = mount.join(directory).join(n.to_string());
            Random::write_file(n, &path, 2 * MIB);
        }
    }
    mount.sync();
    mount.unmount();
    let options = Mount::of(&store)
        .cache(&Cache::new())
        .option("cache_size=80M");
    (store, options)
}

fn read(mount: &Mount, directory: &str, count: u64) {
    for n in 0..count {
        let bytes = fs::read(mount.join(format!("{directory}/{n}"))).unwrap();
        assert_eq!(bytes.len(), 2 * MIB);
    }
}

fn scan(mount: &Mount) {
    read(mount, "scanned", SCANNED);
    wait_until("there is room again", Duration::from_secs(30), || {
        mount.status()["cache_used"].as_u64() <= Some(72 << 20)
    });
}

fn resident(mount: &Mount, directory: &str, count: u64) -> usize {
    let here = |n: &u64| {
        let text = mount.attribute(format!("{directory}/{n}"), "user.fused.resident");
        text.trim() == (2 * MIB).to_string()
    };
    (0..count).filter(here).count()
}

#[test]
fn what_is_used_again_survives_a_scan_of_more_than_the_cache_holds() {
    harness::require_mounts!();
    let (_store, options) = a_store();
    let mount = options.start();
    for _ in 0..2 {
        read(&mount, "used", USED);
    }
    scan(&mount);
    assert_eq!(resident(&mount, "used", USED), USED as usize);
    assert!(
        resident(&mount, "scanned", SCANNED) >= 10,
        "the cache is used"
    );
    // Which were used again is not known any more: the oldest make room for the small queue, up to nine files. The
    // others stay, as no order of last use would have it.
    let mount = mount.unmount().start();
    scan(&mount);
    let left = resident(&mount, "used", USED);
    assert!(left >= USED as usize / 4, "{left} files are left");
}

#[test]
fn what_is_written_is_evicted_once_it_is_uploaded() {
    harness::require_mounts!();
    let store = Store::folder();
    let mount = Mount::of(&store)
        .option("cache_size=80M")
        .option("settle=5s")
        .start();
    // Its turn comes while it is not in the store yet, and again when it is.
    for n in 0..45 {
        Random::write_file(n, &mount.join(n.to_string()), 4 * MIB);
        thread::sleep(Duration::from_millis(20));
    }
    mount.sync();
    wait_until("there is room again", Duration::from_secs(20), || {
        mount.status()["cache_used"].as_u64() <= Some(72 << 20)
    });
    for n in 0..45 {
        assert_eq!(fs::read(mount.join(n.to_string())).unwrap().len(), 4 * MIB);
    }
}
