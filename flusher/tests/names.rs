//! Renames, exchanges and deletions, before and after the upload.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod common;

use common::{PART, Rig, bytes};
use journal::{Ino, RenameMode, Timestamp};

on_every_store!(
    a_rename_before_the_upload_never_shows_the_temporary_name,
    a_rename_after_the_upload_moves_the_object,
    a_file_renamed_over_another_replaces_its_object,
    a_name_taken_over_from_a_file_that_moves_away_keeps_both,
    two_files_that_exchanged_names_exchange_objects,
    two_evicted_files_that_exchanged_names_exchange_objects,
    two_files_that_a_power_cut_took_from_the_cache_exchange_objects,
    a_file_that_a_power_cut_took_from_the_cache_is_sent_under_its_new_name_as_it_was,
    a_file_that_is_nowhere_any_more_is_not_sent_as_zeros,
    three_files_that_rotated_their_names_rotate_objects,
    a_file_that_rotated_its_name_with_a_directory_and_what_was_in_it_does_not_wait_for_ever,
    a_deleted_file_loses_its_object,
    a_name_deleted_and_created_again_holds_the_new_file,
    a_renamed_directory_takes_everything_below_with_it,
    a_renamed_directory_does_not_wait_for_a_file_elsewhere_that_has_a_link_in_it,
    a_directory_that_took_the_place_of_the_one_above_moves_with_a_file_of_its_old_name,
    a_file_that_took_the_name_of_a_directory_does_not_wait_for_ever_for_what_comes_later,
    a_removed_directory_loses_its_marker,
    an_open_log_that_was_rotated_makes_room_for_the_new_one,
    a_name_taken_over_from_a_file_that_is_to_be_visible_later_keeps_both,
);

async fn a_rename_before_the_upload_never_shows_the_temporary_name(rig: Rig) {
    let flusher = rig.start();
    let ino = rig.write(Ino::ROOT, "model.tmp", b"weights").await;
    flusher.wake();
    rig.rename("model.tmp", "model").await;
    flusher.wake();
    assert!(flusher.wait_clean(ino, journal::Epoch(1)).await);
    assert_eq!(rig.keys().await, ["model"]);
    if let Some(proxy) = &rig.proxy {
        assert_eq!(
            proxy.count(|line| line.contains("model.tmp")),
            0,
            "{:?}",
            proxy.requests()
        );
    }
}

async fn a_rename_after_the_upload_moves_the_object(rig: Rig) {
    let flusher = rig.start();
    let ino = rig.write(Ino::ROOT, "old", b"bytes").await;
    rig.settled(&flusher).await;
    rig.evict(ino).await;
    rig.rename("old", "new").await;
    rig.settled(&flusher).await;
    assert_eq!(rig.keys().await, ["new"]);
    assert_eq!(rig.object("new").await.unwrap(), "bytes");
    assert_eq!(
        flusher.status().uploaded_bytes_total,
        5,
        "its bytes were sent once"
    );
}

async fn a_file_renamed_over_another_replaces_its_object(rig: Rig) {
    let flusher = rig.start();
    rig.write(Ino::ROOT, "config", b"one").await;
    rig.settled(&flusher).await;
    rig.write(Ino::ROOT, "config.tmp", b"two").await;
    rig.rename("config.tmp", "config").await;
    rig.settled(&flusher).await;
    assert_eq!(rig.keys().await, ["config"]);
    assert_eq!(rig.object("config").await.unwrap(), "two");
    assert_eq!(flusher.status().conflicts, 0);
}

async fn a_name_taken_over_from_a_file_that_moves_away_keeps_both(rig: Rig) {
    let flusher = rig.start();
    let a = rig.write(Ino::ROOT, "a", b"first").await;
    let c = rig.write(Ino::ROOT, "c", b"second").await;
    rig.settled(&flusher).await;
    rig.evict(a).await;
    rig.evict(c).await;
    rig.rename("a", "b").await;
    rig.rename("c", "a").await;
    rig.settled(&flusher).await;
    assert_eq!(rig.keys().await, ["a", "b"]);
    assert_eq!(rig.object("a").await.unwrap(), "second");
    assert_eq!(rig.object("b").await.unwrap(), "first");
}

