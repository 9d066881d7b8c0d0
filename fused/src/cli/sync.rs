//! `fused sync PATH...`: returns when everything at and below the paths is in the store.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::Sync;
use super::paths::{by_mount, outside};
use super::progress::Bar;
use super::{Error, output};
use crate::control::client::Client;
use crate::control::mounts::{self, Mount};
use crate::control::protocol::{Progress, Unflushed, WirePath};
use crate::options::{format_bytes, format_duration};

/// Files that are named on a terminal; `--json` names all that the daemon told.
const UNFLUSHED_SHOWN: usize = 20;

/// What `--json` prints.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Everything is in the store.
    synced: bool,
    /// Files that were waited for.
    files_total: u64,
    /// Their bytes.
    bytes_total: u64,
    /// How long it took.
    elapsed_s: f64,
    /// What is not in the store, by absolute path, and why.
    unflushed: Vec<Unflushed>,
    /// How many are not.
    unflushed_total: u64,
}

/// Runs the command.
pub(super) fn run(args: &Sync) -> Result<(), Error> {
    let mounts =
        mounts::read().map_err(|error| Error::path("/proc/self/mountinfo", error.to_string()))?;
    let mut waiting = Waiting::new(args.timeout, args.json);
    for (mount, inside) in by_mount(&mounts, &args.paths)? {
        waiting.wait(mount, inside)?;
    }
    waiting.tell()
}

/// A wait for the store, over one mount or several, within one time.
pub(super) struct Waiting {
    started: Instant,
    timeout: Option<Duration>,
    json: bool,
    report: Report,
}

impl Waiting {
    pub(super) fn new(timeout: Option<Duration>, json: bool) -> Waiting {
        Waiting {
            started: Instant::now(),
            timeout,
            json,
            report: Report::default(),
        }
    }

    /// Waits until the paths of a mount are in the store, or the time is over; whether they are.
    pub(super) fn wait(&mut self, mount: &Mount, paths: Vec<WirePath>) -> Result<bool, Error> {
        let left = self
            .timeout
            .map(|limit| limit.saturating_sub(self.started.elapsed()));
        sync_mount(mount, paths, left, self.json, &mut self.report)?;
        Ok(self.report.unflushed_total == 0)
    }

    /// Tells the outcome; an error if something is not in the store.
    pub(super) fn tell(mut self) -> Result<(), Error> {
        let report = &mut self.report;
        report.elapsed_s = self.started.elapsed().as_secs_f64();
        report.synced = report.unflushed_total == 0;
        if self.json {
            output::print_json(report)?;
        } else if report.synced {
            output::print(&summary(report))?;
        } else {
            output::complain(&failure(report));
        }
        match report.synced {
            true => Ok(()),
            false => Err(Error::Told { exit_code: 1 }),
        }
    }
}

fn sync_mount(
    mount: &Mount,
    paths: Vec<WirePath>,
    timeout: Option<Duration>,
    json: bool,
    report: &mut Report,
) -> Result<(), Error> {
    let bar = Bar::new(json);
    let result = Client::connect(mount)
        .and_then(|mut client| client.sync(paths, timeout, |progress| show(&bar, progress)));
    bar.finish();
    let done = result?;

    report.files_total += done.files_total;
    report.bytes_total += done.bytes_total;
    report.unflushed_total += done.unflushed_total.max(done.unflushed.len() as u64);
    report
        .unflushed
        .extend(done.unflushed.into_iter().map(|file| Unflushed {
            path: WirePath::from(outside(mount, file.path).as_path()),
            reason: file.reason,
        }));
    Ok(())
}

fn show(bar: &Bar, progress: Progress) {
    bar.show(
        progress.bytes_left,
        progress.bytes_total,
        format!(
            "{} of {} files to go",
            progress.files_left, progress.files_total
        ),
    );
}

fn summary(report: &Report) -> String {
    if report.files_total == 0 {
        return "everything was in the store already\n".to_owned();
    }
    let rate = report.bytes_total as f64 / report.elapsed_s.max(0.001);
    format!(
        "{}, {} now in the store ({}, {}/s)\n",
        files(report.files_total),
        format_bytes(report.bytes_total),
        format_duration(Duration::from_secs_f64(report.elapsed_s)),
        format_bytes(rate as u64),
    )
}

fn failure(report: &Report) -> String {
    let mut text = format!("{} not in the store:", files(report.unflushed_total));
    for file in report.unflushed.iter().take(UNFLUSHED_SHOWN) {
        let _ = write!(text, "\n  {}: {}", file.path, file.reason);
    }
    let shown = report.unflushed.len().min(UNFLUSHED_SHOWN) as u64;
    if report.unflushed_total > shown {
        let _ = write!(text, "\n  and {} more", report.unflushed_total - shown);
    }
    text
}

pub(super) fn files(count: u64) -> String {
    if count == 1 {
        "1 file".to_owned()
    } else {
        format!("{count} files")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_store_is_listed_with_its_reason() {
        let unflushed = |n: u64| Unflushed {
            path: WirePath::from(format!("/m/{n}").into_bytes()),
            reason: "timeout".to_owned(),
        };
        let report = Report {
            unflushed: (0..25).map(unflushed).collect(),
            unflushed_total: 30,
            ..Report::default()
        };
        let text = failure(&report);
        assert!(
            text.starts_with("30 files not in the store:\n  /m/0: timeout\n"),
            "{text}"
        );
        assert!(text.ends_with("\n  and 10 more"), "{text}");
    }

    #[test]
    fn the_summary_names_files_bytes_and_rate() {
        let mut report = Report {
            synced: true,
            elapsed_s: 2.0,
            ..Report::default()
        };
        assert_eq!(summary(&report), "everything was in the store already\n");
        report.files_total = 1;
        report.bytes_total = 4 << 20;
        assert_eq!(
            summary(&report),
            "1 file, 4.0 MiB now in the store (2 s, 2.0 MiB/s)\n"
        );
    }
}
