//! Bytes: what a program writes is the object, and what the object holds is what a program reads.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};

use harness::{Mount, Random, Way, digest_of, same_bytes};

const MIB: usize = 1 << 20;

harness::every_way!(
    a_first_write_arrives_as_a_byte_identical_object,
    a_second_mount_with_an_empty_cache_reads_what_was_written,
    overwriting_a_file_replaces_the_object,
    appending_to_a_file_that_is_not_resident_keeps_its_beginning,
    writing_in_the_middle_of_a_file_that_is_not_resident_keeps_the_rest,
    shrinking_and_growing_leaves_zeros_and_not_old_bytes,
    an_empty_file_is_an_empty_object,
    a_sparse_file_reads_as_zeros_everywhere,
    a_closed_sparse_file_takes_the_space_of_its_data,
    permissions_owner_and_time_survive_a_lost_journal,
);

fn a_first_write_arrives_as_a_byte_identical_object(way: &Way) {
    let mount = way.mount();
    let written = Random::write_file(1, &mount.join("first.bin"), 40 * MIB + 123);
    mount.sync();
    let object = way.store.fetch("first.bin").expect("the object");
    assert_eq!(digest_of(object.path()), written);
    assert_eq!(way.store.keys(), ["first.bin"], "and nothing else is there");
}

fn a_second_mount_with_an_empty_cache_reads_what_was_written(way: &Way) {
    let mount = way.mount();
    fs::create_dir(mount.join("run")).unwrap();
    let written = Random::write_file(2, &mount.join("run/model.bin"), 40 * MIB + 5);
    mount.sync();
    let other = way.mount();
    assert_eq!(digest_of(&other.join("run/model.bin")), written);
    // Twice: the first read fetched, the second finds it resident.
    assert_eq!(digest_of(&other.join("run/model.bin")), written);
}

fn overwriting_a_file_replaces_the_object(way: &Way) {
    let mount = way.mount();
    Random::write_file(3, &mount.join("f"), 12 * MIB);
    mount.sync();
    let written = Random::write_file(4, &mount.join("f"), 3 * MIB + 1);
    mount.sync();
    assert_eq!(
        digest_of(way.store.fetch("f").expect("the object").path()),
        written
    );
    assert_eq!(digest_of(&mount.join("f")), written);
}

fn a_closed_sparse_file_takes_the_space_of_its_data(way: &Way) {
    let mount = way.mount();
    let file = File::create(mount.join("f")).unwrap();
    file.write_all_at(&[1; MIB], 50 * MIB as u64).unwrap();
    drop(file);
    let taken = fs::metadata(mount.join("f")).unwrap().blocks() * 512;
    assert!(
        (MIB as u64..2 * MIB as u64).contains(&taken),
        "{taken} bytes"
    );
}

/// The file with the seed `seed`, in the store and in no cache.
fn not_resident(way: &Way, seed: u64, bytes: usize) -> Mount {
    let mount = way.mount();
    Random::write_file(seed, &mount.join("f"), bytes);
    mount.sync();
    mount.unmount();
    way.mount()
}

/// Does the same on the mount and on a plain file, and compares file, plain file and object.
fn behaves_like_a_local_file(way: &Way, seed: u64, bytes: usize, change: impl Fn(&File)) {
    let mount = not_resident(way, seed, bytes);
    let home = harness::scratch();
    let plain = home.path().join("plain");
    Random::write_file(seed, &plain, bytes);
    for path in [&plain, &mount.join("f")] {
        change(
            &OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap(),
        );
    }
    same_bytes(&plain, &mount.join("f"));
    mount.sync();
    same_bytes(&plain, way.store.fetch("f").expect("the object").path());
}

fn appending_to_a_file_that_is_not_resident_keeps_its_beginning(way: &Way) {
    behaves_like_a_local_file(way, 5, 9 * MIB + 77, |file| {
        let end = file.metadata().unwrap().len();
        file.write_all_at(&Random::new(50).bytes(MIB + 3), end)
            .unwrap();
    });
}

fn writing_in_the_middle_of_a_file_that_is_not_resident_keeps_the_rest(way: &Way) {
    behaves_like_a_local_file(way, 6, 9 * MIB + 77, |file| {
        file.write_all_at(&Random::new(60).bytes(10_001), 4_000_003)
            .unwrap();
        file.write_all_at(b"x", 1).unwrap();
    });
}

fn shrinking_and_growing_leaves_zeros_and_not_old_bytes(way: &Way) {
    behaves_like_a_local_file(way, 7, 3 * MIB, |file| {
        file.set_len(1_000_001).unwrap();
        file.set_len(2_000_002).unwrap();
    });
}

fn an_empty_file_is_an_empty_object(way: &Way) {
    let mount = way.mount();
    File::create(mount.join("empty")).unwrap();
    mount.sync();
    assert_eq!(way.store.get("empty").as_deref(), Some(&b""[..]));
    assert_eq!(fs::read(way.mount().join("empty")).unwrap(), b"");
}

