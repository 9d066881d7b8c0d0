//! Where log lines go: standard error in the foreground, a file in the background.
//!
//! The default file is `fused.log.<date>` in the cache directory, a new one each day and seven kept, with
//! `fused.log` as a link to the newest. Lines are written at once, not by a thread of their own: the line
//! that explains a crash must not be lost in a queue, and at the usual level there are few.
//!
//! Our own crates log at the level of the option, libraries only warnings (some of them would log request
//! headers); `RUST_LOG` overrides both. Panics are logged too: a background daemon's standard error is
//! nowhere.

use std::fs::{DirBuilder, OpenOptions};
use std::io::IsTerminal;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::Error;
use crate::options::{LogLevel, MountOptions};

/// Days for which the default log file is kept.
const LOG_FILES_MAX: usize = 7;
/// The crates of this project.
const OWN_CRATES: [&str; 5] = ["fused", "flusher", "journal", "extents", "remote"];

/// Starts logging for a daemon.
pub(super) fn start(options: &MountOptions, to_file: bool) -> Result<(), Error> {
    let writer = if to_file {
        file_writer(options)?
    } else {
        BoxMakeWriter::new(std::io::stderr)
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(options.log_level))
        .with_ansi(!to_file && std::io::stderr().is_terminal())
        .with_writer(writer)
        .finish();
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| Error::Failed(format!("logging can't be started: {error}")))?;
    if to_file {
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    }
    Ok(())
}

fn file_writer(options: &MountOptions) -> Result<BoxMakeWriter, Error> {
    if let Some(path) = &options.log_file {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| {
                Error::path(path, format!("the log file can't be written: {error}"))
            })?;
        return Ok(BoxMakeWriter::new(file));
    }
    let dir = &options.cache_dir;
    make_private_dir(dir)?;
    let appender = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("fused.log")
        .latest_symlink("fused.log")
        .max_log_files(LOG_FILES_MAX)
        .build(dir)
        .map_err(|error| {
            Error::path(dir, format!("the log file can't be written there: {error}"))
        })?;
    Ok(BoxMakeWriter::new(appender))
}

/// The cache directory holds other people's files: only its owner may enter.
fn make_private_dir(dir: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| {
            Error::path(
                dir,
                format!("the cache directory can't be created: {error}"),
            )
        })
}

fn filter(level: LogLevel) -> EnvFilter {
    match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::new(directives),
        _ => EnvFilter::new(directives(level)),
    }
}

fn directives(level: LogLevel) -> String {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let libraries = if level == "error" { "error" } else { "warn" };
    let own = OWN_CRATES.map(|name| format!("{name}={level}")).join(",");
    format!("{libraries},{own}")
}

/// How long a log file is, to know later what was added to it.
pub(super) fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}

/// The last lines of what was added to a log file since it was `from` bytes long, for the report of a daemon
/// that died without a word. A shorter file is another one (midnight has passed).
pub(super) fn last_lines(path: &Path, from: u64, lines_max: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let added = usize::try_from(from)
        .ok()
        .and_then(|from| bytes.get(from..))
        .unwrap_or(&bytes);
    let text = String::from_utf8_lossy(added);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(lines_max)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_never_log_more_than_warnings() {
        assert_eq!(
            directives(LogLevel::Trace),
            "warn,fused=trace,flusher=trace,journal=trace,extents=trace,remote=trace"
        );
        assert!(directives(LogLevel::Error).starts_with("error,"));
    }

    #[test]
    fn the_last_lines_of_a_file_are_found_and_a_missing_file_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "a\nb\nc\n").unwrap();
        assert_eq!(length(&path), 6);
        assert_eq!(last_lines(&path, 0, 2), "b\nc");
        assert_eq!(last_lines(&path, 0, 9), "a\nb\nc");
        assert_eq!(last_lines(&path, 4, 9), "c");
        assert_eq!(last_lines(&path, 100, 9), "a\nb\nc");
        assert_eq!(last_lines(&dir.path().join("none"), 0, 2), "");
    }

    #[test]
    fn the_default_log_file_is_found_under_a_name_without_date() {
        use std::io::Write;
        use tracing_subscriber::fmt::MakeWriter;
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("new/cache");
        let list = format!("cache_dir={}", cache.display());
        let options = MountOptions::from_lists("s3://b", dir.path(), &[list]).unwrap();
        let writer = file_writer(&options).unwrap();
        writer.make_writer().write_all(b"hello\n").unwrap();
        assert_eq!(last_lines(&options.log_path(), 0, 1), "hello");
    }
}
