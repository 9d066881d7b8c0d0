//! Reads and writes below a prefix.

use super::error::{committing, reading};
use crate::kv::{KvError, Range, Row, Transaction, limits};
use async_trait::async_trait;
use foundationdb::options::{MutationType, StreamingMode};
use foundationdb::{FdbError, KeySelector, RangeOption};
use std::sync::Arc;

/// A transaction below the store's prefix.
pub(super) struct FdbTransaction {
    pub(super) inner: foundationdb::Transaction,
    prefix: Arc<[u8]>,
    writes: bool,
    exceeded: Option<KvError>,
}

impl FdbTransaction {
    pub(super) fn new(inner: foundationdb::Transaction, prefix: Arc<[u8]>) -> Self {
        Self {
            inner,
            prefix,
            writes: false,
            exceeded: None,
        }
    }

    /// Where a key is in the cluster.
    pub(super) fn at(&self, key: &[u8]) -> Vec<u8> {
        let mut at = Vec::with_capacity(self.prefix.len() + key.len());
        at.extend_from_slice(&self.prefix);
        at.extend_from_slice(key);
        at
    }

    /// Remembers the first limit that a write exceeds; commit reports it.
    fn check(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.writes = true;
        match limits::check_key(key).and_then(|()| limits::check_value(value)) {
            Ok(()) => true,
            Err(error) => {
                self.exceeded.get_or_insert(error);
                false
            }
        }
    }
}

#[async_trait]
impl Transaction for FdbTransaction {
    async fn get(&mut self, key: &[u8], snapshot: bool) -> Result<Option<Vec<u8>>, KvError> {
        limits::check_key(key)?;
        let read = self.inner.get(&self.at(key), snapshot);
        let value = read.await.map_err(reading)?;
        Ok(value.map(|value| value.to_vec()))
    }

    async fn range(&mut self, range: Range<'_>, snapshot: bool) -> Result<Vec<Row>, KvError> {
        limits::check_key(range.begin)?;
        limits::check_key(range.end)?;
        let mut rows: Vec<Row> = Vec::new();
        if range.begin >= range.end || range.limit == 0 {
            return Ok(rows);
        }
        let (begin, end) = (self.at(range.begin), self.at(range.end));
        let mut option = RangeOption {
            begin: KeySelector::first_greater_or_equal(begin),
            end: KeySelector::first_greater_or_equal(end),
            limit: Some(range.limit),
            reverse: range.reverse,
            mode: StreamingMode::WantAll,
            ..RangeOption::default()
        };
        let mut iteration = 1;
        loop {
            let read = self.inner.get_range(&option, iteration, snapshot);
            let page = read.await.map_err(reading)?;
            rows.extend(page.iter().map(|row| {
                let key = row.key().get(self.prefix.len()..).unwrap_or_default();
                (key.to_vec(), row.value().to_vec())
            }));
            if rows.len() >= range.limit {
                return Ok(rows);
            }
            match option.next_range(&page) {
                Some(next) => option = next,
                None => return Ok(rows),
            }
            iteration += 1;
        }
    }

    fn set(&mut self, key: &[u8], value: Vec<u8>) {
        if self.check(key, &value) {
            self.inner.set(&self.at(key), &value);
        }
    }

    fn clear(&mut self, key: &[u8]) {
        if self.check(key, &[]) {
            self.inner.clear(&self.at(key));
        }
    }

    fn clear_range(&mut self, begin: &[u8], end: &[u8]) {
        if begin < end && self.check(begin, &[]) && self.check(end, &[]) {
            self.inner.clear_range(&self.at(begin), &self.at(end));
        }
    }

    fn atomic_add(&mut self, key: &[u8], delta: i64) {
        if self.check(key, &[]) {
            let delta = delta.to_le_bytes();
            self.inner
                .atomic_op(&self.at(key), &delta, MutationType::Add);
        }
    }

    async fn commit(mut self: Box<Self>) -> Result<(), KvError> {
        if let Some(error) = self.exceeded.take() {
            return Err(error);
        }
        if !self.writes {
            return Ok(());
        }
        match self.inner.commit().await {
            Ok(_) => Ok(()),
            Err(error) => Err(committing(FdbError::from(error))),
        }
    }
}
