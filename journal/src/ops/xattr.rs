//! Extended attributes. They live in the journal only, so they make nothing unsynced.
//!
//! A value of up to 64 KiB is one row with its first 2 KiB and a row for each 2 KiB more.

use crate::attempts::{look, transact};
use crate::records::{CHUNK_BYTES, ChunkRow, XattrRow, decode};
use crate::txn::Txn;
use crate::types::{Ino, Timestamp, XattrMode};
use crate::{Error, Journal, keys};

/// Linux's limits.
const NAME_BYTES_MAX: usize = 255;
const VALUE_BYTES_MAX: usize = 65_536;

impl Journal {
    /// The value of an attribute.
    pub async fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        check_name(name)?;
        look!(self, txn => async {
            let Some(row) = txn.load::<XattrRow>(&keys::xattr(ino, name)).await? else {
                return Ok(None);
            };
            let mut value = row.head;
            if value.len() < row.length as usize {
                let prefix = keys::xattr_chunks(ino, name);
                let rows = txn.rows(&prefix, None, VALUE_BYTES_MAX / CHUNK_BYTES).await?;
                for (key, bytes) in rows {
                    value.extend(decode::<ChunkRow>(&key, &bytes)?.bytes);
                }
            }
            Ok(Some(value))
        })
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
        let prefix = keys::xattr(ino, b"");
        look!(self, txn => async {
            let mut names = Vec::new();
            let mut after: Option<Vec<u8>> = None;
            loop {
                let page = txn.rows(&prefix, after.as_deref(), 256).await?;
                names.extend(page.iter().map(|(key, _)| key[keys::XATTR_NAME..].to_vec()));
                match page.into_iter().last() {
                    Some((last, _)) => after = Some(last),
                    None => return Ok(names),
                }
            }
        })
    }

    /// Removes an attribute, which must exist.
    pub async fn remove_xattr(&self, ino: Ino, name: &[u8], now: Timestamp) -> Result<(), Error> {
        check_name(name)?;
        transact!(self, txn => async {
            let mut row = txn.need(ino).await?;
            let key = keys::xattr(ino, name);
            if txn.load::<XattrRow>(&key).await?.is_none() {
                return Err(Error::NoAttribute { ino });
            }
            txn.clear(&key);
            clear_chunks(txn, ino, name);
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

async fn set(
    txn: &mut Txn<'_>,
    ino: Ino,
    name: &[u8],
    value: &[u8],
    mode: XattrMode,
    now: Timestamp,
) -> Result<(), Error> {
    let mut row = txn.need(ino).await?;
    let key = keys::xattr(ino, name);
    let before: Option<XattrRow> = txn.load(&key).await?;
    match (&before, mode) {
        (Some(_), XattrMode::Create) => return Err(Error::AttributeExists { ino }),
        (None, XattrMode::Replace) => return Err(Error::NoAttribute { ino }),
        _ => {}
    }
    if before.is_some_and(|before| before.length as usize > CHUNK_BYTES) {
        clear_chunks(txn, ino, name);
    }
    let (head, rest) = value.split_at(value.len().min(CHUNK_BYTES));
    let head = XattrRow {
        // Checked by the caller.
        length: u32::try_from(value.len()).unwrap_or(u32::MAX),
        head: head.to_vec(),
    };
    txn.put(&key, &head)?;
    for (chunk, bytes) in (0u16..).zip(rest.chunks(CHUNK_BYTES)) {
        let bytes = bytes.to_vec();
        txn.put(&keys::xattr_chunk(ino, name, chunk), &ChunkRow { bytes })?;
    }
    row.inode.ctime = now;
    txn.put_inode(&row)
}
