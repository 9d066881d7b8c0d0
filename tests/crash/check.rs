//! What is there after a crash, against what may be.
//!
//! It reads the whole tree below a root, which is a mount or, to show that the checker can fail, an
//! ordinary folder; and each object of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::run;

use crate::content::{self, VERSION_BYTES_MIN, claimed_version};
use crate::ledger::{Crash, History, Ledger, State, is_strict};

/// What recovery calls the earlier version of a file whose name went back to another.
const ASIDE: &str = ".before-power-cut";

/// Objects by which a mount tries the store: they may be there while it does, and if it is killed meanwhile until
/// the next one is there.
const PROBES: &str = ".fused-probe-";

/// Where a store that is a folder keeps what is not whole yet.
const STAGING: &str = ".fused-staging/";

/// What was found, by path.
#[derive(Debug, Default)]
pub struct Found {
    /// Directories, links and files; what a file holds is in `bytes`.
    tree: BTreeMap<String, Thing>,
}

#[derive(Debug)]
enum Thing {
    Directory,
    Link(String),
    File(Vec<u8>),
    Unreadable(String),
}

/// Sets an extended attribute.
pub fn set_attribute(path: &Path, name: &str, value: &str) -> io::Result<()> {
    attributes::set(path, name, value)
}

/// Everything below `root`.
pub fn look_at(root: &Path) -> Found {
    let mut found = Found::default();
    let mut pending = vec![String::new()];
    while let Some(directory) = pending.pop() {
        let listed = match fs::read_dir(root.join(&directory)) {
            Ok(listed) => listed,
            Err(error) => {
                found.add(directory, Thing::Unreadable(error.to_string()));
                continue;
            }
        };
        for entry in listed {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a plain name");
            let path = match directory.is_empty() {
                true => name,
                false => format!("{directory}/{name}"),
            };
            let read = read(&entry.path());
            // Its directory was listed anew in between: it is not there.
            if read.is_err() && entry.path().symlink_metadata().is_err_and(is_absent) {
                continue;
            }
            let thing = read.unwrap_or_else(|e| Thing::Unreadable(e.to_string()));
            if matches!(thing, Thing::Directory) {
                pending.push(path.clone());
            }
            found.add(path, thing);
        }
    }
    found
}

