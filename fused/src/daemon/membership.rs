//! Taking part in a file system whose journal other machines reach as well: one after the other, so far.
//!
//! See `journal/src/ops/nodes.rs` for who may join. The first time after another node, what is in the cache
//! directory is of an earlier time: all of it is in the store, or nobody else could have joined, and it is dropped.

use std::path::Path;
use std::time::Duration;

use extents::ExtentStore;
use journal::{Journal, Place, Timestamp};
use tokio::task::AbortHandle;

use super::{Error, OpenRooms};
use crate::options::MountOptions;

/// How often a node says that it is there. Only people go by it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// This daemon among the others. Nothing, where the journal is nobody else's.
pub struct Membership(Option<(Journal, AbortHandle)>);

impl Membership {
    /// Joins, before anything local is looked at.
    ///
    /// # Errors
    ///
    /// Another node has the file system mounted, or holds what is not in the store.
    pub async fn join(rooms: &OpenRooms, options: &MountOptions) -> Result<Self, Error> {
        let journal = rooms.rooms.journal.clone();
        if !journal.is_shared() {
            return Ok(Self(None));
        }
        if journal
            .join(&here(&options.mountpoint), Timestamp::now())
            .await?
        {
            let dropped = drop_copies(&rooms.rooms.extents)?;
            tracing::info!(
                dropped,
                "another node was here since: local copies are of an earlier time"
            );
        }
        journal.take_turn().await?;
        let alive = tokio::spawn(say_alive(journal.clone())).abort_handle();
        Ok(Self(Some((journal, alive))))
    }

    /// Lets others join.
    pub async fn leave(self) {
        let Some((journal, alive)) = self.0 else {
            return;
        };
        alive.abort();
        if let Err(error) = journal.leave(Timestamp::now()).await {
            tracing::error!(%error, "cannot record that this node has unmounted; other nodes will not join");
        }
    }
}

/// What others are told of where this node is.
#[must_use]
pub fn here(mountpoint: &Path) -> Place {
    Place {
        host: nix::unistd::gethostname().map_or_else(
            |_| "unknown".into(),
            |name| name.to_string_lossy().into_owned(),
        ),
        mountpoint: mountpoint.to_string_lossy().into_owned(),
    }
}

async fn say_alive(journal: Journal) {
    loop {
        tokio::time::sleep(SIGN_OF_LIFE).await;
        if let Err(error) = journal.is_seen(Timestamp::now()).await {
            tracing::warn!(%error, "cannot record that this node is alive; tried again");
        }
    }
}

fn drop_copies(extents: &ExtentStore) -> Result<u64, Error> {
    let mut dropped = 0;
    for id in extents.list() {
        extents.remove(id?)?;
        dropped += 1;
    }
    Ok(dropped)
}
