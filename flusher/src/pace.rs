//! When to try again, and when not to try at all.
//!
//! Two things fail differently. One file may be refused (its key is too long): it backs off alone, with
//! full jitter under a doubling bound, and everybody else goes on. The whole store may be away: then a
//! hundred thousand dirty files must not each find that out. The [`Circuit`] opens, nothing is started,
//! and from time to time one item is let through as a probe; the first request that succeeds closes it.
//!
//! `remote` retries a request for some seconds before it reports it as failed, so one failed connection
//! that gets here means something; an overloaded store (503) must say so several times in a row.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::BackoffLimits;
use crate::error::Severity;

/// Answers of "overloaded" in a row, with no success between, that open the circuit.
const OVERLOADS_MAX: u32 = 4;

/// How long to wait after this many failures; `roll` is uniform in `[0, 1)`.
pub(crate) fn delay(
    limits: BackoffLimits,
    failures: u32,
    severity: Severity,
    roll: f64,
) -> Duration {
    let max = match severity {
        Severity::Permanent => limits.max_permanent,
        Severity::Unreachable | Severity::Passing => limits.max,
    };
    let doublings = failures.saturating_sub(1).min(20);
    let bound = match severity {
        // No number of quick tries gives a permission.
        Severity::Permanent => max.min(limits.min.saturating_mul(1 << (doublings * 2).min(20))),
        Severity::Unreachable | Severity::Passing => {
            max.min(limits.min.saturating_mul(1 << doublings))
        }
    };
    bound.mul_f64(roll.clamp(0.1, 1.0))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Open { until: Instant },
    Probing,
}

/// Whether the store is worth asking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circuit {
    phase: Phase,
    failures: u32,
    overloads: u32,
    limits: BackoffLimits,
}

impl Circuit {
    pub(crate) fn new(limits: BackoffLimits) -> Self {
        Self {
            phase: Phase::Closed,
            failures: 0,
            overloads: 0,
            limits,
        }
    }

    /// The store answers, as far as is known.
    pub(crate) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// How many more items may be started while `running` are at work.
    pub(crate) fn allowance(&self, now: Instant, running: usize) -> usize {
        match self.phase {
            Phase::Closed => usize::MAX,
            Phase::Open { until } if now >= until && running == 0 => 1,
            Phase::Open { .. } | Phase::Probing => 0,
        }
    }

    /// When the next probe is due.
    pub(crate) fn next_probe(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open { until } => Some(until),
            Phase::Closed | Phase::Probing => None,
        }
    }

    /// An item was started.
    pub(crate) fn started(&mut self) {
        if let Phase::Open { .. } = self.phase {
            self.phase = Phase::Probing;
        }
    }

    /// A request that changes the store succeeded. True if the store was thought to be away.
    pub(crate) fn succeeded(&mut self) -> bool {
        let was_open = !self.is_closed();
        self.phase = Phase::Closed;
        self.failures = 0;
        self.overloads = 0;
        was_open
    }

    /// A request failed. True if this opened the circuit.
    pub(crate) fn failed(&mut self, severity: Severity, now: Instant, roll: f64) -> bool {
        let opens = match severity {
            Severity::Permanent => false,
            Severity::Unreachable => true,
            Severity::Passing => {
                self.overloads += 1;
                self.overloads >= OVERLOADS_MAX
            }
        };
        match self.phase {
            // Late failures of what was already under way teach nothing new.
            Phase::Open { .. } => false,
            Phase::Closed if !opens => false,
            Phase::Probing if severity == Severity::Permanent => false,
            Phase::Closed | Phase::Probing => {
                let opened = self.is_closed();
                self.failures += 1;
                let wait = delay(self.limits, self.failures, Severity::Unreachable, roll);
                self.phase = Phase::Open { until: now + wait };
                opened
            }
        }
    }

    /// Nothing runs any more: a probe that asked the store nothing gives its turn to the next item.
    pub(crate) fn idle(&mut self, now: Instant) {
        if self.phase == Phase::Probing {
            self.phase = Phase::Open { until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> BackoffLimits {
        BackoffLimits::default()
    }

    #[test]
    fn waits_double_up_to_thirty_seconds_and_never_vanish() {
        let full = |failures| delay(limits(), failures, Severity::Passing, 1.0);
        assert_eq!(full(1), Duration::from_millis(200));
        assert_eq!(full(3), Duration::from_millis(800));
        assert_eq!(full(50), Duration::from_secs(30));
        assert_eq!(
            delay(limits(), 1, Severity::Passing, 0.0),
            Duration::from_millis(20)
        );
    }

    #[test]
    fn permanent_errors_reach_a_minute() {
        assert_eq!(
            delay(limits(), 9, Severity::Permanent, 1.0),
            Duration::from_secs(60)
        );
    }

    #[test]
    fn while_the_store_is_away_one_probe_at_a_time_is_let_through() {
        let now = Instant::now();
        let mut circuit = Circuit::new(limits());
        assert_eq!(circuit.allowance(now, 30), usize::MAX);
        assert!(circuit.failed(Severity::Unreachable, now, 1.0));
        assert!(
            !circuit.failed(Severity::Unreachable, now, 1.0),
            "said once"
        );
        assert_eq!(circuit.allowance(now, 0), 0);
        let later = now + Duration::from_millis(200);
        assert_eq!(circuit.allowance(later, 1), 0, "what runs must end first");
        assert_eq!(circuit.allowance(later, 0), 1);
        circuit.started();
        assert_eq!(circuit.allowance(later, 0), 0);
        circuit.failed(Severity::Unreachable, later, 1.0);
        assert_eq!(
            circuit.next_probe(),
            Some(later + Duration::from_millis(400))
        );
        assert!(circuit.succeeded());
        assert!(circuit.is_closed());
    }

    #[test]
    fn an_overload_must_repeat_before_everything_stops() {
        let now = Instant::now();
        let mut circuit = Circuit::new(limits());
        for _ in 1..OVERLOADS_MAX {
            assert!(!circuit.failed(Severity::Passing, now, 1.0));
        }
        circuit.succeeded();
        for _ in 1..OVERLOADS_MAX {
            assert!(!circuit.failed(Severity::Passing, now, 1.0));
        }
        assert!(circuit.failed(Severity::Passing, now, 1.0));
    }

    #[test]
    fn a_refusal_says_nothing_about_the_store() {
        let now = Instant::now();
        let mut circuit = Circuit::new(limits());
        for _ in 0..20 {
            assert!(!circuit.failed(Severity::Permanent, now, 1.0));
        }
        assert!(circuit.is_closed());
    }

    #[test]
    fn a_probe_that_asked_nothing_gives_its_turn_away() {
        let now = Instant::now();
        let mut circuit = Circuit::new(limits());
        circuit.failed(Severity::Unreachable, now, 0.0);
        circuit.started();
        circuit.idle(now);
        assert_eq!(circuit.allowance(now, 0), 1);
    }
}
