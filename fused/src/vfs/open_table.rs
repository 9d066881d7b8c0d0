//! The table of open files: who has an inode open, and in which mode.
//!
//! Two rules of the kernel are kept here. An inode is in one mode at a time: while anybody has it
//! open through passthrough, every further open is passthrough with the same backing file, and
//! while anybody has it open through the daemon, none is. And the extent file of an open inode
//! stays the same one until the last close.
//!
//! Each inode has a [`Slot`] with an asynchronous *gate*. Opening, closing, truncating, settling
//! and evicting go through the gate, so that the first open and the last close of an inode, with
//! their journal transactions, never overlap. Reads, writes and getattr do not take it. The two
//! maps are behind short locks that are never held across I/O; a slot lives as long as somebody
//! holds it or has the inode open.
//!
//! Lock order: gate of a slot, then the maps, then the fields of an [`OpenFile`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use extents::ExtentFile;
use journal::{Ino, Inode, Timestamp};
use parking_lot::{Mutex, RwLock};

use super::Result;
use super::changes::{Agreed, Changes, Seen};
use super::fetch_state::FetchState;
use super::flights::Flights;

/// Who moves the bytes of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The kernel, straight to the extent file.
    Passthrough,
    /// The daemon, by read and write requests.
    Daemon,
}

/// An inode that is open, with its extent file.
pub struct OpenFile {
    /// The inode.
    pub ino: Ino,
    /// Who moves its bytes, until the last close.
    pub mode: Mode,
    /// Its extent file, until the last close.
    pub extents: Arc<ExtentFile>,
    /// Where the bytes that are not resident come from.
    pub source: RwLock<Source>,
    /// Whole-file fetch and its progress.
    pub fetch: FetchState,
    /// Shared by whoever uses bytes that it found, or made, resident; exclusive for evicting them.
    /// Asynchronous, because fetching is part of the use. Comes after the slot's gate. The extent file's, because
    /// what is fetched ahead may outlast the open that began it, and would meet the next one's eviction.
    pub residency: Arc<tokio::sync::RwLock<()>>,
    counts: Mutex<Counts>,
    /// A program has opened it, not only we.
    is_used: AtomicBool,
    changes: Changes,
    /// A change was settled since write-back was last started.
    needs_writeback: AtomicBool,
}

/// Where the bytes of an open file come from that are not in its extent file.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Bytes `[0, valid)` that are not resident are the object's.
    pub valid: u64,
    /// The object, as it was at open.
    pub origin: Option<journal::Origin>,
}

#[derive(Default)]
struct Counts {
    opens: u32,
    writers: u32,
}

impl OpenFile {
    /// An inode about to be opened for the first time.
    pub fn new(inode: &Inode, mode: Mode, extents: Arc<ExtentFile>, agreed: Agreed) -> Self {
        Self {
            ino: inode.ino,
            mode,
            source: RwLock::new(Source {
                valid: inode.content.valid,
                origin: inode.content.origin.clone(),
            }),
            fetch: FetchState::default(),
            residency: Arc::clone(extents.users()),
            extents,
            counts: Mutex::default(),
            is_used: AtomicBool::new(false),
            changes: Changes::new(inode, agreed),
            needs_writeback: AtomicBool::new(false),
        }
    }

    /// The same, with what is being fetched for an open before this one.
    pub fn with_flights(mut self, flights: Arc<Flights>) -> Self {
        self.fetch.flights = flights;
        self
    }

    /// Whether somebody has it open for writing.
    pub fn has_writers(&self) -> bool {
        self.counts.lock().writers > 0
    }

    /// Whether its last writer, or nobody who writes, has it open beside somebody who reads.
    pub fn is_left_to_readers(&self) -> bool {
        let counts = self.counts.lock();
        counts.writers <= 1 && counts.opens > counts.writers
    }

    /// A program opens it.
    pub fn use_it(&self) {
        self.is_used.store(true, Ordering::Release);
    }

