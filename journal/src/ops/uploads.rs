//! Progress of multipart uploads, so that a restart resumes them: one row for the upload and one for
//! each part.
//!
//! `reap` leaves these rows alone: an upload whose inode is gone must still be aborted in the store,
//! and only its row knows of it.

use crate::attempts::{look, transact};
use crate::records::{PartRow, UploadRow, corrupt, decode};
use crate::txn::Txn;
use crate::types::{Epoch, Ino, Upload};
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

    /// An upload was started; an earlier one of this inode is forgotten (abort it first).
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
        transact!(self, txn => async {
            clear_parts(txn, ino);
            txn.put(&keys::upload(ino), row)
        })
    }

    /// The store has a part.
    pub async fn upload_part(&self, ino: Ino, n: u32, etag: &str) -> Result<(), Error> {
        let row = PartRow {
            etag: etag.to_owned(),
        };
        let row = &row;
        transact!(self, txn => async {
            if txn.load::<UploadRow>(&keys::upload(ino)).await?.is_none() {
                return Err(Error::no_inode(ino));
            }
            txn.put(&keys::upload_part(ino, n), row)
        })
    }

    /// The upload is complete or aborted.
    pub async fn upload_cleared(&self, ino: Ino) -> Result<(), Error> {
        transact!(self, txn => async {
            clear_parts(txn, ino);
            txn.clear(&keys::upload(ino));
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
