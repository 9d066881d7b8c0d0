//! The loop: scan, start what is due, take in what has ended, sleep until something can change.
//!
//! It wakes when somebody calls `wake`, when a task ends, and at the earliest time at which an item is due;
//! it never polls. Items start oldest first. Multipart files may take three quarters of the slots, and few at a time,
//! so small files always move, and the other way round: a large file waits for a slot, not for all small ones.
//!
//! Scans are as frequent as they are cheap: the pause after one is ten times what it took, or as long as it took where
//! somebody waits for it or the work set is half done. While programs are busy with names, and small files are held
//! anyway, they are seldom.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use journal::{Ino, Timestamp};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::config::PublishOrder;
use crate::core::{Core, Request};
use crate::error::{Error, Severity};
use crate::late;
use crate::order::{Blocker, Order};
use crate::pace::delay;
use crate::scan::{self, Scans};
use crate::step::{Job, Outcome, Report, take};
use crate::upkeep::Upkeep;
use crate::work::{Item, Known, Walk};
use crate::yielding::Yielding;

/// Requests taken before what they asked for is begun.
const REQUESTS_A_ROUND: usize = 256;
/// Shortest pause between two scans.
const SCAN_PAUSE_MIN: Duration = Duration::from_millis(25);
/// The same while small files are held: the processor is for the programs, and a quarter of a second is
/// little to the upload of a large file.
const SCAN_PAUSE_BUSY: Duration = Duration::from_millis(250);
/// How much longer than a scan the pause after it is.
const SCAN_PAUSE_FACTOR: u32 = 10;
/// How long an item waits for one that must move first before it looks again.
const BEHIND_WAIT: Duration = Duration::from_secs(1);
/// First pause after a file changed while it was read; doubles.
const CHANGED_WAIT: Duration = Duration::from_millis(50);
/// Rounds in a row without an error and without an end that count as a failure.
const SPINS_MAX: u32 = 8;
/// Multipart files at a time: each sends several parts at once, and more files would only all be done later.
const LARGE_MAX: usize = 16;
/// Renamed directories worked on at a time, and their entries.
const RESYNC_DIRECTORIES: usize = 16;
const RESYNC_ENTRIES: usize = 256;

pub(crate) struct Reconciler {
    core: Arc<Core>,
    tasks: JoinSet<Report>,
    /// Which task works on which inode, and whether it is a large one.
    running: HashMap<Id, (Ino, bool)>,
    upkeep: Upkeep,
    scans: Scans,
    /// The next scan.
    scan_due: Instant,
    /// Not before: scans must not take all the time there is.
    scan_earliest: Instant,
    /// The same where uploads wait for nothing else.
    scan_earliest_urgent: Instant,
    /// When it was last looked what can be started.
    dispatched: Instant,
    order: Order,
    order_stale: bool,
    yielding: Yielding,
    /// Small files are held until then.
    held_until: Option<Instant>,
    stop: watch::Receiver<bool>,
}

impl Reconciler {
    pub(crate) fn new(core: Arc<Core>, stop: watch::Receiver<bool>) -> Self {
        let now = Instant::now();
        Self {
            core,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            upkeep: Upkeep::new(now),
            scans: Scans::default(),
            scan_due: now,
            scan_earliest: now,
            scan_earliest_urgent: now,
            dispatched: now,
            order: Order::default(),
            order_stale: true,
            yielding: Yielding::new(now),
            held_until: None,
            stop,
        }
    }

