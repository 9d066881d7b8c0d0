//! What the store was asked for under a key, and may yet do.
//!
//! A request that broke off may arrive although nobody waits for it any more, also that of a daemon that was
//! killed. So a row says what is asked for: written before the request, made durable before it is sent, and
//! taken away once it has been answered and nothing that was asked for earlier can arrive any more. After a
//! crash these rows are all that can.
//!
//! Requests under one key are sent one after the other, and a version only when no other can arrive; so one
//! version is all that a row has to name.

use crate::attempts::{look, transact};
use crate::records::{corrupt, decode};
use crate::txn::Txn;
use crate::types::Sent;
use crate::{Error, Journal, keys};

impl Journal {
    /// The store is about to be asked for this under a key.
    pub async fn sending(&self, key: &str, sent: Sent) -> Result<(), Error> {
        transact!(self, txn => note(txn, key, sent))
    }

    /// Everything that was asked for under a key has been answered, or can't arrive any more.
    pub async fn all_heard(&self, key: &str) -> Result<(), Error> {
        transact!(self, txn => forget(txn, key))
    }

    /// What was asked for and may yet be done, after a key, in the order of keys.
    pub async fn sent(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Sent)>, Error> {
        let prefix = keys::sent("");
        let after = after.map(keys::sent);
        look!(self, txn => async {
            let rows = txn.rows(&prefix, after.as_deref(), limit).await?;
            rows.into_iter()
                .map(|(key, value)| {
                    let sent: Sent = decode(&key, &value)?;
                    let object = String::from_utf8(key[prefix.len()..].to_vec())
                        .map_err(|_| corrupt(&key, "an object key that isn't UTF-8".into()))?;
                    Ok((object, sent))
                })
                .collect()
        })
    }
}

/// Beside what is remembered already.
pub(super) async fn note(txn: &mut Txn<'_>, key: &str, sent: Sent) -> Result<(), Error> {
    let row = keys::sent(key);
    let known: Sent = txn.load(&row).await?.unwrap_or_default();
    let both = Sent {
        created: known.created || sent.created,
        replaced: sent.replaced.or(known.replaced),
        deleted: known.deleted || sent.deleted,
    };
    match both == known {
        true => Ok(()),
        false => txn.put(&row, &both),
    }
}

pub(super) async fn forget(txn: &mut Txn<'_>, key: &str) -> Result<(), Error> {
    let row = keys::sent(key);
    if txn.kv.get(&row, false).await?.is_some() {
        txn.clear(&row);
    }
    Ok(())
}
