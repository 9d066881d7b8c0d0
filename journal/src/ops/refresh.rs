//! A second look at one clean file: is its object still the same, another, or gone?

use super::import::{has_stored_bytes, is_other_object, is_untouched, replace_object, take_mode};
use super::unlink::make_orphan;
use crate::attempts::transact;
use crate::records::{OrphanRow, corrupt};
use crate::txn::Txn;
use crate::types::{Ino, Inode, Kind, Replacement, Seen, Timestamp};
use crate::{Error, Journal, keys};

/// Names of one inode that are removed at once when its object is gone.
const LINKS_MAX: usize = 1000;

impl Journal {
    /// Takes over what the store has for a clean file. `now` is when the store was asked. A file that
    /// is dirty, being written, or checked later than that stays as it is.
    ///
    /// Another object: a new generation. Where a new name or new attributes are still on their way to the
    /// store only the bytes are taken over: the old ones are nowhere. Gone: the names are removed, and the
    /// inode is an orphan that leaves no garbage.
    pub async fn refresh(&self, ino: Ino, seen: &Seen, now: Timestamp) -> Result<Inode, Error> {
        transact!(self, txn => refresh(txn, ino, seen, now))
    }

    /// Somebody else has replaced the object that holds all the bytes of a file whose name or attributes
    /// are still on their way to the store: its bytes are theirs from now on. If it has `moved`, that key
    /// is not this file's any more, and does not become garbage when it gets its own. False, and nothing is
    /// done, if the file was written to.
    pub async fn superseded(
        &self,
        ino: Ino,
        new: &Replacement,
        moved: bool,
        now: Timestamp,
    ) -> Result<bool, Error> {
        transact!(self, txn => supersede(txn, ino, new, moved, now))
    }
}

async fn supersede(
    txn: &mut Txn<'_>,
    ino: Ino,
    new: &Replacement,
    moved: bool,
    now: Timestamp,
) -> Result<bool, Error> {
    let mut row = txn.need(ino).await?;
    let inode = &row.inode;
    let is_clean = inode.nlink > 0 && inode.content.writer.is_none() && !inode.is_content_dirty();
    let origin = inode.content.origin.clone().filter(|_| is_clean);
    let Some(origin) = origin.filter(|origin| origin.checked <= now) else {
        return Ok(false);
    };
    if moved && txn.claim(&origin.key).await? == Some(ino) {
        txn.clear(&keys::claim(&origin.key));
    }
    replace_object(&mut row, new.etag.clone(), new.size, new.mtime, now);
    txn.put_inode(&row)?;
    Ok(true)
}

async fn refresh(txn: &mut Txn<'_>, ino: Ino, seen: &Seen, now: Timestamp) -> Result<Inode, Error> {
    let mut row = txn.need(ino).await?;
    if row.inode.kind != Kind::File || !has_stored_bytes(&row) {
        return Ok(row.inode);
    }
    let untouched = is_untouched(&row);
    if !untouched && *seen == Seen::Gone {
        return Ok(row.inode);
    }
    match &mut row.inode.content.origin {
        Some(origin) if origin.checked <= now => origin.checked = now,
        _ => return Ok(row.inode),
    }
    match seen {
        Seen::Object {
            etag,
            size,
            mtime,
            mode,
            uid,
            gid,
        } => {
            let origin = row.inode.content.origin.as_ref();
            if origin.is_some_and(|origin| is_other_object(origin, etag.as_deref(), *size)) {
                replace_object(&mut row, etag.clone(), *size, *mtime, now);
            }
            let inode = &mut row.inode;
            if untouched {
                take_mode(txn, inode, *mode).await?;
                inode.uid = uid.unwrap_or(inode.uid);
                inode.gid = gid.unwrap_or(inode.gid);
            }
            if untouched && !inode.content.learned {
                // A listing only knows when the object was put.
                inode.mtime = *mtime;
                inode.content.learned = true;
            }
        }
        Seen::Gone => {
            let links = keys::links(ino);
            for (key, _) in txn.rows(&links, None, LINKS_MAX).await? {
                let link = keys::parse_link(&key);
                let (parent, name) =
                    link.ok_or_else(|| corrupt(&key, "a short key of a link".into()))?;
                txn.clear_name(parent, name, ino);
                row.inode.nlink = row.inode.nlink.saturating_sub(1);
            }
            row.inode.ctime = now;
            if let Some(origin) = row.inode.content.origin.take()
                && txn.claim(&origin.key).await? == Some(ino)
            {
                txn.clear(&keys::claim(&origin.key));
            }
            if row.inode.nlink == 0 {
                make_orphan(txn, &mut row, OrphanRow::default())?;
            }
        }
    }
    txn.put_inode(&row)?;
    Ok(row.inode)
}
