//! The directory: opening, creating, removing, listing, space, and file systems that won't do.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::{ID, Mount, content, everywhere, is_root, open, pattern, run_bounded, scanned};
use extents::{Error, ExtentId, ExtentStore, IoMode, Options, PreviousRun};

#[test]
fn an_extent_file_is_created_once_and_found_again() {
    everywhere(|store| async move {
        assert!(store.open_file(ID).unwrap().is_none());
        let file = store.create(ID).unwrap();
        assert!(matches!(
            store.create(ID).unwrap_err(),
            Error::Exists { id: ID }
        ));
        assert!(Arc::ptr_eq(&file, &store.open_file(ID).unwrap().unwrap()));
        assert!(Arc::ptr_eq(&file, &store.open_or_create(ID).unwrap()));
        file.write_at(0, b"abc").unwrap();
        drop(file);
        assert_eq!(
            content(&store.open_file(ID).unwrap().unwrap()).await,
            b"abc"
        );
    });
}

#[test]
fn residency_is_there_again_after_reopening_the_store() {
    for place in common::places() {
        let fill = async |store: ExtentStore| {
            let file = store.create(ID).unwrap();
            file.truncate(1 << 20).unwrap();
            file.fill(65536, Bytes::from(pattern(1, 65536)))
                .await
                .unwrap();
            file.missing(0..1 << 20, 1 << 20)
        };
        let missing = run_bounded(fill(open(&place.dir, IoMode::Auto)));
        let store = open(&place.dir, IoMode::Plain);
        let file = store.open_file(ID).unwrap().unwrap();
        assert_eq!(file.missing(0..1 << 20, 1 << 20), missing);
        assert_eq!(missing, [0..65536, 131_072..1 << 20], "{}", place.name);
    }
}

#[test]
fn a_removed_file_is_gone_by_name_and_stays_usable_for_those_who_have_it() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        file.write_at(0, b"abc").unwrap();
        store.remove(ID).unwrap();
        store.remove(ID).unwrap();
        assert!(store.open_file(ID).unwrap().is_none());
        file.fill(4096, Bytes::from(pattern(2, 4096)))
            .await
            .unwrap();
        assert_eq!(file.read_at(0, 3).await.unwrap(), &b"abc"[..]);
        let again = store.create(ID).unwrap();
        assert_eq!(again.stat().unwrap().size, 0);
    });
}

#[test]
fn stale_generations_are_removed_and_the_kept_one_stays() {
    everywhere(|store| async move {
        let id = |ino, generation| ExtentId { ino, generation };
        for id in [id(1, 1), id(1, 2), id(1, 3), id(0x101, 1)] {
            store.create(id).unwrap();
        }
        store.remove_stale(1, Some(2)).unwrap();
        let mut left: Vec<ExtentId> = store.list().map(Result::unwrap).collect();
        left.sort();
        assert_eq!(left, [id(1, 2), id(0x101, 1)]);
        store.remove_stale(1, None).unwrap();
        assert_eq!(store.list().count(), 1);
    });
}

#[test]
fn listing_finds_every_extent_file_and_passes_over_other_names() {
    let place = common::disk();
    let store = open(&place.dir, IoMode::Plain);
    let mut ids: Vec<ExtentId> = (0..600)
        .map(|ino| ExtentId {
            ino,
            generation: ino % 3,
        })
        .collect();
    for &id in &ids {
        store.create(id).unwrap();
    }
    std::fs::write(place.dir.join("07/README"), "not ours").unwrap();
    let mut listed: Vec<ExtentId> = store.list().map(Result::unwrap).collect();
    listed.sort();
    ids.sort();
    assert_eq!(listed, ids);
}

#[test]
fn nobody_else_may_look_into_the_store() {
    let place = common::disk();
    let store = open(&place.dir, IoMode::Plain);
    store.create(ID).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.dir.join("34")), 0o700);
    assert_eq!(mode(&place.dir.join("34/1234-1")), 0o600);
}

#[test]
fn used_space_follows_writes_fills_punches_and_removals() {
    everywhere(|store| async move {
        assert_eq!(scanned(&store), 0);
        let file = store.create(ID).unwrap();
        file.truncate(8 << 20).unwrap();
        file.fill(0, Bytes::from(pattern(3, 4 << 20)))
            .await
            .unwrap();
        file.write_at(4 << 20, &pattern(4, 4 << 20)).unwrap();
        assert_eq!(store.usage().unwrap().used_bytes, 8 << 20);
        file.sync_data().await.unwrap();
        assert_eq!(
            file.stat().unwrap().allocated_bytes,
            store.usage().unwrap().used_bytes
        );
        file.punch(0..2 << 20).unwrap();
        assert!(store.usage().unwrap().used_bytes < 7 << 20);
        drop(file);
        store.remove(ID).unwrap();
        assert_eq!(store.usage().unwrap().used_bytes, 0);
    });
}

