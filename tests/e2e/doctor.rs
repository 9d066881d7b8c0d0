//! `fused doctor`: damage made for real is told exactly, repaired where nothing can be lost by it, and the mount
//! works afterwards.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use harness::{Mount, MountOptions, Random, Store, fused};
use journal::{EmbeddedOptions, EmbeddedStore, KvStore, kv::Mode};
use serde_json::Value;

const MIB: usize = 1 << 20;

/// For each test a folder and a bucket.
macro_rules! every_store {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            #[test]
            fn in_a_folder() {
                harness::require_mounts!();
                super::$name(&harness::Store::folder());
            }

            #[test]
            fn in_a_bucket() {
                harness::require_mounts!();
                super::$name(&harness::Store::seaweedfs());
            }
        }
    )+ };
}

every_store!(
    a_sound_cache_directory_has_nothing_to_tell,
    objects_that_are_gone_are_uploaded_again_if_all_bytes_are_here,
    an_object_that_somebody_replaced_is_no_damage_unless_a_part_of_it_is_needed,
    a_damaged_copy_of_what_is_in_the_store_is_given_up,
    a_byte_that_the_disk_changed_is_found_and_comes_back_from_the_store,
    the_last_copy_is_not_given_up_because_it_is_damaged,
    a_name_that_would_not_come_back_stays,
    a_name_whose_inode_is_gone_comes_back_from_the_store,
    after_a_kill_nothing_is_lost_or_wrong,
);

fn mount(store: &Store, settle: &str) -> Mount {
    Mount::of(store).option(settle).start()
}

/// In place: O_TRUNC leaves an extent file for the reaper, which may not have come before the unmount.
fn rewrite(path: &Path, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

fn ino(mount: &Mount, path: &str) -> u64 {
    fs::symlink_metadata(mount.join(path)).unwrap().ino()
}

/// Grade, kind and path of each finding, the worst first.
fn told(report: &Value) -> Vec<[String; 3]> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    let mut told: Vec<_> = findings
        .map(|finding| ["grade", "kind", "path"].map(|field| text(&finding[field])))
        .collect();
    told.sort();
    told
}

#[track_caller]
fn tells(report: &Value, wanted: &[[&str; 3]]) {
    let mut wanted: Vec<_> = wanted.iter().map(|row| row.map(str::to_owned)).collect();
    wanted.sort();
    assert_eq!(told(report), wanted, "{report:#}");
}

/// All of it is told, all of it is repaired, and nothing is left.
#[track_caller]
fn repairs(options: &MountOptions, wanted: &[[&str; 3]]) {
    tells(&options.doctor(&[]), wanted);
    tells(&options.doctor(&[]), wanted);
    let report = options.doctor(&["--repair"]);
    tells(&report, wanted);
    assert_eq!(report["repaired"], wanted.len(), "{report:#}");
    tells(&options.doctor(&[]), &[]);
}

/// Removes rows of a journal that nobody has open, and writes others.
fn rows(options: &Path, gone: &[Vec<u8>], new: &[(Vec<u8>, Vec<u8>)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let journal = options.join("journal");
        let store = EmbeddedStore::open(&journal, EmbeddedOptions::default()).unwrap();
        let mut change = store.begin(Mode::Serial).unwrap();
        for key in gone {
            let there = change.get(key, false).await.unwrap();
            assert!(there.is_some(), "there is no row {key:?}");
            change.clear(key);
        }
        for (key, value) in new {
            change.set(key, value.clone());
        }
        change.commit().await.unwrap();
        store.sync().await.unwrap();
    });
}

/// Keys as they are documented: a letter, numbers, a name.
fn key(tag: u8, numbers: &[u64], name: &str) -> Vec<u8> {
    let numbers = numbers.iter().flat_map(|number| number.to_be_bytes());
    let key = std::iter::once(tag).chain(numbers);
    key.chain(name.bytes()).collect()
}

