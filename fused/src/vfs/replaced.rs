//! Files that a rename replaced: the old one goes only when the new one would survive a power cut.
//!
//! safetensors and many others write a temporary file and rename it over the old one without fsync. After a
//! power cut there must be the old file or the complete new one. Syncing the new bytes within the rename
//! would cost each replacement a disk flush, and a large checkpoint a long wait. So the journal remembers
//! in the rename's own transaction that the old inode is the new one's *spare*. Before the reaper takes a
//! spare, the new bytes are synced here, many files at a time, unless they are in the store by then.
//! Recovery puts the spare back if the power failed before that and the new file is torn.
//!
//! A truncating open replaces as well, within one inode. If the version that it ends is complete and not in the
//! store yet, the journal keeps it as the file's *former* version, and all of this holds for that one, too. Only
//! where nothing else is left to make room is one given up that nobody fsynced.

use std::collections::BTreeMap;

use extents::ExtentId;
use futures::{TryStreamExt, stream};
use journal::{EndWrite, Epoch, Former, Ino, Inode, Orphan, Seal};

use super::{Result, Vfs, extent_id, former_id, now};

/// Rows of former versions read at once.
const PAGE: usize = 256;

/// Files synced at a time: the local file system commits them together.
const SYNCS_AT_ONCE: usize = 32;

impl Vfs {
    /// Makes safe what replaced any of these orphans, so that they can go.
    pub(super) async fn secure_successors(&self, orphans: &[Orphan]) -> Result<()> {
        let mut successors = BTreeMap::new();
        for orphan in orphans {
            if let Some(inode) = self.successor(orphan).await?
                && !is_safe(&inode)
            {
                successors.insert(inode.ino, inode);
            }
        }
        stream::iter(successors.into_values().map(Ok))
            .try_for_each_concurrent(SYNCS_AT_ONCE, |inode| self.secure(inode))
            .await
    }

    /// Gives up the former versions whose successors are safe, and makes those safe whose settling time is
    /// over. Whether some are left.
    pub(super) async fn give_up_formers(&self, unneeded: &mut Vec<ExtentId>) -> Result<bool> {
        let node = self.inner.parts.node;
        let (mut left, mut after) = (false, None);
        loop {
            let formers = self.journal().formers(node, after, PAGE).await?;
            let mut ready = Vec::with_capacity(formers.len());
            for former in &formers {
                match self.is_settling(former.since) && self.is_spare(&replaced_by(former)).await? {
                    true => left = true,
                    false => ready.push(*former),
                }
            }
            let replaced: Vec<Orphan> = ready.iter().map(replaced_by).collect();
            self.secure_successors(&replaced).await?;
            for (former, replaced) in ready.iter().zip(&replaced) {
                match self.is_spare(replaced).await? {
                    true => left = true,
                    false => {
                        self.journal().former_done(node, former).await?;
                        unneeded.push(former_id(former));
                    }
                }
            }
            match formers.last() {
                Some(last) if formers.len() == PAGE => after = Some(last.ino),
                _ => return Ok(left),
            }
        }
    }

    /// After a power cut: whether the former version of a lost one is all there or in the store, and is the file again.
    pub(super) async fn go_back_to_former(&self, ino: Ino) -> Result<bool> {
        let node = self.inner.parts.node;
        let Some(former) = self.journal().former(node, ino).await? else {
            return Ok(false);
        };
        let Some(extents) = self.extents().open_file(former_id(&former))? else {
            return Ok(false);
        };
        if let Seal::Closed { size, map_digest } = former.seal {
            let seal = extents.seal()?;
            if seal.size != size || seal.map_digest != map_digest {
                return Ok(false);
            }
        }
        // What was appended to it after its fsync may be gone.
        let size = former.size.min(extents.stat()?.size.max(former.valid));
        let back = self.journal().go_back(node, ino, size, now()).await?;
        Ok(back.is_some())
    }

    /// Gives up the former versions that nobody fsynced: their room is needed.
    pub(super) async fn give_up_unsynced_formers(
        &self,
        unneeded: &mut Vec<ExtentId>,
    ) -> Result<()> {
        let node = self.inner.parts.node;
        let mut after = None;
        loop {
            let formers = self.journal().formers(node, after, PAGE).await?;
            for former in formers.iter().filter(|former| !former.seal.is_safe()) {
                self.journal().former_done(node, former).await?;
                unneeded.push(former_id(former));
            }
            match formers.last() {
                Some(last) if formers.len() == PAGE => after = Some(last.ino),
                _ => return Ok(()),
            }
        }
    }

