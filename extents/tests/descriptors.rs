//! The limit on open files. Alone in its binary: it takes every descriptor of the process.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::fs::File;

use common::{ID, content, disk, open, pattern, run_bounded, scanned};
use extents::{ExtentId, IoMode};

#[test]
fn without_descriptors_left_open_files_go_on_and_new_ones_are_emfile() {
    let place = disk();
    let store = open(&place.dir, IoMode::Auto);
    // The scan has directories open.
    scanned(&store);
    let file = store.create(ID).unwrap();
    let data = pattern(8, 100_000);
    file.write_at(0, &data).unwrap();
    run_bounded(async {
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 100, 100)
            .unwrap();
        let taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        // Direct I/O would need a second descriptor.
        assert_eq!(content(&file).await, data);
        let error = store
            .create(ExtentId {
                ino: 7,
                generation: 0,
            })
            .unwrap_err();
        assert_eq!(error.errno(), libc::EMFILE, "{error}");
        assert!(error.to_string().contains("LimitNOFILE"), "{error}");
        drop(taken);
        assert_eq!(content(&file).await, data);
    });
}