/// The extent file of an inode, of whatever generation.
fn extents_of(cache: &Path, ino: u64) -> PathBuf {
    let shard = cache.join(format!("extents/{:02x}", ino as u8));
    let mut files = fs::read_dir(shard).unwrap().flatten();
    let found = files.find(|file| {
        let name = file.file_name().into_string().unwrap();
        name.starts_with(&format!("{ino:x}-"))
    });
    found.expect("an extent file").path()
}

fn a_sound_cache_directory_has_nothing_to_tell(store: &Store) {
    store.put("theirs/a", "listed and read");
    store.put("theirs/b", "listed and not read");
    let first = mount(store, "settle=0s");
    fs::create_dir_all(first.join("d/e")).unwrap();
    fs::write(first.join("d/clean"), vec![1; 3 * MIB]).unwrap();
    fs::write(first.join("d/e/freed"), vec![2; MIB]).unwrap();
    fs::write(first.join("d/partly"), Random::new(1).bytes(4 * MIB)).unwrap();
    fs::write(first.join("d/empty"), "").unwrap();
    fs::hard_link(first.join("d/clean"), first.join("d/e/second")).unwrap();
    symlink("clean", first.join("d/link")).unwrap();
    File::create(first.join("d/sparse"))
        .unwrap()
        .set_len(9 << 20)
        .unwrap();
    fs::read(first.join("theirs/a")).unwrap();
    first.sync();
    for path in ["d/e/freed", "d/partly"] {
        fused(["free", first.join(path).to_str().unwrap()]).success();
    }
    let again = first.unmount().option("settle=5m").start();
    // Dirty ones of every kind: new, replaced, truncated, written to in part, renamed, removed.
    fs::write(again.join("d/new"), vec![3; MIB]).unwrap();
    fs::write(again.join("d/tmp"), vec![4; MIB]).unwrap();
    fs::rename(again.join("d/tmp"), again.join("d/clean")).unwrap();
    fs::rename(again.join("d/e"), again.join("moved")).unwrap();
    let partly = File::options()
        .write(true)
        .open(again.join("d/partly"))
        .unwrap();
    partly.write_all_at(b"changed", 2 * MIB as u64).unwrap();
    File::options()
        .write(true)
        .open(again.join("d/sparse"))
        .unwrap()
        .set_len(5)
        .unwrap();
    fs::remove_file(again.join("d/empty")).unwrap();
    drop(partly);
    let options = again.unmount();
    let report = options.doctor(&[]);
    assert_eq!(
        (&report["lost"], &report["wrong"]),
        (&0.into(), &0.into()),
        "{report:#}"
    );
    // Clean or dirty: whatever has an object was asked for.
    assert!(report["objects"].as_u64().unwrap() >= 6, "{report:#}");
    assert_eq!(options.doctor(&["--no-store"])["objects"], 0);
    options.doctor(&["--repair"]);
    tells(&options.doctor(&[]), &[]);
    let mount = options.start();
    mount.sync();
    assert_eq!(store.get("d/clean").unwrap(), vec![4; MIB]);
    assert_eq!(store.get("moved/second").unwrap(), vec![1; 3 * MIB]);
}

#[test]
fn a_daemon_that_runs_is_left_alone() {
    harness::require_mounts!();
    let store = Store::folder();
    let mount = mount(&store, "settle=0s");
    let cache = mount.cache().path().to_str().unwrap().to_owned();
    let said = fused(["doctor", &cache]).fails_with(1);
    assert!(said.contains("in use") && said.contains("umount"), "{said}");
    let at = mount.path().to_str().unwrap();
    let said = fused(["doctor", at]).fails_with(1);
    assert!(said.contains("is mounted"), "{said}");
    fs::write(mount.join("f"), "it goes on").unwrap();
}

#[test]
fn what_is_no_cache_directory_is_told_so_and_stays_as_it_is() {
    let home = harness::scratch();
    let path = home.path().to_str().unwrap();
    let said = fused(["doctor", path]).fails_with(1);
    assert!(said.contains("no cache directory"), "{said}");
    assert_eq!(fs::read_dir(path).unwrap().count(), 0);
    fused(["doctor"]).fails_with(2);
    fused(["doctor", path, "--mend"]).fails_with(2);
}

