//! The journal's store, in memory: versions, conflicts and unknown outcomes. Committed transactions survive the
//! daemon.
//!
//! It is one of two kinds. As the embedded store it answers at once, and alone syncing takes time; a power cut takes
//! the last of what was not synced. As FoundationDB every call takes time, transactions meet, and outcomes may
//! stay unknown; a commit is safe elsewhere.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use journal::kv::{KvError, KvStore, Mode, Range, Row, Transaction, limits};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::machine;
use crate::world::World;

const READ: Duration = Duration::from_millis(3);
const COMMIT: Duration = Duration::from_millis(10);
const SYNC: Duration = Duration::from_millis(200);
/// Outcomes that stay unknown, in thousandths of all commits.
const UNKNOWN: u64 = 20;
/// Commits remembered for transactions that began before them.
const WINDOW: usize = 4096;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Embedded,
    Distributed,
}

#[derive(Clone, Debug)]
enum Write {
    Set(Vec<u8>, Vec<u8>),
    Clear(Vec<u8>),
    ClearRange(Vec<u8>, Vec<u8>),
    Add(Vec<u8>, i64),
}

/// The disk below the journal. Survives the daemon.
pub struct Disk {
    kind: Kind,
    world: Arc<World>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: Arc<Rows>,
    version: u64,
    /// What the last commits wrote.
    recent: Vec<(u64, Arc<Vec<Write>>)>,
    watchers: Vec<(Vec<u8>, oneshot::Sender<()>)>,
    /// What a power cut leaves in any case, and the commits since.
    durable: Rows,
    unsynced: VecDeque<(u64, Arc<Vec<Write>>)>,
}

impl State {
    /// Everything up to this version is on the disk.
    fn synced(&mut self, version: u64) {
        let count = self.unsynced.partition_point(|(of, _)| *of <= version);
        for (_, writes) in self.unsynced.drain(..count) {
            writes
                .iter()
                .for_each(|write| apply(&mut self.durable, write));
        }
    }
}

/// The store, as the journal sees it.
#[derive(Clone)]
pub struct Store(pub Arc<Disk>);

impl Disk {
    /// An empty one.
    pub fn new(kind: Kind, world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self {
            kind,
            world: Arc::clone(world),
            state: Mutex::default(),
        })
    }

    /// How many transactions were committed.
    pub fn version(&self) -> u64 {
        self.state.lock().version
    }

    /// The power goes. Of what was not synced, the last commits may be lost: some of them, all, or none. The version
    /// that is left.
    pub fn cut(&self) -> u64 {
        let mut state = self.state.lock();
        let unsynced = state.unsynced.len() as u64;
        let lost = match self.world.dice(|dice| dice.below(3)) {
            0 => unsynced,
            _ => self.world.dice(|dice| dice.below(unsynced + 1)),
        };
        let left = (unsynced - lost) as usize;
        let first_lost = state.unsynced.get(left).map(|(version, _)| *version);
        state.unsynced.truncate(left);
        let version = first_lost.map_or(state.version, |lost| lost - 1);
        state.synced(version);
        state.rows = Arc::new(state.durable.clone());
        state.recent.clear();
        drop(state);
        self.world.say(|| {
            format!("a power cut: of {unsynced} commits that were not synced {lost} are lost")
        });
        version
    }
}

fn apply(rows: &mut Rows, write: &Write) {
    match write {
        Write::Set(key, value) => {
            rows.insert(key.clone(), value.clone());
        }
        Write::Clear(key) => {
            rows.remove(key);
        }
        Write::ClearRange(begin, end) => {
            let keys: Vec<_> = range_of(rows, begin, end)
                .map(|(key, _)| key.clone())
                .collect();
            for key in keys {
                rows.remove(&key);
            }
        }
        Write::Add(key, delta) => {
            let number = |bytes: &Vec<u8>| bytes.as_slice().try_into().ok().map(i64::from_le_bytes);
            let before = rows.get(key).and_then(number).unwrap_or(0);
            rows.insert(
                key.clone(),
                before.wrapping_add(*delta).to_le_bytes().to_vec(),
            );
        }
    }
}

fn range_of<'r>(
    rows: &'r Rows,
    begin: &[u8],
    end: &[u8],
) -> impl DoubleEndedIterator<Item = (&'r Vec<u8>, &'r Vec<u8>)> + use<'r> {
    let empty = begin >= end;
    let bounds = match empty {
        true => (Bound::Included(Vec::new()), Bound::Excluded(Vec::new())),
        false => (
            Bound::Included(begin.to_vec()),
            Bound::Excluded(end.to_vec()),
        ),
    };
    rows.range(bounds)
}

