//! The daemon goes, in every manner; nothing that was closed is lost.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use harness::{Random, Way, digest_of, fused};
use nix::sys::signal::Signal;
use nix::unistd::truncate;

const MIB: usize = 1 << 20;

harness::every_way!(
    a_file_closed_before_a_kill_arrives_after_the_next_mount,
    files_of_every_kind_survive_a_kill,
    a_kill_in_the_middle_of_many_writes_loses_no_closed_file,
    a_synced_file_survives_a_kill_while_it_is_still_open,
    what_a_power_cut_tore_goes_back_to_its_object,
    what_was_cut_to_its_length_and_then_torn_does_not_count,
    what_a_power_cut_took_from_the_cache_is_the_object_whatever_is_done_with_it_next,
    what_a_power_cut_tore_is_read_as_what_has_replaced_its_object,
    after_a_power_cut_a_replaced_file_is_the_old_one_or_the_new_one,
    after_a_power_cut_a_synced_version_is_back_if_what_was_written_over_it_is_torn,
    a_version_in_the_store_is_back_if_all_that_followed_it_is_torn,
    what_readers_fetched_beside_a_writer_is_not_taken_for_torn,
);

/// The extent files of a cache, by size: the tests below give every file a size of its own.
fn extents_of_size(cache: &Path, size: usize) -> PathBuf {
    let shards = fs::read_dir(cache.join("extents")).unwrap().flatten();
    let shards = shards.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut files = shards.flat_map(|shard| fs::read_dir(shard.path()).unwrap().flatten());
    files
        .find(|file| file.metadata().unwrap().len() == size as u64)
        .expect("an extent file of that size")
        .path()
}

