//! What the journal says of requests that may still arrive, read at the start and tidied now and then.
//!
//! A row stands for each key under which a request is on its way, and for those of which one broke off a short
//! time ago, in this life of the daemon or in the one before: see [`journal::Journal::sending`]. Few keys, then,
//! whatever else there is. From the start on each is held or watched for `late_max` ([`crate::unheard`]).
//!
//! The record of an upload and the end of a deletion take the rows of their keys away. What is left by a request
//! that was refused, or is of a key that nobody works on any more, is taken away here.

use crate::core::Core;
use crate::error::Error;

/// Rows read at a time.
const PAGE_ROWS: usize = 256;

/// Remembers what the daemon before this one may have asked for.
pub(crate) async fn remember(core: &Core) -> Result<(), Error> {
    let mut after: Option<String> = None;
    loop {
        let page = core.journal().sent(after.as_deref(), PAGE_ROWS).await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = Some(last.clone());
        for (key, sent) in page {
            core.was_asked_before(&key, sent);
        }
    }
}

/// Takes away the rows of keys under which nothing can arrive any more.
pub(crate) async fn tidy(core: &Core) -> Result<(), Error> {
    let mut after: Option<String> = None;
    loop {
        let page = core.journal().sent(after.as_deref(), PAGE_ROWS).await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = Some(last.clone());
        for (key, _) in page {
            if core.locks.is_taken(&key) {
                continue;
            }
            // Nothing is sent under it meanwhile.
            let _lock = core.locks.lock([key.clone()]).await;
            if core.has_heard_all(&key) {
                core.journal().all_heard(&key).await?;
            }
        }
    }
}
