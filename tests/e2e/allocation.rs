//! fallocate(2), side by side with a local file: of what is on the local disk, and of what is only in the
//! store.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use harness::{Mount, Random, Way, digest_of, same_bytes, scratch};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

const MIB: i64 = 1 << 20;

harness::every_way!(
    allocating_punching_and_zeroing_do_what_they_do_locally,
    what_the_kernel_does_not_pass_on_is_refused,
    what_was_punched_after_the_upload_does_not_come_back,
);

fn open(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).open(path).unwrap()
}

fn allocating_punching_and_zeroing_do_what_they_do_locally(way: &Way) {
    const BYTES: i64 = 3 * MIB + 77;
    let plain = FallocateFlags::empty();
    let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | keep;
    let zero = FallocateFlags::FALLOC_FL_ZERO_RANGE;
    let steps = [
        (keep, BYTES, MIB),
        (punch, 5000, MIB),
        (punch, BYTES - 100, MIB),
        (zero, 2 * MIB + 1, 10_000),
        (zero | keep, BYTES - 10, 10_000),
        (plain, 0, BYTES + 4097),
        (zero, BYTES, MIB / 2),
        (plain, 4 * MIB, 1),
    ];
    let home = scratch();
    let local = home.path().join("plain");
    Random::write_file(21, &local, BYTES as usize);
    let mount = way.mount();
    Random::write_file(21, &mount.join("f"), BYTES as usize);
    mount.sync();
    // As it is first, then with an empty cache.
    both_ways(&mount, &local, &steps);
    same_bytes(&local, way.store.fetch("f").expect("the object").path());
    mount.unmount();
    both_ways(&way.mount(), &local, &steps);
    same_bytes(&local, way.store.fetch("f").expect("the object").path());
}

fn both_ways(mount: &Mount, local: &Path, steps: &[(FallocateFlags, i64, i64)]) {
    for &(mode, offset, len) in steps {
        for path in [local, &mount.join("f")] {
            let file = open(path);
            fallocate(&file, mode, offset, len).unwrap();
            file.write_all_at(b"between", 100_000).unwrap();
        }
        same_bytes(local, &mount.join("f"));
    }
    mount.sync();
}

fn what_the_kernel_does_not_pass_on_is_refused(way: &Way) {
    let mount = way.mount();
    let digest = Random::write_file(22, &mount.join("f"), MIB as usize);
    let file = open(&mount.join("f"));
    for mode in [
        FallocateFlags::FALLOC_FL_COLLAPSE_RANGE,
        FallocateFlags::FALLOC_FL_INSERT_RANGE,
        FallocateFlags::FALLOC_FL_UNSHARE_RANGE,
    ] {
        let refused = fallocate(&file, mode, 0, 4096);
        assert_eq!(refused, Err(Errno::EOPNOTSUPP), "{mode:?}");
    }
    let only_read = File::open(mount.join("f")).unwrap();
    let refused = fallocate(&only_read, FallocateFlags::empty(), 0, 4096);
    assert_eq!(refused, Err(Errno::EBADF));
    let refused = fallocate(&file, FallocateFlags::empty(), 0, 0);
    assert_eq!(refused, Err(Errno::EINVAL));
    assert_eq!(digest_of(&mount.join("f")), digest);
}

fn what_was_punched_after_the_upload_does_not_come_back(way: &Way) {
    let mount = way.mount();
    Random::write_file(23, &mount.join("f"), 2 * MIB as usize);
    mount.sync();
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(open(&mount.join("f")), punch, 0, MIB).unwrap();
    let again = mount.unmount().start();
    let mut head = vec![1; MIB as usize];
    open(&again.join("f")).read_exact_at(&mut head, 0).unwrap();
    assert!(head.iter().all(|&byte| byte == 0), "after a remount");
    again.sync();
    let object = way.store.get("f").expect("the object");
    assert!(object[..MIB as usize].iter().all(|&byte| byte == 0));
    assert!(object[MIB as usize..].iter().any(|&byte| byte != 0));
}
