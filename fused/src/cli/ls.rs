//! `fused ls PATH...`: how much of files and directories is in the local cache.

use serde::Serialize;

use super::args::Ls;
use super::paths::{by_mount, outside};
use super::{Error, output};
use crate::control::client::{Client, Listed};
use crate::control::mounts;
use crate::control::protocol::{Entry, EntryKind, WirePath};
use crate::options::format_bytes;

/// What `--json` prints for each entry.
#[derive(Serialize)]
struct Row<'e> {
    #[serde(flatten)]
    entry: &'e Entry,
    state: &'static str,
}

impl Row<'_> {
    fn of(entry: &Entry) -> Row<'_> {
        Row {
            entry,
            state: entry.state(),
        }
    }
}

/// Runs the command.
pub(super) fn run(args: &Ls) -> Result<(), Error> {
    let mounts =
        mounts::read().map_err(|error| Error::path("/proc/self/mountinfo", error.to_string()))?;
    let mut failed = false;
    for (mount, inside) in by_mount(&mounts, &args.paths)? {
        let mut client = Client::connect(mount)?;
        client.list(inside, args.recursive)?;
        while let Some(listed) = client.listed()? {
            match listed {
                Listed::Entry(mut entry) => {
                    entry.path = WirePath::from(outside(mount, entry.path).as_path());
                    match args.json {
                        true => output::print_json_line(&Row::of(&entry))?,
                        false => output::print(&line(&entry))?,
                    }
                }
                Listed::Failed(unmet) => {
                    failed = true;
                    let path = outside(mount, unmet.path);
                    output::complain(&format!("{}: {}", path.display(), unmet.reason));
                }
            }
        }
    }
    match failed {
        true => Err(Error::Told { exit_code: 1 }),
        false => Ok(()),
    }
}

/// Size, what of it is here, state, and the path at the end.
fn line(entry: &Entry) -> String {
    let share = match entry.bytes {
        0 => String::new(),
        bytes => format!("{:.0}%", entry.resident as f64 * 100.0 / bytes as f64),
    };
    let pinned = if entry.pinned { " pinned" } else { "" };
    let slash = match entry.kind {
        EntryKind::Directory => format!("/  ({} files)", entry.files),
        _ => String::new(),
    };
    format!(
        "{:>10} {:>10} {share:>5}  {:6}{pinned:7}  {}{slash}\n",
        format_bytes(entry.bytes),
        format_bytes(entry.resident),
        entry.state(),
        entry.path,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_size_share_state_and_path() {
        let mut entry = Entry {
            path: WirePath::from(b"/m/a".to_vec()),
            kind: EntryKind::File,
            files: 1,
            bytes: 4 << 20,
            resident: 1 << 20,
            dirty: 0,
            pinned: false,
        };
        assert_eq!(
            line(&entry),
            "   4.0 MiB    1.0 MiB   25%  clean          /m/a\n"
        );
        entry.kind = EntryKind::Directory;
        entry.files = 3;
        entry.dirty = 1;
        entry.pinned = true;
        assert_eq!(
            line(&entry),
            "   4.0 MiB    1.0 MiB   25%  dirty  pinned  /m/a/  (3 files)\n"
        );
        entry.dirty = 0;
        entry.resident = 0;
        assert_eq!(entry.state(), "store");
    }
}
