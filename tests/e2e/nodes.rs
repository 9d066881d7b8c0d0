//! One file system on two nodes, one after the other, with its journal in FoundationDB.
//!
//! `FUSED_TEST_FDB_CLUSTER_FILE` names a cluster, and `FUSED_BIN` a program that was built with the feature.

use std::fs::{self, OpenOptions};
use std::io::Write;

use harness::{Cache, Mount, MountOptions, Store, fused, skip};

struct Stand {
    store: Store,
    caches: [Cache; 2],
    cluster_file: String,
}

impl Stand {
    fn new() -> Option<Self> {
        let Ok(cluster_file) = std::env::var("FUSED_TEST_FDB_CLUSTER_FILE") else {
            skip("FUSED_TEST_FDB_CLUSTER_FILE names no FoundationDB");
            return None;
        };
        if !fused(["--version"]).success().contains("foundationdb") {
            skip("this fused was built without the feature foundationdb");
            return None;
        }
        // Its path, and so the place in the cluster, is a new one each time.
        Some(Self {
            store: Store::folder(),
            caches: [Cache::new(), Cache::new()],
            cluster_file,
        })
    }

    fn node(&self, number: usize) -> MountOptions {
        Mount::of(&self.store)
            .cache(&self.caches[number])
            .option(format!("journal=fdb:{}", self.cluster_file))
    }

    #[track_caller]
    fn is_refused(&self, number: usize, why: &str) {
        let failed = self.node(number).try_start().expect_err("refused");
        assert!(failed.said.contains(why), "{failed:?}");
    }
}

#[test]
fn a_second_node_waits_for_its_turn_and_reads_what_the_first_one_wrote() {
    harness::require_mounts!();
    let Some(stand) = Stand::new() else { return };
    let one = stand.node(0).start();
    fs::create_dir(one.join("d")).unwrap();
    fs::write(one.join("d/f"), "first").unwrap();
    stand.is_refused(1, "unmount it there first");

    // Killed, it may come back, and only it.
    drop(one.crash());
    stand.is_refused(1, "after a crash, mount it there again");
    let one = stand.node(0).option("settle=1h").start();
    assert_eq!(fs::read_to_string(one.join("d/f")).unwrap(), "first");
    fs::write(one.join("d/g"), "only here").unwrap();
    one.unmount();
    stand.is_refused(1, "has files that are not in the store yet");
    let one = stand.node(0).start();
    one.sync();
    one.unmount();

    let other = stand.node(1).start();
    assert_eq!(fs::read_to_string(other.join("d/f")).unwrap(), "first");
    assert_eq!(fs::read_to_string(other.join("d/g")).unwrap(), "only here");
    fs::write(other.join("d/f"), "SECOND").unwrap();
    let g = OpenOptions::new().write(true).open(other.join("d/g"));
    g.unwrap().write_all(b"ONLY").unwrap();
    fs::rename(other.join("d"), other.join("e")).unwrap();
    other.sync();
    other.unmount();

    // What it has of the first version is not taken for the second one.
    let one = stand.node(0).start();
    assert_eq!(fs::read_to_string(one.join("e/f")).unwrap(), "SECOND");
    assert_eq!(fs::read_to_string(one.join("e/g")).unwrap(), "ONLY here");
    assert_eq!(stand.store.get("e/f").as_deref(), Some(&b"SECOND"[..]));
}

#[test]
fn a_node_that_is_lost_is_given_up_with_what_only_its_disk_had() {
    harness::require_mounts!();
    let Some(stand) = Stand::new() else { return };
    let one = stand.node(0).option("settle=1h").start();
    fs::write(one.join("sent"), "in the store").unwrap();
    one.sync();
    let node = one.status()["node"].as_str().unwrap().to_owned();
    fs::write(one.join("sent"), "only there").unwrap();
    fs::write(one.join("new"), "only there, too").unwrap();
    stand.is_refused(1, "unmount it there first");
    let journal = format!("journal=fdb:{}", stand.cluster_file);
    let cache = stand.caches[1].path().to_str().unwrap().to_owned();
    let forget = |more: &[&str]| fused([&["forget-node", &cache, "-o", &journal], more].concat());
    let said = forget(&[&node, "--give-up"]).fails_with(1);
    assert!(said.contains("unmount it there"), "{}", said);
    one.unmount();

    let said = forget(&[]).success();
    assert!(
        said.contains(&node) && said.contains("2 not in the store"),
        "{}",
        said
    );
    let said = forget(&[&node]).success();
    assert!(said.contains("new (15 B) is gone"), "{}", said);
    stand.is_refused(1, "has files that are not in the store yet");
    forget(&[&node, "--give-up"]).success();

    let other = stand.node(1).start();
    assert_eq!(
        fs::read_to_string(other.join("sent")).unwrap(),
        "in the store"
    );
    assert!(!other.join("new").exists());
    fs::write(other.join("sent"), "later").unwrap();
    other.sync();
    other.unmount();
    // It comes back after all: what it has is of an earlier time.
    let one = stand.node(0).start();
    assert_eq!(fs::read_to_string(one.join("sent")).unwrap(), "later");
}
