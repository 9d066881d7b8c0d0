//! A tree with everything in it that a file system can hold.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::{Random, run};
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;

const MIB: u64 = 1 << 20;

const SPARSE_BYTES: u64 = 96 * MIB + 5;

/// Makes the tree in a new folder.
pub fn make_tree(at: &Path) {
    fs::create_dir(at).unwrap();
    files(at);
    links(at);
    special_files(at);
    names(at);
    attributes(at);
    times(at);
}

fn files(at: &Path) {
    fs::create_dir_all(at.join("sub/deeper/empty")).unwrap();
    Random::write_file(71, &at.join("sub/data"), (2 << 20) + 17);
    fs::write(at.join("empty"), "").unwrap();
    for (name, mode) in [
        ("script", 0o751),
        ("nothing-allowed", 0),
        ("setuid", 0o4755),
        ("setgid", 0o2755),
    ] {
        fs::write(at.join(name), "#!/bin/sh\necho run\n").unwrap();
        fs::set_permissions(at.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, mode) in [("sticky", 0o1777), ("inherits-group", 0o2775)] {
        fs::create_dir(at.join(name)).unwrap();
        fs::set_permissions(at.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(at.join("of-somebody-else"), "theirs").unwrap();
    chown(at.join("of-somebody-else"), Some(1234), Some(56_789)).unwrap();

    let sparse = File::create(at.join("sparse")).unwrap();
    sparse.set_len(SPARSE_BYTES).unwrap();
    for offset in [0, 10 * MIB + 4096, 64 * MIB - 3, SPARSE_BYTES - 5] {
        sparse.write_all_at(b"data!", offset).unwrap();
    }
}

fn links(at: &Path) {
    fs::hard_link(at.join("sub/data"), at.join("sub/deeper/the-same-data")).unwrap();
    fs::hard_link(at.join("sub/data"), at.join("the-same-data")).unwrap();
    symlink("sub/data", at.join("link")).unwrap();
    symlink("sub", at.join("link-to-a-directory")).unwrap();
    symlink("/nowhere/at/all", at.join("dangling")).unwrap();
    symlink("x/".repeat(1500), at.join("long")).unwrap();
    fs::hard_link(at.join("dangling"), at.join("dangling-too")).unwrap();
}

fn special_files(at: &Path) {
    let all = Mode::from_bits_truncate(0o640);
    for (name, kind, device) in [
        ("fifo", SFlag::S_IFIFO, 0),
        ("socket", SFlag::S_IFSOCK, 0),
        ("null", SFlag::S_IFCHR, makedev(1, 3)),
        ("disk", SFlag::S_IFBLK, makedev(259, 70_000)),
    ] {
        mknod(&at.join(name), kind, all, device).unwrap();
    }
    fs::hard_link(at.join("fifo"), at.join("fifo-too")).unwrap();
}

fn names(at: &Path) {
    for name in [
        &b"two\nlines and \"quotes\" \\ "[..],
        b"no UTF-8 \xff\xfe",
        b"-n",
        "Gr\u{fc}\u{df}e \u{1f600}".as_bytes(),
        &[b'n'; 255],
    ] {
        fs::write(at.join(OsStr::from_bytes(name)), name).unwrap();
    }
}

fn attributes(at: &Path) {
    let set = |name: &str, value: &str, path: &str| {
        let mut command = Command::new("setfattr");
        command
            .args(["-h", "-n", name, "-v", value])
            .arg(at.join(path));
        run(&mut command, Duration::from_secs(10)).success();
    };
    set("user.note", "plain", "sub/data");
    set("user.empty", "", "sub/data");
    set("user.binary", "0x00ff0a22", "empty");
    set("user.large", &"v".repeat(2000), "script");
    set("user.note", "of a directory", "sub");
    set("trusted.note", "of root", "script");
    set("trusted.note", "of a link", "link");
}

/// Last, since what comes before moves them: long ago, with nanoseconds, and yet to come. None is of today:
/// rsync takes two times of the same second for the same.
fn times(at: &Path) {
    let set = |path: &Path, seconds: i64, nanoseconds: i64| {
        let time = TimeSpec::new(seconds, nanoseconds);
        utimensat(
            AT_FDCWD,
            path,
            &time,
            &time,
            UtimensatFlags::NoFollowSymlink,
        )
        .unwrap();
    };
    let mut pending = vec![at.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            set(&entry.path(), 1_400_000_000, 250_000_001);
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            }
        }
    }
    for (name, seconds, nanoseconds) in [
        ("empty", -86_400, 123_456_789),
        ("sub/data", 1_000_000_000, 1),
        ("link", 1_234_567_890, 987_654_321),
        ("fifo", 5, 5),
        ("script", 4_102_444_800, 999_999_999),
        ("sub/deeper/empty", 1_100_000_000, 500),
        ("sub/deeper", 1_200_000_000, 0),
    ] {
        set(&at.join(name), seconds, nanoseconds);
    }
}
