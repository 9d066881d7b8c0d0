//! What is known to differ and is to be mended: delete a function here with the fault that it avoids.

use nix::libc;

use crate::operation::{Flags, Identity, Operation, Over};
use crate::side::Side;

/// An operation without the faults that a single operation can run into.
///
/// Opening with `O_TRUNC` leaves the set-id bits, which a local file system takes away unless the
/// superuser does it.
pub fn avoid(who: Identity, what: Operation) -> Operation {
    match what {
        Operation::Open {
            slot,
            path,
            flags,
            mode,
        } if who != Identity::Root => Operation::Open {
            slot,
            path,
            flags: Flags(flags.0 & !libc::O_TRUNC),
            mode,
        },
        other => other,
    }
}

/// Closes directories that were removed while they are open: their inodes are reaped at once, and
/// what is done to them then fails with ENOENT or ESTALE.
pub fn forget_removed_directories(left: &mut Side, right: &mut Side) {
    for slot in right.removed_directories() {
        left.forget(slot);
        right.forget(slot);
    }
}

/// Whether `fused free` may come while files are open: one that is open for writing, freed, and then
/// written and flushed again keeps asking for the object that it replaced, and reads fail with ESTALE.
pub const FREE_WITH_OPEN_FILES: bool = false;

/// Whether an operation makes a file longer by its path: after it was freed, reading it fails with EIO.
pub fn grows_by_path(side: &Side, what: &Operation) -> bool {
    match what {
        Operation::Truncate { path, len } => side.size(path).is_some_and(|size| size < *len),
        _ => false,
    }
}

/// Whether an operation exchanges the names of a directory and of something else: in a folder as a
/// store neither of them can then take its place before the other has left it, so both stay dirty.
pub fn exchanges_kinds(side: &Side, what: &Operation) -> bool {
    match what {
        Operation::Rename {
            from,
            to,
            over: Over::Exchange,
        } => side.is_directory(from) != side.is_directory(to),
        _ => false,
    }
}
