//! `[[rules]]` of the config file: what holds for some paths only.

use std::fs;
use std::path::Path;
use std::time::Duration;

use harness::{Cache, Mount, MountOptions, Random, Store, fused, scratch, wait_until};
use serde_json::Value;

const MIB: usize = 1 << 20;

/// A mount of `store` by these rules, in a folder that must be kept.
fn by_rules(store: &Store, cache: &Cache, rules: &str) -> (impl Sized + use<>, MountOptions) {
    let home = scratch();
    let config = home.path().join("fused.toml");
    fs::write(&config, rules).unwrap();
    let options = Mount::of(store).cache(cache);
    let options = options.option(format!("config={}", config.display()));
    (home, options)
}

fn resident(mount: &Mount, path: impl AsRef<Path>) -> usize {
    let text = mount.attribute(path, "user.fused.resident");
    text.trim().parse().expect("a number of bytes")
}

#[track_caller]
fn goes(mount: &Mount, path: &str) {
    wait_until(&format!("{path} goes"), Duration::from_secs(15), || {
        resident(mount, path) == 0
    });
}

#[test]
fn what_is_skipped_stays_only_until_it_is_in_the_store() {
    harness::require_mounts!();
    let (store, cache) = (Store::folder(), Cache::new());
    let rules = "[[rules]]\npaths = [\"*.tmp\", \"scratch\"]\nskip = true\n";
    let (_home, options) = by_rules(&store, &cache, rules);
    let mount = options.option("settle=1h").start();
    fs::create_dir_all(mount.join("scratch/deep")).unwrap();
    for name in ["a.tmp", "scratch/deep/b", "kept"] {
        Random::write_file(1, &mount.join(name), MIB);
    }
    // Longer than the evictor sleeps.
    std::thread::sleep(Duration::from_secs(4));
    for name in ["a.tmp", "scratch/deep/b", "kept"] {
        assert_eq!(resident(&mount, name), MIB, "{name} is nowhere else yet");
    }
    mount.sync();
    goes(&mount, "a.tmp");
    goes(&mount, "scratch/deep/b");
    assert_eq!(resident(&mount, "kept"), MIB);
    // Read again, from the store.
    let whole = Random::new(1).bytes(MIB);
    assert_eq!(fs::read(mount.join("a.tmp")).unwrap(), whole);
    goes(&mount, "a.tmp");
    let report = fused(["load", "--json", mount.path().to_str().unwrap()]).success();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        (&report["loaded"], &report["skipped"], &report["resident"]),
        (&true.into(), &2.into(), &1.into()),
        "{report:#}"
    );
    assert_eq!(resident(&mount, "a.tmp"), 0);
    // The rule is that of the name.
    fs::rename(mount.join("a.tmp"), mount.join("a.bin")).unwrap();
    assert_eq!(fs::read(mount.join("a.bin")).unwrap(), whole);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(resident(&mount, "a.bin"), MIB);
    // A version that is written is safe as any other.
    fs::write(mount.join("scratch/deep/b"), b"new").unwrap();
    let mount = mount.crash().start();
    assert_eq!(fs::read(mount.join("scratch/deep/b")).unwrap(), b"new");
}

#[test]
fn what_is_not_used_for_its_time_goes_also_after_a_restart() {
    harness::require_mounts!();
    let (store, cache) = (Store::folder(), Cache::new());
    let mount = Mount::of(&store).cache(&cache).start();
    for name in ["before.bin", "pinned.bin", "kept"] {
        Random::write_file(1, &mount.join(name), MIB);
    }
    mount.sync();
    fused(["pin", mount.join("pinned.bin").to_str().unwrap()]).success();
    mount.unmount();
    let rules =
        "[[rules]]\npaths = [\"*\"]\nttl = 4\n[[rules]]\npaths = [\"kept\"]\nttl = \"1d\"\n";
    let (_home, options) = by_rules(&store, &cache, rules);
    let mount = options.start();
    goes(&mount, "before.bin");
    assert_eq!(resident(&mount, "kept"), MIB, "the last rule holds");
    assert_eq!(resident(&mount, "pinned.bin"), MIB, "a pin holds");
    let began = std::time::Instant::now();
    fs::read(mount.join("before.bin")).unwrap();
    // Who reads has the bytes before they are stored.
    wait_until("it is here", Duration::from_secs(3), || {
        resident(&mount, "before.bin") == MIB
    });
    goes(&mount, "before.bin");
    assert!(
        began.elapsed() >= Duration::from_secs(4),
        "not before its time"
    );
    // While it is open, its time does not pass.
    let open = fs::File::open(mount.join("before.bin")).unwrap();
    fs::read(mount.join("before.bin")).unwrap();
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(resident(&mount, "before.bin"), MIB);
    drop(open);
    goes(&mount, "before.bin");
    fused(["unpin", mount.join("pinned.bin").to_str().unwrap()]).success();
    goes(&mount, "pinned.bin");
}

#[test]
fn where_the_rule_says_so_close_waits_for_the_store() {
    harness::require_mounts!();
    let (store, cache) = (Store::folder(), Cache::new());
    let rules = "[[rules]]\npaths = [\"ckpt/**\"]\nclose = \"store\"\n";
    let (_home, options) = by_rules(&store, &cache, rules);
    let mount = options.option("settle=1h").start();
    fs::create_dir(mount.join("ckpt")).unwrap();
    fs::write(mount.join("other"), "later").unwrap();
    fs::write(mount.join("ckpt/weights"), "now").unwrap();
    assert_eq!(store.get("ckpt/weights").as_deref(), Some(&b"now"[..]));
    assert!(!store.has("other"));
}

#[test]
fn a_rule_that_cannot_be_understood_is_refused_in_one_sentence() {
    harness::require_mounts!();
    let store = Store::folder();
    for (rules, word) in [
        ("[[rules]]\npaths = [\"a[\"]\n", "a["),
        ("[[rules]]\npaths = []\n", "paths"),
        ("[[rules]]\npaths = [\"a\"]\nttl = \"soon\"\n", "soon"),
        ("[[rules]]\npaths = [\"a\"]\nkeep = 1\n", "keep"),
    ] {
        let (_home, options) = by_rules(&store, &Cache::new(), rules);
        let failed = options.try_start().expect_err("this can't be mounted");
        let said = &failed.said;
        assert!(said.contains("`rules`") && said.contains(word), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}
