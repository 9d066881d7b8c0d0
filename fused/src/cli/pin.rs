//! `fused pin PATH...` and `fused unpin PATH...`: what is to stay in the local cache.

use std::fmt::Write as _;

use serde::Serialize;

use super::args::{Pin, Unpin};
use super::load;
use super::paths::{by_mount, outside};
use super::{Error, output};
use crate::control::client::Client;
use crate::control::mounts;
use crate::control::protocol::{StillPinned, WirePath};

/// What `fused pin --json` prints.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Paths that were not pinned before.
    pinned: u64,
    /// How the load went; none with `--no-load`.
    #[serde(flatten)]
    load: Option<load::Report>,
}

/// What `fused unpin --json` prints.
#[derive(Debug, Default, Serialize)]
struct Unpinned {
    /// Pins that are gone.
    unpinned: u64,
    /// What stays in the cache all the same, by absolute paths.
    still: Vec<StillPinned>,
}

/// Runs `fused pin`.
pub(super) fn run(args: &Pin) -> Result<(), Error> {
    let mounts =
        mounts::read().map_err(|error| Error::path("/proc/self/mountinfo", error.to_string()))?;
    let mut report = Report::default();
    for (mount, inside) in by_mount(&mounts, &args.paths)? {
        report.pinned += Client::connect(mount)?.pin(inside)?;
    }
    if !args.no_load {
        report.load = Some(load::load(&args.paths, args.json)?);
    }
    if args.json {
        output::print_json(&report)?;
    } else {
        output::print(&format!("{} pinned\n", paths(report.pinned)))?;
    }
    match (&report.load, args.json) {
        (Some(load), false) => load.tell(),
        (Some(load), true) => load.exit(),
        (None, _) => Ok(()),
    }
}

/// Runs `fused unpin`.
pub(super) fn undo(args: &Unpin) -> Result<(), Error> {
    let mounts =
        mounts::read().map_err(|error| Error::path("/proc/self/mountinfo", error.to_string()))?;
    let mut report = Unpinned::default();
    for (mount, inside) in by_mount(&mounts, &args.paths)? {
        let unpinned = Client::connect(mount)?.unpin(inside)?;
        report.unpinned += unpinned.count;
        let absolute = |path: WirePath| WirePath::from(outside(mount, path).as_path());
        report
            .still
            .extend(unpinned.still.into_iter().map(|still| StillPinned {
                path: absolute(still.path),
                by: absolute(still.by),
            }));
    }
    match args.json {
        true => output::print_json(&report),
        false => output::print(&summary(&report)),
    }
}

fn summary(report: &Unpinned) -> String {
    let mut text = format!("{} unpinned\n", paths(report.unpinned));
    for still in &report.still {
        let _ = writeln!(text, "{} stays: {} is pinned", still.path, still.by);
    }
    text
}

fn paths(count: u64) -> String {
    match count {
        1 => "1 path".to_owned(),
        _ => format!("{count} paths"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_directory_above_keeps_is_said() {
        let report = Unpinned {
            unpinned: 1,
            still: vec![StillPinned {
                path: WirePath::from(b"/m/a/b".to_vec()),
                by: WirePath::from(b"/m/a".to_vec()),
            }],
        };
        assert_eq!(
            summary(&report),
            "1 path unpinned\n/m/a/b stays: /m/a is pinned\n"
        );
    }
}
