//! What the last daemon left behind, put right before the first request.
//!
//! After a crash of the daemon alone the local file system still has every byte: files that were
//! being written are closed with what their extent file holds, and the flusher goes on.
//!
//! After a power cut (another boot, and no clean end) unsynced bytes may be gone. Clean extents
//! were never synced and are dropped: the object has them. A dirty file is believed if it was
//! fsynced, or if its hole map is the one recorded at close; otherwise it is *torn*: a torn
//! checkpoint must not replace a good one, so the file goes back to the version before, here or in the
//! store, and what is left of the new one is kept in the `torn` folder of the cache directory and reported. The last
//! records of what was sent to the store may be gone as well, so every object is looked at again before it
//! is believed to be the version that the journal knows.

use std::path::{Path, PathBuf};

use journal::{EndWrite, Ino, Inode, Kind, Seal};
use remote::keys;

use super::evict::Evicted;
use super::{Result, Vfs, attributes, extent_id, now};

/// Rows read from the journal at once.
const PAGE: usize = 512;

/// What recovery found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Files that were open for writing.
    pub writers: usize,
    /// Dirty files that wait for the flusher.
    pub dirty: usize,
    /// Clean extent files dropped after a power cut.
    pub dropped: usize,
    /// Extent files that nothing referred to.
    pub stale: usize,
    /// Files whose new version was lost in a power cut, and where the rest of it is kept.
    pub torn: Vec<(String, PathBuf)>,
}

impl Vfs {
    /// Puts right what the last daemon left behind. `power_cut`: the machine was not shut down
    /// cleanly since. `torn` is the folder for what is left of torn files.
    pub async fn recover(&self, power_cut: bool, torn: &Path) -> Result<Recovered> {
        let mut recovered = Recovered::default();
        let writers = self.journal().writers(self.inner.parts.node).await?;
        for ino in writers {
            recovered.writers += 1;
            let Some(inode) = self.journal().inode(ino).await? else {
                continue;
            };
            if power_cut && self.may_be_torn(&inode)? {
                self.tear(&inode, torn, &mut recovered).await?;
            } else {
                self.end_interrupted_write(&inode, power_cut).await?;
            }
        }
        if power_cut {
            self.doubt_the_store();
            self.tear_incomplete(torn, &mut recovered).await?;
        }
        self.sweep_extents(power_cut, &mut recovered).await?;
        Ok(recovered)
    }

    /// A file that was open for writing when the power failed, and was never fsynced: nobody knows what
    /// of it is missing, and a lost beginning looks like a file that was never begun. Only what was closed
    /// empty, and is empty and nothing else to this day, is whole.
    fn may_be_torn(&self, inode: &Inode) -> Result<bool> {
        match inode.content.seal {
            Some(Seal::Synced | Seal::Touched | Seal::Lost) => Ok(false),
            Some(Seal::Closed { size: 0, .. }) if inode.content.origin.is_none() => {
                let extents = self.extents().open_file(extent_id(inode))?;
                Ok(match extents {
                    Some(extents) => extents.stat()?.size > 0,
                    None => false,
                })
            }
            Some(Seal::Closed { .. } | Seal::Survived { .. }) | None => Ok(true),
        }
    }

    /// Looks at every dirty file, also at those whose extent file is gone altogether.
    async fn tear_incomplete(&self, torn: &Path, recovered: &mut Recovered) -> Result<()> {
        let mut after = None;
        let mut doubtful = Vec::new();
        loop {
            let rows = self.journal().unsynced(after, PAGE).await?;
            for row in &rows {
                let inode = self.journal().inode(row.ino).await?;
                let dirty = inode.filter(|inode| {
                    let is_over = inode.content.seal == Some(Seal::Lost);
                    inode.kind == Kind::File && inode.is_content_dirty() && !is_over
                });
                let Some(inode) = dirty else { continue };
                if !self.is_whole(&inode)? {
                    self.tear(&inode, torn, recovered).await?;
                    continue;
                }
                self.seal_survivor(&inode).await?;
                doubtful.push((row.seq, row.ino));
            }
            match rows.last() {
                Some(last) => after = Some(last.ino),
                None => break,
            }
        }
        // In the order of their closing, which the order of publishing follows.
        doubtful.sort_unstable();
        for (_, ino) in doubtful {
            self.begin_another_version(ino).await?;
        }
        Ok(())
    }