fn a_sparse_file_reads_as_zeros_everywhere(way: &Way) {
    let mount = way.mount();
    let file = File::create(mount.join("sparse")).unwrap();
    file.set_len(20 * MIB as u64 + 9).unwrap();
    file.write_all_at(b"island", 7_000_000).unwrap();
    drop(file);
    mount.sync();
    let mut expected = vec![0; 20 * MIB + 9];
    expected[7_000_000..7_000_006].copy_from_slice(b"island");
    assert!(
        way.store.get("sparse").expect("the object") == expected,
        "the object"
    );
    assert!(
        fs::read(mount.join("sparse")).unwrap() == expected,
        "the file"
    );
    assert!(
        fs::read(way.mount().join("sparse")).unwrap() == expected,
        "the file elsewhere"
    );
}

fn permissions_owner_and_time_survive_a_lost_journal(way: &Way) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::time::{Duration, UNIX_EPOCH};

    let mount = way.mount();
    let path = mount.join("f");
    fs::write(&path, "attributes").unwrap();
    chown(&path, Some(1234), Some(5678)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let time = UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(time)
        .unwrap();
    mount.sync();
    let other = way.mount();
    // Listings of a bucket carry no metadata; opening the file is what asks for it.
    assert_eq!(fs::read(other.join("f")).unwrap(), b"attributes");
    let found = fs::metadata(other.join("f")).unwrap();
    assert_eq!(
        (found.uid(), found.gid(), found.mode() & 0o7777),
        (1234, 5678, 0o640)
    );
    assert_eq!(found.modified().unwrap(), time);
}

/// A name and a size, and no data at all, for what doesn't fit into 32 bits.
#[test]
fn a_sparse_file_of_5_gib_arrives_in_a_folder() {
    harness::require_mounts!();
    let way = Way::folder("passthrough=auto");
    large_and_sparse(&way);
}

#[test]
#[ignore = "uploads 5 GiB"]
fn a_sparse_file_of_5_gib_arrives_in_a_bucket() {
    harness::require_mounts!();
    large_and_sparse(&Way::bucket("passthrough=auto"));
}

fn large_and_sparse(way: &Way) {
    const SIZE: u64 = (5 << 30) + 1;
    let mount = way.mount();
    let file = File::create(mount.join("large")).unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(b"!", SIZE - 1).unwrap();
    drop(file);
    mount.sync();
    let object = way.store.fetch("large").expect("the object");
    assert_eq!(object.as_file().metadata().unwrap().len(), SIZE);
    let mut last = [0; 2];
    object.as_file().read_exact_at(&mut last, SIZE - 2).unwrap();
    assert_eq!(&last, b"\0!");
}

#[test]
fn more_files_than_a_page_of_a_listing_holds_arrive_and_are_listed() {
    harness::require_mounts!();
    let way = Way::bucket("passthrough=auto");
    let mount = way.mount();
    fs::create_dir(mount.join("many")).unwrap();
    for number in 0..1_500 {
        fs::write(mount.join(format!("many/{number:04}")), number.to_string()).unwrap();
    }
    mount.sync();
    assert_eq!(way.store.files().len(), 1_500);
    let other = way.mount();
    assert_eq!(fs::read_dir(other.join("many")).unwrap().count(), 1_500);
    assert_eq!(fs::read_to_string(other.join("many/1499")).unwrap(), "1499");
}

#[test]
fn fsync_waits_for_the_object_where_it_is_told_to() {
    harness::require_mounts!();
    let way = Way::bucket("passthrough=auto");
    let mount = way.options().option("fsync=store").start();
    let file = File::create(mount.join("f")).unwrap();
    file.write_all_at(b"there at once", 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(way.store.get("f").as_deref(), Some(&b"there at once"[..]));
}

#[test]
fn close_waits_for_the_object_where_it_is_told_to() {
    harness::require_mounts!();
    for passthrough in ["passthrough=auto", "passthrough=off"] {
        let way = Way::bucket(passthrough);
        let mount = way.options().option("close=store").start();
        for text in ["there at once", "there again"] {
            fs::write(mount.join("f"), text).unwrap();
            assert_eq!(way.store.get("f").as_deref(), Some(text.as_bytes()));
        }
        let file = File::create(mount.join("gone")).unwrap();
        file.write_all_at(b"nobody's", 0).unwrap();
        fs::remove_file(mount.join("gone")).unwrap();
        drop(file);
        // Nothing to be seen in the store, and nothing to wait for.
        drop(File::open(mount.join("f")).unwrap());
        assert_eq!(way.store.files(), ["f"]);
    }
}

#[test]
fn the_kernel_reads_and_writes_by_itself_unless_told_not_to() {
    harness::require_mounts!();
    let off = Way::folder("passthrough=off").mount();
    assert_eq!(off.status()["passthrough"]["on"], false);
    let auto = Way::folder("passthrough=auto").mount();
    let status = auto.status();
    if status["passthrough"]["on"] == false {
        harness::skip(&format!(
            "no passthrough here: {}",
            status["passthrough"]["reason"]
        ));
    }
}
