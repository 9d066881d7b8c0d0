//! Places in a directory that stay valid while its entries come and go.
//!
//! A program may stop reading a directory anywhere, and go on from that place much later (the kernel's
//! buffer was full; telldir(3) and seekdir(3)). The place is one number, and what it must mean is: all
//! entries before it have been returned. Neither the position among the entries can say that, since
//! removing an entry moves all behind it, nor can a name, which has no room in a number.
//!
//! So the names, in the journal's order, are cut into *blocks* as they are first read, each of
//! [`BLOCK`] entries at that moment. Where a block begins is remembered as long as the directory is
//! open, and never changes: an entry belongs to the same block whatever happens to others. Within a
//! block, entries are returned in the order of a hash of their names. A place is the number of a block
//! and a hash; what is behind it are the entries of that block with a larger hash, and all later blocks.
//! So an entry that exists all the time is returned exactly once, also if the one at which the reader
//! stopped is gone.
//!
//! | bits of a place | |
//! |---|---|
//! | 63 | 0, since offsets are signed |
//! | 62 to 40 | number of the block, from 1 |
//! | 39 to 0 | hash |
//!
//! Block 0 is for `.` and `..`, at places 1 and 2. Memory: one name for every [`BLOCK`] entries. A place
//! from another open of the directory, or from before a rewind, leads to about the same entries, and to
//! exactly the same if the directory has not changed.
//!
//! Two entries of one block have the same hash once in some ten million large blocks. The first of them
//! then has the place before, so that stopping between the two returns one twice rather than never.

use std::future::Future;
use std::hash::{DefaultHasher, Hasher};

use journal::DirEntry;
use parking_lot::Mutex;

use super::Result;

/// Entries that a block has when it is first read.
pub const BLOCK: usize = 256;

const HASH_BITS: u32 = 40;
const HASH_MASK: u64 = (1 << HASH_BITS) - 1;

/// Blocks that a place has room for: 2,000 million entries.
const BLOCKS_MAX: usize = 1 << (63 - HASH_BITS);

/// Where the names come from.
pub trait Names {
    /// At most `limit` entries after a name, in the order of names.
    fn after(
        &self,
        name: Option<&[u8]>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DirEntry>>> + Send;
}

/// Where the blocks read so far begin.
#[derive(Default)]
pub struct Blocks {
    // A lock for bookkeeping; never held while reading names.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The last name of each block but the last one: the next begins after it.
    ends: Vec<Vec<u8>>,
    /// The last block has been read; it has all names after the last of `ends`.
    complete: bool,
}

/// What is known of a block.
enum Extent {
    /// It goes from after a name to a name, or to the end.
    Read {
        after: Option<Vec<u8>>,
        upto: Option<Vec<u8>>,
    },
    /// It is the next one to be read.
    Next { after: Option<Vec<u8>> },
    /// It is behind the end.
    Beyond,
}

impl Known {
    fn extent(&self, block: usize) -> Extent {
        let after = |block: usize| Some(self.ends.get(block.checked_sub(1)?)?.clone());
        match self.ends.get(block) {
            Some(end) => Extent::Read {
                after: after(block),
                upto: Some(end.clone()),
            },
            None if self.complete && block == self.ends.len() => Extent::Read {
                after: after(block),
                upto: None,
            },
            None if self.complete => Extent::Beyond,
            None => Extent::Next {
                after: self.ends.last().cloned(),
            },
        }
    }
}

impl Blocks {
    /// Starts anew: what the blocks were is forgotten.
    pub fn rewind(&self) {
        *self.known.lock() = Known::default();
    }

    /// Entries behind `place`, each with its own place: what is left of one block, or the next one that
    /// has entries. None at the end.
    pub async fn read(&self, place: u64, names: &impl Names) -> Result<Vec<(u64, DirEntry)>> {
        let (mut block, mut behind) = match (place >> HASH_BITS) as usize {
            0 => (0, None),
            number => (number - 1, Some(place & HASH_MASK)),
        };
        loop {
            let Some(entries) = self.block(block, behind, names).await? else {
                return Ok(Vec::new());
            };
            if !entries.is_empty() {
                return Ok(placed(block, entries));
            }
            (block, behind) = (block + 1, None);
        }
    }

