//! `fused free PATH...`: gives up the local bytes of files that are in the store.

use std::fmt::Write as _;

use super::args::Free;
use super::paths::by_mount;
use super::sync::files;
use super::{Error, output};
use crate::control::client::Client;
use crate::control::mounts;
use crate::control::protocol::Freed;
use crate::options::format_bytes;

/// Runs the command.
pub(super) fn run(args: &Free) -> Result<(), Error> {
    let mounts =
        mounts::read().map_err(|error| Error::path("/proc/self/mountinfo", error.to_string()))?;
    let mut total = Freed::default();
    for (mount, inside) in by_mount(&mounts, &args.paths)? {
        let freed = Client::connect(mount)?.free(inside)?;
        total.files += freed.files;
        total.bytes += freed.bytes;
        total.dirty += freed.dirty;
        total.in_use += freed.in_use;
        total.pinned += freed.pinned;
    }
    match args.json {
        true => output::print_json(&total),
        false => output::print(&summary(&total)),
    }
}

fn summary(freed: &Freed) -> String {
    let mut text = match freed.files {
        0 => "nothing freed".to_owned(),
        count => format!("{}, {} freed", files(count), format_bytes(freed.bytes)),
    };
    if freed.dirty > 0 {
        let _ = write!(text, "; {} kept: not in the store yet", files(freed.dirty));
    }
    if freed.in_use > 0 {
        let _ = write!(text, "; {} kept: open", files(freed.in_use));
    }
    if freed.pinned > 0 {
        let _ = write!(
            text,
            "; {} kept: pinned (`fused unpin` first)",
            files(freed.pinned)
        );
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_told_with_its_reason() {
        let mut freed = Freed::default();
        assert_eq!(summary(&freed), "nothing freed\n");
        freed.dirty = 1;
        assert_eq!(
            summary(&freed),
            "nothing freed; 1 file kept: not in the store yet\n"
        );
        freed.files = 2;
        freed.bytes = 3 << 20;
        freed.in_use = 4;
        freed.pinned = 1;
        assert_eq!(
            summary(&freed),
            "2 files, 3.0 MiB freed; 1 file kept: not in the store yet; 4 files kept: open; \
             1 file kept: pinned (`fused unpin` first)\n"
        );
    }
}
