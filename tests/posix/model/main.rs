//! Random operations on the mount and on a plain folder side by side, compared step by step.
//!
//! A sequence (`operation`) is generated (`generate`) and played (`world`) by several processes
//! (`worker`), each of which does every operation in both folders (`side`). Every answer must be the
//! same, and so must the whole trees (`tree`, `compare`), while the mount uploads, evicts, is mounted
//! again and is killed. The reference is a real file system, not a description of one: where the two
//! differ on purpose, README's table of semantics says so and `compare` or `generate` says how.
//!
//! A sequence that fails is shrunk and printed as the source of a test: put it into `regressions`.
//! `FUSED_MODEL_SEED=N` plays the sequence of a seed again, `FUSED_MODEL_SEQUENCES=N` so many.
//! Which they are is a matter of the clock, or of `PROPTEST_RNG_SEED`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests fail by panicking, also in the functions that they share"
)]

mod compare;
mod generate;
mod mapping;
mod operation;
mod outcome;
mod regressions;
mod sabotage;
mod shrink;
mod side;
mod tree;
mod worker;
mod world;

use harness::Way;
use operation::Step;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use world::World;

harness::every_way!(
    what_once_failed_works,
    random_sequences_give_the_same_as_a_local_folder,
    #[ignore = "plays for half an hour"]
    many_random_sequences_give_the_same_as_a_local_folder,
);

/// Sequences of a way in a usual run.
const SEQUENCES: u64 = 60;
/// Sequences of a way in a long one.
const SEQUENCES_LONG: u64 = 3_000;
/// Steps of a sequence, at most.
const STEPS_MAX: usize = 80;

#[test]
fn a_worker_does_what_it_is_told() {
    worker::serve();
}

fn random_sequences_give_the_same_as_a_local_folder(way: &Way) {
    play_random(
        &mut World::mounted(way.options().option("settle=0s")),
        SEQUENCES,
    );
}

fn many_random_sequences_give_the_same_as_a_local_folder(way: &Way) {
    play_random(
        &mut World::mounted(way.options().option("settle=0s")),
        SEQUENCES_LONG,
    );
}

fn what_once_failed_works(way: &Way) {
    let mut world = World::mounted(way.options().option("settle=0s"));
    let mut failed = String::new();
    for (name, steps) in regressions::cases() {
        if let Err(failure) = world.play(&steps, None) {
            failed += &format!("{name}:\n{}{}\n", as_source(&steps), failure.why);
        }
    }
    assert!(failed.is_empty(), "{failed}");
}

/// The model finds nothing where there is nothing to find.
#[test]
fn two_local_folders_give_the_same() {
    harness::require_mounts!();
    play_random(&mut World::plain(), SEQUENCES);
}

/// And it finds every kind of fault that there is a sabotage for.
#[test]
fn every_sabotage_is_found() {
    harness::require_mounts!();
    let mut world = World::plain();
    let steps = sabotage::sequence();
    world.play(&steps, None).expect("the same without sabotage");
    for sabotage in sabotage::ALL {
        let played = world.play(&steps, Some(sabotage));
        let failure = played.expect_err(&format!("{sabotage:?} is noticed"));
        eprintln!("{sabotage:?}: {}", failure.why);
    }
}

fn play_random(world: &mut World, sequences: u64) {
    let number = |name| Some(std::env::var(name).ok()?.parse::<u64>().expect("a number"));
    let given = number("FUSED_MODEL_SEED");
    let sequences = number("FUSED_MODEL_SEQUENCES").unwrap_or(sequences);
    let first = given
        .or_else(|| number("PROPTEST_RNG_SEED"))
        .unwrap_or_else(|| compare::now() as u64);
    let began = std::time::Instant::now();
    for number in 0..if given.is_some() { 1 } else { sequences } {
        let seed = first.wrapping_add(number);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let sequence = generate::sequence(STEPS_MAX).new_tree(&mut runner);
        let steps = sequence.expect("a sequence").current();
        if let Err(failure) = world.play(&steps, None) {
            // Steps that stand together can't be told apart by their times.
            world.slowly = failure.why.contains("time ");
            let (steps, failure) = shrink::shrink(steps, failure, |steps| world.play(steps, None));
            panic!(
                "FUSED_MODEL_SEED={seed}\n{}\n{}",
                as_source(&steps),
                failure.why
            );
        }
    }
    let operations = world.operations;
    let rate = operations as f64 / began.elapsed().as_secs_f64();
    eprintln!("{operations} operations, {rate:.0} a second");
}

/// A sequence as it would stand in `regressions`.
fn as_source(steps: &[Step]) -> String {
    steps
        .iter()
        .map(|step| format!("            {step:?},\n"))
        .collect()
}
