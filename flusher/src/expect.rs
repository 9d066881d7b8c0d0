//! Replacing an object only if it is the one we know, and telling our own lost answers from others' work.
//!
//! Before a key is written, [`expected`] says what must be there: the version this inode put there before,
//! the version of another inode of ours that no longer needs it, the version of a file deleted here, or
//! nothing. The store checks that ([`remote::Condition`]). If it disagrees, a look at the object decides:
//!
//! | the object there | then |
//! |---|---|
//! | is gone | expect nothing and try again: deleting elsewhere loses nothing of ours |
//! | carries the mark of exactly this version | it is our own earlier attempt, whose answer was lost: done |
//! | carries the mark of another version of this file, or of one detached from it | expect that one and try again |
//! | carries a mark of ours that was put to this very key | the same: a crash took the record of it |
//! | anything else | somebody else's: a conflict, or with `on_conflict=ours` to be replaced, if it stays as it is |
//!
//! Before a key is written the journal is made durable. What a power cut takes of it must not be the reason why
//! an object went; and a version that is in the store under some epoch must be known, or another one would get
//! the same epoch after the cut and be taken for it. Uploads under way at the same time share one sync.
//!
//! After a write the object is looked at: its size must be what was sent, and its etag the one that the store
//! answered (or its mark ours, if the answer came without), or the write does not count. Where the answer itself
//! proves that the very bytes have arrived ([`Put::proven`]), as it does for small files in S3, that is enough.

use journal::{Epoch, Ino, Inode, Kind, SentVersion};
use remote::{Condition, ETag, FileVersion, ObjectKey, ObjectMeta, Put};

use crate::config::OnConflict;
use crate::core::Core;
use crate::error::Error;
use crate::identity::{is_in_place, own_mark};
use crate::status::{Conflict, Resolution};
use crate::unheard::What;

/// Rounds until a key counts as contested; each learns something new, so two are the rule.
const ROUNDS_MAX: usize = 4;

/// The version about to be written.
pub(crate) struct Writing<'a> {
    pub(crate) inode: &'a Inode,
    pub(crate) epoch: Epoch,
    pub(crate) size: u64,
    pub(crate) key: &'a ObjectKey,
}

impl Writing<'_> {
    fn version(&self) -> SentVersion {
        SentVersion {
            ino: self.inode.ino,
            epoch: self.epoch,
            meta_epoch: self.inode.meta_epoch,
        }
    }

    /// What the store is asked for by a request that replaces whatever is at the key.
    pub(crate) fn replacement(&self) -> What {
        What::Replacement(self.version())
    }
}

/// How a guarded write ended.
pub(crate) enum Guarded {
    /// The object is there as sent.
    Stored(Stored),
    /// Somebody else's object is there, and stays.
    Foreign,
}

/// What a look at a written object showed.
pub(crate) struct Stored {
    pub(crate) etag: Option<ETag>,
    /// The version of the attributes on it, where its mark tells.
    pub(crate) meta_epoch: Option<u64>,
    /// It was there already, by an earlier attempt.
    pub(crate) earlier: bool,
}

/// What a look at a key shows.
enum There {
    Nothing,
    ThisVersion(Stored),
    OurOlder(ETag),
    Foreign(Option<ETag>),
}

/// What must be at `key` when one of our inodes writes it.
pub(crate) async fn expected(core: &Core, key: &ObjectKey) -> Result<Condition, Error> {
    if let Some(owner) = core.journal().claim(key.as_str()).await? {
        let owner = core.journal().inode(owner).await?;
        let origin = owner.and_then(|inode| inode.content.origin);
        if let Some(origin) = origin.filter(|origin| origin.key == key.as_str()) {
            return Ok(origin
                .etag
                .map_or(Condition::None, |etag| Condition::Match(ETag(etag))));
        }
    }
    if let Some(garbage) = core.journal().garbage_row(key.as_str()).await?
        && !garbage.attempted
    {
        return Ok(garbage
            .etag
            .map_or(Condition::None, |etag| Condition::Match(ETag(etag))));
    }
    Ok(Condition::Absent)
}

