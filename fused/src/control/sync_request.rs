//! `fused sync`: waits until everything under some paths is in the store.
//!
//! What is to be waited for is what is not in the store when the request comes: files written later
//! are later syncs' business, or a busy directory would never be done. Their settling time is
//! skipped. A file that a program has open is flushed as it is now. An object of a deleted or renamed
//! file counts as well: it is waited for until it is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use journal::{Ino, Unsynced};
use tokio::net::unix::OwnedWriteHalf;
use tokio::time::Instant;

use super::line::{say, say_error};
use super::protocol::{Done, Progress, Reply, Unflushed, WirePath};
use crate::vfs::{Result, Vfs, is_below};

/// Rows read from the journal at once.
const PAGE: usize = 512;

/// Files named in an answer.
const NAMED_MAX: usize = 1000;

/// A line at least this often, so that the client knows that we live.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// Looks no more often than this, however many files are flushed meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is waited for.
#[derive(Default)]
struct Waiting {
    files: BTreeMap<Ino, WaitingFile>,
    /// Keys to be deleted from the store.
    garbage: BTreeSet<String>,
}

struct WaitingFile {
    path: Vec<u8>,
    bytes: u64,
    row: Unsynced,
}

impl Waiting {
    fn len(&self) -> u64 {
        (self.files.len() + self.garbage.len()) as u64
    }

    fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }
}

/// Answers one sync request.
pub async fn answer(
    writer: &mut OwnedWriteHalf,
    vfs: &Vfs,
    paths: Vec<WirePath>,
    timeout_ms: Option<u64>,
) -> io::Result<()> {
    let deadline = timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
    let waiting = match unsynced_below(vfs, &paths, deadline).await {
        Ok(waiting) => waiting,
        Err(error) => return say_error(writer, error).await,
    };
    let files_total = waiting.len();
    let bytes_total = waiting.bytes();
    let mut left = match wait(writer, vfs, waiting, deadline).await? {
        Ok(left) => left,
        Err(error) => return say_error(writer, error).await,
    };
    if left.len() == 0 {
        // The old object of a renamed file is to be deleted only since the new one is there.
        let late = match garbage_below(vfs, &paths).await {
            Ok(garbage) => Waiting {
                garbage,
                ..Waiting::default()
            },
            Err(error) => return say_error(writer, error).await,
        };
        left = match wait(writer, vfs, late, deadline).await? {
            Ok(left) => left,
            Err(error) => return say_error(writer, error).await,
        };
    }
    let last_error = vfs.flusher().status().last_error;
    let unflushed_total = left.len();
    let mut unflushed = Vec::new();
    for key in left.garbage.into_iter().take(NAMED_MAX) {
        let reason = match &last_error {
            Some(error) if error.key == key => error.message.clone(),
            _ => "its old object is not deleted yet".into(),
        };
        let path = path_of(&key).into();
        unflushed.push(Unflushed { path, reason });
    }
    for (ino, file) in left.files.into_iter().take(NAMED_MAX) {
        let key = String::from_utf8_lossy(&file.path);
        let reason = match &last_error {
            Some(error) if error.key == key => error.message.clone(),
            _ => format!("{} when the time was over", vfs.flusher().state(ino).await),
        };
        unflushed.push(Unflushed {
            path: file.path.into(),
            reason,
        });
    }
    let done = Done {
        unflushed,
        unflushed_total,
        files_total,
        bytes_total,
    };
    say(writer, &Reply::Done(done)).await
}

