//! The daemon is killed under load, at a random instant or at a named one. The page cache stays: whatever
//! was acknowledged is there.

use std::fs::{self, OpenOptions};

use harness::{Cache, Mount, Store};

use crate::rounds::Plan;

const KILLS: usize = 32;
const KILLS_LONG: usize = 500;

macro_rules! kills {
    ($($name:ident: $passthrough:literal, $settle:literal, $bucket:literal, $directories:literal;)+) => { $(
        mod $name {
            use super::{KILLS, KILLS_LONG, Plan};

            fn times(rounds: usize) {
                harness::require_mounts!();
                let plan = Plan {
                    image: None,
                    passthrough: $passthrough,
                    settle: $settle,
                    bucket: $bucket,
                    directories: $directories,
                    points: &[],
                    rounds,
                };
                plan.run();
            }

            #[test]
            fn again_and_again() {
                times(KILLS);
            }

            #[test]
            #[ignore = "takes minutes"]
            fn again_and_again_for_long() {
                times(KILLS_LONG);
            }
        }
    )+ };
}

kills! {
    killed_with_passthrough_while_files_are_uploaded: "passthrough=auto", "settle=0s", false, 2;
    killed_with_passthrough_before_anything_is_uploaded: "passthrough=auto", "settle=5m", false, 1;
    killed_without_passthrough_while_files_are_uploaded: "passthrough=off", "settle=0s", false, 1;
    killed_without_passthrough_into_a_bucket: "passthrough=off", "settle=500ms", true, 2;
}

/// What this work comes to, of all that stands in `killpoints::around`; the daemon dies before and after each.
/// With passthrough it does not come to the first.
const POINTS: &[&str] = &[
    "extent write",
    "journal commit",
    "journal sync",
    "extent create",
    "extent sync",
    "extent remove",
    "look up",
    "write",
    "begin upload of",
    "upload part of",
    "complete upload of",
    "copy",
    "delete",
    "set attributes of",
    "abort upload of",
    "read",
    "make directory",
    "remove directory",
    "list",
];

fn at_points(passthrough: &'static str, bucket: bool, times: usize) {
    harness::require_mounts!();
    let points = match passthrough {
        "passthrough=off" => POINTS,
        _ => &POINTS[1..],
    };
    let plan = Plan {
        image: None,
        passthrough,
        settle: "settle=0s",
        bucket,
        directories: if bucket { 1 } else { 2 },
        points,
        rounds: 2 * points.len() * times,
    };
    plan.run();
}

#[test]
fn killed_at_points_without_passthrough() {
    at_points("passthrough=off", false, 1);
}

#[test]
fn killed_at_points_with_passthrough_into_a_bucket() {
    at_points("passthrough=auto", true, 1);
}

#[test]
#[ignore = "takes minutes"]
fn killed_at_points_for_long() {
    at_points("passthrough=off", true, 10);
}

/// What it tries the store by is there at that instant, and gone after the next start.
#[test]
fn killed_while_it_tries_the_store() {
    harness::require_mounts!();
    for store in [Store::folder(), Store::seaweedfs()] {
        let cache = Cache::new();
        let options = || Mount::of(&store).cache(&cache);
        let probes = || {
            let mut keys = store.files();
            keys.retain(|key| key.starts_with(".fused-probe-"));
            keys
        };
        for point in ["before look up:1", "before copy:1", "before delete:4"] {
            let started = options().env("FUSED_KILL_AT", point).try_start();
            let failed = started.expect_err("built with --features killpoints/on");
            assert_eq!(failed.code, None, "{failed:?}");
            assert!(!probes().is_empty(), "{point}");
        }
        options().start().unmount();
        assert_eq!(probes(), Vec::<String>::new());
    }
}

/// Opening for writing is recorded before there is an extent file of the right length. Found by a simulated world: the
/// file was empty afterwards, and so was its object.
#[test]
fn killed_while_it_opens_for_writing_what_is_only_in_the_store() {
    harness::require_mounts!();
    for passthrough in ["passthrough=auto", "passthrough=off"] {
        for point in [
            "before extent create:1",
            "after extent create:1",
            "before extent truncate:1",
            "after extent truncate:1",
        ] {
            let store = Store::folder();
            let text = "0123456789".repeat(30_000);
            store.put("f", &text);
            let cache = Cache::new();
            let options = || Mount::of(&store).cache(&cache).option(passthrough);
            let mount = options().env("FUSED_KILL_AT", point).start();
            let opened = OpenOptions::new().append(true).open(mount.join("f"));
            opened.expect_err(point);
            drop(mount.crash());
            let mount = options().option("settle=0s").start();
            let there = fs::read(mount.join("f")).expect("the file");
            assert!(there == text.as_bytes(), "{point}: {} bytes", there.len());
            mount.sync();
            assert!(
                store.get("f").as_deref() == Some(text.as_bytes()),
                "{point}"
            );
            mount.unmount().is_sound(&[]);
        }
    }
}
