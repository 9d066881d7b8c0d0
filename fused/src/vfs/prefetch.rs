//! Bringing files in before they are opened, when a reader goes through a directory (see `sequences`).
//!
//! An open costs one look into a table, whether the file is here or not. One that is not here, and that nothing
//! foresaw, costs besides, in the background, the reading of a page of its directory from the journal: nothing is
//! asked of the store to find out what comes next. What is brought in is bounded in files under way and bytes, takes
//! only room that is free, and counts as read once when it is opened: eviction treats it as if its reader had
//! fetched it. What fails is left to the reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use journal::{Ino, Inode, Kind};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::bring_in::Bringer;
use super::open_table::OpenFile;
use super::sequences::{FOUND_MAX, Foreseen, Next, Sequences, StreamId};
use super::{Result, Vfs};

/// Files brought in at one time. A small one costs two requests one after the other: at 30 ms, these make five
/// hundred a second.
const FILES_MAX: usize = 32;

/// Files that wait for their turn. Whatever is beyond is left to its reader.
const WAITING_MAX: usize = 1024;

/// Looks for what follows a file at one time.
const LOOKS_MAX: usize = 8;

/// Numbers of a name that are tried: `part-3-of-9.tar.gz` goes on with the 4.
const NUMBERS_MAX: usize = 3;

/// What was brought in ahead of readers since the mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prefetched {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// Files that were found to follow one that was read.
    pub foreseen: u64,
    /// Of these, files that a program opened then.
    pub opened: u64,
}

/// The readers that are followed.
pub struct Prefetcher {
    /// Locked for moments.
    sequences: Mutex<Sequences<Place>>,
    looks: Arc<Semaphore>,
    files: Semaphore,
    waiting: AtomicUsize,
    brought_files: AtomicU64,
    brought_bytes: AtomicU64,
}

impl Default for Prefetcher {
    fn default() -> Self {
        Self {
            sequences: Mutex::default(),
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
            files: Semaphore::new(FILES_MAX),
            waiting: AtomicUsize::new(0),
            brought_files: AtomicU64::new(0),
            brought_bytes: AtomicU64::new(0),
        }
    }
}

/// The last file of a directory that was found to follow others.
#[derive(Debug)]
struct Place {
    directory: Ino,
    name: Vec<u8>,
    order: Order,
}

/// What a reader goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Name,
    /// The number in the name, counted from its end.
    Number(usize),
}

/// Nobody waits.
struct Ahead<'a>(&'a Vfs);

impl Bringer for Ahead<'_> {
    fn to_fetch(&self, _bytes: u64) {}

    fn landed(&self, _bytes: u64) {}

    fn waits_for_room(&self) -> bool {
        false
    }

    fn is_stopped(&self) -> bool {
        self.0.is_ending()
    }

    fn has_come(&self, file: &OpenFile, takes_bytes: u64) {
        // Its reader may have opened it meanwhile: that was the first use.
        if !file.is_used() {
            self.0.inner.space.tenants.foreseen(file.ino, takes_bytes);
        }
    }
}

impl Vfs {
    /// A program has opened a file to read it.
    pub(super) fn foresee_files(&self, file: &OpenFile) {
        if !self.inner.config.prefetch {
            return;
        }
        let bytes = file.source.read().valid;
        let is_here = !self.needs_fetch(file);
        let ino = file.ino;
        let foreseen = {
            let mut sequences = self.inner.prefetcher.sequences.lock();
            sequences.bound(self.cache_budget());
            sequences.opened(ino, is_here, bytes)
        };
        match foreseen {
            Some(foreseen) => self.go_ahead(foreseen),
            None if is_here => {}
            None => self.begin_to_follow(ino, bytes),
        }
    }

    /// Nobody has this file open any more.
    pub(super) fn reader_has_left(&self, file: &OpenFile) {
        let mut sequences = self.inner.prefetcher.sequences.lock();
        if sequences.is_reading() {
            // The rest of a file that has been read by half comes by itself.
            let fetched = file.fetch.fetched_bytes.load(Ordering::Relaxed);
            let valid = file.source.read().valid;
            sequences.closed(file.ino, fetched > valid / 2);
        }
    }

