//! What the programs do, and the tree that they must find.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use harness::fused;

use super::faults::Kind;
use crate::content::{self, Dice};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// Few names, so that they come again.
const NAMES: usize = 10;
/// Directories that come and go.
const DIRECTORIES: [&str; 4] = ["d0", "d1", "d1/e", "d2"];
/// What is overwritten in place.
const PAGE: u64 = 4096;
/// The most bytes of all files, so that the checks are quick.
const BYTES_MAX: usize = 200 * MIB;

/// What a file holds: a version, and what was written into it later.
#[derive(Debug, Clone)]
pub struct Content {
    number: u64,
    len: usize,
    patches: Vec<(u64, u64)>,
}

impl Content {
    /// A version of this length.
    pub fn new(number: u64, len: usize) -> Self {
        Self {
            number,
            len,
            patches: Vec::new(),
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = content::version(self.number, self.len);
        for (at, number) in &self.patches {
            let at = *at as usize;
            bytes[at..at + PAGE as usize].copy_from_slice(&patch(*number));
        }
        bytes
    }

    /// Panics unless these are its bytes.
    #[track_caller]
    pub fn check(&self, found: &[u8], place: &str) {
        let wanted = self.bytes();
        if found == wanted {
            return;
        }
        let differs = found.iter().zip(&wanted).position(|(a, b)| a != b);
        panic!(
            "{place}: {} bytes that differ at {differs:?} from the {} bytes of {self:?}",
            found.len(),
            wanted.len()
        );
    }
}

fn patch(number: u64) -> Vec<u8> {
    content::version(number, PAGE as usize)
}

/// The tree, and the one who works on it.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    kind: Kind,
    dice: Dice,
    files: BTreeMap<String, Content>,
    directories: BTreeSet<String>,
    next: u64,
    /// Calls so far.
    pub calls: u64,
    /// Reads that failed, honestly.
    pub failed_reads: u64,
    /// The last few calls, for the report of a failure.
    history: Vec<String>,
}

impl Tree {
    /// An empty one at a mount point.
    pub fn new(root: &Path, kind: Kind, seed: u64) -> Self {
        Self {
            root: root.to_owned(),
            kind,
            dice: Dice::new(seed),
            files: BTreeMap::new(),
            directories: BTreeSet::new(),
            next: seed,
            calls: 0,
            failed_reads: 0,
            history: Vec::new(),
        }
    }

    /// One random operation; panics when a program would have seen an error.
    pub fn step(&mut self) {
        self.calls += 1;
        let before = self.history.len();
        if let Err(error) = self.operation() {
            panic!(
                "a program saw an error: {error}; it was at {:?}",
                &self.history[before.min(self.history.len().saturating_sub(1))..]
            );
        }
    }

    fn operation(&mut self) -> io::Result<()> {
        match self.dice.below(100) {
            0..30 => {
                let len = content::VERSION_BYTES_MIN + self.dice.below(64 * KIB);
                self.write(len)
            }
            30..37 => {
                let len = 8 * MIB + self.dice.below(14 * MIB);
                self.write(len)
            }
            37..52 => self.rename_file(),
            52..64 => self.unlink(),
            64..70 => self.patch(),
            70..75 => self.chmod(),
            75..80 => self.make_directory(),
            80..83 => self.remove_directory(),
            83..88 => self.rename_directory(),
            88..95 => self.read(),
            _ => self.free(),
        }
    }

    fn say(&mut self, what: String) {
        self.history.push(what);
    }

    fn name(&mut self) -> String {
        let name = format!("f{}", self.dice.below(NAMES));
        let directories: Vec<_> = self.directories.iter().cloned().collect();
        match self.dice.pick(&directories) {
            Some(directory) if self.dice.chance(60) => format!("{directory}/{name}"),
            _ => name,
        }
    }

    fn any_file(&mut self) -> Option<String> {
        let files: Vec<_> = self.files.keys().cloned().collect();
        self.dice.pick(&files).cloned()
    }