/// What the machine's death leaves: another boot, no orderly end, and unsynced bytes that are not there.
fn a_power_cut_that_loses_half_of(cache: &Path, files: &[PathBuf]) {
    for file in files {
        let half = fs::metadata(file).unwrap().len() / 2;
        File::options()
            .write(true)
            .open(file)
            .unwrap()
            .set_len(half)
            .unwrap();
    }
    let state = cache.join("extents/state");
    let text = fs::read_to_string(&state).unwrap();
    let lines = text.lines().map(|line| match line.starts_with("boot ") {
        true => "boot another".to_owned(),
        false => line.to_owned(),
    });
    fs::write(&state, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
}

/// Some programs cut a file to its length before they close it, as HDF5 does; others cut a closed one.
fn what_was_cut_to_its_length_and_then_torn_does_not_count(way: &Way) {
    let mount = way.options().option("settle=5m").start();
    let mut file = File::create(mount.join("data.h5")).unwrap();
    file.write_all(&vec![1; 3 * MIB]).unwrap();
    file.set_len(2 * MIB as u64).unwrap();
    drop(file);
    fs::write(mount.join("log"), vec![2; 3 * MIB]).unwrap();
    truncate(&mount.join("log"), MIB as i64).unwrap();
    let cache = mount.cache().path().to_owned();
    let options = mount.crash();
    let torn = [2 * MIB, MIB].map(|size| extents_of_size(&cache, size));
    a_power_cut_that_loses_half_of(&cache, &torn);
    let after = options.start();
    after.sync();
    assert_eq!(fs::read_dir(after.path()).unwrap().count(), 0);
    assert_eq!(way.store.keys(), Vec::<String>::new());
}

/// A power cut made by hand: the files that it tore must be noticed before anything is uploaded.
fn what_a_power_cut_tore_goes_back_to_its_object(way: &Way) {
    let mount = way.options().option("settle=5m").start();
    fs::write(mount.join("ckpt"), vec![1; MIB]).unwrap();
    mount.sync();
    fs::write(mount.join("ckpt"), vec![2; 3 * MIB]).unwrap();
    fs::write(mount.join("first"), vec![3; 5 * MIB]).unwrap();
    fs::write(mount.join("whole"), vec![4; 7 * MIB]).unwrap();
    let mut synced = File::create(mount.join("synced")).unwrap();
    synced.write_all(&vec![5; 9 * MIB]).unwrap();
    synced.sync_all().unwrap();
    drop(synced);

    let cache = mount.cache().path().to_owned();
    let options = mount.crash();
    let torn = [3 * MIB, 5 * MIB].map(|size| extents_of_size(&cache, size));
    a_power_cut_that_loses_half_of(&cache, &torn);
    // No settling time: whatever is wrongly taken for whole would be uploaded at once.
    let again = options.option("settle=0s").start();
    again.sync();

    assert_eq!(fs::read(again.join("ckpt")).unwrap(), vec![1; MIB]);
    assert_eq!(way.store.get("ckpt").unwrap(), vec![1; MIB], "the good one");
    assert!(!again.join("first").exists(), "it had no complete version");
    assert!(!way.store.has("first"));
    assert!(fs::read(again.join("whole")).unwrap() == vec![4; 7 * MIB]);
    assert_eq!(fs::read(again.join("synced")).unwrap(), vec![5; 9 * MIB]);
    assert_eq!(way.store.get("synced").unwrap(), vec![5; 9 * MIB]);
    let kept = fs::read_dir(cache.join("torn")).unwrap().count();
    assert_eq!(kept, 2, "what was left of them");
}

/// Of a file that is in the store nobody syncs the extent file: a power cut may take even its name.
fn what_a_power_cut_took_from_the_cache_is_the_object_whatever_is_done_with_it_next(way: &Way) {
    let mount = way.options().option("settle=0s").start();
    let content = |number: usize| vec![number as u8; number * MIB];
    let names = ["", "read", "longer", "shorter", "a", "b"];
    for (number, name) in names.iter().enumerate().skip(1) {
        fs::write(mount.join(name), content(number)).unwrap();
    }
    mount.sync();
    let cache = mount.cache().path().to_owned();
    let options = mount.crash();
    a_power_cut_that_loses_half_of(&cache, &[]);
    for number in 1..names.len() {
        fs::remove_file(extents_of_size(&cache, number * MIB)).unwrap();
    }
    let again = options.start();
    assert!(fs::read(again.join("read")).unwrap() == content(1));
    truncate(&again.join("longer"), 3 * MIB as i64).unwrap();
    truncate(&again.join("shorter"), MIB as i64).unwrap();
    for (from, to) in [("a", "c"), ("b", "a"), ("c", "b")] {
        fs::rename(again.join(from), again.join(to)).unwrap();
    }
    again.sync();
    let longer = [content(2), vec![0; MIB]].concat();
    for (name, expected) in [
        ("longer", longer),
        ("shorter", vec![3; MIB]),
        ("a", content(5)),
        ("b", content(4)),
    ] {
        assert!(way.store.get(name).unwrap() == expected, "object {name}");
        assert!(fs::read(again.join(name)).unwrap() == expected, "{name}");
    }
}

/// The object that a torn file goes back to may be another by then, such as one whose record the cut took.
fn what_a_power_cut_tore_is_read_as_what_has_replaced_its_object(way: &Way) {
    let mount = way.options().option("settle=5m").start();
    fs::write(mount.join("ckpt"), vec![1; MIB]).unwrap();
    mount.sync();
    fs::write(mount.join("ckpt"), vec![2; 3 * MIB]).unwrap();
    let cache = mount.cache().path().to_owned();
    let options = mount.crash();
    a_power_cut_that_loses_half_of(&cache, &[extents_of_size(&cache, 3 * MIB)]);
    let theirs = "3".repeat(2 * MIB);
    way.store.put("ckpt", &theirs);
    let again = options.option("settle=0s").start();
    let size = fs::metadata(again.join("ckpt")).unwrap().len();
    let read = fs::read(again.join("ckpt")).unwrap();
    assert_eq!(size, 2 << 20);
    assert!(read == theirs.as_bytes());
    again.sync();
    assert!(way.store.get("ckpt").unwrap() == theirs.as_bytes());
}

/// A power cut that loses nothing, of a changed file that is only in part here and that somebody goes on reading.
fn what_readers_fetched_beside_a_writer_is_not_taken_for_torn(way: &Way) {
    let mount = way.options().option("settle=5m").start();
    let mut content = vec![1; 9 * MIB];
    fs::write(mount.join("f"), &content).unwrap();
    mount.sync();
    fused(["free".as_ref(), mount.path().as_os_str()]).success();

    let reader = File::open(mount.join("f")).unwrap();
    let mut first = vec![0; 4096];
    reader.read_exact_at(&mut first, 0).unwrap();
    let writer = File::options().write(true).open(mount.join("f")).unwrap();
    writer
        .write_all_at(&vec![2; MIB], (4 * MIB) as u64)
        .unwrap();
    drop(writer);
    content[4 * MIB..5 * MIB].fill(2);
    let mut all = vec![0; content.len()];
    reader.read_exact_at(&mut all, 0).unwrap();
    assert!(all == content);
    drop(reader);

    let cache = mount.cache().path().to_owned();
    let options = mount.crash();
    a_power_cut_that_loses_half_of(&cache, &[]);
    let again = options.option("settle=0s").start();
    assert!(
        fs::read(again.join("f")).unwrap() == content,
        "the new version"
    );
    again.sync();
    assert!(way.store.get("f").unwrap() == content);
    assert!(!cache.join("torn").exists());
}

/// Files replaced by rename, as safetensors does, without fsync.
fn after_a_power_cut_a_replaced_file_is_the_old_one_or_the_new_one(way: &Way) {
    let mount = way.options().option("settle=5m").start();
    for name in ["torn", "whole", "twice", "safe", "linked"] {
        fs::write(mount.join(name), format!("the old {name}")).unwrap();
    }
    mount.sync();
    let replace = |name: &str, mib: usize| {
        fs::write(mount.join("tmp"), vec![mib as u8; mib * MIB]).unwrap();
        fs::rename(mount.join("tmp"), mount.join(name)).unwrap();
    };
    replace("torn", 3);
    replace("whole", 5);
    replace("twice", 7);
    replace("twice", 9);
    let mut synced = File::create(mount.join("tmp")).unwrap();
    synced.write_all(&vec![11; 11 * MIB]).unwrap();
    synced.sync_all().unwrap();
    drop(synced);
    fs::rename(mount.join("tmp"), mount.join("safe")).unwrap();
    // By another name than its first one, which it keeps.
    fs::write(mount.join("first name"), vec![13; 13 * MIB]).unwrap();
    fs::hard_link(mount.join("first name"), mount.join("tmp")).unwrap();
    fs::rename(mount.join("tmp"), mount.join("linked")).unwrap();

    let cache = mount.cache().path().to_owned();
    let options = mount.crash();
    let torn = [3 * MIB, 7 * MIB, 9 * MIB, 13 * MIB].map(|size| extents_of_size(&cache, size));
    a_power_cut_that_loses_half_of(&cache, &torn);
    let again = options.option("settle=0s").start();
    for name in ["torn", "twice", "linked"] {
        let old = format!("the old {name}");
        assert!(
            fs::read(again.join(name)).unwrap() == old.as_bytes(),
            "{name}"
        );
    }
    assert!(!again.join("first name").exists(), "it was never whole");
    again.sync();
    for name in ["torn", "twice", "linked"] {
        assert!(way.store.get(name).unwrap() == format!("the old {name}").as_bytes());
    }
    assert!(fs::read(again.join("whole")).unwrap() == vec![5; 5 * MIB]);
    assert!(way.store.get("whole").unwrap() == vec![5; 5 * MIB]);
    assert!(fs::read(again.join("safe")).unwrap() == vec![11; 11 * MIB]);
    assert_eq!(way.store.keys().len(), 5, "and nothing else");
}

/// As torch.save does with fsync, before anything is uploaded: O_TRUNC over the last synced version.
fn after_a_power_cut_a_synced_version_is_back_if_what_was_written_over_it_is_torn(way: &Way) {
    let mount = way.options().option("settle=5m").start();
    let synced = |name: &str, mib: usize| {
        let mut file = File::create(mount.join(name)).unwrap();
        file.write_all(&vec![mib as u8; mib * MIB]).unwrap();
        file.sync_all().unwrap();
    };
    synced("torn", 3);
    fs::write(mount.join("torn"), vec![5; 5 * MIB]).unwrap();
    synced("twice", 7);
    fs::write(mount.join("twice"), vec![9; 9 * MIB]).unwrap();
    fs::write(mount.join("twice"), vec![11; 11 * MIB]).unwrap();
    synced("whole", 13);
    fs::write(mount.join("whole"), vec![15; 15 * MIB]).unwrap();
    synced("again", 17);
    synced("again", 19);
    // Another descriptor than the one that wrote it.
    fs::write(mount.join("beside"), vec![21; 21 * MIB]).unwrap();
    File::open(mount.join("beside"))
        .unwrap()
        .sync_all()
        .unwrap();
    fs::write(mount.join("beside"), vec![23; 23 * MIB]).unwrap();

    let cache = mount.cache().path().to_owned();
    let options = mount.crash();
    let torn = [5, 11, 23].map(|mib| extents_of_size(&cache, mib * MIB));
    a_power_cut_that_loses_half_of(&cache, &torn);
    let again = options.option("settle=0s").start();
    let expected = [
        ("torn", 3),
        ("twice", 7),
        ("whole", 15),
        ("again", 19),
        ("beside", 21),
    ];
    for (name, mib) in expected {
        let read = fs::read(again.join(name)).unwrap();
        assert!(read == vec![mib as u8; mib * MIB], "{name}");
    }
    again.sync();
    for (name, mib) in expected {
        let object = way.store.get(name).unwrap();
        assert!(object == vec![mib as u8; mib * MIB], "{name}");
    }
    assert_eq!(way.store.keys().len(), 5, "and nothing else");
    harness::wait_until(
        "versions that nobody needs any more are gone",
        std::time::Duration::from_secs(30),
        || count_of_extents(&cache) == 5,
    );
}

/// Later versions were written over the one that is in the store, and took its place.
fn a_version_in_the_store_is_back_if_all_that_followed_it_is_torn(way: &Way) {
    let mount = way.options().option("settle=5m").start();
    let write = |name: &str, mib: usize| {
        fs::write(mount.join(name), vec![mib as u8; mib * MIB]).unwrap();
    };
    let rename = |from: &str, to: &str| fs::rename(mount.join(from), mount.join(to)).unwrap();
    let sync = |name: &str| {
        fused(["sync".into(), mount.join(name)]).success();
    };
    // The last one to take a name is an older file than the one whose place it takes, but for one.
    let older = ["older 1", "older 2", "older 3"];
    for name in older {
        write(name, 0);
    }
    for name in [
        "by an older one",
        "by a younger one",
        "first name",
        "at first",
    ] {
        write(name, 1);
        sync(name);
    }
    // What this one replaced was in the store before.
    write("twice", 2);
    sync("twice");
    write("tmp", 1);
    rename("tmp", "twice");
    sync("twice");

    write("by an older one", 3);
    write(older[0], 5);
    rename(older[0], "by an older one");
    write("by a younger one", 7);
    write("tmp", 9);
    rename("tmp", "by a younger one");
    // It is in the store under the name that it had first.
    rename("first name", "elsewhere");
    write("elsewhere", 11);
    write(older[1], 13);
    rename(older[1], "elsewhere");
    write("twice", 15);
    write(older[2], 17);
    rename(older[2], "twice");
    // What took its place has moved on.
    write("tmp", 19);
    rename("tmp", "at first");
    rename("at first", "moved");

    let cache = mount.cache().path().to_owned();
    let options = mount.crash();
    let torn = [3, 5, 7, 9, 11, 13, 15, 17, 19].map(|mib| extents_of_size(&cache, mib * MIB));
    a_power_cut_that_loses_half_of(&cache, &torn);
    let again = options.option("settle=0s").start();
    let names = [
        "by a younger one",
        "by an older one",
        "elsewhere",
        "moved",
        "twice",
    ];
    for name in names {
        let there = fs::read(again.join(name)).unwrap_or_default();
        assert!(
            there == vec![1; MIB],
            "{name}: {} of {:?}",
            there.len(),
            there.first()
        );
    }
    again.sync();
    for name in names {
        assert!(way.store.get(name).unwrap() == vec![1; MIB], "{name}");
    }
    assert_eq!(way.store.keys(), names);
    assert!(cache.join("torn").exists(), "what is left is kept");
    again.unmount().is_sound(&[]);
}

fn count_of_extents(cache: &Path) -> usize {
    let shards = fs::read_dir(cache.join("extents")).unwrap().flatten();
    let shards = shards.filter(|entry| entry.file_type().unwrap().is_dir());
    let files = shards.flat_map(|shard| fs::read_dir(shard.path()).unwrap().flatten());
    // Those that are made ahead are empty.
    files
        .filter(|file| file.metadata().is_ok_and(|about| about.len() > 0))
        .count()
}

fn a_file_closed_before_a_kill_arrives_after_the_next_mount(way: &Way) {
    let mount = way.mount();
    let written = Random::write_file(31, &mount.join("f"), 30 * MIB + 11);
    let again = mount.crash().start();
    assert_eq!(digest_of(&again.join("f")), written, "the file");
    again.sync();
    assert_eq!(
        digest_of(way.store.fetch("f").expect("the object").path()),
        written
    );
}

fn files_of_every_kind_survive_a_kill(way: &Way) {
    let mount = way.mount();
    fs::create_dir_all(mount.join("d/e")).unwrap();
    fs::write(mount.join("d/e/f"), "deep").unwrap();
    fs::write(mount.join("old"), "moved").unwrap();
    fs::write(mount.join("gone"), "gone").unwrap();
    mount.sync();
    fs::rename(mount.join("old"), mount.join("d/new")).unwrap();
    fs::remove_file(mount.join("gone")).unwrap();
    fs::hard_link(mount.join("d/new"), mount.join("second")).unwrap();
    std::os::unix::fs::symlink("d/new", mount.join("link")).unwrap();
    let again = mount.crash().start();
    assert_eq!(fs::read(again.join("link")).unwrap(), b"moved");
    assert_eq!(fs::read(again.join("second")).unwrap(), b"moved");
    assert_eq!(fs::read(again.join("d/e/f")).unwrap(), b"deep");
    assert!(!again.join("gone").exists());
    again.sync();
    assert!(!way.store.has("gone") && !way.store.has("old"));
    assert_eq!(way.store.get("d/new").as_deref(), Some(&b"moved"[..]));
}

fn a_kill_in_the_middle_of_many_writes_loses_no_closed_file(way: &Way) {
    let mut mount = way.mount();
    let path = mount.path().to_owned();
    // A writer goes on until the mount is gone; it reports every file that it closed.
    let (closed, done) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        for number in 0..10_000 {
            if fs::write(path.join(format!("f{number}")), format!("content {number}")).is_err() {
                return;
            }
            let _ = closed.send(number);
        }
    });
    while done.recv().expect("the writer goes on") < 60 {}
    mount.daemon().kill();
    writer.join().unwrap();
    let count = 61 + done.try_iter().count();
    let again = mount.crash().start();
    again.sync();
    for number in 0..count {
        let expected = format!("content {number}");
        assert_eq!(
            fs::read_to_string(again.join(format!("f{number}"))).unwrap(),
            expected
        );
    }
    let last = format!("f{}", count - 1);
    assert!(way.store.has(&last), "{last} arrived");
}