/// Writes with `put` until store and journal agree about what was there.
pub(crate) async fn guarded<Answer>(
    core: &Core,
    writing: &Writing<'_>,
    mut put: impl FnMut(Condition) -> Answer,
) -> Result<Guarded, Error>
where
    Answer: Future<Output = Result<Put, remote::Error>>,
{
    let mut condition = expected(core, writing.key).await?;
    let asks_for = |condition: &Condition| match condition {
        Condition::Absent if core.config.rooms.capabilities.conditional_put => What::Creation,
        _ => writing.replacement(),
    };
    let mut what = asks_for(&condition);
    announce(core, writing, what).await?;
    let mut replaces_theirs = false;
    durable(core).await?;
    for _ in 0..ROUNDS_MAX {
        if what != asks_for(&condition) {
            what = asks_for(&condition);
            core.journal()
                .sending(writing.key.as_str(), what.into())
                .await?;
            durable(core).await?;
        }
        let request = put(condition.clone());
        match core.asking(writing.key, what, request).await {
            Ok(stored) => {
                let stored = verify(core, writing, stored).await?;
                if replaces_theirs {
                    replaced_theirs(core, writing);
                }
                return Ok(Guarded::Stored(stored));
            }
            // A version that is not there any more is reported either way, by store.
            Err(remote::Error::PreconditionFailed { .. } | remote::Error::Changed { .. }) => {}
            Err(lost @ (remote::Error::NoSuchUpload { .. } | remote::Error::NotFound { .. })) => {
                match look(core, writing).await? {
                    There::ThisVersion(stored) => return Ok(Guarded::Stored(stored)),
                    There::Nothing if matches!(condition, Condition::Match(_)) => {
                        condition = Condition::Absent;
                        continue;
                    }
                    _ => return Err(lost.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
        condition = match look(core, writing).await? {
            There::Nothing => Condition::Absent,
            There::ThisVersion(stored) => return Ok(Guarded::Stored(stored)),
            There::OurOlder(etag) => Condition::Match(etag),
            There::Foreign(Some(etag)) if core.config.on_conflict == OnConflict::Ours => {
                replaces_theirs = true;
                Condition::Match(etag)
            }
            There::Foreign(_) => return Ok(Guarded::Foreign),
        };
    }
    Err(Error::Unsteady {
        key: writing.key.0.clone(),
    })
}

/// Tells that somebody else's object has gone, as was asked for.
fn replaced_theirs(core: &Core, writing: &Writing<'_>) {
    tracing::warn!(
        key = %writing.key,
        "somebody else changed this object in the store; the local version has taken its place (on_conflict=ours)"
    );
    let conflict = Conflict {
        key: writing.key.0.clone(),
        resolution: Resolution::ReplacedTheirs,
    };
    core.stats.conflict(writing.inode.ino, conflict);
}

/// Remembers that something is about to be put to a key that is not the inode's yet. If nobody hears whether it
/// arrived, the sweep finds out (see [`crate::garbage`]). And what somebody else has put there is not imported
/// any more, or it would be taken for ours and be replaced: parts take their time, and by now the inode may have
/// another name, and theirs may be known under this one. Then the inode is planned again.
///
/// Either way it is remembered what is sent: a crash must not make anybody forget that it may arrive.
pub(crate) async fn announce(core: &Core, writing: &Writing<'_>, what: What) -> Result<(), Error> {
    let inode = writing.inode;
    core.nothing_in_the_way(writing.key, writing.version())?;
    let (journal, key) = (core.journal(), writing.key.as_str());
    let origin = inode.content.origin.as_ref();
    if origin.is_some_and(|origin| origin.key == key) {
        return Ok(journal.sending(key, what.into()).await?);
    }
    let directory = inode.kind == Kind::Directory;
    let attempted = journal.attempted(inode.ino, key, directory, what.into());
    match attempted.await? {
        true => Ok(()),
        false => Err(Error::Unsteady {
            key: writing.key.0.clone(),
        }),
    }
}

/// Makes the journal durable before an object comes or goes: after a power cut it must neither refer to what
/// another has taken the place of, or was deleted, on the strength of transactions that are lost, nor use an
/// epoch again.
pub(crate) async fn durable(core: &Core) -> Result<(), Error> {
    Ok(core.journal().sync().await?)
}

/// Whether somebody else's object is at `key`; for writes whose condition the store doesn't check.
pub(crate) async fn is_foreign(core: &Core, writing: &Writing<'_>) -> Result<bool, Error> {
    let Some(meta) = core.remote().head(writing.key).await? else {
        return Ok(false);
    };
    let known = match expected(core, writing.key).await? {
        Condition::None => true,
        Condition::Absent => false,
        Condition::Match(etag) => meta
            .etag
            .as_ref()
            .is_some_and(|found| is_same_version(found, &etag)),
    };
    if known || !matches!(judge(core, writing, meta).await?, There::Foreign(_)) {
        return Ok(false);
    }
    if core.config.on_conflict == OnConflict::Ours {
        replaced_theirs(core, writing);
        return Ok(false);
    }
    Ok(true)
}

/// Looks at what was written.
pub(crate) async fn verify(
    core: &Core,
    writing: &Writing<'_>,
    stored: Put,
) -> Result<Stored, Error> {
    let wrong = |sent: String, found: String| Error::Verify {
        key: writing.key.0.clone(),
        sent,
        found,
    };
    let size = |bytes: u64| format!("{bytes} bytes");
    if stored.proven {
        return Ok(Stored {
            etag: stored.etag,
            meta_epoch: None,
            earlier: false,
        });
    }
    match core.remote().head(writing.key).await? {
        None => Err(wrong(size(writing.size), "nothing".to_owned())),
        Some(meta) if meta.size != writing.size => Err(wrong(size(writing.size), size(meta.size))),
        Some(meta) => {
            let mark = own_mark(&meta.posix, core.config.node);
            match (stored.etag, meta.etag) {
                (Some(sent), Some(found)) if !is_same_version(&sent, &found) => {
                    Err(wrong(format!("version {sent}"), format!("version {found}")))
                }
                (None, Some(found)) if core.abilities().attributes && !is_of(mark, writing) => {
                    Err(wrong("our version".to_owned(), format!("version {found}")))
                }
                (sent, found) => Ok(Stored {
                    // As a look at the object spells it: that is what it is compared with from now on.
                    etag: found.or(sent),
                    meta_epoch: mark.map(|mark| mark.meta_epoch),
                    earlier: false,
                }),
            }
        }
    }
}

/// Whether the mark is of the version that is written.
fn is_of(mark: Option<FileVersion>, writing: &Writing<'_>) -> bool {
    mark.is_some_and(|mark| mark.ino == writing.inode.ino.0 && mark.epoch == writing.epoch.0)
}

/// Some stores quote etags in headers and not in the XML that answers a copy, or call them weak.
fn is_same_version(a: &ETag, b: &ETag) -> bool {
    let bare = |etag: &ETag| etag.0.trim_start_matches("W/").trim_matches('"').to_owned();
    bare(a) == bare(b)
}

async fn look(core: &Core, writing: &Writing<'_>) -> Result<There, Error> {
    match core.remote().head(writing.key).await? {
        None => Ok(There::Nothing),
        Some(meta) => judge(core, writing, meta).await,
    }
}

async fn judge(core: &Core, writing: &Writing<'_>, meta: ObjectMeta) -> Result<There, Error> {
    let Some(mark) = own_mark(&meta.posix, core.config.node) else {
        return Ok(There::Foreign(meta.etag));
    };
    if mark.ino == writing.inode.ino.0 {
        // Older attributes are no reason to send the bytes again.
        let same = is_of(Some(mark), writing) && meta.size == writing.size;
        let meta_epoch = Some(mark.meta_epoch);
        return Ok(match (same, meta.etag) {
            (true, etag) => There::ThisVersion(Stored {
                etag,
                meta_epoch,
                earlier: true,
            }),
            (false, Some(etag)) => There::OurOlder(etag),
            (false, None) => There::Foreign(None),
        });
    }
    // Of another file of ours that was put here, and the record of it lost in a crash, perhaps with the file;
    // or that was parted from its object (see `detach`). One that has an object elsewhere is not enough:
    // other tools copy marks along with bytes.
    let abandoned = is_in_place(&mark, writing.key)
        || match core.journal().inode(Ino(mark.ino)).await? {
            None => false,
            Some(other) => other.content.origin.is_none(),
        };
    Ok(match meta.etag {
        Some(etag) if abandoned => There::OurOlder(etag),
        etag => There::Foreign(etag),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_weakness_make_no_other_version() {
        let etag = |text: &str| ETag(text.to_owned());
        assert!(is_same_version(&etag("\"ab-2\""), &etag("ab-2")));
        assert!(is_same_version(&etag("W/\"ab\""), &etag("\"ab\"")));
        assert!(!is_same_version(&etag("\"ab\""), &etag("\"cd\"")));
    }
}
