//! A bucket that was there before: it appears as a tree, whatever keys it holds.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use harness::{Cache, Mount, Random, Store, same_bytes, scratch, tool};

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn appears_as_a_tree(store: &Store) {
    store.put("readme.txt", "hello");
    store.put("data/2024/a.csv", "1,2");
    store.put("data/2024/b.csv", "3,4");
    store.put("data/2025/a.csv", "5,6");
    let mount = Mount::of(store).start();
    assert_eq!(
        names(mount.path()),
        ["data", "readme.txt"].map(String::from).into()
    );
    assert_eq!(
        names(&mount.join("data")),
        ["2024", "2025"].map(String::from).into()
    );
    assert_eq!(
        fs::read_to_string(mount.join("data/2024/b.csv")).unwrap(),
        "3,4"
    );
    assert_eq!(fs::metadata(mount.join("readme.txt")).unwrap().len(), 5);
    assert!(fs::metadata(mount.join("data/2023")).is_err());
    // What is added there goes into the same tree.
    fs::write(mount.join("data/2025/b.csv"), "7,8").unwrap();
    mount.sync();
    assert_eq!(store.get("data/2025/b.csv").as_deref(), Some(&b"7,8"[..]));
    assert_eq!(store.keys().len(), 5);
}

#[test]
fn an_existing_folder_appears_as_a_tree() {
    harness::require_mounts!();
    appears_as_a_tree(&Store::folder());
}

#[test]
fn an_existing_bucket_appears_as_a_tree() {
    harness::require_mounts!();
    appears_as_a_tree(&Store::seaweedfs());
}

#[test]
fn an_existing_bucket_with_a_flat_key_space_appears_as_a_tree() {
    harness::require_mounts!();
    appears_as_a_tree(&Store::moto());
}

#[test]
fn a_large_existing_object_reads_as_it_is_in_every_order() {
    use std::os::unix::fs::FileExt;
    harness::require_mounts!();
    let store = Store::seaweedfs();
    let home = scratch();
    let original = home.path().join("original");
    Random::write_file(21, &original, (40 << 20) + 7);
    store.bucket().put_file("big.bin", &original);
    let backwards = Mount::of(&store).start();
    let (file, plain) = (
        fs::File::open(backwards.join("big.bin")).unwrap(),
        fs::File::open(&original).unwrap(),
    );
    for offset in [(40 << 20) - 3, 30_000_001, 5, 20 << 20] {
        let (mut one, mut other) = (vec![0; 70_000], vec![0; 70_000]);
        let count = plain.read_at(&mut one, offset).unwrap();
        file.read_exact_at(&mut other[..count], offset).unwrap();
        assert!(one == other, "at {offset}");
    }
    same_bytes(&original, &backwards.join("big.bin"));
}

#[test]
fn a_prefix_of_a_bucket_is_a_root_of_its_own() {
    harness::require_mounts!();
    let store = Store::seaweedfs();
    store.put("team/a/f", "mine");
    store.put("other/f", "not mine");
    let mount = Mount::of_url(format!("{}/team", store.url()), store.environment()).start();
    assert_eq!(names(mount.path()), ["a"].map(String::from).into());
    fs::write(mount.join("new"), "x").unwrap();
    mount.sync();
    assert_eq!(store.keys(), ["other/f", "team/a/f", "team/new"]);
}

#[test]
fn keys_that_are_no_path_are_left_alone_and_hide_nothing_else() {
    harness::require_mounts!();
    let store = Store::moto();
    for key in [
        "/x",
        "a//b",
        "a/./c",
        "a/../d",
        "a/good",
        "both",
        "both/inside",
        "dir/",
        "ok",
    ] {
        store.put(key, key);
    }
    let before = store.keys();
    let mount = Mount::of(&store).start();
    assert_eq!(
        names(mount.path()),
        ["a", "both", "dir", "ok"].map(String::from).into()
    );
    assert_eq!(names(&mount.join("a")), ["good"].map(String::from).into());
    assert!(mount.join("both").is_dir(), "the directory wins");
    assert_eq!(
        fs::read_to_string(mount.join("both/inside")).unwrap(),
        "both/inside"
    );
    assert!(names(&mount.join("dir")).is_empty());
    fs::write(mount.join("a/new"), "new").unwrap();
    fs::write(mount.join("both/new"), "new").unwrap();
    mount.sync();
    let after: BTreeSet<_> = store.keys().into_iter().collect();
    for key in before {
        assert!(after.contains(&key), "{key:?} is still there");
        if key != "dir/" {
            assert_eq!(
                store.get(&key).as_deref(),
                Some(key.as_bytes()),
                "{key:?} is untouched"
            );
        }
    }
    assert!(after.contains("a/new") && after.contains("both/new"));
}

