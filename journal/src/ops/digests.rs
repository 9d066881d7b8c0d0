//! What the blocks of an object are: recorded with what is uploaded, asked for what is fetched.
//!
//! Rows are of an epoch. Those of parts come while the object is still the one before, and take the place of
//! its rows; what an object's blocks are is believed only of rows of the epoch *and* the etag that `flushed`
//! recorded last. So an upload that goes on or was given up, and an object that somebody else has put, have no
//! digests rather than wrong ones.

use crate::attempts::look;
use crate::records::{DigestRow, DigestedRow, corrupt, decode};
use crate::txn::Txn;
use crate::types::{BLOCK_BYTES, BlockDigest, BlockDigests, Epoch, Ino, Origin};
use crate::{Error, Journal, keys};
use std::ops::Range;

/// Digests in a row: 2 KiB, of 4 MiB.
const ROW_DIGESTS: usize = 128;
/// Rows read or removed at once.
const ROWS_MAX: usize = 1000;

impl Journal {
    /// The digests of blocks of an inode's object, as far as they are known; none if it is not the version
    /// with this etag that was uploaded. In the order of blocks.
    pub async fn digests(
        &self,
        ino: Ino,
        etag: &str,
        blocks: Range<u64>,
    ) -> Result<Vec<BlockDigests>, Error> {
        let blocks = &blocks;
        look!(self, txn => digests(txn, ino, etag, blocks))
    }
}

async fn digests(
    txn: &mut Txn<'_>,
    ino: Ino,
    etag: &str,
    blocks: &Range<u64>,
) -> Result<Vec<BlockDigests>, Error> {
    let of: Option<DigestedRow> = txn.load(&keys::digested(ino)).await?;
    let Some(of) = of.filter(|of| of.etag.as_deref() == Some(etag)) else {
        return Ok(Vec::new());
    };
    let mut known = Vec::new();
    let mut take = |first: u64, bytes: &[u8]| {
        let digests = unpacked(bytes);
        let end = first + digests.len() as u64;
        if first < blocks.end && blocks.start < end {
            known.push(BlockDigests { first, digests });
        }
    };
    take(0, &of.head);
    let prefix = keys::all_digests(ino);
    let before = blocks.start.checked_sub(ROW_DIGESTS as u64);
    let mut after = before.map(|block| keys::digests(ino, block));
    loop {
        let page = txn.rows(&prefix, after.as_deref(), 8).await?;
        for (key, value) in &page {
            let first = keys::parse_digests(key)
                .ok_or_else(|| corrupt(key, "a short key of digests".into()))?;
            if first >= blocks.end {
                return Ok(known);
            }
            let row: DigestRow = decode(key, value)?;
            if row.epoch == of.epoch {
                take(first, &row.digests);
            }
        }
        match page.into_iter().last() {
            Some((last, _)) => after = Some(last),
            None => return Ok(known),
        }
    }
}

/// Rows of blocks that are about to be an object's.
pub(super) fn put_digests(
    txn: &mut Txn<'_>,
    ino: Ino,
    epoch: Epoch,
    blocks: &BlockDigests,
) -> Result<(), Error> {
    let mut first = blocks.first;
    for digests in blocks.digests.chunks(ROW_DIGESTS) {
        let row = DigestRow {
            epoch,
            digests: digests.concat(),
        };
        txn.put(&keys::digests(ino, first), &row)?;
        first += digests.len() as u64;
    }
    Ok(())
}

/// The object is this one now, after the one with the etag `old`. `blocks`: those of it that have no rows yet;
/// `None`: its bytes are those of the old one, if it has the same epoch.
pub(super) async fn digested(
    txn: &mut Txn<'_>,
    ino: Ino,
    old: Option<&str>,
    new: &Origin,
    blocks: Option<&BlockDigests>,
) -> Result<(), Error> {
    let key = keys::digested(ino);
    let before: Option<DigestedRow> = txn.load(&key).await?;
    let head = match (blocks, &before) {
        (None, None) => return Ok(()),
        // Somebody else's version may have been taken over since, which has no epoch of its own.
        (None, Some(before)) if before.epoch == new.epoch && before.etag.as_deref() == old => {
            before.head.clone()
        }
        (None, Some(_)) => {
            txn.clear(&key);
            return Ok(());
        }
        (Some(blocks), _) => {
            if before.is_some() {
                // It may have been longer.
                let end = keys::digests(ino, new.size.div_ceil(BLOCK_BYTES));
                txn.kv
                    .clear_range(&end, &keys::after_prefix(&keys::all_digests(ino)));
            }
            let inline = match blocks.first {
                0 => blocks.digests.len().min(ROW_DIGESTS),
                _ => 0,
            };
            let (head, rest) = blocks.digests.split_at(inline);
            let rest = BlockDigests {
                first: blocks.first + inline as u64,
                digests: rest.to_vec(),
            };
            put_digests(txn, ino, new.epoch, &rest)?;
            head.concat()
        }
    };
    let row = DigestedRow {
        epoch: new.epoch,
        etag: new.etag.clone(),
        head,
    };
    txn.put(&key, &row)
}

/// Removes rows of digests; true if there may be more.
pub(super) async fn clear_digests(txn: &mut Txn<'_>, ino: Ino) -> Result<bool, Error> {
    txn.clear(&keys::digested(ino));
    let rows = txn.rows(&keys::all_digests(ino), None, ROWS_MAX).await?;
    let more = rows.len() == ROWS_MAX;
    for (key, _) in rows {
        txn.clear(&key);
    }
    Ok(more)
}

fn unpacked(bytes: &[u8]) -> Vec<BlockDigest> {
    bytes.as_chunks().0.to_vec()
}
