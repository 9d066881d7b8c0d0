//! Reading, writing, filling and cutting one extent file, on every file system and engine.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{BLOCK, ID, content, everywhere, pattern};
use extents::Error;

#[test]
fn what_was_written_is_read_back_at_any_offset_and_length() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        let data = pattern(1, 3_000_001);
        file.write_at(0, &data).unwrap();
        for (offset, len) in [
            (0, 1),
            (0, 3_000_001),
            (4095, 2),
            (1, 1 << 20),
            (2_999_999, 100),
            (12_288, 4096),
        ] {
            let end = (offset + len).min(data.len());
            assert_eq!(
                file.read_at(offset as u64, len).await.unwrap(),
                data[offset..end],
                "{offset}+{len}"
            );
            assert_eq!(
                file.read_buffered(offset as u64, len).await.unwrap(),
                data[offset..end]
            );
        }
    });
}

#[test]
fn a_read_at_or_beyond_the_end_is_empty() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        file.write_at(0, b"abc").unwrap();
        for offset in [3, 4, 4096, u64::MAX] {
            assert!(file.read_at(offset, 10).await.unwrap().is_empty());
            assert!(file.read_buffered(offset, 10).await.unwrap().is_empty());
        }
        assert!(file.read_at(0, 0).await.unwrap().is_empty());
    });
}

#[test]
fn a_large_read_is_one_piece_and_more_than_the_pool_is_fine() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        let data = pattern(2, 40 << 20);
        file.write_at(0, &data).unwrap();
        file.sync_data().await.unwrap();
        assert!(file.read_large(0, 40 << 20).await.unwrap() == data);
        assert!(file.read_at(777, 33 << 20).await.unwrap() == data[777..777 + (33 << 20)]);
        // Held at the same time: more than the pool's 64 MiB, because they don't come from it.
        let first = file.read_large(0, 40 << 20).await.unwrap();
        let second = file.read_large(0, 40 << 20).await.unwrap();
        assert!(first == second);
    });
}

#[test]
fn more_readers_than_the_pool_has_memory_take_turns() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        let data = Arc::new(pattern(3, 8 << 20));
        file.write_at(0, &data).unwrap();
        let readers: Vec<_> = (0..24)
            .map(|_| {
                let (file, data) = (Arc::clone(&file), Arc::clone(&data));
                tokio::spawn(
                    async move { assert!(file.read_at(0, 8 << 20).await.unwrap() == data[..]) },
                )
            })
            .collect();
        for reader in readers {
            reader.await.unwrap();
        }
    });
}

#[test]
fn holes_read_as_zeros() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        file.truncate(100_000).unwrap();
        file.write_at(50_000, b"x").unwrap();
        let mut expected = vec![0; 100_000];
        expected[50_000] = b'x';
        assert_eq!(content(&file).await, expected);
        assert_eq!(file.read_buffered(0, 100_000).await.unwrap(), expected);
    });
}

#[test]
fn a_fill_makes_exactly_the_missing_ranges_resident() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        let (valid, granule) = (2_500_000, store.capabilities().granule);
        let origin = pattern(4, valid);
        file.truncate(valid as u64).unwrap();
        let valid = valid as u64;
        assert_eq!(file.missing(0..u64::MAX, valid), vec![0..valid]);
        file.fill(
            granule,
            Bytes::from(origin.clone()).slice(granule as usize..3 * granule as usize),
        )
        .await
        .unwrap();
        assert_eq!(
            file.missing(0..valid, valid),
            [0..granule, 3 * granule..valid]
        );
        assert!(!file.is_resident(valid));
        for range in file.missing(0..valid, valid) {
            let data = Bytes::copy_from_slice(&origin[range.start as usize..range.end as usize]);
            file.fill(range.start, data).await.unwrap();
        }
        assert!(file.is_resident(valid));
        assert_eq!(content(&file).await, origin);
        assert_eq!(file.read_buffered(0, origin.len()).await.unwrap(), origin);
        file.load_residency().unwrap();
        assert!(file.is_resident(valid));
    });
}

