//! A truncating open of a file that somebody has open.
//!
//! The others keep the extent file, which becomes empty under them. The version that ends can't have it for itself then,
//! as it has when nobody is there (see `replaced`): if the store does not have that version yet, it is copied first. A
//! power cut finds that copy, or the new version complete.

use std::sync::Arc;

use extents::ExtentId;
use journal::{Inode, Seal};

use super::open_table::OpenFile;
use super::{Result, Vfs, extent_id, former_id, now};

/// Generations between a version and its copy. A truncating open takes the next one, so the two never meet.
const GENERATIONS_APART: u64 = 1 << 32;

impl Vfs {
    /// Empties a file that is open, under its gate.
    pub(super) async fn begin_again(&self, file: &Arc<OpenFile>) -> Result<()> {
        self.settle_gated(file, false).await?;
        let (journal, node, ino) = (self.journal(), self.inner.parts.node, file.ino);
        let before = self.inode(ino).await?;
        let former = journal.former(node, ino).await?.as_ref().map(former_id);
        let copy = self.copy_of(&before, file, former).await?;
        let generation = copy.map(|id| id.generation);
        let begun = journal
            .begin_again(&before, node, generation, now())
            .await
            .inspect_err(|_| self.forget_extents(copy))?;
        if copy.is_some()
            && let Err(error) = journal.sync().await
        {
            self.take_back_resize(&before, &begun).await;
            return Err(error.into());
        }
        // The journal is ahead of the extent file by now: nothing may keep this from its end.
        match journal.former(node, ino).await {
            Ok(kept) => {
                let kept = kept.as_ref().map(former_id);
                for left in [copy, former].into_iter().flatten() {
                    if Some(left) != kept && left != extent_id(&begun) {
                        self.inner.reaper.remove_extents(left);
                    }
                }
                if kept.is_some() {
                    self.inner.reaper.look();
                }
            }
            Err(error) => {
                tracing::error!(%ino, %error, "what it had before stays until the next start");
            }
        }
        self.resize(Some(Arc::clone(file)), &before, &begun).await
    }

    /// A copy of the version that is about to end, on the disk, if only the extent file has it and it is complete.
    async fn copy_of(
        &self,
        inode: &Inode,
        file: &OpenFile,
        former: Option<ExtentId>,
    ) -> Result<Option<ExtentId>> {
        let is_complete = match inode.content.seal {
            Some(Seal::Closed { size, .. }) => size > 0 && !file.has_writers() && former.is_none(),
            Some(seal) => seal.is_safe(),
            None => false,
        };
        let own = file.extents.id();
        if !inode.is_content_dirty() || !is_complete || own != extent_id(inode) {
            return Ok(None);
        }
        let last = former.map_or(own.generation, |id| id.generation.max(own.generation));
        let id = ExtentId {
            generation: last.saturating_add(GENERATIONS_APART),
            ..own
        };
        match self.copy_to(id, inode.size, file).await {
            Ok(()) => Ok(Some(id)),
            Err(error) => {
                self.forget_extents(Some(id));
                Err(error)
            }
        }
    }

    async fn copy_to(&self, id: ExtentId, size: u64, file: &OpenFile) -> Result<()> {
        let copy = self.extents().open_or_create(id)?;
        copy.truncate(size)?;
        // What is not here is in the store. The kernel writes without telling.
        file.extents.load_residency()?;
        for piece in file.extents.resident()?.iter() {
            let (mut at, end) = (piece.start, piece.end.min(size));
            while at < end {
                match file.extents.copy_range(at, &copy, at, end - at).await? {
                    0 => break,
                    copied => at += copied,
                }
            }
        }
        copy.sync_data().await?;
        Ok(())
    }
}
