//! pjdfstest: what every system call must answer, in 398 cases.
//!
//! This is the Rust rewrite; the original in C and Perl is in no package registry.
//!
//! It runs twice. The first run does everything but the cases that remount the file system read-only:
//! after some of the others the suite itself still holds files open, and the kernel answers the
//! remount with EBUSY (ext4 fails in the same way). The second run does those. Between them nothing may
//! be left out except what [`UNABLE`] lists with the reason; a local ext4, which can't be remounted
//! while everybody works on it, leaves out 13.
//!
//! The suite sleeps a "naptime" before it looks whether a time stamp moved. Ours have nanoseconds and
//! the kernel's clock ticks every 10 ms at the slowest, so 50 ms are enough, and more telling than its
//! default of a second.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use harness::{Way, scratch, tool};

harness::every_way!(every_case_passes);

/// Cases that no FUSE file system can run.
const UNABLE: [&str; 1] = [
    // pathconf(_PC_LINK_MAX) is the C library's table of file systems, and FUSE is not in it.
    "link::link_count_max",
];

const CASES: usize = 398;

/// What one run said of each case.
#[derive(Debug, Default)]
struct Report {
    passed: BTreeSet<String>,
    skipped: BTreeSet<String>,
    failed: BTreeSet<String>,
}

fn every_case_passes(way: &Way) {
    let doorstep = Doorstep::new();
    let mount = way.options().at(&doorstep.0).start();
    let Some(most) = run(mount.path(), Remounts::Forbidden, &[]) else {
        return;
    };
    let rest = run(mount.path(), Remounts::Allowed, &["erofs"]).expect("it was there");
    let passed = &most.passed | &rest.passed;
    let left_out = &(&most.skipped | &rest.skipped) - &passed;
    assert_eq!(left_out, UNABLE.map(str::to_owned).into(), "left out");
    assert_eq!(passed.len() + left_out.len(), CASES, "cases");
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remounts {
    Allowed,
    Forbidden,
}

/// Runs the cases whose names contain one of the patterns, all without any; panics unless none of them
/// fails. None where the suite is not installed.
fn run(at: &Path, remounts: Remounts, patterns: &[&str]) -> Option<Report> {
    let home = scratch();
    let config = home.path().join("pjdfstest.toml");
    let allowed = remounts == Remounts::Allowed;
    let text = format!(
        r#"
        [features]
        posix_fallocate = {{}}
        rename_ctime = {{}}
        utime_now = {{}}
        utimensat = {{}}
        [settings]
        naptime = 0.05
        allow_remount = {allowed}
        [dummy_auth]
        entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
        "#
    );
    fs::write(&config, text).unwrap();
    let elsewhere = home.path().join("another-file-system");
    fs::create_dir(&elsewhere).unwrap();
    let suite = tool("pjdfstest")?
        .arg("-c")
        .arg(&config)
        .arg("-p")
        .arg(at)
        .arg("-s")
        .arg(&elsewhere)
        .args(patterns)
        .env("NO_COLOR", "1")
        .env("RUST_BACKTRACE", "0")
        .env("PATH", path_with_internal_mount(home.path()));
    let finished = suite.run();
    let said = finished.to_string();
    let report = read(&finished.stdout);
    assert_eq!(report.failed, BTreeSet::new(), "{said}");
    let summary = finished
        .stdout
        .lines()
        .rfind(|line| line.starts_with("Summary: "))
        .unwrap_or_else(|| panic!("no summary: {said}"));
    let expected = format!(
        "Summary: 0 failed, {} skipped, {} passed, 0 expected failures, {} total",
        report.skipped.len(),
        report.passed.len(),
        report.skipped.len() + report.passed.len(),
    );
    assert_eq!(summary, expected, "{said}");
    finished.success();
    Some(report)
}

/// Lines of a name and a verdict; those that say more about a case begin with a tab.
fn read(printed: &str) -> Report {
    let mut report = Report::default();
    for line in printed.lines().filter(|line| !line.starts_with('\t')) {
        let [name, verdict] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            continue;
        };
        match verdict {
            "ok" => report.passed.insert(name.to_owned()),
            "skipped" => report.skipped.insert(name.to_owned()),
            "FAILED" => report.failed.insert(name.to_owned()),
            _ => continue,
        };
    }
    report
}

/// A PATH with a `mount` that remounts by itself: of FUSE types mount(8) runs the installed program instead.
fn path_with_internal_mount(home: &Path) -> String {
    let bin = home.join("bin");
    fs::create_dir(&bin).unwrap();
    let script = bin.join("mount");
    fs::write(&script, "#!/bin/sh\nexec /bin/mount -i \"$@\"\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", bin.display())
}

/// A mount point that other users can reach, wherever the project is.
struct Doorstep(PathBuf);

impl Doorstep {
    fn new() -> Self {
        let name = format!("fused-pjdfstest-{:016x}", rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }
}

impl Drop for Doorstep {
    fn drop(&mut self) {
        // Only the empty folder: whatever is mounted there still is not ours to remove.
        let _ = fs::remove_dir(&self.0);
    }
}
