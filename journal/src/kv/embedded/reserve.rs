//! Room for the journal on a disk that others fill.
//!
//! Recording that a file is in the store is what makes space, so the journal must be able to go on when
//! nothing else can. In its directory lies a file of preallocated blocks, `reserve`. When less than
//! [`Reserve::free_min`] is free, as much of it as is lacking is given up, and whoever makes new files is told
//! that space is short ([`Room::Short`]); what removes, closes and uploads them goes on. Once there is space
//! for all of it again, the reserve is made whole, and new files are welcome.
//!
//! Others can take what is given up. When next to nothing is left, [`Room::None`], no change is accepted any
//! more, before anything is written: an honest ENOSPC, and no harm.
//!
//! The kernel tells nobody when space runs out, so whoever commits looks, at most every [`LOOK_EVERY`].
//!
//! Of a quota nobody can see how much is left (statfs may know of project quotas, of no others). So the first word
//! of it is EDQUOT where something should have been written. From then on the reserve is given up in pieces, each
//! time that happens, space counts as short, and every [`TRY_EVERY`] it is tried whether the reserve can be made
//! whole, and as much again as is to stay free. On btrfs even shortening a file is refused then: the reserve goes
//! and comes back shorter.

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::geteuid;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// A look costs a microsecond; in this time a fast disk takes some ten megabytes.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A try whether a quota has room costs some file system transactions.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// The reserve on a large disk: a few tables of the journal while they are merged.
const RESERVE_BYTES_MAX: u64 = 64 * MIB;

/// What is to stay free on a large disk: the tables that may be under way between two looks.
const FREE_BYTES_MIN: u64 = 32 * MIB;

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Enough for everybody.
    Plenty,
    /// Enough for the journal to go on.
    Short,
    /// Not even that.
    None,
}

/// The file, and what was last seen.
pub(super) struct Reserve {
    at: PathBuf,
    dir: File,
    free_min: u64,
    /// Held for two system calls at most.
    state: Mutex<State>,
}

struct State {
    /// None if it could not be made anew.
    file: Option<File>,
    held: u64,
    held_max: u64,
    /// When a quota was last met with, or tried.
    quota: Option<Instant>,
    looked: Option<Instant>,
    room: Room,
}

/// Its name in the directory of the journal. fjall looks at what it knows there, and at `*.jnl`.
const NAME: &str = "reserve";
/// By this it is tried how much a quota has left.
const TRIAL: &str = "reserve.trial";

