//! What a machine must have for a test, and what happens where it hasn't.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use nix::unistd::geteuid;

/// Why nothing can be mounted here, if so.
pub fn cannot_mount() -> Option<&'static str> {
    if !geteuid().is_root() {
        return Some("mounting needs root");
    }
    if !Path::new("/dev/fuse").exists() {
        return Some("there is no /dev/fuse");
    }
    None
}

/// Says on stderr, and in the file that `FUSED_SKIP_LOG` names, that the calling test is skipped.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("skipped: {reason}");
    if let Some(path) = std::env::var_os("FUSED_SKIP_LOG") {
        let log = OpenOptions::new().create(true).append(true).open(path);
        let _ = log.and_then(|mut log| writeln!(log, "{test}: {reason}"));
    }
}

/// Returns from the test, counted as skipped, where nothing can be mounted.
#[macro_export]
macro_rules! require_mounts {
    () => {
        if let Some(reason) = $crate::cannot_mount() {
            return $crate::skip(reason);
        }
    };
}
