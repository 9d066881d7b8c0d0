//! Rounds of work, crash, restart and check on one store and one cache directory.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Cache, Mount, MountOptions, Store};
use nix::errno::Errno;

use crate::check::{Found, judge_object, judge_store, look_at};
use crate::content::Dice;
use crate::image::{Image, Kind};
use crate::ledger::{Crash, Ledger};
use crate::workload::{Doom, Ended, Habit, Manners, Worker};

const IMAGE_BYTES: u64 = 2 << 30;
const WORKERS: usize = 4;

/// The crash comes this long after the work began, at most.
const WORK_MS_MAX: usize = 700;

/// A daemon that is to die when it comes to a point for the so-many-th time may take this long; then it is tried
/// with the first time, which a slow machine may need this long for.
const TURN_LIMIT: Duration = Duration::from_secs(3);
const FIRST_TURN_LIMIT: Duration = Duration::from_secs(60);

/// It dies when it comes there for the so-many-th time, at most.
const TURNS_MAX: usize = 8;

/// How long a thread of ours may be stuck in a dead file system.
const STUCK_LIMIT: Duration = Duration::from_secs(90);

/// What the doctor may say of bytes that a power cut took.
const TORN: [&str; 6] = [
    "bytes-missing",
    "bytes-short",
    "bytes-changed",
    "copy-damaged",
    "former-missing",
    "unnamed-extents",
];

/// Complaints of one round that are worth printing.
const SHOWN: usize = 12;

/// What kind of rounds.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// A power cut of an image of this kind; None: the daemon is killed.
    pub image: Option<Kind>,
    /// Like `passthrough=auto`.
    pub passthrough: &'static str,
    /// Like `settle=0s`.
    pub settle: &'static str,
    /// Into a bucket, not a folder.
    pub bucket: bool,
    /// Cache directories, one or two.
    pub directories: usize,
    /// The daemon ends itself before and after these (see `killpoints`), each in its turn; none: at any instant.
    pub points: &'static [&'static str],
    /// Crashes; `CRASH_ROUNDS` overrides it.
    pub rounds: usize,
}

/// What the rounds came to.
#[derive(Debug, Default)]
struct Tally {
    calls: u64,
    files: u64,
    torn: usize,
    litter: u64,
    checks: Duration,
    starts: usize,
}

impl Plan {
    /// Does all of it; panics with what was wrong after the first crash that broke a promise.
    #[track_caller]
    pub fn run(self) {
        let seed = number_in("CRASH_SEED").unwrap_or_else(random_seed);
        let rounds = number_in("CRASH_ROUNDS").map_or(self.rounds, |rounds| rounds as usize);
        eprintln!("CRASH_SEED={seed} {self:?}");
        let store = match self.bucket {
            true => Store::seaweedfs(),
            false => Store::folder(),
        };
        let mut rounds = Rounds::new(self, store, seed, rounds);
        rounds.run();
    }
}

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn random_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Dice::new(since.expect("after 1970").as_nanos() as u64).next()
}

/// Where the daemon ends itself.
struct Point {
    /// `before` or `after`, and a name.
    name: String,
    /// When it comes there for the so-many-th time.
    turn: usize,
}

struct Rounds {
    plan: Plan,
    /// Points that a round is yet to be made with.
    due: VecDeque<Point>,
    count: usize,
    seed: u64,
    dice: Dice,
    store: Store,
    ledgers: Vec<Ledger>,
    tally: Tally,
    caches: [Cache; 2],
    /// Last, for the mount on it goes first.
    image: Option<Image>,
}

impl Rounds {
    fn new(plan: Plan, store: Store, seed: u64, count: usize) -> Self {
        let crash = match plan.image {
            Some(_) => Crash::PowerCut,
            None => Crash::Kill,
        };
        let mut dice = Dice::new(seed);
        let due = (0..count).filter_map(|round| {
            let name = plan.points.get(round / 2 % plan.points.len().max(1))?;
            Some(Point {
                name: format!("{} {name}", ["before", "after"][round % 2]),
                turn: 1 + dice.below(TURNS_MAX),
            })
        });
        Self {
            due: due.collect(),
            plan,
            count,
            seed,
            dice,
            store,
            ledgers: (0..WORKERS).map(|nr| Ledger::new(crash, nr)).collect(),
            tally: Tally::default(),
            caches: [Cache::new(), Cache::new()],
            image: plan.image.map(|kind| Image::new(kind, IMAGE_BYTES)),
        }
    }