    /// What is whole after a power cut is on the disk. From now on it is what a torn successor goes back to.
    async fn seal_survivor(&self, inode: &Inode) -> Result<()> {
        let Some(Seal::Closed { size, map_digest }) = inode.content.seal else {
            return Ok(());
        };
        let end = EndWrite {
            size: inode.size,
            mtime: inode.mtime,
            changed: false,
            close: false,
            seal: Some(Seal::Survived { size, map_digest }),
        };
        self.journal()
            .end_write(inode.ino, self.inner.parts.node, end, inode.ctime)
            .await?;
        Ok(())
    }

    /// An object, or parts of one, may have been sent of this version with pages that the power cut took from
    /// the file: one that was written in place may be an older one by now, and neither size nor map tell. With
    /// another epoch nobody takes the one for the other.
    async fn begin_another_version(&self, ino: Ino) -> Result<()> {
        let Some(inode) = self.journal().inode(ino).await? else {
            return Ok(());
        };
        let was_fsynced = inode.content.seal.is_some_and(Seal::is_fsynced);
        let (size, seal) = match was_fsynced {
            // What is there is on the disk.
            true => (self.size_found(&inode)?, Some(Seal::Synced)),
            false => (inode.size, inode.content.seal),
        };
        let end = EndWrite {
            size,
            mtime: inode.mtime,
            changed: true,
            close: false,
            seal,
        };
        self.journal()
            .end_write(ino, self.inner.parts.node, end, inode.ctime)
            .await?;
        Ok(())
    }

    /// How much there is of a file that was fsynced. The end that was appended since may be missing, and zeros are no
    /// better.
    fn size_found(&self, inode: &Inode) -> Result<u64> {
        let Some(extents) = self.extents().open_file(extent_id(inode))? else {
            return Ok(inode.size);
        };
        let from_store = inode.content.valid;
        Ok(extents.stat()?.size.max(from_store).min(inode.size))
    }

    /// Removes extent files that nothing refers to and, after a power cut, clean ones: they were never
    /// synced, and the object has their bytes.
    async fn sweep_extents(&self, power_cut: bool, recovered: &mut Recovered) -> Result<()> {
        let mut unneeded = Vec::new();
        for id in self.extents().list() {
            let id = id?;
            let inode = self.journal().inode(Ino(id.ino)).await?;
            match inode.filter(|inode| inode.kind == Kind::File && extent_id(inode) == id) {
                None if self.is_former(id).await? => {}
                None => {
                    recovered.stale += 1;
                    unneeded.push(id);
                }
                Some(inode) if inode.is_content_dirty() => recovered.dirty += 1,
                Some(inode) if power_cut => {
                    if let Evicted::Superseded { id, .. } = self.evict(inode.ino).await? {
                        recovered.dropped += 1;
                        unneeded.push(id);
                    }
                }
                Some(_) => {}
            }
        }
        self.remove_all(unneeded).await
    }

    /// What an extent file holds is what was written, once it has had the length that the journal knows: opening for
    /// writing is recorded before the extent file is there, or has its length, and so is growing by truncate(2).
    async fn end_interrupted_write(&self, inode: &Inode, power_cut: bool) -> Result<()> {
        let Some(extents) = self.extents().open_file(extent_id(inode))? else {
            return self.end_unbegun_write(inode).await;
        };
        let mut stat = extents.stat()?;
        if stat.size < inode.size {
            match (inode.is_content_dirty(), power_cut) {
                (false, _) => return self.end_unbegun_write(inode).await,
                (true, false) => {
                    extents.truncate(inode.size)?;
                    stat = extents.stat()?;
                }
                // The end that was never synced; zeros would be no better.
                (true, true) => {}
            }
        }
        let seal = extents.seal()?;
        let end = EndWrite {
            size: stat.size,
            mtime: attributes::timestamp(stat.mtime),
            // Nobody knows what was written last; another epoch makes the flusher send all of it.
            changed: true,
            close: true,
            seal: Some(Seal::Closed {
                size: seal.size,
                map_digest: seal.map_digest,
            }),
        };
        // Not the extent file's ctime, which also our own work on it moves. Writing moves mtime too.
        let ctime = match end.mtime == inode.mtime {
            true => inode.ctime,
            false => end.mtime,
        };
        self.journal()
            .end_write(inode.ino, self.inner.parts.node, end, ctime)
            .await?;
        Ok(())
    }

