//! The daemon in a world made of one seed.
//!
//! The real `vfs`, journal, extents and flusher run on one thread in virtual time, over a journal's store and an
//! object store in memory. A few programs work; requests are delayed, refused, lost, and arrive when nobody
//! expects them any more; the daemon dies at any point and starts again over what is left. What was promised is
//! looked at as it happens, after each death, and at the end.
//!
//! Everything follows from the seed, so a failure happens again:
//!
//! ```sh
//! SIMULATION_SEED=123 SIMULATION_TRACE=1 RUST_LOG=debug cargo nextest run -p simulation in_many_worlds --no-capture
//! ```
//!
//! In some of the tests requests may also arrive when nobody waits for them any more, up to two minutes late, those
//! of a daemon that died as well. In others the power goes.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking, also in the functions that they share, and talk on stderr"
)]

mod bucket;
mod dice;
mod disk;
mod kv;
mod life;
mod machine;
mod plan;
mod process;
mod program;
mod store;
mod tree;
mod world;

use std::path::PathBuf;
use std::time::Instant;

use life::Remains;
use plan::Sort;
use world::World;

/// Worlds of a test. Always the same ones, so that the same code gets the same answer.
const WORLDS: u64 = 1000;
/// Those that have never been tried, in the long form.
const WORLDS_LONG: u64 = 20_000;

/// Where the extent files of a world are: in memory, if there is a place.
fn scratch(seed: u64) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let place = match memory.is_dir() {
        true => memory,
        false => std::env::temp_dir(),
    };
    place.join(format!("fused-simulation-{}-{seed}", std::process::id()))
}

/// Lives through the world of a seed. What its trace adds up to, or how it failed.
fn run(seed: u64, sort: Sort) -> Result<String, String> {
    if std::env::var_os("SIMULATION_TRACE").is_some() {
        // Not by the world itself, nor with times: asking for dice and times would change it.
        let log = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .without_time();
        // The second world finds the first one's.
        let _ = log.try_init();
    }
    let directory = scratch(seed);
    let world = World::new(seed);
    let remembers = std::sync::Arc::clone(&world);
    let at = directory.clone();
    let ended = process::apart(
        move || {
            machine::begin(seed);
            Remains::new(&world, &at, sort).live();
            let (hash, lines) = world.trace_hash();
            let points = world.points();
            format!("trace {hash:016x}, {lines} lines, {points} points")
        },
        move || remembers.trace(),
    );
    // It is not there if the world ended before it had any.
    let _ = std::fs::remove_dir_all(&directory);
    ended
}

#[track_caller]
fn check(seed: u64, sort: Sort) -> String {
    run(seed, sort).unwrap_or_else(|failure| {
        panic!(
            "seed {seed}: {failure}\n\nagain: SIMULATION_SEED={seed} cargo nextest run -p simulation {}",
            match sort {
                Sort::Plain => "in_many_worlds",
                Sort::Late => "in_late_worlds",
                Sort::PowerCuts => "in_worlds_with_power_cuts",
            }
        )
    })
}

/// So many seeds from the first on, or the one that the environment names.
#[track_caller]
fn check_all(first: u64, worlds: u64, sort: Sort) {
    let seeds = match std::env::var("SIMULATION_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("SIMULATION_SEED is a number");
            seed..seed + 1
        }
        Err(_) => first..first + worlds,
    };
    let (began, count) = (Instant::now(), seeds.end - seeds.start);
    for seed in seeds {
        check(seed, sort);
    }
    println!("{count} worlds in {:.0?}", began.elapsed());
}

#[test]
fn what_was_promised_is_kept_in_many_worlds() {
    check_all(1, WORLDS, Sort::Plain);
}

#[test]
fn what_was_promised_is_kept_in_many_other_worlds() {
    check_all(1_000_000, WORLDS, Sort::Plain);
}

#[test]
fn what_was_promised_is_kept_in_late_worlds() {
    check_all(1, WORLDS, Sort::Late);
}

#[test]
fn what_was_promised_is_kept_in_worlds_with_power_cuts() {
    check_all(1, WORLDS, Sort::PowerCuts);
}

#[test]
fn a_seed_makes_the_same_world_each_time() {
    for sort in [Sort::Late, Sort::PowerCuts] {
        for seed in 1..=15 {
            assert_eq!(check(seed, sort), check(seed, sort), "seed {seed}");
        }
    }
}

/// A seed that no run before had.
fn never_tried() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() * 1_000_000)
}

#[test]
#[ignore = "takes minutes"]
fn what_was_promised_is_kept_in_very_many_worlds() {
    check_all(never_tried(), WORLDS_LONG, Sort::Plain);
}

#[test]
#[ignore = "takes minutes"]
fn what_was_promised_is_kept_in_very_many_late_worlds() {
    check_all(never_tried(), WORLDS_LONG, Sort::Late);
}

#[test]
#[ignore = "takes minutes"]
fn what_was_promised_is_kept_in_very_many_worlds_with_power_cuts() {
    check_all(never_tried(), WORLDS_LONG, Sort::PowerCuts);
}
