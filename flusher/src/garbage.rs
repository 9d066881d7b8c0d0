//! Deleting keys that nobody wants any more.
//!
//! A key becomes garbage when its file is deleted, or when its object was copied to another key. A sweep
//! takes the rows in pages, several keys at a time. Under the lock of the key it looks again whether the key
//! is still garbage and claimed by nobody. If an unsynced file has that path
//! by now the key is left alone: its upload replaces the object, and readers of the bucket never see it missing. A directory's key waits
//! for what is ours below it. Only the version that we knew is deleted; if somebody else replaced it since,
//! it is theirs.
//!
//! Before something is put to a key that is not its inode's yet, the key counts as garbage too: whether the
//! put arrives may never be heard, and by the next try the file may be gone or elsewhere. While the file wants
//! to be there the row waits; `flushed` takes it away; otherwise what is there is looked at, and deleted if
//! its mark says that it is ours and the journal says that nobody needs it. If nothing is there the row stays
//! until the put can't arrive any more; and so does that of what was deleted while an unheard put of it may
//! yet come.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use journal::{Garbage, Ino, Inode, Kind};
use remote::{DirMarkers, ETag, ObjectKey};

use crate::core::Core;
use crate::error::Error;
use crate::expect::durable;
use crate::identity::{is_in_place, own_mark};
use crate::unheard::What;

/// Rows read at a time.
const PAGE_ROWS: usize = 256;
/// Deletes in flight. Each begins with a sync of the journal, which those that begin together share.
const DELETES_PARALLEL: usize = 16;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Rows that are done.
    pub(crate) done: u64,
    /// Rows that failed and are tried again.
    pub(crate) failed: u64,
    /// Rows whose key somebody wants again.
    pub(crate) waiting: u64,
    /// Rows whose key has nothing of ours, and may get something yet.
    pub(crate) may_return: u64,
}

enum Verdict {
    Done,
    Waits,
    MayReturn,
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
        let page = without_uploads(core, page, &mut swept).await?;
        if page.is_empty() {
            continue;
        }
        // Level by level, the deepest first: a directory goes after what was in it.
        let mut levels = BTreeMap::<_, Vec<Garbage>>::new();
        for row in page {
            levels
                .entry(Reverse(depth(&row.key)))
                .or_default()
                .push(row);
        }
        for level in levels.into_values() {
            sweep_level(core, level, &mut swept).await;
        }
        if !core.circuit(|circuit| circuit.is_closed()) {
            return Ok(swept);
        }
    }
}

/// Leaves out the keys to which something is about to be put: their locks are held for as long as that takes.
async fn without_uploads(
    core: &Core,
    page: Vec<Garbage>,
    swept: &mut Swept,
) -> Result<Vec<Garbage>, Error> {
    let mut rest = Vec::with_capacity(page.len());
    for row in page {
        if row.attempted && is_wanted(core, &row).await? {
            swept.waiting += 1;
        } else {
            rest.push(row);
        }
    }
    Ok(rest)
}

/// How many directories are above what a key stands for.
fn depth(key: &str) -> usize {
    key.trim_end_matches('/').matches('/').count()
}

async fn sweep_level(core: &Core, rows: Vec<Garbage>, swept: &mut Swept) {
    let results: Vec<_> = stream::iter(rows)
        .map(async |row| {
            let result = match collect(core, &row).await {
                // No store can have it.
                Err(Error::Store(remote::Error::KeyTooLong { .. })) => {
                    finish(core, &row, Verdict::Done).await
                }
                result => result,
            };
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
            Ok(Verdict::MayReturn) => swept.may_return += 1,
            Err(error) => {
                swept.failed += 1;
                core.note_failure(&error);
                tracing::debug!(key = %row.key, %error, "could not delete; tried again later");
                core.stats.step_failed(&row.key, error.to_string());
            }
        }
    }
}

async fn collect(core: &Core, row: &Garbage) -> Result<Verdict, Error> {
    let _lock = core.locks.lock([row.key.clone()]).await;
    let journal = core.journal();
    if !journal.is_garbage(&row.key).await? {
        return Ok(Verdict::Done);
    }
    match need(core, row).await? {
        Need::Waits => return Ok(Verdict::Waits),
        Need::InUse => {
            journal.garbage_done(&row.key).await?;
            return Ok(Verdict::Done);
        }
        Need::None => {}
    }
    let key = ObjectKey::from(row.key.as_str());
    if row.directory {
        delete(core, &key, core.remote().remove_dir(&key)).await??;
    } else if row.attempted {
        if let Some(verdict) = delete_forgotten(core, &key).await? {
            return finish(core, row, verdict).await;
        }
        tracing::debug!(%key, "nothing of ours is there");
    } else if let Some(etag) = row.etag.clone().map(ETag) {
        let request = core.remote().delete_matching(&key, &etag);
        match delete(core, &key, request).await? {
            Ok(()) | Err(remote::Error::NotFound { .. }) => {}
            Err(remote::Error::PreconditionFailed { .. } | remote::Error::Changed { .. }) => {
                if let Some(verdict) = delete_forgotten(core, &key).await? {
                    return finish(core, row, verdict).await;
                }
                tracing::info!(%key, "not deleted: somebody else has replaced it in the store");
            }
            Err(error) => return Err(error.into()),
        }
    } else {
        delete(core, &key, core.remote().delete(&key)).await??;
    }
    finish(core, row, Verdict::Done).await
}

