//! Random sequences of everything that can happen to a file, against a model that keeps bytes and
//! residency in memory. The model plays the caller as well: it knows the valid length and the origin,
//! fills the edges before a partial write and everything before a read.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::ops::Range;

use bytes::Bytes;
use common::{ID, open, pattern, places, run_bounded};
use extents::{ExtentFile, ExtentStore, IoMode};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const SIZE_MAX: u64 = 3 << 20;

#[derive(Clone, Debug)]
enum Step {
    Write { at: u64, len: u64, seed: u64 },
    Fill { at: u64, len: u64 },
    Truncate { len: u64 },
    Evict { at: u64, len: u64 },
    Zero { at: u64, len: u64 },
    Read { at: u64, len: u64, buffered: bool },
    Sync,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    // Offsets off the grid, on it, and around the size of a chunk.
    let at = prop_oneof![
        0..SIZE_MAX,
        (0..SIZE_MAX / 4096).prop_map(|page| page * 4096),
        (1 << 20) - 5000..(1 << 20) + 5000u64
    ];
    let len = prop_oneof![
        1..10_000u64,
        (1..40u64).prop_map(|pages| pages * 4096),
        1..SIZE_MAX
    ];
    let span = (at, len);
    prop_oneof![
        4 => (span.clone(), any::<u64>()).prop_map(|((at, len), seed)| Step::Write { at, len, seed }),
        4 => span.clone().prop_map(|(at, len)| Step::Fill { at, len }),
        1 => (0..SIZE_MAX).prop_map(|len| Step::Truncate { len }),
        1 => span.clone().prop_map(|(at, len)| Step::Evict { at, len }),
        1 => span.clone().prop_map(|(at, len)| Step::Zero { at, len }),
        4 => (span, any::<bool>()).prop_map(|((at, len), buffered)| Step::Read { at, len, buffered }),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
    ]
}

struct Model {
    /// What a program sees.
    bytes: Vec<u8>,
    origin: Bytes,
    valid: u64,
    /// Per granule: written by a program since it was in the origin, so that it can't be evicted.
    dirty: Vec<bool>,
    granule: u64,
}

impl Model {
    fn new(origin: Vec<u8>, granule: u64) -> Model {
        let dirty = vec![false; (2 * SIZE_MAX).div_ceil(granule) as usize + 1];
        Model {
            bytes: origin.clone(),
            valid: origin.len() as u64,
            origin: Bytes::from(origin),
            dirty,
            granule,
        }
    }

    async fn fetch(&self, file: &ExtentFile, range: Range<u64>) {
        for missing in file.missing(range, self.valid) {
            file.fill(
                missing.start,
                self.origin
                    .slice(missing.start as usize..missing.end as usize),
            )
            .await
            .unwrap();
        }
    }

    async fn fetch_edges(&self, file: &ExtentFile, range: &Range<u64>) {
        self.fetch(file, range.start..range.start + 1).await;
        self.fetch(file, range.end - 1..range.end).await;
    }

    fn mark_dirty(&mut self, range: &Range<u64>) {
        for granule in range.start / self.granule..range.end.div_ceil(self.granule) {
            self.dirty[granule as usize] = true;
        }
    }

