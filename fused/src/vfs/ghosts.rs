//! Directories that a store still lists, and that are gone.
//!
//! Some stores keep a folder for every prefix, and list it for a minute and more after the last object in it
//! went (SeaweedFS does). To take a listing's word for it would bring a removed directory back. A list of the
//! keys below it has nothing by then. So where a directory was listed whole before, each subdirectory that is
//! new to the journal is looked into first: one request when somebody else makes one. The first listing of a
//! directory, where all is new, is believed: nothing was removed there from here.

use futures::{StreamExt, TryStreamExt, stream};
use journal::{Found, Ino, Timestamp};
use remote::ObjectKey;

use super::listing::{HEADS_IN_FLIGHT_MAX, LIST_TIMEOUT, away};
use super::{Error, Result, Vfs};

impl Vfs {
    /// Imports a page of a listing. `is_known`: the directory was listed whole before.
    pub(super) async fn import_page(
        &self,
        directory: Ino,
        found: &[Found],
        listed_at: Timestamp,
        is_known: bool,
    ) -> Result<()> {
        let journal = self.journal();
        if !is_known {
            journal.import(directory, found, listed_at).await?;
            return Ok(());
        }
        let new = journal.import_doubtful(directory, found, listed_at).await?;
        let there: Vec<Option<Found>> = stream::iter(new)
            .map(async |found| -> Result<_> {
                Ok(self.has_anything(&found.key).await?.then_some(found))
            })
            .buffered(HEADS_IN_FLIGHT_MAX)
            .try_collect()
            .await?;
        let there: Vec<Found> = there.into_iter().flatten().collect();
        journal.import(directory, &there, listed_at).await?;
        Ok(())
    }

    async fn has_anything(&self, directory: &str) -> Result<bool> {
        let key = ObjectKey::new(directory);
        match tokio::time::timeout(LIST_TIMEOUT, self.remote().exists_below(&key)).await {
            Ok(below) => below.map_err(|source| Error::remote(&key, source)),
            Err(_) => Err(away(&key)),
        }
    }
}
