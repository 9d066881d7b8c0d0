//! What all parts of a world share: its dice, its weather, the moment at which the daemon dies, and the trace.
//!
//! Every request to the store, every call of the journal's store and every call of a program passes
//! [`World::point`]. There time may pass, others may come first, and the daemon may die.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::dice::Dice;
use crate::machine;

/// Lines of the trace that are shown after a failure.
const SHOWN: usize = 150;

tokio::task_local! {
    /// Whoever checks the world meets no faults, nor dies of it.
    pub static CHECKING: ();
}

/// How often what goes wrong, in thousandths of all requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Refused before anything was done.
    pub refused: u64,
    /// Done, and the answer is lost.
    pub unheard: u64,
    /// The asker hears of an error, and later it is done all the same.
    pub late: u64,
    /// Of errors, those that are no answer at all.
    pub silent: u64,
    /// A body that breaks off.
    pub short: u64,
    /// The store is away for a while from now on.
    pub outage: u64,
    /// Requests and calls that take their time.
    pub slow: u64,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Done,
    Refused,
    Unheard,
    Late,
}

/// A file, for good: which program's, and which of its own.
pub type File = (usize, u32);

/// A world, and what it remembers of itself.
pub struct World {
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    weather: Weather,
    away_until: Duration,
    points: u64,
    dies_at: Option<u64>,
    is_dead: bool,
    /// Of the daemon that lives now.
    death: Arc<Notify>,
    trace: VecDeque<String>,
    /// Each line goes to standard error at once.
    is_loud: bool,
    hash: u64,
    lines: u64,
    /// Which files ever had a path, and what they ever were at a close.
    files: BTreeMap<String, BTreeSet<File>>,
    versions: BTreeSet<(File, u64)>,
}

