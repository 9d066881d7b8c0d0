//! File times that no suite sets.

use std::fs;
use std::os::unix::fs::MetadataExt;

use harness::Way;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

harness::every_way!(times_before_1970_keep_their_nanoseconds);

fn times_before_1970_keep_their_nanoseconds(way: &Way) {
    let mount = way.mount();
    let path = mount.join("old");
    fs::write(&path, "old").unwrap();
    for (seconds, nanoseconds) in [
        (-1, 0),
        (-1, 1),
        (-86_400, 123_456_789),
        (-2_000_000_000, 5),
    ] {
        let time = TimeSpec::new(seconds, nanoseconds);
        utimensat(AT_FDCWD, &path, &time, &time, UtimensatFlags::FollowSymlink).unwrap();
        let about = fs::metadata(&path).unwrap();
        assert_eq!((about.mtime(), about.mtime_nsec()), (seconds, nanoseconds));
        assert_eq!((about.atime(), about.atime_nsec()), (seconds, nanoseconds));
    }
}
