//! Random histories against two references: a naive tree that knows POSIX, and a bucket that a
//! simple flusher and another client change. After each step the tree must agree, and at the end the
//! flusher must be able to make the bucket agree with the tree: nothing forgotten, nothing deleted
//! that somebody wants, nothing left over. And no row of the journal may contradict another at any time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected must fail"
)]

#[path = "../common/mod.rs"]
mod common;
mod ops;
mod tree;
mod world;

use journal::{Kind, Timestamp};
use ops::{Op, op};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use tree::{Node, Tree};
use world::World;

fn now() -> Timestamp {
    Timestamp::now()
}

async fn live(ops: Vec<Op>) {
    let (_dir, journal) = common::fresh().await;
    let mut world = World {
        journal,
        tree: Tree::default(),
        bucket: BTreeMap::new(),
        flights: Vec::new(),
        listing: None,
        etags: 0,
        foreign: BTreeSet::new(),
    };
    let root = Node {
        kind: Kind::Directory,
        nlink: 2,
        size: 0,
        mode: 0o755,
    };
    world.tree.nodes.insert(1, root);
    for op in ops {
        world.apply(op).await;
        world.check().await;
        let audit = world.journal.audit().await.unwrap();
        assert!(audit.damages.is_empty(), "{:#?}", audit.damages);
    }
    world.drain().await;
    world.check().await;
    // Everything that others put becomes visible, level by level.
    loop {
        let before = world.tree.nodes.len();
        for dir in world.tree.dirs() {
            let (time, found) = world.list(dir).await;
            world.import(dir, time, &found).await;
        }
        if world.tree.nodes.len() == before {
            break;
        }
    }
    world.drain().await;
    world.check_bucket().await;
}

/// 150, or what `PROPTEST_CASES` says.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(150)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        max_shrink_iters: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_history_agrees_with_the_tree_and_ends_in_the_bucket(
        ops in prop::collection::vec(op(), 1..80)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(live(ops));
    }
}
