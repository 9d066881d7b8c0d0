//! Progress of multipart uploads, so that a restart resumes them: one row for the upload and one for
//! each part.
//!
//! `reap` leaves these rows alone: an upload whose inode is gone must still be aborted in the store,
//! and only its row knows of it.
//!
//! A store names an upload in its answer, which may be lost, or the daemon killed before it is recorded. So
//! a row says beforehand that an upload of this key was asked for; it goes with the record of the name.

use super::digests::put_digests;
use crate::attempts::{look, transact};
use crate::records::{AskedRow, PartRow, UploadRow, corrupt, decode};
use crate::txn::Txn;
use crate::types::{AskedUploads, BlockDigests, Epoch, Ino, Timestamp, Upload};
use crate::{Error, Journal, keys};

impl Journal {
    /// The upload of an inode that is under way.
    pub async fn upload(&self, ino: Ino) -> Result<Option<Upload>, Error> {
        look!(self, txn => async {
            match txn.load::<UploadRow>(&keys::upload(ino)).await? {
                Some(row) => Ok(Some(with_parts(txn, ino, row).await?)),
                None => Ok(None),
            }
        })
    }

    /// Uploads under way, in the order of inode numbers.
    pub async fn uploads(&self, limit: usize) -> Result<Vec<(Ino, Upload)>, Error> {
        look!(self, txn => async {
            let mut uploads = Vec::new();
            for (key, value) in txn.rows(b"P", None, limit).await? {
                let ino = keys::parse_ino(&key);
                let ino = ino.ok_or_else(|| corrupt(&key, "a short key".into()))?;
                let row = decode(&key, &value)?;
                uploads.push((ino, with_parts(txn, ino, row).await?));
            }
            Ok(uploads)
        })
    }

    /// The store is about to be asked for an upload.
    pub async fn upload_asked(&self, key: &str, now: Timestamp) -> Result<(), Error> {
        let row = keys::asked_uploads(key);
        transact!(self, txn => async {
            let before: Option<AskedRow> = txn.load(&row).await?;
            let asked = AskedRow {
                count: before.map_or(0, |before| before.count).saturating_add(1),
                since: before.map_or(now, |before| before.since),
                until: now,
            };
            txn.put(&row, &asked)
        })
    }

    /// Uploads that were asked for and whose names were not heard, after a key, in the order of keys.
    pub async fn asked_uploads(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<AskedUploads>, Error> {
        let prefix = keys::asked_uploads("");
        let after = after.map(keys::asked_uploads);
        look!(self, txn => async {
            let rows = txn.rows(&prefix, after.as_deref(), limit).await?;
            rows.into_iter()
                .map(|(key, value)| {
                    let row: AskedRow = decode(&key, &value)?;
                    let object = String::from_utf8(key[prefix.len()..].to_vec())
                        .map_err(|_| corrupt(&key, "an object key that isn't UTF-8".into()))?;
                    Ok(AskedUploads { key: object, since: row.since, until: row.until })
                })
                .collect()
        })
    }

    /// None of these uploads is in the store any more. More that were asked for since are remembered.
    pub async fn asked_uploads_gone(&self, gone: &AskedUploads) -> Result<(), Error> {
        let row = keys::asked_uploads(&gone.key);
        transact!(self, txn => async {
            let now: Option<AskedRow> = txn.load(&row).await?;
            if now.is_some_and(|now| now.until == gone.until) {
                txn.clear(&row);
            }
            Ok(())
        })
    }

    /// An upload that was asked for has a name; an earlier one of this inode is forgotten (abort it first).
    pub async fn upload_started(
        &self,
        ino: Ino,
        epoch: Epoch,
        key: &str,
        upload_id: &str,
        part_bytes: u64,
    ) -> Result<(), Error> {
        let row = UploadRow {
            epoch,
            key: key.to_owned(),
            upload_id: upload_id.to_owned(),
            part_bytes,
        };
        let row = &row;
        let asked = keys::asked_uploads(key);
        transact!(self, txn => async {
            clear_parts(txn, ino);
            let waiting: Option<AskedRow> = txn.load(&asked).await?;
            match waiting {
                Some(waiting) if waiting.count > 1 => {
                    let count = waiting.count - 1;
                    txn.put(&asked, &AskedRow { count, ..waiting })?;
                }
                Some(_) => txn.clear(&asked),
                None => {}
            }
            txn.put(&keys::upload(ino), row)
        })
    }

    /// The store has a part, made of `blocks`.
    pub async fn upload_part(
        &self,
        ino: Ino,
        n: u32,
        etag: &str,
        blocks: &BlockDigests,
    ) -> Result<(), Error> {
        let row = PartRow {
            etag: etag.to_owned(),
        };
        let row = &row;
        transact!(self, txn => async {
            let Some(upload) = txn.load::<UploadRow>(&keys::upload(ino)).await? else {
                return Err(Error::no_inode(ino));
            };
            // Of an inode that is gone nobody would remove them.
            if txn.inode(ino).await?.is_some() {
                put_digests(txn, ino, upload.epoch, blocks)?;
            }
            txn.put(&keys::upload_part(ino, n), row)
        })
    }

    /// This upload is complete or aborted. One that took its place stays.
    pub async fn upload_cleared(&self, ino: Ino, upload_id: &str) -> Result<(), Error> {
        transact!(self, txn => async {
            let row: Option<UploadRow> = txn.load(&keys::upload(ino)).await?;
            if row.is_some_and(|row| row.upload_id == upload_id) {
                clear_parts(txn, ino);
                txn.clear(&keys::upload(ino));
            }
            Ok(())
        })
    }
}

/// At most 10,000 rows of 30 bytes of key and nothing else: within a transaction's limits.
fn clear_parts(txn: &mut Txn<'_>, ino: Ino) {
    let begin = keys::upload_parts(ino);
    let end = keys::after_prefix(&begin);
    txn.kv.clear_range(&begin, &end);
}

async fn with_parts(txn: &mut Txn<'_>, ino: Ino, row: UploadRow) -> Result<Upload, Error> {
    let prefix = keys::upload_parts(ino);
    let mut parts: Vec<(u32, String)> = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = txn.rows(&prefix, after.as_deref(), 1000).await?;
        for (key, value) in &page {
            let n = keys::parse_upload_part(key);
            let n = n.ok_or_else(|| corrupt(key, "a short key".into()))?;
            parts.push((n, decode::<PartRow>(key, value)?.etag));
        }
        match page.into_iter().last() {
            Some((last, _)) => after = Some(last),
            None => break,
        }
    }
    Ok(Upload {
        epoch: row.epoch,
        key: row.key,
        upload_id: row.upload_id,
        part_bytes: row.part_bytes,
        parts,
    })
}
