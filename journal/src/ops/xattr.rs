//! Extended attributes. They live in the journal only, so they make nothing unsynced.
//!
//! A value of up to 64 KiB is one row with its first 2 KiB and a row for each 2 KiB more. All names of
//! an inode together are as long as listxattr(2) can return, so that what was set can be listed.

use crate::attempts::{look, transact};
use crate::records::{CHUNK_BYTES, ChunkRow, XattrRow, decode};
use crate::txn::Txn;
use crate::types::{AclKind, Ino, Timestamp, XattrMode};
use crate::{Error, Journal, keys};

/// Linux's limits.
const NAME_BYTES_MAX: usize = 255;
const VALUE_BYTES_MAX: usize = 65_536;
const LIST_BYTES_MAX: usize = 65_536;

/// Names read at once.
const NAMES_PAGE: usize = 256;

impl Journal {
    /// The value of an attribute.
    pub async fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        check_name(name)?;
        look!(self, txn => load(txn, ino, name))
    }

    /// Sets an attribute.
    pub async fn set_xattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        now: Timestamp,
    ) -> Result<(), Error> {
        check_name(name)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(Error::AttributeTooLarge {
                bytes: value.len(),
                bytes_max: VALUE_BYTES_MAX,
            });
        }
        transact!(self, txn => set(txn, ino, name, value, mode, now))
    }

    /// The names of all attributes, in their order.
    pub async fn list_xattr(&self, ino: Ino) -> Result<Vec<Vec<u8>>, Error> {
        look!(self, txn => names(txn, ino, usize::MAX))
    }

    /// Removes an attribute, which must exist.
    pub async fn remove_xattr(&self, ino: Ino, name: &[u8], now: Timestamp) -> Result<(), Error> {
        check_name(name)?;
        transact!(self, txn => async {
            let mut row = txn.need(ino).await?;
            if txn.load::<XattrRow>(&keys::xattr(ino, name)).await?.is_none() {
                return Err(Error::NoAttribute { ino });
            }
            clear(txn, ino, name);
            row.inode.ctime = now;
            txn.put_inode(&row)
        })
    }
}

fn check_name(name: &[u8]) -> Result<(), Error> {
    // A NUL would end the name in the key of its chunks.
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(&0) {
        return Err(Error::AttributeName { bytes: name.len() });
    }
    Ok(())
}

fn clear_chunks(txn: &mut Txn<'_>, ino: Ino, name: &[u8]) {
    let begin = keys::xattr_chunks(ino, name);
    let end = keys::after_prefix(&begin);
    txn.kv.clear_range(&begin, &end);
}

/// The names of the attributes, in their order; some, if all together are longer than `bytes_max`
/// with the NUL that listxattr(2) puts behind each.
async fn names(txn: &mut Txn<'_>, ino: Ino, bytes_max: usize) -> Result<Vec<Vec<u8>>, Error> {
    let prefix = keys::xattr(ino, b"");
    let mut names = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    let mut bytes = 0;
    while bytes <= bytes_max {
        let page = txn.rows(&prefix, after.as_deref(), NAMES_PAGE).await?;
        for (key, _) in &page {
            let name = &key[keys::XATTR_NAME..];
            bytes += name.len() + 1;
            names.push(name.to_vec());
        }
        match page.into_iter().last() {
            Some((last, _)) => after = Some(last),
            None => break,
        }
    }
    Ok(names)
}

/// The value of an attribute.
pub(super) async fn load(
    txn: &mut Txn<'_>,
    ino: Ino,
    name: &[u8],
) -> Result<Option<Vec<u8>>, Error> {
    let Some(row) = txn.load::<XattrRow>(&keys::xattr(ino, name)).await? else {
        return Ok(None);
    };
    let mut value = row.head;
    if value.len() < row.length as usize {
        let prefix = keys::xattr_chunks(ino, name);
        let rows = txn
            .rows(&prefix, None, VALUE_BYTES_MAX / CHUNK_BYTES)
            .await?;
        for (key, bytes) in rows {
            value.extend(decode::<ChunkRow>(&key, &bytes)?.bytes);
        }
    }
    Ok(Some(value))
}

/// Writes a value in place of whatever was there. The inode's ctime is the caller's work.
pub(super) async fn put(
    txn: &mut Txn<'_>,
    ino: Ino,
    name: &[u8],
    value: &[u8],
) -> Result<(), Error> {
    clear_chunks(txn, ino, name);
    let (head, rest) = value.split_at(value.len().min(CHUNK_BYTES));
    let head = XattrRow {
        length: u32::try_from(value.len()).map_err(|_| Error::TooLarge {
            what: "an extended attribute",
        })?,
        head: head.to_vec(),
    };
    txn.put(&keys::xattr(ino, name), &head)?;
    for (chunk, bytes) in (0u16..).zip(rest.chunks(CHUNK_BYTES)) {
        let bytes = bytes.to_vec();
        txn.put(&keys::xattr_chunk(ino, name, chunk), &ChunkRow { bytes })?;
    }
    Ok(())
}

/// Removes an attribute, if it is there. The inode's ctime is the caller's work.
pub(super) fn clear(txn: &mut Txn<'_>, ino: Ino, name: &[u8]) {
    txn.clear(&keys::xattr(ino, name));
    clear_chunks(txn, ino, name);
}

async fn set(
    txn: &mut Txn<'_>,
    ino: Ino,
    name: &[u8],
    value: &[u8],
    mode: XattrMode,
    now: Timestamp,
) -> Result<(), Error> {
    let mut row = txn.need(ino).await?;
    let before: Option<XattrRow> = txn.load(&keys::xattr(ino, name)).await?;
    match (&before, mode) {
        (Some(_), XattrMode::Create) => return Err(Error::AttributeExists { ino }),
        (None, XattrMode::Replace) => return Err(Error::NoAttribute { ino }),
        (None, _) => need_room(txn, ino, name).await?,
        _ => {}
    }
    put(txn, ino, name, value).await?;
    row.inode.ctime = now;
    txn.put_inode(&row)
}

/// Fails if another name would make the list too long. There is always room for the two access lists.
async fn need_room(txn: &mut Txn<'_>, ino: Ino, name: &[u8]) -> Result<(), Error> {
    let bytes = |name: &[u8]| name.len() + 1;
    let acls: usize = [AclKind::Access, AclKind::Default]
        .map(|kind| bytes(kind.attribute()))
        .iter()
        .sum();
    let others = names(txn, ino, LIST_BYTES_MAX).await?;
    let others: usize = others
        .iter()
        .filter(|name| AclKind::of_attribute(name).is_none())
        .map(|name| bytes(name))
        .sum();
    match acls + others + bytes(name) > LIST_BYTES_MAX {
        true => Err(Error::TooManyAttributes { ino }),
        false => Ok(()),
    }
}