fn touches(write: &Write, begin: &[u8], end: &[u8]) -> bool {
    match write {
        Write::Set(key, _) | Write::Clear(key) | Write::Add(key, _) => {
            begin <= key.as_slice() && key.as_slice() < end
        }
        Write::ClearRange(from, to) => from.as_slice() < end && begin < to.as_slice(),
    }
}

fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

impl Store {
    async fn pass(&self, longest: Duration) {
        match self.0.kind {
            Kind::Distributed => self.0.world.point(longest).await,
            Kind::Embedded => self.0.world.mortal_point().await,
        }
    }
}

#[async_trait]
impl KvStore for Store {
    fn begin(&self, mode: Mode) -> Result<Box<dyn Transaction>, KvError> {
        let state = self.0.state.lock();
        Ok(Box::new(Open {
            store: self.clone(),
            mode,
            rows: Some(Arc::clone(&state.rows)),
            version: state.version,
            began: machine::age(),
            reads: Vec::new(),
            writes: Vec::new(),
            own: None,
        }))
    }

    async fn sync(&self) -> Result<(), KvError> {
        let version = self.0.state.lock().version;
        self.0.world.point(SYNC).await;
        self.0.state.lock().synced(version);
        Ok(())
    }

    fn watch(&self, key: &[u8]) -> BoxFuture<'static, Result<(), KvError>> {
        let (tell, told) = oneshot::channel();
        self.0.state.lock().watchers.push((key.to_vec(), tell));
        Box::pin(async move {
            // A sender that is gone may have changed it.
            let _ = told.await;
            Ok(())
        })
    }

    fn poisoned(&self) -> Option<String> {
        None
    }

    fn has_unknown_outcomes(&self) -> bool {
        self.0.kind == Kind::Distributed
    }
}

struct Open {
    store: Store,
    mode: Mode,
    /// As they were when it began; `None` once it is over.
    rows: Option<Arc<Rows>>,
    version: u64,
    began: Duration,
    reads: Vec<(Vec<u8>, Vec<u8>)>,
    writes: Vec<Write>,
    /// With its own writes, once somebody asked.
    own: Option<Rows>,
}

impl Open {
    fn rows(&mut self) -> &Rows {
        static NONE: Rows = Rows::new();
        let base = self.rows.as_deref().unwrap_or(&NONE);
        if self.writes.is_empty() {
            return base;
        }
        self.own.get_or_insert_with(|| {
            let mut rows = base.clone();
            self.writes.iter().for_each(|write| apply(&mut rows, write));
            rows
        })
    }

    /// The value of one key with its own writes, without making a copy of everything.
    fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut value = self.rows.as_ref().and_then(|rows| rows.get(key).cloned());
        for write in &self.writes {
            if touches(write, key, &after(key)) {
                let mut one = Rows::new();
                value.take().map(|value| one.insert(key.to_vec(), value));
                apply(&mut one, write);
                value = one.remove(key);
            }
        }
        value
    }

    fn write(&mut self, write: Write) {
        if let Some(own) = &mut self.own {
            apply(own, &write);
        }
        self.writes.push(write);
    }

    fn note(&mut self, begin: &[u8], end: &[u8], snapshot: bool) {
        if !snapshot && self.mode != Mode::Read {
            self.reads.push((begin.to_vec(), end.to_vec()));
        }
    }

    fn check_age(&self) -> Result<(), KvError> {
        match machine::age().saturating_sub(self.began) > limits::TRANSACTION_AGE_MAX {
            true => Err(KvError::TooOld),
            false => Ok(()),
        }
    }

    fn check_limits(&self) -> Result<(), KvError> {
        let mut bytes = 0;
        for write in &self.writes {
            let (key, value) = match write {
                Write::Set(key, value) => (key, value.len()),
                Write::Clear(key) | Write::Add(key, _) => (key, 8),
                Write::ClearRange(begin, end) => (begin, end.len()),
            };
            if key.len() > limits::KEY_BYTES_MAX || value > limits::VALUE_BYTES_MAX {
                return Err(KvError::Limit("a row of that size"));
            }
            bytes += key.len() + value;
        }
        match bytes > limits::TRANSACTION_BYTES_MAX {
            true => Err(KvError::Limit("a transaction of that size")),
            false => Ok(()),
        }
    }

    fn conflicts(&self, state: &State) -> bool {
        let since = state
            .recent
            .partition_point(|(version, _)| *version <= self.version);
        let mut since = state.recent[since..].iter();
        since.any(|(_, writes)| {
            let mut reads = self.reads.iter();
            reads.any(|(begin, end)| writes.iter().any(|write| touches(write, begin, end)))
        })
    }

    fn apply(&mut self) -> Result<(), KvError> {
        // Or the rows would be copied for nobody.
        (self.rows, self.own) = (None, None);
        let mut state = self.store.0.state.lock();
        if self.conflicts(&state) {
            return Err(KvError::Conflict);
        }
        let writes = Arc::new(std::mem::take(&mut self.writes));
        let rows = Arc::make_mut(&mut state.rows);
        writes.iter().for_each(|write| apply(rows, write));
        state.version += 1;
        let version = state.version;
        if state.recent.len() >= WINDOW {
            state.recent.drain(..WINDOW / 2);
        }
        state.recent.push((version, Arc::clone(&writes)));
        state.unsynced.push_back((version, Arc::clone(&writes)));
        if self.store.0.kind == Kind::Distributed {
            state.synced(version);
        }
        let told = |key: &[u8]| writes.iter().any(|write| touches(write, key, &after(key)));
        state
            .watchers
            .retain(|(key, tell)| !tell.is_closed() && !told(key));
        Ok(())
    }
}