async fn a_name_taken_over_from_a_file_that_is_to_be_visible_later_keeps_both(rig: Rig) {
    let flusher = rig.start();
    let old = rig.write(Ino::ROOT, "log", b"first").await;
    rig.settled(&flusher).await;
    flusher.stop().await;
    rig.evict(old).await;
    rig.rename("log", "log.1").await;
    let new = bytes(PART + 1, 3);
    rig.write(Ino::ROOT, "log", &new).await;
    // Now it comes after the new one, which needs its key.
    rig.rename("log.1", "log.2").await;
    let flusher = rig.start();
    rig.settled(&flusher).await;
    assert_eq!(rig.keys().await, ["log", "log.2"]);
    assert_eq!(rig.object("log").await.unwrap(), new);
    assert_eq!(rig.object("log.2").await.unwrap(), "first");
    assert_eq!(flusher.status().conflicts, 0);
}

async fn two_files_that_exchanged_names_exchange_objects(rig: Rig) {
    exchange(rig, Cached::Whole).await;
}

async fn two_evicted_files_that_exchanged_names_exchange_objects(rig: Rig) {
    exchange(rig, Cached::Evicted).await;
}

async fn two_files_that_a_power_cut_took_from_the_cache_exchange_objects(rig: Rig) {
    exchange(rig, Cached::Gone).await;
}

/// What there is of a file in the cache.
#[derive(PartialEq)]
enum Cached {
    Whole,
    Evicted,
    /// Nothing, and the journal does not know it.
    Gone,
}

async fn exchange(rig: Rig, cached: Cached) {
    let flusher = rig.start();
    let (small, large) = (bytes(50_000, 1), bytes(PART + 1, 2));
    let a = rig.write(Ino::ROOT, "a", &small).await;
    let b = rig.write(Ino::ROOT, "b", &large).await;
    rig.settled(&flusher).await;
    for ino in [a, b] {
        match cached {
            Cached::Whole => {}
            Cached::Evicted => rig.evict(ino).await,
            Cached::Gone => rig.lose(ino).await,
        }
    }
    rig.rename_as("a", "b", RenameMode::Exchange).await;
    rig.settled(&flusher).await;
    assert!(rig.object("a").await.unwrap() == large);
    assert!(rig.object("b").await.unwrap() == small);
    assert_eq!(rig.keys().await, ["a", "b"]);
    assert_eq!(flusher.status().conflicts, 0);
}

async fn a_file_that_a_power_cut_took_from_the_cache_is_sent_under_its_new_name_as_it_was(
    mut rig: Rig,
) {
    rig.config.rooms.capabilities.copy = false;
    let flusher = rig.start();
    let file = rig.write(Ino::ROOT, "old", b"bytes").await;
    rig.settled(&flusher).await;
    rig.lose(file).await;
    rig.rename("old", "new").await;
    rig.settled(&flusher).await;
    assert_eq!(rig.keys().await, ["new"]);
    assert_eq!(rig.object("new").await.unwrap(), "bytes");
}

async fn a_file_that_is_nowhere_any_more_is_not_sent_as_zeros(rig: Rig) {
    let lost = rig.write(Ino::ROOT, "lost", b"bytes").await;
    rig.lose(lost).await;
    let other = rig.write(Ino::ROOT, "other", b"bytes").await;
    let flusher = rig.start();
    assert!(flusher.wait_clean(other, journal::Epoch(1)).await);
    let mut progress = flusher.subscribe();
    while flusher.status().last_error.is_none() {
        progress.changed().await.unwrap();
    }
    assert_eq!(rig.keys().await, ["other"]);
}

