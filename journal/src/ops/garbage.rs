//! Keys that nobody here wants any more, and who owns which key.
//!
//! A garbage row says that the object was deleted *here*. Before deleting it from the store, the
//! flusher looks whether an unsynced inode has that path now: then the new object will replace the
//! old one in one step, and `flushed` takes the row away. Deleting first would show readers of the
//! bucket a moment without either.
//!
//! A row is also written *before* an object is put to a key that is not its inode's yet
//! ([`Journal::attempted`]). Whether that arrives may stay unknown, because the answer is lost or the daemon
//! is killed, and the file may be renamed or removed before the next try: then only this row knows of the
//! object. `flushed` takes it away as well.

use super::sent::note;
use crate::attempts::{look, transact};
use crate::records::{GarbageRow, corrupt, decode};
use crate::txn::Txn;
use crate::types::{Garbage, Ino, Sent, Timestamp};
use crate::{Error, Journal, keys};

impl Journal {
    /// The inode whose origin is this object. Before a key is overwritten for another inode, the
    /// owner's bytes must have been moved or fetched.
    pub async fn claim(&self, key: &str) -> Result<Option<Ino>, Error> {
        look!(self, txn => txn.claim(key))
    }

    /// Garbage after a key, in the order of keys.
    pub async fn garbage(&self, after: Option<&str>, limit: usize) -> Result<Vec<Garbage>, Error> {
        let prefix = keys::garbage("");
        let after = after.map(keys::garbage);
        look!(self, txn => async {
            let rows = txn.rows(&prefix, after.as_deref(), limit).await?;
            rows.into_iter()
                .map(|(key, value)| {
                    let row: GarbageRow = decode(&key, &value)?;
                    let object = String::from_utf8(key[prefix.len()..].to_vec())
                        .map_err(|_| corrupt(&key, "an object key that isn't UTF-8".into()))?;
                    Ok(row.into_garbage(object))
                })
                .collect()
        })
    }

    /// The garbage row of one key: what was deleted here and not yet in the store.
    pub async fn garbage_row(&self, key: &str) -> Result<Option<Garbage>, Error> {
        let row = keys::garbage(key);
        look!(self, txn => async {
            let row: Option<GarbageRow> = txn.load(&row).await?;
            Ok(row.map(|row| row.into_garbage(key.to_owned())))
        })
    }

    /// Something of `ino` is about to be put to this key, if anything by a request for `sent`. A row that is there
    /// stays: it says more. From now on nothing under this key is imported. False, and nothing is done, if another
    /// file has its object there: it may have been imported since somebody looked.
    pub async fn attempted(
        &self,
        ino: Ino,
        key: &str,
        directory: bool,
        sent: Sent,
    ) -> Result<bool, Error> {
        let row = keys::garbage(key);
        transact!(self, txn => async {
            // Of markers, one is as good as another.
            if !directory && holds_another(txn, ino, key).await? {
                return Ok(false);
            }
            if txn.kv.get(&row, false).await?.is_none() {
                txn.put(&row, &GarbageRow::attempt(directory))?;
            }
            note(txn, key, sent).await?;
            Ok(true)
        })
    }

    /// The store doesn't have this key any more, but may have it again: something of ours that was put to it has
    /// not arrived yet. The row is as [`Journal::attempted`] leaves it.
    pub async fn garbage_may_return(&self, key: &str) -> Result<(), Error> {
        let row = keys::garbage(key);
        transact!(self, txn => async {
            let Some(known) = txn.load::<GarbageRow>(&row).await? else {
                return Ok(());
            };
            let attempt = GarbageRow::attempt(known.directory);
            match known == attempt {
                true => Ok(()),
                false => txn.put(&row, &attempt),
            }
        })
    }

    /// The store doesn't have this key any more.
    pub async fn garbage_done(&self, key: &str) -> Result<(), Error> {
        // Remembered before the row goes, so that no listing slips through between the two.
        {
            let (now, mut recent) = (Timestamp::now(), self.shared.recent.lock());
            recent.note(key, now);
            // A listing may have shown no more of a directory than this key.
            let directory = key.trim_end_matches('/');
            for (end, _) in directory.match_indices('/') {
                recent.note(&key[..=end], now);
            }
        }
        let row = keys::garbage(key);
        transact!(self, txn => async {
            if txn.kv.get(&row, false).await?.is_some() {
                txn.clear(&row);
            }
            Ok(())
        })
    }

    /// Whether this key was deleted here and not yet in the store.
    pub async fn is_garbage(&self, key: &str) -> Result<bool, Error> {
        let row = keys::garbage(key);
        look!(self, txn => async { Ok(txn.kv.get(&row, false).await?.is_some()) })
    }
}

/// Whether the object at the key is that of another inode.
async fn holds_another(txn: &mut Txn<'_>, ino: Ino, key: &str) -> Result<bool, Error> {
    let Some(owner) = txn.claim(key).await?.filter(|owner| *owner != ino) else {
        return Ok(false);
    };
    let owner = txn.inode(owner).await?;
    let origin = owner.and_then(|row| row.inode.content.origin);
    Ok(origin.is_some_and(|origin| origin.key == key))
}
