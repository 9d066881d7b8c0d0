//! Extent files made ahead of their need.
//!
//! Making a file costs the local file system tens of microseconds, which a program that makes thousands
//! would wait for each time. But inode numbers are given out in order, so while files are being created,
//! those for the numbers to come are made on a thread aside, and creating one takes it from here. What is
//! left over (the number went to a directory, the program stopped) is removed later, at the latest by the
//! next start, as an extent file without an inode.
//!
//! A file is in the map from before it is made until it is taken or removed, and whoever looks for a file by
//! its id takes it from here first. So one that is in use is never taken for a left-over.

use std::collections::BTreeMap;

use parking_lot::{Condvar, Mutex};

use crate::{ExtentId, Result};

enum Slot<F> {
    /// Somebody is making it.
    Coming,
    Ready(F),
    /// It is being removed.
    Leaving,
}

/// The files made ahead, each with what must be known of it.
pub(crate) struct Prepared<F> {
    /// Held for moments, never while a file is made. Lock order: innermost.
    slots: Mutex<BTreeMap<ExtentId, Slot<F>>>,
    moved: Condvar,
}

impl<F> Default for Prepared<F> {
    fn default() -> Self {
        Self {
            slots: Mutex::default(),
            moved: Condvar::default(),
        }
    }
}

impl<F> Prepared<F> {
    /// Makes one by `make`, unless it is there or coming.
    pub(crate) fn prepare(&self, id: ExtentId, make: impl FnOnce() -> Result<F>) -> Result<()> {
        {
            let mut slots = self.slots.lock();
            if slots.contains_key(&id) {
                return Ok(());
            }
            slots.insert(id, Slot::Coming);
        }
        let made = make();
        let mut slots = self.slots.lock();
        let result = match made {
            Ok(file) => {
                slots.insert(id, Slot::Ready(file));
                Ok(())
            }
            Err(error) => {
                slots.remove(&id);
                Err(error)
            }
        };
        drop(slots);
        self.moved.notify_all();
        result
    }

    /// Takes the file of `id`, for good. Waits for one that is coming or leaving.
    pub(crate) fn take(&self, id: ExtentId) -> Option<F> {
        let mut slots = self.slots.lock();
        while matches!(slots.get(&id), Some(Slot::Coming | Slot::Leaving)) {
            self.moved.wait(&mut slots);
        }
        match slots.remove(&id) {
            Some(Slot::Ready(file)) => Some(file),
            _ => None,
        }
    }

    /// Removes those for numbers below `ino` by `remove`, which is told of each in turn. All are tried; the
    /// first error is told.
    pub(crate) fn discard(
        &self,
        below: u64,
        remove: impl Fn(ExtentId, F) -> Result<()>,
    ) -> Result<()> {
        let end = ExtentId {
            ino: below,
            generation: 0,
        };
        let leaving: Vec<(ExtentId, F)> = {
            let mut slots = self.slots.lock();
            let ready = slots
                .range_mut(..end)
                .filter(|(_, slot)| matches!(slot, Slot::Ready(_)));
            ready
                .filter_map(|(&id, slot)| match std::mem::replace(slot, Slot::Leaving) {
                    Slot::Ready(file) => Some((id, file)),
                    Slot::Coming | Slot::Leaving => None,
                })
                .collect()
        };
        let mut result = Ok(());
        for (id, file) in leaving {
            let removed = remove(id, file);
            self.slots.lock().remove(&id);
            self.moved.notify_all();
            result = result.and(removed);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use std::fs::File;

    fn id(ino: u64) -> ExtentId {
        ExtentId { ino, generation: 0 }
    }

    fn make() -> Result<File> {
        tempfile::tempfile().map_err(|error| Error::io("making", "a test's file", error))
    }

    #[test]
    fn a_file_is_taken_once_and_then_nobody_elses_to_remove() {
        let prepared = Prepared::default();
        prepared.prepare(id(3), make).unwrap();
        prepared.prepare(id(4), make).unwrap();
        assert!(prepared.take(id(3)).is_some());
        assert!(prepared.take(id(3)).is_none());
        let removed = Mutex::new(Vec::new());
        let remove = |id, _| {
            removed.lock().push(id);
            Ok(())
        };
        prepared.discard(9, remove).unwrap();
        assert_eq!(*removed.lock(), [id(4)]);
        assert!(prepared.take(id(4)).is_none());
    }

    #[test]
    fn who_wants_a_file_that_is_coming_gets_it() {
        let prepared = Prepared::default();
        let (begun, wait) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let slow = || {
                    begun.send(()).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    make()
                };
                prepared.prepare(id(7), slow).unwrap();
            });
            wait.recv().unwrap();
            assert!(prepared.take(id(7)).is_some());
        });
        let nothing = |_, _| panic!("nothing is left");
        prepared.discard(u64::MAX, nothing).unwrap();
    }

    #[test]
    fn who_wants_a_file_that_is_leaving_waits_until_it_is_gone() {
        let prepared = Prepared::default();
        prepared.prepare(id(7), make).unwrap();
        let (begun, wait) = std::sync::mpsc::channel();
        let gone = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let slow = |_, _| {
                    begun.send(()).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    gone.store(true, std::sync::atomic::Ordering::SeqCst);
                    Ok(())
                };
                prepared.discard(9, slow).unwrap();
            });
            wait.recv().unwrap();
            assert!(prepared.take(id(7)).is_none());
            assert!(gone.load(std::sync::atomic::Ordering::SeqCst));
        });
    }

    #[test]
    fn a_file_that_could_not_be_made_is_not_there() {
        let prepared = Prepared::<File>::default();
        let failed = || {
            Err(Error::io(
                "making",
                "a test's file",
                std::io::Error::other("no"),
            ))
        };
        assert!(prepared.prepare(id(1), failed).is_err());
        assert!(prepared.take(id(1)).is_none());
    }
}
