//! Devices that are full or fail, and kernels that refuse io_uring: the real thing each time.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use common::{ID, Mount, Place, content, disk, is_root, open, pattern, run, run_bounded};
use extents::{Error, ExtentId, IoMode};

/// A tmpfs of that many MiB, or the reason why not.
fn small_tmpfs(place: &Place, size_mib: u32) -> Result<Mount, String> {
    if !is_root() {
        return Err("mounting needs root".to_owned());
    }
    let size = format!("size={size_mib}m");
    Mount::new(
        &["-t", "tmpfs", "-o", &size],
        Path::new("none"),
        &place.dir.join("small"),
    )
}

#[test]
fn a_full_disk_is_enospc_to_writes_and_fills_and_what_was_there_stays() {
    for io in [IoMode::Auto, IoMode::Plain] {
        let place = disk();
        let _mount = match small_tmpfs(&place, 8) {
            Ok(mount) => mount,
            Err(why) => return println!("skipped: {why}"),
        };
        run_bounded(async {
            let store = open(&place.dir.join("small/store"), io);
            let file = store.create(ID).unwrap();
            let data = pattern(1, 2 << 20);
            file.write_at(0, &data).unwrap();
            let error = file.write_at(2 << 20, &pattern(2, 16 << 20)).unwrap_err();
            assert_eq!(error.errno(), libc::ENOSPC, "{error}");
            file.truncate(2 << 20).unwrap();
            let cold = store
                .create(ExtentId {
                    ino: 5,
                    generation: 0,
                })
                .unwrap();
            cold.truncate(16 << 20).unwrap();
            let error = cold
                .fill(0, Bytes::from(pattern(3, 16 << 20)))
                .await
                .unwrap_err();
            assert_eq!(error.errno(), libc::ENOSPC, "{error}");
            assert!(error.to_string().contains("5-0"), "{error}");
            assert!(!cold.is_resident(16 << 20));
            assert!(store.poisoned().is_none());
            assert_eq!(content(&file).await, data);
        });
    }
}

#[test]
fn a_full_disk_fills_again_after_space_was_made() {
    let place = disk();
    let _mount = match small_tmpfs(&place, 8) {
        Ok(mount) => mount,
        Err(why) => return println!("skipped: {why}"),
    };
    run_bounded(async {
        let store = open(&place.dir.join("small/store"), IoMode::Auto);
        let ballast = store.create(ID).unwrap();
        ballast.write_at(0, &pattern(4, 6 << 20)).unwrap();
        let file = store
            .create(ExtentId {
                ino: 5,
                generation: 0,
            })
            .unwrap();
        let origin = Bytes::from(pattern(5, 4 << 20));
        file.truncate(4 << 20).unwrap();
        assert_eq!(
            file.fill(0, origin.clone()).await.unwrap_err().errno(),
            libc::ENOSPC
        );
        ballast.punch(0..6 << 20).unwrap();
        file.fill(0, origin.clone()).await.unwrap();
        assert_eq!(content(&file).await, origin);
    });
}

/// An ext4 whose image promises 64 MiB on a tmpfs of 16: writing back more than that fails.
#[test]
fn a_failed_fdatasync_poisons_the_store() {
    let place = disk();
    let _small = match small_tmpfs(&place, 16) {
        Ok(mount) => mount,
        Err(why) => return println!("skipped: {why}"),
    };
    let image = place.dir.join("small/image");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    let made = run(Command::new("mkfs.ext4")
        .args(["-q", "-O", "^has_journal"])
        .arg(&image));
    let mounted = made.and_then(|()| Mount::new(&["-o", "loop"], &image, &place.dir.join("lying")));
    let _lying = match mounted {
        Ok(mount) => mount,
        Err(why) => return println!("skipped: {why}"),
    };
    run_bounded(async {
        let store = open(&place.dir.join("lying/store"), IoMode::Auto);
        let file = store.create(ID).unwrap();
        file.write_at(0, &pattern(6, 30 << 20)).unwrap();
        let error = file.sync_data().await.unwrap_err();
        assert!(matches!(error, Error::Poisoned { .. }), "{error}");
        assert_eq!(error.errno(), libc::EIO);
        assert!(store.poisoned().is_some());
        // The kernel would report success now. We don't.
        assert!(matches!(
            file.sync_data().await,
            Err(Error::Poisoned { .. })
        ));
        assert!(matches!(
            file.write_at(0, b"x"),
            Err(Error::Poisoned { .. })
        ));
        assert!(matches!(
            file.fill(0, Bytes::from_static(b"x")).await,
            Err(Error::Poisoned { .. })
        ));
        assert!(matches!(file.truncate(0), Err(Error::Poisoned { .. })));
        assert!(matches!(
            store.create(ExtentId {
                ino: 9,
                generation: 0
            }),
            Err(Error::Poisoned { .. })
        ));
        assert!(matches!(store.mark_clean(), Err(Error::Poisoned { .. })));
    });
}

/// Makes io_uring_setup fail with EPERM on this thread and those that it starts, as the seccomp
/// profiles of container runtimes do.
fn refuse_io_uring() {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let mut equal = statement(
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::SYS_io_uring_setup as u32,
    );
    equal.jf = 1;
    let mut filter = [
        // The number of the system call is the first word of what the filter is shown.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        equal,
        statement(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: plain system calls; the program outlives the call that reads it.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program)
    };
    assert_eq!(installed, 0);
}

#[test]
fn where_io_uring_is_refused_everything_works_without_it() {
    let place = disk();
    let dir = place.dir.clone();
    let outcome = std::thread::spawn(move || {
        refuse_io_uring();
        let store = open(&dir, IoMode::Auto);
        assert!(!store.capabilities().uring);
        run_bounded(async {
            let file = store.create(ID).unwrap();
            let data = pattern(7, 1_000_000);
            file.truncate(1_000_000).unwrap();
            file.fill(0, Bytes::from(data.clone())).await.unwrap();
            assert_eq!(content(&file).await, data);
        });
    });
    outcome.join().unwrap();
}