    /// Runs until it is told to stop. Tasks under way are dropped then; the next start continues them.
    pub(crate) async fn run(mut self) {
        self.remember_sent().await;
        loop {
            if let Err(error) = self.round().await {
                tracing::error!(%error, "the flusher can't read the journal; it tries again");
                self.core.stats.step_failed("journal", error.to_string());
                self.scan_due = Instant::now() + Duration::from_secs(1);
            }
            let wake_at = self.next_event();
            tokio::select! {
                biased;
                _ = self.stop.changed() => break,
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    self.ended(ended).await;
                    while let Some(ended) = self.tasks.try_join_next_with_id() {
                        self.ended(ended).await;
                    }
                }
                () = self.upkeep.one_ended(&self.core) => {}
                () = self.core.requested.notified() => {}
                () = self.core.wake.notified(), if !self.scan_is_asked_for() => self.ask_for_scan(),
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
        self.tasks.shutdown().await;
        self.upkeep.shutdown().await;
    }

    /// Before anything is sent: once that is recorded, what was asked for before it is not told any more.
    async fn remember_sent(&mut self) {
        while let Err(error) = late::remember(&self.core).await {
            tracing::error!(%error, "the flusher can't read the journal; it tries again");
            self.core.stats.step_failed("journal", error.to_string());
            tokio::select! {
                _ = self.stop.changed() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    async fn round(&mut self) -> Result<(), Error> {
        self.take_requests().await?;
        if self.scan_due <= Instant::now() {
            self.scan().await?;
        }
        self.dispatch().await?;
        self.upkeep.start_due(&self.core, self.tasks.len());
        Ok(())
    }

    /// The earliest time at which something is to do without a wake-up or the end of a task.
    fn next_event(&self) -> Instant {
        let mut next = self.scan_due;
        let circuit = self.core.circuit(|circuit| *circuit);
        let upkeep = self.upkeep.due();
        // What was due at the last dispatch and was not started then waits for an event.
        let is_to_come = |due: &Instant| *due > self.dispatched;
        let slots = self.core.config.uploads_max.max(1);
        let due = if self.tasks.len() >= slots {
            // The end of a task comes first.
            upkeep.filter(is_to_come).min()
        } else {
            let work = self.core.work.lock();
            let timed = work.items().filter(|(_, item)| is_timed(item));
            let timed = timed.map(|(_, item)| item.due);
            timed.chain(upkeep).filter(is_to_come).min()
        };
        match circuit.next_probe() {
            None => next = due.map_or(next, |due| next.min(due)),
            // What is due before the probe waits for it; and what runs must end first, which wakes the loop.
            Some(probe) if self.tasks.is_empty() && self.upkeep.sweeps() == 0 => {
                let due = due.map(|due| due.max(probe));
                let probe = Some(probe).filter(is_to_come);
                next = due.into_iter().chain(probe).fold(next, Instant::min);
            }
            Some(_) => {}
        }
        if let Some(until) = self.held_until {
            next = next.min(until);
        }
        next
    }

    fn ask_for_scan(&mut self) {
        self.scan_due = self.scan_due.min(self.scan_earliest.max(Instant::now()));
    }

    /// Somebody waits for it, or there will soon be nothing else to do.
    fn ask_for_urgent_scan(&mut self) {
        let earliest = self.scan_earliest_urgent.max(Instant::now());
        self.scan_due = self.scan_due.min(earliest);
    }

    /// A scan is coming as soon as it may. Until then a wake-up is only remembered: programs that make
    /// thousands of files a second must not pay for switching to this thread each time.
    fn scan_is_asked_for(&self) -> bool {
        self.scan_due <= self.scan_earliest
    }

    /// Only some at a time: what the first ones asked for is begun before the last ones are read.
    async fn take_requests(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let mut left = REQUESTS_A_ROUND;
        let mut asked = false;
        while left > 0
            && let Some(request) = self.core.next_request()
        {
            left -= 1;
            match request {
                Request::Inode(ino, version, row) => {
                    let known = row.map(|row| self.core.work.lock().know(&row));
                    if matches!(known, Some(Known::Same | Known::Later)) {
                        self.core.work.lock().ask(ino, version);
                    } else if scan::look(&self.core, ino, self.scans.begun).await? {
                        let mut work = self.core.work.lock();
                        work.ask(ino, version);
                        work.trim();
                        self.order_stale = true;
                    }
                    asked = true;
                }
                Request::Sweep => self.upkeep.sweep_is_asked_for(now),
                Request::Scan(tell) => {
                    self.scan().await?;
                    // Whoever asked may have gone away.
                    let _ = tell.send(());
                }
                Request::Everything => {
                    self.scan().await?;
                    for (_, item) in self.core.work.lock().items_mut() {
                        item.due = now;
                    }
                }
            }
        }
        if asked {
            self.core.work.lock().hurry_for_later(now);
        }
        if left == 0 {
            // The next round goes on with the others.
            self.core.requested.notify_one();
        }
        Ok(())
    }

    async fn scan(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        self.resync().await?;
        self.order_stale = true;
        self.scans.scan(&self.core).await?;
        self.core.work.lock().hurry_for_later(Instant::now());
        let ended = Instant::now();
        let pause_min = match self.held_until {
            Some(_) => SCAN_PAUSE_BUSY,
            None => SCAN_PAUSE_MIN,
        };
        let took = ended - began;
        self.scan_earliest = ended + took.saturating_mul(SCAN_PAUSE_FACTOR).max(pause_min);
        self.scan_earliest_urgent = ended + took.max(SCAN_PAUSE_MIN);
        self.scan_due = ended + self.core.config.rescan;
        self.upkeep.sweep_by(ended);
        if self.core.work.lock().is_empty() {
            self.core.stats.all_clean();
        }
        Ok(())
    }

    /// What is below a renamed directory becomes unsynced, a chunk at a time.
    async fn resync(&mut self) -> Result<(), Error> {
        let journal = self.core.journal();
        let directories = journal.resync(None, RESYNC_DIRECTORIES).await?;
        let mut left = directories.len() == RESYNC_DIRECTORIES;
        for row in directories {
            // Done or not, there may be more: its subdirectories have rows of their own now.
            journal
                .resync_step(row.dir, RESYNC_ENTRIES, Timestamp::now())
                .await?;
            left = true;
        }
        if left {
            self.core.wake.notify_one();
        }
        Ok(())
    }

    async fn rebuild_order(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.order_stale) {
            return Ok(());
        }
        let strict = self.core.config.publish_order == PublishOrder::Strict;
        let blockers: Vec<Blocker> = self
            .core
            .work
            .lock()
            .items()
            .filter(|(_, item)| item.publishes && !item.open && (strict || item.large))
            .map(|(_, item)| Blocker {
                seq: item.row.seq,
                parent: item.parent,
            })
            .collect();
        self.order = Order::build(self.core.journal(), blockers).await?;
        Ok(())
    }

    /// Starts what can be started.
    async fn dispatch(&mut self) -> Result<(), Error> {
        if self.tasks.is_empty() && self.upkeep.sweeps() == 0 {
            self.core.circuit(|circuit| circuit.idle(Instant::now()));
        }
        self.rebuild_order().await?;
        let now = Instant::now();
        self.dispatched = now;
        let ordered = self.core.config.publish_order != PublishOrder::None;
        let slots = self.core.config.uploads_max.max(1);
        let large_slots = (slots - slots / 4).clamp(1, LARGE_MAX);
        let mut large_running = self.running.values().filter(|(_, large)| *large).count();
        let (mut scan_needed, mut awaited) = (false, false);
        let mut hurry_before: Option<u64> = None;
        let core = Arc::clone(&self.core);
        let changes = core.wakes.load(Ordering::Relaxed);
        self.held_until = self.yielding.look(now, changes);
        let wall = Timestamp::now();
        let mut work = core.work.lock();
        let later_from = work.later_from();
        let mut oldest_first = Walk::default();
        while self.tasks.len() < slots
            && let Some(ino) = oldest_first.next(&work)
        {
            let Some(item) = work.get_mut(ino) else {
                continue;
            };
            if item.running || !is_timed(item) || item.due > now {
                continue;
            }
            let small = !item.large && item.forced.is_none();
            if small && self.held_until.is_some() && Yielding::may_hold(item.row.since, wall) {
                continue;
            }
            let mut publish = true;
            let mut detach = false;
            if ordered && item.publishes {
                if !self.scans.know_all_before(item) {
                    scan_needed = true;
                    awaited |= item.forced.is_some();
                    continue;
                }
                if later_from <= item.row.seq && item.vacate.is_none() {
                    // Those before it come into the set first.
                    continue;
                }
                let blocked = self.order.blocks(item.parent, item.row.seq);
                if blocked && item.forced.is_some() {
                    hurry_before = hurry_before.max(Some(item.row.seq));
                }
                // It has the key of one that it waits for: nothing older is left to wait for.
                detach = blocked
                    && item
                        .vacate
                        .is_some_and(|seq| !self.order.blocks(item.parent, seq));
                let only_waits = !item.large || item.parked || item.open || item.dirty_bytes == 0;
                if blocked && only_waits && !detach {
                    continue;
                }
                publish = !blocked;
            }
            if item.large && large_running >= large_slots {
                continue;
            }
            let running = self.tasks.len() + self.upkeep.sweeps();
            if core.circuit(|circuit| circuit.allowance(now, running)) == 0 {
                break;
            }
            core.circuit(|circuit| circuit.started());
            item.running = true;
            let vacate = match detach {
                // Whoever still needs the key asks again.
                true => item.vacate.take(),
                false => item.vacate,
            };
            large_running += usize::from(item.large);
            let job = Job {
                ino,
                asked: item.forced,
                vacate: vacate.is_some(),
                publish,
                detach,
            };
            let task_core = Arc::clone(&core);
            let task = self.tasks.spawn(async move { take(&task_core, job).await });
            self.running.insert(task.id(), (ino, item.large));
        }
        // Somebody waits for a file that waits for these.
        let mut hurried = false;
        if let Some(seq) = hurry_before {
            for (_, item) in work.items_mut() {
                let waits = item.row.seq < seq && item.publishes && item.can_hurry(now);
                if waits && item.due > now && !item.open {
                    item.due = now;
                    hurried = true;
                }
            }
        }
        let short = work.runs_short();
        drop(work);
        if short || awaited {
            self.ask_for_urgent_scan();
        } else if scan_needed || hurried {
            self.ask_for_scan();
        }
        Ok(())
    }

    async fn ended(&mut self, ended: Result<(Id, Report), JoinError>) {
        let (id, report) = match ended {
            Ok((id, report)) => (id, Some(report)),
            Err(error) => {
                tracing::error!(%error, "a flusher task ended by a bug; its file is tried again");
                (error.id(), None)
            }
        };
        let Some((ino, large)) = self.running.remove(&id) else {
            return;
        };
        let report = report.unwrap_or_else(|| Report {
            ino,
            key: format!("inode {ino}"),
            asked: None,
            outcome: Outcome::Failed(Error::Unsteady {
                key: format!("inode {ino}"),
            }),
        });
        self.tell(&report);
        // Only blockers make a difference to the order; building it anew for each small file is not free.
        self.order_stale |= large || self.core.config.publish_order == PublishOrder::Strict;
        if let Err(error) = self.take_in(report).await {
            tracing::warn!(%error, %ino, "can't read back the state of a file");
            // The next scan finds out.
            self.core.work.lock().remove(ino);
            self.scans.missed_one();
            self.ask_for_scan();
        }
    }

    /// Counters, log and listeners.
    fn tell(&mut self, report: &Report) {
        let core = &self.core;
        match &report.outcome {
            Outcome::Clean => {
                core.config.events.clean(report.ino);
                core.stats.step_done(&report.key);
            }
            Outcome::Again => core.stats.step_done(&report.key),
            Outcome::Failed(error @ Error::StillMoving { .. }) => {
                tracing::debug!(key = %report.key, %error, "waits");
            }
            Outcome::Failed(error @ Error::InTheWay { .. }) => {
                core.stats.step_failed(&report.key, error.to_string());
                tracing::info!(key = %report.key, %error, "waits");
            }
            Outcome::Failed(error) => {
                core.note_failure(error);
                core.stats.step_failed(&report.key, error.to_string());
                if error.severity() == Severity::Permanent {
                    tracing::warn!(key = %report.key, %error, "not in the store; tried again");
                } else {
                    tracing::debug!(key = %report.key, %error, "failed; tried again");
                }
            }
            Outcome::Parked | Outcome::Open | Outcome::Behind(_) | Outcome::Changed => {}
        }
        if matches!(report.outcome, Outcome::Clean | Outcome::Again) {
            self.upkeep.sweep_by(Instant::now() + SCAN_PAUSE_MIN);
        }
    }

    /// Decides when the inode is looked at again.
    async fn take_in(&mut self, report: Report) -> Result<(), Error> {
        let ino = report.ino;
        let core = Arc::clone(&self.core);
        let before = {
            let mut work = core.work.lock();
            let Some(item) = work.get_mut(ino) else {
                return Ok(());
            };
            item.running = false;
            item.row.seq
        };
        // The usual end costs one row.
        let is_done = matches!(report.outcome, Outcome::Clean)
            && core.journal().unsynced_row(ino).await?.is_none();
        if is_done {
            core.work.lock().remove(ino);
            return Ok(());
        }
        if !scan::look(&core, ino, self.scans.begun).await? {
            return Ok(());
        }
        let (mut awaited, mut opened) = (Vec::new(), false);
        {
            let store_ok = core.circuit(|circuit| circuit.is_closed());
            let mut work = core.work.lock();
            let Some(item) = work.get_mut(ino) else {
                return Ok(());
            };
            let now = Instant::now();
            let renewed = item.row.seq != before;
            let mut failures = item.failures;
            let mut behind = None;
            item.parked = false;
            match report.outcome {
                Outcome::Failed(Error::InTheWay { until, .. }) => {
                    item.due = until;
                    item.held_until = Some(until);
                }
                Outcome::Failed(error) => {
                    // Where others need the directory's key, they need those of what is in it, too, which may come
                    // after them in the order of closing.
                    if let (Error::StillMoving { left, .. }, Some(oldest)) = (&error, item.vacate) {
                        awaited.extend(left.iter().map(|other| (*other, oldest)));
                    }
                    failures = failures.saturating_add(1);
                    let waits_for_store = error.blames_the_store() && !store_ok;
                    if waits_for_store {
                        failures = 1;
                    }
                    let wait = delay(
                        core.config.backoff,
                        failures,
                        error.severity(),
                        rand::random(),
                    );
                    item.due = now + wait;
                    if waits_for_store {
                        failures = 0;
                    }
                }
                _ if renewed => {}
                Outcome::Clean | Outcome::Again => {
                    failures = 0;
                    item.spins += 1;
                    item.due = now;
                    if item.spins > SPINS_MAX {
                        item.due = now
                            + delay(
                                core.config.backoff,
                                item.spins,
                                Severity::Passing,
                                rand::random(),
                            );
                    }
                }
                Outcome::Parked => item.parked = true,
                Outcome::Open => {
                    opened = true;
                    // It is out of the way, or can't go. Whoever still needs the key asks again.
                    item.vacate = None;
                    if item.forced == report.asked {
                        item.forced = None;
                    }
                }
                Outcome::Changed => {
                    item.spins += 1;
                    item.due = now + CHANGED_WAIT.saturating_mul(1 << item.spins.min(6));
                }
                Outcome::Behind(other) => {
                    item.due = now + BEHIND_WAIT;
                    let oldest = item
                        .vacate
                        .map_or(item.row.seq, |seq| seq.min(item.row.seq));
                    behind = Some(other);
                    awaited.push((other, oldest));
                }
            }
            work.failed(ino, failures);
            if opened {
                work.found_open(ino);
            }
            if let Some(other) = behind {
                work.wait_behind(ino, other);
            }
        }
        for (other, oldest) in awaited {
            self.ask_to_vacate(other, oldest).await?;
        }
        Ok(())
    }

    /// Another inode needs the key of this one; see [`Item::vacate`].
    async fn ask_to_vacate(&mut self, ino: Ino, oldest: u64) -> Result<(), Error> {
        let known = self.core.work.lock().get(ino).is_some();
        if !known && !scan::look(&self.core, ino, self.scans.begun).await? {
            self.core
                .journal()
                .mark_unsynced(ino, Timestamp::now())
                .await?;
            scan::look(&self.core, ino, self.scans.begun).await?;
        }
        let mut work = self.core.work.lock();
        if let Some(item) = work.get_mut(ino)
            && item.vacate.is_none_or(|known| known > oldest)
        {
            item.vacate = Some(oldest);
            let now = Instant::now();
            if item.can_hurry(now) {
                item.due = now;
            }
        }
        Ok(())
    }
}

/// Whether it starts when its time comes, rather than at some event.
fn is_timed(item: &Item) -> bool {
    !item.running && (!item.open || item.forced.is_some() || item.vacate.is_some())
}
