//! Who may have a file system mounted, and when what is on its disk is of an earlier time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets the unexpected must fail"
)]

mod common;

use common::{NODE, STORE, at, file, object, write};
use journal::{Error, Identity, Ino, Journal, NodeId, Place};
use tempfile::TempDir;

const OTHER: NodeId = NodeId(8);

/// The same journal as two nodes have it.
async fn two() -> (TempDir, Journal, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let store = common::store(dir.path());
    let open = |node| {
        let store_url = STORE.into();
        Journal::open(store.clone(), Identity { store_url, node })
    };
    let (one, other) = (open(NODE).await.unwrap(), open(OTHER).await.unwrap());
    (dir, one, other)
}

fn place(host: &str) -> Place {
    Place {
        host: host.into(),
        mountpoint: "/mnt/alluxio".into(),
    }
}

#[tokio::test]
async fn nodes_take_turns_and_are_told_when_another_was_there() {
    let (_dir, one, other) = two().await;
    assert!(!one.join(&place("a"), at(1)).await.unwrap(), "the first");
    one.take_turn().await.unwrap();
    let refused = other.join(&place("b"), at(2)).await.unwrap_err();
    let said = refused.to_string();
    assert!(
        said.contains("/mnt/alluxio on a") && said.contains("unmount it there"),
        "{said}"
    );
    // After a crash.
    assert!(!one.join(&place("a"), at(3)).await.unwrap());
    one.take_turn().await.unwrap();
    one.leave(at(4)).await.unwrap();
    assert!(
        !one.join(&place("a"), at(5)).await.unwrap(),
        "nobody was there"
    );
    one.take_turn().await.unwrap();
    one.leave(at(6)).await.unwrap();

    assert!(other.join(&place("b"), at(7)).await.unwrap());
    // It crashed before it had dropped what it has.
    assert!(other.join(&place("b"), at(8)).await.unwrap());
    other.take_turn().await.unwrap();
    assert!(!other.join(&place("b"), at(9)).await.unwrap());
    other.is_seen(at(10)).await.unwrap();
    assert!(one.join(&place("a"), at(11)).await.is_err());
    other.leave(at(12)).await.unwrap();
    assert!(one.join(&place("a"), at(13)).await.unwrap());

    let nodes = one.nodes().await.unwrap();
    let seen: Vec<_> = nodes
        .iter()
        .map(|n| (n.node, n.since, n.seen, n.mounted))
        .collect();
    assert_eq!(
        seen,
        [(NODE, at(13), at(13), true), (OTHER, at(9), at(12), false)]
    );
}

#[tokio::test]
async fn what_a_node_holds_alone_keeps_the_others_out() {
    let (_dir, one, other) = two().await;
    one.join(&place("a"), at(1)).await.unwrap();
    let ino = file(&one, Ino::ROOT, "f").await.ino;
    let written = write(&one, ino, 5).await;
    one.leave(at(2)).await.unwrap();
    let refused = other.join(&place("b"), at(3)).await.unwrap_err();
    assert!(matches!(
        refused,
        Error::NodeElsewhere {
            node: NODE,
            mounted: false,
            ..
        }
    ));
    assert!(
        refused.to_string().contains("not in the store"),
        "{refused}"
    );
    let flushed = object("f", "e", &written);
    one.flushed(ino, flushed, at(4)).await.unwrap();
    other.join(&place("b"), at(5)).await.unwrap();
}

#[tokio::test]
async fn of_two_that_join_at_once_one_does() {
    let (_dir, one, other) = two().await;
    let (a, b) = (place("a"), place("b"));
    let (one, other) = tokio::join!(one.join(&a, at(1)), other.join(&b, at(1)));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
}