    fn options(&self) -> MountOptions {
        let options = Mount::of(&self.store)
            .cache(&self.caches[0])
            .option(self.plan.passthrough)
            .option(self.plan.settle);
        // Or the store is listed once, at the start.
        let options = match self.plan.points.is_empty() {
            true => options,
            false => options.option("revalidate=1s"),
        };
        let places = self.cache_dirs();
        let places: Vec<_> = places.iter().map(|place| place.to_str().unwrap()).collect();
        options.option(format!("cache_dir={}", places.join(":")))
    }

    fn cache_dirs(&self) -> Vec<PathBuf> {
        let all = match &self.image {
            Some(image) => ["cache", "further"].map(|name| image.path().join(name)),
            None => self.caches.each_ref().map(|cache| cache.path().to_owned()),
        };
        all[..self.plan.directories].to_vec()
    }

    fn run(&mut self) {
        let began = Instant::now();
        let mut mount = self.options().start();
        for number in 0..WORKERS {
            fs::create_dir(mount.join(format!("w{number}"))).expect("a new folder");
        }
        mount.sync();
        let mut round = 0;
        while round < self.count || !self.due.is_empty() {
            self.round(mount, round);
            self.check_objects(round);
            self.examine(round);
            mount = self.options().start();
            self.tally.torn += mount.log().matches("lost in a power cut").count();
            let look = Instant::now();
            self.check(&mount, round);
            self.tally.checks += look.elapsed();
            // Shown when a test fails or hangs.
            let (calls, files) = (self.tally.calls, self.tally.files);
            eprintln!(
                "crash {round} at {:.1?}: {calls} calls, {files} files so far",
                began.elapsed()
            );
            round += 1;
        }
        mount.unmount().is_sound(&[]);
        let Tally {
            calls,
            files,
            torn,
            litter,
            checks,
            starts,
        } = &self.tally;
        eprintln!(
            "{round} crashes in {:.1?} (checks {checks:.1?}): {calls} acknowledged calls, {files} files looked \
             at, {torn} versions lost that nobody had synced, {litter} removed ones found again, {starts} \
             starts interrupted; {:?}",
            began.elapsed(),
            self.plan
        );
    }

    /// One crash, under load or, where its point is passed by then, at the start.
    fn round(&mut self, mount: Mount, round: usize) {
        let Some(point) = self.due.pop_front() else {
            self.crash(mount, round, None);
            return;
        };
        drop(mount.crash());
        let at = format!("{}:{}", point.name, point.turn);
        eprintln!("the next one dies {at}");
        match self.options().env("FUSED_KILL_AT", &at).try_start() {
            Ok(mount) => self.crash(mount, round, Some(point)),
            Err(failed) if failed.code.is_none() => self.tally.starts += 1,
            Err(failed) => panic!("no mount: {failed:?}"),
        }
    }

