//! What is known to differ and is to be mended: delete a function here with the fault that it avoids.

use crate::operation::{Operation, Over};
use crate::side::Side;

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