/// Everything at or below one of `paths` that the store does not have yet.
async fn unsynced_below(
    vfs: &Vfs,
    paths: &[WirePath],
    deadline: Option<Instant>,
) -> Result<Waiting> {
    // What passthrough writers wrote so far is not in the journal yet.
    vfs.settle_open().await?;
    // Unlinked files become garbage when they are reaped.
    vfs.reap_all().await?;
    // What is below a renamed directory is marked as unsynced a piece at a time.
    while !vfs.journal().resync(None, 1).await?.is_empty()
        && deadline.is_none_or(|deadline| Instant::now() < deadline)
    {
        vfs.flusher().scanned().await;
    }
    let mut waiting = Waiting {
        garbage: garbage_below(vfs, paths).await?,
        ..Waiting::default()
    };
    let mut after = None;
    loop {
        let rows = vfs.journal().unsynced(after, PAGE).await?;
        for row in &rows {
            let ino = row.ino;
            let Some(path) = vfs.journal().path(ino).await? else {
                continue;
            };
            let path = path.join(&b'/');
            if !paths
                .iter()
                .any(|wanted| is_below(&path, wanted.as_bytes()))
            {
                continue;
            }
            let Some(inode) = vfs.journal().inode(ino).await? else {
                continue;
            };
            let bytes = inode.size;
            vfs.flusher().flush_now(&inode);
            waiting.files.insert(
                ino,
                WaitingFile {
                    path,
                    bytes,
                    row: *row,
                },
            );
        }
        match rows.last() {
            Some(last) if rows.len() == PAGE => after = Some(last.ino),
            _ => return Ok(waiting),
        }
    }
}

/// Keys at or below one of `paths` that are still to be deleted from the store.
async fn garbage_below(vfs: &Vfs, paths: &[WirePath]) -> Result<BTreeSet<String>> {
    let mut below = BTreeSet::new();
    let mut after: Option<String> = None;
    loop {
        let rows = vfs.journal().garbage(after.as_deref(), PAGE).await?;
        let Some(last) = rows.last() else {
            return Ok(below);
        };
        after = Some(last.key.clone());
        for row in rows {
            let path = path_of(&row.key);
            if paths
                .iter()
                .any(|wanted| is_below(&path, wanted.as_bytes()))
            {
                below.insert(row.key);
            }
        }
    }
}

/// The path of a key, relative to the root; a directory's without the slash at its end.
fn path_of(key: &str) -> Vec<u8> {
    let components = key.trim_end_matches('/').split('/');
    let names: Vec<Vec<u8>> = components
        .map(|component| {
            remote::keys::decode_name(component).unwrap_or_else(|| component.as_bytes().to_vec())
        })
        .collect();
    names.join(&b'/')
}

/// Waits until nothing is left or the time is over; returns what is left.
async fn wait(
    writer: &mut OwnedWriteHalf,
    vfs: &Vfs,
    mut waiting: Waiting,
    deadline: Option<Instant>,
) -> io::Result<Result<Waiting>> {
    let mut progress = vfs.flusher().subscribe();
    let files_total = waiting.len();
    let bytes_total = waiting.bytes();
    loop {
        progress.mark_unchanged();
        if let Err(error) = drop_flushed(vfs, &mut waiting).await {
            return Ok(Err(error));
        }
        let line = Progress {
            files_left: waiting.len(),
            bytes_left: waiting.bytes(),
            files_total,
            bytes_total,
        };
        say(writer, &Reply::Progress(line)).await?;
        if waiting.len() == 0 {
            return Ok(Ok(waiting));
        }
        if !waiting.garbage.is_empty() {
            // What an upload was about to replace is looked at again after a settling time only, and that
            // may be long.
            vfs.flusher().sweep_now();
        }
        let next = Instant::now() + SIGN_OF_LIFE;
        let until = deadline.map_or(next, |deadline| deadline.min(next));
        // An error only says that the flusher is gone; then the deadline ends this.
        let _ = tokio::time::timeout_at(until, progress.changed()).await;
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(drop_flushed(vfs, &mut waiting).await.map(|()| waiting));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A file is done when its row is gone, or was made anew by a later change.
async fn drop_flushed(vfs: &Vfs, waiting: &mut Waiting) -> Result<()> {
    for key in waiting.garbage.clone() {
        if !vfs.journal().is_garbage(&key).await? {
            waiting.garbage.remove(&key);
        }
    }
    let inos: Vec<Ino> = waiting.files.keys().copied().collect();
    for ino in inos {
        let row = vfs.journal().unsynced_row(ino).await?;
        let inode = vfs.journal().inode(ino).await?;
        let flushed = match (&row, waiting.files.get(&ino), &inode) {
            (Some(row), Some(file), Some(_)) => row.since > file.row.since,
            _ => true,
        };
        if flushed {
            waiting.files.remove(&ino);
        }
    }
    Ok(())
}
