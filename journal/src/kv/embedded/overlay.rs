//! The writes of a transaction that isn't committed yet, and how its reads see them.

use crate::kv::limits;
use crate::kv::{KvError, Range, Row};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// What becomes of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Set(Vec<u8>),
    Clear,
    /// Added to whatever is there at commit.
    Add(i64),
}

/// The buffered writes of a range, in the direction of a read.
type OwnRows<'a> = Box<dyn Iterator<Item = (&'a Vec<u8>, &'a Write)> + 'a>;

/// Adds to a little-endian number; a missing or short value counts as padded with zeros.
pub(super) fn add(base: Option<&[u8]>, delta: i64) -> Vec<u8> {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(base.unwrap_or_default()) {
        *to = *from;
    }
    i64::from_le_bytes(bytes)
        .wrapping_add(delta)
        .to_le_bytes()
        .to_vec()
}

/// Buffered writes: `points` came after `cleared` and win over it.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    pub(super) points: BTreeMap<Vec<u8>, Write>,
    /// `[begin, end)`.
    pub(super) cleared: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
    /// The first limit that was exceeded; reported by commit.
    exceeded: Option<KvError>,
}

/// The answer of the buffered writes to a read.
pub(super) enum Known<'a> {
    /// The value is this.
    Value(Option<&'a [u8]>),
    /// The value is what the store has plus this.
    Plus(i64),
    /// The store knows.
    Nothing,
}

impl Overlay {
    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.cleared.is_empty()
    }

    /// The first limit that the writes exceed.
    pub(super) fn check(&mut self) -> Result<(), KvError> {
        self.exceeded.take().map_or(Ok(()), Err)
    }

    fn account(&mut self, key: &[u8], value: &[u8]) {
        self.bytes += key.len() + value.len();
        let mut verdict = limits::check_key(key).and_then(|()| limits::check_value(value));
        if self.bytes > limits::TRANSACTION_BYTES_MAX {
            verdict = Err(KvError::Limit(
                "a transaction of more than 10,000,000 bytes",
            ));
        }
        if let Err(error) = verdict {
            self.exceeded.get_or_insert(error);
        }
    }

    pub(super) fn set(&mut self, key: &[u8], value: Vec<u8>) {
        self.account(key, &value);
        self.points.insert(key.to_vec(), Write::Set(value));
    }

    pub(super) fn clear(&mut self, key: &[u8]) {
        self.account(key, &[]);
        self.points.insert(key.to_vec(), Write::Clear);
    }

    pub(super) fn clear_range(&mut self, begin: &[u8], end: &[u8]) {
        if begin >= end {
            return;
        }
        self.account(begin, end);
        let covered: Vec<Vec<u8>> = self
            .points
            .range::<[u8], _>((
                std::ops::Bound::Included(begin),
                std::ops::Bound::Excluded(end),
            ))
            .map(|(key, _)| key.clone())
            .collect();
        for key in covered {
            self.points.remove(&key);
        }
        self.cleared.push((begin.to_vec(), end.to_vec()));
    }

    pub(super) fn atomic_add(&mut self, key: &[u8], delta: i64) {
        self.account(key, &[0; 8]);
        let write = match self.get(key) {
            Known::Value(base) => Write::Set(add(base, delta)),
            Known::Plus(other) => Write::Add(other.wrapping_add(delta)),
            Known::Nothing => Write::Add(delta),
        };
        self.points.insert(key.to_vec(), write);
    }

    pub(super) fn is_cleared(&self, key: &[u8]) -> bool {
        self.cleared
            .iter()
            .any(|(begin, end)| begin.as_slice() <= key && key < end.as_slice())
    }

    pub(super) fn get(&self, key: &[u8]) -> Known<'_> {
        match self.points.get(key) {
            Some(Write::Set(value)) => Known::Value(Some(value)),
            Some(Write::Clear) => Known::Value(None),
            Some(Write::Add(delta)) => Known::Plus(*delta),
            None if self.is_cleared(key) => Known::Value(None),
            None => Known::Nothing,
        }
    }

    /// Whether a read of this range would see any of the writes.
    fn touches(&self, range: &Range<'_>) -> bool {
        self.cleared
            .iter()
            .any(|(begin, end)| begin.as_slice() < range.end && range.begin < end.as_slice())
            || self.points_in(range).next().is_some()
    }

    fn points_in(
        &self,
        range: &Range<'_>,
    ) -> std::collections::btree_map::Range<'_, Vec<u8>, Write> {
        self.points.range::<[u8], _>((
            std::ops::Bound::Included(range.begin),
            std::ops::Bound::Excluded(range.end),
        ))
    }

    /// The rows of `range` as the transaction sees them; `base` are the store's, in the same
    /// direction. The range must not be empty.
    pub(super) fn merge(
        &self,
        range: &Range<'_>,
        mut base: impl Iterator<Item = Result<Row, KvError>>,
    ) -> Result<Vec<Row>, KvError> {
        if !self.touches(range) {
            return base.take(range.limit).collect();
        }
        let points = self.points_in(range);
        let own: OwnRows<'_> = if range.reverse {
            Box::new(points.rev())
        } else {
            Box::new(points)
        };
        let mut own = own.peekable();
        let mut theirs = base.next().transpose()?;
        let mut rows = Vec::new();
        while rows.len() < range.limit {
            let order = match (&theirs, own.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((their_key, _)), Some((own_key, _))) if range.reverse => {
                    own_key.as_slice().cmp(their_key)
                }
                (Some((their_key, _)), Some((own_key, _))) => their_key.cmp(own_key),
            };
            let mut their_row = None;
            if order != Ordering::Greater {
                their_row = std::mem::replace(&mut theirs, base.next().transpose()?);
            }
            let their_row = their_row.filter(|(key, _)| !self.is_cleared(key));
            if order == Ordering::Less {
                rows.extend(their_row);
            } else if let Some((key, write)) = own.next() {
                match write {
                    Write::Set(value) => rows.push((key.clone(), value.clone())),
                    Write::Clear => {}
                    Write::Add(delta) => {
                        let base = their_row.as_ref().map(|(_, value)| value.as_slice());
                        rows.push((key.clone(), add(base, *delta)));
                    }
                }
            }
        }
        Ok(rows)
    }
}
