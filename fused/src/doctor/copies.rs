//! The local copies of what was uploaded from here, read and compared with what it was then.
//!
//! Programs read them without the daemon, and it would not know of a byte that the disk changed. Only clean files
//! have a version to be compared with, and of those only blocks that are here. A wrong copy is given up if the
//! store has just been seen to have its version; what it was is kept aside.

use std::ops::Range;

use flusher::is_block;
use journal::{BLOCK_BYTES, Inode};

use super::{Doctor, Error, Finding, Grade, PAGE, extent_id};

/// Bytes read at once, whole blocks.
const WINDOW_BYTES: u64 = 4 << 20;

impl Doctor {
    /// Reads every local copy.
    pub(super) async fn copies(&mut self) -> Result<(), Error> {
        if !self.read {
            return Ok(());
        }
        let mut after = None;
        loop {
            let (files, next) = self.journal.files(after, PAGE).await?;
            for inode in files {
                if let Some(offset) = self.wrong_byte(&inode).await? {
                    self.wrong_copy(&inode, offset).await?;
                }
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn wrong_copy(&mut self, inode: &Inode, offset: u64) -> Result<(), Error> {
        let id = extent_id(inode);
        let sentence = format!(
            "its extent file {id} is not what was uploaded: something has changed bytes from {offset} on"
        );
        let finding = self
            .finding(inode, Grade::Wrong, "copy-corrupt", sentence)
            .await;
        let repaired =
            self.repair && self.is_in_store(inode).await && self.give_up_copy(inode, true).await?;
        self.report.tell(Finding {
            repaired,
            ..finding
        });
        Ok(())
    }

    /// Where the first block begins that is not what was uploaded.
    async fn wrong_byte(&mut self, inode: &Inode) -> Result<Option<u64>, Error> {
        let content = &inode.content;
        let etag = content
            .origin
            .as_ref()
            .and_then(|origin| origin.etag.as_ref());
        let Some(etag) = etag else {
            return Ok(None);
        };
        if inode.nlink == 0 || inode.is_content_dirty() || content.writer.is_some() {
            return Ok(None);
        }
        let Some(extents) = self.extents.open_file(extent_id(inode))? else {
            return Ok(None);
        };
        // What is shorter or longer than it should be has been told of.
        let size = inode.size.min(extents.stat()?.size);
        let mut start = 0;
        while start < size {
            let window = start..(start + WINDOW_BYTES).min(size);
            start = window.end;
            let blocks = window.start / BLOCK_BYTES..window.end.div_ceil(BLOCK_BYTES);
            let known = self.journal.digests(inode.ino, etag, blocks).await?;
            if known.is_empty() {
                continue;
            }
            let missing = extents.missing(window.clone(), content.valid);
            let length = usize::try_from(window.end - window.start).unwrap_or(usize::MAX);
            let bytes = extents.read_large(window.start, length).await?;
            self.report.compared_bytes += bytes.len() as u64;
            let block_bytes = usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX);
            for (offset, block) in (window.start..)
                .step_by(block_bytes)
                .zip(bytes.chunks(block_bytes))
            {
                let is_here = !missing
                    .iter()
                    .any(|hole| touches(hole, &(offset..offset + BLOCK_BYTES)));
                let known = known
                    .iter()
                    .find_map(|known| known.of(offset / BLOCK_BYTES));
                if is_here && known.is_some_and(|known| !is_block(block, known)) {
                    return Ok(Some(offset));
                }
            }
        }
        Ok(None)
    }
}

fn touches(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}