#[test]
fn a_change_made_by_somebody_else_is_seen_at_the_next_open() {
    harness::require_mounts!();
    let store = Store::seaweedfs();
    store.put("f", "first");
    let mount = Mount::of(&store).option("revalidate=0").start();
    assert_eq!(fs::read_to_string(mount.join("f")).unwrap(), "first");
    store.put("f", "the second version");
    assert_eq!(
        fs::read_to_string(mount.join("f")).unwrap(),
        "the second version"
    );
}

#[test]
fn what_is_written_beside_a_reader_of_an_older_version_is_not_lost() {
    use std::io::{Read, Write};
    harness::require_mounts!();
    let store = Store::seaweedfs();
    store.put("f", "first");
    let mount = Mount::of(&store).option("revalidate=0").start();
    let mut reader = fs::File::open(mount.join("f")).unwrap();
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    store.put("f", "the second version");
    assert_eq!(names(mount.path()), ["f"].map(String::from).into());
    let append = || {
        let mut options = fs::File::options();
        options.append(true).open(mount.join("f"))
    };
    let refused = append().unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(nix::libc::ESTALE));
    drop(reader);
    // The kernel tells of the close after it has returned.
    let mut opened = None;
    harness::wait_until(
        "the last reader is gone",
        std::time::Duration::from_secs(30),
        || {
            opened = append().ok();
            opened.is_some()
        },
    );
    opened.unwrap().write_all(b", and mine").unwrap();
    mount.sync();
    let both = "the second version, and mine";
    assert_eq!(fs::read_to_string(mount.join("f")).unwrap(), both);
    assert_eq!(store.get("f").as_deref(), Some(both.as_bytes()));
}

#[test]
fn objects_without_attributes_get_the_owner_and_mode_of_the_mount() {
    use std::os::unix::fs::MetadataExt;
    harness::require_mounts!();
    let store = Store::seaweedfs();
    store.put("d/f", "plain");
    let mount = Mount::of(&store)
        .option("uid=1234,gid=567,umask=027")
        .start();
    let of = |name: &str| {
        let about = fs::metadata(mount.join(name)).unwrap();
        (about.uid(), about.gid(), about.mode() & 0o7777)
    };
    assert_eq!(of("d/f"), (1234, 567, 0o640));
    assert_eq!(of("d"), (1234, 567, 0o750));
}

#[test]
fn an_object_replaced_by_somebody_else_is_not_overwritten() {
    use std::io::Write;
    harness::require_mounts!();
    let store = Store::seaweedfs();
    let mount = Mount::of(&store).start();
    fs::write(mount.join("f"), "first").unwrap();
    mount.sync();
    let mut file = fs::File::create(mount.join("f")).unwrap();
    file.write_all(b"mine").unwrap();
    store.put("f", "theirs");
    drop(file);
    harness::wait_until(
        "the conflict is told",
        std::time::Duration::from_secs(60),
        || mount.attribute("f", "user.fused.state") == "conflict",
    );
    assert_eq!(
        store.get("f").as_deref(),
        Some(&b"theirs"[..]),
        "the object is theirs"
    );
    assert_eq!(
        fs::read(mount.join("f")).unwrap(),
        b"mine",
        "the file is mine"
    );
    assert_eq!(mount.status()["conflicts"]["total"], 1);
    assert!(mount.log().contains("both versions are kept"));
}

