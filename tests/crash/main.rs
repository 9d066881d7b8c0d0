//! Nothing acknowledged is lost: real power cuts and kills at random instants under load.
//!
//! One round: [`workload`] runs several threads on the mount, each writing down in its [`ledger`] what
//! it is about to do and what was acknowledged. The crash comes at a random instant. After the
//! restart [`check`] compares the mount, and then the store, with what the ledgers allow. What was
//! found is where the next round begins, so that the histories of files span many crashes.
//!
//! The seed is printed; `CRASH_SEED` replays the workload (its timing can't be replayed),
//! `CRASH_ROUNDS` says how many rounds a test makes.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests fail by panicking, also in the functions that they share, and talk on stderr"
)]

mod check;
mod content;
mod failing_disks;
mod full_disks;
mod image;
mod kills;
mod ledger;
mod power_cuts;
mod quotas;
mod rounds;
mod special;
mod store_faults;
mod the_checker;
mod workload;