#[async_trait]
impl Transaction for Open {
    async fn get(&mut self, key: &[u8], snapshot: bool) -> Result<Option<Vec<u8>>, KvError> {
        if self.store.0.kind == Kind::Distributed {
            self.store.pass(READ).await;
        }
        self.check_age()?;
        self.note(key, &after(key), snapshot);
        Ok(self.value(key))
    }

    async fn range(&mut self, range: Range<'_>, snapshot: bool) -> Result<Vec<Row>, KvError> {
        if self.store.0.kind == Kind::Distributed {
            self.store.pass(READ).await;
        }
        self.check_age()?;
        let (begin, end) = (range.begin, range.end);
        let clone = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        let all = range_of(self.rows(), begin, end);
        let rows: Vec<Row> = match range.reverse {
            true => all.rev().take(range.limit).map(clone).collect(),
            false => all.take(range.limit).map(clone).collect(),
        };
        match rows.last().filter(|_| rows.len() == range.limit) {
            Some((last, _)) if range.reverse => self.note(last, end, snapshot),
            Some((last, _)) => self.note(begin, &after(last), snapshot),
            None => self.note(begin, end, snapshot),
        }
        Ok(rows)
    }

    fn set(&mut self, key: &[u8], value: Vec<u8>) {
        self.write(Write::Set(key.to_vec(), value));
    }

    fn clear(&mut self, key: &[u8]) {
        self.write(Write::Clear(key.to_vec()));
    }

    fn clear_range(&mut self, begin: &[u8], end: &[u8]) {
        self.write(Write::ClearRange(begin.to_vec(), end.to_vec()));
    }

    fn atomic_add(&mut self, key: &[u8], delta: i64) {
        self.write(Write::Add(key.to_vec(), delta));
    }

    async fn commit(mut self: Box<Self>) -> Result<(), KvError> {
        if self.writes.is_empty() {
            return Ok(());
        }
        if self.mode == Mode::Read {
            return Err(KvError::Limit("writes in a transaction that only reads"));
        }
        self.store.pass(COMMIT).await;
        self.check_age()?;
        self.check_limits()?;
        let disk = Arc::clone(&self.store.0);
        let unknown =
            disk.kind == Kind::Distributed && disk.world.dice(|dice| dice.chance(UNKNOWN));
        if unknown && disk.world.dice(|dice| dice.chance(500)) {
            disk.world
                .say(|| "commit: not done, and not heard".to_owned());
            return Err(KvError::UnknownOutcome);
        }
        let count = self.writes.len();
        let applied = self.apply();
        disk.world
            .say(|| format!("commit of {count}: {applied:?}, heard: {}", !unknown));
        applied?;
        self.store.pass(COMMIT).await;
        match unknown {
            true => Err(KvError::UnknownOutcome),
            false => Ok(()),
        }
    }
}
