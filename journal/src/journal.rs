//! The journal itself: opening it.

use crate::attempts::{look, transact};
use crate::kv::KvStore;
use crate::records::{FORMAT, FormatRow, InodeRow, JournalIdRow, UNFINISHED, decode_counter};
use crate::shared::Shared;
use crate::types::{Content, Identity, Ino, Inode, Kind, NodeId, Timestamp, Usage};
use crate::{Error, keys};
use std::sync::Arc;
use std::time::Duration;

/// Typed transactions of one file system. Cloning is cheap and gives the same journal.
///
/// On the embedded store every operation but [`sync`](Journal::sync) is complete at its first poll.
#[derive(Clone)]
pub struct Journal {
    pub(crate) shared: Arc<Shared>,
}

impl Journal {
    /// Opens the journal in `store`, creating its root directory when it is new.
    ///
    /// Refuses a journal of a newer format ([`Error::NewerFormat`]) and one that belongs to another
    /// store ([`Error::OtherStore`]).
    pub async fn open(store: Arc<dyn KvStore>, identity: Identity) -> Result<Journal, Error> {
        let journal = Journal::over(store, identity.node);
        journal.check_format(identity.store_url).await?;
        journal.create_root().await?;
        journal.count_all_unsynced().await?;
        Ok(journal)
    }

    /// The journal in `store`, whatever is in there.
    pub(crate) fn over(store: Arc<dyn KvStore>, node: NodeId) -> Journal {
        Journal {
            shared: Arc::new(Shared::new(store, node)),
        }
    }

    async fn check_format(&self, wanted: String) -> Result<(), Error> {
        transact!(self, txn => async {
            match txn.load::<FormatRow>(keys::FORMAT).await? {
                None => {
                    let row = FormatRow { format: FORMAT, store_url: wanted.clone() };
                    txn.put(keys::FORMAT, &row)
                }
                Some(row) if row.format > FORMAT => Err(newer(row.format)),
                Some(row) if row.store_url != wanted => {
                    Err(Error::OtherStore { found: row.store_url, wanted: wanted.clone() })
                }
                Some(_) => Ok(()),
            }
        })
    }

    async fn create_root(&self) -> Result<(), Error> {
        let now = Timestamp::now();
        transact!(self, txn => async {
            if txn.inode(Ino::ROOT).await?.is_some() {
                return Ok(());
            }
            let root = Inode {
                ino: Ino::ROOT,
                kind: Kind::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
                nlink: 2,
                rdev: 0,
                size: 0,
                atime: now,
                mtime: now,
                ctime: now,
                btime: now,
                parent: Ino::ROOT,
                meta_epoch: 0,
                content: Content::default(),
            };
            txn.count_inodes(1);
            txn.put_inode(&InodeRow { inode: root, unsynced_on: None, orphan_on: None, moved: false  })
        })
    }

    async fn count_all_unsynced(&self) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = self.unsynced(after, 1000).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.ino);
            let count = i64::try_from(page.len()).unwrap_or(i64::MAX);
            self.shared.count_unsynced(count);
        }
    }

    /// A number that no other journal has, durably: 63 random bits, made when it is first asked for. What a node keeps
    /// beside the journal is of this one, and no other.
    pub async fn id(&self) -> Result<u64, Error> {
        let id = transact!(self, txn => async {
            if let Some(row) = txn.load::<JournalIdRow>(keys::JOURNAL_ID).await? {
                return Ok(row.id);
            }
            let row = JournalIdRow { id: rand::random::<u64>() >> 1 };
            txn.put(keys::JOURNAL_ID, &row)?;
            Ok(row.id)
        })?;
        self.sync().await?;
        Ok(id)
    }

    /// How long an operation waits for a store that is away, before it fails ([`crate::KvError::Unavailable`],
    /// [`crate::KvError::UnknownOutcome`]); 30 s until it is called. An attempt of its own may take some seconds more.
    pub fn set_patience(&self, patience: Duration) {
        self.shared.set_patience(patience);
    }

    /// Totals, cheaply.
    pub async fn counters(&self) -> Result<Usage, Error> {
        let inodes = look!(self, txn => async {
            let bytes = txn.kv.get(keys::INODES, true).await?;
            decode_counter(keys::INODES, bytes.as_deref())
        })?;
        Ok(Usage {
            inodes,
            unsynced: self.shared.unsynced(),
        })
    }

    /// Returns when everything that was committed before the call survives a power cut. Everybody
    /// who waits at the same time is served by the same disk flush.
    pub async fn sync(&self) -> Result<(), Error> {
        let _point = killpoints::around("journal sync");
        Ok(self.shared.store.sync().await?)
    }

    /// Why no change is accepted any more, if so: writing to the journal's disk failed.
    #[must_use]
    pub fn poisoned(&self) -> Option<String> {
        self.shared.store.poisoned()
    }

    /// Whether space is so short that nothing new should be made. What closes, removes or uploads files goes
    /// on: it makes space.
    #[must_use]
    pub fn is_short_of_space(&self) -> bool {
        self.shared.store.is_short_of_space()
    }

    /// This daemon, as given to [`Journal::open`].
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.shared.node
    }
}

/// Why a journal of a format that is not known can't be opened.
pub(crate) fn newer(format: u32) -> Error {
    match format {
        UNFINISHED => Error::UnfinishedImport,
        found => Error::NewerFormat {
            found,
            known: FORMAT,
        },
    }
}
