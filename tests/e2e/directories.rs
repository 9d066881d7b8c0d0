//! Reading directories: large ones, and ones that change meanwhile.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use harness::{Mount, Way, python};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

fn way() -> Way {
    Way::folder("passthrough=auto")
}

fn program(action: &str, mount: &Mount, count: usize) {
    let program = python("directory.py").arg(action).arg(mount.path());
    program.arg(count.to_string()).run().success();
}

#[test]
fn an_entry_that_stays_is_returned_once_while_others_come_and_go() {
    harness::require_mounts!();
    let way = way();
    program("churn", &way.mount(), 3000);
}

#[test]
fn a_listing_does_not_bring_back_the_size_from_before_a_write() {
    harness::require_mounts!();
    let way = way();
    program("sizes", &way.mount(), 250);
}

/// A figure of the daemon's memory, in KiB.
fn memory_kib(mount: &mut Mount, field: &str) -> u64 {
    let status = format!("/proc/{}/status", mount.daemon().pid());
    let status = fs::read_to_string(status).unwrap();
    let mut lines = status.lines();
    let figure = lines.find_map(|line| line.strip_prefix(field));
    let figure = figure.and_then(|rest| rest.split_whitespace().nth(1));
    figure.expect(field).parse().unwrap()
}

/// Pipes, since they are entries and nothing else: no object, no upload.
fn name_of(number: u64) -> String {
    format!("{number:07}")
}

fn make_entries(directory: &Path, count: u64) {
    fs::create_dir(directory).unwrap();
    for number in 0..count {
        let name = directory.join(name_of(number));
        mkfifo(&name, Mode::from_bits_truncate(0o644)).unwrap();
    }
}

fn lists_in_bounded_memory(count: u64, growth_kib_max: u64) {
    let way = way();
    // One listing of the store's is believed for so long.
    let mut mount = way.options().option("revalidate=3600").start();
    make_entries(&mount.join("large"), count);
    let pid = mount.daemon().pid();
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    let before = memory_kib(&mut mount, "VmRSS");
    let mut entries = fs::read_dir(mount.join("large")).unwrap();
    let first = entries.next().expect("an entry").unwrap().file_name();
    // Had the last been read before the first is here, these would be shown.
    let mut removed: HashSet<OsString> = (0..count)
        .step_by(count as usize / 100)
        .map(|number| name_of(number).into())
        .collect();
    removed.remove(&first);
    for name in &removed {
        fs::remove_file(mount.join("large").join(name)).unwrap();
    }
    let names: Vec<OsString> = entries.map(|entry| entry.unwrap().file_name()).collect();
    let shown = names.iter().filter(|name| removed.contains(*name)).count();
    assert!(shown < 50, "{shown} of {} removed", removed.len());
    assert_eq!(
        names.len() as u64,
        count - 1 - (removed.len() - shown) as u64
    );
    let growth = memory_kib(&mut mount, "VmHWM").saturating_sub(before);
    assert!(growth <= growth_kib_max, "{growth} KiB more");
}

#[test]
fn a_directory_of_20_000_entries_is_listed_in_bounded_memory() {
    harness::require_mounts!();
    lists_in_bounded_memory(20_000, 16 << 10);
}

#[test]
#[ignore = "makes 1,000,000 entries"]
fn a_directory_of_1_000_000_entries_is_listed_in_bounded_memory() {
    harness::require_mounts!();
    lists_in_bounded_memory(1_000_000, 16 << 10);
}
