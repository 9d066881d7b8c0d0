//! Finding out what a store can do, by doing it.
//!
//! Servers that speak S3 differ: some ignore conditions silently, which would lose somebody's data, and
//! none says so. So each ability is tried on small objects `.fused-probe-<random>-*`, which listings
//! hide and which are deleted at the end. A condition counts as supported only if the store refuses a
//! write that it must refuse, and allows the one that it must allow. The trials run side by side, in
//! [`PROBE_TIME_MAX`] altogether; one that fails for the moment is tried again, and one that gets no answer
//! in time counts as "can't". Uploads in parts are the exception: a mount that goes without them because the
//! store was unwell for a moment would send every large file at once, so it is refused instead.
//!
//! Whoever is killed meanwhile leaves such objects. Another mount may be trying the same store at this instant, and
//! clocks differ, so neither their names nor their age say whose they are: they are noted beforehand
//! ([`ProbeNotes`]), and the next probe with the same notes removes what is in them.

use std::time::Duration;

use bytes::Bytes;

use crate::attrs::PosixAttrs;
use crate::error::{Error, ProbeError};
use crate::keys::{ObjectKey, PROBE_PREFIX};
use crate::remote::Remote;
use crate::types::{Access, Capabilities, Condition, ETag};

/// Longest time that finding out may take.
const PROBE_TIME_MAX: Duration = Duration::from_secs(10);
/// Of that, for the first answer and the first write.
const FIRST_TIME_MAX: Duration = Duration::from_secs(6);
/// Pause after a trial that failed for the moment.
const TRIAL_PAUSE: Duration = Duration::from_millis(200);
/// A version that no object has.
const NO_VERSION: &str = "\"00000000000000000000000000000000\"";

/// Where probes are noted while their objects may be in the store. Nobody else uses the same notes at that time.
pub trait ProbeNotes: Sync {
    /// Probes that ended before their objects were deleted.
    fn left(&self) -> Vec<u64>;
    /// The objects of this one are about to be written. To fail is no reason not to: they are deleted at the end.
    fn begins(&self, probe: u64);
    /// Nothing of this one is left in the store.
    fn is_gone(&self, probe: u64);
}

/// None.
impl ProbeNotes for () {
    fn left(&self) -> Vec<u64> {
        Vec::new()
    }
    fn begins(&self, _probe: u64) {}
    fn is_gone(&self, _probe: u64) {}
}

impl Remote {
    /// Whether the store is there and what it can do, found out by trying, in ten seconds at most.
    /// For [`Access::ReadWrite`] that writes a few objects `.fused-probe-<random>-*` and deletes them.
    pub async fn probe(&self, access: Access) -> Result<Capabilities, ProbeError> {
        run(self, access, &()).await
    }

    /// As [`Remote::probe`]; what an earlier one has left, by these notes, is deleted as well.
    pub async fn probe_noted(
        &self,
        access: Access,
        notes: &dyn ProbeNotes,
    ) -> Result<Capabilities, ProbeError> {
        run(self, access, notes).await
    }
}

async fn run(
    remote: &Remote,
    access: Access,
    notes: &dyn ProbeNotes,
) -> Result<Capabilities, ProbeError> {
    let started = tokio::time::Instant::now();
    let unreachable = || ProbeError::Unreachable {
        endpoint: remote.backend().endpoint(),
        detail: format!("no answer within {} seconds", FIRST_TIME_MAX.as_secs()),
    };
    tokio::time::timeout(FIRST_TIME_MAX, remote.backend().check())
        .await
        .map_err(|_| unreachable())??;
    let best = remote.backend().capabilities();
    if access == Access::ReadOnly {
        return Ok(best);
    }
    let left_before = notes.left();
    let number = rand::random();
    notes.begins(number);
    let trial = Trial::new(remote, number);
    let first_time = FIRST_TIME_MAX
        .saturating_sub(started.elapsed())
        .max(Duration::from_secs(2));
    let first = tokio::time::timeout(first_time, trial.attributes()).await;
    let rest = PROBE_TIME_MAX.saturating_sub(started.elapsed());
    let result = match first {
        Err(_) => Err(unreachable()),
        Ok(Err(error)) => Err(write_error(remote, error)),
        Ok(Ok(attributes)) => {
            let limit = |can: bool| can.then_some(rest.mul_f32(0.8));
            let (put, complete, delete, copy) = tokio::join!(
                within(limit(best.conditional_put), || trial.conditional_put()),
                within(limit(best.multipart), || trial.multipart()),
                within(limit(best.conditional_delete), || trial
                    .conditional_delete()),
                within(limit(best.copy), || trial.copies()),
            );
            let (copy, conditional_copy) = copy.unwrap_or_default();
            match complete {
                Err(error) => Err(write_error(remote, error)),
                Ok((multipart, conditional_complete)) => Ok(Capabilities {
                    attributes: best.attributes && attributes,
                    conditional_put: put.unwrap_or_default(),
                    multipart,
                    conditional_complete: best.conditional_complete && conditional_complete,
                    conditional_delete: delete.unwrap_or_default(),
                    copy,
                    conditional_copy: best.conditional_copy && conditional_copy,
                    ..best
                }),
            }
        }
    };
    let left = PROBE_TIME_MAX
        .saturating_sub(started.elapsed())
        .max(Duration::from_secs(1));
    let cleaning = async {
        trial.clean_up_at_last(notes).await;
        for number in left_before {
            Trial::new(remote, number).clean_up_at_last(notes).await;
        }
    };
    if tokio::time::timeout(left, cleaning).await.is_err() {
        tracing::warn!(
            objects = trial.stem,
            "objects of this probe, or of one before it, could not be deleted in time: the next mount tries again"
        );
    }
    result
}

