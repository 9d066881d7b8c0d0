//! Cache directories that can't serve are refused in one clear sentence, before anything is mounted.

use std::fs;

use harness::{Cache, Device, Mount, Store, read_only_view, scratch};

/// What is said on a refusal: exit code 1, and all of these words.
#[track_caller]
fn refused(options: harness::MountOptions, words: &[&str]) {
    let failed = options.try_start().expect_err("this can't be mounted");
    assert_eq!(failed.code, Some(1), "{}", failed.said);
    for word in words {
        let said = failed.said.to_lowercase();
        assert!(
            said.contains(&word.to_lowercase()),
            "no {word:?} in {:?}",
            failed.said
        );
    }
    assert!(!failed.said.contains("panicked"), "{}", failed.said);
}

fn with_cache_dir(store: &Store, directory: &std::path::Path) -> harness::MountOptions {
    Mount::of(store).option(format!("cache_dir={}", directory.display()))
}

#[test]
fn a_cache_directory_of_another_store_is_refused_naming_it() {
    harness::require_mounts!();
    let (one, other, cache) = (Store::folder(), Store::folder(), Cache::new());
    Mount::of(&one).cache(&cache).start().unmount();
    refused(Mount::of(&other).cache(&cache), &[&one.url()]);
    Mount::of(&one).cache(&cache).start();
}

/// Another journal would take what is in it for nobody's, and remove it.
#[test]
fn a_cache_directory_of_another_journal_is_refused_and_loses_nothing() {
    harness::require_mounts!();
    let (store, cache, other) = (Store::folder(), Cache::new(), Cache::new());
    let options = |cache: &Cache| Mount::of(&store).option("settle=1h").cache(cache);
    for (cache, text) in [(&cache, "not in the store yet"), (&other, "another one")] {
        let mount = options(cache).start();
        fs::write(mount.join("f"), text).unwrap();
        mount.unmount();
    }
    let path = cache.path().to_str().unwrap();
    let in_fdb = options(&cache).option("journal=fdb:/etc/foundationdb/fdb.cluster");
    refused(in_fdb, &[path, "belongs to another journal"]);

    let (journal, kept) = (cache.path().join("journal"), cache.path().join("kept"));
    fs::rename(&journal, &kept).unwrap();
    refused(options(&cache), &[path, "belongs to another journal"]);
    assert!(!journal.exists(), "no new one is made");

    fs::rename(other.path().join("journal"), &journal).unwrap();
    refused(options(&cache), &[path, "belongs to another journal"]);

    fs::remove_dir_all(&journal).unwrap();
    fs::rename(&kept, &journal).unwrap();
    let again = options(&cache).start();
    assert_eq!(
        fs::read_to_string(again.join("f")).unwrap(),
        "not in the store yet"
    );
}

#[test]
fn a_second_mount_on_the_same_cache_directory_is_refused() {
    harness::require_mounts!();
    let (store, cache) = (Store::folder(), Cache::new());
    let first = Mount::of(&store).cache(&cache).start();
    refused(
        Mount::of(&store).cache(&cache),
        &[cache.path().to_str().unwrap()],
    );
    fs::write(first.join("f"), "the first one goes on").unwrap();
}

#[test]
fn a_read_only_cache_directory_is_refused() {
    harness::require_mounts!();
    let (store, cache) = (Store::folder(), Cache::new());
    let view = read_only_view(cache.path());
    refused(
        with_cache_dir(&store, view.path()),
        &[view.path().to_str().unwrap(), "read-only"],
    );
}

#[test]
fn a_full_cache_directory_is_refused_or_tells_it_is_full() {
    harness::require_mounts!();
    let store = Store::folder();
    let device = Device::tmpfs(4 << 20);
    fs::write(device.path().join("ballast"), vec![1; 8 << 20]).expect_err("it is full now");
    let cache = device.path().join("cache");
    refused(
        with_cache_dir(&store, &cache),
        &[device.path().to_str().unwrap(), "space"],
    );
}

