//! Files of which only a part is on the local disk: written to without fetching the rest, evicted while
//! open, freed.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

use harness::{Mount, Random, Way, digest_of, fused, wait_until};
use nix::fcntl::{FallocateFlags, fallocate};
use serde_json::Value;

const MIB: usize = 1 << 20;

harness::every_way!(
    changing_a_file_that_is_in_the_store_fetches_only_what_is_partly_overwritten,
    a_hole_punched_into_a_file_that_is_in_the_store_reads_as_zeros,
    reading_a_file_that_is_open_for_writing_does_not_change_it,
    what_is_freed_is_fetched_again,
    what_is_not_in_the_store_is_not_freed,
    a_file_that_is_open_is_freed_and_goes_on,
    a_file_that_was_shorter_in_between_is_freed_and_is_itself,
);

/// A file of random bytes, in the store and in no cache; and the same bytes.
pub fn in_the_store(way: &Way, bytes: usize) -> (Mount, Vec<u8>) {
    let mount = way.mount();
    Random::write_file(bytes as u64, &mount.join("f"), bytes);
    let content = fs::read(mount.join("f")).unwrap();
    mount.sync();
    mount.unmount();
    (way.mount(), content)
}

/// Bytes of `f` that are on the local disk.
pub fn resident(mount: &Mount) -> usize {
    let text = mount.attribute("f", "user.fused.resident");
    text.trim().parse().expect("a number of bytes")
}

fn free(mount: &Mount) -> Value {
    let said = fused(["free".as_ref(), "--json".as_ref(), mount.path().as_os_str()]).success();
    serde_json::from_str(&said).expect("JSON")
}

/// The mount, the object, and a second mount with an empty cache hold `expected`.
#[track_caller]
fn everywhere(way: &Way, mount: &Mount, expected: &[u8]) {
    let expected = blake3::hash(expected);
    mount.sync();
    let object = way.store.fetch("f").expect("the object");
    assert_eq!(digest_of(object.path()), expected, "the object");
    assert_eq!(digest_of(&mount.join("f")), expected, "the mount");
    assert_eq!(digest_of(&way.mount().join("f")), expected, "another mount");
}

fn changing_a_file_that_is_in_the_store_fetches_only_what_is_partly_overwritten(way: &Way) {
    let (mount, mut content) = in_the_store(way, 24 * MIB + 77);
    let file = OpenOptions::new()
        .write(true)
        .open(mount.join("f"))
        .unwrap();
    file.write_all_at(b"in the middle", 10 * MIB as u64 + 5)
        .unwrap();
    content[10 * MIB + 5..10 * MIB + 18].copy_from_slice(b"in the middle");
    file.write_all_at(b"at the end", content.len() as u64)
        .unwrap();
    content.extend(b"at the end");
    let block = vec![7; MIB];
    file.write_all_at(&block, 4 * MIB as u64).unwrap();
    content[4 * MIB..5 * MIB].copy_from_slice(&block);
    drop(file);
    let local = resident(&mount);
    assert!(
        (MIB..2 * MIB).contains(&local),
        "{local} bytes were fetched"
    );

    // Cut within what is only in the store, and grown again: zeros, not old bytes.
    let file = OpenOptions::new()
        .write(true)
        .open(mount.join("f"))
        .unwrap();
    file.set_len(17 * MIB as u64 + 3).unwrap();
    file.set_len(20 * MIB as u64).unwrap();
    drop(file);
    content.truncate(17 * MIB + 3);
    content.resize(20 * MIB, 0);
    let local = resident(&mount);
    assert!(local < 2 * MIB, "{local} bytes were fetched");
    everywhere(way, &mount, &content);
}

