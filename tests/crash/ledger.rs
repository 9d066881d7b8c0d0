//! What one worker did, and what of it was acknowledged: kept outside of the mount.
//!
//! Each path has a history of states. A state is written down before the call that makes it, so that
//! the newest may or may not be there. The *floor* is the oldest state that a crash may leave; an
//! acknowledgement that promises something raises it. What may be found under a path after a crash is
//! any state from the floor on, always complete. That is stricter than a look at the newest version:
//! it finds what is lost, and also what comes back from the dead.
//!
//! The two kinds of crash differ only in what raises the floor: each acknowledged call for a killed
//! daemon, fsync for a power cut.

use std::collections::{BTreeMap, BTreeSet};

use crate::special::{Log, Table};

/// What the crash of this test spares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The daemon is killed: the page cache stays, everything acknowledged counts.
    Kill,
    /// The power fails: what was synced counts.
    PowerCut,
}

/// Whether the known gaps count as errors: `CRASH_STRICT` is set.
pub fn is_strict() -> bool {
    std::env::var_os("CRASH_STRICT").is_some()
}

/// What can be under a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Absent,
    Directory,
    /// A symbolic link and where it leads.
    Link(String),
    /// An extended attribute (`PATH#NAME` is its path) and its value.
    Attribute(String),
    /// The mode of a file (`PATH#mode` is its path).
    Mode(u32),
    /// A regular file that holds this version.
    File(u64),
}

/// The history of a path since its last check.
#[derive(Debug, Clone)]
pub struct History {
    pub states: Vec<State>,
    /// The oldest state that a crash may leave.
    pub floor: usize,
    /// Every version ever written under this name: the store may still have any of them.
    pub ever: BTreeSet<u64>,
    /// A truncating open came after the versions before it; see [`Ledger::begin_truncated`].
    pub cut_off: bool,
}

impl History {
    fn new(state: State) -> Self {
        Self {
            states: vec![state],
            floor: 0,
            ever: BTreeSet::new(),
            cut_off: false,
        }
    }

    /// The newest state.
    pub fn last(&self) -> &State {
        self.states.last().expect("never empty")
    }

    /// What a crash may leave.
    pub fn allowed(&self) -> &[State] {
        &self.states[self.floor..]
    }

    /// Whether a crash may leave this.
    pub fn allows(&self, state: &State) -> bool {
        let forgotten = match state {
            State::Absent => true,
            State::File(version) => self.ever.contains(version),
            _ => false,
        };
        self.allowed().contains(state) || (self.cut_off && forgotten)
    }

    /// Whether the newest state was begun and not acknowledged.
    pub fn is_pending(&self) -> bool {
        self.floor + 1 < self.states.len()
    }
}

/// A version of a file.
#[derive(Debug, Clone)]
pub struct Version {
    pub len: usize,
    /// Bytes that write(2) has acknowledged.
    pub written: usize,
    /// Its bytes survive the crash.
    pub safe: bool,
    /// Somebody has begun to remove or replace it.
    pub given_up: bool,
    /// It has more than one name.
    pub linked: bool,
}

/// What one worker did.
#[derive(Debug, Clone)]
pub struct Ledger {
    pub crash: Crash,
    pub paths: BTreeMap<String, History>,
    pub versions: BTreeMap<u64, Version>,
    pub logs: BTreeMap<String, Log>,
    pub tables: BTreeMap<String, Table>,
    pub calls: u64,
    /// Removed files and objects found again; see `check`.
    pub litter: u64,
    next_version: u64,
}

impl Ledger {
    /// An empty one. Workers number their versions apart from each other.
    pub fn new(crash: Crash, worker: usize) -> Self {
        Self {
            crash,
            paths: BTreeMap::new(),
            versions: BTreeMap::new(),
            logs: BTreeMap::new(),
            tables: BTreeMap::new(),
            calls: 0,
            litter: 0,
            next_version: (worker as u64 + 1) << 40,
        }
    }

    /// A version of this length that nobody has written yet.
    pub fn new_version(&mut self, len: usize) -> u64 {
        self.next_version += 1;
        let version = Version {
            len,
            written: 0,
            safe: false,
            given_up: false,
            linked: false,
        };
        self.versions.insert(self.next_version, version);
        self.next_version
    }

