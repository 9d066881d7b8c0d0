//! fsx: one file, changed and read at random in every way there is, compared with a copy in memory.
//!
//! All its operations are on. Meanwhile a [`Meddler`] uploads the file and evicts it, and at the end the
//! object, and the file fetched back from it, must be what fsx left.
//!
//! A file of fsx's own size (256 KiB) is a single block to us, so every second one is larger and has several,
//! some of them here and some only in the store. fsx calls msync after each change through a mapping; a
//! third of the time goes there, also on a local disk. Without it the kernel alone has to keep mapping and
//! file together, which is the harder case: only the long form does it both ways.

use std::fs;
use std::time::Duration;

use harness::{Way, same_bytes, scratch, tool};

use crate::meddler::{Meddler, free};

harness::every_way!(a_file_holds_what_was_written);

/// Files end at no boundary of anything.
const ODD: u32 = 4321;

const WEIGHTS: &str = "
    [weights]
    close_open = 1
    read = 10
    write = 10
    mapread = 10
    mapwrite = 10
    truncate = 10
    invalidate = 1
    fsync = 1
    fdatasync = 1
    posix_fallocate = 5
    punch_hole = 5
    copy_file_range = 5
    posix_fadvise = 1
    ";

/// The four ways take a seed each.
fn a_file_holds_what_was_written(way: &Way) {
    let folder = way.store.url().starts_with("file:");
    let (seed, size) = match (folder, way.passthrough) {
        (true, "passthrough=auto") => (1, Size::Own),
        (true, _) => (2, Size::Blocks),
        (false, "passthrough=auto") => (3, Size::Blocks),
        (false, _) => (4, Size::Own),
    };
    exercise(way, seed, 30_000, &settings(size, Msync::Never));
}

/// A test for each of ten seeds, spread over the ways.
mod long {
    use super::{Msync, Size, Way, exercise, settings};

    const OPERATIONS: u32 = 300_000;

    macro_rules! seeds {
        ($($name:ident: $seed:literal, $store:ident, $passthrough:literal;)*) => {$(
            #[test]
            #[ignore = "takes many minutes"]
            fn $name() {
                harness::require_mounts!();
                let way = Way::$store(concat!("passthrough=", $passthrough));
                let size = if $seed % 8 < 4 { Size::Own } else { Size::Large };
                let msync = if $seed % 3 == 0 { Msync::AfterChanges } else { Msync::Never };
                exercise(&way, $seed, OPERATIONS, &settings(size, msync));
            }
        )*};
    }

    seeds! {
        in_a_folder_by_passthrough_1: 100, folder, "auto";
        in_a_folder_through_the_daemon_1: 101, folder, "off";
        in_a_bucket_by_passthrough_1: 102, bucket, "auto";
        in_a_bucket_through_the_daemon_1: 103, bucket, "off";
        in_a_folder_by_passthrough_2: 104, folder, "auto";
        in_a_folder_through_the_daemon_2: 105, folder, "off";
        in_a_bucket_by_passthrough_2: 106, bucket, "auto";
        in_a_bucket_through_the_daemon_2: 107, bucket, "off";
        in_a_folder_by_passthrough_3: 108, folder, "auto";
        in_a_bucket_through_the_daemon_3: 109, bucket, "off";
    }
}

/// How long the file gets.
#[derive(Debug, Clone, Copy)]
enum Size {
    /// 256 KiB.
    Own,
    /// Two blocks.
    Blocks,
    /// Four blocks, and operations of up to 256 KiB.
    Large,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Msync {
    AfterChanges,
    Never,
}

fn exercise(way: &Way, seed: u64, operations: u32, settings: &str) {
    let Some(fsx) = tool("fsx") else { return };
    let limit = Duration::from_secs(60) + Duration::from_millis(16) * operations;
    let home = scratch();
    let config = home.path().join("fsx.toml");
    fs::write(&config, settings).unwrap();
    let mount = way.mount();
    let file = mount.join("exercised");
    let running = fsx
        .arg("-f")
        .arg(&config)
        .args(["-N", &operations.to_string(), "-S", &seed.to_string()])
        .arg("-P")
        .arg(home.path())
        .arg(&file)
        .env("RUST_LOG", "error")
        .start();
    let meddler = Meddler::start(mount.path(), running.handle());
    let finished = running.end_within(limit);
    let meddled = meddler.stop();
    let ended_well = finished.status.is_some_and(|status| status.success());
    assert!(ended_well, "seed {seed}, {meddled:?}: {finished}");
    assert!(meddled.synced > 0 && meddled.freed > 0, "{meddled:?}");

    mount.sync();
    let object = way.store.fetch("exercised").expect("the object");
    same_bytes(object.path(), &file);
    free(mount.path());
    same_bytes(object.path(), &file);
}

fn settings(size: Size, msync: Msync) -> String {
    let no_msync = msync == Msync::Never;
    let (size, sendfile) = match size {
        Size::Own => (String::new(), 5),
        Size::Blocks => (format!("flen = {}", (8 << 20) + ODD), 5),
        // The meddler stops fsx at any instant. A sendfile of more than a socket takes at once is then short, on
        // any file system, and fsx waits for the rest for ever.
        Size::Large => {
            let (len, op_max) = ((24 << 20) + ODD, 256 << 10);
            (format!("flen = {len}\n[opsize]\nmax = {op_max}"), 0)
        }
    };
    // What stands before the first table belongs to none.
    format!("nomsyncafterwrite = {no_msync}\n{size}\n{WEIGHTS}sendfile = {sendfile}\n")
}
