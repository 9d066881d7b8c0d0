//! Multipart uploads of no use: those of files that changed or are gone, and those whose names were never
//! heard.
//!
//! The store names an upload in its answer. If that is lost, or the daemon dies before it has recorded the name,
//! nobody here knows of the upload, and its place is paid for until somebody aborts it. A listing shows a
//! key, a name and a time, and nothing that says whose it is. An upload counts as ours only if all of this
//! holds:
//!
//! - the journal says that an upload of this very key was asked for, and that no name was heard;
//! - it was begun when that was asked for, give or take the clocks ([`CLOCKS_APART_MAX`]);
//! - the journal doesn't know its name, and no upload of this key is being begun just now;
//! - it has no part: the name is durably recorded before a part is sent, so a lost one has none. Should it
//!   be somebody else's all the same, nothing that they sent is lost;
//! - it is older than `stray_age`: nobody is about to send the first part.
//!
//! What was asked for is remembered for as long as the store may still do it: a request that outlives the daemon
//! that sent it arrives after the next one has looked. S3 refuses requests signed longer ago than
//! [`CLOCKS_APART_MAX`].

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use journal::{AskedUploads, Timestamp};
use remote::{ObjectKey, OpenUpload, UploadId};

use crate::core::Core;
use crate::error::Error;
use crate::upload::abandon;

/// Recorded uploads looked at for ones without a file.
const UPLOADS_MAX: usize = 10_000;
/// Keys looked at in one round for uploads whose names were not heard.
const KEYS_MAX: usize = 64;
/// S3 refuses requests when its clock and ours are further apart.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(15 * 60);

/// Aborts both kinds.
pub(crate) async fn abort(core: &Core) -> Result<(), Error> {
    abort_useless(core).await?;
    abort_unheard(core).await
}

/// Uploads whose file is gone, or which can't be continued.
async fn abort_useless(core: &Core) -> Result<(), Error> {
    for (ino, upload) in core.journal().uploads(UPLOADS_MAX).await? {
        let item = core.work.lock().get(ino).map(|item| item.running);
        if item == Some(true) {
            continue;
        }
        let inode = core.journal().inode(ino).await?;
        let useful = inode.is_some_and(|inode| {
            inode.nlink > 0 && inode.content.epoch == upload.epoch && inode.is_content_dirty()
        });
        if !useful {
            let key = ObjectKey::from(upload.key.as_str());
            abandon(core, ino, &key, &UploadId(upload.upload_id)).await?;
        }
    }
    Ok(())
}

/// Uploads that were asked for, and whose names were not heard.
async fn abort_unheard(core: &Core) -> Result<(), Error> {
    let mut after: Option<String> = None;
    loop {
        let page = core
            .journal()
            .asked_uploads(after.as_deref(), KEYS_MAX)
            .await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.key.clone());
        for asked in page {
            let age = age(SystemTime::from(asked.until));
            if age < core.config.stray_age || core.locks.is_taken(&asked.key) {
                continue;
            }
            if abort_unheard_of(core, &asked).await? && age > CLOCKS_APART_MAX {
                core.journal().asked_uploads_gone(&asked).await?;
            }
        }
    }
}

/// False if it can't be told yet which they are.
async fn abort_unheard_of(core: &Core, asked: &AskedUploads) -> Result<bool, Error> {
    // No upload of this key is begun meanwhile.
    let _lock = core.locks.lock([asked.key.clone()]).await;
    let recorded = core.journal().uploads(UPLOADS_MAX).await?;
    if recorded.len() == UPLOADS_MAX {
        // Too many to know them all; there will be fewer.
        return Ok(false);
    }
    let recorded: HashSet<String> = recorded
        .into_iter()
        .map(|(_, upload)| upload.upload_id)
        .collect();
    let key = ObjectKey::from(asked.key.as_str());
    for upload in core.remote().uploads(&key).await? {
        if recorded.contains(&upload.id.0) || !is_of(&upload, asked) {
            continue;
        }
        match core.remote().has_parts(&key, &upload.id).await {
            Ok(true) | Err(remote::Error::NoSuchUpload { .. }) => continue,
            Ok(false) => {}
            Err(error) => return Err(error.into()),
        }
        tracing::info!(%key, "aborting an upload of ours whose name was never heard");
        core.changing(core.remote().abort(&key, &upload.id)).await?;
    }
    Ok(true)
}

/// Whether it was begun when one of these was asked for.
fn is_of(upload: &OpenUpload, asked: &AskedUploads) -> bool {
    let begun = upload.begun;
    begun + CLOCKS_APART_MAX >= SystemTime::from(asked.since)
        && begun <= SystemTime::from(asked.until) + CLOCKS_APART_MAX
}

fn age(at: SystemTime) -> Duration {
    // A time to come has no age.
    SystemTime::from(Timestamp::now())
        .duration_since(at)
        .unwrap_or_default()
}