/// Runs one trial, again and again for `limit` while it fails for the moment. What isn't tried, and what
/// the store refuses, it can't do. The error is that there was no answer.
async fn within<T: Default, Trying>(
    limit: Option<Duration>,
    trial: impl Fn() -> Trying,
) -> Result<T, Error>
where
    Trying: Future<Output = Result<T, Error>>,
{
    let Some(limit) = limit else {
        return Ok(T::default());
    };
    let deadline = tokio::time::Instant::now() + limit;
    let mut unanswered = Error::transient("probe", "", "no answer in time");
    while let Ok(tried) = tokio::time::timeout_at(deadline, trial()).await {
        match tried {
            Ok(found) => return Ok(found),
            Err(error) if error.is_retryable() => unanswered = error,
            Err(error) => {
                tracing::debug!(%error, "a trial of the store's abilities failed");
                return Ok(T::default());
            }
        }
        tokio::time::sleep(TRIAL_PAUSE).await;
    }
    Err(unanswered)
}

fn write_error(remote: &Remote, error: Error) -> ProbeError {
    let store = remote.url().to_string();
    match error {
        Error::AccessDenied { .. } => ProbeError::AccessDenied {
            operation: "write objects".into(),
            store,
        },
        Error::Unreachable { detail, .. } | Error::Transient { detail, .. } => {
            ProbeError::Unreachable {
                endpoint: remote.backend().endpoint(),
                detail,
            }
        }
        Error::Full { detail, .. } => {
            ProbeError::Other(format!("{store} is full ({detail}); free some space"))
        }
        Error::ReadOnly { .. } => ProbeError::ReadOnly(store),
        error => ProbeError::Other(format!("{store} can't be written to: {error}")),
    }
}

/// The names of the objects that are tried on, and the trials.
struct Trial<'a> {
    remote: &'a Remote,
    number: u64,
    stem: String,
}

const OBJECTS: &[&str] = &["attributes", "put", "parts", "delete", "copy"];

impl<'a> Trial<'a> {
    fn new(remote: &'a Remote, number: u64) -> Self {
        Self {
            remote,
            number,
            stem: format!("{PROBE_PREFIX}{number:016x}"),
        }
    }

    fn key(&self, name: &str) -> ObjectKey {
        ObjectKey::new(format!("{}-{name}", self.stem))
    }

    async fn put(
        &self,
        name: &str,
        body: &'static str,
        condition: &Condition,
    ) -> Result<Option<ETag>, Error> {
        let body = Bytes::from_static(body.as_bytes());
        self.remote
            .put(&self.key(name), body, &sample(), condition)
            .await
            .map(|put| put.etag)
    }

    /// Whether attributes come back as they were written; the first write of all.
    async fn attributes(&self) -> Result<bool, Error> {
        self.put("attributes", "1", &Condition::None).await?;
        let found = self.remote.head(&self.key("attributes")).await?;
        Ok(found.is_some_and(|meta| {
            meta.posix.mtime_ns == sample().mtime_ns && meta.posix.mode == sample().mode
        }))
    }

