//! `fused load PATH...`: brings files into the local cache.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::Load;
use super::paths::{by_mount, outside};
use super::progress::Bar;
use super::sync::files;
use super::{Error, output};
use crate::control::client::Client;
use crate::control::mounts::{self, Mount};
use crate::control::protocol::{Failed, Loading, WirePath};
use crate::options::{format_bytes, format_duration};

/// Failures named on a terminal; `--json` names all that the daemon told.
const FAILURES_SHOWN: usize = 20;

/// What `--json` prints.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Everything is in the cache.
    loaded: bool,
    /// Files of which something was fetched.
    files: u64,
    /// Bytes that were fetched.
    bytes: u64,
    /// Files that were in the cache already.
    resident: u64,
    /// Files that by a rule do not stay in the cache.
    skipped: u64,
    /// How long it took.
    elapsed_s: f64,
    /// What could not be loaded, by absolute path, and why.
    failed: Vec<Failed>,
    /// How many there are.
    failed_total: u64,
    /// Why it ended before its end.
    stopped: Option<String>,
}

/// Runs the command.
pub(super) fn run(args: &Load) -> Result<(), Error> {
    let report = load(&args.paths, args.json)?;
    match args.json {
        true => {
            output::print_json(&report)?;
            report.exit()
        }
        false => report.tell(),
    }
}

/// Loads, with a bar unless the report is for a program.
pub(super) fn load(paths: &[PathBuf], json: bool) -> Result<Report, Error> {
    let mounts =
        mounts::read().map_err(|error| Error::path("/proc/self/mountinfo", error.to_string()))?;
    let started = Instant::now();
    let mut report = Report::default();
    for (mount, inside) in by_mount(&mounts, paths)? {
        load_mount(mount, inside, json, &mut report)?;
        if report.stopped.is_some() {
            break;
        }
    }
    report.elapsed_s = started.elapsed().as_secs_f64();
    report.loaded = report.stopped.is_none() && report.failed_total == 0;
    Ok(report)
}

impl Report {
    /// Tells the outcome to people; an error if something is not in the cache.
    pub(super) fn tell(&self) -> Result<(), Error> {
        match self.loaded {
            true => output::print(&summary(self))?,
            false => output::complain(&failure(self)),
        }
        self.exit()
    }

    /// An error if something is not in the cache.
    pub(super) fn exit(&self) -> Result<(), Error> {
        match self.loaded {
            true => Ok(()),
            false => Err(Error::Told { exit_code: 1 }),
        }
    }
}

fn load_mount(
    mount: &Mount,
    paths: Vec<WirePath>,
    json: bool,
    report: &mut Report,
) -> Result<(), Error> {
    let bar = Bar::new(json);
    let loaded = Client::connect(mount)
        .and_then(|mut client| client.load(paths, |progress| show(&bar, progress)));
    bar.finish();
    let loaded = loaded?;
    report.files += loaded.files;
    report.bytes += loaded.bytes;
    report.resident += loaded.resident;
    report.skipped += loaded.skipped;
    report.failed_total += loaded.failed_total.max(loaded.failed.len() as u64);
    report
        .failed
        .extend(loaded.failed.into_iter().map(|failed| Failed {
            path: WirePath::from(outside(mount, failed.path).as_path()),
            reason: failed.reason,
        }));
    report.stopped = loaded.stopped;
    Ok(())
}

fn show(bar: &Bar, progress: Loading) {
    let more = if progress.listing { " and more" } else { "" };
    bar.show(
        progress.bytes_left,
        progress.bytes_total,
        format!(
            "{} of {}{more} files to go",
            progress.files_left, progress.files_total
        ),
    );
}

fn summary(report: &Report) -> String {
    let here = match report.resident {
        0 => String::new(),
        count => format!("; {} here already", files(count)),
    };
    let skipped = match report.skipped {
        0 => String::new(),
        count => format!("; {} not to stay here by a rule", files(count)),
    };
    match (report.files, report.resident, report.skipped) {
        (0, 0, 0) => "no files there\n".to_owned(),
        (0, _, 0) => "everything was here already\n".to_owned(),
        _ => format!("{}{here}{skipped}\n", fetched(report)),
    }
}

fn fetched(report: &Report) -> String {
    let rate = report.bytes as f64 / report.elapsed_s.max(0.001);
    format!(
        "{}, {} loaded ({}, {}/s)",
        files(report.files),
        format_bytes(report.bytes),
        format_duration(Duration::from_secs_f64(report.elapsed_s)),
        format_bytes(rate as u64),
    )
}

fn failure(report: &Report) -> String {
    let mut text = match &report.stopped {
        Some(why) => format!("stopped after {}: {why}", fetched(report)),
        None => format!("{} not loaded:", files(report.failed_total)),
    };
    for failed in report.failed.iter().take(FAILURES_SHOWN) {
        let _ = write!(text, "\n  {}: {}", failed.path, failed.reason);
    }
    let shown = report.failed.len().min(FAILURES_SHOWN) as u64;
    if report.failed_total > shown {
        let _ = write!(text, "\n  and {} more", report.failed_total - shown);
    }
    if !report.failed.is_empty() {
        text.push_str("\nload again: what is here is not fetched again");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_and_what_was_here_is_told_apart() {
        let mut report = Report::default();
        assert_eq!(summary(&report), "no files there\n");
        report.resident = 3;
        assert_eq!(summary(&report), "everything was here already\n");
        report.files = 1;
        report.bytes = 4 << 20;
        report.elapsed_s = 2.0;
        assert_eq!(
            summary(&report),
            "1 file, 4.0 MiB loaded (2 s, 2.0 MiB/s); 3 files here already\n"
        );
        report.resident = 0;
        report.skipped = 1;
        assert_eq!(
            summary(&report),
            "1 file, 4.0 MiB loaded (2 s, 2.0 MiB/s); 1 file not to stay here by a rule\n"
        );
    }

    #[test]
    fn a_load_that_stopped_says_why_and_what_failed() {
        let report = Report {
            elapsed_s: 1.0,
            failed: vec![Failed {
                path: WirePath::from(b"/m/a".to_vec()),
                reason: "gone".into(),
            }],
            failed_total: 3,
            stopped: Some("the cache is full".into()),
            ..Report::default()
        };
        let text = failure(&report);
        assert_eq!(
            text,
            "stopped after 0 files, 0 B loaded (1 s, 0 B/s): the cache is full\n  /m/a: gone\n  and 2 more\nload \
             again: what is here is not fetched again"
        );
    }
}
