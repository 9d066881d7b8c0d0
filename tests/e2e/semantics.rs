//! README's table of semantics, row by row: what programs are told where something can't be had, and what
//! is left of each attribute when the journal is lost and only the bucket remains.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::time::{Duration, UNIX_EPOCH};

use harness::{Program, Way, tool};
use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::Mode;
use nix::sys::statvfs::statvfs;
use nix::unistd::mkfifo;

#[test]
fn what_cannot_be_had_is_refused_so_that_programs_fall_back() {
    harness::require_mounts!();
    let way = Way::folder("passthrough=auto");
    let mount = way.mount();
    fs::write(mount.join("f"), "x").unwrap();

    let nameless = fs::File::options()
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(mount.path());
    let refused = nameless.expect_err("O_TMPFILE").raw_os_error();
    assert_eq!(refused, Some(Errno::EOPNOTSUPP as i32));

    let created = fs::metadata(mount.join("f")).unwrap().created();
    assert_eq!(created.unwrap_err().kind(), ErrorKind::Unsupported);

    // FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR, FS_IOC_GETFSLABEL: lsattr(1), xfs_io(8), and others.
    const IOCTLS: &str = "import fcntl, sys\n\
        for number in 0x80086601, 0x801c581f, 0x81009431:\n\
        \x20   try: fcntl.ioctl(open(sys.argv[1]), number, bytearray(512))\n\
        \x20   except OSError as e: print(e.errno)\n";
    let ioctls = Program::python_line(IOCTLS).arg(mount.join("f"));
    assert_eq!(ioctls.run().success(), "25\n25\n25\n", "ENOTTY");

    let Some(cp) = tool("cp") else { return };
    let (from, to) = (mount.join("f"), mount.join("copy"));
    cp.arg("--reflink=always")
        .arg(&from)
        .arg(&to)
        .run()
        .fails_with(1);
    let cp = tool("cp").expect("it was there");
    let copied = cp.arg("--reflink=auto").arg(&from).arg(&to).run();
    copied.success();
    assert_eq!(fs::read(to).unwrap(), b"x");
}

#[test]
fn the_figures_of_the_file_system_are_true() {
    harness::require_mounts!();
    let way = Way::folder("passthrough=auto");
    let mount = way.options().option("cache_size=1GiB").start();
    let before = statvfs(mount.path()).unwrap();
    assert_eq!((before.block_size(), before.name_max()), (4096, 255));
    assert_eq!(before.fragment_size(), 4096);
    assert_eq!(before.blocks() * before.fragment_size(), 1 << 30);
    assert!(before.blocks_available() <= before.blocks());
    for number in 0..10 {
        mkfifo(&mount.join(number.to_string()), Mode::S_IRUSR).unwrap();
    }
    let after = statvfs(mount.path()).unwrap();
    let used = |figures: &nix::sys::statvfs::Statvfs| figures.files() - figures.files_free();
    assert_eq!(used(&after), used(&before) + 10);
}

#[test]
fn a_lost_journal_leaves_what_the_bucket_holds() {
    harness::require_mounts!();
    let way = Way::bucket("passthrough=auto");
    let mount = way.mount();
    let (mtime, atime) = (
        UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789),
        UNIX_EPOCH + Duration::new(1_500_000_000, 1),
    );
    fs::write(mount.join("f"), "content").unwrap();
    chown(mount.join("f"), Some(1003), Some(1004)).unwrap();
    fs::set_permissions(mount.join("f"), PermissionsExt::from_mode(0o4750)).unwrap();
    let times = fs::FileTimes::new().set_modified(mtime).set_accessed(atime);
    let file = fs::File::open(mount.join("f")).unwrap();
    file.set_times(times).unwrap();
    drop(file);
    fs::hard_link(mount.join("f"), mount.join("second name")).unwrap();
    fs::create_dir(mount.join("d")).unwrap();
    fs::set_permissions(mount.join("d"), PermissionsExt::from_mode(0o1700)).unwrap();
    symlink("f", mount.join("link")).unwrap();
    mkfifo(&mount.join("pipe"), Mode::S_IRUSR).unwrap();
    mount.sync();

    let here = fs::metadata(mount.join("f")).unwrap();
    assert_eq!(here.accessed().unwrap(), atime);
    let again = mount.unmount().start();
    let kept = fs::metadata(again.join("f")).unwrap();
    assert_eq!((kept.nlink(), kept.ctime()), (2, here.ctime()));
    assert_eq!(kept.accessed().unwrap(), atime, "with the journal");
    let directory = fs::metadata(again.join("d")).unwrap();
    assert_eq!(directory.mode() & 0o7777, 0o1700);
    drop(again);

    let other = way.mount();
    let left = fs::metadata(other.join("f")).unwrap();
    let owner = (left.uid(), left.gid(), left.mode() & 0o7777);
    assert_eq!(owner, (1003, 1004, 0o4750));
    assert_eq!(left.modified().unwrap(), mtime);
    assert_eq!(left.nlink(), 1, "one object, one name");
    let mut names: Vec<_> = fs::read_dir(other.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["d", "f"], "no links, no pipe");
    let directory = fs::metadata(other.join("d")).unwrap();
    assert_eq!(directory.mode() & 0o7777, 0o755, "as the mount options say");
}