#[test]
fn a_fill_never_goes_over_what_a_program_wrote() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        file.truncate(10 * BLOCK).unwrap();
        let (origin, ours) = (pattern(5, 10 * BLOCK as usize), pattern(6, BLOCK as usize));
        file.write_at(3 * BLOCK, &ours).unwrap();
        file.fill(0, Bytes::from(origin.clone())).await.unwrap();
        let mut expected = origin;
        expected[3 * BLOCK as usize..4 * BLOCK as usize].copy_from_slice(&ours);
        assert_eq!(content(&file).await, expected);
    });
}

#[test]
fn a_fill_that_comes_after_a_truncation_brings_nothing_back() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        file.truncate(64 * BLOCK).unwrap();
        let origin = Bytes::from(pattern(7, 64 * BLOCK as usize));
        file.truncate(BLOCK + 100).unwrap();
        file.truncate(64 * BLOCK).unwrap();
        file.fill(0, origin.clone()).await.unwrap();
        let mut expected = vec![0; 64 * BLOCK as usize];
        expected[..BLOCK as usize + 100].copy_from_slice(&origin[..BLOCK as usize + 100]);
        assert_eq!(content(&file).await, expected);
        assert!(file.is_resident(BLOCK + 100));
    });
}

#[test]
fn a_fill_off_the_grid_is_refused() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        file.truncate(3 * BLOCK).unwrap();
        let error = file
            .fill(100, Bytes::from_static(b"abc"))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Unaligned { offset: 100, .. }));
        assert_eq!(error.errno(), libc::EINVAL);
    });
}

#[test]
fn a_punched_range_is_missing_again_and_can_be_filled_again() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        let granule = store.capabilities().granule;
        let valid = 8 * granule + 123;
        let origin = Bytes::from(pattern(8, valid as usize));
        file.truncate(valid).unwrap();
        file.fill(0, origin.clone()).await.unwrap();
        let before = file.stat().unwrap().allocated_bytes;
        file.punch(granule + 1..4 * granule - 1).unwrap();
        assert_eq!(
            file.missing(0..valid, valid),
            vec![2 * granule..3 * granule]
        );
        file.punch(6 * granule..valid).unwrap();
        assert_eq!(
            file.missing(0..valid, valid),
            [2 * granule..3 * granule, 6 * granule..valid]
        );
        assert!(file.stat().unwrap().allocated_bytes < before);
        file.fill(0, origin.clone()).await.unwrap();
        assert!(file.is_resident(valid));
        assert_eq!(content(&file).await, origin);
    });
}

#[test]
fn a_zeroed_range_is_data() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        let valid = 64 * BLOCK;
        file.truncate(valid).unwrap();
        file.zero_range(0..32 * BLOCK).unwrap();
        file.zero_range(60 * BLOCK..1 << 40).unwrap();
        assert_eq!(file.stat().unwrap().size, valid);
        file.load_residency().unwrap();
        assert_eq!(file.missing(0..valid, valid), vec![32 * BLOCK..60 * BLOCK]);
        file.fill(0, Bytes::from(pattern(9, valid as usize)))
            .await
            .unwrap();
        assert!(
            content(&file).await[..32 * BLOCK as usize]
                .iter()
                .all(|&byte| byte == 0)
        );
    });
}

#[test]
fn a_preallocated_file_has_the_size_and_the_space_that_were_asked_for() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        file.allocate(0, 0, 1 << 20).unwrap();
        let stat = file.stat().unwrap();
        assert_eq!(stat.size, 1 << 20);
        assert!(stat.allocated_bytes >= 1 << 20);
        file.allocate(
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            0,
            1 << 20,
        )
        .unwrap();
        assert!(file.stat().unwrap().allocated_bytes < 1 << 20);
    });
}