#[test]
fn rows_that_contradict_each_other_are_told_by_their_path_and_repaired() {
    harness::require_mounts!();
    let store = Store::folder();
    let mount = mount(&store, "settle=5m");
    fs::create_dir(mount.join("d")).unwrap();
    for name in ["unlisted", "unlinked", "forgotten"] {
        fs::write(mount.join("d").join(name), name.repeat(MIB)).unwrap();
    }
    let [d, unlisted, unlinked, forgotten] =
        ["d", "d/unlisted", "d/unlinked", "d/forgotten"].map(|path| ino(&mount, path));
    let node = mount.status()["node"].as_str().unwrap().to_owned();
    let node = u64::from_str_radix(&node, 16).unwrap();
    let cache = mount.cache().clone();
    let options = mount.unmount();
    let ghost = 4000;
    rows(
        cache.path(),
        &[
            key(b'D', &[d], "unlisted"),
            key(b'L', &[unlinked, d], "unlinked"),
            key(b'U', &[node, forgotten], ""),
        ],
        &[
            // Version 1, inode 9.
            (key(b'K', &[], "nobody/s"), vec![1, 9 | 0x40]),
            (key(b'W', &[node, ghost], ""), vec![1]),
        ],
    );
    repairs(
        &options,
        &[
            ["wrong", "half-name", "d/unlisted"],
            ["wrong", "half-name", "d/unlinked"],
            ["wrong", "never-uploaded", "d/forgotten"],
            ["wrong", "stale-claim", "-"],
            ["wrong", "dangling-row", "-"],
        ],
    );
    let mount = options.option("settle=0s").start();
    assert_eq!(ino(&mount, "d/unlisted"), unlisted);
    for name in ["unlisted", "unlinked", "forgotten"] {
        let read = fs::read(mount.join("d").join(name)).unwrap();
        assert!(read == name.repeat(MIB).as_bytes(), "{name}");
    }
    mount.sync();
    for name in ["unlisted", "unlinked", "forgotten"] {
        assert!(store.get(&format!("d/{name}")).unwrap() == name.repeat(MIB).as_bytes());
    }
}

/// What the store does not have, and the disk not any more: told, not mended. What nobody names may be it.
#[test]
fn lost_bytes_are_told_and_extent_files_that_may_have_them_are_set_aside() {
    harness::require_mounts!();
    let store = Store::folder();
    let mount = mount(&store, "settle=5m");
    fs::write(mount.join("lost"), vec![7; MIB]).unwrap();
    fs::write(mount.join("short"), vec![8; MIB]).unwrap();
    fs::write(mount.join("kept"), vec![9; MIB]).unwrap();
    let [lost, short] = ["lost", "short"].map(|path| ino(&mount, path));
    let cache = mount.cache().clone();
    let options = mount.unmount();
    let stray = cache.path().join("extents/ff/fff-0");
    fs::rename(extents_of(cache.path(), lost), &stray).unwrap();
    let file = File::options()
        .write(true)
        .open(extents_of(cache.path(), short));
    file.unwrap().set_len(1000).unwrap();
    let wanted = [
        ["lost", "bytes-missing", "lost"],
        ["lost", "bytes-short", "short"],
        ["wrong", "unnamed-extents", "-"],
    ];
    tells(&options.doctor(&[]), &wanted);
    assert!(stray.exists());
    let report = options.doctor(&["--repair"]);
    tells(&report, &wanted);
    assert_eq!(
        (&report["repaired"], &report["lost"]),
        (&1.into(), &2.into())
    );
    assert_eq!(
        fs::read(cache.path().join("torn/fff-0")).unwrap(),
        vec![7; MIB]
    );
    tells(&options.doctor(&[]), &wanted[..2]);
    let mount = options.start();
    assert_eq!(fs::read(mount.join("kept")).unwrap(), vec![9; MIB]);
    fs::read(mount.join("lost")).expect_err("zeros would be a lie");
}

