//! `fused load`: what is brought in, what is fetched for it, and where it ends.

use std::fs;
use std::path::Path;
use std::time::Duration;

use harness::{
    Cache, Fault, Mount, Proxy, Random, Store, Way, fused, running, same_tree, scratch, wait_until,
};
use nix::sys::signal::Signal;
use serde_json::Value;

const MIB: usize = 1 << 20;

harness::every_way!(what_is_loaded_is_here_and_right_and_is_not_fetched_again,);

/// `fused load --json` of a path on a mount that works.
fn load(mount: &Mount, path: &str) -> Value {
    let path = mount.join(path);
    let said = fused(["load", "--json", path.to_str().unwrap()]).success();
    serde_json::from_str(&said).expect("JSON")
}

fn resident(mount: &Mount, path: impl AsRef<Path>) -> usize {
    let text = mount.attribute(path, "user.fused.resident");
    text.trim().parse().expect("a number of bytes")
}

/// Files of a tree below `at`, with their sizes.
fn files_of(at: &Path) -> Vec<(std::path::PathBuf, usize)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(at).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files_of(&entry.path())),
            false => found.push((entry.path(), entry.metadata().unwrap().len() as usize)),
        }
    }
    found
}

/// So many files of so many bytes.
fn fill(at: &Path, count: usize, bytes: usize) {
    fs::create_dir_all(at).unwrap();
    for n in 0..count {
        Random::write_file(n as u64, &at.join(format!("{n:02}")), bytes);
    }
}

fn what_is_loaded_is_here_and_right_and_is_not_fetched_again(way: &Way) {
    let plain = scratch();
    fill(&plain.path().join("d/e"), 40, 5000);
    fill(&plain.path().join("d/e/f"), 3, 300_000);
    Random::write_file(9, &plain.path().join("d/large"), 20 * MIB + 7);
    fs::write(plain.path().join("d/empty"), "").unwrap();
    fs::write(plain.path().join("beside"), "not asked for").unwrap();
    let mount = way.mount();
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args(
            fs::read_dir(plain.path())
                .unwrap()
                .map(|e| e.unwrap().path()),
        )
        .arg(mount.path())
        .status();
    assert!(copied.unwrap().success());
    mount.sync();
    mount.unmount();

    let mount = way.mount();
    let report = load(&mount, "d");
    let files = files_of(&plain.path().join("d"));
    let bytes: usize = files.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(report["loaded"], true, "{report:#}");
    assert_eq!(report["files"], files.len() - 1, "{report:#}");
    assert_eq!(report["bytes"], bytes, "{report:#}");
    assert_eq!(report["resident"], 1, "the empty one: {report:#}");
    for (path, bytes) in &files {
        let path = path.strip_prefix(plain.path()).unwrap();
        assert_eq!(resident(&mount, path), *bytes, "{}", path.display());
    }
    assert_eq!(resident(&mount, "beside"), 0);

    let again = load(&mount, "d");
    assert_eq!(again["bytes"], 0, "{again:#}");
    assert_eq!(again["resident"], files.len(), "{again:#}");
    same_tree(&plain.path().join("d"), &mount.join("d"));
}

/// A bucket behind a proxy, with `count` files of `bytes` in `d`, and nothing of it in the cache.
fn behind_a_proxy(count: usize, bytes: usize) -> (Store, Proxy, Mount) {
    let store = Store::seaweedfs();
    let mount = Mount::of(&store).start();
    fill(&mount.join("d"), count, bytes);
    mount.sync();
    mount.unmount();
    let proxy = store.proxy();
    let mount = Mount::of(&store).through(&proxy).start();
    (store, proxy, mount)
}

fn is_get_of_a_file(line: &str) -> bool {
    line.starts_with("GET") && line.contains("/d/")
}

/// Of each answer: long enough for a busy machine to notice that a client is gone.
const DELAY: Duration = Duration::from_secs(4);

