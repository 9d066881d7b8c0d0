//! `fused journal`: what the journal of a file system that is not mounted holds, and how it moves.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use harness::{Finished, Mount, Program, Store, fused};
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

/// Everything that names the file system, and how it is said.
fn journal<const N: usize>(what: [&str; N]) -> Finished {
    fused([&["journal"][..], &what[..]].concat())
}

/// What a mount wrote, and the path for an export.
fn with_files(store: &Store) -> (harness::MountOptions, String, impl AsRef<Path>, String) {
    let mount = Mount::of(store).option("settle=5m").start();
    fs::create_dir(mount.join("d")).unwrap();
    fs::write(mount.join("d/sent"), "in the store").unwrap();
    mount.sync();
    fs::write(mount.join("d/dirty"), "only here").unwrap();
    let (options, cache) = unmounted(mount);
    let home = harness::scratch();
    let file = home.path().join("export").to_str().unwrap().to_owned();
    (options, cache, home, file)
}

#[test]
fn a_file_system_goes_to_another_journal_by_way_of_a_file() {
    harness::require_mounts!();
    let store = Store::folder();
    let (options, cache, _home, file) = with_files(&store);
    let said = journal(["export", "--json", &cache, &file]).success();
    let exported: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(exported["bytes"], fs::metadata(&file).unwrap().len());
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let said = journal(["export", &cache, &file]).fails_with(1);
    assert!(said.contains("exists"), "{}", said);
    let said = journal(["import", &cache, &file]).fails_with(1);
    assert!(said.contains("holds a file system already"), "{}", said);

    // As if it were another one: the journal that was there is not.
    fs::rename(format!("{cache}/journal"), format!("{cache}/before")).unwrap();
    let said = journal(["import", "--json", &cache, &file]).success();
    let imported: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(imported, exported);
    let mount = options.option("settle=0s").start();
    assert_eq!(fs::read(mount.join("d/sent")).unwrap(), b"in the store");
    assert_eq!(fs::read(mount.join("d/dirty")).unwrap(), b"only here");
    mount.sync();
    assert_eq!(store.get("d/dirty").unwrap(), b"only here");
}

/// Files were written since, of which the export does not know: a journal made of it would take them for nobody's.
#[test]
fn an_export_that_is_not_the_newest_state_is_not_imported() {
    harness::require_mounts!();
    let store = Store::folder();
    let (options, cache, _home, file) = with_files(&store);
    journal(["export", &cache, &file]).success();
    let mount = options.start();
    fs::write(mount.join("d/later"), "only here, too").unwrap();
    let (options, cache) = unmounted(mount);
    fs::rename(format!("{cache}/journal"), format!("{cache}/before")).unwrap();
    let said = journal(["import", &cache, &file]).fails_with(1);
    assert!(said.contains("export again"), "{}", said);
    assert!(
        !Path::new(&cache).join("journal").exists(),
        "nothing was made"
    );
    fs::rename(format!("{cache}/before"), format!("{cache}/journal")).unwrap();
    let mount = options.start();
    assert_eq!(fs::read(mount.join("d/later")).unwrap(), b"only here, too");
}

#[test]
fn what_is_no_export_or_another_ones_is_not_imported() {
    harness::require_mounts!();
    let store = Store::folder();
    let (_options, cache, home, file) = with_files(&store);
    journal(["export", &cache, &file]).success();
    let other = Mount::of(&store).start();
    let (_other_options, other_cache) = unmounted(other);
    fs::remove_dir_all(format!("{other_cache}/journal")).unwrap();
    let said = journal(["import", &other_cache, &file]).fails_with(1);
    assert!(said.contains("another cache directory"), "{}", said);
    let bytes = fs::read(&file).unwrap();
    let wrong = home.as_ref().join("wrong").to_str().unwrap().to_owned();
    for (content, problem) in [
        (&b"{}"[..], "no export"),
        (&bytes[..bytes.len() - 1], "damaged: it ends early"),
    ] {
        fs::write(&wrong, content).unwrap();
        let said = journal(["import", &cache, &wrong]).fails_with(1);
        assert!(said.contains(problem), "{}", said);
    }
    let said = journal(["import", &cache, "/nowhere/at/all"]).fails_with(1);
    assert!(said.contains("/nowhere/at/all: No such file"), "{}", said);
    let mount = Mount::of(&store).start();
    let mounted = mount.cache().path().to_str().unwrap().to_owned();
    let said = journal(["export", &mounted, &wrong]).fails_with(1);
    assert!(said.contains("in use"), "{}", said);
}

#[test]
fn a_journal_in_a_cache_directory_has_no_other_nodes_to_forget() {
    harness::require_mounts!();
    let mount = Mount::of(&Store::folder()).start();
    let (_options, cache) = unmounted(mount);
    let said = fused(["forget-node", &cache]).fails_with(1);
    assert!(said.contains("no other nodes"), "{}", said);
    let said = fused(["forget-node", &cache, "xyz"]).fails_with(2);
    assert!(said.contains("16 hexadecimal digits"), "{}", said);
    fused(["forget-node", &cache, "--give-up"]).fails_with(2);
}
