//! `fused journal`: what the journal of a file system that is not mounted holds.

use std::fs;
use std::os::unix::fs::symlink;

use harness::{Mount, Program, Store, fused};
use serde_json::Value;

/// A mount that has sent nothing, ended; and its cache directory.
fn unmounted(mount: Mount) -> (harness::MountOptions, String) {
    let cache = mount.cache().path().to_str().unwrap().to_owned();
    (mount.unmount(), cache)
}

#[test]
fn its_rows_are_counted_and_told() {
    harness::require_mounts!();
    let store = Store::folder();
    let mount = Mount::of(&store).option("settle=5m").start();
    fs::create_dir(mount.join("d")).unwrap();
    fs::write(mount.join("d/a\n"), "bytes of a file").unwrap();
    symlink("d", mount.join("soft")).unwrap();
    let set = Program::python_line("import os; os.setxattr('d', 'user.mark', b'a secret')");
    set.within(mount.path()).run().success();
    let (options, cache) = unmounted(mount);

    let said = fused(["journal", "stat", "--json", &cache]).success();
    let stat: Value = serde_json::from_str(&said).unwrap();
    let rows = |kind: &str| stat["kinds"][kind]["rows"].as_u64();
    let inodes = [rows("inode"), rows("dirent"), rows("link")];
    assert_eq!(inodes, [Some(4), Some(3), Some(3)], "{stat:#}");
    let others = [rows("unsynced"), rows("symlink target"), rows("unknown")];
    assert_eq!(others, [Some(2), Some(1), None], "{stat:#}");
    assert_eq!(stat["store"], store.url());

    let said = fused(["journal", "stat", &cache]).success();
    assert!(said.contains(&store.url()), "{}", said);
    let total = said.lines().last().unwrap();
    let total: Vec<&str> = total.split_whitespace().take(2).collect();
    assert_eq!(total, ["all", &stat["rows"].to_string()]);

    let said = fused(["journal", "dump", &cache]).success();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len() as u64, stat["rows"].as_u64().unwrap());
    let has = |start: &str| lines.iter().any(|line| line.starts_with(start));
    assert!(has(r#"dirent parent=1 name="d" "#), "{}", said);
    assert!(said.contains(r#"name="a\n""#), "{}", said);
    assert!(said.contains(r#"name="user.mark" 8 bytes"#), "{}", said);
    assert!(!said.contains("secret"), "{}", said);
    let said = fused(["journal", "dump", "--json", &cache]).success();
    for line in said.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        assert!(row["kind"].is_string() && row["key"].is_string(), "{line}");
    }

    // Looking changed nothing.
    let again = options.start();
    assert_eq!(fs::read(again.join("d/a\n")).unwrap(), b"bytes of a file");
}

#[test]
fn a_journal_that_is_in_use_or_is_none_is_refused() {
    harness::require_mounts!();
    let store = Store::folder();
    let mount = Mount::of(&store).start();
    let cache = mount.cache().path().to_str().unwrap().to_owned();
    let said = fused(["journal", "dump", &cache]).fails_with(1);
    assert!(said.contains("in use"), "{}", said);
    let said = fused(["journal", "stat", mount.path().to_str().unwrap()]).fails_with(1);
    assert!(said.contains("is mounted"), "{}", said);
    let empty = Store::folder();
    let empty = empty.url().replace("file://", "");
    let said = fused(["journal", "stat", &empty]).fails_with(1);
    assert!(said.contains("no cache directory"), "{}", said);
    assert_eq!(
        fs::read_dir(&empty).unwrap().count(),
        0,
        "nothing was made there"
    );
    fused(["journal"]).fails_with(2);
}
