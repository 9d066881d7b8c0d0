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