#[test]
fn an_extent_file_that_nobody_misses_is_removed() {
    harness::require_mounts!();
    let store = Store::folder();
    let mount = mount(&store, "settle=0s");
    fs::write(mount.join("f"), "f").unwrap();
    let cache = mount.cache().clone();
    let options = mount.unmount();
    let stray = cache.path().join("extents/ff/fff-0");
    fs::write(&stray, vec![1; MIB]).unwrap();
    let report = options.doctor(&[]);
    tells(&report, &[["leftover", "unnamed-extents", "-"]]);
    assert!(stray.exists());
    repairs(&options, &[["leftover", "unnamed-extents", "-"]]);
    assert!(!stray.exists() && !cache.path().join("torn/fff-0").exists());
}

fn objects_that_are_gone_are_uploaded_again_if_all_bytes_are_here(store: &Store) {
    let first = mount(store, "settle=0s");
    fs::write(first.join("whole"), vec![1; MIB]).unwrap();
    fs::write(first.join("freed"), vec![2; MIB]).unwrap();
    fs::write(first.join("dirty"), vec![3; MIB]).unwrap();
    first.sync();
    fused(["free", first.join("freed").to_str().unwrap()]).success();
    let again = first.unmount().option("settle=5m").start();
    rewrite(&again.join("dirty"), &vec![4; MIB]);
    let options = again.unmount();
    for object in ["whole", "freed", "dirty"] {
        store.delete(object);
    }
    let wanted = [
        ["lost", "object-missing", "freed"],
        ["wrong", "object-missing", "whole"],
    ];
    tells(&options.doctor(&["--no-store"]), &[]);
    tells(&options.doctor(&[]), &wanted);
    let report = options.doctor(&["--repair"]);
    tells(&report, &wanted);
    assert_eq!(report["repaired"], 1, "{report:#}");
    tells(&options.doctor(&[]), &wanted[..1]);
    let mount = options.option("settle=0s").start();
    fs::remove_file(mount.join("freed")).unwrap();
    mount.sync();
    assert_eq!(store.get("whole").unwrap(), vec![1; MIB]);
    assert_eq!(store.get("dirty").unwrap(), vec![4; MIB]);
    assert_eq!(fs::read(mount.join("whole")).unwrap(), vec![1; MIB]);
    tells(&mount.unmount().doctor(&[]), &[]);
}

fn an_object_that_somebody_replaced_is_no_damage_unless_a_part_of_it_is_needed(store: &Store) {
    let first = mount(store, "settle=0s");
    for name in ["clean", "partly", "rewritten"] {
        fs::write(first.join(name), vec![1; MIB]).unwrap();
    }
    first.sync();
    fused(["free", first.path().to_str().unwrap()]).success();
    let again = first.unmount().option("settle=5m").start();
    let partly = File::options()
        .write(true)
        .open(again.join("partly"))
        .unwrap();
    partly.write_all_at(b"changed", 5000).unwrap();
    drop(partly);
    rewrite(&again.join("rewritten"), &vec![2; MIB]);
    let options = again.unmount();
    for object in ["clean", "partly", "rewritten"] {
        store.put(object, "theirs");
    }
    let report = options.doctor(&[]);
    tells(
        &report,
        &[
            ["leftover", "object-newer", "clean"],
            ["leftover", "object-newer", "rewritten"],
            ["lost", "object-newer", "partly"],
        ],
    );
    assert_eq!(options.doctor(&["--repair"])["repaired"], 0);
    let mount = options.option("settle=0s").option("revalidate=0s").start();
    assert_eq!(fs::read(mount.join("clean")).unwrap(), b"theirs");
}

