//! What programs do to the mount until the crash: several threads, each in a folder of its own.
//!
//! The mix is what checkpoint writers, databases and build tools do: files overwritten in place (as
//! torch.save does), replaced by rename (safetensors), logs, tables, links, attributes, directories
//! renamed and removed; with fsync of the file or the directory in a given share of the cases.

mod habits;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::libc;

use crate::content::{self, Dice, PAGE, VERSION_BYTES_MIN};
use crate::ledger::{Crash, Ledger, State, is_strict};
use crate::special::{Log, Page, Table};

pub use habits::Habit;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Names that are overwritten and replaced again and again.
const SLOTS: usize = 6;
/// More than so many files that were written once, and the oldest go.
const ONCE_MAX: usize = 12;
const TABLE_PAGES_MAX: usize = 96;
const LOG_BYTES_MAX: usize = 2 * MIB;

/// Operations of a hundred that are the habit of a round.
const HABIT_PERCENT: usize = 40;

/// How this round's programs behave.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Operations of a hundred that end with fsync.
    pub fsync_percent: usize,
    /// The largest file.
    pub bytes_max: usize,
    /// What they do much of.
    pub habit: Habit,
}

/// How near the crash is.
#[derive(Debug, Default)]
pub struct Doom {
    announced: AtomicBool,
    here: AtomicBool,
}

impl Doom {
    /// From now on nothing counts as acknowledged.
    pub fn announce(&self) {
        self.announced.store(true, Ordering::SeqCst);
    }

    /// It has happened.
    pub fn come(&self) {
        self.here.store(true, Ordering::SeqCst);
    }

    fn is_announced(&self) -> bool {
        self.announced.load(Ordering::SeqCst)
    }

