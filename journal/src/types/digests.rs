//! Digests of a file's bytes, by which what comes back from the store is compared with what went there.

/// Digests are of blocks of so many bytes, counted from the file's beginning; the last block may be shorter.
/// As small as the smallest request for a part of a file, so that whatever is fetched can be compared.
pub const BLOCK_BYTES: u64 = 32 << 10;

/// The first half of a block's blake3: enough against accidents, half the room.
pub type BlockDigest = [u8; 16];

/// Digests of blocks in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockDigests {
    /// Number of the first block.
    pub first: u64,
    /// One after the other.
    pub digests: Vec<BlockDigest>,
}

impl BlockDigests {
    /// The digest of a block, by its number in the file.
    pub fn of(&self, block: u64) -> Option<&BlockDigest> {
        let at = usize::try_from(block.checked_sub(self.first)?).ok()?;
        self.digests.get(at)
    }
}