#[test]
fn a_file_that_ends_before_the_valid_length_is_just_missing_the_rest() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        file.write_at(0, &pattern(10, 2 * BLOCK as usize)).unwrap();
        let valid = 5 * BLOCK + 7;
        assert_eq!(file.missing(0..valid, valid), vec![2 * BLOCK..valid]);
        let rest = pattern(11, (valid - 2 * BLOCK) as usize);
        file.fill(2 * BLOCK, Bytes::from(rest.clone()))
            .await
            .unwrap();
        assert_eq!(file.stat().unwrap().size, valid);
        assert_eq!(file.read_at(2 * BLOCK, rest.len()).await.unwrap(), rest);
    });
}

#[test]
fn an_offset_no_file_can_have_is_too_big() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        assert_eq!(
            file.write_at(u64::MAX - 1, b"abc").unwrap_err().errno(),
            libc::EFBIG
        );
        assert_eq!(
            file.write_at(i64::MAX as u64, b"abc").unwrap_err().errno(),
            libc::EFBIG
        );
        let far = (i64::MAX as u64) / BLOCK * BLOCK;
        assert_eq!(
            file.fill(far, Bytes::from(vec![0; 8192]))
                .await
                .unwrap_err()
                .errno(),
            libc::EFBIG
        );
    });
}

#[test]
fn the_seal_tells_the_size_and_the_map_and_survives_a_sync() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        file.truncate(100 * BLOCK).unwrap();
        file.write_at(5 * BLOCK, &pattern(12, 10_000)).unwrap();
        let seal = file.seal().unwrap();
        file.sync_data().await.unwrap();
        assert_eq!(file.seal().unwrap(), seal);
        file.write_at(50 * BLOCK, b"x").unwrap();
        let written = file.seal().unwrap();
        assert_ne!(written.map_digest, seal.map_digest);
        file.truncate(101 * BLOCK).unwrap();
        assert_ne!(file.seal().unwrap(), written);
    });
}

#[test]
fn starting_write_back_changes_nothing_that_can_be_read() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        let data = pattern(13, 1_000_000);
        file.write_at(0, &data).unwrap();
        file.start_writeback(0..u64::MAX / 2);
        file.start_writeback(4096..8192);
        file.start_writeback(5..5);
        assert_eq!(content(&file).await, data);
    });
}

#[test]
fn the_format_of_the_seal_is_what_it_was_in_the_first_release() {
    // Two ranges [0, 4096) and [8192, 8200) of a file of 8200 bytes, hashed as documented.
    everywhere(|store| async move {
        if store.capabilities().granule != 4096 {
            return println!("skipped: the granule is not 4 KiB");
        }
        let file = store.create(ID).unwrap();
        file.write_at(0, &[1; 4096]).unwrap();
        file.write_at(8192, &[1; 8]).unwrap();
        let seal = file.seal().unwrap();
        assert_eq!((seal.size, seal.map_digest), (8200, SEAL_OF_FORMAT_1));
    });
}

/// Written down once; see the test above.
const SEAL_OF_FORMAT_1: u64 = 8_508_789_756_012_422_463;

/// An evicted file takes what is fetched up to its present length, however short it was once.
#[test]
fn a_file_that_was_cut_grew_and_was_emptied_can_be_filled() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        let granule = store.capabilities().granule;
        let len = 3 * granule;
        file.write_at(0, &pattern(9, len as usize)).unwrap();
        file.truncate(1).unwrap();
        file.write_at(1, &pattern(10, len as usize - 1)).unwrap();
        file.empty().unwrap();
        assert_eq!(file.missing(0..len, len), vec![0..len]);
        let origin = Bytes::from(pattern(11, len as usize));
        file.fill(0, origin.clone()).await.unwrap();
        assert!(file.is_resident(len));
        assert_eq!(file.read_at(0, len as usize).await.unwrap(), origin);
    });
}
