//! Seeking, copying, times, hot reads and setting aside, on every file system and engine.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use bytes::Bytes;
use common::{BLOCK, ID, content, everywhere, pattern, scanned};
use extents::{ExtentId, SeekTo};

const OTHER: ExtentId = ExtentId {
    ino: 0x77,
    generation: 3,
};

#[test]
fn seeking_finds_data_and_holes_and_nothing_beyond_the_end() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        file.truncate(8 * BLOCK).unwrap();
        file.write_at(2 * BLOCK, &pattern(1, BLOCK as usize))
            .unwrap();
        assert_eq!(file.seek(0, SeekTo::Data).unwrap(), Some(2 * BLOCK));
        assert_eq!(file.seek(2 * BLOCK, SeekTo::Hole).unwrap(), Some(3 * BLOCK));
        assert_eq!(file.seek(3 * BLOCK, SeekTo::Data).unwrap(), None);
        assert_eq!(file.seek(8 * BLOCK, SeekTo::Hole).unwrap(), None);
        assert_eq!(file.seek(u64::MAX, SeekTo::Data).unwrap(), None);
    });
}

#[test]
fn a_copied_range_is_the_bytes_of_the_source_and_resident() {
    everywhere(|store| async move {
        let (from, to) = (store.create(ID).unwrap(), store.create(OTHER).unwrap());
        let data = pattern(2, 100 * BLOCK as usize);
        from.write_at(0, &data).unwrap();
        to.truncate(200 * BLOCK).unwrap();
        let copied = from
            .copy_range(0, &to, 64 * BLOCK, 80 * BLOCK)
            .await
            .unwrap();
        assert_eq!(copied, 80 * BLOCK);
        assert_eq!(to.missing(64 * BLOCK..144 * BLOCK, 200 * BLOCK), []);
        let read = to.read_at(64 * BLOCK, 80 * BLOCK as usize).await.unwrap();
        assert!(read == data[..80 * BLOCK as usize]);
        assert_eq!(
            from.copy_range(99 * BLOCK, &to, 0, 5 * BLOCK)
                .await
                .unwrap(),
            BLOCK
        );
        assert_eq!(from.copy_range(1 << 30, &to, 0, 5).await.unwrap(), 0);
    });
}

#[test]
fn a_hole_that_is_copied_over_data_is_zeros_that_count_as_data() {
    everywhere(|store| async move {
        let (from, to) = (store.create(ID).unwrap(), store.create(OTHER).unwrap());
        let valid = 64 * BLOCK;
        from.truncate(valid).unwrap();
        from.write_at(60 * BLOCK, &pattern(3, 4 * BLOCK as usize))
            .unwrap();
        to.truncate(valid).unwrap();
        to.fill(0, Bytes::from(pattern(4, valid as usize)))
            .await
            .unwrap();
        assert_eq!(from.copy_range(0, &to, 0, valid).await.unwrap(), valid);
        // Asked of the file system: a hole here would bring the origin's bytes back.
        to.load_residency().unwrap();
        assert!(to.is_resident(valid), "{:?}", to.missing(0..valid, valid));
        assert!(content(&to).await == content(&from).await);
    });
}

#[test]
fn copying_to_a_full_store_offset_no_file_can_have_is_too_big() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        file.write_at(0, b"abc").unwrap();
        let error = file
            .copy_range(0, &file, u64::MAX - 1, 3)
            .await
            .unwrap_err();
        assert_eq!(error.errno(), libc::EFBIG);
    });
}

#[test]
fn the_time_of_the_last_change_can_be_set() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        file.set_mtime((1_234_567_890, 987_654_321)).unwrap();
        assert_eq!(file.stat().unwrap().mtime, (1_234_567_890, 987_654_321));
    });
}

#[test]
fn a_hot_read_is_the_same_bytes_whether_cached_or_not() {
    everywhere(|store| async move {
        let file = store.create(ID).unwrap();
        let data = pattern(5, 300_001);
        file.truncate(300_001).unwrap();
        file.fill(0, Bytes::from(data.clone())).await.unwrap();
        for _ in 0..2 {
            assert!(file.read_hot(0, 400_000).await.unwrap() == data);
            assert!(file.read_hot(5, 100).await.unwrap() == data[5..105]);
            file.read_buffered(0, 300_001).await.unwrap();
        }
    });
}

#[test]
fn a_file_set_aside_is_kept_elsewhere_and_no_longer_counted() {
    everywhere(|store| async move {
        scanned(&store);
        let folder = tempfile::tempdir_in(store.directories().next().unwrap()).unwrap();
        let folder = folder.path().join("torn");
        store
            .create(ID)
            .unwrap()
            .write_at(0, &pattern(6, 8192))
            .unwrap();
        let kept = store.set_aside(ID, &folder).unwrap();
        assert!(std::fs::read(&kept).unwrap() == pattern(6, 8192));
        assert!(store.open_file(ID).unwrap().is_none());
        assert_eq!(store.usage().unwrap().used_bytes, 0);
        let empty = store.set_aside(OTHER, &folder).unwrap();
        assert_eq!(std::fs::metadata(empty).unwrap().len(), 0);
    });
}

#[test]
fn setting_the_same_file_aside_again_never_replaces_what_is_kept() {
    everywhere(|store| async move {
        let folder = tempfile::tempdir_in(store.directories().next().unwrap()).unwrap();
        let mut kept = Vec::new();
        for round in 0..3 {
            store.create(ID).unwrap().write_at(0, &[round; 10]).unwrap();
            kept.push(store.set_aside(ID, folder.path()).unwrap());
        }
        for (round, path) in kept.iter().enumerate() {
            assert_eq!(std::fs::read(path).unwrap(), [round as u8; 10]);
        }
    });
}