    /// Whether a program has opened it since it was first opened.
    pub fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Acquire)
    }

    /// Notes a change that came through the daemon, once it is made.
    pub fn note_written(&self) {
        self.changes.note(super::now());
    }

    /// What the file looks like now.
    pub fn look(&self) -> Result<Seen> {
        let changes = self.changes.counted();
        let stat = self.extents.stat()?;
        Ok(match self.mode {
            Mode::Passthrough => Seen { stat, changes },
            Mode::Daemon => self.changes.with_own_times(stat, changes),
        })
    }

    /// Whether the content may differ from what the journal knows.
    pub fn changed(&self, seen: &Seen) -> bool {
        self.changes
            .since_agreed(seen, self.mode == Mode::Passthrough)
    }

    /// Whether dirty pages may be there that nobody has asked the kernel to write yet.
    pub fn take_needs_writeback(&self) -> bool {
        self.needs_writeback.swap(false, Ordering::AcqRel)
    }

    /// The journal now agrees with what was `seen`. Called under the gate, with what was recorded: a
    /// change that came after it still differs.
    pub fn settled(&self, seen: &Seen) {
        self.needs_writeback.store(true, Ordering::Release);
        self.changes.agree(Agreed::with(seen, super::now()));
    }

    /// Makes it shorter or longer, as the journal has it already.
    pub fn resize(&self, size: u64) -> Result<()> {
        let valid_before = {
            let mut source = self.source.write();
            let before = source.valid;
            source.valid = before.min(size);
            before
        };
        let resized = self.extents.truncate(size);
        self.fetch.arrivals.forget();
        if resized.is_err() {
            self.source.write().valid = valid_before;
        }
        Ok(resized?)
    }

    /// Gives the file another time of modification, known to the journal already. What somebody wrote since the
    /// journal agreed stays a change, although its time goes.
    pub fn set_mtime(&self, mtime: Timestamp) -> Result<()> {
        let before = self.look()?;
        let by_time = self.mode == Mode::Passthrough;
        let is_written = self.changes.surely_since_agreed(&before, by_time);
        self.extents.set_mtime((mtime.secs, mtime.nanos))?;
        self.changes.set_mtime(mtime);
        if !is_written {
            let after = self.look()?;
            self.settled(&Seen {
                changes: before.changes,
                stat: extents::Stat {
                    size: before.stat.size,
                    ..after.stat
                },
            });
        }
        Ok(())
    }
}

/// One open(2) of a regular file.
#[derive(Clone)]
pub struct Handle {
    /// The open inode.
    pub file: Arc<OpenFile>,
    /// Whether this open may write.
    pub writes: bool,
}

/// The place of an inode in the table.
pub struct Slot {
    /// Serialises opening, closing, truncating, settling and evicting of this inode.
    pub gate: tokio::sync::Mutex<()>,
    /// Told of the last close.
    pub closed: tokio::sync::Notify,
    open: Mutex<Option<Arc<OpenFile>>>,
}

impl Slot {
    /// The inode's open file, if anybody has it open.
    pub fn open_file(&self) -> Option<Arc<OpenFile>> {
        self.open.lock().clone()
    }
}

/// See the module's introduction.
#[derive(Default)]
pub struct OpenTable {
    slots: Mutex<HashMap<Ino, Arc<Slot>>>,
    handles: RwLock<HashMap<u64, Handle>>,
    next_handle: AtomicU64,
}

impl OpenTable {
    /// The slot of an inode, made if there is none.
    pub fn slot(&self, ino: Ino) -> Arc<Slot> {
        self.slots
            .lock()
            .entry(ino)
            .or_insert_with(|| {
                Arc::new(Slot {
                    gate: tokio::sync::Mutex::new(()),
                    closed: tokio::sync::Notify::new(),
                    open: Mutex::new(None),
                })
            })
            .clone()
    }

    /// Gives a slot back; it goes when nobody else holds it and the inode is not open.
    pub fn put(&self, ino: Ino, slot: Arc<Slot>) {
        let mut slots = self.slots.lock();
        // Two references: the map's and ours. Nobody can take a third while the map is locked.
        if Arc::strong_count(&slot) == 2 && slot.open.lock().is_none() {
            slots.remove(&ino);
        }
    }

    /// The open file of an inode, if anybody has it open.
    pub fn get(&self, ino: Ino) -> Option<Arc<OpenFile>> {
        let slot = self.slots.lock().get(&ino).cloned()?;
        slot.open_file()
    }

    /// Records an open (under the slot's gate) and returns its handle.
    pub fn opened(&self, slot: &Slot, file: Arc<OpenFile>, writes: bool) -> u64 {
        {
            let mut counts = file.counts.lock();
            counts.opens += 1;
            counts.writers += u32::from(writes);
        }
        if writes {
            file.fetch.arrivals.forget();
        }
        *slot.open.lock() = Some(file.clone());
        let id = self.next_handle.fetch_add(1, Ordering::Relaxed) + 1;
        let handle = Handle { file, writes };
        self.handles.write().insert(id, handle);
        id
    }

