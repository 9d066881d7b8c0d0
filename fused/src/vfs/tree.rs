//! Names: lookup, create, link, unlink, rename.
//!
//! Each call is one journal transaction. What the store knows about a directory is learned first
//! (see `listing`), so that a name which exists only in the bucket is found, and not made again.

use journal::{Ino, Inode, Kind, NewInode, Removed, RenameMode};
use nix::errno::Errno;

use super::listing::Discovery;
use super::{Attributes, Result, Vfs, now};

/// The longest name, in bytes (NAME_MAX, limits.h). FUSE itself would let 1024 pass.
pub const NAME_BYTES_MAX: usize = 255;

impl Vfs {
    /// The attributes of `name` in `parent`.
    pub async fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attributes> {
        let inode = self.find(parent, name).await?;
        let inode = self.learn(inode).await?;
        self.attributes_of(&inode)
    }

    async fn find(&self, parent: Ino, name: &[u8]) -> Result<Inode> {
        if name.len() > NAME_BYTES_MAX {
            return Err(Errno::ENAMETOOLONG.into());
        }
        let known = match self.journal().lookup(parent, name).await? {
            Some(inode) if !self.is_store_knowledge(&inode) => return Ok(inode),
            known => known,
        };
        let found = match self.discover(parent, name).await? {
            Discovery::Known => known,
            Discovery::Asked => self.journal().lookup(parent, name).await?,
        };
        Ok(found.ok_or(Errno::ENOENT)?)
    }

    /// Checks a name about to be made, and learns what the store has under it.
    pub(super) async fn check_name(&self, parent: Ino, name: &[u8]) -> Result<()> {
        if name.len() > NAME_BYTES_MAX {
            return Err(Errno::ENAMETOOLONG.into());
        }
        self.discover(parent, name).await?;
        Ok(())
    }

    /// mkdir(2), mknod(2), symlink(2).
    pub async fn make(&self, parent: Ino, name: &[u8], new: NewInode) -> Result<Attributes> {
        self.writable()?;
        self.check_name(parent, name).await?;
        let inode = self.journal().create(parent, name, new, now()).await?;
        self.flusher().wake();
        Ok(Attributes::of(&inode))
    }

    /// readlink(2).
    pub async fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        Ok(self.journal().read_link(ino).await?)
    }

    /// link(2).
    pub async fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attributes> {
        self.writable()?;
        self.check_name(parent, name).await?;
        let inode = self.journal().link(ino, parent, name, now()).await?;
        self.flusher().wake();
        self.attributes_of(&inode)
    }

    /// unlink(2).
    pub async fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.writable()?;
        let removed = self.journal().unlink(parent, name, now()).await?;
        self.removed(&removed);
        self.flusher().wake();
        Ok(())
    }

    /// rmdir(2).
    pub async fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.writable()?;
        let directory = self.find(parent, name).await?;
        if directory.kind == Kind::Directory {
            // Objects that nobody listed yet are entries too.
            self.list_if_stale(directory.ino).await?;
        }
        let removed = self.journal().rmdir(parent, name, now()).await?;
        self.removed(&removed);
        self.flusher().wake();
        Ok(())
    }

    /// renameat2(2). What replaces a file is on the disk before it does.
    pub async fn rename(
        &self,
        (parent, name): (Ino, &[u8]),
        (new_parent, new_name): (Ino, &[u8]),
        mode: RenameMode,
    ) -> Result<()> {
        self.writable()?;
        self.check_name(new_parent, new_name).await?;
        self.rename_barrier((parent, name), (new_parent, new_name), mode)
            .await?;
        let renamed = self
            .journal()
            .rename(parent, name, new_parent, new_name, mode, now())
            .await?;
        if let Some(replaced) = &renamed.replaced {
            self.removed(replaced);
        }
        self.flusher().wake();
        Ok(())
    }

    /// After a power cut there is the old file or the complete new one: the new one's bytes go to
    /// the disk before its name can (safetensors and many others replace without fsync).
    async fn rename_barrier(
        &self,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        mode: RenameMode,
    ) -> Result<()> {
        let Some(source) = self.journal().lookup(from.0, from.1).await? else {
            return Ok(());
        };
        let target = self.journal().lookup(to.0, to.1).await?;
        if source.kind == Kind::Directory {
            self.list_tree(source.ino).await?;
        }
        if let Some(directory) = target
            .as_ref()
            .filter(|target| target.kind == Kind::Directory)
        {
            self.list_if_stale(directory.ino).await?;
        }
        match (mode, target) {
            (RenameMode::Replace, Some(target))
                if source.kind == Kind::File && source.ino != target.ino =>
            {
                self.sync_closed(&source).await
            }
            _ => Ok(()),
        }
    }

    fn removed(&self, removed: &Removed) {
        if removed.last {
            self.inner.reaper.orphan(removed.inode.ino);
        }
    }
}