fn is_absent(error: io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn read(path: &Path) -> io::Result<Thing> {
    let about = path.symlink_metadata()?;
    if about.is_dir() {
        return Ok(Thing::Directory);
    }
    if about.is_symlink() {
        let target = fs::read_link(path)?;
        return Ok(Thing::Link(target.to_string_lossy().into_owned()));
    }
    let bytes = fs::read(path)?;
    if bytes.len() as u64 != about.len() {
        let text = format!("{} bytes by stat, {} read", about.len(), bytes.len());
        return Ok(Thing::Unreadable(text));
    }
    Ok(Thing::File(bytes))
}

impl Found {
    fn add(&mut self, path: String, thing: Thing) {
        self.tree.insert(path, thing);
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Paths of what recovery put beside a file.
    pub fn asides(&self) -> Vec<String> {
        let paths = self.tree.keys().filter(|path| path.ends_with(ASIDE));
        paths.cloned().collect()
    }

    /// Compares with the ledgers; gives what is wrong, and makes what was found their new beginning.
    /// `stored`: all of it is in the store, too, so even what was never synced has a complete version.
    pub fn judge(&self, root: &Path, ledgers: &mut [Ledger], stored: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut known = BTreeSet::new();
        for (number, ledger) in ledgers.iter_mut().enumerate() {
            let mut judge = Judge {
                found: self,
                root,
                ledger,
                wrong: &mut wrong,
                stored,
            };
            known.insert(format!("w{number}"));
            judge.histories(&mut known);
            judge.specials(&mut known);
        }
        for (path, thing) in &self.tree {
            if known.contains(path) {
                continue;
            }
            match (path.strip_suffix(ASIDE), thing) {
                (Some(_), Thing::File(bytes)) if is_whole(ledgers, bytes) => {}
                _ => wrong.push(format!(
                    "{path}: nobody made it: {}",
                    thing.describe(ledgers)
                )),
            }
        }
        wrong
    }
}

fn is_whole(ledgers: &[Ledger], bytes: &[u8]) -> bool {
    ledgers
        .iter()
        .any(|ledger| version_of(ledger, bytes).is_some())
}

impl Thing {
    fn describe(&self, ledgers: &[Ledger]) -> String {
        match self {
            Self::File(bytes) => ledgers
                .iter()
                .find_map(|ledger| version_of(ledger, bytes))
                .map_or_else(|| torn(bytes), |version| format!("version {version:x}")),
            Self::Unreadable(why) => format!("unreadable: {why}"),
            Self::Directory => "a directory".to_owned(),
            Self::Link(target) => format!("a link to {target}"),
        }
    }
}

fn torn(bytes: &[u8]) -> String {
    let zeros = bytes.iter().filter(|byte| **byte == 0).count();
    let claimed = claimed_version(bytes).unwrap_or(0);
    format!(
        "torn: {} bytes, {zeros} zeros, claims to be {claimed:x}",
        bytes.len()
    )
}

/// The version that these bytes are, all of them.
fn version_of(ledger: &Ledger, bytes: &[u8]) -> Option<u64> {
    let number = claimed_version(bytes)?;
    let version = ledger.versions.get(&number)?;
    (bytes.len() == version.len && bytes == content::version(number, version.len)).then_some(number)
}

struct Judge<'a> {
    found: &'a Found,
    root: &'a Path,
    ledger: &'a mut Ledger,
    wrong: &'a mut Vec<String>,
    stored: bool,
}

impl Judge<'_> {
    fn histories(&mut self, known: &mut BTreeSet<String>) {
        let mut places: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        let mut left_behind = BTreeSet::new();
        let paths: Vec<String> = self.ledger.paths.keys().cloned().collect();
        for path in paths {
            let history = self.ledger.paths[&path].clone();
            let state = match self.state(&path, &history) {
                Ok(state) => state,
                Err(what) => {
                    let text = format!("{path}: {what}; {}", self.told(&history));
                    self.wrong.push(text);
                    known.insert(path);
                    continue;
                }
            };
            if self.is_litter(&history, &state) {
                self.ledger.litter += 1;
                if let State::File(version) = &state {
                    self.ledger.versions.get_mut(version).expect("known").linked = true;
                }
            } else if !history.allows(&state) {
                let text = format!("{path}: {state:x?}; {}", self.told(&history));
                self.wrong.push(text);
            }
            if let State::File(version) = state {
                let here = places.entry(version).or_default();
                here.push(path.clone());
                if *history.last() == State::Absent {
                    left_behind.insert(path.clone());
                }
            }
            if state != State::Absent {
                known.insert(path.clone());
            }
            let history = self.ledger.paths.get_mut(&path).expect("listed above");
            // SeaweedFS lists a folder for a while after its last object went: a listing brings it back, and a
            // later one takes it away.
            let may_go = state == State::Directory && *history.last() == State::Absent;
            history.states = vec![state];
            if may_go && !is_strict() {
                history.states.push(State::Absent);
            }
            history.floor = 0;
            history.cut_off = false;
        }
        for (number, version) in &mut self.ledger.versions {
            // The object of the name before a rename, seen again: the same gap as `is_litter`.
            if let Some(found) = places.get_mut(number)
                && found.len() > 1
                && !is_strict()
            {
                let before = found.len();
                found.retain(|path| !left_behind.contains(path));
                self.ledger.litter += (before - found.len()) as u64;
                version.linked |= before > found.len();
            }
            let found = places.get(number);
            if found.is_none() && version.safe && !version.given_up {
                let text = format!("version {number:x} was safe, and is under no name");
                self.wrong.push(text);
            }
            if let Some(found) = found
                && found.len() > 1
                && !version.linked
            {
                let text = format!("version {number:x} is there more than once: {found:?}");
                self.wrong.push(text);
            }
            version.safe = found.is_some();
            version.given_up = found.is_none();
            version.written = version.len;
        }
    }

    fn told(&self, history: &History) -> String {
        let show = |state: &State| match state {
            State::File(number) => {
                let version = &self.ledger.versions[number];
                let safe = if version.safe { "safe" } else { "not synced" };
                format!(
                    "{number:x} ({safe}, {} of {} bytes)",
                    version.written, version.len
                )
            }
            other => format!("{other:?}"),
        };
        let all: Vec<_> = history.allowed().iter().map(show).collect();
        let (before, states) = (history.floor, all.join(", "));
        format!("allowed are {states} ({before} states before these)")
    }

    /// A removed file whose object came after the crash took the record of its upload: nobody deletes it, and
    /// the next listing shows it again. A known gap, counted; with `CRASH_STRICT` set it is an error.
    fn is_litter(&self, history: &History, state: &State) -> bool {
        let was_here = match state {
            State::File(version) => history.ever.contains(version),
            State::Directory => true,
            _ => false,
        };
        !is_strict() && *history.last() == State::Absent && !history.allows(state) && was_here
    }

    /// What a path holds now.
    fn state(&mut self, path: &str, history: &History) -> Result<State, String> {
        if let Some((file, name)) = path.split_once('#') {
            if !self.found.tree.contains_key(file) {
                return Ok(State::Absent);
            }
            if name == "mode" {
                let about = self.root.join(file).metadata();
                let mode = about.map(|about| about.mode() & 0o7777);
                return Ok(mode.map_or(State::Absent, State::Mode));
            }
            let value = attributes::get(&self.root.join(file), name);
            return Ok(value.map_or(State::Absent, State::Attribute));
        }
        match self.found.tree.get(path) {
            None => Ok(State::Absent),
            Some(Thing::Directory) => Ok(State::Directory),
            Some(Thing::Link(target)) => Ok(State::Link(target.clone())),
            Some(Thing::Unreadable(why)) => Err(format!("unreadable: {why}")),
            Some(Thing::File(bytes)) => match version_of(self.ledger, bytes) {
                Some(version) => Ok(State::File(version)),
                None => interrupted(self.ledger, history, bytes).ok_or_else(|| torn(bytes)),
            },
        }
    }

    fn specials(&mut self, known: &mut BTreeSet<String>) {
        let Ledger { logs, tables, .. } = &mut *self.ledger;
        for (path, log) in logs {
            known.insert(path.clone());
            let bytes = match bytes_of(self.found, path) {
                Ok(bytes) => bytes,
                Err(why) => {
                    self.wrong.push(format!("{path}: {why}"));
                    continue;
                }
            };
            if let Err(why) = log.judge(bytes) {
                self.wrong.push(format!("{path}: {why}"));
            }
            log.found(bytes, self.stored);
        }
        for (path, table) in tables {
            known.insert(path.clone());
            let judged = bytes_of(self.found, path).and_then(|bytes| table.judge(bytes));
            match judged {
                Ok(counts) => {
                    for (page, count) in table.pages.iter_mut().zip(counts) {
                        page.written = count;
                        if self.stored {
                            page.floor = count;
                        }
                    }
                }
                Err(why) => self.wrong.push(format!("{path}: {why}")),
            }
        }
    }
}