    /// Waits for the instant of the crash, or until the daemon has ended itself.
    fn await_crash(&mut self, mount: &mut Mount, point: Option<Point>) {
        let Some(point) = point else {
            let millis = 5 + self.dice.below(WORK_MS_MAX) as u64;
            thread::sleep(Duration::from_millis(millis));
            return;
        };
        let Point { name, turn } = point;
        let limit = match turn {
            1 => FIRST_TURN_LIMIT,
            _ => TURN_LIMIT,
        };
        let began = Instant::now();
        while began.elapsed() < limit {
            if mount.daemon().ended().is_some() {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        assert!(
            turn > 1,
            "the daemon does not come {name}; was it built with --features killpoints/on?"
        );
        // This time it came there less often.
        self.due.push_back(Point { name, turn: 1 });
    }

    /// The programs work, and the crash comes.
    fn crash(&mut self, mut mount: Mount, round: usize, point: Option<Point>) {
        let manners = Manners {
            fsync_percent: [0, 5, 30, 80][self.dice.below(4)],
            bytes_max: [64 << 10, 1 << 20, 12 << 20][self.dice.below(3)],
            habit: point
                .as_ref()
                .map_or(Habit::Usual, |point| Habit::for_point(&point.name)),
        };
        let crashed = Arc::new(Doom::default());
        let (ended, end) = mpsc::channel();
        for (number, ledger) in std::mem::take(&mut self.ledgers).into_iter().enumerate() {
            let seed = (self.seed, manners);
            let crashed = Arc::clone(&crashed);
            let mut worker = Worker::new(mount.path(), number, round, ledger, crashed, seed);
            let ended = ended.clone();
            thread::spawn(move || {
                let how = worker.work();
                // With the worker go its open files.
                let _ = ended.send((number, worker.into_ledger(), how));
            });
        }
        drop(ended);
        let may_end_itself = point.is_some();
        self.await_crash(&mut mount, point);
        crashed.announce();
        if let Some(image) = &self.image {
            image.cut();
        }
        crashed.come();
        if self.image.is_some() && self.dice.chance(20) {
            // The daemon notices before it goes: that must not do harm either.
            thread::sleep(Duration::from_millis(self.dice.below(50) as u64));
        }
        let log = mount.log();
        drop(mount.crash());
        let mut back: Vec<_> = (0..WORKERS)
            .map(|_| {
                end.recv_timeout(STUCK_LIMIT)
                    .expect("a thread is stuck, or panicked")
            })
            .collect();
        back.sort_by_key(|(number, ..)| *number);
        for (number, mut ledger, how) in back {
            if let Ended::Failed(error) = how
                && !(may_end_itself && has_no_daemon(&error))
            {
                panic!("w{number} in round {round}, before the crash: {error}\n{log}");
            }
            self.tally.calls += std::mem::take(&mut ledger.calls);
            self.tally.litter += std::mem::take(&mut ledger.litter);
            self.ledgers.push(ledger);
        }
        if let Some(image) = &mut self.image {
            image.replay();
            for cache in self.cache_dirs() {
                another_boot(&cache);
            }
        }
    }

    /// What the doctor says before anything is recovered: after a kill that nothing is lost or wrong, after a
    /// power cut that no row contradicts another.
    fn examine(&self, round: usize) {
        let report = self.options().doctor(&["--no-store"]);
        let findings = report["findings"].as_array().expect("findings");
        let torn = |kind: &str| self.image.is_some() && TORN.contains(&kind);
        let wrong = findings
            .iter()
            .filter(|finding| finding["grade"] != "leftover")
            .filter(|finding| !finding["kind"].as_str().is_some_and(torn))
            .map(|finding| format!("{finding}"))
            .collect();
        self.complain(wrong, round, "by the doctor's report", "");
    }

    /// What others see in the store at this instant.
    fn check_objects(&self, round: usize) {
        let objects = objects_of(&self.store);
        let wrong = objects
            .iter()
            .filter_map(|(key, bytes)| judge_object(&self.ledgers, key, bytes))
            .collect();
        self.complain(wrong, round, "in the store, right after the crash", "");
    }

    /// The mount after its restart, and in two of three rounds the store after `fused sync`.
    fn check(&mut self, mount: &Mount, round: usize) {
        let found = look_within_limit(mount.path());
        self.tally.files += found.len() as u64;
        let wrong = found.judge(mount.path(), &mut self.ledgers, false);
        self.complain(wrong, round, "on the mount", &mount.log());
        for path in found.asides() {
            fs::remove_file(mount.join(path)).expect("a removable file");
        }
        if self.dice.chance(66) || round + 1 >= self.count {
            let began = Instant::now();
            mount.sync();
            eprintln!("`fused sync` after crash {round}: {:.1?}", began.elapsed());
            let found = look_within_limit(mount.path());
            let mut wrong = found.judge(mount.path(), &mut self.ledgers, true);
            wrong.extend(judge_store(
                &found,
                &objects_of(&self.store),
                &mut self.ledgers,
            ));
            self.complain(wrong, round, "after `fused sync`", &mount.log());
        }
    }

    #[track_caller]
    fn complain(&self, mut wrong: Vec<String>, round: usize, place: &str, log: &str) {
        if wrong.is_empty() {
            return;
        }
        let count = wrong.len();
        wrong.truncate(SHOWN);
        panic!(
            "{count} broken promises {place}, after crash {round}, CRASH_SEED={}:\n  {}\n{log}",
            self.seed,
            wrong.join("\n  ")
        );
    }
}

/// What the kernel answers for a daemon that is gone, to us or to a program that we ran.
fn has_no_daemon(error: &io::Error) -> bool {
    let said = error.to_string();
    let gone = [Errno::ENOTCONN, Errno::ECONNABORTED];
    gone.iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32) || said.contains(errno.desc()))
}

/// Reads the tree in a thread: a mount that hangs must not hang the test.
fn look_within_limit(root: &Path) -> Found {
    let (done, result) = mpsc::channel();
    let root = root.to_owned();
    thread::spawn(move || done.send(look_at(&root)));
    result
        .recv_timeout(STUCK_LIMIT)
        .expect("the mount can be read")
}

fn objects_of(store: &Store) -> BTreeMap<String, Vec<u8>> {
    let keys = store.files().into_iter();
    keys.filter_map(|key| Some((key.clone(), store.get(&key)?)))
        .collect()
}

/// An image that is mounted again is on the same boot of this machine. The daemon must not think so.
pub fn another_boot(cache: &Path) {
    let state = cache.join("extents/state");
    let text = fs::read_to_string(&state).expect("the record of the last run");
    let lines = text.lines().map(|line| match line.starts_with("boot ") {
        true => "boot another",
        false => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    fs::write(&state, text).expect("a writable image");
}
