//! Files that are brought in before they are opened: which, how many, and when none is.

use std::fs::{self, File};
use std::io::Read;
use std::time::Duration;

use harness::{Mount, Proxy, Random, Store, wait_until};

const KIB: usize = 1 << 10;
const LIMIT: Duration = Duration::from_secs(60);

/// A bucket behind a proxy with files in `d` that are nowhere else, and a mount of it.
struct Dataset {
    names: Vec<String>,
    bytes: usize,
    proxy: Proxy,
    mount: Mount,
    _store: Store,
}

impl Dataset {
    fn new(count: usize, bytes: usize, name: impl Fn(usize) -> String, options: &[&str]) -> Self {
        let store = Store::seaweedfs();
        let mount = Mount::of(&store).start();
        fs::create_dir(mount.join("d")).unwrap();
        let names: Vec<String> = (1..=count).map(name).collect();
        for (n, name) in names.iter().enumerate() {
            Random::write_file(n as u64, &mount.join("d").join(name), bytes);
        }
        mount.sync();
        mount.unmount();
        let proxy = store.proxy();
        let options = options
            .iter()
            .fold(Mount::of(&store), |mount, option| mount.option(*option));
        let mount = options.through(&proxy).start();
        Self {
            names,
            bytes,
            proxy,
            mount,
            _store: store,
        }
    }

    fn read(&self, number: usize) {
        let read = fs::read(self.mount.join("d").join(&self.names[number])).unwrap();
        let expected = Random::new(number as u64).bytes(self.bytes);
        assert!(read == expected, "{}", self.names[number]);
    }

    fn is_here(&self, number: usize) -> bool {
        let path = format!("d/{}", self.names[number]);
        let resident = self.mount.attribute(path, "user.fused.resident");
        resident.trim().parse::<usize>().unwrap() == self.bytes
    }

    /// Requests for bytes of files.
    fn gets(&self) -> Vec<String> {
        let requests = self.proxy.requests().into_iter();
        requests
            .filter(|line| line.starts_with("GET") && line.contains("/d/"))
            .collect()
    }
}

fn numbered(n: usize) -> String {
    format!("{n:04}.jpg")
}

/// Without a number that counts on, so only the order of names tells.
fn named(n: usize) -> String {
    let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
    format!("{}{}", letter(n / 26), letter(n))
}

fn go_ahead_of_a_reader(count: usize, name: impl Fn(usize) -> String) {
    const READ: usize = 12;
    let dataset = Dataset::new(count, 20 * KIB, name, &[]);
    for number in 0..READ {
        dataset.read(number);
    }
    wait_until("the next files are here", LIMIT, || {
        (READ..2 * READ).all(|number| dataset.is_here(number))
    });
    for number in READ..count {
        dataset.read(number);
    }
    let mut gets = dataset.gets();
    assert_eq!(gets.len(), count, "each once");
    gets.sort();
    gets.dedup();
    assert_eq!(gets.len(), count, "each once");
    let prefetched = &dataset.mount.status()["prefetched"];
    assert!(
        prefetched["files"].as_u64() >= Some(READ as u64),
        "{prefetched}"
    );
    assert_eq!(
        prefetched["opened"], prefetched["foreseen"],
        "none in vain: {prefetched}"
    );
}

#[test]
fn files_in_the_order_of_their_names_come_before_they_are_opened() {
    harness::require_mounts!();
    go_ahead_of_a_reader(100, named);
}

#[test]
fn files_in_the_order_of_their_numbers_come_before_they_are_opened() {
    harness::require_mounts!();
    go_ahead_of_a_reader(120, |n| format!("shard-{n}.tar"));
}

#[test]
fn who_reads_headers_only_is_not_followed() {
    harness::require_mounts!();
    let dataset = Dataset::new(40, 1024 * KIB, numbered, &[]);
    for name in &dataset.names {
        let mut file = File::open(dataset.mount.join("d").join(name)).unwrap();
        file.read_exact(&mut [0; 512]).unwrap();
    }
    let prefetched = &dataset.mount.status()["prefetched"];
    assert_eq!(prefetched["foreseen"], 0, "{prefetched}");
}

#[test]
fn with_prefetch_off_nothing_comes_that_nobody_asked_for() {
    harness::require_mounts!();
    let dataset = Dataset::new(60, 20 * KIB, numbered, &["prefetch=off"]);
    for number in 0..20 {
        dataset.read(number);
    }
    let prefetched = &dataset.mount.status()["prefetched"];
    assert_eq!(prefetched["foreseen"], 0, "{prefetched}");
    assert_eq!(dataset.gets().len(), 20);
    assert!((20..60).all(|number| !dataset.is_here(number)));
}

/// More files than the cache holds: what goes ahead must not throw out what it has just brought in.
#[test]
fn a_reader_of_more_than_the_cache_holds_gets_each_file_once() {
    harness::require_mounts!();
    const COUNT: usize = 60;
    let options = ["cache_size=24MiB"];
    let dataset = Dataset::new(COUNT, 1024 * KIB, numbered, &options);
    for number in 0..COUNT {
        dataset.read(number);
    }
    let gets = dataset.gets().len();
    assert!(
        gets <= COUNT + COUNT / 10,
        "{gets} requests for {COUNT} files"
    );
}