    /// Whether an extent file is that of a former version.
    pub(super) async fn is_former(&self, id: ExtentId) -> Result<bool> {
        let node = self.inner.parts.node;
        let former = self.journal().former(node, Ino(id.ino)).await?;
        Ok(former.is_some_and(|former| former_id(&former) == id))
    }

    /// The file that has the orphan's name in the end, if any has.
    async fn successor(&self, orphan: &Orphan) -> Result<Option<Inode>> {
        let mut spare_for = orphan.spare_for;
        while let Some(ino) = spare_for {
            match self.journal().inode(ino).await? {
                None => return Ok(None),
                Some(inode) if inode.nlink > 0 => return Ok(Some(inode)),
                // It was replaced in its turn, or removed.
                Some(_) => {
                    let next = self.journal().orphan(self.inner.parts.node, ino).await?;
                    spare_for = next.and_then(|next| next.spare_for);
                }
            }
        }
        Ok(None)
    }

    async fn secure(&self, inode: Inode) -> Result<()> {
        let open = self.inner.opens.get(inode.ino);
        if open.is_some_and(|file| file.has_writers()) {
            // Half of a version must not be sealed as synced, as if its writer had asked for that: a power cut
            // would leave it for a whole one. The spare waits for the close.
            return Ok(());
        }
        match self.extents().open_file(extent_id(&inode))? {
            Some(extents) => extents.sync_data().await?,
            // Somebody has removed it: what it replaced may be all that there is.
            None if inode.size > inode.content.valid => return Ok(()),
            None => {}
        }
        let slot = self.inner.opens.slot(inode.ino);
        let recorded = {
            let _gate = slot.gate.lock().await;
            match slot.open_file().is_some_and(|file| file.has_writers()) {
                true => Ok(()),
                false => self.record_secured(inode.ino, inode.content.epoch).await,
            }
        };
        self.inner.opens.put(inode.ino, slot);
        recorded
    }

    /// A file is about to take the place of another one. If it was written to since its fsync, a power cut may leave it
    /// as neither version, and nothing tells: it is synced first.
    pub(super) async fn secure_before_replacing(&self, inode: Inode) -> Result<()> {
        match inode.is_content_dirty() && inode.content.seal == Some(Seal::Touched) {
            true => self.secure(inode).await,
            false => Ok(()),
        }
    }

    /// What was synced is recorded as synced, unless there is a newer version by now: that one's close
    /// has its own seal, and the spare waits for the next pass.
    pub(super) async fn record_secured(&self, ino: Ino, epoch: Epoch) -> Result<()> {
        let Some(inode) = self.journal().inode(ino).await? else {
            return Ok(());
        };
        let is_touched = inode.content.seal == Some(Seal::Touched);
        match inode.content.epoch != epoch || (is_safe(&inode) && !is_touched) {
            true => Ok(()),
            false => self.seal_synced(&inode).await,
        }
    }

    /// The bytes of a version are on the disk.
    pub(super) async fn seal_synced(&self, inode: &Inode) -> Result<()> {
        let end = EndWrite {
            size: inode.size,
            mtime: inode.mtime,
            changed: false,
            close: false,
            seal: Some(Seal::Synced),
        };
        self.journal()
            .end_write(inode.ino, self.inner.parts.node, end, now())
            .await?;
        Ok(())
    }

    /// Whether an orphan may still be needed in the place of what replaced it.
    pub(super) async fn is_spare(&self, orphan: &Orphan) -> Result<bool> {
        let successor = self.successor(orphan).await?;
        Ok(successor.is_some_and(|inode| !is_safe(&inode)))
    }
}

/// A former version is to its file what a replaced file is to the one that replaced it.
fn replaced_by(former: &Former) -> Orphan {
    Orphan {
        ino: former.ino,
        spare_for: Some(former.ino),
    }
}

/// A power cut would leave this version whole, here or in the store.
fn is_safe(inode: &Inode) -> bool {
    !inode.is_content_dirty() || inode.content.seal.is_some_and(Seal::is_safe)
}