/// A write that a killed daemon interrupted: what was acknowledged of it, or more. From then on that is
/// the whole of this version.
fn interrupted(ledger: &mut Ledger, history: &History, bytes: &[u8]) -> Option<State> {
    if let State::File(number) = *history.last()
        && ledger.crash == Crash::Kill
        && history.is_pending()
        && let Some(version) = ledger.versions.get_mut(&number)
        && bytes.len() >= version.written
        && content::version(number, version.len.max(VERSION_BYTES_MIN)).starts_with(bytes)
    {
        version.len = bytes.len();
        return Some(State::File(number));
    }
    // An earlier crash came before its first byte: too short for its number, and no less a version.
    let mut allowed = history.allowed().iter().rev();
    let empty = allowed.find(|state| match state {
        State::File(number) => ledger.versions[number].len == 0,
        _ => false,
    });
    empty.filter(|_| bytes.is_empty()).cloned()
}

/// A file's bytes; none if there is no such file.
fn bytes_of<'a>(found: &'a Found, path: &str) -> Result<&'a [u8], String> {
    match found.tree.get(path) {
        None => Ok(&[]),
        Some(Thing::File(bytes)) => Ok(bytes),
        Some(other) => Err(format!("no file: {other:?}")),
    }
}

/// What is wrong with an object at any instant: it must be something that had this name, complete.
pub fn judge_object(ledgers: &[Ledger], key: &str, bytes: &[u8]) -> Option<String> {
    // Markers of directories, and what a folder keeps out of sight until it is whole.
    if key.ends_with('/') || key.starts_with(STAGING) || key.starts_with(PROBES) {
        return None;
    }
    let name = key.strip_suffix(ASIDE).unwrap_or(key);
    for ledger in ledgers {
        if let Some(log) = ledger.logs.get(name) {
            let whole = log.may_be(bytes);
            return (!whole).then(|| format!("object {key}: a torn log"));
        }
        if let Some(table) = ledger.tables.get(name) {
            let mut pages = bytes.chunks(content::PAGE).zip(0..);
            let whole =
                pages.all(|(page, number)| content::count_of(table.seed, number, page).is_some());
            return (!whole).then(|| format!("object {key}: a torn table"));
        }
        let Some(history) = ledger.paths.get(name) else {
            continue;
        };
        return match version_of(ledger, bytes) {
            Some(version) if history.ever.contains(&version) => None,
            Some(version) => Some(format!(
                "object {key}: version {version:x} never had this name"
            )),
            // The program that wrote it was told that its write failed.
            None if ledger.crash == Crash::Kill && is_prefix(history, bytes) => None,
            None => Some(format!("object {key}: {}", torn(bytes))),
        };
    }
    Some(format!("object {key}: nobody made it"))
}