    fn number(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    fn write(&mut self, len: usize) -> io::Result<()> {
        let total: usize = self.files.values().map(|content| content.len).sum();
        let len = if total + len > BYTES_MAX { KIB } else { len };
        let (path, content) = (self.name(), Content::new(self.number(), len));
        self.say(format!("write {path}: {content:?}"));
        let mut file = File::create(self.root.join(&path))?;
        file.write_all(&content.bytes())?;
        if self.dice.chance(20) {
            file.sync_all()?;
        }
        drop(file);
        self.files.insert(path, content);
        Ok(())
    }

    fn rename_file(&mut self) -> io::Result<()> {
        let (Some(from), to) = (self.any_file(), self.name()) else {
            return Ok(());
        };
        self.say(format!("rename {from} {to}"));
        fs::rename(self.root.join(&from), self.root.join(&to))?;
        if let Some(content) = self.files.remove(&from) {
            self.files.insert(to, content);
        }
        Ok(())
    }

    fn unlink(&mut self) -> io::Result<()> {
        let Some(path) = self.any_file() else {
            return Ok(());
        };
        self.say(format!("unlink {path}"));
        fs::remove_file(self.root.join(&path))?;
        self.files.remove(&path);
        Ok(())
    }

    /// Whole pages in the middle: nothing of the store is needed for that.
    fn patch(&mut self) -> io::Result<()> {
        let Some(path) = self.any_file() else {
            return Ok(());
        };
        let pages = self.files[&path].len / PAGE as usize;
        if pages == 0 {
            return Ok(());
        }
        let (at, number) = (self.dice.below(pages) as u64 * PAGE, self.number());
        self.say(format!("patch {path} at {at}"));
        let file = OpenOptions::new().write(true).open(self.root.join(&path))?;
        file.write_all_at(&patch(number), at)?;
        drop(file);
        let content = self.files.get_mut(&path).expect("known");
        content.patches.push((at, number));
        Ok(())
    }

    fn chmod(&mut self) -> io::Result<()> {
        let Some(path) = self.any_file() else {
            return Ok(());
        };
        let mode = [0o600, 0o640, 0o644][self.dice.below(3)];
        self.say(format!("chmod {path}"));
        fs::set_permissions(self.root.join(&path), fs::Permissions::from_mode(mode))
    }

    fn make_directory(&mut self) -> io::Result<()> {
        let path = DIRECTORIES[self.dice.below(DIRECTORIES.len())].to_owned();
        let above = path.rsplit_once('/').map(|(above, _)| above);
        let fits = above.is_none_or(|above| self.directories.contains(above));
        if !fits || self.directories.contains(&path) {
            return Ok(());
        }
        self.say(format!("mkdir {path}"));
        fs::create_dir(self.root.join(&path))?;
        self.directories.insert(path);
        Ok(())
    }

    fn any_directory(&mut self) -> Option<String> {
        let directories: Vec<_> = self.directories.iter().cloned().collect();
        self.dice.pick(&directories).cloned()
    }

    fn remove_directory(&mut self) -> io::Result<()> {
        let Some(path) = self.any_directory() else {
            return Ok(());
        };
        self.say(format!("rm -r {path}"));
        fs::remove_dir_all(self.root.join(&path))?;
        self.files.retain(|file, _| !is_below(file, &path));
        self.directories
            .retain(|other| *other != path && !is_below(other, &path));
        Ok(())
    }

    fn rename_directory(&mut self) -> io::Result<()> {
        let Some(from) = self.any_directory() else {
            return Ok(());
        };
        let to = format!("r{}", self.dice.below(3));
        if self.directories.contains(&to) {
            return Ok(());
        }
        self.say(format!("rename {from}/ {to}/"));
        fs::rename(self.root.join(&from), self.root.join(&to))?;
        let moved = |path: &str| match path == from || is_below(path, &from) {
            true => format!("{to}{}", &path[from.len()..]),
            false => path.to_owned(),
        };
        let files = std::mem::take(&mut self.files);
        self.files = files
            .into_iter()
            .map(|(path, content)| (moved(&path), content))
            .collect();
        self.directories = self.directories.iter().map(|path| moved(path)).collect();
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let Some(path) = self.any_file().filter(|_| !self.kind.makes_reads_wait()) else {
            return Ok(());
        };
        self.say(format!("read {path}"));
        match fs::read(self.root.join(&path)) {
            Ok(bytes) => self.files[&path].check(&bytes, &path),
            Err(error) if error.raw_os_error().is_some_and(|no| self.kind.allows(no)) => {
                self.failed_reads += 1;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What is in the store may leave the disk.
    fn free(&mut self) -> io::Result<()> {
        let path = self.any_file().unwrap_or_default();
        self.say(format!("free {path}"));
        let path = self.root.join(path);
        fused([std::ffi::OsStr::new("free"), path.as_os_str()]).success();
        Ok(())
    }

    /// The keys that the bucket must have, and no other.
    pub fn keys(&self) -> BTreeSet<String> {
        let markers = self.directories.iter().map(|path| format!("{path}/"));
        self.files.keys().cloned().chain(markers).collect()
    }

    /// The files and what they hold.
    pub fn files(&self) -> &BTreeMap<String, Content> {
        &self.files
    }

    /// Panics unless the mount shows exactly this tree.
    #[track_caller]
    pub fn check(&self) {
        let mut found = BTreeSet::new();
        let mut pending = vec![self.root.clone()];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(&directory).expect("a folder") {
                let path = entry.expect("an entry").path();
                let name = path.strip_prefix(&self.root).expect("below");
                let name = name.to_str().expect("a plain name").to_owned();
                if name == "cold" {
                    continue;
                }
                if path.is_dir() {
                    found.insert(format!("{name}/"));
                    pending.push(path);
                } else {
                    found.insert(name);
                }
            }
        }
        let wanted = self.keys();
        let differing: Vec<_> = found.symmetric_difference(&wanted).collect();
        let histories: Vec<_> = differing.iter().map(|path| self.history_of(path)).collect();
        assert!(
            differing.is_empty(),
            "only on the mount or only in the tree: {differing:?}, of which: {histories:#?}"
        );
        for (path, content) in &self.files {
            let bytes = fs::read(self.root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
            content.check(&bytes, path);
        }
    }

    /// The history of a path, for the report of a failure.
    pub fn history_of(&self, path: &str) -> Vec<&String> {
        let name = path
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or(path);
        let all = self.history.iter();
        all.filter(|line| line.contains(name) || line.contains("/ "))
            .collect()
    }
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with('/'))
}
