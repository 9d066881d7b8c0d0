//! The store misbehaves, and everything arrives all the same.
//!
//! A round ([`round`]) mounts a bucket of a real server through a proxy, works on it with random
//! operations ([`tree`]) while the proxy injects one kind of fault, or all kinds ([`faults`]), with kills,
//! restarts and `fused free` in between. No program may see an error of a write, and a read gives the
//! right bytes or an honest error. Then the faults end, and after `fused sync` the bucket, read past the
//! proxy by another client, is exactly the tree. In [`others`] somebody else writes to the bucket
//! meanwhile, and nothing that anybody wrote may be gone.
//!
//! The seed is printed; `FAULTS_SEED` replays the operations and the plan of faults (their timing can't be
//! replayed).

mod faults;
mod others;
mod round;
mod tree;

use std::time::Duration;

use faults::Kind;
use round::Plan;

macro_rules! rounds {
    ($($name:ident: $kind:ident;)+) => { $(
        mod $name {
            use super::{Duration, Kind, Plan};

            #[test]
            fn everything_arrives() {
                harness::require_mounts!();
                Plan { kind: Kind::$kind, phases: 3, phase: Duration::from_millis(1500), spell: Duration::from_millis(600) }.run();
            }

            #[test]
            #[ignore = "takes minutes"]
            fn everything_arrives_for_long() {
                harness::require_mounts!();
                Plan { kind: Kind::$kind, phases: 12, phase: Duration::from_secs(15), spell: Duration::from_secs(7) }.run();
            }
        }
    )+ };
}

rounds! {
    refused: Refusals;
    late: Delays;
    unanswered: Silence;
    broken_off: Cuts;
    truncated: ShortAnswers;
    with_wrong_versions: WrongEtags;
    with_lost_answers: LostAnswers;
    with_expired_credentials: Expired;
    away: Outages;
    with_all_of_it: All;
}

/// Minutes without a store, and requests that nobody ever answers: the program's own limits end them.
#[test]
#[ignore = "takes minutes"]
fn away_for_minutes_for_long() {
    harness::require_mounts!();
    for kind in [Kind::Outages, Kind::Silence] {
        Plan {
            kind,
            phases: 2,
            phase: Duration::from_secs(200),
            spell: Duration::from_secs(150),
        }
        .run();
    }
}

/// The seed of this run.
fn seed() -> u64 {
    let said = std::env::var("FAULTS_SEED").ok();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = said
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| now.expect("after 1970").as_nanos() as u64);
    eprintln!("FAULTS_SEED={seed}");
    seed
}