    /// What was brought in ahead of readers since the mount.
    pub fn prefetched(&self) -> Prefetched {
        let prefetcher = &self.inner.prefetcher;
        let (foreseen, opened) = prefetcher.sequences.lock().totals();
        Prefetched {
            files: prefetcher.brought_files.load(Ordering::Relaxed),
            bytes: prefetcher.brought_bytes.load(Ordering::Relaxed),
            foreseen,
            opened,
        }
    }

    fn begin_to_follow(&self, ino: Ino, bytes: u64) {
        let prefetcher = &self.inner.prefetcher;
        // Somebody else's beginnings are being looked at: this reader's next file is as good a beginning.
        let Ok(look) = Arc::clone(&prefetcher.looks).try_acquire_owned() else {
            return;
        };
        let id = prefetcher.sequences.lock().begin(ino, bytes);
        let vfs = self.clone();
        tokio::spawn(async move {
            vfs.look_from(id, ino, bytes).await;
            drop(look);
        });
    }

    /// Brings in what is foreseen, and looks further where that is needed.
    fn go_ahead(&self, foreseen: Foreseen<Place>) {
        for ino in foreseen.bring {
            let waiting = &self.inner.prefetcher.waiting;
            if waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
                waiting.fetch_sub(1, Ordering::Relaxed);
                break;
            }
            let vfs = self.clone();
            tokio::spawn(async move {
                let brought = vfs.bring_ahead(ino).await;
                vfs.inner.prefetcher.waiting.fetch_sub(1, Ordering::Relaxed);
                if let Err(error) = brought {
                    tracing::debug!(%ino, %error, "cannot bring in a file ahead of its reader");
                }
            });
        }
        if let Some((id, place)) = foreseen.look {
            let vfs = self.clone();
            tokio::spawn(async move {
                // One of a stream at a time, so these are few.
                let Ok(_look) = vfs.inner.prefetcher.looks.acquire().await else {
                    return;
                };
                let found = vfs.after(&place).await;
                vfs.has_found(id, found, place);
            });
        }
    }

    async fn bring_ahead(&self, ino: Ino) -> Result<()> {
        let prefetcher = &self.inner.prefetcher;
        let Ok(_turn) = prefetcher.files.acquire().await else {
            return Ok(());
        };
        let its_reader_is_here = self.inner.opens.get(ino).is_some();
        if its_reader_is_here || self.is_ending() || self.inner.listings.store_is_away() {
            return Ok(());
        }
        let inode = self.inode(ino).await?;
        if inode.kind != Kind::File || self.is_skipped(ino).await? {
            return Ok(());
        }
        let brought = self.bring_in(inode, &Ahead(self)).await?;
        if brought.fetched_bytes > 0 {
            let bytes = brought.fetched_bytes;
            prefetcher.brought_files.fetch_add(1, Ordering::Relaxed);
            prefetcher.brought_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Finds what follows the first file of a stream.
    async fn look_from(&self, id: StreamId, ino: Ino, bytes: u64) {
        let place = match self.journal().primary_link(ino).await {
            Ok(Some((directory, name))) => Place {
                directory,
                name,
                order: Order::Name,
            },
            // Removed meanwhile.
            Ok(None) => return self.inner.prefetcher.sequences.lock().end(id),
            Err(error) => {
                tracing::debug!(%ino, %error, "cannot tell what follows a file");
                return self.inner.prefetcher.sequences.lock().end(id);
            }
        };
        let found = self.after(&place).await;
        if let Some(by_number) = self.first_by_number(&place, &found).await {
            // Which of them its reader goes by is not known yet; both are expected.
            let other = self.inner.prefetcher.sequences.lock().begin(ino, bytes);
            let found = self.after(&by_number).await;
            self.has_found(other, found, by_number);
        }
        self.has_found(id, found, place);
    }

    fn has_found(&self, id: StreamId, found: Result<Vec<(Vec<u8>, Inode)>>, place: Place) {
        let found = found.unwrap_or_else(|error| {
            tracing::debug!(directory = %place.directory, %error, "cannot tell what follows a file");
            Vec::new()
        });
        let next = found.last().map(|(name, _)| Place {
            name: name.clone(),
            ..place
        });
        let files = found.iter().filter(|(_, inode)| inode.kind == Kind::File);
        let files = files.map(|(_, inode)| Next {
            ino: inode.ino,
            bytes: inode.size,
        });
        let foreseen = self
            .inner
            .prefetcher
            .sequences
            .lock()
            .found(id, files, next);
        self.go_ahead(foreseen);
    }

    /// What follows a file, a page at most; nothing at the end.
    async fn after(&self, place: &Place) -> Result<Vec<(Vec<u8>, Inode)>> {
        match place.order {
            Order::Name => {
                let journal = self.journal();
                let entries = journal
                    .read_dir(place.directory, Some(&place.name), FOUND_MAX)
                    .await?;
                let numbers: Vec<Ino> = entries.iter().map(|entry| entry.ino).collect();
                let inodes = journal.inodes(&numbers).await?;
                let there = entries.into_iter().zip(inodes);
                Ok(there
                    .filter_map(|(entry, inode)| Some((entry.name, inode?)))
                    .collect())
            }
            Order::Number(at) => {
                let mut found = Vec::new();
                let mut name = place.name.clone();
                while found.len() < FOUND_MAX
                    && let Some(next) = counted_up(&name, at)
                    && let Some(inode) = self.journal().lookup(place.directory, &next).await?
                {
                    found.push((next.clone(), inode));
                    name = next;
                }
                Ok(found)
            }
        }
    }

    /// The place of a file among those that differ in a number only, if the next of them is not the next by name.
    async fn first_by_number(
        &self,
        place: &Place,
        by_name: &Result<Vec<(Vec<u8>, Inode)>>,
    ) -> Option<Place> {
        let nearest = by_name.as_ref().ok().and_then(|found| found.first());
        for at in 0..NUMBERS_MAX {
            let next = counted_up(&place.name, at)?;
            if nearest.is_some_and(|(name, inode)| *name == next && inode.kind == Kind::File) {
                return None;
            }
            if let Ok(Some(_)) = self.journal().lookup(place.directory, &next).await {
                return Some(Place {
                    directory: place.directory,
                    name: place.name.clone(),
                    order: Order::Number(at),
                });
            }
        }
        None
    }
}

/// The name with one of its numbers, counted from the end, one higher. A number keeps its width: `009` goes on with
/// `010`, `9` with `10`. None: there is no such number.
fn counted_up(name: &[u8], number: usize) -> Option<Vec<u8>> {
    let mut end = name.len();
    for at in 0.. {
        end = name[..end].iter().rposition(u8::is_ascii_digit)? + 1;
        let start = name[..end]
            .iter()
            .rposition(|byte| !byte.is_ascii_digit())
            .map_or(0, |before| before + 1);
        if at == number {
            let digits = std::str::from_utf8(&name[start..end]).ok()?;
            let next = digits.parse::<u64>().ok()?.checked_add(1)?;
            let width = end - start;
            let next = format!("{next:0width$}");
            return Some([&name[..start], next.as_bytes(), &name[end..]].concat());
        }
        end = start;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_from_the_end_of_a_name_and_keep_their_width() {
        let up = |name: &str, number| {
            counted_up(name.as_bytes(), number)
                .map(|name| String::from_utf8_lossy(&name).into_owned())
        };
        assert_eq!(up("shard-9.tar", 0).as_deref(), Some("shard-10.tar"));
        assert_eq!(up("shard-009.tar", 0).as_deref(), Some("shard-010.tar"));
        assert_eq!(up("part-3-of-9.mp4", 0).as_deref(), Some("part-3-of-9.mp5"));
        assert_eq!(up("part-3-of-9.mp4", 2).as_deref(), Some("part-4-of-9.mp4"));
        assert_eq!(up("part-3-of-9.mp4", 3), None);
        assert_eq!(up("7", 0).as_deref(), Some("8"));
        assert_eq!(up("none", 0), None);
        assert_eq!(up("99999999999999999999999", 0), None);
    }
}