    /// The entries of a block with hashes larger than `behind`; `None` for a block behind the end.
    async fn block(
        &self,
        block: usize,
        behind: Option<u64>,
        names: &impl Names,
    ) -> Result<Option<Vec<(u64, DirEntry)>>> {
        if block >= BLOCKS_MAX - 1 {
            return Ok(None);
        }
        loop {
            let (extent, next) = {
                let known = self.known.lock();
                (known.extent(block), known.ends.len())
            };
            match extent {
                Extent::Beyond => return Ok(None),
                Extent::Read { after, upto } => {
                    let entries = read_again(after, upto.as_deref(), behind, names).await?;
                    return Ok(Some(entries));
                }
                Extent::Next { after } => {
                    let entries = names.after(after.as_deref(), BLOCK).await?;
                    let is_first_reader = self.learn(next, &entries);
                    if is_first_reader && next == block {
                        return Ok(Some(hashed(entries, behind).collect()));
                    }
                }
            }
        }
    }

    /// Block number `next` was read. False if somebody else has read it meanwhile.
    fn learn(&self, next: usize, entries: &[DirEntry]) -> bool {
        let mut known = self.known.lock();
        if known.complete || known.ends.len() != next {
            return false;
        }
        match entries.last() {
            Some(last) if entries.len() >= BLOCK => known.ends.push(last.name.clone()),
            _ => known.complete = true,
        }
        true
    }
}

/// Reads a block whose extent is known. It may have grown, so it is read in pieces, and only what is
/// wanted is kept.
async fn read_again(
    mut after: Option<Vec<u8>>,
    upto: Option<&[u8]>,
    behind: Option<u64>,
    names: &impl Names,
) -> Result<Vec<(u64, DirEntry)>> {
    let mut kept = Vec::new();
    loop {
        let mut page = names.after(after.as_deref(), BLOCK).await?;
        let read = page.len();
        if let Some(upto) = upto {
            page.retain(|entry| entry.name.as_slice() <= upto);
        }
        after = page.last().map(|last| last.name.clone());
        let is_last = read < BLOCK || page.len() < read;
        kept.extend(hashed(page, behind));
        if is_last {
            return Ok(kept);
        }
    }
}

fn hashed(
    entries: Vec<DirEntry>,
    behind: Option<u64>,
) -> impl Iterator<Item = (u64, DirEntry)> + Send {
    let hashed = entries
        .into_iter()
        .map(|entry| (hash_of(&entry.name), entry));
    hashed.filter(move |&(hash, _)| behind.is_none_or(|behind| hash > behind))
}

/// From 1, so that a hash less one is a hash.
fn hash_of(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name);
    (hasher.finish() & HASH_MASK).max(1)
}

