//! The commands beside `mount`: sync, status, and the attributes of a file.

use std::fs;
use std::time::Duration;

use harness::{Mount, Server, Store, fused, wait_until};

#[test]
fn a_file_tells_its_state_object_and_residency() {
    harness::require_mounts!();
    let store = Store::seaweedfs();
    let mount = Mount::of(&store).start();
    fs::create_dir(mount.join("d")).unwrap();
    fs::write(mount.join("d/f"), "0123456789").unwrap();
    assert_eq!(mount.attribute("d/f", "user.fused.object"), "d/f");
    mount.sync();
    assert_eq!(mount.attribute("d/f", "user.fused.state"), "clean");
    let other = Mount::of(&store).start();
    let before = other.attribute("d/f", "user.fused.resident");
    fs::read(other.join("d/f")).unwrap();
    let after = other.attribute("d/f", "user.fused.resident");
    assert_ne!(before, after, "reading makes it resident");
}

#[test]
fn a_file_is_dirty_until_it_arrived() {
    harness::require_mounts!();
    let mut store = Store::on(Server::own_seaweedfs());
    let mount = Mount::of(&store).start();
    store.server().pause();
    fs::write(mount.join("f"), "not yet").unwrap();
    let state = mount.attribute("f", "user.fused.state");
    assert!(["dirty", "uploading"].contains(&state.as_str()), "{state}");
    let status = mount.status();
    assert_eq!(status["dirty_files"], 1, "{status:#}");
    assert_eq!(status["dirty_bytes"], 7, "{status:#}");
    store.server().resume();
    wait_until("it is clean", Duration::from_secs(120), || {
        mount.attribute("f", "user.fused.state") == "clean"
    });
    assert_eq!(mount.status()["dirty_files"], 0);
}

#[test]
fn sync_of_one_path_waits_for_that_path() {
    harness::require_mounts!();
    let store = Store::seaweedfs();
    let mount = Mount::of(&store).start();
    fs::write(mount.join("f"), "one").unwrap();
    let said = fused(["sync", "--json", mount.join("f").to_str().unwrap()]).success();
    assert!(store.has("f"));
    let report: serde_json::Value =
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!(report["synced"], true, "{said}");
    assert_eq!(report["files_total"], 1, "{said}");
}

#[test]
fn sync_of_what_is_no_mount_is_an_error_that_names_it() {
    let home = harness::scratch();
    let said = fused(["sync".as_ref(), home.path().as_os_str()]).fails_with(1);
    assert!(said.contains(home.path().to_str().unwrap()), "{said}");
}

#[test]
fn status_names_the_store_and_never_the_credentials() {
    harness::require_mounts!();
    let store = Store::seaweedfs();
    let mount = Mount::of(&store).start();
    let status = mount.status().to_string();
    assert!(status.contains(&store.url()), "{status}");
    let text = fused(["status".as_ref(), mount.path().as_os_str()]).success();
    assert!(text.contains(&store.url()), "{text}");
    for said in [status, text, mount.log()] {
        assert!(!said.contains("fused-test-secret"), "{said}");
    }
}

#[test]
fn help_lists_every_option_with_its_default() {
    let help = fused(["mount", "--help"]).success();
    for option in [
        "cache_dir",
        "cache_size",
        "journal",
        "passthrough",
        "fsync",
        "revalidate",
        "uid",
        "gid",
        "umask",
        "ro",
        "allow_other",
        "config",
    ] {
        assert!(help.contains(option), "no {option} in:\n{help}");
    }
}

#[test]
fn umount_with_flush_goes_when_everything_is_in_the_store() {
    harness::require_mounts!();
    let store = Store::seaweedfs();
    let mut mount = Mount::of(&store).option("settle=1m").start();
    fs::create_dir(mount.join("d")).unwrap();
    fs::write(mount.join("d/f"), vec![5; 20 << 20]).unwrap();
    let at = mount.path().to_owned();
    let said = fused(["umount", "--flush", "--json", at.to_str().unwrap()]).success();
    let report: serde_json::Value =
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!(report["synced"], true, "{said}");
    assert_eq!(store.get("d/f").map(|bytes| bytes.len()), Some(20 << 20));
    assert!(mount.daemon().ended().is_some(), "and its daemon has ended");
}

#[test]
fn umount_with_flush_that_can_not_be_done_lists_what_is_missing_and_stays() {
    harness::require_mounts!();
    let mut store = Store::on(Server::own_seaweedfs());
    let mount = Mount::of(&store).start();
    store.server().pause();
    fs::write(mount.join("f"), "not yet").unwrap();
    let at = mount.path().to_str().unwrap().to_owned();
    let said = fused(["umount", "--flush", "--timeout", "1", &at]).fails_with(1);
    assert!(said.contains("1 file not in the store"), "{said}");
    assert!(said.contains(&format!("{at}/f")), "{said}");
    fs::write(mount.join("g"), "it is still mounted, and not read-only").unwrap();
    store.server().resume();
    fused(["umount", "--flush", &at]).success();
    assert!(store.has("f") && store.has("g"));
}

#[test]
fn umount_with_flush_of_a_busy_mount_leaves_it_as_it_was() {
    harness::require_mounts!();
    let store = Store::folder();
    let mount = Mount::of(&store).start();
    let at = mount.path().to_str().unwrap().to_owned();
    for open in [
        fs::File::create(mount.join("f")).unwrap(),
        fs::File::open(mount.path()).unwrap(),
    ] {
        let said = fused(["umount", "--flush", &at]).fails_with(1);
        assert!(said.contains("in use"), "{said}");
        drop(open);
    }
    fs::write(mount.join("g"), "not read-only").unwrap();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.contains(&at)).unwrap();
    assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
    fused(["umount", "--flush", &at]).success();
    assert!(store.has("g"));
}
