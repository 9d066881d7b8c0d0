//! What the loop does beside the files: keys that nothing belongs at any more are deleted, uploads of no use aborted.
//!
//! At most one sweep and one look for uploads run at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::core::Core;
use crate::error::{Error, Severity};
use crate::garbage::{Swept, sweep};
use crate::late;
use crate::pace::delay;
use crate::strays;

/// Shortest pause between two looks for uploads of no use.
const STRAYS_PAUSE_MIN: Duration = Duration::from_secs(1);
/// Pause after a sweep that found keys which somebody wants again: uploads under way replace them.
const SWEEP_PAUSE: Duration = Duration::from_millis(200);
/// Pause after a sweep that found nothing but keys to which something may yet come.
const MAY_RETURN_PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Upkeep {
    sweeps: JoinSet<Result<Swept, Error>>,
    sweep_due: Option<Instant>,
    /// In a row.
    sweep_failures: u32,
    strays: JoinSet<()>,
    strays_due: Instant,
}

impl Upkeep {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            sweeps: JoinSet::new(),
            sweep_due: Some(now),
            sweep_failures: 0,
            strays: JoinSet::new(),
            strays_due: now,
        }
    }

    /// Sweeps under way.
    pub(crate) fn sweeps(&self) -> usize {
        self.sweeps.len()
    }

    /// When something is to be started that does not run already.
    pub(crate) fn due(&self) -> impl Iterator<Item = Instant> + use<> {
        let sweep = self.sweep_due.filter(|_| self.sweeps.is_empty());
        let strays = self.strays.is_empty().then_some(self.strays_due);
        sweep.into_iter().chain(strays)
    }

    /// There may be something to sweep; a sweep that is planned stays where it is.
    pub(crate) fn sweep_by(&mut self, due: Instant) {
        self.sweep_due.get_or_insert(due);
    }

    /// Somebody waits for a sweep. A failing store is not asked more often for it.
    pub(crate) fn sweep_is_asked_for(&mut self, now: Instant) {
        if self.sweep_failures == 0 {
            self.sweep_due = Some(now);
        }
    }

    /// Starts what is due, beside so many `uploads`.
    pub(crate) fn start_due(&mut self, core: &Arc<Core>, uploads: usize) {
        self.sweep_if_due(core, uploads);
        self.look_for_strays_if_due(core, uploads);
    }

    fn sweep_if_due(&mut self, core: &Arc<Core>, uploads: usize) {
        let now = Instant::now();
        let due = self.sweep_due.is_some_and(|due| due <= now) && self.sweeps.is_empty();
        if !due || core.circuit(|circuit| circuit.allowance(now, uploads)) == 0 {
            return;
        }
        self.sweep_due = None;
        let core = Arc::clone(core);
        self.sweeps.spawn(async move { sweep(&core).await });
    }

    fn look_for_strays_if_due(&mut self, core: &Arc<Core>, uploads: usize) {
        let now = Instant::now();
        let due = self.strays_due <= now && self.strays.is_empty();
        // Where nothing else is left to do, nobody else finds out that the store is back.
        let running = uploads + self.sweeps.len();
        if !due || core.circuit(|circuit| circuit.allowance(now, running)) == 0 {
            return;
        }
        let config = &core.config;
        self.strays_due = now + config.rescan.min(config.stray_age.max(STRAYS_PAUSE_MIN));
        let core = Arc::clone(core);
        self.strays.spawn(async move {
            if let Err(error) = late::tidy(&core).await {
                tracing::debug!(%error, "could not tidy what was sent; tried again later");
            }
            if let Err(error) = strays::abort(&core).await {
                tracing::debug!(%error, "could not abort uploads of no use; tried again later");
                core.note_failure(&error);
            }
        });
    }

    /// Waits for the end of something, for ever where nothing runs, and plans what comes next. Can be dropped while it
    /// waits.
    pub(crate) async fn one_ended(&mut self, core: &Core) {
        tokio::select! {
            biased;
            Some(swept) = self.sweeps.join_next() => self.swept(core, swept),
            Some(_) = self.strays.join_next() => {}
            else => std::future::pending().await,
        }
    }

    fn swept(&mut self, core: &Core, swept: Result<Result<Swept, Error>, JoinError>) {
        let now = Instant::now();
        core.stats.nudge();
        match swept {
            Ok(Ok(swept)) if swept.failed == 0 => {
                self.sweep_failures = 0;
                let pause = match swept {
                    Swept { waiting: 1.., .. } => Some(SWEEP_PAUSE.max(core.config.settle)),
                    Swept {
                        may_return: 1.., ..
                    } => Some(MAY_RETURN_PAUSE),
                    _ => None,
                };
                self.sweep_due = pause.map(|pause| now + pause);
                return;
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "can't read the keys to delete; tried again"),
            Err(error) => tracing::error!(%error, "the sweep ended by a bug; it is tried again"),
        }
        self.sweep_failures = self.sweep_failures.saturating_add(1);
        let wait = delay(
            core.config.backoff,
            self.sweep_failures,
            Severity::Passing,
            rand::random(),
        );
        self.sweep_due = Some(now + wait);
    }

    /// Ends what is under way; the next start does it anew.
    pub(crate) async fn shutdown(&mut self) {
        self.sweeps.shutdown().await;
        self.strays.shutdown().await;
    }
}
