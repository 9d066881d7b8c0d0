//! `fused sync`: waits until everything under some paths is in the store.
//!
//! What is to be waited for is what is not in the store when the request comes: files written later
//! are later syncs' business, or a busy directory would never be done. Their settling time is
//! skipped. A file that a program has open is flushed as it is now. An object of a deleted or renamed
//! file counts as well: it is waited for until it is gone. What the journal holds is on the disk then: that the store
//! has it all, or a power cut that tears the local bytes would bring earlier versions back; and names, links and
//! attributes that the store has no place for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Bound;
use std::time::Duration;

use journal::{Ino, Inode, Unsynced};
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

/// After so many in a row that are still waited for, a look ends: what was closed first is flushed first, so the
/// others mostly are, too.
const IN_A_ROW: usize = 256;

/// How much longer than a look at everything, in the journal, the pause until the next one is.
const THOROUGH_FACTOR: u32 = 30;

/// A file's place in the order of closing.
type Place = (u64, Ino);

/// What is waited for.
#[derive(Default)]
struct Waiting {
    files: BTreeMap<Place, WaitingFile>,
    bytes: u64,
    /// Keys to be deleted from the store.
    garbage: BTreeSet<String>,
}

struct WaitingFile {
    bytes: u64,
    row: Unsynced,
}

impl Waiting {
    fn len(&self) -> u64 {
        (self.files.len() + self.garbage.len()) as u64
    }

    fn add(&mut self, file: WaitingFile) {
        self.bytes += file.bytes;
        self.files.insert((file.row.seq, file.row.ino), file);
    }

    fn drop_file(&mut self, place: Place) {
        if let Some(file) = self.files.remove(&place) {
            self.bytes -= file.bytes;
        }
    }

    fn file_after(&self, place: Option<Place>) -> Option<(Place, Unsynced)> {
        let from = place.map_or(Bound::Unbounded, Bound::Excluded);
        let mut later = self.files.range((from, Bound::Unbounded));
        later.next().map(|(place, file)| (*place, file.row))
    }