#[test]
fn a_load_ends_with_its_client_and_goes_on_where_it_was() {
    harness::require_mounts!();
    let (_store, proxy, mount) = behind_a_proxy(3, 60 * MIB);
    proxy.judge(|line| is_get_of_a_file(line).then_some(Fault::Delay(DELAY)));
    let path = mount.join("d");
    let client = running(["load", "--json", path.to_str().unwrap()]);
    let here = || {
        (0..3)
            .map(|n| resident(&mount, format!("d/{n:02}")))
            .sum::<usize>()
    };
    wait_until("something is here", Duration::from_secs(60), || here() > 0);
    client.signal(Signal::SIGINT);
    let ended = client.end_within(Duration::from_secs(10));
    assert!(
        ended.status.is_some_and(|status| !status.success()),
        "{ended}"
    );
    let mut before = here();
    wait_until("the daemon has stopped", Duration::from_secs(60), || {
        std::thread::sleep(DELAY + Duration::from_secs(2));
        let after = here();
        std::mem::replace(&mut before, after) == after
    });
    assert!(before < 180 * MIB, "it went on to the end");
    proxy.mend();
    let report = load(&mount, "d");
    assert_eq!(report["bytes"], 180 * MIB - before, "{report:#}");
    assert_eq!(here(), 180 * MIB);
}

#[test]
fn what_can_not_be_loaded_is_named_and_the_rest_is_loaded() {
    harness::require_mounts!();
    let (_store, proxy, mount) = behind_a_proxy(30, 50_000);
    proxy.judge(|line| {
        let denied = is_get_of_a_file(line) && line.contains("/d/07");
        denied.then_some(Fault::Refuse(403, "AccessDenied"))
    });
    let path = mount.join("d");
    let said = fused(["load", path.to_str().unwrap()]).fails_with(1);
    assert!(said.contains("1 file not loaded"), "{said}");
    assert!(
        said.contains(&format!("{}: ", path.join("07").display())),
        "{said}"
    );
    assert_eq!(resident(&mount, "d/07"), 0);
    assert_eq!(resident(&mount, "d/29"), 50_000);
    proxy.judge(|line| is_get_of_a_file(line).then_some(Fault::Refuse(403, "AccessDenied")));
    fused(["free", path.to_str().unwrap()]).success();
    let said = fused(["load", path.to_str().unwrap()]).fails_with(1);
    assert!(said.contains("one after the other"), "{said}");
}

/// A folder with files of 10 MiB in `a`, `b` and `c`, mounted with a small empty cache.
fn with_a_small_cache() -> (Store, Mount) {
    let store = Store::folder();
    let mount = Mount::of(&store).start();
    for (directory, count) in [("a", 6), ("b", 4), ("c", 12)] {
        fill(&mount.join(directory), count, 10 * MIB);
    }
    mount.sync();
    mount.unmount();
    let mount = Mount::of(&store)
        .cache(&Cache::new())
        .option("cache_size=80M")
        .start();
    (store, mount)
}

/// Files of `directory` that are all in the cache.
fn whole(mount: &Mount, directory: &str) -> usize {
    let names = fs::read_dir(mount.join(directory)).unwrap();
    let paths = names.map(|entry| Path::new(directory).join(entry.unwrap().file_name()));
    paths
        .filter(|path| resident(mount, path) == 10 * MIB)
        .count()
}

#[test]
fn a_load_makes_room_for_itself() {
    harness::require_mounts!();
    let (_store, mount) = with_a_small_cache();
    load(&mount, "a");
    assert_eq!(whole(&mount, "a"), 6);
    let report = load(&mount, "b");
    assert_eq!(report["loaded"], true, "{report:#}");
    assert_eq!(whole(&mount, "b"), 4);
}

#[test]
fn a_load_of_more_than_the_cache_holds_stops_with_what_fits() {
    harness::require_mounts!();
    let (_store, mount) = with_a_small_cache();
    load(&mount, "a");
    let path = mount.join("c");
    let dirty = vec![7; 5 * MIB];
    let writer = fs::File::create(mount.join("dirty")).unwrap();
    std::io::Write::write_all(&mut &writer, &dirty).unwrap();
    let said = fused(["load", path.to_str().unwrap()]).fails_with(1);
    assert!(said.contains("the cache is full"), "{said}");
    assert!(said.contains("cache_size"), "{said}");
    let loaded = whole(&mount, "c");
    assert!((5..=7).contains(&loaded), "{loaded} of 12 files");
    assert_eq!(resident(&mount, "dirty"), dirty.len());
    // The same again finds what it had loaded.
    fused(["load", path.to_str().unwrap()]).fails_with(1);
    assert!(whole(&mount, "c") >= loaded);
}