#[test]
fn a_cache_that_fills_up_is_an_honest_error_and_loses_nothing() {
    harness::require_mounts!();
    let store = Store::folder();
    let device = Device::ext4(192 << 20);
    let mount = with_cache_dir(&store, &device.path().join("cache")).start();
    fs::write(mount.join("kept"), "kept").unwrap();
    let error = fs::write(mount.join("huge"), vec![7; 400 << 20]).expect_err("400 MiB don't fit");
    assert_eq!(
        error.raw_os_error(),
        Some(nix::errno::Errno::ENOSPC as i32),
        "{error}"
    );
    fs::remove_file(mount.join("huge")).unwrap();
    fs::write(mount.join("after"), "room again").unwrap();
    mount.sync();
    assert_eq!(store.get("kept").as_deref(), Some(&b"kept"[..]));
    assert_eq!(store.get("after").as_deref(), Some(&b"room again"[..]));
}

/// A FUSE mount stands for every file system that lives elsewhere.
#[test]
fn a_cache_directory_on_a_network_file_system_is_refused() {
    harness::require_mounts!();
    let (store, carrier) = (Store::folder(), Store::folder());
    let elsewhere = Mount::of(&carrier).start();
    let cache = elsewhere.join("cache");
    fs::create_dir(&cache).unwrap();
    refused(
        with_cache_dir(&store, &cache),
        &[cache.to_str().unwrap(), "local"],
    );
}

#[test]
fn a_cache_directory_works_on_tmpfs() {
    harness::require_mounts!();
    let store = Store::folder();
    let device = Device::tmpfs(256 << 20);
    let mount = with_cache_dir(&store, &device.path().join("cache")).start();
    fs::write(mount.join("f"), "in memory").unwrap();
    mount.sync();
    assert_eq!(store.get("f").as_deref(), Some(&b"in memory"[..]));
}

#[test]
fn a_cache_directory_that_is_a_file_is_refused() {
    harness::require_mounts!();
    let (store, home) = (Store::folder(), scratch());
    let file = home.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    refused(with_cache_dir(&store, &file), &[file.to_str().unwrap()]);
}

#[test]
fn a_cache_directory_of_a_newer_format_is_refused() {
    harness::require_mounts!();
    let (store, cache) = (Store::folder(), Cache::new());
    Mount::of(&store).cache(&cache).start().unmount();
    let identity = cache.path().join("identity.toml");
    let text = fs::read_to_string(&identity).unwrap();
    assert!(text.contains("format = 1\n"), "{text}");
    fs::write(&identity, text.replace("format = 1\n", "format = 99\n")).unwrap();
    refused(
        Mount::of(&store).cache(&cache),
        &[cache.path().to_str().unwrap(), "99", "newer"],
    );
}

#[test]
fn a_journal_of_a_newer_format_is_refused() {
    harness::require_mounts!();
    let (store, cache) = (Store::folder(), Cache::new());
    Mount::of(&store).cache(&cache).start().unmount();
    set_journal_format(&cache.path().join("journal"), &store.url(), 99);
    refused(Mount::of(&store).cache(&cache), &["99", "newer"]);
    set_journal_format(&cache.path().join("journal"), &store.url(), 1);
    Mount::of(&store).cache(&cache).start();
}

/// The row `F` ends with the format's number, the length of the store's URL, and the URL: one byte
/// each while they are below 128.
fn set_journal_format(journal: &std::path::Path, url: &str, format: u8) {
    use journal::{EmbeddedOptions, EmbeddedStore, KvStore, kv::Mode};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = EmbeddedStore::open(journal, EmbeddedOptions::default()).unwrap();
        let mut change = store.begin(Mode::Serial).unwrap();
        let mut row = change
            .get(b"F", false)
            .await
            .unwrap()
            .expect("a format row");
        let at = row.len() - url.len() - 2;
        assert!(row.ends_with(url.as_bytes()), "{row:?}");
        row[at] = format;
        change.set(b"F", row);
        change.commit().await.unwrap();
        store.sync().await.unwrap();
    });
}