fn a_damaged_copy_of_what_is_in_the_store_is_given_up(store: &Store) {
    let mount = mount(store, "settle=0s");
    fs::write(mount.join("short"), vec![1; MIB]).unwrap();
    fs::write(mount.join("gone"), vec![2; MIB]).unwrap();
    mount.sync();
    let [short, gone] = ["short", "gone"].map(|path| ino(&mount, path));
    let cache = mount.cache().clone();
    let options = mount.unmount();
    let file = File::options()
        .write(true)
        .open(extents_of(cache.path(), short));
    file.unwrap().set_len(1000).unwrap();
    fs::remove_file(extents_of(cache.path(), gone)).unwrap();
    let told = [
        ["wrong", "copy-damaged", "short"],
        ["wrong", "copy-damaged", "gone"],
    ];
    let unasked = options.doctor(&["--repair", "--no-store"]);
    tells(&unasked, &told);
    assert_eq!(unasked["repaired"], 0, "nobody saw the objects");
    repairs(&options, &told);
    let mount = options.start();
    assert_eq!(fs::read(mount.join("short")).unwrap(), vec![1; MIB]);
    assert_eq!(fs::read(mount.join("gone")).unwrap(), vec![2; MIB]);
}

fn a_name_whose_inode_is_gone_comes_back_from_the_store(store: &Store) {
    let mount = mount(store, "settle=0s");
    fs::create_dir(mount.join("d")).unwrap();
    fs::write(mount.join("d/f"), vec![1; MIB]).unwrap();
    mount.sync();
    let f = ino(&mount, "d/f");
    let cache = mount.cache().clone();
    let options = mount.unmount();
    rows(cache.path(), &[key(b'I', &[f], "")], &[]);
    repairs(
        &options,
        &[
            ["lost", "dangling-name", "d/f"],
            ["wrong", "rows-without-inode", "d/f"],
            ["wrong", "stale-claim", "d/f"],
            ["wrong", "counter", "-"],
            ["wrong", "unnamed-extents", "-"],
        ],
    );
    let kept = fs::read_dir(cache.path().join("torn")).unwrap().count();
    assert_eq!(kept, 1, "its bytes are kept");
    let mount = options.start();
    assert_eq!(fs::read(mount.join("d/f")).unwrap(), vec![1; MIB]);
}

/// The object is gone, too: half a copy is better than none.
fn a_byte_that_the_disk_changed_is_found_and_comes_back_from_the_store(store: &Store) {
    let first = mount(store, "settle=0s");
    for (name, bytes) in [
        ("whole", 10 * MIB + 5),
        ("partly", 20 * MIB),
        ("sound", MIB),
    ] {
        Random::write_file(bytes as u64, &first.join(name), bytes);
    }
    fs::write(first.join("small"), "small").unwrap();
    let contents = ["whole", "partly", "small"].map(|name| fs::read(first.join(name)).unwrap());
    first.sync();
    fused(["free".as_ref(), first.join("partly").as_os_str()]).success();
    // Only a part of it is here.
    let file = File::open(first.join("partly")).unwrap();
    file.read_exact_at(&mut [0; 100_000], 8 * MIB as u64)
        .unwrap();
    drop(file);
    let changed = ["whole", "partly", "small"].map(|name| ino(&first, name));
    let cache = first.cache().clone();
    let options = first.unmount();
    for (ino, offset) in changed
        .into_iter()
        .zip([10 * MIB as u64 + 4, 8 * MIB as u64 + 99, 1])
    {
        let file = File::options()
            .read(true)
            .write(true)
            .open(extents_of(cache.path(), ino))
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
    }
    tells(&options.doctor(&[]), &[]);
    let wanted = ["whole", "partly", "small"].map(|path| ["wrong", "copy-corrupt", path]);
    tells(&options.doctor(&["--read"]), &wanted);
    let report = options.doctor(&["--read", "--repair"]);
    assert_eq!(report["repaired"], 3, "{report:#}");
    tells(&options.doctor(&["--read"]), &[]);
    let again = options.start();
    for (name, content) in ["whole", "partly", "small"].iter().zip(&contents) {
        assert!(fs::read(again.join(name)).unwrap() == *content, "{name}");
    }
}

