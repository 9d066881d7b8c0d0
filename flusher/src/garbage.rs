//! Deleting keys that nobody wants any more.
//!
//! A key becomes garbage when its file is deleted, or when its object was copied to another key. A sweep
//! takes the rows in order, several keys at a time. Under the lock of the key it looks again whether the key
//! is still garbage, claimed by nobody, and not what some file's path says by now: then the next upload
//! replaces the object, and readers of the bucket never see it missing. Only the version that we knew is
//! deleted; if somebody else replaced it since, it is theirs.

use futures::{StreamExt, stream};
use journal::{Garbage, Ino, Inode, Kind};
use remote::{ETag, ObjectKey};

use crate::core::Core;
use crate::error::Error;

/// Rows read at a time.
const PAGE_ROWS: usize = 256;
/// Deletes in flight.
const DELETES_PARALLEL: usize = 8;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Rows that are done.
    pub(crate) done: u64,
    /// Rows that failed and are tried again.
    pub(crate) failed: u64,
    /// Rows whose key somebody wants again.
    pub(crate) waiting: u64,
}

enum Verdict {
    Done,
    Waits,
}

/// One pass over all garbage.
pub(crate) async fn sweep(core: &Core) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    let mut after: Option<String> = None;
    loop {
        let page = core.journal().garbage(after.as_deref(), PAGE_ROWS).await?;
        let Some(last) = page.last() else {
            return Ok(swept);
        };
        after = Some(last.key.clone());
        // Deepest first: a real directory can only be removed when it is empty.
        let results: Vec<_> = stream::iter(page.into_iter().rev())
            .map(async |row| {
                let result = collect(core, &row).await;
                (row, result)
            })
            .buffer_unordered(DELETES_PARALLEL)
            .collect()
            .await;
        for (row, result) in results {
            match result {
                Ok(Verdict::Done) => {
                    swept.done += 1;
                    core.stats.step_done(&row.key);
                }
                Ok(Verdict::Waits) => swept.waiting += 1,
                Err(error) => {
                    swept.failed += 1;
                    core.note_failure(&error);
                    tracing::debug!(key = %row.key, %error, "could not delete; tried again later");
                    core.stats.step_failed(&row.key, error.to_string());
                }
            }
        }
        if !core.circuit(|circuit| circuit.is_closed()) {
            return Ok(swept);
        }
    }
}

async fn collect(core: &Core, row: &Garbage) -> Result<Verdict, Error> {
    let _lock = core.locks.lock([row.key.clone()]).await;
    let journal = core.journal();
    if !journal.is_garbage(&row.key).await? {
        return Ok(Verdict::Done);
    }
    if let Some(owner) = journal.claim(&row.key).await? {
        // An object in use is not garbage; one of a file deleted but still open goes when that is closed.
        let in_use = journal.inode(owner).await?.is_some_and(|inode| {
            let origin = inode.content.origin.as_ref();
            origin.is_some_and(|origin| origin.key == row.key)
        });
        if in_use {
            return Ok(Verdict::Waits);
        }
    }
    if wants(core, row).await? {
        return Ok(Verdict::Waits);
    }
    let key = ObjectKey::from(row.key.as_str());
    if row.directory {
        core.changing(core.remote().remove_dir(&key)).await?;
    } else if let Some(etag) = row.etag.clone().map(ETag) {
        match core.changing(core.remote().delete_matching(&key, &etag)).await {
            Ok(()) | Err(remote::Error::NotFound { .. }) => {}
            Err(remote::Error::PreconditionFailed { .. } | remote::Error::Changed { .. }) => {
                tracing::info!(%key, "not deleted: somebody else has replaced it in the store");
            }
            Err(error) => return Err(error.into()),
        }
    } else {
        core.changing(core.remote().delete(&key)).await?;
    }
    journal.garbage_done(&row.key).await?;
    tracing::debug!(%key, "deleted");
    Ok(Verdict::Done)
}

/// Whether the path that the key stands for exists, as what the key is of.
async fn wants(core: &Core, row: &Garbage) -> Result<bool, Error> {
    let found = resolve(core, row.key.trim_end_matches('/')).await?;
    Ok(found.is_some_and(|inode| match row.directory {
        true => inode.kind == Kind::Directory,
        false => inode.kind == Kind::File,
    }))
}

async fn resolve(core: &Core, key: &str) -> Result<Option<Inode>, Error> {
    let mut at = None;
    let mut parent = Ino::ROOT;
    for component in key.split('/') {
        let Some(name) = remote::keys::decode_name(component) else {
            return Ok(None);
        };
        at = core.journal().lookup(parent, &name).await?;
        match &at {
            Some(inode) => parent = inode.ino,
            None => return Ok(None),
        }
    }
    Ok(at)
}