async fn three_files_that_rotated_their_names_rotate_objects(rig: Rig) {
    let flusher = rig.start();
    for name in ["a", "b", "c"] {
        let ino = rig
            .write(Ino::ROOT, name, name.repeat(1000).as_bytes())
            .await;
        rig.settled(&flusher).await;
        rig.evict(ino).await;
    }
    rig.rename("a", "t").await;
    rig.rename("b", "a").await;
    rig.rename("c", "b").await;
    rig.rename("t", "c").await;
    rig.settled(&flusher).await;
    assert_eq!(rig.keys().await, ["a", "b", "c"]);
    for (name, was) in [("a", "b"), ("b", "c"), ("c", "a")] {
        assert_eq!(rig.object(name).await.unwrap(), was.repeat(1000));
    }
}

async fn a_file_that_rotated_its_name_with_a_directory_and_what_was_in_it_does_not_wait_for_ever(
    rig: Rig,
) {
    let flusher = rig.start();
    let d = rig.mkdir(Ino::ROOT, "d").await;
    let inner = rig.write(d, "inner", b"was in d").await;
    let outer = rig.write(Ino::ROOT, "f", b"was f").await;
    rig.settled(&flusher).await;
    flusher.stop().await;
    for ino in [inner, outer] {
        rig.evict(ino).await;
    }
    // d -> e, f -> d, e/inner -> f: each needs the place of the next.
    rig.rename("d", "e").await;
    rig.rename("f", "d").await;
    let (replace, now) = (RenameMode::Replace, Timestamp::now());
    let renamed = rig
        .journal
        .rename(d, b"inner", Ino::ROOT, b"f", replace, now);
    renamed.await.unwrap();
    let flusher = rig.start();
    rig.settled(&flusher).await;
    assert_eq!(rig.keys().await, ["d", "e/", "f"]);
    assert_eq!(rig.object("d").await.unwrap(), "was f");
    assert_eq!(rig.object("f").await.unwrap(), "was in d");
    assert_eq!(flusher.status().conflicts, 0);
}

async fn a_deleted_file_loses_its_object(rig: Rig) {
    let flusher = rig.start();
    rig.write(Ino::ROOT, "f", b"bytes").await;
    rig.settled(&flusher).await;
    rig.unlink("f").await;
    rig.settled(&flusher).await;
    assert!(rig.keys().await.is_empty());
}

async fn a_name_deleted_and_created_again_holds_the_new_file(rig: Rig) {
    let flusher = rig.start();
    for round in 0..10u8 {
        rig.write(Ino::ROOT, "f", &[round; 100]).await;
        flusher.flush_all();
        if round % 3 != 2 {
            // Now and then the store never sees a version.
            rig.settled(&flusher).await;
        }
        if round < 9 {
            rig.unlink("f").await;
            flusher.wake();
        }
    }
    rig.settled(&flusher).await;
    assert_eq!(rig.keys().await, ["f"]);
    assert_eq!(rig.object("f").await.unwrap(), [9; 100].as_slice());
    assert_eq!(flusher.status().conflicts, 0);
}

async fn a_renamed_directory_takes_everything_below_with_it(rig: Rig) {
    let flusher = rig.start();
    let old = rig.mkdir(Ino::ROOT, "old").await;
    let sub = rig.mkdir(old, "sub").await;
    rig.write(old, "f", b"flushed").await;
    rig.write(sub, "g", b"deep").await;
    rig.settled(&flusher).await;
    // Somebody else's file that was never listed here moves along.
    rig.foreign_put("old/unlisted", b"foreign").await;
    rig.write(old, "h", b"not yet flushed").await;
    rig.rename("old", "new").await;
    rig.settled(&flusher).await;
    let keys = rig.keys().await;
    assert_eq!(
        keys,
        [
            "new/",
            "new/f",
            "new/h",
            "new/sub/",
            "new/sub/g",
            "new/unlisted"
        ]
    );
    assert_eq!(rig.object("new/sub/g").await.unwrap(), "deep");
    assert_eq!(rig.object("new/unlisted").await.unwrap(), "foreign");
}