impl World {
    /// A new one, in fair weather.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                dice: Dice::new(seed),
                weather: Weather::default(),
                away_until: Duration::ZERO,
                points: 0,
                dies_at: None,
                is_dead: false,
                death: Arc::default(),
                trace: VecDeque::new(),
                is_loud: std::env::var_os("SIMULATION_TRACE").is_some(),
                hash: 0xcbf2_9ce4_8422_2325,
                lines: 0,
                files: BTreeMap::new(),
                versions: BTreeSet::new(),
            }),
        })
    }

    /// Asks the dice.
    pub fn dice<T>(&self, ask: impl FnOnce(&mut Dice) -> T) -> T {
        ask(&mut self.state.lock().dice)
    }

    /// Changes the weather.
    pub fn set_weather(&self, weather: Weather) {
        let mut state = self.state.lock();
        state.weather = weather;
        state.away_until = Duration::ZERO;
    }

    /// Whether anything can go wrong.
    pub fn is_fair(&self) -> bool {
        let weather = self.state.lock().weather;
        weather.refused + weather.unheard + weather.late + weather.short + weather.outage == 0
    }

    /// A daemon begins that is to die after so many points. Tells when.
    pub fn dies_after(&self, points: Option<u64>) -> Arc<Notify> {
        let mut state = self.state.lock();
        state.is_dead = false;
        state.dies_at = points.map(|points| state.points + points);
        state.death = Arc::default();
        Arc::clone(&state.death)
    }

    /// Points passed.
    pub fn points(&self) -> u64 {
        self.state.lock().points
    }

    /// A line of the trace.
    pub fn say(&self, line: impl FnOnce() -> String) {
        let line = format!("{:>14.6} {}", machine::age().as_secs_f64(), line());
        let mut state = self.state.lock();
        for byte in line.bytes() {
            state.hash = (state.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        state.lines += 1;
        if state.is_loud {
            eprintln!("{line}");
        }
        if state.trace.len() == SHOWN {
            state.trace.pop_front();
        }
        state.trace.push_back(line);
    }

    /// What happened, in a number, and how many lines it had.
    pub fn trace_hash(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.hash, state.lines)
    }

    /// The end of the trace, if nobody is just writing it.
    pub fn trace(&self) -> String {
        match self.state.try_lock() {
            Some(state) => Vec::from_iter(state.trace.iter().map(String::as_str)).join("\n"),
            None => "the trace is being written".to_owned(),
        }
    }

    /// A place where the daemon may die, and which takes no time.
    pub async fn mortal_point(&self) {
        if CHECKING.try_with(|()| ()).is_err() && self.dies_here() {
            std::future::pending::<()>().await;
        }
    }

    fn dies_here(&self) -> bool {
        let mut state = self.state.lock();
        state.points += 1;
        state.is_dead |= state.dies_at.is_some_and(|at| state.points >= at);
        if state.is_dead {
            state.death.notify_one();
        }
        state.is_dead
    }

    /// A place where others may come first, time may pass, and the daemon may die.
    pub async fn point(&self, longest: Duration) {
        if CHECKING.try_with(|()| ()).is_ok() {
            return;
        }
        self.mortal_point().await;
        let (yields, sleep) = {
            let mut state = self.state.lock();
            let slow = state.weather.slow;
            let sleep = state.dice.chance(slow);
            let micros = longest.as_micros() as u64;
            let sleep = sleep.then(|| state.dice.any_magnitude(micros));
            (state.dice.below(3), sleep)
        };
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        if let Some(micros) = sleep {
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
    }

    /// What becomes of a request that is sent now, and whether an error is no answer at all.
    pub fn fate(&self) -> (Fate, bool) {
        if CHECKING.try_with(|()| ()).is_ok() {
            return (Fate::Done, false);
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        let (weather, dice) = (state.weather, &mut state.dice);
        let silent = dice.chance(weather.silent);
        if dice.chance(weather.outage) {
            state.away_until = machine::age() + Duration::from_millis(dice.any_magnitude(120_000));
        }
        if machine::age() < state.away_until {
            return (Fate::Refused, silent);
        }
        let roll = dice.below(1000);
        let fate = [
            (Fate::Refused, weather.refused),
            (Fate::Unheard, weather.unheard),
            (Fate::Late, weather.late),
        ];
        let mut below = 0;
        for (fate, permille) in fate {
            below += permille;
            if roll < below {
                return (fate, silent);
            }
        }
        (Fate::Done, silent)
    }

    /// Whether this body breaks off.
    pub fn breaks_off(&self) -> bool {
        if CHECKING.try_with(|()| ()).is_ok() {
            return false;
        }
        let mut state = self.state.lock();
        let short = state.weather.short;
        state.dice.chance(short)
    }

    /// This file has, or may have by now, this path.
    pub fn has_path(&self, file: File, key: &str) {
        let mut state = self.state.lock();
        match state.files.get_mut(key) {
            Some(files) => {
                files.insert(file);
            }
            None => {
                state.files.insert(key.to_owned(), BTreeSet::from([file]));
            }
        }
    }

    /// These bytes are a complete version of this file.
    pub fn is_version(&self, file: File, bytes: &[u8]) {
        let mut state = self.state.lock();
        state.versions.insert((file, hash(bytes)));
    }

    /// Panics unless these bytes were ever a complete version of a file that had this path.
    #[track_caller]
    pub fn check_version(&self, key: &str, bytes: &[u8]) {
        let state = self.state.lock();
        let hash = hash(bytes);
        let mut files = state.files.get(key).into_iter().flatten();
        let is_known = files.any(|file| state.versions.contains(&(*file, hash)));
        drop(state);
        assert!(
            is_known,
            "{} bytes that no file at '{key}' ever was, at any close: {}",
            bytes.len(),
            outline(bytes)
        );
    }
}

/// FNV-1a over words, for telling contents apart.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    hash
}

/// Which writes these bytes are of: each fills its range with one letter.
pub fn outline(bytes: &[u8]) -> String {
    let mut runs: Vec<(u8, usize)> = Vec::new();
    for byte in bytes {
        match runs.last_mut() {
            Some((last, count)) if last == byte => *count += 1,
            _ => runs.push((*byte, 1)),
        }
    }
    let runs: Vec<String> = runs
        .iter()
        .take(20)
        .map(|(byte, count)| format!("{byte:02x}*{count}"))
        .collect();
    runs.join(" ")
}
