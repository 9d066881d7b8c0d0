//! The journal and the store: the objects that files refer to. Markers of directories, and objects that nobody
//! here refers to, are the flusher's business and that of listings.
//!
//! An object that somebody replaced is no damage: the next look takes it over. But a file of which a part was
//! rewritten here needs the rest from the version that it was made of.

use std::time::Duration;

use flusher::own_version;
use futures::{StreamExt, stream};
use journal::{Inode, Origin};
use remote::{ETag, ObjectKey, ObjectMeta, Remote};

use super::{Doctor, Error, Finding, Grade, PAGE, REQUESTS_AT_ONCE, extent_id, has_all};

/// Tries of one request, and the pause between two.
const TRIES_MAX: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// What the store has under a file's key.
enum There {
    Same,
    Other(Box<ObjectMeta>),
    Nothing,
}

impl Doctor {
    /// Asks for the object of every file that has one.
    pub(super) async fn objects(&mut self) -> Result<(), Error> {
        let Some(remote) = self.remote.clone() else {
            return Ok(());
        };
        let mut after = None;
        loop {
            let (files, next) = self.journal.files(after, PAGE).await?;
            let looks = files
                .into_iter()
                .filter(|inode| inode.nlink > 0)
                .filter_map(|inode| inode.content.origin.clone().map(|origin| (inode, origin)))
                .map(|(inode, origin)| {
                    let remote = &remote;
                    async move {
                        let there = look(remote, &origin).await;
                        (inode, there)
                    }
                });
            let answers: Vec<_> = stream::iter(looks)
                .buffered(REQUESTS_AT_ONCE)
                .collect()
                .await;
            for (inode, there) in answers {
                self.report.objects += 1;
                match there {
                    Ok(There::Same) => {}
                    Ok(There::Other(meta)) => self.other(&inode, &meta).await?,
                    Ok(There::Nothing) => self.nothing(&inode).await?,
                    Err(error) => {
                        let finding = self.finding(
                            &inode,
                            Grade::Wrong,
                            "store-error",
                            format!("no further objects are looked at: {error}"),
                        );
                        let finding = finding.await;
                        self.report.tell(finding);
                        return Ok(());
                    }
                }
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Whether the store has just said that it has the version that a file refers to.
    pub(super) async fn is_in_store(&self, inode: &Inode) -> bool {
        match (&self.remote, &inode.content.origin) {
            // A store that does not answer is told of when all files are looked for.
            (Some(remote), Some(origin)) => matches!(look(remote, origin).await, Ok(There::Same)),
            _ => false,
        }
    }

    /// Whether the object has bytes of the file that its extent file has not.
    fn needs_object(&self, inode: &Inode) -> Result<bool, Error> {
        let valid = inode.content.valid;
        if valid == 0 {
            return Ok(false);
        }
        let extents = self.extents.open_file(extent_id(inode))?;
        Ok(extents.is_none_or(|extents| !extents.is_resident(valid)))
    }

    async fn other(&mut self, inode: &Inode, meta: &ObjectMeta) -> Result<(), Error> {
        let (grade, sentence) = if own_version(inode, self.node, meta).is_some() {
            (
                Grade::Leftover,
                "the object is a version of this file whose record a crash took; the next mount finds out",
            )
        } else if inode.is_content_dirty() && self.needs_object(inode)? {
            (
                Grade::Lost,
                "somebody replaced the object, and a part of this file that was not written here was in the \
                 replaced version only",
            )
        } else if inode.is_content_dirty() {
            (
                Grade::Leftover,
                "somebody replaced the object; the upload of this file will find a conflict (see on_conflict)",
            )
        } else {
            (
                Grade::Leftover,
                "somebody replaced the object; the next look at the store takes it over",
            )
        };
        let finding = self.finding(inode, grade, "object-newer", sentence.to_owned());
        let finding = finding.await;
        self.report.tell(finding);
        Ok(())
    }

    async fn nothing(&mut self, inode: &Inode) -> Result<(), Error> {
        let dirty = inode.is_content_dirty();
        if dirty && !self.needs_object(inode)? {
            // Its upload makes the object anew.
            return Ok(());
        }
        if inode.is_only_cached() && (inode.size == 0 || self.needs_object(inode)?) {
            let sentence =
                "the object is gone from the store; the next look there removes the name";
            let sentence = sentence.to_owned();
            let finding = self.finding(inode, Grade::Leftover, "object-gone", sentence);
            let finding = finding.await;
            self.report.tell(finding);
            return Ok(());
        }
        let is_whole = !dirty
            && inode.content.writer.is_none()
            && match self.extents.open_file(extent_id(inode))? {
                Some(extents) => has_all(inode, &extents)?,
                None => inode.size == 0,
            };
        let (grade, what) = match is_whole {
            true => (
                Grade::Wrong,
                "the object is gone from the store; all its bytes are here, and --repair uploads them again",
            ),
            false => (
                Grade::Lost,
                "the object is gone from the store, and not all of its bytes are here",
            ),
        };
        let finding = self.finding(inode, grade, "object-missing", what.to_owned());
        let mut finding: Finding = finding.await;
        if is_whole && self.repair {
            self.upload_again(inode).await?;
            finding.repaired = true;
            finding.sentence = "the object is gone from the store; all its bytes are here, and the next mount uploads \
                                them again"
                .to_owned();
        }
        self.report.tell(finding);
        Ok(())
    }
}

/// What the store says of an object.
pub(super) async fn head(remote: &Remote, key: &ObjectKey) -> remote::Result<Option<ObjectMeta>> {
    let mut tries = 1;
    loop {
        match remote.head(key).await {
            Err(error) if error.is_retryable() && tries < TRIES_MAX => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

async fn look(remote: &Remote, origin: &Origin) -> remote::Result<There> {
    let key = ObjectKey::from(origin.key.as_str());
    Ok(match head(remote, &key).await? {
        None => There::Nothing,
        Some(meta) if is_same(origin, &meta) => There::Same,
        Some(meta) => There::Other(Box::new(meta)),
    })
}

/// Where one side has no etag, only the length tells. A listing may spell an etag otherwise than a look does.
fn is_same(origin: &Origin, meta: &ObjectMeta) -> bool {
    let bare = |etag: &str| etag.trim_start_matches("W/").trim_matches('"').to_owned();
    let same_version = match (&origin.etag, &meta.etag) {
        (Some(ours), Some(ETag(theirs))) => bare(ours) == bare(theirs),
        _ => true,
    };
    same_version && origin.size == meta.size
}
