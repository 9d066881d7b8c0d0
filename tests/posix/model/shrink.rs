//! A shorter sequence that fails too.
//!
//! proptest's own shrinking takes steps away one by one and then varies every number: hundreds of
//! plays, some of which mount anew. This one knows that what follows the failed step has no part in
//! it, takes away large pieces first, and ends in time for the report to be printed before the
//! test's own limit.

use std::time::{Duration, Instant};

use crate::operation::{Identity, Step};
use crate::world::Failure;

/// How long it may take: the runner ends a test after 120 s, and the playing comes first.
const LIMIT: Duration = Duration::from_secs(45);

/// Shortens a failed sequence as far as it goes in the time; `play` plays one.
pub fn shrink(
    mut steps: Vec<Step>,
    mut failure: Failure,
    mut play: impl FnMut(&[Step]) -> Result<(), Failure>,
) -> (Vec<Step>, Failure) {
    let began = Instant::now();
    let mut attempt =
        |shorter: Vec<Step>, steps: &mut Vec<Step>, failure: &mut Failure| match play(&shorter) {
            Err(found) if found.like(failure) && began.elapsed() < LIMIT => {
                *steps = shorter;
                *failure = found;
                true
            }
            _ => false,
        };
    let upto = failure.steps_played.min(steps.len());
    attempt(steps[..upto].to_vec(), &mut steps, &mut failure);
    let mut piece = steps.len().div_ceil(2);
    while piece > 0 && began.elapsed() < LIMIT {
        let mut end = steps.len();
        let mut shorter_now = false;
        // From the end: what a step needs stands before it.
        while end > 0 && began.elapsed() < LIMIT {
            let start = end.saturating_sub(piece);
            let mut rest = steps.clone();
            rest.drain(start..end.min(steps.len()));
            shorter_now |= attempt(rest, &mut steps, &mut failure);
            end = start.min(steps.len());
        }
        if !(piece == 1 && shorter_now) {
            piece /= 2;
        }
    }
    for number in 0..steps.len() {
        let mut simpler = steps.clone();
        if let Step::Do(process, who, _) = &mut simpler[number] {
            (*process, *who) = (0, Identity::Root);
        }
        if simpler != steps && began.elapsed() < LIMIT {
            attempt(simpler, &mut steps, &mut failure);
        }
    }
    (steps, failure)
}