fn a_synced_file_survives_a_kill_while_it_is_still_open(way: &Way) {
    let mut mount = way.mount();
    let mut file = File::create(mount.join("log")).unwrap();
    let bytes = Random::new(33).bytes(3 * MIB + 1);
    file.write_all(&bytes).unwrap();
    file.sync_all().unwrap();
    mount.daemon().kill();
    drop(file);
    let again = mount.crash().start();
    assert!(fs::read(again.join("log")).unwrap() == bytes, "the file");
    again.sync();
    assert!(
        way.store.get("log").expect("the object") == bytes,
        "the object"
    );
}

#[test]
fn an_interrupted_upload_leaves_no_torn_object_and_no_litter() {
    harness::require_mounts!();
    let way = Way::bucket("passthrough=auto");
    let mount = way.mount();
    let old = Random::write_file(34, &mount.join("f"), 20 * MIB);
    mount.sync();
    let new = Random::write_file(35, &mount.join("f"), 200 * MIB);
    let bucket = way.store.bucket();
    // Killed as soon as the store knows of the upload, wherever that is.
    harness::wait_until(
        "an upload begins",
        std::time::Duration::from_secs(60),
        || {
            !bucket.unfinished_uploads().is_empty()
                || bucket.head("f").is_some_and(|f| f.size > 20 << 20)
        },
    );
    let options = mount.crash();
    let seen = digest_of(way.store.fetch("f").expect("an object").path());
    assert!(
        seen == old || seen == new,
        "the old object or the new one, never a mix"
    );
    let again = options.start();
    again.sync();
    assert_eq!(
        digest_of(way.store.fetch("f").expect("the object").path()),
        new
    );
    assert_eq!(bucket.unfinished_uploads(), Vec::<String>::new());
}