    async fn apply(
        &mut self,
        store: &ExtentStore,
        mut file: std::sync::Arc<ExtentFile>,
        step: &Step,
    ) -> std::sync::Arc<ExtentFile> {
        let size = self.bytes.len() as u64;
        match *step {
            Step::Write { at, len, seed } => {
                let (range, data) = (at..at + len, pattern(seed, len as usize));
                self.fetch_edges(&file, &range).await;
                file.write_at(at, &data).unwrap();
                self.bytes.resize(size.max(range.end) as usize, 0);
                self.bytes[range.start as usize..range.end as usize].copy_from_slice(&data);
                self.mark_dirty(&range);
            }
            Step::Fill { at, len } => {
                // Whatever is there is left alone, so any aligned range of the origin will do.
                let start = at / self.granule * self.granule;
                let end = ((at + len).next_multiple_of(self.granule)).min(self.valid);
                if start < end {
                    file.fill(start, self.origin.slice(start as usize..end as usize))
                        .await
                        .unwrap();
                    assert_eq!(file.missing(start..end, self.valid), []);
                }
            }
            Step::Truncate { len } => {
                if len > 0 && len < self.valid {
                    self.fetch(&file, len - 1..len).await;
                }
                file.truncate(len).unwrap();
                self.bytes.resize(len as usize, 0);
                self.valid = self.valid.min(len);
            }
            Step::Evict { at, len } => {
                // The longest run of clean granules from there on, inside the origin.
                let start = at.div_ceil(self.granule);
                let end = ((at + len) / self.granule).min(self.valid / self.granule);
                let run = (start..end)
                    .take_while(|&granule| !self.dirty[granule as usize])
                    .count() as u64;
                let range = start * self.granule..(start + run) * self.granule;
                file.punch(range.clone()).unwrap();
                let missing: u64 = file
                    .missing(range.clone(), self.valid)
                    .iter()
                    .map(|gap| gap.end - gap.start)
                    .sum();
                assert_eq!(
                    missing,
                    if range.end <= size {
                        range.end - range.start
                    } else {
                        0
                    }
                );
            }
            Step::Zero { at, len } => {
                let range = at..(at + len).min(size);
                if range.start < range.end {
                    self.fetch_edges(&file, &range).await;
                    file.zero_range(range.clone()).unwrap();
                    self.bytes[range.start as usize..range.end as usize].fill(0);
                    self.mark_dirty(&range);
                }
            }
            Step::Read { at, len, buffered } => {
                self.fetch(&file, at..at + len).await;
                let read = match buffered {
                    true => file.read_buffered(at, len as usize).await.unwrap(),
                    false => file.read_at(at, len as usize).await.unwrap(),
                };
                let range = at.min(size) as usize..(at + len).min(size) as usize;
                assert!(read == self.bytes[range], "read {at}+{len} differs");
            }
            Step::Sync => file.sync_data().await.unwrap(),
            Step::Reopen => {
                let remembered = file.missing(0..self.valid, self.valid);
                drop(file);
                file = store.open_file(ID).unwrap().unwrap();
                assert_eq!(
                    file.missing(0..self.valid, self.valid),
                    remembered,
                    "the map remembered is not the file's"
                );
            }
        }
        assert_eq!(file.stat().unwrap().size, self.bytes.len() as u64);
        file
    }

    async fn run(mut self, store: ExtentStore, steps: Vec<Step>) {
        let mut file = store.create(ID).unwrap();
        file.truncate(self.valid).unwrap();
        for step in &steps {
            file = self.apply(&store, file, step).await;
        }
        self.fetch(&file, 0..self.valid).await;
        assert!(file.is_resident(self.valid));
        let len = self.bytes.len();
        assert!(
            file.read_at(0, len).await.unwrap() == self.bytes,
            "direct reads differ at the end"
        );
        assert!(
            file.read_buffered(0, len).await.unwrap() == self.bytes,
            "buffered reads differ at the end"
        );
        drop(file);
        store.remove(ID).unwrap();
    }
}

#[test]
fn any_sequence_of_steps_leaves_the_bytes_and_the_residency_of_the_model() {
    for place in places() {
        for io in [IoMode::Auto, IoMode::Plain] {
            let store = open(&place.dir, io);
            let granule = store.capabilities().granule;
            let config = Config {
                cases: 24,
                failure_persistence: None,
                ..Config::default()
            };
            let case = (0..SIZE_MAX, prop::collection::vec(step(), 1..30));
            let outcome = TestRunner::new(config).run(&case, |(origin_len, steps)| {
                let _ = store.remove(ID);
                let model = Model::new(pattern(origin_len, origin_len as usize), granule);
                run_bounded(model.run(store.clone(), steps));
                Ok(())
            });
            outcome.unwrap_or_else(|error| panic!("on {} with {io:?}: {error}", place.name));
        }
    }
}
