//! The power fails under load, on ext4 and on XFS; see [`crate::image`].
//!
//! The tests differ in who writes into the extent files (the kernel or the daemon), in whether the
//! flusher is at work at the cut, and in the store. Within a test, rounds differ in how much is
//! synced, from nothing to nearly everything.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use harness::{Mount, Store};

use crate::image::{Image, Kind};
use crate::rounds::{Plan, another_boot};

const ROUNDS: usize = 15;
const ROUNDS_LONG: usize = 125;

macro_rules! power_cuts {
    ($($name:ident: $passthrough:literal, $settle:literal, $bucket:literal, $directories:literal;)+) => { $(
        mod $name {
            use super::{Kind, Plan, ROUNDS, ROUNDS_LONG};

            fn on(image: Kind, rounds: usize) {
                harness::require_mounts!();
                let plan = Plan {
                    image: Some(image),
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
            fn on_ext4() {
                on(Kind::Ext4, ROUNDS);
            }

            #[test]
            fn on_xfs() {
                on(Kind::Xfs, ROUNDS);
            }

            #[test]
            #[ignore = "takes minutes"]
            fn on_ext4_for_long() {
                on(Kind::Ext4, ROUNDS_LONG);
            }

            #[test]
            #[ignore = "takes minutes"]
            fn on_xfs_for_long() {
                on(Kind::Xfs, ROUNDS_LONG);
            }
        }
    )+ };
}

power_cuts! {
    passthrough_while_files_are_uploaded: "passthrough=auto", "settle=0s", false, 1;
    passthrough_before_anything_is_uploaded: "passthrough=auto", "settle=5m", false, 2;
    through_the_daemon_while_files_are_uploaded: "passthrough=off", "settle=0s", false, 2;
    through_the_daemon_into_a_bucket: "passthrough=off", "settle=500ms", true, 1;
}

/// A cache directory on an image of its own.
struct Stand {
    store: Store,
    image: Image,
}

impl Stand {
    fn new() -> Self {
        Self {
            store: Store::folder(),
            image: Image::new(Kind::Ext4, 1 << 30),
        }
    }

    fn cache(&self) -> PathBuf {
        self.image.path().join("cache")
    }

    fn mount(&self) -> Mount {
        let cache = format!("cache_dir={}", self.cache().display());
        Mount::of(&self.store).option(cache).start()
    }

    /// After a cut, when the daemon is gone.
    fn boot(&mut self) -> Mount {
        self.image.replay();
        another_boot(&self.cache());
        self.mount()
    }
}

/// After a `fused sync` also those names are safe of which the store knows nothing. Found by a simulated world: a hard
/// link to a file that was in the store already was gone.
#[test]
fn what_only_the_journal_holds_is_safe_after_a_sync() {
    harness::require_mounts!();
    let mut stand = Stand::new();
    let before = stand.mount();
    fs::write(before.join("f"), "in the store").expect("written");
    before.sync();
    fs::hard_link(before.join("f"), before.join("hard")).expect("linked");
    symlink("f", before.join("soft")).expect("linked");
    before.sync();
    stand.image.cut();
    drop(before.crash());
    let after = stand.boot();
    for name in ["f", "hard", "soft"] {
        let there = fs::read_to_string(after.join(name));
        assert_eq!(there.expect(name), "in the store", "{name}");
    }
    after.unmount().is_sound(&[]);
}

/// Neither of two files was ever closed, and one had taken the other's name: there is no version to go back to.
/// Found by a simulated world: an empty file was there, and in the store.
#[test]
fn a_name_that_never_had_a_whole_file_is_gone() {
    harness::require_mounts!();
    let mut stand = Stand::new();
    let before = stand.mount();
    let mut open = Vec::new();
    for name in ["name", "other"] {
        let mut file = File::create(before.join(name)).expect("made");
        file.write_all(b"a part").expect("written");
        open.push(file);
    }
    fs::rename(before.join("other"), before.join("name")).expect("renamed");
    let root = File::open(before.path()).expect("the root");
    root.sync_all().expect("the names are safe");
    stand.image.cut();
    drop((open, root, before.crash()));
    let after = stand.boot();
    let names = fs::read_dir(after.path()).expect("the root");
    let names: Vec<_> = names.flatten().map(|entry| entry.file_name()).collect();
    assert!(names.is_empty(), "{names:?}");
    after.sync();
    assert_eq!(stand.store.files(), Vec::<String>::new());
    after.unmount().is_sound(&[]);
}
