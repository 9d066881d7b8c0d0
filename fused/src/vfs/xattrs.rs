//! Extended attributes: the program's own, the access control lists, and the ones that tell a file's
//! state.
//!
//! The kernel says who may read and write `user.`, `trusted.` and `security.`, and what makes a valid
//! access control list; what is meant by one is in the journal. Other namespaces do not exist here.
//!
//! | name | value |
//! |---|---|
//! | `user.fused.state` | `clean`, `dirty`, `uploading`, `conflict` or `transient` |
//! | `user.fused.object` | the key that the file has or will have in the store |
//! | `user.fused.resident` | bytes that are on the local disk |
//! | `user.fused.pinned` | `yes`, `above` if a directory above it is, or `no` |
//!
//! The four are computed, read-only, and not listed, so that `cp -a` and `rsync -X` do not try to
//! copy them.

use journal::{Acl, AclKind, Ino, Inode, Kind, XattrMode};
use nix::errno::Errno;
use remote::keys;

use super::pins::Pinned;
use super::{Caller, Result, Vfs, extent_id, now};

const PREFIX: &[u8] = b"user.fused.";

const TRUSTED: &[u8] = b"trusted.";

/// S_ISGID, of inode(7).
const SET_GROUP_ID: u32 = 0o2000;

/// What an attribute's name says about it.
enum Name<'n> {
    /// Told by us, without the prefix.
    Own(&'n [u8]),
    /// An access control list.
    Acl(AclKind),
    /// The program's.
    Plain,
}

impl<'n> Name<'n> {
    fn parse(name: &'n [u8]) -> Result<Name<'n>> {
        if let Some(own) = name.strip_prefix(PREFIX) {
            return Ok(Name::Own(own));
        }
        if let Some(kind) = AclKind::of_attribute(name) {
            return Ok(Name::Acl(kind));
        }
        let namespaces: [&[u8]; 3] = [b"user.", TRUSTED, b"security."];
        match namespaces.iter().any(|space| name.starts_with(space)) {
            true => Ok(Name::Plain),
            false => Err(Errno::EOPNOTSUPP.into()),
        }
    }
}

/// What to say of an attribute that a file does not have.
fn absent(name: &[u8]) -> Errno {
    match name {
        // `ls -l` asks for it of every file, and the kernel remembers no answer to that. From this one it learns that
        // there are no labels on this file system. (With SELinux the kernel has its own, and does not ask.)
        b"security.selinux" => Errno::EOPNOTSUPP,
        _ => Errno::ENODATA,
    }
}

impl Vfs {
    /// getxattr(2).
    pub async fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        if let Name::Own(own) = Name::parse(name)? {
            return self.own_xattr(ino, own).await;
        }
        let value = self.journal().get_xattr(ino, name).await?;
        Ok(value.ok_or_else(|| absent(name))?)
    }

    /// setxattr(2).
    pub async fn set_xattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        caller: Caller,
    ) -> Result<()> {
        self.writable()?;
        self.wait_for_space().await?;
        match Name::parse(name)? {
            Name::Own(_) => Err(Errno::EPERM.into()),
            Name::Acl(kind) => {
                let acl = Acl::parse(value)?;
                self.set_acl(ino, kind, acl.as_ref(), caller).await
            }
            Name::Plain => {
                let journal = self.journal();
                Ok(journal.set_xattr(ino, name, value, mode, now()).await?)
            }
        }
    }

    async fn set_acl(
        &self,
        ino: Ino,
        kind: AclKind,
        acl: Option<&Acl>,
        caller: Caller,
    ) -> Result<()> {
        self.learn_before_use(ino).await?;
        let inode = self.inode(ino).await?;
        let keep = inode.mode & SET_GROUP_ID == 0 || caller.may_set_group_id(inode.gid);
        self.journal().set_acl(ino, kind, acl, keep, now()).await?;
        self.flusher().wake();
        Ok(())
    }

    /// listxattr(2).
    pub async fn list_xattr(&self, ino: Ino, caller: Caller) -> Result<Vec<Vec<u8>>> {
        let mut names = self.journal().list_xattr(ino).await?;
        if !caller.sees_trusted() {
            names.retain(|name| !name.starts_with(TRUSTED));
        }
        Ok(names)
    }

    /// removexattr(2).
    pub async fn remove_xattr(&self, ino: Ino, name: &[u8], caller: Caller) -> Result<()> {
        self.writable()?;
        match Name::parse(name)? {
            Name::Own(_) => Err(Errno::EPERM.into()),
            Name::Acl(kind) => self.set_acl(ino, kind, None, caller).await,
            Name::Plain => Ok(self.journal().remove_xattr(ino, name, now()).await?),
        }
    }

    async fn own_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        let inode = self.inode(ino).await?;
        if !matches!(inode.kind, Kind::File | Kind::Directory) {
            return Err(Errno::ENODATA.into());
        }
        let value = match name {
            b"state" => self.state(&inode).await?.to_string(),
            b"object" => self.object_key(&inode).await?.ok_or(Errno::ENODATA)?,
            b"pinned" => match self.pinned(inode.ino).await? {
                Pinned::No => "no".to_owned(),
                Pinned::Itself => "yes".to_owned(),
                Pinned::Above(_) => "above".to_owned(),
            },
            b"resident" if inode.kind == Kind::File => self.resident_bytes(&inode)?.to_string(),
            _ => return Err(Errno::ENODATA.into()),
        };
        Ok(value.into_bytes())
    }

    pub(super) async fn state(&self, inode: &Inode) -> Result<flusher::State> {
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

    pub(super) fn resident_bytes(&self, inode: &Inode) -> Result<u64> {
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
