//! A program that runs can't be written: ETXTBSY, also for the truncation that needs no right to write.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::{Guarded, Way};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

harness::every_way!(a_running_program_is_not_truncated);

fn a_running_program_is_not_truncated(way: &Way) {
    let mount = way.mount();
    let program = mount.join("program");
    fs::copy("/bin/cat", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let size = fs::metadata(&program).unwrap().len();
    let mut running = Guarded::spawn_as_is(Command::new(&program).stdin(Stdio::piped())).unwrap();
    let truncating =
        |access: OFlag, path: &Path| open(path, access | OFlag::O_TRUNC, Mode::empty()).map(drop);
    for access in [OFlag::O_RDONLY, OFlag::O_WRONLY, OFlag::O_RDWR] {
        assert_eq!(
            truncating(access, &program),
            Err(Errno::ETXTBSY),
            "{access:?}"
        );
        assert_eq!(fs::metadata(&program).unwrap().len(), size, "{access:?}");
    }
    assert_eq!(running.ended(), None, "it runs on");
    running.kill();
    // RELEASE comes a moment after the end.
    harness::wait_until(
        "it may be truncated",
        std::time::Duration::from_secs(10),
        || truncating(OFlag::O_RDONLY, &program).is_ok(),
    );
    assert_eq!(fs::metadata(&program).unwrap().len(), 0);
}
