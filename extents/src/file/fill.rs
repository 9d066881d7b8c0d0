//! Storing fetched data.
//!
//! A fill goes in two passes. The first writes the aligned insides of the holes past the page cache, from
//! pooled aligned memory, with up to a queue full of requests at a time. The second writes whatever
//! holes are left through the page cache: the tail at the end of the valid length, everything if the
//! file has been written to by a program or direct I/O is out of order, and what somebody else was
//! filling and failed to. When it returns without error, every granule of its range is resident, by this
//! fill or by somebody's write. The rules for meeting others are in `gate`.
//!
//! Every request carries its claim into the engine and ends it there, so a fill that is dropped half
//! way leaves nothing claimed: what was handed over still becomes resident.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::gate::Way;
use super::{ExtentFile, chunks};
use crate::io::buffer::ALIGN;
use crate::io::{Op, Request};
use crate::{Error, Result};

/// A claimed range on its way through the engine.
struct Claim {
    file: Arc<ExtentFile>,
    range: Range<u64>,
    way: Way,
    filled: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let new = self.file.gate.release(&self.range, self.way, self.filled);
        self.file.account.grow(&self.file.store.tally, new);
    }
}

/// A request that was handed over: how long it is, and where its result will be told.
type Started = (u64, oneshot::Receiver<io::Result<usize>>);

impl ExtentFile {
    /// Stores fetched data in those parts of its range that are still missing; what a program wrote
    /// is never touched, and nothing beyond a truncation since.
    ///
    /// `offset` is a multiple of the granule. The end is one as well, or it is the end of the valid
    /// length: the rest of the last granule becomes zeros that count as data. [`ExtentFile::missing`]
    /// gives such ranges.
    pub async fn fill(&self, offset: u64, data: Bytes) -> Result<()> {
        self.store.check()?;
        let _point = killpoints::around("extent fill");
        let granule = self.store.capabilities.granule;
        if !offset.is_multiple_of(granule) {
            return Err(Error::Unaligned {
                id: self.id,
                offset,
                granule,
            });
        }
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|&end| i64::try_from(end).is_ok());
        let end =
            end.ok_or_else(|| self.error("filling", io::Error::from_raw_os_error(libc::EFBIG)))?;
        let range = offset..end;
        if !self.gate.wants(&range) {
            return Ok(());
        }
        self.fill_direct(&range, &data).await?;
        self.fill_buffered(&range, &data).await
    }

    async fn fill_direct(&self, range: &Range<u64>, data: &Bytes) -> Result<()> {
        let Some(direct) = self.direct_file() else {
            return Ok(());
        };
        let mut started = Vec::new();
        for chunk in chunks(range.clone()) {
            let inside = chunk.start..chunk.end / ALIGN as u64 * ALIGN as u64;
            if !self.gate.wants(&inside) {
                continue;
            }
            // Memory before the claim: nobody may have to wait for a claim that waits for memory.
            let buffer = self
                .store
                .pool
                .take((inside.end - inside.start) as usize)
                .await;
            let mut buffer =
                buffer.map_err(|error| self.error("allocating memory for a fill", error))?;
            let Some(claimed) = self.gate.claim(&inside, Way::Direct, ALIGN as u64).await else {
                break;
            };
            let from = (inside.start - range.start) as usize;
            let len = (inside.end - inside.start) as usize;
            buffer[..len].copy_from_slice(&data[from..from + len]);
            let local = |piece: &Range<u64>| {
                (piece.start - inside.start) as usize..(piece.end - inside.start) as usize
            };
            let (_, parts) = buffer.split(claimed.iter().map(local));
            for (piece, part) in claimed.into_iter().zip(parts) {
                started.extend(self.start_fill(direct, Way::Direct, piece, Op::WritePart(part)));
            }
        }
        for (len, result) in self.results(started).await? {
            match result {
                Ok(count) if count as u64 == len => {}
                // The second pass does it.
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    self.store.direct_failed(self.id, &error)
                }
                Err(error) => return Err(self.error("filling", error)),
            }
        }
        Ok(())
    }

    async fn fill_buffered(&self, range: &Range<u64>, data: &Bytes) -> Result<()> {
        let mut started = Vec::new();
        for chunk in chunks(range.clone()) {
            if !self.gate.wants(&chunk) {
                continue;
            }
            let claimed = self
                .gate
                .claim(&chunk, Way::Buffered, 1)
                .await
                .unwrap_or_default();
            for piece in claimed {
                let bytes = data.slice(
                    (piece.start - range.start) as usize..(piece.end - range.start) as usize,
                );
                started.extend(self.start_fill(
                    &self.file,
                    Way::Buffered,
                    piece,
                    Op::WriteBytes(bytes),
                ));
            }
        }
        for (_, result) in self.results(started).await? {
            result.map_err(|error| self.error("filling", error))?;
        }
        Ok(())
    }

    /// Hands a claimed piece to the engine.
    fn start_fill(&self, file: &Arc<File>, way: Way, range: Range<u64>, op: Op) -> Option<Started> {
        let (offset, len) = (range.start, range.end - range.start);
        // `self` lives in its `Arc`, so there is always one to clone.
        let Some(me) = self.me.upgrade() else {
            self.gate.release(&range, way, false);
            return None;
        };
        let mut claim = Claim {
            file: me,
            range,
            way,
            filled: false,
        };
        let (tell, told) = oneshot::channel();
        let done = move |result: io::Result<usize>| {
            claim.filled = result.as_ref().is_ok_and(|&count| count as u64 == len);
            // The claim ends before its result is known.
            drop(claim);
            let _ = tell.send(result);
        };
        let request = Request {
            file: Arc::clone(file),
            offset,
            op,
            direct: way == Way::Direct,
            done: Box::new(done),
        };
        self.store.engine.submit(request);
        Some((len, told))
    }

    async fn results(&self, started: Vec<Started>) -> Result<Vec<(u64, io::Result<usize>)>> {
        let mut results = Vec::with_capacity(started.len());
        for (len, told) in started {
            results.push((len, self.told("filling", told).await?));
        }
        Ok(results)
    }
}