#[test]
fn used_space_counts_each_file_once_whether_open_or_not_during_the_scan() {
    let place = common::disk();
    let ids = (0..512).map(|ino| ExtentId { ino, generation: 0 });
    {
        let store = open(&place.dir, IoMode::Plain);
        for id in ids.clone() {
            store.create(id).unwrap().write_at(0, &[1; 4096]).unwrap();
        }
    }
    for _ in 0..5 {
        let store = open(&place.dir, IoMode::Plain);
        let open: Vec<_> = ids
            .clone()
            .step_by(3)
            .map(|id| store.open_file(id).unwrap().unwrap())
            .collect();
        assert_eq!(scanned(&store), 512 * 4096);
        drop(open);
        assert_eq!(store.usage().unwrap().used_bytes, 512 * 4096);
    }
}

#[test]
fn a_kill_leaves_the_same_boot_and_an_orderly_stop_is_recorded() {
    let place = common::disk();
    let first = open(&place.dir, IoMode::Plain);
    assert_eq!(first.previous_run(), PreviousRun::None);
    first.mark_running().unwrap();
    drop(first);
    let store = open(&place.dir, IoMode::Plain);
    assert_eq!(store.previous_run(), PreviousRun::SameBoot);
    store.mark_clean().unwrap();
    let state = std::fs::read_to_string(place.dir.join("state")).unwrap();
    assert!(state.ends_with("clean 1\n"), "{state}");
}

#[test]
fn a_power_cut_since_the_last_run_is_noticed() {
    let place = common::disk();
    drop(open(&place.dir, IoMode::Plain));
    std::fs::write(
        place.dir.join("state"),
        "fused-extents 1\nboot another\nclean 0\n",
    )
    .unwrap();
    // A recovery that is cut short has not noticed it for good.
    for _ in 0..2 {
        assert_eq!(
            open(&place.dir, IoMode::Plain).previous_run(),
            PreviousRun::UncleanBoot
        );
    }
}

#[test]
fn a_store_of_a_newer_release_is_refused() {
    let place = common::disk();
    drop(open(&place.dir, IoMode::Plain));
    std::fs::write(place.dir.join("state"), "fused-extents 9\n").unwrap();
    let error = ExtentStore::open(&place.dir, Options::default()).unwrap_err();
    assert!(
        matches!(error, Error::NewerFormat { found: 9, .. }),
        "{error}"
    );
}

#[test]
fn a_file_system_without_holes_is_refused() {
    if !is_root() {
        return println!("skipped: mounting needs root");
    }
    let place = common::disk();
    let target = place.dir.join("ramfs");
    let _mount = match Mount::new(&["-t", "ramfs"], Path::new("none"), &target) {
        Ok(mount) => mount,
        Err(why) => return println!("skipped: {why}"),
    };
    let error = ExtentStore::open(&target.join("store"), Options::default()).unwrap_err();
    assert!(matches!(error, Error::NoHoles { .. }), "{error}");
}

#[test]
fn a_directory_that_cannot_be_made_is_reported_with_its_name() {
    let error = ExtentStore::open(Path::new("/proc/no/store"), Options::default()).unwrap_err();
    assert!(matches!(error, Error::NotWritable { .. }), "{error}");
    assert!(error.to_string().contains("/proc/no/store"));
}

/// A store in two directories, and where they are.
fn two() -> (tempfile::TempDir, [std::path::PathBuf; 2]) {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dirs = ["a", "b"].map(|name| scratch.path().join(name).join("extents"));
    (scratch, dirs)
}

fn open_two([first, second]: [&Path; 2]) -> ExtentStore {
    let further = [second.to_owned()];
    let store = ExtentStore::open_all(first, &further, Options::default()).unwrap();
    scanned(&store);
    store
}

fn files_in(dir: &Path) -> usize {
    let shards = std::fs::read_dir(dir).unwrap().flatten();
    let shards = shards.filter(|shard| shard.path().is_dir());
    shards
        .map(|shard| std::fs::read_dir(shard.path()).unwrap().count())
        .sum()
}

