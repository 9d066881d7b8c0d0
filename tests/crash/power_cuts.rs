//! The power fails under load, on ext4 and on XFS; see [`crate::image`].
//!
//! The tests differ in who writes into the extent files (the kernel or the daemon), in whether the
//! flusher is at work at the cut, and in the store. Within a test, rounds differ in how much is
//! synced, from nothing to nearly everything.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::PathBuf;

use harness::{Mount, MountOptions, Store, fused};

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
        Self::on(Kind::Ext4)
    }

    fn on(kind: Kind) -> Self {
        Self {
            store: Store::folder(),
            image: Image::new(kind, 1 << 30),
        }
    }

    fn cache(&self) -> PathBuf {
        self.image.path().join("cache")
    }

    fn options(&self) -> MountOptions {
        let cache = format!("cache_dir={}", self.cache().display());
        // Nothing is sent that nobody waits for.
        Mount::of(&self.store).option("settle=1h").option(cache)
    }

    fn mount(&self) -> Mount {
        self.options().start()
    }

    /// After a cut, when the daemon is gone.
    fn boot(&mut self) -> Mount {
        self.image.replay();
        another_boot(&self.cache());
        self.mount()
    }
}

/// What is written after an fsync may be lost. It does not come back as zeros.
#[test]
fn what_was_appended_after_an_fsync_is_there_or_not() {
    harness::require_mounts!();
    for kind in [Kind::Ext4, Kind::Xfs] {
        let mut stand = Stand::on(kind);
        let before = stand.mount();
        let mut file = File::create(before.join("log")).expect("made");
        file.write_all(&[b'a'; 10_000]).expect("written");
        file.sync_all().expect("synced");
        file.write_all(&[b'b'; 10_000]).expect("appended");
        drop(file);
        let root = File::open(before.path()).expect("the root");
        root.sync_all().expect("all that the journal knows is safe");
        stand.image.cut();
        drop((root, before.crash()));
        let after = stand.boot();
        let there = fs::read(after.join("log")).expect("there");
        let (synced, appended) = there.split_at(10_000);
        assert!(synced.iter().all(|byte| *byte == b'a'), "{kind:?}");
        assert!(appended.iter().all(|byte| *byte == b'b'), "{kind:?}: zeros");
        after.sync();
        assert_eq!(stand.store.get("log"), Some(there), "{kind:?}");
        after.unmount().is_sound(&[]);
    }
}

/// A file that was fsynced and then written to takes the place of another one.
#[test]
fn what_takes_the_place_of_a_file_is_whole_though_it_was_written_to_after_its_fsync() {
    harness::require_mounts!();
    for kind in [Kind::Ext4, Kind::Xfs] {
        let mut stand = Stand::on(kind);
        let before = stand.mount();
        fs::write(before.join("model"), [b'o'; 20_000]).expect("written");
        before.sync();
        let mut file = File::create(before.join("model.tmp")).expect("made");
        file.write_all(&[b'n'; 10_000]).expect("written");
        file.sync_all().expect("synced");
        file.write_all(&[b'n'; 10_000]).expect("appended");
        file.write_all_at(&[b'm'; 5000], 0)
            .expect("written in place");
        drop(file);
        fs::rename(before.join("model.tmp"), before.join("model")).expect("renamed");
        let root = File::open(before.path()).expect("the root");
        root.sync_all().expect("the names are safe");
        stand.image.cut();
        drop((root, before.crash()));
        let after = stand.boot();
        let there = fs::read(after.join("model")).expect("there");
        let new = [vec![b'm'; 5000], vec![b'n'; 15_000]].concat();
        assert!(
            there == [b'o'; 20_000] || there == new,
            "{kind:?}: {} bytes",
            there.len()
        );
        after.sync();
        assert_eq!(stand.store.get("model"), Some(there), "{kind:?}");
        after.unmount().is_sound(&[]);
    }
}

