//! `fused pin`: what is pinned stays in the cache, whatever else comes, and over restarts.

use std::fs;
use std::path::Path;

use harness::{Cache, Mount, MountOptions, Random, Store, fused};
use serde_json::Value;

const MIB: usize = 1 << 20;

fn resident(mount: &Mount, path: impl AsRef<Path>) -> usize {
    let text = mount.attribute(path, "user.fused.resident");
    text.trim().parse().expect("a number of bytes")
}

fn said(mount: &Mount, command: &[&str], path: &str) -> Value {
    let path = mount.join(path);
    let words = command
        .iter()
        .copied()
        .chain(["--json", path.to_str().unwrap()]);
    serde_json::from_str(&fused(words).success()).expect("JSON")
}

fn pinned(mount: &Mount, path: &str) -> String {
    mount.attribute(path, "user.fused.pinned")
}

/// A folder with 3 files of 8 MiB in `keep`, 14 in `other`; to be mounted with a cache of 80 MiB.
fn with_a_small_cache() -> (Store, MountOptions) {
    let store = Store::folder();
    let mount = Mount::of(&store).start();
    for (directory, count) in [("keep", 3), ("other", 14)] {
        fs::create_dir(mount.join(directory)).unwrap();
        for n in 0..count {
            let path = mount.join(directory).join(format!("{n:02}"));
            Random::write_file(n, &path, 8 * MIB);
        }
    }
    mount.sync();
    mount.unmount();
    let options = Mount::of(&store)
        .cache(&Cache::new())
        .option("cache_size=80M");
    (store, options)
}

/// Reads more than the cache holds.
fn read_the_others(mount: &Mount) {
    for _ in 0..2 {
        for n in 0..14 {
            fs::read(mount.join(format!("other/{n:02}"))).unwrap();
        }
        // Two looks of the evictor.
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
    assert!(mount.status()["cache_used"].as_u64() < Some(80 << 20));
}

#[test]
fn what_is_pinned_is_loaded_and_stays_over_scans_restarts_and_crashes() {
    harness::require_mounts!();
    let (_store, options) = with_a_small_cache();
    let mount = options.start();
    let report = said(&mount, &["pin"], "keep");
    assert_eq!(report["pinned"], 1, "{report:#}");
    assert_eq!(report["files"], 3, "{report:#}");
    assert_eq!(pinned(&mount, "keep"), "yes");
    assert_eq!(pinned(&mount, "keep/00"), "above");
    assert_eq!(pinned(&mount, "other/00"), "no");
    let status = mount.status();
    assert_eq!(status["pinned"]["first"][0], "keep", "{status:#}");
    let mount = mount.crash().start();
    read_the_others(&mount);
    for n in 0..3 {
        assert_eq!(resident(&mount, format!("keep/{n:02}")), 8 * MIB);
    }
    // A pin is the directory's, not the name's; and what comes below it later is pinned too.
    fs::rename(mount.join("keep"), mount.join("kept")).unwrap();
    Random::write_file(77, &mount.join("kept/new"), 8 * MIB);
    mount.sync();
    let mount = mount.unmount().start();
    read_the_others(&mount);
    assert_eq!(resident(&mount, "kept/new"), 8 * MIB);
    let freed = said(&mount, &["free"], "kept");
    assert_eq!(
        (&freed["files"], &freed["pinned"]),
        (&0.into(), &4.into()),
        "{freed:#}"
    );

    let kept = mount.join("kept/00");
    let text = fused(["unpin", kept.to_str().unwrap()]).success();
    assert!(text.contains("kept is pinned"), "{text}");
    let report = said(&mount, &["unpin"], "kept");
    assert_eq!(report["unpinned"], 1, "{report:#}");
    assert_eq!(pinned(&mount, "kept/00"), "no");
    let freed = said(&mount, &["free"], "kept");
    assert_eq!(
        (&freed["files"], &freed["pinned"]),
        (&4.into(), &0.into()),
        "{freed:#}"
    );
    mount.unmount().is_sound(&[]);
}

#[test]
fn a_pin_that_does_not_load_and_one_that_does_not_fit() {
    harness::require_mounts!();
    let (_store, options) = with_a_small_cache();
    let mount = options.start();
    let report = said(&mount, &["pin", "--no-load"], "keep");
    assert_eq!(report["pinned"], 1, "{report:#}");
    assert_eq!(resident(&mount, "keep/00"), 0);
    said(&mount, &["load"], "keep");
    let other = mount.join("other");
    let text = fused(["pin", other.to_str().unwrap()]).fails_with(1);
    assert!(text.contains("the cache is full"), "{text}");
    assert_eq!(resident(&mount, "keep/02"), 8 * MIB, "pinned before");
    // Nothing may be evicted for it: whoever reads still gets the bytes.
    assert_eq!(fs::read(other.join("13")).unwrap().len(), 8 * MIB);
}
