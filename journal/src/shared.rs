//! What all operations of a journal share.

use crate::kv::{KvStore, Mode};
use crate::numbers::{BATCH, Numbers};
use crate::recent::Recent;
use crate::records::decode_counter;
use crate::slots::Slots;
use crate::types::{Ino, NodeId};
use crate::{Error, keys};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// How long operations wait for a store that is away, unless somebody says otherwise.
const PATIENCE_MS: u64 = 30_000;

/// What all operations share.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn KvStore>,
    pub(crate) node: NodeId,
    pub(crate) inos: Numbers,
    pub(crate) seqs: Numbers,
    pub(crate) slots: Mutex<Slots>,
    /// Keys deleted lately; its lock is a leaf.
    pub(crate) recent: Mutex<Recent>,
    unsynced: AtomicI64,
    patience_ms: AtomicU64,
}

impl Shared {
    pub(crate) fn new(store: Arc<dyn KvStore>, node: NodeId) -> Shared {
        Shared {
            store,
            node,
            inos: Numbers::default(),
            seqs: Numbers::default(),
            slots: Mutex::default(),
            recent: Mutex::default(),
            unsynced: AtomicI64::new(0),
            patience_ms: AtomicU64::new(PATIENCE_MS),
        }
    }

    /// How long operations wait for a store that is away.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn set_patience(&self, patience: Duration) {
        let ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.patience_ms.store(ms, Ordering::Relaxed);
    }

    /// Unsynced rows of this node.
    pub(crate) fn unsynced(&self) -> u64 {
        u64::try_from(self.unsynced.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// An unsynced row of this node came or went.
    pub(crate) fn count_unsynced(&self, delta: i64) {
        if delta != 0 {
            self.unsynced.fetch_add(delta, Ordering::Relaxed);
        }
    }

    /// Takes new batches of numbers where they run low.
    pub(crate) async fn refill(&self) -> Result<(), Error> {
        for (numbers, key) in [(&self.inos, keys::NEXT_INO), (&self.seqs, keys::NEXT_SEQ)] {
            if numbers.is_low() {
                // A lost race or an unknown outcome only wastes a batch; the caller tries again.
                let mut txn = self.store.begin(Mode::Serial)?;
                let start = decode_counter(key, txn.get(key, false).await?.as_deref())?;
                let start = start.max(Ino::ROOT.0 + 1);
                txn.set(key, (start + BATCH).to_le_bytes().to_vec());
                {
                    let _point = killpoints::around("journal commit");
                    txn.commit().await?;
                }
                numbers.refill(start);
            }
        }
        Ok(())
    }
}
