//! Real data sets in a bucket, read by the libraries that people read them with: that what they get is right, and
//! how much of it is fetched.

use std::path::Path;

use harness::{Mount, Proxy, Store, fused, python};
use serde_json::Value;

const PROGRAM: &str = "dataset_reads.py";

/// A bucket with one data set in it, behind a proxy; nothing of it is in a cache.
struct Dataset {
    store: Store,
    proxy: Proxy,
}

fn run(words: &[&str], path: &Path, more: &[&str]) -> String {
    let program = python(PROGRAM).args(words).arg(path).args(more);
    program.run().success()
}

impl Dataset {
    /// What `program` makes of a path, written through a mount, and what `read` gives of it there.
    fn made(words: &[&str], name: &str, more: &[&str]) -> Dataset {
        let store = Store::seaweedfs();
        let mount = Mount::of(&store).start();
        run(words, &mount.join(name), more);
        mount.sync();
        mount.unmount();
        let proxy = store.proxy();
        Dataset { store, proxy }
    }

    fn mount(&self) -> Mount {
        Mount::of(&self.store).through(&self.proxy).start()
    }
}

/// The model's bytes reach the mapping of each process, and are fetched once.
fn a_model_is_fetched_once(mib: u64) {
    harness::require_mounts!();
    let dataset = Dataset::made(&["make-model"], "m.safetensors", &[&mib.to_string()]);
    let mount = dataset.mount();
    let path = mount.join("m.safetensors");
    let bytes = path.metadata().unwrap().len();
    let cold = run(&["read-model"], &path, &["4"]);
    let fetched = dataset.proxy.fetched_bytes();
    assert_eq!(fetched, bytes, "four processes, each byte once");
    dataset.proxy.forget();
    assert_eq!(run(&["read-model"], &path, &["2"]), cold);
    assert_eq!(dataset.proxy.fetched_bytes(), 0, "all of it is here");
    fused(["free".as_ref(), path.as_os_str()]).success();
    assert_eq!(run(&["read-model"], &path, &["1"]), cold);
}

#[test]
fn a_model_that_four_processes_map_is_fetched_once() {
    a_model_is_fetched_once(128);
}

#[test]
#[ignore = "reads 2 GiB several times"]
fn a_large_model_that_four_processes_map_is_fetched_once() {
    a_model_is_fetched_once(2048);
}

/// A query fetches the footer and the chunks that it needs, and little more: each piece is rounded out, and a reader
/// that goes on within a chunk is fetched ahead of.
#[test]
fn queries_of_a_table_fetch_little_more_than_they_need() {
    harness::require_mounts!();
    let dataset = Dataset::made(&["make-table"], "t.parquet", &[]);
    for question in ["read-column", "read-group", "query"] {
        let mount = dataset.mount();
        let path = mount.join("t.parquet");
        dataset.proxy.forget();
        let cold: Value = serde_json::from_str(&run(&[question], &path, &[])).unwrap();
        let fetched = dataset.proxy.fetched_bytes();
        let needed = cold["needed"].as_u64().unwrap();
        assert!(fetched >= needed, "{question}: {fetched} of {needed}");
        assert!(
            fetched <= 2 * needed + (1 << 20),
            "{question}: {fetched} for {needed}"
        );
        dataset.proxy.forget();
        let warm: Value = serde_json::from_str(&run(&[question], &path, &[])).unwrap();
        assert_eq!(warm, cold);
        assert_eq!(dataset.proxy.fetched_bytes(), 0, "{question}, again");
    }
}

/// Each image is fetched in the first epoch, once, and never again.
fn a_folder_of_images_is_fetched_in_the_first_epoch(count: usize) {
    harness::require_mounts!();
    let count_text = count.to_string();
    let dataset = Dataset::made(&["make-images"], "images", &[&count_text]);
    for order in [&["4", "3"][..], &["4", "3", "shuffle"]] {
        let mount = dataset.mount();
        dataset.proxy.forget();
        let said = run(&["read-images"], &mount.join("images"), order);
        let said: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(said["count"], count);
        let gets = dataset
            .proxy
            .count(|line| line.starts_with("GET") && line.contains(".jpg"));
        assert_eq!(gets, count, "one request an image: {order:?}");
    }
}

#[test]
fn a_folder_of_1_000_images_is_fetched_in_the_first_epoch() {
    a_folder_of_images_is_fetched_in_the_first_epoch(1_000);
}

#[test]
#[ignore = "makes 20,000 images"]
fn a_folder_of_20_000_images_is_fetched_in_the_first_epoch() {
    a_folder_of_images_is_fetched_in_the_first_epoch(20_000);
}
