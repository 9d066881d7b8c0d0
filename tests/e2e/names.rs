//! Names that a file system allows and an object store may not.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use harness::{Mount, Store};

/// Names and the keys they are stored under. UTF-8 without control characters is its own key.
const NAMES: &[(&[u8], &str)] = &[
    (b"plain", "plain"),
    (b"with space", "with space"),
    (b"trailing space ", "trailing space "),
    (b"100%", "100%"),
    (b"50%25", "50%25"),
    (b"%41", "%41"),
    (b"%FF", "%25FF"),
    (b"%0A", "%250A"),
    (b"..a", "..a"),
    (b".hidden", ".hidden"),
    (b"a..", "a.."),
    (b"quote\"'<>&?#*[]\\", "quote\"'<>&?#*[]\\"),
    ("gr\u{fc}n \u{1f980}".as_bytes(), "gr\u{fc}n \u{1f980}"),
    (b"new\nline", "new%0Aline"),
    (b"bad \xff utf-8", "bad %FF utf-8"),
    (b"tab\there", "tab%09here"),
];

/// Every name works as a file's and as a directory's, arrives, and is read by a second mount.
fn every_name_goes_there_and_back(store: &Store, names: &[(&[u8], &str)]) {
    let mount = Mount::of(store).start();
    for (name, _) in names {
        let name = OsStr::from_bytes(name);
        fs::write(mount.join(name), name.as_bytes()).unwrap();
        let directory = mount.join("dirs").join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("f"), name.as_bytes()).unwrap();
    }
    mount.sync();
    for (name, key) in names {
        let object = match store {
            // A folder can hold the names as they are.
            Store::Folder(folder) => fs::read(folder.path().join(OsStr::from_bytes(name))).ok(),
            Store::Bucket { .. } => store.get(key),
        };
        assert_eq!(object.as_deref(), Some(*name), "the object {key:?}");
    }
    let other = Mount::of(store).start();
    let mut found: Vec<Vec<u8>> = fs::read_dir(other.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
        .filter(|name| name != b"dirs")
        .collect();
    let mut expected: Vec<Vec<u8>> = names.iter().map(|(name, _)| name.to_vec()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    for (name, _) in names {
        let name = OsStr::from_bytes(name);
        assert_eq!(fs::read(other.join(name)).unwrap(), name.as_bytes());
        assert_eq!(
            fs::read(other.join("dirs").join(name).join("f")).unwrap(),
            name.as_bytes()
        );
    }
}

#[test]
fn every_legal_name_goes_to_a_folder_and_back() {
    harness::require_mounts!();
    every_name_goes_there_and_back(&Store::folder(), NAMES);
}

#[test]
fn every_legal_name_goes_to_a_bucket_and_back() {
    harness::require_mounts!();
    every_name_goes_there_and_back(&Store::moto(), NAMES);
}

#[test]
fn every_legal_name_goes_to_seaweedfs_and_back() {
    harness::require_mounts!();
    // SeaweedFS takes a backslash for a slash.
    let names: Vec<_> = NAMES
        .iter()
        .filter(|(name, _)| !name.contains(&b'\\'))
        .copied()
        .collect();
    every_name_goes_there_and_back(&Store::seaweedfs(), &names);
}

#[test]
fn a_name_of_255_bytes_works_and_one_of_256_is_refused() {
    harness::require_mounts!();
    let store = Store::moto();
    let mount = Mount::of(&store).start();
    let longest = ["x".repeat(255), "\u{fc}".repeat(127)];
    for name in &longest {
        fs::write(mount.join(name), "long").unwrap();
    }
    let raw = [0xfe; 255];
    fs::write(mount.join(OsStr::from_bytes(&raw)), "raw").unwrap();
    let refused = fs::write(mount.join("x".repeat(256)), "too long").unwrap_err();
    assert_eq!(
        refused.raw_os_error(),
        Some(nix::errno::Errno::ENAMETOOLONG as i32)
    );
    mount.sync();
    let other = Mount::of(&store).start();
    for name in &longest {
        assert_eq!(fs::read(other.join(name)).unwrap(), b"long");
    }
    assert_eq!(
        fs::read(other.join(OsStr::from_bytes(&raw))).unwrap(),
        b"raw"
    );
}
