//! `fused status [DIR]`: how a mount is, or every fused mount of this machine.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::args::Status as Args;
use super::{Error, output};
use crate::control::client::Client;
use crate::control::mounts::{self, Mount};
use crate::control::protocol::{LastError, PassthroughState, Prefetched, Sample, Status, WirePath};
use crate::options::{format_bytes, format_duration};

/// Names shown of what may be many.
const NAMES_SHOWN: usize = 5;

/// A mount that doesn't answer, among others that do.
#[derive(Debug, Serialize)]
struct Dead {
    mountpoint: WirePath,
    store: String,
    error: String,
}

/// One element of the array that `--json` prints without DIR.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Row {
    Alive(Box<Status>),
    Dead(Dead),
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    let mounts =
        mounts::read().map_err(|error| Error::path("/proc/self/mountinfo", error.to_string()))?;
    match &args.dir {
        Some(dir) => {
            let status = Client::connect(find(&mounts, dir)?)?.status()?;
            if args.json {
                output::print_json(&status)
            } else {
                output::print(&table(&status))
            }
        }
        None => every(&mounts, args.json),
    }
}

/// The mount at a path (which is not touched if it is a mount point), or the one that it is in.
fn find<'a>(mounts: &'a [Mount], dir: &Path) -> Result<&'a Mount, Error> {
    let path = mounts::resolve_mountpoint(mounts, dir)
        .map_err(|error| Error::path(dir, error.to_string()))?;
    mounts::containing(mounts, &path)
        .filter(|mount| mount.is_fused())
        .ok_or_else(|| Error::path(dir, "this is not in a fused mount"))
}

fn every(mounts: &[Mount], json: bool) -> Result<(), Error> {
    let mut rows = Vec::new();
    let mut devices = Vec::new();
    for mount in mounts.iter().filter(|mount| mount.is_fused()) {
        // A bind mount is the same daemon again.
        let device = (mount.major, mount.minor);
        if !devices.contains(&device) {
            devices.push(device);
            rows.push(ask(mount));
        }
    }

    if json {
        output::print_json(&rows)?;
    } else if rows.is_empty() {
        output::print("no fused mounts here\n")?;
    } else {
        let tables: Vec<String> = rows
            .iter()
            .map(|row| match row {
                Row::Alive(status) => table(status),
                Row::Dead(dead) => {
                    format!("{}  {}\n  {}\n", dead.mountpoint, dead.store, dead.error)
                }
            })
            .collect();
        output::print(&tables.join("\n"))?;
    }
    let all_alive = rows.iter().all(|row| matches!(row, Row::Alive(_)));
    if all_alive {
        Ok(())
    } else {
        Err(Error::Told { exit_code: 1 })
    }
}

fn ask(mount: &Mount) -> Row {
    match Client::connect(mount).and_then(|mut client| client.status()) {
        Ok(status) => Row::Alive(Box::new(status)),
        Err(error) => Row::Dead(Dead {
            mountpoint: WirePath::from(mount.mountpoint.as_path()),
            store: mount.source.clone(),
            error: error.to_string(),
        }),
    }
}

/// A status for people.
fn table(status: &Status) -> String {
    let now_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let mut rows: Vec<(&str, String)> = vec![
        (
            "store",
            format!(
                "{} ({})",
                status.store,
                if status.store_ok {
                    "ok"
                } else {
                    "not reachable"
                }
            ),
        ),
        ("mounted", mounted(status)),
        (
            "journal",
            format!("{}, node {}", status.journal, status.node),
        ),
        ("cache", cache(status)),
        ("not in the store", dirty(status)),
        ("upload", upload(status)),
        ("passthrough", passthrough(&status.passthrough)),
    ];
    rows.extend(status.uploading.iter().take(NAMES_SHOWN).map(|file| {
        let done = format_bytes(file.bytes_done);
        (
            "uploading",
            format!("{}: {done} of {}", file.key, format_bytes(file.bytes_total)),
        )
    }));
    rows.extend(prefetched(&status.prefetched).map(|text| ("prefetched", text)));
    if status.corrupt_blocks > 0 {
        let count = format!("{} from the store; see the log", status.corrupt_blocks);
        rows.push(("corrupt blocks", count));
    }
    rows.extend(sample(&status.conflicts).map(|text| ("conflicts", text)));
    rows.extend(sample(&status.pinned).map(|text| ("pinned", text)));
    rows.extend(sample(&status.hidden_keys).map(|text| ("hidden keys", text)));
    rows.push(("last error", last_error(status.last_error.as_ref(), now_s)));

    let width = rows
        .iter()
        .map(|(label, _)| label.len())
        .max()
        .unwrap_or_default();
    let mut text = format!("{}\n", status.mountpoint);
    for (label, value) in rows {
        let _ = writeln!(text, "  {label:width$}  {value}");
    }
    text
}

fn mounted(status: &Status) -> String {
    let read_only = if status.read_only { ", read-only" } else { "" };
    format!(
        "for {}, fused {}, process {}{read_only}",
        seconds(status.uptime_s),
        status.version,
        status.pid
    )
}