/// A file that was changed here and there, once everything is settled.
fn changed_by_both(on_conflict: &str, bytes: usize) -> (Store, Mount) {
    use std::io::Write;
    let store = Store::seaweedfs();
    let mount = Mount::of(&store).option(on_conflict).start();
    fs::write(mount.join("f"), "first").unwrap();
    mount.sync();
    let mut file = fs::File::create(mount.join("f")).unwrap();
    file.write_all(&vec![b'm'; bytes]).unwrap();
    store.put("f", "theirs");
    drop(file);
    mount.sync();
    (store, mount)
}

#[track_caller]
fn tells_one_conflict(mount: &Mount, words: &str) {
    let status = mount.status();
    assert_eq!(status["conflicts"]["total"], 1, "{status:#}");
    let told = status["conflicts"]["first"][0].as_str().unwrap();
    assert!(told.starts_with("f (") && told.contains(words), "{told}");
    assert_eq!(mount.attribute("f", "user.fused.state"), "clean");
}

#[test]
fn with_ours_the_file_replaces_what_somebody_else_put() {
    harness::require_mounts!();
    for bytes in [4, 12 << 20] {
        let (store, mount) = changed_by_both("on_conflict=ours", bytes);
        assert_eq!(store.get("f"), Some(vec![b'm'; bytes]));
        assert_eq!(fs::read(mount.join("f")).unwrap(), vec![b'm'; bytes]);
        tells_one_conflict(&mount, "theirs was replaced");
        assert!(mount.log().contains("on_conflict=ours"));
        assert_eq!(store.files(), ["f"]);
    }
}

#[test]
fn with_theirs_the_file_shows_what_somebody_else_put_and_ours_is_kept_aside() {
    harness::require_mounts!();
    for bytes in [4, 12 << 20] {
        let (store, mount) = changed_by_both("on_conflict=theirs", bytes);
        assert_eq!(store.get("f").as_deref(), Some(&b"theirs"[..]));
        assert_eq!(fs::read(mount.join("f")).unwrap(), b"theirs");
        assert_eq!(fs::metadata(mount.join("f")).unwrap().len(), 6);
        tells_one_conflict(&mount, "ours is kept as");
        assert!(mount.log().contains("on_conflict=theirs"));
        let kept: Vec<_> = fs::read_dir(mount.cache().path().join("torn"))
            .unwrap()
            .map(|entry| fs::read(entry.unwrap().path()).unwrap())
            .collect();
        assert_eq!(kept, [vec![b'm'; bytes]]);
        // It is an ordinary file again, after a restart as well.
        let mount = mount.unmount().start();
        assert_eq!(fs::read(mount.join("f")).unwrap(), b"theirs");
        fs::write(mount.join("f"), "mine again").unwrap();
        mount.sync();
        assert_eq!(store.get("f").as_deref(), Some(&b"mine again"[..]));
        assert_eq!(mount.status()["conflicts"]["total"], 0);
    }
}

#[test]
fn a_name_that_was_looked_for_in_vain_is_found_when_others_put_it() {
    harness::require_mounts!();
    let store = Store::seaweedfs();
    store.put("d/f", "there");
    let mount = Mount::of(&store).option("revalidate=2s").start();
    let wanted = mount.join("d/g");
    // The second time the kernel answers: it remembers that there is none.
    assert!(!wanted.exists() && !wanted.exists());
    assert_eq!(fs::read_dir(mount.join("d")).unwrap().count(), 1);
    store.put("d/g", "theirs");
    harness::wait_until("it is there", std::time::Duration::from_secs(20), || {
        wanted.exists()
    });
    assert_eq!(fs::read(&wanted).unwrap(), b"theirs");
    assert_eq!(fs::read_dir(mount.join("d")).unwrap().count(), 2);
}

#[test]
fn what_others_put_is_opened_by_who_would_make_it_and_not_in_the_way() {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};
    harness::require_mounts!();
    // Times are counted in whole seconds, so the kernel believes what it was told late in one for a little
    // longer than the daemon.
    let sleep_until = |second: u64, ms: u64| {
        let then = UNIX_EPOCH + Duration::from_secs(second) + Duration::from_millis(ms);
        let left = then.duration_since(SystemTime::now());
        std::thread::sleep(left.unwrap_or_default());
    };
    let store = Store::seaweedfs();
    store.put("f", "there");
    let mount = Mount::of(&store).option("revalidate=2s").start();
    let wanted = mount.join("g");
    std::thread::sleep(Duration::from_secs(3));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let second = now.as_secs() + 1;
    sleep_until(second, 50);
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 1);
    sleep_until(second, 800);
    assert!(!wanted.exists());
    store.put("g", "theirs");
    sleep_until(second + 2, 300);
    let opened = fs::File::options().create(true).append(true).open(&wanted);
    assert_eq!(opened.unwrap().metadata().unwrap().len(), 6);
}