    /// A worker that goes home closes its files. Before a power cut that would make versions of them that no
    /// program meant.
    fn wait(&self) {
        while !self.here.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Why a worker went home.
#[derive(Debug)]
pub enum Ended {
    /// The crash came.
    Crash,
    /// A call failed before that.
    Failed(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

type Done = Result<(), Ended>;

/// One thread's work in one round.
#[derive(Debug)]
pub struct Worker {
    ledger: Ledger,
    home: String,
    dice: Dice,
    manners: Manners,
    root: PathBuf,
    crash: Arc<Doom>,
    /// A log that stays open.
    log: Option<File>,
    made: usize,
}

impl Worker {
    /// A worker in the folder `home` of a mount. `round` makes the names of this round its own.
    pub fn new(
        root: &Path,
        number: usize,
        round: usize,
        ledger: Ledger,
        crash: Arc<Doom>,
        (seed, manners): (u64, Manners),
    ) -> Self {
        let mixed = seed ^ ((round as u64) << 32) ^ ((number as u64) << 16);
        Self {
            ledger,
            home: format!("w{number}"),
            dice: Dice::new(mixed),
            manners,
            root: root.to_owned(),
            crash,
            log: None,
            made: round * 100_000,
        }
    }

    /// Works until the crash.
    pub fn work(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.step() {
                // What fails after the crash began fails because of it.
                return match self.crash.is_announced() {
                    true => Ended::Crash,
                    false => ended,
                };
            }
        }
    }

    /// What it did; its open files are closed.
    pub fn into_ledger(self) -> Ledger {
        self.ledger
    }

    fn step(&mut self) -> Done {
        if self.manners.habit != Habit::Usual && self.dice.chance(HABIT_PERCENT) {
            return self.do_as_usual();
        }
        match self.dice.below(100) {
            0..22 => self.overwrite(),
            22..44 => self.replace(),
            44..58 => self.write_once(),
            58..68 => self.append(),
            68..79 => self.rewrite_pages(),
            79..84 => self.remove(),
            84..88 => self.link(),
            88..91 => self.symlink(),
            91..95 => self.attribute(),
            _ => self.directory(),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Between a call's return and its entry in the ledger: does it count as before the crash?
    fn before_crash(&self) -> Done {
        match self.crash.is_announced() {
            true => {
                self.crash.wait();
                Err(Ended::Crash)
            }
            false => Ok(()),
        }
    }

    fn acknowledge(&mut self, paths: &[&str]) -> Done {
        self.before_crash()?;
        self.ledger.acknowledged(paths);
        Ok(())
    }

    fn syncs(&mut self) -> bool {
        self.dice.chance(self.manners.fsync_percent)
    }

    fn sync_file(&mut self, file: &File, path: &str) -> Done {
        file.sync_all()?;
        self.before_crash()?;
        self.ledger.file_synced(path);
        Ok(())
    }

    fn sync_home(&mut self) -> Done {
        File::open(self.at(&self.home))?.sync_all()?;
        self.before_crash()?;
        let home = self.home.clone();
        self.ledger.directory_synced(&home);
        Ok(())
    }

    fn size(&mut self) -> usize {
        let max = match self.dice.below(100) {
            0..45 => 6 * KIB,
            45..75 => 80 * KIB,
            75..97 => MIB,
            _ => 10 * MIB,
        };
        VERSION_BYTES_MIN + self.dice.below(max.min(self.manners.bytes_max))
    }

    fn new_name(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{}/{kind}{}", self.home, self.made)
    }

    /// Writes a new version over whatever is under `path`.
    fn write_version(&mut self, path: &str, exclusive: bool) -> Done {
        let len = self.size();
        self.write_sized(path, exclusive, len)
    }

    fn write_sized(&mut self, path: &str, exclusive: bool, len: usize) -> Done {
        let version = self.ledger.new_version(len);
        let bytes = content::version(version, len);
        match exclusive {
            true => self.ledger.begin(path, State::File(version)),
            false => self.ledger.begin_truncated(path, version),
        }
        let mut options = File::options();
        options.write(true);
        match exclusive {
            true => options.create_new(true),
            false => options.create(true).truncate(true),
        };
        if self.dice.chance(10) {
            options.custom_flags(libc::O_APPEND);
        }
        let mut file = options.open(self.at(path))?;
        let chunk = [4 * KIB, 64 * KIB, MIB][self.dice.below(3)];
        let mut written = 0;
        for part in bytes.chunks(chunk) {
            file.write_all(part)?;
            self.before_crash()?;
            written += part.len();
            self.ledger.written(version, written);
        }
        if self.syncs() {
            self.sync_file(&file, path)?;
        }
        close(file)?;
        self.acknowledge(&[path])
    }

    /// As torch.save does: O_TRUNC, write, close.
    fn overwrite(&mut self) -> Done {
        let path = format!("{}/slot{}", self.home, self.dice.below(SLOTS));
        self.write_version(&path, false)?;
        if self.dice.chance(20) && self.syncs() {
            self.sync_home()?;
        }
        Ok(())
    }

    /// As safetensors does: another name, then a rename over the old file.
    fn replace(&mut self) -> Done {
        let temporary = self.new_name("tmp");
        let path = format!("{}/slot{}", self.home, self.dice.below(SLOTS));
        self.write_version(&temporary, true)?;
        self.rename(&temporary, &path)?;
        if self.syncs() {
            match self.dice.chance(50) {
                true => self.sync_home()?,
                false => {
                    let file = File::open(self.at(&path))?;
                    self.sync_file(&file, &path)?;
                }
            }
        }
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Done {
        self.ledger.begin_move(from, to);
        fs::rename(self.at(from), self.at(to))?;
        self.acknowledge(&[from, to])
    }

    fn write_once(&mut self) -> Done {
        let path = self.new_name("once");
        self.write_version(&path, true)?;
        if self.syncs() {
            self.sync_home()?;
        }
        let mut once = self.ledger.files_in(&self.home);
        once.retain(|path| path.contains("/once"));
        if once.len() > ONCE_MAX {
            once.sort_by_key(|path| path.len());
            self.unlink(&once[0])?;
        }
        Ok(())
    }

    fn unlink(&mut self, path: &str) -> Done {
        self.ledger.begin(path, State::Absent);
        let attributes = self.ledger.below(&format!("{path}#"));
        for attribute in &attributes {
            self.ledger.begin(attribute, State::Absent);
        }
        fs::remove_file(self.at(path))?;
        self.acknowledge(&[path])?;
        for attribute in &attributes {
            self.acknowledge(&[attribute])?;
        }
        Ok(())
    }

    fn remove(&mut self) -> Done {
        let files = self.ledger.files_in(&self.home);
        let Some(path) = self.dice.pick(&files).cloned() else {
            return Ok(());
        };
        self.unlink(&path)?;
        if self.syncs() {
            self.sync_home()?;
        }
        Ok(())
    }

    fn link(&mut self) -> Done {
        let mut files = self.ledger.files_in(&self.home);
        // Slots are overwritten in place, which would change both names.
        files.retain(|path| path.contains("/once"));
        let Some(path) = self.dice.pick(&files).cloned() else {
            return Ok(());
        };
        let State::File(version) = self.ledger.state(&path) else {
            return Ok(());
        };
        let second = self.new_name("link");
        self.ledger
            .versions
            .get_mut(&version)
            .expect("known")
            .linked = true;
        self.ledger.begin(&second, State::File(version));
        fs::hard_link(self.at(&path), self.at(&second))?;
        self.acknowledge(&[&second])?;
        if self.syncs() {
            match self.dice.chance(50) {
                true => self.sync_home()?,
                false => {
                    let file = File::open(self.at(&second))?;
                    self.sync_file(&file, &second)?;
                }
            }
        }
        let mut links = self.ledger.files_in(&self.home);
        links.retain(|path| path.contains("/link"));
        match links.len() > ONCE_MAX {
            true => self.unlink(&links[0]),
            false => Ok(()),
        }
    }

    fn symlink(&mut self) -> Done {
        let path = self.new_name("sym");
        let target = format!("slot{}", self.dice.below(SLOTS));
        self.ledger.begin(&path, State::Link(target.clone()));
        symlink(&target, self.at(&path))?;
        self.acknowledge(&[&path])?;
        if self.syncs() {
            self.sync_home()?;
        }
        Ok(())
    }

    /// Two names of one inode have one set of attributes.
    fn is_linked(&self, path: &str) -> bool {
        match self.ledger.state(path) {
            State::File(version) => self.ledger.versions[&version].linked,
            _ => false,
        }
    }

    fn attribute(&mut self) -> Done {
        if self.dice.chance(30) {
            return self.change_mode();
        }
        let mut files = self.ledger.files_in(&self.home);
        files.retain(|path| path.contains("/once"));
        let Some(path) = self.dice.pick(&files).cloned() else {
            return Ok(());
        };
        if self.is_linked(&path) {
            return Ok(());
        }
        let value = format!("value {}", self.dice.next());
        let attribute = format!("{path}#user.tag");
        self.ledger
            .begin(&attribute, State::Attribute(value.clone()));
        crate::check::set_attribute(&self.at(&path), "user.tag", &value)?;
        self.acknowledge(&[&attribute])?;
        if self.syncs() {
            let file = File::open(self.at(&path))?;
            self.sync_file(&file, &path)?;
        }
        Ok(())
    }

    /// A directory with files in it, renamed; later emptied and removed.
    fn directory(&mut self) -> Done {
        let path = self.new_name("dir");
        self.ledger.begin(&path, State::Directory);
        fs::create_dir(self.at(&path))?;
        self.acknowledge(&[&path])?;
        for name in ["a", "b"] {
            self.write_version(&format!("{path}/{name}"), true)?;
        }
        let renamed = path.replace("/dir", "/moved");
        if self.dice.chance(70) {
            let below = [format!("{path}/a"), format!("{path}/b")];
            self.ledger.begin(&renamed, State::Directory);
            self.ledger.begin(&path, State::Absent);
            for child in &below {
                self.ledger
                    .begin_move(child, &child.replace("/dir", "/moved"));
            }
            fs::rename(self.at(&path), self.at(&renamed))?;
            self.acknowledge(&[&path, &renamed])?;
            for child in &below {
                self.acknowledge(&[child, &child.replace("/dir", "/moved")])?;
            }
            if self.syncs() {
                match self.dice.chance(50) {
                    true => self.sync_home()?,
                    false => {
                        let child = format!("{renamed}/a");
                        let file = File::open(self.at(&child))?;
                        self.sync_file(&file, &child)?;
                    }
                }
            }
        }
        let prefix = format!("{}/", self.home);
        let mut directories = self.ledger.below(&prefix);
        directories.retain(|path| *self.ledger.paths[path].last() == State::Directory);
        match directories.len() > 6 {
            true => self.remove_directory(&directories[0].clone()),
            false => Ok(()),
        }
    }

    fn remove_directory(&mut self, path: &str) -> Done {
        for child in self.ledger.files_in(path) {
            self.unlink(&child)?;
        }
        self.ledger.begin(path, State::Absent);
        match fs::remove_dir(self.at(path)) {
            // An object whose record a crash took came back as a file; see `Judge::is_litter`.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && !is_strict() => {
                self.ledger.litter += 1;
                return Ok(());
            }
            removed => removed?,
        }
        self.acknowledge(&[path])
    }

    /// Grows the log, and keeps it open as often as not.
    fn append(&mut self) -> Done {
        let path = format!("{}/log", self.home);
        let fresh = Log {
            seed: self.dice.next(),
            floor: 0,
            tried: 0,
            ragged: false,
            good: 0,
        };
        let mut log = self
            .ledger
            .logs
            .entry(path.clone())
            .or_insert(fresh)
            .clone();
        if log.tried > LOG_BYTES_MAX {
            return Ok(());
        }
        let file = match self.log.take() {
            Some(file) => file,
            None => File::options()
                .append(true)
                .create(true)
                .open(self.at(&path))?,
        };
        if log.ragged {
            file.set_len(log.good as u64)?;
            file.sync_all()?;
            self.before_crash()?;
            (log.floor, log.tried) = (log.good, log.good);
            log.ragged = false;
            *self.log_of(&path) = log.clone();
        }
        let count = 1 + self.dice.below(24 * KIB);
        let end = log.tried + count;
        let bytes = content::log(log.seed, end);
        self.log_of(&path).tried = end;
        (&file).write_all(&bytes[log.tried..])?;
        self.before_crash()?;
        if self.ledger.crash == Crash::Kill {
            self.log_of(&path).floor = end;
        }
        if self.syncs() {
            file.sync_all()?;
            self.before_crash()?;
            self.log_of(&path).floor = end;
        }
        self.ledger.calls += 1;
        match self.dice.chance(50) {
            true => self.log = Some(file),
            false => close(file)?,
        }
        Ok(())
    }

    fn log_of(&mut self, path: &str) -> &mut Log {
        self.ledger.logs.get_mut(path).expect("made above")
    }

    /// Writes pages of the table in place, or one behind its end.
    fn rewrite_pages(&mut self) -> Done {
        let path = format!("{}/table", self.home);
        let fresh = Table {
            seed: self.dice.next(),
            pages: Vec::new(),
        };
        let mut table = self
            .ledger
            .tables
            .entry(path.clone())
            .or_insert(fresh)
            .clone();
        let mut options = File::options();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.at(&path))?;
        for _ in 0..1 + self.dice.below(6) {
            let end = (table.pages.len() + 1).min(TABLE_PAGES_MAX);
            let number = self.dice.below(end);
            if number == table.pages.len() {
                table.pages.push(Page::default());
            }
            let page = &mut table.pages[number];
            page.tried += 1;
            let count = page.tried;
            let bytes = content::page(table.seed, number as u32, count);
            self.ledger.tables.insert(path.clone(), table.clone());
            file.write_all_at(&bytes, (number * PAGE) as u64)?;
            self.before_crash()?;
            table.pages[number].written = count;
            if self.ledger.crash == Crash::Kill {
                table.synced();
            }
            self.ledger.tables.insert(path.clone(), table.clone());
        }
        if self.syncs() {
            file.sync_data()?;
            self.before_crash()?;
            table.synced();
        }
        self.ledger.calls += 1;
        self.ledger.tables.insert(path, table);
        close(file)?;
        self.before_crash()
    }
}

/// close(2) with its error: that is when a FUSE file system speaks up.
fn close(file: File) -> io::Result<()> {
    nix::unistd::close(file).map_err(io::Error::from)
}
