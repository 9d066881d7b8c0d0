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

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::geteuid;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// A look costs a microsecond; in this time a fast disk takes some ten megabytes.
const LOOK_EVERY: Duration = Duration::from_millis(10);

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
    dir: File,
    file: File,
    free_min: u64,
    /// Held for two system calls at most.
    state: Mutex<State>,
}

struct State {
    held: u64,
    held_max: u64,
    looked: Option<Instant>,
    room: Room,
}

/// Its name in the directory of the journal. fjall looks at what it knows there, and at `*.jnl`.
const NAME: &str = "reserve";

/// Gives up a part of the reserve of a journal that is not open, for whoever must have space before it is
/// opened. Whether there was any.
pub(super) fn give_up(journal: &Path) -> io::Result<bool> {
    let file = match OpenOptions::new().write(true).open(journal.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let held = file.metadata()?.len();
    file.set_len(held.saturating_sub(FREE_BYTES_MIN))?;
    Ok(held > 0)
}

impl Reserve {
    /// The reserve in the directory of a journal.
    pub(super) fn open(journal: &Path) -> io::Result<Reserve> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(journal.join(NAME))?;
        let dir = File::open(journal)?;
        let answer = fstatvfs(&dir)?;
        // On a small disk in proportion.
        let disk_bytes = answer.blocks() * answer.fragment_size();
        let held_max = RESERVE_BYTES_MAX.min(disk_bytes / 8);
        let metadata = file.metadata()?;
        if metadata.len() > held_max {
            file.set_len(held_max)?;
        }
        let reserve = Reserve {
            dir,
            file,
            free_min: FREE_BYTES_MIN.min(disk_bytes / 16),
            state: Mutex::new(State {
                // Of a file whose blocks are not there, nothing is held.
                held: metadata.len().min(metadata.blocks() * 512).min(held_max),
                held_max,
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

    fn look_now(&self, state: &mut State) -> Room {
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
        if left == state.held || self.file.set_len(left).is_err() {
            return false;
        }
        state.held = left;
        true
    }

    fn make_whole(&self, state: &mut State) {
        let none = FallocateFlags::empty();
        match fallocate(&self.file, none, 0, state.held_max as i64) {
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
        assert_eq!(Reserve::open(journal).unwrap().state.lock().held, whole);
    }
}
