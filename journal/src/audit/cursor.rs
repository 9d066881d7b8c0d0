//! Reading many rows in order, a page at a time, in transactions that are begun anew before they grow old.

use crate::Error;
use crate::keys;
use crate::kv::{Mode, Range, Row, Transaction};
use crate::shared::Shared;
use std::collections::VecDeque;

/// Rows read at once.
const PAGE: usize = 512;

/// Reads by one transaction, which lives 5 s at most.
const READS_MAX: u32 = 256;

/// Reads of a journal that nobody changes.
pub(super) struct Reader<'j> {
    shared: &'j Shared,
    kv: Option<Box<dyn Transaction>>,
    reads: u32,
}

impl<'j> Reader<'j> {
    pub(super) fn new(shared: &'j Shared) -> Self {
        Self {
            shared,
            kv: None,
            reads: 0,
        }
    }

    /// The present transaction, or a new one.
    fn kv(&mut self) -> Result<&mut Box<dyn Transaction>, Error> {
        if self.reads >= READS_MAX {
            self.kv = None;
        }
        self.reads += 1;
        let kv = match self.kv.take() {
            Some(kv) => kv,
            None => {
                self.reads = 1;
                self.shared.store.begin(Mode::Read)?
            }
        };
        Ok(self.kv.insert(kv))
    }

    pub(super) async fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.kv()?.get(key, true).await {
            Err(error) if error.is_retryable() => {
                self.kv = None;
                Ok(self.kv()?.get(key, true).await?)
            }
            got => Ok(got?),
        }
    }

    pub(super) async fn has(&mut self, key: &[u8]) -> Result<bool, Error> {
        Ok(self.get(key).await?.is_some())
    }

    /// At most `limit` rows of `[begin, end)`.
    pub(super) async fn range(
        &mut self,
        begin: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, Error> {
        let range = Range {
            begin,
            end,
            limit,
            reverse: false,
        };
        match self.kv()?.range(range, true).await {
            Err(error) if error.is_retryable() => {
                self.kv = None;
                Ok(self.kv()?.range(range, true).await?)
            }
            rows => Ok(rows?),
        }
    }
}

/// A place among the rows of a prefix.
pub(super) struct Cursor {
    /// Where the next page begins; None after the last.
    begin: Option<Vec<u8>>,
    end: Vec<u8>,
    page: VecDeque<Row>,
}

impl Cursor {
    pub(super) fn new(prefix: &[u8]) -> Self {
        Self {
            begin: Some(prefix.to_vec()),
            end: keys::after_prefix(prefix),
            page: VecDeque::new(),
        }
    }

    async fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        if self.page.is_empty()
            && let Some(begin) = self.begin.take()
        {
            let rows = reader.range(&begin, &self.end, PAGE).await?;
            self.begin = match rows.last() {
                Some((key, _)) if rows.len() == PAGE => Some(keys::just_after(key)),
                _ => None,
            };
            self.page = rows.into();
        }
        Ok(())
    }

    pub(super) async fn next(&mut self, reader: &mut Reader<'_>) -> Result<Option<Row>, Error> {
        self.load(reader).await?;
        Ok(self.page.pop_front())
    }

    /// The inode number that the next row's key begins with. A key too short for one counts as 0, which no
    /// inode has.
    pub(super) async fn ino(&mut self, reader: &mut Reader<'_>) -> Result<Option<u64>, Error> {
        self.load(reader).await?;
        let next = self.page.front();
        Ok(next.map(|(key, _)| keys::parse_ino(key).map_or(0, |ino| ino.0)))
    }

    /// The next row, if it is one of this inode.
    pub(super) async fn next_of(
        &mut self,
        ino: u64,
        reader: &mut Reader<'_>,
    ) -> Result<Option<Row>, Error> {
        match self.ino(reader).await? == Some(ino) {
            true => self.next(reader).await,
            false => Ok(None),
        }
    }
}
