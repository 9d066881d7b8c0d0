//! What was written lately, for optimistic transactions to compare with what they read.

use std::collections::VecDeque;
use std::time::Instant;

use crate::kv::limits::TRANSACTION_AGE_MAX;

/// Most keys that the window remembers; beyond it the oldest commits are forgotten and transactions
/// older than they are fail as too old. 100,000 keys of 30 bytes are about 6 MB.
const KEYS_MAX: usize = 100_000;

/// What a transaction has read.
#[derive(Debug, Default)]
pub(super) struct ReadSet {
    pub(super) keys: Vec<Vec<u8>>,
    /// `[begin, end)`.
    pub(super) ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a transaction wrote.
#[derive(Debug, Default)]
pub(super) struct WriteSet {
    /// Sorted.
    pub(super) keys: Vec<Vec<u8>>,
    /// `[begin, end)`.
    pub(super) ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

impl WriteSet {
    fn touches(&self, reads: &ReadSet) -> bool {
        let in_own_range = |key: &[u8]| {
            self.ranges
                .iter()
                .any(|(begin, end)| begin.as_slice() <= key && key < end.as_slice())
        };
        reads
            .keys
            .iter()
            .any(|key| self.keys.binary_search(key).is_ok() || in_own_range(key))
            || reads.ranges.iter().any(|(begin, end)| {
                let first = self.keys.partition_point(|key| key < begin);
                self.keys.get(first).is_some_and(|key| key < end)
                    || self
                        .ranges
                        .iter()
                        .any(|(own_begin, own_end)| own_begin < end && begin < own_end)
            })
    }
}

struct Commit {
    version: u64,
    at: Instant,
    writes: WriteSet,
}

/// Whether a transaction may be applied.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Apply,
    Conflict,
    TooOld,
}

/// The commits of the last seconds.
#[derive(Default)]
pub(super) struct Window {
    /// Commits so far.
    version: u64,
    /// Transactions that are older than this can't be judged.
    floor: u64,
    /// Optimistic transactions that are open.
    open: usize,
    keys: usize,
    commits: VecDeque<Commit>,
}

impl Window {
    /// An optimistic transaction begins; returns the version that it reads, or an older one. Must be
    /// called before its snapshot is taken.
    pub(super) fn enter(&mut self) -> u64 {
        self.open += 1;
        self.version
    }

    /// An optimistic transaction is over.
    pub(super) fn leave(&mut self) {
        self.open -= 1;
        if self.open == 0 {
            self.commits.clear();
            self.keys = 0;
            self.floor = self.version;
        }
    }

    /// Compares what a transaction read at `version` with what was written since.
    pub(super) fn judge(&self, version: u64, reads: &ReadSet) -> Verdict {
        if version < self.floor {
            return Verdict::TooOld;
        }
        let since = self
            .commits
            .partition_point(|commit| commit.version <= version);
        if self
            .commits
            .range(since..)
            .any(|commit| commit.writes.touches(reads))
        {
            Verdict::Conflict
        } else {
            Verdict::Apply
        }
    }

    /// A commit was applied. `writes` is only asked for when somebody may compare with it.
    pub(super) fn record(&mut self, writes: impl FnOnce() -> WriteSet) {
        self.version += 1;
        if self.open == 0 {
            self.floor = self.version;
            return;
        }
        let writes = writes();
        let now = Instant::now();
        self.keys += writes.keys.len() + writes.ranges.len();
        self.commits.push_back(Commit {
            version: self.version,
            at: now,
            writes,
        });
        while let Some(oldest) = self.commits.front()
            && (self.keys > KEYS_MAX || now.duration_since(oldest.at) > TRANSACTION_AGE_MAX)
        {
            self.keys -= oldest.writes.keys.len() + oldest.writes.ranges.len();
            self.floor = oldest.version;
            self.commits.pop_front();
        }
    }
}
