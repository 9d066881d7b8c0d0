//! How a file is cut into parts.
//!
//! Stores allow at most 10,000 parts of one upload (S3, R2, GCS's XML interface; Azure allows 50,000
//! blocks) and objects of at most 5 TiB (some more). The part size is
//!
//! ```text
//! part_bytes = max(16 MiB, the store's minimum, ceil(size / 10,000)) rounded up to 1 MiB
//! ```
//!
//! so 16 MiB up to 156 GiB, and 525 MiB for 5 TiB: 9,987 parts. Every part but the last has that size, so
//! a part's number alone says which bytes it holds, which is what lets a restarted upload continue.

use std::ops::Range;

/// Most parts that one upload may have.
pub const PARTS_MAX: u64 = 10_000;
/// Largest object that is uploaded.
pub const OBJECT_BYTES_MAX: u64 = 5 << 40;
const ROUND_BYTES: u64 = 1 << 20;

/// Size of every part but the last for a file of `size` bytes.
pub fn part_bytes(size: u64, part_bytes_min: u64) -> u64 {
    let needed = size.div_ceil(PARTS_MAX).max(part_bytes_min).max(1);
    // Small minimums occur only in tests, and on stores that emulate parts: no need to round those.
    if needed < ROUND_BYTES {
        needed
    } else {
        needed.next_multiple_of(ROUND_BYTES)
    }
}

/// How many parts a file of `size` bytes has; an empty file has one empty part.
pub fn part_count(size: u64, part_bytes: u64) -> u32 {
    u32::try_from(size.div_ceil(part_bytes.max(1)).max(1)).unwrap_or(u32::MAX)
}

/// The bytes of part `number`, counted from 1.
pub fn part_range(number: u32, size: u64, part_bytes: u64) -> Range<u64> {
    let start = u64::from(number.saturating_sub(1)).saturating_mul(part_bytes);
    start.min(size)..start.saturating_add(part_bytes).min(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn parts_are_sixteen_mebibytes_until_ten_thousand_of_them_are_not_enough() {
        assert_eq!(part_bytes(9 * MIB, 16 * MIB), 16 * MIB);
        assert_eq!(part_bytes(160_000 * MIB, 16 * MIB), 16 * MIB);
        assert_eq!(part_bytes(160_000 * MIB + 1, 16 * MIB), 17 * MIB);
        assert_eq!(part_bytes(OBJECT_BYTES_MAX, 16 * MIB), 525 * MIB);
        assert_eq!(part_count(OBJECT_BYTES_MAX, 525 * MIB), 9_987);
    }

    proptest! {
        #[test]
        fn parts_cover_every_byte_once_and_never_exceed_the_limit(
            size in 0..=OBJECT_BYTES_MAX, minimum in 1..64 * MIB
        ) {
            let part = part_bytes(size, minimum);
            let count = part_count(size, part);
            prop_assert!(part >= minimum && u64::from(count) <= PARTS_MAX);
            prop_assert_eq!(part_range(1, size, part).start, 0);
            prop_assert_eq!(part_range(count, size, part).end, size);
            let middle = count.div_ceil(2);
            let range = part_range(middle, size, part);
            prop_assert_eq!(range.end, part_range(middle + 1, size, part).start);
            prop_assert!(middle == count || range.end - range.start == part);
        }
    }
}
