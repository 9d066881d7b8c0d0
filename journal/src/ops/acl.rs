//! Access control lists, in step with the mode: one transaction changes both.
//!
//! The lists are rows of extended attributes (see `xattr`), the rules are in [`crate::types::Acl`].

use super::attrs::change_mode;
use super::xattr;
use crate::attempts::transact;
use crate::txn::Txn;
use crate::types::{Acl, AclKind, Ino, Inode, Kind, Timestamp};
use crate::{Error, Journal};

/// S_ISGID, of inode(7).
const SET_GROUP_ID: u32 = 0o2000;

impl Journal {
    /// Sets a list, or removes it, which is no error where there is none. An access list sets the
    /// mode as well; `keep_set_group_id` says whether the caller may have that bit in it (a member of
    /// the group may).
    pub async fn set_acl(
        &self,
        ino: Ino,
        kind: AclKind,
        acl: Option<&Acl>,
        keep_set_group_id: bool,
        now: Timestamp,
    ) -> Result<Inode, Error> {
        transact!(self, txn => set_acl(txn, ino, kind, acl, keep_set_group_id, now))
    }
}

async fn set_acl(
    txn: &mut Txn<'_>,
    ino: Ino,
    kind: AclKind,
    acl: Option<&Acl>,
    keep_set_group_id: bool,
    now: Timestamp,
) -> Result<Inode, Error> {
    let mut row = txn.need(ino).await?;
    match (row.inode.kind, kind) {
        (Kind::Symlink, _) => return Err(Error::NoAcl { ino }),
        (Kind::Directory, AclKind::Default) => {}
        (_, AclKind::Default) if acl.is_some() => return Err(Error::NoDefaultAcl { ino }),
        _ => {}
    }
    row.inode.ctime = now;
    if let (AclKind::Access, Some(acl)) = (kind, acl) {
        let mut mode = row.inode.mode & !0o777 | acl.mode();
        if !keep_set_group_id {
            mode &= !SET_GROUP_ID;
        }
        change_mode(txn, &mut row, mode, now).await?;
    }
    match acl.filter(|acl| kind == AclKind::Default || !acl.is_mode()) {
        Some(acl) => xattr::put(txn, ino, kind.attribute(), &acl.to_bytes()).await?,
        None => xattr::clear(txn, ino, kind.attribute()),
    }
    txn.put_inode(&row)?;
    Ok(row.inode)
}

/// A list of an inode.
pub(super) async fn load(txn: &mut Txn<'_>, ino: Ino, kind: AclKind) -> Result<Option<Acl>, Error> {
    match xattr::load(txn, ino, kind.attribute()).await? {
        Some(bytes) => Acl::parse(&bytes),
        None => Ok(None),
    }
}

/// The mode has changed: the access list, where there is one, follows.
pub(super) async fn follow_mode(txn: &mut Txn<'_>, inode: &Inode) -> Result<(), Error> {
    if let Some(acl) = load(txn, inode.ino, AclKind::Access).await? {
        let followed = acl.with_mode(inode.mode).to_bytes();
        xattr::put(txn, inode.ino, AclKind::Access.attribute(), &followed).await?;
    }
    Ok(())
}

/// What is made in `parent` begins with these permission bits, and with its lists.
pub(super) async fn inherit(
    txn: &mut Txn<'_>,
    parent: Ino,
    inode: &mut Inode,
    umask: u32,
) -> Result<(), Error> {
    if inode.kind == Kind::Symlink {
        return Ok(());
    }
    let Some(default) = load(txn, parent, AclKind::Default).await? else {
        inode.mode &= !(umask & 0o777);
        return Ok(());
    };
    let ino = inode.ino;
    if inode.kind == Kind::Directory {
        let name = AclKind::Default.attribute();
        xattr::put(txn, ino, name, &default.to_bytes()).await?;
    }
    let access = default.inherited(inode.mode);
    inode.mode = inode.mode & !0o777 | access.mode();
    if !access.is_mode() {
        let name = AclKind::Access.attribute();
        xattr::put(txn, ino, name, &access.to_bytes()).await?;
    }
    Ok(())
}