    fn key_after(&self, key: Option<&String>) -> Option<String> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let mut later = self.garbage.range::<String, _>((from, Bound::Unbounded));
        later.next().cloned()
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
    let began = Instant::now();
    let waiting = match unsynced_below(vfs, &paths, deadline).await {
        Ok(waiting) => waiting,
        Err(error) => return say_error(writer, error).await,
    };
    let files_total = waiting.len();
    let bytes_total = waiting.bytes;
    let mut left = match wait(writer, vfs, waiting, began.elapsed(), deadline).await? {
        Ok(left) => left,
        Err(error) => return say_error(writer, error).await,
    };
    if left.len() == 0 {
        // The old object of a renamed file is to be deleted only since the new one is there.
        let began = Instant::now();
        let late = match garbage_below(vfs, &paths).await {
            Ok(garbage) => Waiting {
                garbage,
                ..Waiting::default()
            },
            Err(error) => return say_error(writer, error).await,
        };
        left = match wait(writer, vfs, late, began.elapsed(), deadline).await? {
            Ok(left) => left,
            Err(error) => return say_error(writer, error).await,
        };
    }
    if let Err(error) = vfs.fsync_directory().await {
        return say_error(writer, error).await;
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
    for (_, ino) in left.files.into_keys().take(NAMED_MAX) {
        // One without a name is done.
        let Ok(Some(path)) = vfs.journal().path(ino).await else {
            continue;
        };
        let path = path.join(&b'/');
        let key = String::from_utf8_lossy(&path);
        let reason = match &last_error {
            Some(error) if error.key == key => error.message.clone(),
            _ => format!("{} when the time was over", vfs.flusher().state(ino).await),
        };
        unflushed.push(Unflushed {
            path: path.into(),
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
        let mut directories = Directories::new(paths);
        for row in &rows {
            let Some(inode) = vfs.journal().inode(row.ino).await? else {
                continue;
            };
            if !directories.hold(vfs, &inode).await? {
                continue;
            }
            vfs.flusher().flush_now(&inode, Some(row));
            waiting.add(WaitingFile {
                bytes: inode.size,
                row: *row,
            });
        }
        // The flusher may wait for this very thread.
        tokio::task::yield_now().await;
        match rows.last() {
            Some(last) if rows.len() == PAGE => after = Some(last.ino),
            _ => return Ok(waiting),
        }
    }
}

/// Which directories are at or below one of some paths. The files of one directory mostly come in a row, and to look
/// up a path costs more than all else that is done for a file.
struct Directories<'a> {
    paths: &'a [WirePath],
    known: HashMap<Ino, bool>,
}

impl<'a> Directories<'a> {
    fn new(paths: &'a [WirePath]) -> Self {
        Self {
            paths,
            known: HashMap::new(),
        }
    }

    /// Whether an inode is at or below one of the paths.
    async fn hold(&mut self, vfs: &Vfs, inode: &Inode) -> Result<bool> {
        if inode.nlink == 0 {
            return Ok(false);
        }
        let is_known = match self.known.get(&inode.parent) {
            Some(known) => *known,
            None => {
                let known = self.are_above(vfs, inode.parent).await?;
                self.known.insert(inode.parent, known);
                known
            }
        };
        // It may be what a path leads to.
        Ok(is_known || self.are_above(vfs, inode.ino).await?)
    }

    async fn are_above(&self, vfs: &Vfs, ino: Ino) -> Result<bool> {
        let path = vfs.journal().path(ino).await?;
        Ok(path.is_some_and(|path| {
            let path = path.join(&b'/');
            let mut paths = self.paths.iter();
            paths.any(|wanted| is_below(&path, wanted.as_bytes()))
        }))
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

/// Waits until nothing is left or the time is over; returns what is left. To list it, all in the journal, took
/// `listed_in`.
async fn wait(
    writer: &mut OwnedWriteHalf,
    vfs: &Vfs,
    mut waiting: Waiting,
    listed_in: Duration,
    deadline: Option<Instant>,
) -> io::Result<Result<Waiting>> {
    let mut progress = vfs.flusher().subscribe();
    let files_total = waiting.len();
    let bytes_total = waiting.bytes;
    let mut thorough_due = Instant::now() + THOROUGH_FACTOR * listed_in;
    loop {
        progress.mark_unchanged();
        let began = Instant::now();
        let thorough = thorough_due <= began;
        if let Err(error) = drop_flushed(vfs, &mut waiting, thorough).await {
            return Ok(Err(error));
        }
        if thorough {
            thorough_due = Instant::now() + THOROUGH_FACTOR * began.elapsed();
        }
        let line = Progress {
            files_left: waiting.len(),
            bytes_left: waiting.bytes,
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
            let dropped = drop_flushed(vfs, &mut waiting, true).await;
            return Ok(dropped.map(|()| waiting));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A file is done when its row is gone, or was made anew by a later change. Not `thorough`: only the first ones.
async fn drop_flushed(vfs: &Vfs, waiting: &mut Waiting, thorough: bool) -> Result<()> {
    let journal = vfs.journal();
    let enough = match thorough {
        true => usize::MAX,
        false => IN_A_ROW,
    };
    let (mut at, mut in_a_row) = (None, 0);
    while in_a_row < enough
        && let Some(key) = waiting.key_after(at.as_ref())
    {
        in_a_row += 1;
        if !journal.is_garbage(&key).await? {
            waiting.garbage.remove(&key);
            in_a_row = 0;
        }
        at = Some(key);
    }
    let (mut at, mut in_a_row) = (None, 0);
    while in_a_row < enough
        && let Some((place, known)) = waiting.file_after(at)
    {
        in_a_row += 1;
        // Twenty times cheaper than the rows; a row that is gone stays in the set until the next scan.
        let is_same = (!thorough && vfs.flusher().is_waiting(&known))
            || match journal.unsynced_row(known.ino).await? {
                Some(row) => row.since <= known.since && journal.inode(known.ino).await?.is_some(),
                None => false,
            };
        if !is_same {
            waiting.drop_file(place);
            in_a_row = 0;
        }
        at = Some(place);
    }
    Ok(())
}