fn cache(status: &Status) -> String {
    let share = match status.cache_size {
        0 => String::new(),
        size => format!(" ({:.0}%)", status.cache_used as f64 * 100.0 / size as f64),
    };
    let mut places = status.cache_dir.to_string();
    for further in &status.further_cache_dirs {
        places += &format!(", {further}");
    }
    format!(
        "{} of {}{share} in {places}",
        format_bytes(status.cache_used),
        format_bytes(status.cache_size),
    )
}

fn prefetched(prefetched: &Prefetched) -> Option<String> {
    (prefetched.foreseen > 0).then(|| {
        format!(
            "{} files, {}; of {} foreseen, {} were opened",
            prefetched.files,
            format_bytes(prefetched.bytes),
            prefetched.foreseen,
            prefetched.opened
        )
    })
}

fn dirty(status: &Status) -> String {
    if status.dirty_files == 0 {
        return "nothing".to_owned();
    }
    let age = status
        .oldest_unflushed_age_s
        .map_or_else(String::new, |age| {
            format!(", the oldest for {}", seconds(age))
        });
    let plural = if status.dirty_files == 1 { "" } else { "s" };
    format!(
        "{} file{plural}, {}{age}",
        status.dirty_files,
        format_bytes(status.dirty_bytes)
    )
}

fn upload(status: &Status) -> String {
    format!(
        "{}/s, {} since mounted",
        format_bytes(status.upload_bytes_per_s.max(0.0) as u64),
        format_bytes(status.uploaded_bytes)
    )
}

fn passthrough(state: &PassthroughState) -> String {
    match (state.on, &state.reason) {
        (true, _) => "on".to_owned(),
        (false, None) => "off".to_owned(),
        (false, Some(reason)) => format!("off: {reason}"),
    }
}

fn sample(sample: &Sample) -> Option<String> {
    let names = sample
        .first
        .iter()
        .take(NAMES_SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let dots = if sample.total > NAMES_SHOWN as u64 {
        ", ..."
    } else {
        ""
    };
    (sample.total > 0).then(|| format!("{}: {names}{dots}", sample.total))
}

fn last_error(error: Option<&LastError>, now_s: u64) -> String {
    let Some(error) = error else {
        return "none".to_owned();
    };
    let ago = now_s.saturating_sub(u64::try_from(error.when).unwrap_or_default());
    let key = error
        .key
        .as_ref()
        .map_or_else(String::new, |key| format!("{key}: "));
    format!(
        "{key}{} ({} ago)",
        error.message,
        format_duration(Duration::from_secs(ago))
    )
}

fn seconds(number: f64) -> String {
    let whole = Duration::try_from_secs_f64(number.trunc()).unwrap_or_default();
    format_duration(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::Uploading;

    fn status() -> Status {
        Status {
            version: "0.1.0".into(),
            pid: 42,
            mountpoint: Path::new("/mnt/a").into(),
            store: "s3://bucket/a".into(),
            store_ok: true,
            journal: "embedded".into(),
            node: "1f".into(),
            cache_dir: Path::new("/c").into(),
            cache_size: 10 << 30,
            cache_used: 5 << 30,
            uptime_s: 3723.9,
            ..Status::default()
        }
    }

    #[test]
    fn a_quiet_mount_is_a_table_with_one_column_of_values() {
        assert_eq!(
            table(&status()),
            "/mnt/a\n\
            \x20 store             s3://bucket/a (ok)\n\
            \x20 mounted           for 1 h 2 min, fused 0.1.0, process 42\n\
            \x20 journal           embedded, node 1f\n\
            \x20 cache             5.0 GiB of 10.0 GiB (50%) in /c\n\
            \x20 not in the store  nothing\n\
            \x20 upload            0 B/s, 0 B since mounted\n\
            \x20 passthrough       off\n\
            \x20 last error        none\n"
        );
    }

    #[test]
    fn a_busy_mount_shows_what_is_going_on() {
        let status = Status {
            dirty_files: 1,
            dirty_bytes: 1 << 20,
            oldest_unflushed_age_s: Some(61.0),
            uploading: vec![Uploading {
                key: "k".into(),
                bytes_done: 1024,
                bytes_total: 2048,
            }],
            conflicts: Sample {
                total: 7,
                first: vec!["c".into(); 7],
            },
            last_error: Some(LastError {
                when: 0,
                key: Some("k".into()),
                message: "503".into(),
            }),
            passthrough: PassthroughState {
                on: false,
                reason: Some("kernel too old".into()),
            },
            ..status()
        };
        let text = table(&status);
        for part in [
            "1 file, 1.0 MiB, the oldest for 1 min 1 s\n",
            "k: 1.0 KiB of 2.0 KiB\n",
            "7: c, c, c, c, c, ...\n",
            "k: 503 (",
            "off: kernel too old\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_path_that_is_in_no_fused_mount_is_refused() {
        let mounts = mounts::read().unwrap();
        let error = find(&mounts, Path::new("/proc")).unwrap_err().to_string();
        assert_eq!(error, "/proc: this is not in a fused mount");
    }
}