fn is_prefix(history: &History, bytes: &[u8]) -> bool {
    let mut versions = history.ever.iter();
    versions.any(|number| {
        content::version(*number, bytes.len().max(VERSION_BYTES_MIN)).starts_with(bytes)
    })
}

/// What is in the store, against what is on the mount when all of it is said to be there.
pub fn judge_store(
    found: &Found,
    objects: &BTreeMap<String, Vec<u8>>,
    ledgers: &mut [Ledger],
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expected: BTreeMap<&String, &Vec<u8>> = BTreeMap::new();
    for (path, thing) in &found.tree {
        if let Thing::File(bytes) = thing {
            expected.insert(path, bytes);
        }
    }
    for (path, bytes) in &expected {
        match objects.get(*path) {
            Some(object) if object == *bytes => {}
            Some(object) => wrong.push(format!(
                "{path}: {} bytes on the mount, another object of {} bytes",
                bytes.len(),
                object.len()
            )),
            // A hard link is one object under one of its names.
            None if objects.values().any(|object| object == *bytes) => {}
            None => wrong.push(format!("{path}: not in the store after `fused sync`")),
        }
    }
    for key in objects.keys() {
        let hidden = key.ends_with('/') || key.starts_with(STAGING);
        if !hidden && !expected.contains_key(key) {
            let of = ledgers
                .iter_mut()
                .find(|ledger| ledger.paths.contains_key(key));
            match of.filter(|_| !is_strict()) {
                Some(ledger) => ledger.litter += 1,
                None => wrong.push(format!("object {key}: no such file on the mount")),
            }
        }
    }
    wrong
}

mod attributes {
    //! Extended attributes by the usual tools: the standard library has none.

    use super::{Command, Duration, Path, io, run};

    const LIMIT: Duration = Duration::from_secs(60);

    pub(super) fn set(path: &Path, name: &str, value: &str) -> io::Result<()> {
        let mut command = Command::new("setfattr");
        let done = run(command.args(["-n", name, "-v", value]).arg(path), LIMIT);
        match done.status.is_some_and(|status| status.success()) {
            true => Ok(()),
            false => Err(io::Error::other(done.to_string())),
        }
    }

    pub(super) fn get(path: &Path, name: &str) -> Option<String> {
        let mut command = Command::new("getfattr");
        command.args(["--absolute-names", "--only-values", "-n", name]);
        let done = run(command.arg(path), LIMIT);
        let found = done.status.is_some_and(|status| status.success());
        found.then_some(done.stdout)
    }
}
