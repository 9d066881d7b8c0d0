//! The longest paths, the largest files, and what is too much for the store.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use harness::{Mount, Way, fused, scratch};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// Linux: with the NUL at the end.
const PATH_MAX: usize = 4096;
/// S3.
const KEY_BYTES_MAX: usize = 1024;
/// ext4's largest, with blocks of 4 KiB.
const LARGEST: u64 = (16 << 40) - 4096;

harness::every_way!(
    a_path_may_be_as_long_as_linux_allows,
    a_sparse_file_may_be_as_large_as_locally,
);

/// What `fused sync` says of what it can't do.
fn left_behind(mount: &Mount) -> String {
    let words = ["sync", "--timeout", "3"].map(OsStr::new);
    fused(words.into_iter().chain([mount.path().as_os_str()])).fails_with(1)
}

/// A file below directories of long names, its path as long as said.
fn path_of(len: usize, root: &Path) -> PathBuf {
    let mut path = root.to_owned();
    loop {
        match len - path.as_os_str().len() - 1 {
            rest @ 1..=255 => return path.join("f".repeat(rest)),
            256..=400 => path.push("d".repeat(100)),
            _ => path.push("d".repeat(200)),
        }
    }
}

fn a_path_may_be_as_long_as_linux_allows(way: &Way) {
    let at = scratch();
    let mut mount = way.options().at(at.path()).start();
    let path = path_of(PATH_MAX - 1, mount.path());
    fs::create_dir_all(path.parent().expect("directories")).unwrap();
    fs::write(&path, "at the end").unwrap();
    let mut longer = path.clone().into_os_string();
    longer.push("g");
    let refused = fs::write(&longer, "").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::ENAMETOOLONG as i32));
    // No store has keys of this length, and the file stays here, also over a crash.
    let said = left_behind(&mount);
    assert!(said.contains("ffff: "), "{said}");
    mount = mount.crash().start();
    assert_eq!(fs::read(&path).unwrap(), b"at the end");
    // Moved to where its key is short enough it arrives.
    fs::rename(&path, mount.join("f")).unwrap();
    fs::remove_dir_all(mount.join("d".repeat(200))).unwrap();
    mount.sync();
    assert_eq!(way.store.get("f").as_deref(), Some(&b"at the end"[..]));
    let longest = path_of(KEY_BYTES_MAX, Path::new(""));
    let longest = longest.strip_prefix("/").unwrap_or(&longest);
    fs::create_dir_all(mount.join(longest.parent().expect("directories"))).unwrap();
    fs::write(mount.join(longest), "the longest key").unwrap();
    mount.sync();
    let key = longest.to_str().expect("letters");
    assert_eq!(way.store.get(key).as_deref(), Some(&b"the longest key"[..]));
}

fn a_sparse_file_may_be_as_large_as_locally(way: &Way) {
    let local = scratch();
    let largest = File::create(local.path().join("large")).unwrap();
    if let Err(error) = largest.set_len(LARGEST) {
        harness::skip(&format!("no file of 16 TiB on this disk: {error}"));
        return;
    }
    let at = scratch();
    let mut mount = way.options().at(at.path()).start();
    let path = mount.join("large");
    let file = File::create_new(&path).unwrap();
    file.set_len(LARGEST).unwrap();
    file.write_all_at(b"the end", LARGEST - 7).unwrap();
    drop(file);
    // More than an object can have: it stays here, and everything says so.
    let said = left_behind(&mount);
    assert!(
        said.contains("large: ") && said.contains("split the file"),
        "{said}"
    );
    mount = mount.crash().start();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), LARGEST);
    let mut last = [1; 8];
    file.read_exact_at(&mut last, LARGEST - 8).unwrap();
    assert_eq!(&last, b"\0the end");
    let data = lseek(&file, 0, Whence::SeekData).unwrap();
    assert_eq!(data, (LARGEST - 4096) as i64);
    file.set_len(3).unwrap();
    drop(file);
    mount.sync();
    assert_eq!(way.store.get("large").as_deref(), Some(&[0; 3][..]));
}