    /// Whether a dirty, closed file holds what it held at close.
    fn is_whole(&self, inode: &Inode) -> Result<bool> {
        let (size, map_digest) = match inode.content.seal {
            Some(Seal::Closed { size, map_digest } | Seal::Survived { size, map_digest }) => {
                (size, map_digest)
            }
            // Fsynced, or truncated since its last close: whatever is there counts, as on any local
            // file system; but something must be.
            Some(Seal::Lost) => return Ok(false),
            Some(Seal::Synced | Seal::Touched) | None => {
                let there = self.extents().open_file(extent_id(inode))?.is_some();
                return Ok(there || inode.size <= inode.content.valid);
            }
        };
        let Some(extents) = self.extents().open_file(extent_id(inode))? else {
            return Ok(size == 0);
        };
        let seal = extents.seal()?;
        Ok(seal.size == size && seal.map_digest == map_digest)
    }

    async fn tear(&self, inode: &Inode, torn: &Path, recovered: &mut Recovered) -> Result<()> {
        let path = self.journal().path(inode.ino).await?;
        let shown = match &path {
            Some(path) => String::from_utf8_lossy(&path.join(&b'/')).into_owned(),
            None => format!("unlinked inode {}", inode.ino),
        };
        let kept = self.extents().set_aside(extent_id(inode), torn)?;
        if self.go_back_to_former(inode.ino).await? {
            tracing::error!(
                file = %shown,
                rest = %kept.display(),
                "the newest version was lost in a power cut (never fsynced); the one before it is back, what \
                 is left of the new one is kept"
            );
            recovered.torn.push((shown, kept));
            return Ok(());
        }
        // A version that is in the store under this very name is a later one than what the file once replaced.
        let is_restored = match &path {
            Some(path) if !is_in_store_as(inode, path) => {
                self.restore_replaced(inode, path, torn).await?
            }
            _ => false,
        };
        if inode.content.origin.is_none()
            // There is no earlier version. An empty file under any of its names would look like one.
            && let Err(error) = self.unlink_everywhere(inode.ino).await
        {
            tracing::error!(file = %shown, %error, "cannot remove the name of a lost file; it is empty");
        }
        // Last: until then the next start finds it torn, should this one be cut short.
        self.journal().revert(inode.ino, now()).await?;
        match is_restored {
            true => tracing::error!(
                file = %shown,
                rest = %kept.display(),
                "the newest version was lost in a power cut (never fsynced); the version that it had \
                 replaced is back, what is left of the new one is kept"
            ),
            false => tracing::error!(
                file = %shown,
                rest = %kept.display(),
                "the newest version was lost in a power cut (never fsynced); the file is back at its \
                 last complete version (or gone, if it had none), what is left of the new one is kept"
            ),
        }
        recovered.torn.push((shown, kept));
        Ok(())
    }

    /// Removes every name of a file that is lost.
    async fn unlink_everywhere(&self, ino: Ino) -> Result<()> {
        while let Some(inode) = self.journal().inode(ino).await?
            && inode.nlink > 0
        {
            let path = self.journal().path(ino).await?;
            let Some(name) = path.and_then(|mut path| path.pop()) else {
                return Ok(());
            };
            self.journal().unlink(inode.parent, &name, now()).await?;
        }
        Ok(())
    }