#[test]
fn files_are_spread_over_the_directories_and_found_in_any_order_of_these() {
    run_bounded(async {
        let (_scratch, dirs) = two();
        let [a, b] = dirs.each_ref().map(|dir| dir.as_path());
        let id = |ino| ExtentId { ino, generation: 2 };
        let store = open_two([a, b]);
        store.prepare(300..320).unwrap();
        for ino in 1..=100 {
            let file = store.create(id(ino)).unwrap();
            file.write_at(0, &ino.to_le_bytes()).unwrap();
            assert!(matches!(store.create(id(ino)), Err(Error::Exists { .. })));
        }
        let prepared = ExtentId {
            ino: 305,
            generation: 0,
        };
        store.create(prepared).unwrap();
        store.discard_prepared(u64::MAX).unwrap();
        assert_eq!(files_in(a) + files_in(b), 101);
        assert!(files_in(a) > 30 && files_in(b) > 30, "{}", files_in(a));
        assert_eq!(store.used_bytes(), 100 * 4096);
        let usage = store.usage().unwrap();
        let one = ExtentStore::open(a, Options::default()).unwrap();
        // Other tests use the disk as well.
        assert_eq!(usage.fs_total_bytes, one.usage().unwrap().fs_total_bytes);
        drop(one);
        drop(store);

        let store = open_two([b, a]);
        let mut listed: Vec<_> = store.list().map(|id| id.unwrap().ino).collect();
        listed.sort_unstable();
        assert_eq!(listed, (1..=100).chain([305]).collect::<Vec<_>>());
        for ino in 1..=100 {
            assert!(matches!(store.create(id(ino)), Err(Error::Exists { .. })));
            let file = store.open_or_create(id(ino)).unwrap();
            assert_eq!(content(&file).await, ino.to_le_bytes());
            assert_eq!(store.allocated_bytes(id(ino)).unwrap(), 4096);
        }
        for ino in 1..=50 {
            store.remove(id(ino)).unwrap();
            assert!(store.open_file(id(ino)).unwrap().is_none());
        }
        store.remove_stale(60, None).unwrap();
        assert_eq!(files_in(a) + files_in(b), 50);
        assert_eq!(store.used_bytes(), 49 * 4096);
    });
}

/// Nobody gets a file that is not the one of its id.
#[test]
fn of_many_who_make_the_same_file_in_two_directories_one_does() {
    let (_scratch, dirs) = two();
    let [a, b] = dirs.each_ref().map(|dir| dir.as_path());
    let store = open_two([a, b]);
    for ino in 1..=200 {
        let id = ExtentId { ino, generation: 0 };
        let made = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|nr| {
                    let store = &store;
                    scope.spawn(move || match nr {
                        0 => store.prepare(ino..ino + 1).map(|()| None).unwrap(),
                        1 => Some(store.open_or_create(id).unwrap()),
                        _ => store.create(id).ok(),
                    })
                })
                .collect();
            let made = threads
                .into_iter()
                .filter_map(|thread| thread.join().unwrap());
            made.collect::<Vec<_>>()
        });
        assert!(made.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])));
    }
    store.discard_prepared(u64::MAX).unwrap();
    assert_eq!(files_in(a) + files_in(b), 200);
}

#[test]
fn what_is_set_aside_stays_on_its_device_and_the_worst_end_counts() {
    run_bounded(async {
        let (_scratch, dirs) = two();
        let [a, b] = dirs.each_ref().map(|dir| dir.as_path());
        let store = open_two([a, b]);
        assert_eq!(store.previous_run(), PreviousRun::None);
        store.mark_running().unwrap();
        let torn = a.with_file_name("torn");
        let mut kept = [0, 0];
        for ino in 1..=20 {
            let id = ExtentId { ino, generation: 0 };
            drop(store.create(id).unwrap());
            let path = match ino % 2 {
                0 => store.set_aside(id, &torn).unwrap(),
                _ => store.copy_aside(id, &torn).await.unwrap(),
            };
            let at = [a, b].map(|dir| dir.with_file_name("torn"));
            let at = at.iter().position(|torn| path.parent() == Some(torn));
            kept[at.unwrap()] += 1;
            assert!(path.exists());
        }
        assert!(kept[0] > 2 && kept[1] > 2, "{kept:?}");
        drop(store);
        let state = std::fs::read_to_string(b.join("state")).unwrap();
        let boot = state.lines().find(|line| line.starts_with("boot")).unwrap();
        std::fs::write(b.join("state"), state.replace(boot, "boot another")).unwrap();
        let store = open_two([a, b]);
        assert_eq!(store.previous_run(), PreviousRun::UncleanBoot);
        store.mark_clean().unwrap();
        drop(store);
        assert_eq!(open_two([b, a]).previous_run(), PreviousRun::SameBoot);
    });
}