/// Asks for a deletion. After a crash it must be known that it was sent: it may arrive when the key has its next
/// object. And what made the key garbage must survive a power cut, or there would be a file without its object.
async fn delete(
    core: &Core,
    key: &ObjectKey,
    request: impl Future<Output = Result<(), remote::Error>>,
) -> Result<Result<(), remote::Error>, Error> {
    let what = What::Deletion;
    core.journal().sending(key.as_str(), what.into()).await?;
    durable(core).await?;
    Ok(core.asking(key, what, request).await)
}

async fn finish(core: &Core, row: &Garbage, verdict: Verdict) -> Result<Verdict, Error> {
    match verdict {
        Verdict::Done if core.may_still_be_put(&row.key) => {
            // It was put there by a second try, and the first one is still on its way.
            core.journal().garbage_may_return(&row.key).await?;
            Ok(Verdict::MayReturn)
        }
        Verdict::Done => {
            core.journal().garbage_done(&row.key).await?;
            if core.has_heard_all(&row.key) {
                core.journal().all_heard(&row.key).await?;
            }
            tracing::debug!(key = row.key, "deleted");
            Ok(Verdict::Done)
        }
        verdict => Ok(verdict),
    }
}

/// Deletes what one of our own files has put there without a record of it: a crash took that, or no answer
/// came. The file may be gone, or have a newer version under another key by now. None if the object is
/// anybody else's.
async fn delete_forgotten(core: &Core, key: &ObjectKey) -> Result<Option<Verdict>, Error> {
    let Some(meta) = core.remote().head(key).await? else {
        return Ok(Some(Verdict::Done));
    };
    let mark = own_mark(&meta.posix, core.config.node).filter(|mark| is_in_place(mark, key));
    let (Some(mark), Some(etag)) = (mark, meta.etag) else {
        return Ok(None);
    };
    // Both of one instant: its upload to another key may be recorded just now.
    let owner = core.journal().wanted(Ino(mark.ino)).await?;
    if let Some(owner) = owner.filter(|owner| owner.inode.nlink > 0) {
        let origin = owner.inode.content.origin.as_ref();
        let is_elsewhere =
            origin.is_some_and(|origin| origin.key != key.as_str() && origin.epoch.0 >= mark.epoch);
        match owner.unsynced {
            _ if is_elsewhere => {}
            Some(_) => return Ok(Some(Verdict::Waits)),
            None => return Ok(None),
        }
    }
    let request = core.remote().delete_matching(key, &etag);
    match delete(core, key, request).await? {
        Ok(()) | Err(remote::Error::NotFound { .. }) => Ok(Some(Verdict::Done)),
        // Replaced since that look, or one of the two was wrong: the next one tells.
        Err(remote::Error::PreconditionFailed { .. } | remote::Error::Changed { .. }) => {
            Ok(Some(Verdict::Waits))
        }
        Err(error) => Err(error.into()),
    }
}

/// Who still needs a garbage key.
enum Need {
    /// Nobody.
    None,
    /// Somebody for now: a file about to be put there, one deleted but still open, what is below.
    Waits,
    /// A file of that name has exactly this object: the row is a leftover.
    InUse,
}

async fn need(core: &Core, row: &Garbage) -> Result<Need, Error> {
    let journal = core.journal();
    if let Some(owner) = journal.claim(&row.key).await?
        && let Some(owner) = journal.inode(owner).await?
        && owner
            .content
            .origin
            .as_ref()
            .is_some_and(|origin| origin.key == row.key)
    {
        return Ok(match owner.nlink {
            0 => Need::Waits,
            _ => Need::InUse,
        });
    }
    if row.directory && !core.abilities().markers {
        return Ok(Need::None);
    }
    if is_wanted(core, row).await? || (row.directory && keeps_ours(core, row).await?) {
        return Ok(Need::Waits);
    }
    Ok(Need::None)
}

/// Whether the path that the key stands for is, as what the key is of, about to be put there.
async fn is_wanted(core: &Core, row: &Garbage) -> Result<bool, Error> {
    let kind = match row.directory {
        true => Kind::Directory,
        false => Kind::File,
    };
    let Some(inode) = resolve(core, row.key.trim_end_matches('/')).await? else {
        return Ok(false);
    };
    Ok(inode.kind == kind && core.journal().unsynced_row(inode.ino).await?.is_some())
}

/// Whether something of ours is still below a directory's key. A real directory can't be removed before;
/// what strangers put there is no reason to wait: their directory it is then.
async fn keeps_ours(core: &Core, row: &Garbage) -> Result<bool, Error> {
    let below = core.journal().garbage(Some(&row.key), 1).await?;
    if below
        .first()
        .is_some_and(|next| next.key.starts_with(&row.key))
    {
        return Ok(true);
    }
    if core.config.rooms.capabilities.markers != DirMarkers::Native {
        return Ok(false);
    }
    let directory = ObjectKey::from(row.key.as_str());
    let page = core.remote().list_page(&directory, None, PAGE_ROWS).await?;
    let files = page.files.iter().map(|meta| meta.key.0.clone());
    let directories = page
        .directories
        .iter()
        .map(|name| format!("{}{name}/", row.key));
    for key in files.chain(directories) {
        if core.journal().claim(&key).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What has the path that a key stands for.
pub(crate) async fn resolve(core: &Core, key: &str) -> Result<Option<Inode>, Error> {
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
