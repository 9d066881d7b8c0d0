//! `fused doctor CACHE_DIR|URL`: what is lost or wrong in a cache directory, and with `--repair` less of it.
//!
//! Findings go to standard output, a line each. Exit code 0: nothing is lost or wrong, or it was repaired; 1:
//! something is, or the cache directory can't be examined.

use std::fmt::Write as _;

use super::args::Doctor;
use super::{Error, output, place};
use crate::doctor::{Finding, Grade, Report, Request, examine};
use crate::options::{format_bytes, format_duration};

/// Runs the command.
pub(super) fn run(args: &Doctor) -> Result<(), Error> {
    let report = examine(&Request {
        options: place::options_of(&args.place, &args.options)?,
        repair: args.repair,
        store: !args.no_store,
        read: args.read,
    })?;
    match args.json {
        true => output::print_json(&report)?,
        false => output::print(&text(&report))?,
    }
    match report.is_sound() {
        true => Ok(()),
        false => Err(Error::Told { exit_code: 1 }),
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut findings: Vec<&Finding> = report.findings.iter().collect();
    // The worst first.
    findings.sort_by_key(|finding| finding.grade);
    for finding in findings {
        let grade = match (finding.repaired, finding.grade) {
            (true, _) => "repaired",
            (_, Grade::Lost) => "LOST",
            (_, Grade::Wrong) => "wrong",
            (_, Grade::Leftover) => "leftover",
        };
        let about = match (&finding.path, &finding.key, finding.inode) {
            (Some(path), _, Some(ino)) => format!("{path} (inode {ino}): "),
            (Some(path), _, None) => format!("{path}: "),
            (None, Some(key), _) => format!("object {key}: "),
            (None, None, Some(ino)) => format!("inode {ino}: "),
            (None, None, None) => String::new(),
        };
        let (kind, sentence) = (finding.kind, &finding.sentence);
        // Writing to a String does not fail.
        let _ = writeln!(text, "{grade}: {kind}: {about}{sentence}");
    }
    if report.findings_left_out > 0 {
        let _ = writeln!(text, "and {} more", report.findings_left_out);
    }
    if report.compared_bytes > 0 {
        let bytes = format_bytes(report.compared_bytes);
        let _ = writeln!(text, "{bytes} compared with what was uploaded");
    }
    let _ = writeln!(
        text,
        "{} lost, {} wrong, {} left over, {} repaired; {} inodes, {} names, {} extent files and {} objects looked \
         at in {}",
        report.lost,
        report.wrong,
        report.leftover,
        report.repaired,
        report.inodes,
        report.names,
        report.extent_files,
        report.objects,
        format_duration(std::time::Duration::from_secs_f64(report.elapsed_s)),
    );
    text
}