    /// The newest state of a path.
    pub fn state(&self, path: &str) -> State {
        self.paths
            .get(path)
            .map_or(State::Absent, |history| history.last().clone())
    }

    /// A call is about to give a path this state.
    pub fn begin(&mut self, path: &str, state: State) {
        let history = self
            .paths
            .entry(path.to_owned())
            .or_insert_with(|| History::new(State::Absent));
        if let State::File(version) = history.last()
            && *history.last() != state
        {
            let version = *version;
            self.versions.get_mut(&version).expect("known").given_up = true;
        }
        if let State::File(version) = &state {
            history.ever.insert(*version);
        }
        history.states.push(state);
    }

    /// O_TRUNC is about to begin a new version in the place of another.
    ///
    /// A synced version that it ends comes back if the new one is torn, with one gap: where several unsynced
    /// versions followed by O_TRUNC and rename, and one of them had just become the object, a power cut may leave
    /// an older version or none. With `CRASH_STRICT` set that is an error.
    pub fn begin_truncated(&mut self, path: &str, version: u64) {
        self.begin(path, State::File(version));
        if self.crash == Crash::PowerCut && !is_strict() {
            self.paths.get_mut(path).expect("just begun").cut_off = true;
        }
    }

    /// A rename is about to move what a path holds; unlike removing it, that gives nothing up.
    pub fn begin_move(&mut self, from: &str, to: &str) {
        let state = self.state(from);
        self.begin(to, state.clone());
        self.begin(from, State::Absent);
        if let State::File(version) = state {
            self.versions.get_mut(&version).expect("known").given_up = false;
        }
    }

    /// The call that began with these paths has returned.
    pub fn acknowledged(&mut self, paths: &[&str]) {
        self.calls += 1;
        if self.crash == Crash::Kill {
            for path in paths {
                self.raise(path);
                self.make_safe(path);
            }
        }
    }

    /// write(2) has taken the first `written` bytes of a version.
    pub fn written(&mut self, version: u64, written: usize) {
        self.calls += 1;
        self.versions.get_mut(&version).expect("known").written = written;
    }

    /// fsync(2) of a file has returned: its bytes, size, attributes and the names on the way to it.
    pub fn file_synced(&mut self, path: &str) {
        self.calls += 1;
        self.make_safe(path);
        self.raise(path);
        let attributes = format!("{path}#");
        let own: Vec<_> = self.below(&attributes);
        for path in own {
            self.raise(&path);
        }
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            above = parent;
            // The directory is there; what else happened to other names is not said.
            if self.paths.contains_key(above) {
                self.raise(above);
            }
        }
    }

    /// fsync(2) of a directory has returned: the names in it, where their bytes are not needed.
    pub fn directory_synced(&mut self, directory: &str) {
        self.calls += 1;
        let prefix = format!("{directory}/");
        for path in self.below(&prefix) {
            let name = &path[prefix.len()..];
            if name.contains('/') || name.contains('#') {
                continue;
            }
            let versions = &self.versions;
            let history = self.paths.get_mut(&path).expect("listed");
            // A version without its bytes may fall back to what was before; to no more than that.
            let lasting = |state: &State| match state {
                State::File(version) => versions[version].safe,
                _ => true,
            };
            if let Some(at) = history.states.iter().rposition(lasting) {
                history.floor = history.floor.max(at);
            }
        }
    }

    fn make_safe(&mut self, path: &str) {
        if let State::File(version) = self.state(path) {
            self.versions.get_mut(&version).expect("known").safe = true;
        }
    }

    fn raise(&mut self, path: &str) {
        let history = self.paths.get_mut(path).expect("a path that was begun");
        history.floor = history.states.len() - 1;
        history.cut_off = false;
    }

    /// The known paths that begin so.
    pub fn below(&self, prefix: &str) -> Vec<String> {
        let from = self.paths.range(prefix.to_owned()..);
        from.map(|(path, _)| path)
            .take_while(|path| path.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// The known paths directly in a directory whose newest state is a file.
    pub fn files_in(&self, directory: &str) -> Vec<String> {
        let prefix = format!("{directory}/");
        let mut paths = self.below(&prefix);
        paths.retain(|path| {
            !path[prefix.len()..].contains(['/', '#'])
                && matches!(self.paths[path].last(), State::File(_))
        });
        paths
    }
}