fn a_hole_punched_into_a_file_that_is_in_the_store_reads_as_zeros(way: &Way) {
    let (mount, mut content) = in_the_store(way, 20 * MIB + 9);
    let file = OpenOptions::new()
        .write(true)
        .open(mount.join("f"))
        .unwrap();
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let (at, end) = (3 * MIB + 100, 5 * MIB + 7);
    fallocate(&file, punch, at as i64, (end - at) as i64).unwrap();
    content[at..end].fill(0);
    // Across the end of the file.
    let at = content.len() - 10_000;
    fallocate(&file, punch, at as i64, 50_000).unwrap();
    content[at..].fill(0);
    drop(file);
    assert_eq!(
        fs::metadata(mount.join("f")).unwrap().len(),
        content.len() as u64
    );
    everywhere(way, &mount, &content);
}

fn reading_a_file_that_is_open_for_writing_does_not_change_it(way: &Way) {
    let (mount, content) = in_the_store(way, 9 * MIB);
    let before = fs::metadata(mount.join("f")).unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.join("f"))
        .unwrap();
    let mut all = vec![0; content.len()];
    file.read_exact_at(&mut all, 0).unwrap();
    assert!(all == content);
    wait_until("it is all here", std::time::Duration::from_secs(60), || {
        resident(&mount) >= content.len()
    });
    drop(file);
    let after = fs::metadata(mount.join("f")).unwrap();
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    assert_eq!(mount.attribute("f", "user.fused.state"), "clean");
}

fn what_is_freed_is_fetched_again(way: &Way) {
    let mount = way.mount();
    let written = Random::write_file(5, &mount.join("f"), 9 * MIB + 1);
    mount.sync();
    assert!(resident(&mount) > 0);
    let freed = free(&mount);
    assert_eq!((&freed["files"], &freed["dirty"]), (&1.into(), &0.into()));
    assert_eq!(resident(&mount), 0);
    assert_eq!(digest_of(&mount.join("f")), written);
}

fn what_is_not_in_the_store_is_not_freed(way: &Way) {
    let mount = way.mount();
    let held = File::create(mount.join("f")).unwrap();
    held.write_all_at(b"not yet", 0).unwrap();
    let freed = free(&mount);
    assert_eq!(freed["files"], 0);
    assert_eq!(fs::read(mount.join("f")).unwrap(), b"not yet");
}

fn a_file_that_was_shorter_in_between_is_freed_and_is_itself(way: &Way) {
    let (mount, mut content) = in_the_store(way, 2 * MIB);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.join("f"))
        .unwrap();
    file.set_len(1).unwrap();
    file.write_all_at(&content[1..MIB], 1).unwrap();
    content.truncate(MIB);
    wait_until("freed", std::time::Duration::from_secs(30), || {
        mount.sync();
        free(&mount)["files"] == 1
    });
    nix::fcntl::posix_fadvise(
        &file,
        0,
        0,
        nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED,
    )
    .unwrap();
    let mut read = vec![0; MIB];
    file.read_exact_at(&mut read, 0).unwrap();
    assert!(read == content);
    drop(file);
    everywhere(way, &mount, &content);
}

fn a_file_that_is_open_is_freed_and_goes_on(way: &Way) {
    let (mount, mut content) = in_the_store(way, 9 * MIB);
    // Not resident, so the daemon reads and writes it, also where there is passthrough.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.join("f"))
        .unwrap();
    file.write_all_at(b"first", 5 * MIB as u64 - 2).unwrap();
    content[5 * MIB - 2..5 * MIB + 3].copy_from_slice(b"first");
    mount.sync();
    // What was changed a moment ago counts as dirty, for want of a better clock.
    wait_until("freed", std::time::Duration::from_secs(30), || {
        mount.sync();
        free(&mount)["files"] == 1
    });
    assert_eq!(resident(&mount), 0);
    file.write_all_at(b"second", 100).unwrap();
    content[100..106].copy_from_slice(b"second");
    // Past the kernel's own cache.
    nix::fcntl::posix_fadvise(
        &file,
        0,
        0,
        nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED,
    )
    .unwrap();
    let mut read = vec![0; content.len()];
    file.read_exact_at(&mut read, 0).unwrap();
    assert!(read == content, "as written");
    drop(file);
    everywhere(way, &mount, &content);
}
