//! Who is deciding whether the bytes of a file are here or the object's.
//!
//! To part a file from its object (`detach`) its bytes are made local first; to give up its local bytes is to
//! say that they are the object's. Done at once to one file, the two leave the bytes nowhere. So whoever does
//! either holds the file meanwhile, and whoever comes second comes again later: nobody waits, because the
//! one waits for a fetch and the other for programs that read.

use std::collections::HashSet;
use std::sync::Arc;

use journal::Ino;
use parking_lot::Mutex;

/// The files that somebody holds. Leaf lock.
#[derive(Clone, Default)]
pub(crate) struct Holds(Arc<Mutex<HashSet<Ino>>>);

/// A file is held until this is dropped.
pub struct Hold {
    holds: Holds,
    ino: Ino,
}

impl Holds {
    /// None while somebody else holds it.
    pub(crate) fn hold(&self, ino: Ino) -> Option<Hold> {
        self.0.lock().insert(ino).then(|| Hold {
            holds: self.clone(),
            ino,
        })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.0.lock().remove(&self.ino);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_by_one_until_that_one_lets_go() {
        let holds = Holds::default();
        let first = holds.hold(Ino(7));
        assert!(first.is_some() && holds.hold(Ino(7)).is_none());
        assert!(holds.hold(Ino(8)).is_some());
        drop(first);
        assert!(holds.hold(Ino(7)).is_some());
        assert!(holds.0.lock().is_empty());
    }
}
