//! Content that says what it is: any bytes can be told to be exactly one version, or torn.
//!
//! A *version* is 16 bytes or more: its number (u64, little-endian), then the random sequence of that
//! number as seed. A *log* is a prefix of the random sequence of its own seed. A *table* is pages of
//! 4 KiB, each with the table's seed, its own number and a count of its rewrites, filled up with the
//! random sequence of those three.

use harness::Random;

/// Bytes of a table's page: what every local file system and the extent files treat as one.
pub const PAGE: usize = 4096;

/// The fewest bytes of a version: room for its number.
pub const VERSION_BYTES_MIN: usize = 16;

/// All the bytes of a version.
pub fn version(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = Random::new(number).bytes(len);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// The number that these bytes claim to be a version of.
pub fn claimed_version(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?))
}

/// How these bytes are not the version, for a report; None if they are.
pub fn difference(bytes: &[u8], number: u64, len: usize) -> Option<String> {
    let expected = version(number, len);
    if bytes == expected {
        return None;
    }
    let same = bytes
        .iter()
        .zip(&expected)
        .take_while(|(a, b)| a == b)
        .count();
    let zeros = bytes[same..].iter().take_while(|byte| **byte == 0).count();
    let claimed = claimed_version(bytes);
    let whole = claimed.is_some_and(|claimed| bytes == version(claimed, bytes.len()));
    Some(format!(
        "{} bytes instead of {len} of version {number:#x}: the first {same} are the same, then come {zeros} zeros; \
         it begins as version {claimed:#x?}, whole: {whole}",
        bytes.len()
    ))
}

/// The first `len` bytes of a log.
pub fn log(seed: u64, len: usize) -> Vec<u8> {
    Random::new(seed).bytes(len)
}

/// Page `page` of a table after `count` rewrites.
pub fn page(seed: u64, page: u32, count: u32) -> Vec<u8> {
    let mut bytes = Random::new(seed ^ (u64::from(page) << 32) ^ u64::from(count)).bytes(PAGE);
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..12].copy_from_slice(&page.to_le_bytes());
    bytes[12..16].copy_from_slice(&count.to_le_bytes());
    bytes
}

/// How often a page was rewritten; None if it is not whole. Zeros are a page never written.
pub fn count_of(seed: u64, number: u32, bytes: &[u8]) -> Option<u32> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Some(0);
    }
    let count = u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?);
    (bytes == page(seed, number, count)).then_some(count)
}

/// A small generator for decisions: the same seed makes the same workload.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The decisions of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        match among.len() {
            0 => None,
            len => among.get(self.below(len)),
        }
    }
}