/// Whether an error says that there is no space, by whatever limit.
pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Gives up a part of the reserve of a journal that is not open, for whoever must have space before it is
/// opened. Whether there was any.
pub(super) fn give_up(journal: &Path) -> io::Result<bool> {
    let path = journal.join(NAME);
    let file = match OpenOptions::new().write(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let held = file.metadata()?.len();
    match file.set_len(held.saturating_sub(FREE_BYTES_MIN)) {
        Err(error) if is_no_space(&error) => std::fs::remove_file(&path)?,
        shortened => shortened?,
    }
    Ok(held > 0)
}

impl Reserve {
    /// The reserve in the directory of a journal.
    pub(super) fn open(journal: &Path) -> io::Result<Reserve> {
        let file = open_file(journal)?;
        let dir = File::open(journal)?;
        let answer = fstatvfs(&dir)?;
        // On a small disk in proportion.
        let disk_bytes = answer.blocks() * answer.fragment_size();
        let held_max = RESERVE_BYTES_MAX.min(disk_bytes / 8);
        let metadata = file.metadata()?;
        if metadata.len() > held_max {
            file.set_len(held_max)?;
        }
        let held = metadata.len().min(metadata.blocks() * 512).min(held_max);
        let reserve = Reserve {
            at: journal.to_owned(),
            dir,
            free_min: FREE_BYTES_MIN.min(disk_bytes / 16),
            state: Mutex::new(State {
                file: Some(file),
                // Of a file whose blocks are not there, nothing is held.
                held,
                held_max,
                quota: None,
                looked: None,
                room: Room::Plenty,
            }),
        };
        if reserve.look() != Room::Plenty {
            tracing::warn!(
                dir = %journal.display(),
                "the disk of the journal is nearly full: nothing new can be made until space is freed"
            );
        }
        Ok(reserve)
    }

    /// How much room there is, as seen a moment ago.
    pub(super) fn look(&self) -> Room {
        let mut state = self.state.lock();
        if state
            .looked
            .is_some_and(|looked| looked.elapsed() < LOOK_EVERY)
        {
            return state.room;
        }
        self.look_now(&mut state)
    }

    /// Gives up a part, because somebody has met with a full disk. Whether there was any.
    pub(super) fn give_up_some(&self) -> bool {
        let mut state = self.state.lock();
        let given = self.give_up(&mut state, self.free_min);
        state.looked = None;
        given
    }

    /// Something could not be written, and statfs may not know why: a part is given up, and space is short until
    /// a quota has been seen to have room.
    pub(super) fn met_with_quota(&self) {
        let mut state = self.state.lock();
        tracing::warn!(dir = %self.at.display(), "the quota of the journal's disk is used up");
        let given = self.give_up(&mut state, self.free_min / 2);
        state.quota = Some(Instant::now());
        state.looked = state.quota;
        state.room = match given {
            true => Room::Short,
            false => Room::None,
        };
    }

    /// Space is short for a quota until there is room for all that is lacking.
    fn look_at_quota(&self, state: &mut State, tried: Instant) -> Room {
        state.looked = Some(Instant::now());
        if tried.elapsed() < TRY_EVERY {
            return state.room;
        }
        state.quota = state.looked;
        let lacking = state.held_max - state.held;
        if self.has_room_for(lacking + self.free_min + self.free_min / 2) {
            self.make_whole(state);
        }
        if state.held == state.held_max {
            tracing::info!("the quota of the journal's disk has room again");
            state.quota = None;
            state.room = Room::Plenty;
        } else {
            // A part of the reserve is given up when it is needed, not before.
            state.room = match state.held > 0 || self.has_room_for(self.free_min / 4) {
                true => Room::Short,
                false => Room::None,
            };
        }
        state.room
    }

    /// Takes so much, and gives it back.
    fn has_room_for(&self, bytes: u64) -> bool {
        let trial = self.at.join(TRIAL);
        let taken = File::create(&trial).and_then(|file| {
            let none = FallocateFlags::empty();
            Ok(fallocate(&file, none, 0, bytes as i64)?)
        });
        // It may not even have been made.
        let _ = std::fs::remove_file(&trial);
        match taken {
            Ok(()) => true,
            // The local file system has no such thing: writing will tell.
            Err(error) => !is_no_space(&error),
        }
    }

    fn look_now(&self, state: &mut State) -> Room {
        if let Some(tried) = state.quota {
            return self.look_at_quota(state, tried);
        }
        let Ok(mut free) = self.free_bytes() else {
            // Writing will tell what is wrong.
            return state.room;
        };
        if free < self.free_min && self.give_up(state, self.free_min - free) {
            free = self.free_bytes().unwrap_or(free);
        }
        let lacking = state.held_max - state.held;
        if lacking > 0 && free >= self.free_min + lacking + self.free_min / 2 {
            self.make_whole(state);
        }
        let room = match state.held == state.held_max && free >= self.free_min {
            true => Room::Plenty,
            false if free >= self.free_min / 4 => Room::Short,
            false => Room::None,
        };
        if room != state.room {
            match room {
                Room::Plenty => tracing::info!("the disk of the journal has space again"),
                _ => tracing::warn!(free_bytes = free, ?room, "the disk of the journal is full"),
            }
        }
        state.looked = Some(Instant::now());
        state.room = room;
        room
    }

    fn give_up(&self, state: &mut State, bytes: u64) -> bool {
        let left = state.held.saturating_sub(bytes);
        if left == state.held {
            return false;
        }
        match state.file.as_ref().map(|file| file.set_len(left)) {
            Some(Ok(())) => {
                state.held = left;
                true
            }
            Some(Err(error)) if is_no_space(&error) => self.give_up_whole(state, left),
            Some(Err(_)) | None => false,
        }
    }

    /// Removes the file, and makes it anew with what is `left` of it, if that is still to be had.
    fn give_up_whole(&self, state: &mut State, left: u64) -> bool {
        if std::fs::remove_file(self.at.join(NAME)).is_err() {
            return false;
        }
        // As long as it is open its blocks are taken.
        state.file = None;
        state.held = 0;
        // What is freed counts for the quota from the next commit of the file system on.
        if let Err(error) = nix::unistd::syncfs(&self.dir) {
            tracing::warn!(%error, "what the reserve gave up may not be free yet");
        }
        if let Ok(file) = open_file(&self.at) {
            if fallocate(&file, FallocateFlags::empty(), 0, left as i64).is_ok() {
                state.held = left;
            }
            state.file = Some(file);
        }
        true
    }

    fn make_whole(&self, state: &mut State) {
        if state.file.is_none() {
            state.file = open_file(&self.at).ok();
        }
        let Some(file) = &state.file else {
            return;
        };
        let none = FallocateFlags::empty();
        match fallocate(file, none, 0, state.held_max as i64) {
            Ok(()) => state.held = state.held_max,
            // The local file system has no such thing: what is free has to do.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => state.held_max = state.held,
            // Somebody was faster.
            Err(_) => {}
        }
    }

    fn free_bytes(&self) -> nix::Result<u64> {
        let answer = fstatvfs(&self.dir)?;
        // ext4 keeps a share for root, to whom it is as good as any other.
        let blocks = match geteuid().is_root() {
            true => answer.blocks_free(),
            false => answer.blocks_available(),
        };
        Ok(blocks * answer.fragment_size())
    }
}

fn open_file(journal: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(journal.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_there_before_it_is_needed_and_can_be_given_up() {
        let journal = tempfile::tempdir().unwrap();
        let journal = journal.path();
        let reserve = Reserve::open(journal).unwrap();
        let held = || std::fs::metadata(journal.join(NAME)).unwrap().blocks() * 512;
        let whole = held();
        assert!(whole > 0, "the disk of the tests is full");
        assert_eq!(reserve.look(), Room::Plenty);
        assert!(reserve.give_up_some());
        assert!(held() < whole);
        assert_eq!(reserve.look(), Room::Plenty);
        assert_eq!(held(), whole, "made whole again by the next look");
        drop(reserve);
        let reserve = Reserve::open(journal).unwrap();
        reserve.met_with_quota();
        assert!(held() < whole);
        assert_eq!(reserve.look(), Room::Short, "until it has been tried");
        std::thread::sleep(TRY_EVERY);
        assert_eq!(reserve.look(), Room::Plenty);
        assert_eq!(held(), whole);
        assert!(!journal.join(TRIAL).exists());
        drop(reserve);
        assert_eq!(Reserve::open(journal).unwrap().state.lock().held, whole);
    }
}