    /// Puts back what a lost file replaced: the newest version that is whole. If the lost one has an earlier version
    /// of its own, that one stays beside it.
    async fn restore_replaced(&self, lost: &Inode, path: &[Vec<u8>], torn: &Path) -> Result<bool> {
        let Some((spare, returns)) = self.replaced_version(lost, path).await? else {
            return Ok(false);
        };
        let has_own = lost.content.origin.is_some();
        let aside = (has_own && lost.nlink == 1).then(|| path.last().map(|name| name_aside(name)));
        let restored = self
            .journal()
            .restore(spare.ino, lost.ino, aside.flatten().as_deref(), now())
            .await?;
        match returns {
            _ if !restored => {
                tracing::warn!(ino = %spare.ino, "what a lost file replaced does not come back: the name is gone");
            }
            Returns::Here if spare.is_content_dirty() => {
                self.begin_another_version(spare.ino).await?;
            }
            Returns::Here => {}
            Returns::FromStore => {
                if self.extents().open_file(extent_id(&spare))?.is_some() {
                    self.extents().set_aside(extent_id(&spare), torn)?;
                }
                // Until then the next start finds it torn, and does the same.
                self.journal().revert(spare.ino, now()).await?;
            }
        }
        Ok(restored)
    }

    /// The newest whole version that had the name of a lost file, and the file that it is a version of.
    async fn replaced_version(
        &self,
        lost: &Inode,
        path: &[Vec<u8>],
    ) -> Result<Option<(Inode, Returns)>> {
        // Of one that was uploaded under another name nobody knows whether it had this name by then.
        let mut elsewhere = None;
        let mut unsafe_ino = lost.ino;
        while let Some(spare) = self.spare_of(unsafe_ino).await? {
            if self.is_whole_or_clean(&spare)? {
                self.seal_survivor(&spare).await?;
                return Ok(Some((spare, Returns::Here)));
            }
            if self.go_back_to_former(spare.ino).await? {
                return Ok(Some((spare, Returns::Here)));
            }
            if is_in_store_as(&spare, path) {
                return Ok(Some((spare, Returns::FromStore)));
            }
            // That one had replaced another before it was safe.
            unsafe_ino = spare.ino;
            if elsewhere.is_none() && spare.content.origin.is_some() {
                elsewhere = Some((spare, Returns::FromStore));
            }
        }
        Ok(elsewhere)
    }

    /// The newest of the files that an inode replaced before its bytes were safe.
    async fn spare_of(&self, ino: Ino) -> Result<Option<Inode>> {
        let mut newest: Option<Inode> = None;
        let mut after = None;
        loop {
            let node = self.inner.parts.node;
            let orphans = self.journal().orphans(node, after, PAGE).await?;
            for orphan in orphans.iter().filter(|o| o.spare_for == Some(ino)) {
                let inode = self.journal().inode(orphan.ino).await?;
                if let Some(inode) = inode
                    && newest
                        .as_ref()
                        .is_none_or(|other| other.ctime < inode.ctime)
                {
                    newest = Some(inode);
                }
            }
            match orphans.last() {
                Some(last) => after = Some(last.ino),
                None => return Ok(newest),
            }
        }
    }

    fn is_whole_or_clean(&self, inode: &Inode) -> Result<bool> {
        Ok(!inode.is_content_dirty() || self.is_whole(inode)?)
    }
}

/// Where the bytes of a version are that comes back.
enum Returns {
    /// In its extent file, or there and in the object.
    Here,
    /// All of them in the object; the extent file has the remains of a later version.
    FromStore,
}

/// Whether the object of that path is a version of this file.
fn is_in_store_as(inode: &Inode, path: &[Vec<u8>]) -> bool {
    let origin = inode.content.origin.as_ref();
    origin.is_some_and(|origin| origin.key == keys::encode(path).0)
}

/// Where a file's earlier version goes when its name goes to another.
fn name_aside(name: &[u8]) -> Vec<u8> {
    const SUFFIX: &[u8] = b".before-power-cut";
    let kept = name.len().min(super::tree::NAME_BYTES_MAX - SUFFIX.len());
    [&name[..kept], SUFFIX].concat()
}
