//! `fused load`: files are brought into the cache, and the client is told how far that is.
//!
//! A client that goes away ends its load: the next line that it is told can't be sent.

use std::io;
use std::time::Duration;

use tokio::net::unix::OwnedWriteHalf;

use super::line::say;
use super::protocol::{Failed, Loaded, Loading, Reply, WirePath};
use crate::options::format_bytes;
use crate::vfs::{self, Stopped, Vfs};

/// Often enough for a bar that moves, and for a client that goes away.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Answers one load request.
pub async fn answer(
    writer: &mut OwnedWriteHalf,
    vfs: &Vfs,
    paths: Vec<WirePath>,
) -> io::Result<()> {
    let paths = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    let mut load = vfs.load(paths);
    loop {
        let ended = tokio::time::timeout(TELL_EVERY, load.ended()).await;
        let progress = load.progress();
        let line = Loading {
            files_left: progress.files_left,
            bytes_left: progress.bytes_left,
            files_total: progress.files_total,
            bytes_total: progress.bytes_total,
            listing: progress.listing,
        };
        say(writer, &Reply::Loading(line)).await?;
        if ended.is_ok() {
            break;
        }
    }
    say(writer, &Reply::Loaded(told(load.outcome()))).await
}

fn told(loaded: vfs::Loaded) -> Loaded {
    Loaded {
        files: loaded.files,
        bytes: loaded.bytes,
        resident: loaded.resident,
        skipped: loaded.skipped,
        failed: loaded.failures.into_iter().map(failed).collect(),
        failed_total: loaded.failures_total,
        stopped: loaded.stopped.map(sentence),
    }
}

fn failed(unmet: vfs::Unmet) -> Failed {
    Failed {
        path: unmet.path.into(),
        reason: unmet.error.to_string(),
    }
}

fn sentence(stopped: Stopped) -> String {
    match stopped {
        Stopped::NoRoom(vfs::Error::NoRoom {
            needed_bytes,
            budget_bytes,
            used_bytes,
            dirty_bytes,
        }) => format!(
            "the cache is full: it holds {} of {}, {} of it not in the store yet, and the next file needs {}; what is \
             loaded, pinned, open or not in the store stays. Make cache_size larger, free other files, or load less",
            format_bytes(used_bytes),
            format_bytes(budget_bytes),
            format_bytes(dirty_bytes),
            format_bytes(needed_bytes),
        ),
        Stopped::NoRoom(error) => error.to_string(),
        Stopped::Failing => {
            "too many files failed one after the other: is the store reachable? (`fused status`)"
                .into()
        }
        Stopped::Abandoned => "it was interrupted".into(),
    }
}