/// Both end in order: what was written so far is kept, the daemon unmounts and goes.
fn a_signal_during_a_write(signal: Signal) {
    let way = Way::folder("passthrough=auto");
    let mut mount = way.mount();
    fs::write(mount.join("closed"), "closed").unwrap();
    let mut open = File::create(mount.join("open")).unwrap();
    open.write_all(b"written before the signal").unwrap();
    mount.daemon().signal(signal);
    let _ = open.write_all(b" and after");
    drop(open);
    let options = mount.end_by(signal);
    let again = options.start();
    assert_eq!(fs::read(again.join("closed")).unwrap(), b"closed");
    let text = fs::read_to_string(again.join("open")).unwrap();
    assert!(text.starts_with("written before the signal"), "{text:?}");
    again.sync();
    assert_eq!(way.store.get("open").expect("the object"), text.as_bytes());
}

#[test]
fn sigterm_during_a_write_ends_in_order_and_loses_nothing() {
    harness::require_mounts!();
    a_signal_during_a_write(Signal::SIGTERM);
}

#[test]
fn sigint_during_a_write_ends_in_order_and_loses_nothing() {
    harness::require_mounts!();
    a_signal_during_a_write(Signal::SIGINT);
}

#[test]
fn an_unmount_does_not_wait_for_uploads_and_the_next_mount_goes_on() {
    harness::require_mounts!();
    let way = Way {
        store: harness::Store::on(harness::Server::own_seaweedfs()),
        passthrough: "passthrough=auto",
    };
    let mount = way.mount();
    let harness::Store::Bucket { server, .. } = &way.store else {
        unreachable!()
    };
    server.pause();
    let written = Random::write_file(36, &mount.join("f"), 20 * MIB);
    let options = mount.unmount();
    server.resume();
    options.start().sync();
    assert_eq!(
        digest_of(way.store.fetch("f").expect("the object").path()),
        written
    );
}