/// Found by a simulated world: the directory waited for ever.
async fn a_renamed_directory_does_not_wait_for_a_file_elsewhere_that_has_a_link_in_it(rig: Rig) {
    let flusher = rig.start();
    let renamed = rig.mkdir(Ino::ROOT, "old").await;
    rig.settled(&flusher).await;
    flusher.stop().await;
    rig.rename("old", "new").await;
    let in_its_place = rig.mkdir(Ino::ROOT, "old").await;
    rig.foreign_put("old/f", b"bytes").await;
    let f = rig.import(in_its_place, "old/f").await;
    let linked = rig.journal.link(f, renamed, b"f", Timestamp::now()).await;
    linked.unwrap();
    let flusher = rig.start();
    rig.settled(&flusher).await;
    assert_eq!(rig.keys().await, ["new/", "old/", "old/f"]);
    assert_eq!(rig.object("old/f").await.unwrap(), "bytes");
}

/// Found by a simulated world: the two waited for each other for ever.
async fn a_directory_that_took_the_place_of_the_one_above_moves_with_a_file_of_its_old_name(
    rig: Rig,
) {
    let flusher = rig.start();
    let above = rig.mkdir(Ino::ROOT, "d").await;
    let inner = rig.mkdir(above, "f").await;
    rig.write(inner, "f", b"bytes").await;
    rig.settled(&flusher).await;
    assert_eq!(rig.keys().await, ["d/", "d/f/", "d/f/f"]);
    // mv d/f t; rmdir d; mv t d
    let (replace, now) = (RenameMode::Replace, Timestamp::now());
    let out = rig
        .journal
        .rename(above, b"f", Ino::ROOT, b"t", replace, now);
    out.await.unwrap();
    rig.rmdir("d").await;
    rig.rename("t", "d").await;
    rig.settled(&flusher).await;
    assert_eq!(rig.keys().await, ["d/", "d/f"]);
    assert_eq!(rig.object("d/f").await.unwrap(), "bytes");
    assert_eq!(flusher.status().conflicts, 0);
}

/// What a large file waits for is a file that was closed after many others, which wait for the large one.
async fn a_file_that_took_the_name_of_a_directory_does_not_wait_for_ever_for_what_comes_later(
    mut rig: Rig,
) {
    rig.config.work_items_max = 2;
    let (small, large) = (bytes(100, 1), bytes((1 << 20) + 1, 2));
    let directory = rig.mkdir(Ino::ROOT, "d").await;
    let inner = rig.write(directory, "inner", &small).await;
    let file = rig.write(Ino::ROOT, "f", &small).await;
    let flusher = rig.start();
    rig.settled(&flusher).await;
    flusher.stop().await;

    rig.rename_as("f", "d", RenameMode::Exchange).await;
    rig.rename("f", "r").await;
    rig.rewrite(file, &large).await;
    for name in ["x", "y", "z"] {
        rig.write(Ino::ROOT, name, &small).await;
    }
    rig.rewrite(inner, &small).await;
    let flusher = rig.start();
    rig.settled(&flusher).await;
    assert!(rig.object("d").await.unwrap() == large);
    assert_eq!(rig.keys().await, ["d", "r/", "r/inner", "x", "y", "z"]);
}

async fn a_removed_directory_loses_its_marker(rig: Rig) {
    let flusher = rig.start();
    rig.mkdir(Ino::ROOT, "d").await;
    rig.settled(&flusher).await;
    assert_eq!(rig.keys().await, ["d/"]);
    rig.rmdir("d").await;
    rig.settled(&flusher).await;
    assert!(rig.keys().await.is_empty());
}

async fn an_open_log_that_was_rotated_makes_room_for_the_new_one(rig: Rig) {
    let flusher = rig.start();
    let log = rig.write(Ino::ROOT, "log", b"yesterday").await;
    rig.settled(&flusher).await;
    rig.journal
        .begin_write(log, common::NODE, false, Timestamp::now())
        .await
        .unwrap();
    rig.rename("log", "log.1").await;
    let new = rig.write(Ino::ROOT, "log", b"today").await;
    flusher.flush_all();
    assert!(flusher.wait_clean(new, journal::Epoch(1)).await);
    assert_eq!(rig.object("log").await.unwrap(), "today");
    assert_eq!(rig.object("log.1").await.unwrap(), "yesterday");
}
