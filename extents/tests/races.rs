//! Programs, fills and evictions on one file at the same time.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use bytes::Bytes;
use common::{BLOCK, ID, content, everywhere, pattern};

#[test]
fn writes_that_race_with_fills_all_survive_and_no_other_byte_changes() {
    everywhere(|store| async move {
        for round in 0..8u64 {
            let id = extents::ExtentId {
                ino: round,
                generation: 0,
            };
            let file = store.create(id).unwrap();
            let len = 8 << 20;
            let origin = Bytes::from(pattern(round, len));
            file.truncate(len as u64).unwrap();
            // Reads beforehand put clean folios over the holes, which direct fills have to drop.
            file.read_buffered(0, len).await.unwrap();
            let fills: Vec<_> = (0..len as u64 / (256 << 10))
                .map(|part| {
                    let (file, at) = (Arc::clone(&file), part * (256 << 10));
                    let data = origin.slice(at as usize..at as usize + (256 << 10));
                    tokio::spawn(async move { file.fill(at, data).await.unwrap() })
                })
                .collect();
            let writer = {
                let file = Arc::clone(&file);
                std::thread::spawn(move || {
                    for page in (0..len as u64 / BLOCK).step_by(7) {
                        file.write_at(page * BLOCK, &vec![(page % 251) as u8; BLOCK as usize])
                            .unwrap();
                    }
                })
            };
            for fill in fills {
                fill.await.unwrap();
            }
            tokio::task::spawn_blocking(|| writer.join().unwrap())
                .await
                .unwrap();
            let mut expected = origin.to_vec();
            for page in (0..len as u64 / BLOCK).step_by(7) {
                expected[(page * BLOCK) as usize..][..BLOCK as usize].fill((page % 251) as u8);
            }
            assert!(file.is_resident(len as u64));
            assert!(content(&file).await == expected, "direct reads differ");
            assert!(
                file.read_buffered(0, len).await.unwrap() == expected,
                "the page cache differs"
            );
            // A direct write that couldn't drop a page would leave EIO for this.
            file.sync_data().await.unwrap();
        }
    });
}

#[test]
fn two_fills_of_the_same_range_both_return_with_it_resident() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        let len = (4 << 20) + 77;
        let origin = Bytes::from(pattern(1, len));
        file.truncate(len as u64).unwrap();
        let fills: Vec<_> = (0..6)
            .map(|_| {
                let (file, origin) = (Arc::clone(&file), origin.clone());
                tokio::spawn(async move {
                    file.fill(0, origin).await.unwrap();
                    assert!(file.is_resident(len as u64));
                })
            })
            .collect();
        for fill in fills {
            fill.await.unwrap();
        }
        assert!(content(&file).await == origin);
    });
}

#[test]
fn a_fill_that_is_dropped_half_way_leaves_nothing_claimed() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        let len = 16 << 20;
        let origin = Bytes::from(pattern(2, len));
        file.truncate(len as u64).unwrap();
        for _ in 0..20 {
            let fill = tokio::spawn({
                let (file, origin) = (Arc::clone(&file), origin.clone());
                async move { file.fill(0, origin).await }
            });
            tokio::task::yield_now().await;
            fill.abort();
            let _ = fill.await;
            // Would wait for ever for a claim that nobody ends.
            file.punch(0..len as u64).unwrap();
        }
        file.fill(0, origin.clone()).await.unwrap();
        assert!(content(&file).await == origin);
    });
}

#[test]
fn cutting_and_punching_while_filling_never_leaves_old_bytes_behind() {
    everywhere(|store| async move {
        for round in 0..10u64 {
            let id = extents::ExtentId {
                ino: round,
                generation: 0,
            };
            let file = store.create(id).unwrap();
            let (len, cut) = (4 << 20, (1 << 20) + 100 * round);
            let origin = Bytes::from(pattern(round, len));
            file.truncate(len as u64).unwrap();
            let fill = tokio::spawn({
                let (file, origin) = (Arc::clone(&file), origin.clone());
                async move { file.fill(0, origin).await.unwrap() }
            });
            file.truncate(cut).unwrap();
            file.truncate(len as u64).unwrap();
            fill.await.unwrap();
            let bytes = content(&file).await;
            assert!(bytes[..cut as usize] == origin[..cut as usize]);
            assert!(
                bytes[cut as usize..].iter().all(|&byte| byte == 0),
                "bytes came back after the cut"
            );
        }
    });
}

#[test]
fn a_write_on_every_worker_never_keeps_a_fill_from_ending() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        let len = 8 << 20;
        let origin = Bytes::from(pattern(3, len));
        file.truncate(len as u64).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let filler = tokio::spawn({
            let (file, origin, stop) = (Arc::clone(&file), origin.clone(), Arc::clone(&stop));
            async move {
                for _ in 0..10 {
                    file.fill(0, origin.clone()).await.unwrap();
                    file.punch(BLOCK..len as u64).unwrap();
                }
                stop.store(true, Ordering::SeqCst);
            }
        });
        // As many as the runtime has threads: each blocks its thread whenever it has to wait.
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let (file, stop) = (Arc::clone(&file), Arc::clone(&stop));
                tokio::spawn(async move {
                    while !stop.load(Ordering::SeqCst) {
                        file.write_at(0, &[1; BLOCK as usize]).unwrap();
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        filler.await.unwrap();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

#[test]
fn pages_written_between_pages_being_filled_keep_the_page_cache_true() {
    everywhere(|store| async move {
        for round in 0..12u64 {
            let id = extents::ExtentId {
                ino: round,
                generation: 0,
            };
            let file = store.create(id).unwrap();
            let pages = 512;
            let len = pages * BLOCK as usize;
            let origin = Bytes::from(pattern(round, len));
            file.truncate(len as u64).unwrap();
            // Large folios that cover what will be filled and what will be written.
            file.read_buffered(0, len).await.unwrap();
            let start = Arc::new(Barrier::new(2));
            let writer = {
                let (file, start) = (Arc::clone(&file), Arc::clone(&start));
                std::thread::spawn(move || {
                    start.wait();
                    for page in (0..pages as u64)
                        .step_by(2)
                        .chain((0..pages as u64).step_by(2))
                    {
                        file.write_at(page * BLOCK, &[7; BLOCK as usize]).unwrap();
                    }
                })
            };
            tokio::task::spawn_blocking(move || start.wait())
                .await
                .unwrap();
            let fills: Vec<_> = (0..pages as u64)
                .skip(1)
                .step_by(2)
                .map(|page| {
                    let (file, at) = (Arc::clone(&file), page * BLOCK);
                    let data = origin.slice(at as usize..(at + BLOCK) as usize);
                    tokio::spawn(async move { file.fill(at, data).await.unwrap() })
                })
                .collect();
            for fill in fills {
                fill.await.unwrap();
            }
            tokio::task::spawn_blocking(|| writer.join().unwrap())
                .await
                .unwrap();
            let mut expected = origin.to_vec();
            for page in (0..pages).step_by(2) {
                expected[page * BLOCK as usize..][..BLOCK as usize].fill(7);
            }
            let cached = file.read_buffered(0, len).await.unwrap();
            assert!(cached == expected, "the page cache serves stale bytes");
            assert!(content(&file).await == expected);
            file.sync_data().await.unwrap();
        }
    });
}
