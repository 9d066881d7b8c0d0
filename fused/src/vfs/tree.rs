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

    pub(super) async fn find(&self, parent: Ino, name: &[u8]) -> Result<Inode> {
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
        self.wait_for_space().await?;
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
        self.wait_for_space().await?;
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

    /// renameat2(2). A replaced file stays, without a name, until what replaced it would survive a power
    /// cut (safetensors and many others replace without fsync); see `reaper`.
    pub async fn rename(
        &self,
        (parent, name): (Ino, &[u8]),
        (new_parent, new_name): (Ino, &[u8]),
        mode: RenameMode,
    ) -> Result<()> {
        self.writable()?;
        self.check_name(new_parent, new_name).await?;
        let source = self.journal().lookup(parent, name).await?;
        let target = self.journal().lookup(new_parent, new_name).await?;
        self.list_what_moves(source.as_ref(), target.as_ref())
            .await?;
        if let (Some(source), Some(_), RenameMode::Replace) = (source, target, mode) {
            self.secure_before_replacing(source).await?;
        }
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

    /// Whether a directory is empty, and what is below one that moves, is the store's knowledge as well.
    async fn list_what_moves(&self, source: Option<&Inode>, target: Option<&Inode>) -> Result<()> {
        let Some(source) = source else {
            return Ok(());
        };
        if source.kind == Kind::Directory {
            self.list_tree(source.ino).await?;
        }
        if let Some(directory) = target.filter(|target| target.kind == Kind::Directory) {
            self.list_if_stale(directory.ino).await?;
        }
        Ok(())
    }

    fn removed(&self, removed: &Removed) {
        if removed.last {
            // The kernel does not tell us who has a FIFO or a device open.
            let opens_unseen = !matches!(removed.inode.kind, Kind::File | Kind::Directory);
            let is_held = opens_unseen && self.inner.parts.invalidate.is_answered();
            self.inner.reaper.orphan(removed.inode.ino, is_held);
        }
    }
}
