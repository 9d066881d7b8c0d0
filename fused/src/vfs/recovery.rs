//! What the last daemon left behind, put right before the first request.
//!
//! After a crash of the daemon alone the local file system still has every byte: files that were
//! being written are closed with what their extent file holds, and the flusher goes on.
//!
//! After a power cut (another boot, and no clean end) unsynced bytes may be gone. Clean extents
//! were never synced and are dropped: the object has them. A dirty file is believed if it was
//! fsynced, or if its hole map is the one recorded at close; otherwise it is *torn*: a torn
//! checkpoint must not replace a good one, so the file goes back to its object's version, and what
//! is left of the new one is kept in the `torn` folder of the cache directory and reported.

use std::path::{Path, PathBuf};

use extents::ExtentId;
use journal::{EndWrite, Ino, Inode, Kind, Seal};

use super::{Result, Vfs, attributes, extent_id, now};

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
            if power_cut && inode.content.seal != Some(Seal::Synced) {
                self.tear(&inode, torn, &mut recovered).await?;
            } else {
                self.end_interrupted_write(&inode).await?;
            }
        }
        let ids: Vec<ExtentId> = self
            .extents()
            .list()
            .collect::<std::result::Result<_, _>>()?;
        for id in ids {
            self.recover_extents(id, power_cut, torn, &mut recovered)
                .await?;
        }
        Ok(recovered)
    }

    async fn end_interrupted_write(&self, inode: &Inode) -> Result<()> {
        let extents = self.extents().open_or_create(extent_id(inode))?;
        let stat = extents.stat()?;
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
        let ctime = attributes::timestamp(stat.ctime);
        self.journal()
            .end_write(inode.ino, self.inner.parts.node, end, ctime)
            .await?;
        Ok(())
    }

    async fn recover_extents(
        &self,
        id: ExtentId,
        power_cut: bool,
        torn: &Path,
        recovered: &mut Recovered,
    ) -> Result<()> {
        let inode = self.journal().inode(Ino(id.ino)).await?;
        let Some(inode) = inode.filter(|inode| inode.kind == Kind::File && extent_id(inode) == id)
        else {
            recovered.stale += 1;
            return Ok(self.extents().remove(id)?);
        };
        if inode.is_content_dirty() {
            recovered.dirty += 1;
            if power_cut && !self.is_whole(&inode)? {
                self.tear(&inode, torn, recovered).await?;
            }
        } else if power_cut && self.evict(inode.ino).await? {
            recovered.dropped += 1;
        }
        Ok(())
    }

    /// Whether a dirty, closed file holds what it held at close.
    fn is_whole(&self, inode: &Inode) -> Result<bool> {
        let (size, map_digest) = match inode.content.seal {
            Some(Seal::Closed { size, map_digest }) => (size, map_digest),
            // Fsynced: whatever is there counts, as on any local file system.
            Some(Seal::Synced) => return Ok(true),
            // Never written: nothing could be lost.
            None => return Ok(true),
        };
        let Some(extents) = self.extents().open_file(extent_id(inode))? else {
            return Ok(size == 0);
        };
        let seal = extents.seal()?;
        Ok(seal.size == size && seal.map_digest == map_digest)
    }

    async fn tear(&self, inode: &Inode, torn: &Path, recovered: &mut Recovered) -> Result<()> {
        let path = self.journal().path(inode.ino).await?;
        let name = match &path {
            Some(path) => String::from_utf8_lossy(&path.join(&b'/')).into_owned(),
            None => format!("unlinked inode {}", inode.ino),
        };
        let kept = self.extents().set_aside(extent_id(inode), torn)?;
        self.journal().revert(inode.ino, now()).await?;
        tracing::error!(
            file = %name,
            rest = %kept.display(),
            "the newest version was lost in a power cut (never fsynced); the file is back at its \
             last complete version, what is left of the new one is kept"
        );
        recovered.torn.push((name, kept));
        Ok(())
    }
}