/// Orders the entries of a block and says where each is.
fn placed(block: usize, mut entries: Vec<(u64, DirEntry)>) -> Vec<(u64, DirEntry)> {
    entries.sort_unstable_by_key(|(hash, _)| *hash);
    let base = (block as u64 + 1) << HASH_BITS;
    let mut next = None;
    for (hash, _) in entries.iter_mut().rev() {
        let own = *hash;
        let shared = next == Some(own);
        next = Some(own);
        *hash = base | if shared { own - 1 } else { own };
    }
    entries
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::ops::Bound;

    use journal::{Ino, Kind};
    use proptest::prelude::*;

    use super::*;

    struct Fake(Mutex<BTreeSet<Vec<u8>>>);

    impl Fake {
        fn new(names: impl IntoIterator<Item = Vec<u8>>) -> Self {
            Self(Mutex::new(names.into_iter().collect()))
        }
    }

    impl Names for Fake {
        async fn after(&self, name: Option<&[u8]>, limit: usize) -> Result<Vec<DirEntry>> {
            let names = self.0.lock();
            let from = name.map_or(Bound::Unbounded, Bound::Excluded);
            let found = names.range::<[u8], _>((from, Bound::Unbounded));
            let entry = |name: &Vec<u8>| DirEntry {
                name: name.clone(),
                ino: Ino(2),
                kind: Kind::File,
            };
            Ok(found.take(limit).map(entry).collect())
        }
    }

    fn name(number: u32) -> Vec<u8> {
        format!("{number:08}").into_bytes()
    }

    async fn rest(blocks: &Blocks, mut place: u64, names: &Fake) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        loop {
            let entries = blocks.read(place, names).await.unwrap();
            let Some((last, _)) = entries.last() else {
                return found;
            };
            assert!(*last > place && *last <= i64::MAX as u64);
            place = *last;
            found.extend(entries.into_iter().map(|(_, entry)| entry.name));
        }
    }

    #[tokio::test]
    async fn every_entry_comes_once_and_places_ascend() {
        for count in [0, 1, 255, 256, 257, 5000] {
            let names = Fake::new((0..count).map(name));
            let mut found = rest(&Blocks::default(), 0, &names).await;
            found.sort();
            assert_eq!(found, (0..count).map(name).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_place_of_another_open_leads_to_the_same_entries() {
        let names = Fake::new((0..3000).map(name));
        let first = Blocks::default();
        let block = first.read(0, &names).await.unwrap();
        let block = first.read(block[255].0, &names).await.unwrap();
        let (place, _) = block[100];
        let expected = rest(&first, place, &names).await;
        assert_eq!(rest(&Blocks::default(), place, &names).await, expected);
        let far = place | 1 << 60;
        assert!(rest(&Blocks::default(), far, &names).await.is_empty());
        assert!(rest(&first, u64::MAX, &names).await.is_empty());
    }

    #[test]
    fn of_two_entries_with_one_hash_none_is_lost() {
        let entry = |hash| {
            let entry = DirEntry {
                name: name(1),
                ino: Ino(2),
                kind: Kind::File,
            };
            (hash, entry)
        };
        let places = placed(0, vec![entry(9), entry(5), entry(9), entry(7)]);
        let places: Vec<_> = places.iter().map(|(place, _)| place & HASH_MASK).collect();
        assert_eq!(places, [5, 7, 8, 9]);
    }

    /// What happens to the directory between two reads.
    #[derive(Clone, Debug)]
    enum Step {
        /// Read on, and stop after so many entries of what came.
        Read(usize),
        /// Go back to the place after an entry that was returned.
        Seek(usize),
        Create(u32),
        Remove(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1usize..300).prop_map(Step::Read),
            1 => (0usize..10_000).prop_map(Step::Seek),
            4 => (0u32..4000).prop_map(Step::Create),
            4 => (0u32..4000).prop_map(Step::Remove),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn what_exists_all_the_time_is_returned_exactly_once(steps in steps()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(check(steps));
        }
    }

    async fn check(steps: Vec<Step>) {
        let names = Fake::new((0..4000).step_by(3).map(name));
        let blocks = Blocks::default();
        let mut always: BTreeSet<Vec<u8>> = names.0.lock().clone();
        // Everything returned so far in this pass, with its place, in order.
        let mut returned: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut place = 0;
        for step in steps {
            match step {
                Step::Read(count) => {
                    let entries = blocks.read(place, &names).await.unwrap();
                    for (at, entry) in entries.into_iter().take(count) {
                        place = at;
                        returned.push((at, entry.name));
                    }
                }
                Step::Seek(back) if !returned.is_empty() => {
                    returned.truncate(back % returned.len() + 1);
                    place = returned[returned.len() - 1].0;
                }
                Step::Seek(_) => {}
                Step::Create(number) => {
                    names.0.lock().insert(name(number));
                }
                Step::Remove(number) => {
                    names.0.lock().remove(&name(number));
                    always.remove(&name(number));
                }
            }
        }
        let mut times: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for name in returned.into_iter().map(|(_, name)| name) {
            *times.entry(name).or_default() += 1;
        }
        for name in rest(&blocks, place, &names).await {
            *times.entry(name).or_default() += 1;
        }
        for name in always {
            assert_eq!(
                times.get(&name),
                Some(&1),
                "{}",
                String::from_utf8_lossy(&name)
            );
        }
    }
}