/// A bucket with files of several owners and modes, which another mount left there.
fn of_several_owners() -> Store {
    let store = Store::seaweedfs();
    let mount = Mount::of(&store).start();
    fs::create_dir(mount.join("d")).unwrap();
    for (name, mode, owner) in [
        ("open", 0o644, 0),
        ("secret", 0o600, 4711),
        ("run", 0o750, 4711),
    ] {
        let path = mount.join("d").join(name);
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(owner), Some(owner)).unwrap();
    }
    mount.sync();
    mount.unmount();
    store
}

fn mode_and_owner(path: &Path) -> (u32, u32) {
    let stat = fs::metadata(path).unwrap();
    (stat.mode() & 0o7777, stat.uid())
}

#[test]
fn with_attributes_of_the_listing_a_tree_is_shown_without_asking_for_each_object() {
    harness::require_mounts!();
    let store = of_several_owners();
    let proxy = store.proxy();
    let options = Mount::of(&store)
        .option("attributes=listing")
        .cache(&Cache::new());
    let mount = options.through(&proxy).start();
    let before = proxy.count(|request| request.starts_with("HEAD"));
    let dir = mount.join("d");
    let shown: Vec<(u32, u32)> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| mode_and_owner(&entry.unwrap().path()))
        .collect();
    assert_eq!(shown, [(0o644, 0); 3]);
    let asked = proxy.count(|request| request.starts_with("HEAD")) - before;
    assert!(
        asked <= 1,
        "{asked} objects were asked for: {:?}",
        proxy.requests()
    );
    // Who opens it gets what the object says, also the right to.
    assert_eq!(fs::read(dir.join("open")).unwrap(), b"open");
    let as_other = |command: &[&str]| {
        let setpriv = tool("setpriv").expect("setpriv");
        let user = ["--reuid=4712", "--regid=4712", "--clear-groups", "--"];
        setpriv.args(user).args(command).within(&dir).run()
    };
    let refused = as_other(&["cat", "secret"]).fails_with(1);
    assert!(refused.contains("Permission denied"), "{refused}");
    as_other(&["cat", "open"]).success();
    assert_eq!(mode_and_owner(&dir.join("secret")), (0o600, 4711));
    assert_eq!(fs::read(dir.join("secret")).unwrap(), b"secret");
    // What is changed keeps the rest.
    fs::set_permissions(dir.join("run"), Permissions::from_mode(0o700)).unwrap();
    assert_eq!(mode_and_owner(&dir.join("run")), (0o700, 4711));
    fs::rename(dir.join("open"), mount.join("moved")).unwrap();
    mount.sync();
    mount.unmount();
    let mount = Mount::of(&store).cache(&Cache::new()).start();
    assert_eq!(mode_and_owner(&mount.join("d/run")), (0o700, 4711));
    assert_eq!(mode_and_owner(&mount.join("d/secret")), (0o600, 4711));
    assert_eq!(fs::read(mount.join("moved")).unwrap(), b"open");
}

#[test]
fn a_file_that_was_only_listed_keeps_its_owner_when_it_is_renamed() {
    harness::require_mounts!();
    let store = of_several_owners();
    let options = Mount::of(&store)
        .option("attributes=listing")
        .cache(&Cache::new());
    let mount = options.start();
    assert_eq!(fs::read_dir(mount.join("d")).unwrap().count(), 3);
    fs::rename(mount.join("d/secret"), mount.join("moved")).unwrap();
    mount.sync();
    mount.unmount();
    let mount = Mount::of(&store).cache(&Cache::new()).start();
    assert_eq!(mode_and_owner(&mount.join("moved")), (0o600, 4711));
}