    /// The handle of an earlier open.
    pub fn handle(&self, id: u64) -> Option<Handle> {
        self.handles.read().get(&id).cloned()
    }

    /// Forgets an open (under the slot's gate); says what it was the last of.
    pub fn closed(&self, slot: &Slot, id: u64) -> Option<Closed> {
        let handle = self.handles.write().remove(&id)?;
        if handle.writes {
            handle.file.fetch.arrivals.forget();
        }
        let mut counts = handle.file.counts.lock();
        counts.opens -= 1;
        counts.writers -= u32::from(handle.writes);
        let closed = Closed {
            file: handle.file.clone(),
            last_writer: handle.writes && counts.writers == 0,
            last: counts.opens == 0,
        };
        if closed.last {
            *slot.open.lock() = None;
            slot.closed.notify_waiters();
        }
        drop(counts);
        Some(closed)
    }

    /// Every inode that is open for writing.
    pub fn written(&self) -> Vec<Arc<OpenFile>> {
        let slots: Vec<_> = self.slots.lock().values().cloned().collect();
        slots
            .iter()
            .filter_map(|slot| slot.open_file())
            .filter(|file| file.has_writers())
            .collect()
    }
}

/// What a close ended.
pub struct Closed {
    /// The file.
    pub file: Arc<OpenFile>,
    /// Nobody else writes it.
    pub last_writer: bool,
    /// Nobody else has it open.
    pub last: bool,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use super::*;

    const BY_HAND: Timestamp = Timestamp {
        secs: 1_000_000,
        nanos: 5,
    };

    fn inode() -> Inode {
        let time = Timestamp { secs: 1, nanos: 0 };
        Inode {
            ino: Ino(2),
            kind: journal::Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            nlink: 1,
            rdev: 0,
            size: 4,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            parent: Ino::ROOT,
            meta_epoch: 1,
            content: journal::Content::default(),
        }
    }

    /// A file of four bytes that the journal has just agreed with.
    fn agreed(dir: &std::path::Path, mode: Mode) -> OpenFile {
        let options = extents::Options {
            io: extents::IoMode::Plain,
            durable_after_boot: false,
        };
        let store = extents::ExtentStore::open(dir, options).unwrap();
        let id = extents::ExtentId {
            ino: 2,
            generation: 1,
        };
        let file = store.create(id).unwrap();
        write_past_us(&file, b"once");
        file.set_mtime((500, 0)).unwrap();
        let stat = file.stat().unwrap();
        let agreed = Agreed::with(&Seen { stat, changes: 0 }, super::super::now());
        OpenFile::new(&inode(), mode, file, agreed)
    }

    /// As the kernel does for passthrough.
    fn write_past_us(file: &ExtentFile, bytes: &[u8]) {
        let kernels = file.as_fd().try_clone_to_owned().unwrap();
        std::fs::File::from(kernels).write_all_at(bytes, 0).unwrap();
    }

    #[tokio::test]
    async fn setting_the_time_is_no_change() {
        for mode in [Mode::Passthrough, Mode::Daemon] {
            let dir = tempfile::tempdir().unwrap();
            let file = agreed(dir.path(), mode);
            file.set_mtime(BY_HAND).unwrap();
            assert!(!file.changed(&file.look().unwrap()), "{mode:?}");
            let future = Timestamp {
                secs: 4_000_000_000,
                nanos: 0,
            };
            file.set_mtime(future).unwrap();
            assert!(!file.changed(&file.look().unwrap()), "{mode:?}");
        }
    }

    #[tokio::test]
    async fn what_was_written_stays_a_change_when_the_time_is_set() {
        let dir = tempfile::tempdir().unwrap();
        let file = agreed(dir.path(), Mode::Daemon);
        file.note_written();
        file.set_mtime(BY_HAND).unwrap();
        assert!(file.changed(&file.look().unwrap()));

        let dir = tempfile::tempdir().unwrap();
        let file = agreed(dir.path(), Mode::Passthrough);
        write_past_us(&file.extents, b"more");
        file.set_mtime(BY_HAND).unwrap();
        assert!(file.changed(&file.look().unwrap()));
    }
}