    async fn conditional_put(&self) -> Result<bool, Error> {
        let first = self.put("put", "1", &Condition::Absent).await?;
        let Some(first) = first else { return Ok(false) };
        let wrong = Condition::Match(ETag(NO_VERSION.into()));
        let refused = refuses(self.put("put", "2", &Condition::Absent).await)?
            && refuses(self.put("put", "3", &wrong).await)?;
        let allowed = self.put("put", "4", &Condition::Match(first)).await.is_ok();
        Ok(refused && allowed)
    }

    /// Whether uploads in parts work, and whether completing one takes conditions.
    async fn multipart(&self) -> Result<(bool, bool), Error> {
        let key = self.key("parts");
        let upload = |body: &'static str| {
            let key = key.clone();
            async move {
                let id = self.remote.multipart(&key, &sample()).await?;
                let part = self
                    .remote
                    .put_part(&key, &id, 1, Bytes::from_static(body.as_bytes()))
                    .await?;
                Ok::<_, Error>((id, [(1, part)]))
            }
        };
        let (first, second, third) = tokio::join!(upload("1"), upload("2"), upload("3"));
        let ((first, parts), (second, second_parts), (third, third_parts)) =
            (first?, second?, third?);
        self.remote
            .complete(&key, &first, &parts, &Condition::None)
            .await?;
        let wrong = Condition::Match(ETag(NO_VERSION.into()));
        let absent = self
            .remote
            .complete(&key, &second, &second_parts, &Condition::Absent)
            .await;
        let other = self
            .remote
            .complete(&key, &third, &third_parts, &wrong)
            .await;
        // What was refused is still there.
        let (a, b) = tokio::join!(
            self.remote.abort(&key, &second),
            self.remote.abort(&key, &third)
        );
        a.and(b)?;
        Ok((
            true,
            refuses(absent).unwrap_or(false) && refuses(other).unwrap_or(false),
        ))
    }

    async fn conditional_delete(&self) -> Result<bool, Error> {
        let etag = self.put("delete", "1", &Condition::None).await?;
        let Some(etag) = etag else { return Ok(false) };
        let key = self.key("delete");
        // Past the look that comes before, straight to the store.
        let wrong = self
            .remote
            .backend()
            .delete_unchecked(&key, &ETag(NO_VERSION.into()))
            .await;
        if !refuses(wrong)? {
            return Ok(false);
        }
        self.remote.delete_matching(&key, &etag).await?;
        Ok(self.remote.head(&key).await?.is_none())
    }

    async fn copies(&self) -> Result<(bool, bool), Error> {
        let (from, to) = (self.key("attributes"), self.key("copy"));
        self.remote.copy(&from, &to, &sample(), None).await?;
        let wrong = self
            .remote
            .copy(&from, &to, &sample(), Some(&ETag(NO_VERSION.into())))
            .await;
        Ok((true, refuses(wrong).unwrap_or(false)))
    }

    /// Again and again while it fails for the moment.
    async fn clean_up_at_last(&self, notes: &dyn ProbeNotes) {
        loop {
            match self.clean_up().await {
                Ok(()) => return notes.is_gone(self.number),
                Err(error) => {
                    tracing::debug!(objects = self.stem, %error, "what a probe made could not be removed");
                    if !error.is_retryable() {
                        return;
                    }
                }
            }
            tokio::time::sleep(TRIAL_PAUSE).await;
        }
    }

    async fn clean_up(&self) -> Result<(), Error> {
        let deletions = OBJECTS
            .iter()
            .map(|name| async move { self.remote.delete(&self.key(name)).await });
        // Nobody else uses this key. Known are only the uploads whose names were heard.
        let parts = self.key("parts");
        let uploads = async {
            for upload in self.remote.uploads(&parts).await? {
                self.remote.abort(&parts, &upload.id).await?;
            }
            Ok::<(), Error>(())
        };
        let deletions = futures::future::try_join_all(deletions);
        tokio::try_join!(deletions, uploads).map(drop)
    }
}

/// Attributes that nobody gets by accident.
fn sample() -> PosixAttrs {
    PosixAttrs {
        mode: Some(0o640),
        mtime_ns: Some(1_234_567_890_000_000_000),
        ..Default::default()
    }
}

/// Whether the store refused because of the condition; that it took the write is `false`.
fn refuses<T>(result: Result<T, Error>) -> Result<bool, Error> {
    match result {
        Ok(_) => Ok(false),
        Err(Error::PreconditionFailed { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}