/// A program writes the next version over one that somebody reads meanwhile, as torch.save does over a model that is
/// mapped.
#[test]
fn a_version_that_is_read_while_it_is_written_over_comes_back() {
    harness::require_mounts!();
    for (kind, passthrough, in_store) in [
        (Kind::Ext4, "auto", false),
        (Kind::Ext4, "off", false),
        (Kind::Ext4, "auto", true),
        (Kind::Xfs, "auto", false),
    ] {
        let case = format!("{kind:?}, passthrough={passthrough}, in the store: {in_store}");
        let mut stand = Stand::on(kind);
        let passthrough = format!("passthrough={passthrough}");
        let before = stand.options().option(passthrough).start();
        let path = before.join("model");
        for version in [b'1', b'2', b'3'] {
            let mut file = File::create(&path).expect("made");
            file.write_all(&vec![version; 3_000_000]).expect("written");
            file.sync_all().expect("synced");
            drop(file);
            if version == b'1' {
                continue;
            }
            if in_store {
                before.sync();
            }
            // The version that is read is the one of the next turn, and the last one is torn.
            let reader = File::open(&path).expect("opened");
            let mut file = File::create(&path).expect("truncated");
            file.write_all(&vec![b'x'; 1_000_000]).expect("written");
            assert_eq!(
                reader.metadata().expect("its size").len(),
                1_000_000,
                "{case}"
            );
            let mut start = [0; 1000];
            reader.read_exact_at(&mut start, 0).expect("read");
            assert_eq!(start, [b'x'; 1000], "{case}: readers see the new version");
            if version == b'3' {
                let root = File::open(before.path()).expect("the root");
                root.sync_all().expect("all that the journal knows is safe");
                stand.image.cut();
                drop((file, reader, root));
                break;
            }
        }
        drop(before.crash());
        let after = stand.boot();
        let there = fs::read(after.join("model")).expect("there");
        assert!(
            there == vec![b'3'; 3_000_000],
            "{case}: {} bytes of {:?}",
            there.len(),
            there.first()
        );
        after.sync();
        assert_eq!(stand.store.get("model"), Some(there), "{case}");
        after.unmount().is_sound(&[]);
    }
}

/// A version that was fsynced, part of which is only in the store, is written over.
#[test]
fn a_version_that_is_partly_in_the_store_comes_back() {
    harness::require_mounts!();
    for is_read in [false, true] {
        let mut stand = Stand::new();
        let before = stand.mount();
        let path = before.join("model");
        fs::write(&path, vec![b'o'; 12_000_000]).expect("written");
        before.sync();
        fused(["free".as_ref(), path.as_os_str()]).success();
        let mut file = OpenOptions::new().write(true).open(&path).expect("opened");
        file.write_all(&[b'n'; 4096]).expect("written in place");
        file.sync_all().expect("synced");
        drop(file);
        let reader = is_read.then(|| File::open(&path).expect("opened"));
        let mut file = File::create(&path).expect("truncated");
        file.write_all(&vec![b'x'; 1_000_000]).expect("written");
        let root = File::open(before.path()).expect("the root");
        root.sync_all().expect("all that the journal knows is safe");
        stand.image.cut();
        drop((file, reader, root, before.crash()));
        let after = stand.boot();
        let there = fs::read(after.join("model")).expect("there");
        let version = [vec![b'n'; 4096], vec![b'o'; 12_000_000 - 4096]].concat();
        assert!(there == version, "read: {is_read}: {} bytes", there.len());
        after.sync();
        assert_eq!(stand.store.get("model"), Some(version), "read: {is_read}");
        after.unmount().is_sound(&[]);
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

/// The store has it, so `fused sync` says and so does a file that is closed through to the store: whatever the disk has
/// lost of it, and of the record. Found by a simulated world: an earlier version was back, and went to the store.
#[test]
fn a_version_that_was_synced_to_the_store_is_not_followed_by_an_earlier_one() {
    harness::require_mounts!();
    for (kind, write_through) in [(Kind::Ext4, false), (Kind::Xfs, false), (Kind::Ext4, true)] {
        let case = format!("{kind:?}, write-through: {write_through}");
        let mut stand = Stand::on(kind);
        let before = match write_through {
            true => stand.options().option("close=store").start(),
            false => stand.mount(),
        };
        let path = before.join("model");
        let mut file = File::create(&path).expect("made");
        file.write_all(&vec![b'1'; 3_000_000]).expect("written");
        file.sync_all().expect("synced");
        drop(file);
        fs::write(&path, vec![b'2'; 2_000_000]).expect("written over");
        if !write_through {
            before.sync();
        }
        stand.image.cut();
        drop(before.crash());
        let after = stand.boot();
        let there = fs::read(after.join("model")).expect("there");
        assert!(
            there == vec![b'2'; 2_000_000],
            "{case}: {:?}",
            there.first()
        );
        after.sync();
        assert_eq!(stand.store.get("model"), Some(there), "{case}");
        after.unmount().is_sound(&[]);
    }
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
