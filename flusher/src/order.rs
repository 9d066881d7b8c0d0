//! Ordered publish: a commit marker never precedes its shards.
//!
//! Checkpoint writers write large shards first and a small `.metadata`, `latest` or `_SUCCESS` last, and
//! readers of the bucket take the small file as "all of it is here". So a file may become visible only
//! after every *blocker* that was closed before it in its own directory or below. Blockers are files of
//! multipart size (or all files, see [`crate::PublishOrder`]); "before" is the sequence number that the
//! journal stamps at each close.
//!
//! The question is asked for thousands of files and the answer needs only one number per directory: the
//! lowest sequence number of a blocker in it or below. Blockers are taken in ascending order and walk
//! towards the root until they meet a directory that has a number already (it is lower, and so are those
//! above it): every directory is visited once.

use std::collections::HashMap;

use journal::{Ino, Journal};

/// A file that others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Blocker {
    /// Its place in the order of closing.
    pub(crate) seq: u64,
    /// The directory that holds it.
    pub(crate) parent: Ino,
}

/// Lowest sequence number of a blocker in or below each directory.
#[derive(Debug, Default)]
pub(crate) struct Order {
    lowest: HashMap<Ino, u64>,
}

impl Order {
    /// Reads the directories above the blockers from the journal, as they are now: directories move.
    pub(crate) async fn build(
        journal: &Journal,
        mut blockers: Vec<Blocker>,
    ) -> Result<Self, journal::Error> {
        blockers.sort_unstable();
        let mut order = Self::default();
        for blocker in blockers {
            let mut directory = blocker.parent;
            while order.take(directory, blocker.seq) && directory != Ino::ROOT {
                match journal.inode(directory).await? {
                    Some(inode) => directory = inode.parent,
                    None => break,
                }
            }
        }
        Ok(order)
    }

    /// Whether the number was new to the directory.
    fn take(&mut self, directory: Ino, seq: u64) -> bool {
        let mut new = false;
        self.lowest.entry(directory).or_insert_with(|| {
            new = true;
            seq
        });
        new
    }

    /// Whether a file of this directory, closed as number `seq`, must wait.
    pub(crate) fn blocks(&self, directory: Ino, seq: u64) -> bool {
        self.lowest
            .get(&directory)
            .is_some_and(|lowest| *lowest < seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same with a table instead of a journal.
    fn build(parents: &HashMap<Ino, Ino>, mut blockers: Vec<Blocker>) -> Order {
        blockers.sort_unstable();
        let mut order = Order::default();
        for blocker in blockers {
            let mut directory = blocker.parent;
            while order.take(directory, blocker.seq) && directory != Ino::ROOT {
                directory = parents[&directory];
            }
        }
        order
    }

    #[test]
    fn a_blocker_holds_its_own_directory_and_those_above_but_not_its_neighbours() {
        let parents = HashMap::from([(Ino(2), Ino(1)), (Ino(3), Ino(2)), (Ino(4), Ino(1))]);
        let order = build(
            &parents,
            vec![Blocker {
                seq: 5,
                parent: Ino(3),
            }],
        );
        for above in [1, 2, 3] {
            assert!(order.blocks(Ino(above), 6) && !order.blocks(Ino(above), 4));
        }
        assert!(!order.blocks(Ino(4), 6));
        assert!(!order.blocks(Ino(3), 5), "a file does not wait for itself");
    }

    proptest! {
        #[test]
        fn the_answer_is_that_of_looking_at_every_blocker(
            tree in proptest::collection::vec(0usize..8, 7),
            blockers in proptest::collection::vec((0u64..20, 0usize..8), 0..6),
        ) {
            // Directory n+1 hangs on an earlier one: a tree with root 1.
            let parents: HashMap<Ino, Ino> = tree.iter().enumerate()
                .map(|(n, up)| (Ino(n as u64 + 2), Ino((up % (n + 1)) as u64 + 1))).collect();
            let blockers: Vec<Blocker> = blockers.into_iter()
                .map(|(seq, at)| Blocker { seq, parent: Ino(at as u64 + 1) }).collect();
            let order = build(&parents, blockers.clone());
            for directory in (1..=8).map(Ino) {
                for seq in 0..21 {
                    let naive = blockers.iter().any(|blocker| {
                        let mut at = blocker.parent;
                        while at != directory && at != Ino::ROOT { at = parents[&at]; }
                        at == directory && blocker.seq < seq
                    });
                    prop_assert_eq!(order.blocks(directory, seq), naive);
                }
            }
        }
    }
}
