//! Extended attributes: the program's own, and the ones that tell a file's state.
//!
//! | name | value |
//! |---|---|
//! | `user.fused.state` | `clean`, `dirty`, `uploading`, `conflict` or `transient` |
//! | `user.fused.object` | the key that the file has or will have in the store |
//! | `user.fused.resident` | bytes that are on the local disk |
//!
//! The three are computed, read-only, and not listed, so that `cp -a` and `rsync -X` do not try to
//! copy them.

use journal::{Ino, Inode, Kind, XattrMode};
use nix::errno::Errno;
use remote::keys;

use super::{Result, Vfs, extent_id, now};

const PREFIX: &[u8] = b"user.fused.";

impl Vfs {
    /// getxattr(2).
    pub async fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        if let Some(own) = name.strip_prefix(PREFIX) {
            return self.own_xattr(ino, own).await;
        }
        let value = self.journal().get_xattr(ino, name).await?;
        Ok(value.ok_or(Errno::ENODATA)?)
    }

    /// setxattr(2).
    pub async fn set_xattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        self.writable()?;
        if name.starts_with(PREFIX) {
            return Err(Errno::EPERM.into());
        }
        if name.starts_with(b"system.") {
            // POSIX ACLs and their like change what a mode means: not kept here yet.
            return Err(Errno::EOPNOTSUPP.into());
        }
        Ok(self
            .journal()
            .set_xattr(ino, name, value, mode, now())
            .await?)
    }

    /// listxattr(2).
    pub async fn list_xattr(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        Ok(self.journal().list_xattr(ino).await?)
    }

    /// removexattr(2).
    pub async fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        self.writable()?;
        if name.starts_with(PREFIX) {
            return Err(Errno::EPERM.into());
        }
        Ok(self.journal().remove_xattr(ino, name, now()).await?)
    }

    async fn own_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        let inode = self.inode(ino).await?;
        if !matches!(inode.kind, Kind::File | Kind::Directory) {
            return Err(Errno::ENODATA.into());
        }
        let value = match name {
            b"state" => self.state(&inode).await?.to_string(),
            b"object" => self.object_key(&inode).await?.ok_or(Errno::ENODATA)?,
            b"resident" if inode.kind == Kind::File => self.resident_bytes(&inode)?.to_string(),
            _ => return Err(Errno::ENODATA.into()),
        };
        Ok(value.into_bytes())
    }

    async fn state(&self, inode: &Inode) -> Result<flusher::State> {
        if let Some(file) = self.inner.opens.get(inode.ino)
            && file.has_writers()
        {
            return Ok(flusher::State::Dirty);
        }
        Ok(self.flusher().state(inode.ino).await)
    }

    async fn object_key(&self, inode: &Inode) -> Result<Option<String>> {
        let path = self.journal().path(inode.ino).await?;
        Ok(path.map(|path| keys::encode(&path).to_string()))
    }

    fn resident_bytes(&self, inode: &Inode) -> Result<u64> {
        let extents = match self.inner.opens.get(inode.ino) {
            Some(file) => file.extents.clone(),
            None => match self.extents().open_file(extent_id(inode))? {
                Some(extents) => extents,
                None => return Ok(0),
            },
        };
        let ranges = extents.resident()?;
        Ok(ranges
            .iter()
            .map(|range| range.end.min(inode.size).saturating_sub(range.start))
            .sum())
    }
}
