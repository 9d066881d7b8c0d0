//! What the blocks of a file are: found when they are sent, compared when they come back.
//!
//! An etag says that an object is the one that was put, not that every byte of it is, nor that every byte
//! arrives here: disks, memories and networks change some, and few of the stores in between look. A block that
//! comes back as something else is asked for again, and is an error after that; it is never anybody's data.
//!
//! Only what was uploaded here, of closed files, has digests: an open one may change without a new epoch. What
//! has none is taken as it comes.

use std::ops::Range;

use bytes::Bytes;
use journal::{BLOCK_BYTES, BlockDigest, BlockDigests, Ino, Origin};
use remote::{ETag, ObjectKey};

use crate::core::Core;
use crate::error::Error;

/// Bytes above this are looked at on a thread of their own: a megabyte takes half a millisecond.
const INLINE_BYTES: usize = 1 << 20;
/// How often a block that is not what was sent is asked for.
const TRIES_MAX: usize = 3;

/// The digests of a file's bytes from `start` on; none if that is within a block.
pub(crate) async fn digests_of(start: u64, bytes: &Bytes) -> BlockDigests {
    if !start.is_multiple_of(BLOCK_BYTES) {
        return BlockDigests::default();
    }
    let of = bytes.clone();
    BlockDigests {
        first: start / BLOCK_BYTES,
        digests: aside(bytes.len(), move || digests(&of)).await,
    }
}

/// The bytes of an inode's object, all of them as they were sent.
pub(crate) async fn get(
    core: &Core,
    ino: Ino,
    origin: &Origin,
    range: Range<u64>,
) -> Result<Bytes, Error> {
    let key = &ObjectKey::from(origin.key.as_str());
    let etag = origin.etag.clone().map(ETag);
    let blocks = range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES);
    let known = match &etag {
        Some(ETag(etag)) if core.config.verify => {
            core.journal().digests(ino, etag, blocks.clone()).await?
        }
        _ => Vec::new(),
    };
    if known.is_empty() {
        return Ok(core.remote().get(key, range, etag.as_ref()).await?);
    }
    // Whole blocks, or nothing could be said of the outer ones.
    let whole = blocks.start * BLOCK_BYTES..(blocks.end * BLOCK_BYTES).min(origin.size);
    let mut wrong = blocks.start;
    for _ in 0..TRIES_MAX {
        let bytes = core.remote().get(key, whole.clone(), etag.as_ref()).await?;
        let (found, known) = (bytes.clone(), known.clone());
        let first = blocks.start;
        match aside(bytes.len(), move || first_wrong(&found, first, &known)).await {
            None => {
                let at = |offset: u64| usize::try_from(offset - whole.start).unwrap_or(usize::MAX);
                return Ok(bytes.slice(at(range.start)..at(range.end).min(bytes.len())));
            }
            Some(block) => wrong = block,
        }
        core.stats.corrupt_block();
        tracing::error!(%key, %ino, offset = wrong * BLOCK_BYTES, "what came from the store is not what was sent there");
    }
    Err(Error::Corrupt {
        key: origin.key.clone(),
        offset: wrong * BLOCK_BYTES,
    })
}

/// Whether these bytes are the block with this digest.
#[must_use]
pub fn is_block(bytes: &[u8], known: &BlockDigest) -> bool {
    digest(bytes) == *known
}

/// The first block that is not as it should be.
fn first_wrong(bytes: &[u8], first: u64, known: &[BlockDigests]) -> Option<u64> {
    let is_wrong = |(block, digest): &(u64, BlockDigest)| {
        let mut known = known.iter().filter_map(|known| known.of(*block));
        known.next().is_some_and(|known| known != digest)
    };
    let found = (first..).zip(digests(bytes));
    found.into_iter().find(is_wrong).map(|(block, _)| block)
}

fn digests(bytes: &[u8]) -> Vec<BlockDigest> {
    let block = usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX);
    bytes.chunks(block).map(digest).collect()
}

fn digest(block: &[u8]) -> BlockDigest {
    let mut half = BlockDigest::default();
    half.copy_from_slice(&blake3::hash(block).as_bytes()[..size_of::<BlockDigest>()]);
    half
}

/// Runs work on so many bytes where it keeps nobody waiting.
async fn aside<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= INLINE_BYTES {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // The runtime ends, or the work panicked: so does this task.
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = BLOCK_BYTES as usize;

    #[tokio::test]
    async fn each_block_has_its_digest_and_a_changed_one_is_found() {
        let mut bytes: Vec<u8> = (0..3 * BLOCK + 5).map(|at| (at / 7) as u8).collect();
        let sent = digests_of(2 * BLOCK_BYTES, &Bytes::from(bytes.clone())).await;
        assert_eq!((sent.first, sent.digests.len()), (2, 4));
        let known = [sent];
        assert_eq!(first_wrong(&bytes, 2, &known), None);
        assert_eq!(first_wrong(&bytes[BLOCK..2 * BLOCK], 3, &known), None);
        // Of what is not known nothing is said.
        assert_eq!(first_wrong(&bytes, 6, &known), None);
        bytes[3 * BLOCK + 4] ^= 1;
        assert_eq!(first_wrong(&bytes, 2, &known), Some(5));
        assert_eq!(first_wrong(&bytes[..3 * BLOCK], 2, &known), None);
        let within = digests_of(BLOCK_BYTES + 1, &Bytes::from(bytes)).await;
        assert_eq!(within, BlockDigests::default());
    }

    #[tokio::test]
    async fn large_bytes_have_the_digests_of_small_ones() {
        let bytes = Bytes::from(vec![7; INLINE_BYTES + 1]);
        let whole = digests_of(0, &bytes).await;
        assert_eq!(whole.digests.len(), INLINE_BYTES / BLOCK + 1);
        assert_eq!(whole.of(3), Some(&digest(&bytes[3 * BLOCK..4 * BLOCK])));
    }
}