fn the_last_copy_is_not_given_up_because_it_is_damaged(store: &Store) {
    let mount = mount(store, "settle=0s");
    fs::write(mount.join("short"), vec![1; MIB]).unwrap();
    mount.sync();
    let short = ino(&mount, "short");
    let cache = mount.cache().clone();
    let options = mount.unmount();
    let half = extents_of(cache.path(), short);
    let file = File::options().write(true).open(&half);
    file.unwrap().set_len(1000).unwrap();
    store.delete("short");
    let told = [
        ["wrong", "copy-damaged", "short"],
        ["lost", "object-missing", "short"],
    ];
    for arguments in [&[][..], &["--repair"]] {
        let report = options.doctor(arguments);
        tells(&report, &told);
        assert_eq!(report["repaired"], 0, "{report:#}");
    }
    assert_eq!(fs::read(half).unwrap(), vec![1; 1000]);
}

/// The store does not have it: the name is all that is left of it, and of where it was.
fn a_name_that_would_not_come_back_stays(store: &Store) {
    let mount = mount(store, "settle=5m");
    fs::write(mount.join("f"), vec![1; MIB]).unwrap();
    symlink("to/somewhere", mount.join("s")).unwrap();
    let [f, s] = ["f", "s"].map(|path| ino(&mount, path));
    let cache = mount.cache().clone();
    let options = mount.unmount();
    rows(
        cache.path(),
        &[key(b'I', &[f], ""), key(b'I', &[s], "")],
        &[],
    );
    options.doctor(&["--repair"]);
    tells(
        &options.doctor(&["--repair"]),
        &[
            ["lost", "dangling-name", "f"],
            ["lost", "dangling-name", "s"],
            ["wrong", "rows-without-inode", "f"],
            ["wrong", "rows-without-inode", "s"],
        ],
    );
    let mut kept = fs::read_dir(cache.path().join("torn")).unwrap().flatten();
    assert_eq!(fs::read(kept.next().unwrap().path()).unwrap(), vec![1; MIB]);
}

#[test]
fn after_a_power_cut_nothing_is_repaired_before_a_mount() {
    harness::require_mounts!();
    let store = Store::folder();
    let mount = mount(&store, "settle=5m");
    fs::write(mount.join("f"), vec![1; MIB]).unwrap();
    let cache = mount.cache().clone();
    let options = mount.crash();
    // As another boot finds it.
    let state = cache.path().join("extents/state");
    let text = fs::read_to_string(&state).unwrap();
    let another = text.lines().map(|line| match line.starts_with("boot ") {
        true => "boot 00000000-0000-0000-0000-000000000000\n".to_owned(),
        false => format!("{line}\n"),
    });
    fs::write(&state, another.collect::<String>()).unwrap();
    let report = options.doctor(&[]);
    let told = told(&report);
    assert!(
        told.iter().any(|[_, kind, _]| kind == "power-cut"),
        "{report:#}"
    );
    let at = cache.path().to_str().unwrap();
    let said = fused(["doctor", "--repair", at]).fails_with(1);
    assert!(said.contains("mount once"), "{said}");
    let mount = options.start();
    mount.sync();
    mount.unmount().is_sound(&["--repair"]);
}

fn after_a_kill_nothing_is_lost_or_wrong(store: &Store) {
    let mount = mount(store, "settle=500ms");
    let mut open = Vec::new();
    for number in 0..200 {
        let path = mount.join(format!("f{}", number % 70));
        fs::write(&path, Random::new(number).bytes(number as usize * 500)).unwrap();
        if number % 7 == 0 {
            open.push(File::options().write(true).open(&path).unwrap());
            open.last()
                .unwrap()
                .write_all_at(b"still open", 100_000)
                .unwrap();
        }
    }
    let options = mount.crash();
    options.is_sound(&[]);
    options.is_sound(&["--repair"]);
    let mount = options.start();
    mount.sync();
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 70);
    mount.unmount().is_sound(&[]);
}
