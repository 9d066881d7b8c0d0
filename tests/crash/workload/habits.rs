//! What programs do now and then, and much of it in a round in which the daemon is to die of that.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use harness::fused;

use super::{Done, Ended, KIB, MIB, SLOTS, Worker};
use crate::content::{self, VERSION_BYTES_MIN};
use crate::ledger::{Crash, State};

/// What the programs of a round do more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Nothing.
    Usual,
    /// Other modes for files that are in the store.
    Modes,
    /// Large files, one over the other while it is uploaded.
    Large,
    /// Giving up local copies, and reading.
    ReadBack,
    /// Directories.
    Directories,
    /// Looking what is there.
    Listings,
}

impl Habit {
    /// The one that comes to a point soon; a point is `before` or `after` something.
    pub fn for_point(name: &str) -> Self {
        match name.split_once(' ').map(|(_, what)| what) {
            Some("set attributes of") => Self::Modes,
            Some("abort upload of") => Self::Large,
            Some("read") => Self::ReadBack,
            Some("make directory" | "remove directory") => Self::Directories,
            Some("list") => Self::Listings,
            _ => Self::Usual,
        }
    }
}

impl Worker {
    pub(super) fn do_as_usual(&mut self) -> Done {
        match self.manners.habit {
            Habit::Usual => Ok(()),
            Habit::Modes => self.change_mode(),
            Habit::Large => self.overwrite_large(),
            Habit::ReadBack => self.read_back(),
            Habit::Directories => self.directory(),
            Habit::Listings => self.list(),
        }
    }

    /// chmod of a file that was written once. What a power cut leaves of that is not promised.
    pub(super) fn change_mode(&mut self) -> Done {
        let mut files = self.ledger.files_in(&self.home);
        files.retain(|path| path.contains("/once"));
        let Some(path) = self.dice.pick(&files).cloned() else {
            return Ok(());
        };
        if self.ledger.crash != Crash::Kill || self.is_linked(&path) {
            return Ok(());
        }
        let modes = format!("{path}#mode");
        if !self.ledger.paths.contains_key(&modes) {
            // What a crash may leave is the new one, or what it was made with.
            let made_with = fs::metadata(self.at(&path))?.mode() & 0o7777;
            self.ledger.begin(&modes, State::Mode(made_with));
            self.acknowledge(&[&modes])?;
        }
        let mode = [0o600, 0o640, 0o644, 0o755][self.dice.below(4)];
        self.ledger.begin(&modes, State::Mode(mode));
        fs::set_permissions(self.at(&path), fs::Permissions::from_mode(mode))?;
        self.acknowledge(&[&modes])
    }

    /// Of a size that goes in parts.
    fn overwrite_large(&mut self) -> Done {
        let path = format!("{}/slot{}", self.home, self.dice.below(SLOTS / 3));
        let len = 9 * MIB + self.dice.below(MIB);
        self.write_sized(&path, false, len)?;
        // Its upload has begun, or has not.
        std::thread::sleep(Duration::from_millis(self.dice.below(100) as u64));
        let small = self.dice.below(64 * KIB) + VERSION_BYTES_MIN;
        self.write_sized(&path, false, small)
    }

    /// A file as the store has it, if it has it by now.
    fn read_back(&mut self) -> Done {
        let files = self.ledger.files_in(&self.home);
        let Some(path) = self.dice.pick(&files).cloned() else {
            return Ok(());
        };
        // Without a daemon it fails, and so does what follows.
        let _ = fused([OsStr::new("free"), self.at(&path).as_os_str()]);
        let bytes = fs::read(self.at(&path))?;
        self.before_crash()?;
        let State::File(number) = self.ledger.state(&path) else {
            return Ok(());
        };
        let len = self.ledger.versions[&number].len;
        match content::version(number, len.max(VERSION_BYTES_MIN)).get(..len) {
            Some(written) if bytes == written => Ok(()),
            _ => {
                let text = format!("{path} is not as it was written: {} bytes", bytes.len());
                Err(Ended::Failed(io::Error::other(text)))
            }
        }
    }

    fn list(&mut self) -> Done {
        let mut count = 0;
        for entry in fs::read_dir(self.at(&self.home))? {
            // One that says that there is no daemon any more is no name.
            entry?;
            count += 1;
        }
        self.before_crash()?;
        let known = self.ledger.files_in(&self.home).len();
        match count >= known {
            true => Ok(()),
            false => {
                let text = format!("{count} names in {}, and {known} files", self.home);
                Err(Ended::Failed(io::Error::other(text)))
            }
        }
    }
}
