//! The device under the cache fails to write: EIO from the local file system, at write-back.
//!
//! Injected without any help of the kernel's: the device is a loop device over a sparse file on a tmpfs that is
//! smaller than it claims. What no longer fits there is an I/O error. The device is mended by enlarging the
//! tmpfs, and the machine starts again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::IntoRawFd;

use harness::{Device, Mount, MountOptions, Store};

use crate::content;
use crate::rounds::another_boot;

const CLAIMED_BYTES: u64 = 512 << 20;
const REAL_BYTES: u64 = 224 << 20;
const MENDED_BYTES: u64 = 640 << 20;
const FILE_BYTES: usize = 4 << 20;

fn options(store: &Store, disk: &Device, passthrough: &str) -> MountOptions {
    let cache = disk.path().join("cache");
    Mount::of(store)
        .option(format!("cache_dir={}", cache.display()))
        .option(passthrough)
        // Nothing is uploaded before the device fails.
        .option("settle=5m")
        .option("dirty_wait=1s")
}

/// A file that is synced, or the error that says it is not.
fn write_synced(mount: &Mount, number: u64) -> io::Result<()> {
    let mut file = File::create(mount.join(format!("f{number}")))?;
    file.write_all(&content::version(number, FILE_BYTES))?;
    file.sync_all()?;
    Ok(nix::unistd::close(file.into_raw_fd())?)
}

fn a_device_that_fails(passthrough: &str) {
    harness::require_mounts!();
    let store = Store::folder();
    let carrier = Device::tmpfs(REAL_BYTES);
    let disk = Device::ext4_on(&carrier, CLAIMED_BYTES);
    let mount = options(&store, &disk, passthrough).start();

    let mut synced = BTreeMap::new();
    let mut number = 0;
    let error = loop {
        number += 1;
        assert!(
            number < CLAIMED_BYTES / FILE_BYTES as u64,
            "it does not fail"
        );
        match write_synced(&mount, number) {
            Ok(()) => synced.insert(format!("f{number}"), number),
            Err(error) => break error,
        };
    };
    eprintln!("{} files synced, then: {error}", synced.len());
    assert!(synced.len() > 4, "the device is too small for this test");
    // A failed fsync is never followed by one that pretends.
    for _ in 0..3 {
        number += 1;
        write_synced(&mount, number).expect_err("the device has failed");
    }
    for (name, number) in &synced {
        if let Ok(bytes) = fs::read(mount.join(name)) {
            assert!(
                bytes == content::version(*number, FILE_BYTES),
                "{name} is not as it was written"
            );
        }
    }
    only_whole_versions(&store);

    drop(mount.crash());
    disk.unmount();
    carrier.resize_tmpfs(MENDED_BYTES);
    let disk = Device::ext4_again_on(&carrier);
    another_boot(&disk.path().join("cache"));
    let mount = options(&store, &disk, passthrough).start();
    for (name, number) in &synced {
        let bytes = fs::read(mount.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            bytes == content::version(*number, FILE_BYTES),
            "{name} has changed"
        );
    }
    mount.sync();
    only_whole_versions(&store);
    for name in synced.keys() {
        assert!(store.has(name), "{name} did not arrive");
    }
    fs::write(mount.join("after"), "it goes on").expect("a mended device");
    mount.unmount();
}

/// Whatever the store has is exactly what was written.
fn only_whole_versions(store: &Store) {
    for key in store.files() {
        let number = key.trim_start_matches('f').parse().expect("a number");
        let object = store.get(&key).expect("an object");
        assert!(
            object == content::version(number, FILE_BYTES),
            "{key} is torn in the store"
        );
    }
}

#[test]
fn a_device_that_fails_under_the_kernels_writes() {
    a_device_that_fails("passthrough=auto");
}

#[test]
fn a_device_that_fails_under_the_daemons_writes() {
    a_device_that_fails("passthrough=off");
}
