//! How the last run on this cache directory ended.
//!
//! The file `state` in the cache directory, text, one `key value` a line:
//!
//! ```text
//! fused-extents 1
//! boot 1b4e28ba-2fa1-11d2-883f-0016d3cca427
//! clean 0
//! ```
//!
//! The first line is the format. `boot` is the kernel's boot id when the file was written; `clean 1`
//! means that everything had been synced (`syncfs`) and nothing written after. The file is replaced
//! by rename and synced, because it is read after power cuts. Another boot id without `clean 1` means
//! that what was not synced may be lost.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::{Error, Result};

const NAME: &str = "state";
const FORMAT: u32 = 1;

/// What became of the run before this one. The last is the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PreviousRun {
    /// There was none: a new cache directory.
    None,
    /// Booted since, after an orderly stop: whatever was written is there.
    CleanStop,
    /// The machine has not been booted since: whatever was written is there, even after a kill.
    SameBoot,
    /// Booted since, without an orderly stop: ranges that were never synced may be holes again.
    UncleanBoot,
}

/// Reads how the last run ended. Records nothing: should recovery be cut short, the next one must see
/// the same.
pub(super) fn previous(dir: &Path, durable_after_boot: bool) -> Result<PreviousRun> {
    let boot = boot_id();
    let previous = match fs::read_to_string(dir.join(NAME)) {
        Ok(text) => {
            judge(&text, &boot, durable_after_boot).map_err(|found| Error::NewerFormat {
                dir: dir.to_owned(),
                found,
                known: FORMAT,
            })?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => PreviousRun::None,
        Err(error) => return Err(Error::io("reading", dir.join(NAME).display(), error)),
    };
    Ok(previous)
}

/// Records that a run is under way.
pub(super) fn begin(dir: &Path) -> Result<()> {
    record(dir, &boot_id(), false)
}

/// Records an orderly stop. The caller has synced the file system.
pub(super) fn end(dir: &Path) -> Result<()> {
    record(dir, &boot_id(), true)
}

fn judge(
    text: &str,
    boot: &str,
    durable_after_boot: bool,
) -> std::result::Result<PreviousRun, u32> {
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
    };
    match value("fused-extents").and_then(|found| found.parse().ok()) {
        Some(found) if found > FORMAT => return Err(found),
        Some(_) => {}
        // Torn or not ours: trust nothing.
        None => return Ok(PreviousRun::UncleanBoot),
    }
    let same_boot = value("boot").is_some_and(|then| then == boot && !boot.is_empty());
    Ok(match (same_boot, value("clean") == Some("1")) {
        (true, _) => PreviousRun::SameBoot,
        (false, true) => PreviousRun::CleanStop,
        (false, false) if durable_after_boot => PreviousRun::CleanStop,
        (false, false) => PreviousRun::UncleanBoot,
    })
}

fn record(dir: &Path, boot: &str, clean: bool) -> Result<()> {
    let text = format!(
        "fused-extents {FORMAT}\nboot {boot}\nclean {}\n",
        u8::from(clean)
    );
    let new = dir.join("state.new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, dir.join(NAME))?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| Error::io("writing", dir.join(NAME).display(), error))
}

/// The kernel's name for this boot; empty, and equal to none, where it can't be read.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT_1: &str = "fused-extents 1\nboot 1b4e28ba-2fa1-11d2-883f-0016d3cca427\nclean 0\n";
    const BOOT: &str = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";

    #[test]
    fn the_same_boot_means_that_everything_written_is_there() {
        assert_eq!(judge(FORMAT_1, BOOT, false), Ok(PreviousRun::SameBoot));
    }

    #[test]
    fn another_boot_without_an_orderly_stop_is_unclean_unless_the_device_is_vouched_for() {
        assert_eq!(
            judge(FORMAT_1, "other", false),
            Ok(PreviousRun::UncleanBoot)
        );
        assert_eq!(judge(FORMAT_1, "other", true), Ok(PreviousRun::CleanStop));
    }

    #[test]
    fn another_boot_after_an_orderly_stop_is_clean() {
        assert_eq!(
            judge(&FORMAT_1.replace("clean 0", "clean 1"), "other", false),
            Ok(PreviousRun::CleanStop)
        );
    }

    #[test]
    fn a_torn_record_is_trusted_with_nothing() {
        assert_eq!(judge("", BOOT, false), Ok(PreviousRun::UncleanBoot));
    }

    #[test]
    fn an_unknown_boot_id_equals_none() {
        assert_eq!(
            judge("fused-extents 1\nboot \nclean 0\n", "", false),
            Ok(PreviousRun::UncleanBoot)
        );
    }

    #[test]
    fn a_newer_format_is_refused() {
        assert_eq!(judge("fused-extents 2\n", BOOT, false), Err(2));
    }
}
