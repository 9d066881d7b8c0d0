//! The way to the bucket, where requests are delayed, refused, lost, or arrive when nobody waits any more.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use remote::{
    Backend, Capabilities, Condition, DirMarkers, ETag, Error, ListPage, ListToken, ObjectKey,
    ObjectMeta, OpenUpload, PartTag, PosixAttrs, ProbeError, Put, UploadId,
};

use crate::bucket::{Answer, Bucket, Object, Request, outline};
use crate::plan::Plan;
use crate::world::{Fate, World};

/// Longest way of a request that arrives in time.
const WAY: Duration = Duration::from_millis(2000);
/// How long after its asker has gone, or was told of an error, a request may arrive.
pub const LATE_MAX: Duration = Duration::from_secs(120);
/// The longest that anybody waits for an answer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The backend of one daemon.
pub struct Way {
    world: Arc<World>,
    bucket: Arc<Mutex<Bucket>>,
    late: bool,
    capabilities: Capabilities,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Way")
    }
}

/// A request that is on its way; whoever sent it may go.
struct InFlight<'w> {
    way: &'w Way,
    request: Option<Request>,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        // Given up, or the daemon is dead: it arrives later, or never.
        if let Some(request) = self.request.take()
            && self.way.world.dice(|dice| dice.chance(600))
        {
            self.way.arrives_late(request);
        }
    }
}

impl Way {
    pub fn new(world: &Arc<World>, bucket: &Arc<Mutex<Bucket>>, plan: &Plan) -> Self {
        Self {
            world: Arc::clone(world),
            bucket: Arc::clone(bucket),
            late: plan.late,
            capabilities: Capabilities {
                conditional_put: true,
                conditional_complete: true,
                conditional_delete: true,
                conditional_copy: true,
                multipart: true,
                copy: plan.copies,
                attributes: true,
                markers: DirMarkers::Object,
                part_bytes_min: 1,
                part_bytes_max: 1 << 30,
                parts_max: 10_000,
                key_bytes_max: 1024,
            },
        }
    }

    fn arrives_late(&self, request: Request) {
        if !self.late {
            return;
        }
        let late = self
            .world
            .dice(|dice| dice.any_magnitude(LATE_MAX.as_millis() as u64));
        let late = Duration::from_millis(late);
        self.world
            .say(|| format!("in {late:?}: {}", outline(&request)));
        self.bucket.lock().arrives_in(late, request);
    }

    /// An error; `refused`: nothing was done, and nothing will be. Only then nobody may be there at all.
    async fn fails<T>(
        &self,
        op: &'static str,
        key: &str,
        silent: bool,
        refused: bool,
    ) -> Result<T, Error> {
        if silent {
            std::future::pending::<()>().await;
        }
        let detail = "as this world has it".to_owned();
        let key = key.to_owned();
        Err(match refused && self.world.dice(|dice| dice.chance(500)) {
            true => Error::Unreachable { op, key, detail },
            false => Error::Transient { op, key, detail },
        })
    }

    async fn change(
        &self,
        op: &'static str,
        key: &ObjectKey,
        request: Request,
    ) -> Result<Answer, Error> {
        let line = outline(&request);
        let mut flight = InFlight {
            way: self,
            request: Some(request),
        };
        self.world.point(WAY).await;
        let (fate, silent) = self.world.fate();
        let Some(request) = flight.request.take() else {
            return self.fails(op, key.as_str(), false, true).await;
        };
        let answer = match fate {
            Fate::Refused => {
                self.world.say(|| format!("refused: {line}"));
                return self.fails(op, key.as_str(), silent, true).await;
            }
            Fate::Late => {
                self.arrives_late(request);
                return self.fails(op, key.as_str(), silent, false).await;
            }
            Fate::Done | Fate::Unheard => {
                let mut bucket = self.bucket.lock();
                bucket.catch_up();
                bucket.apply(request)
            }
        };
        self.world
            .say(|| format!("{line}: {answer:?}, heard: {}", fate == Fate::Done));
        self.world.point(WAY).await;
        match fate {
            Fate::Done => answer,
            _ => self.fails(op, key.as_str(), silent, false).await,
        }
    }

    async fn look<T>(
        &self,
        op: &'static str,
        key: &ObjectKey,
        look: impl FnOnce(&Bucket) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.world.point(WAY).await;
        let (fate, silent) = self.world.fate();
        if fate != Fate::Done {
            self.world.say(|| format!("unanswered: {op} {key}"));
            let refused = fate == Fate::Refused;
            return self.fails(op, key.as_str(), silent, refused).await;
        }
        let answer = {
            let mut bucket = self.bucket.lock();
            bucket.catch_up();
            look(&bucket)
        };
        self.world.say(|| format!("{op} {key}: {}", answer.is_ok()));
        self.world.point(WAY).await;
        answer
    }
}

fn meta(key: &str, object: &Object, listed: bool) -> ObjectMeta {
    ObjectMeta {
        key: ObjectKey::new(key),
        size: object.bytes.len() as u64,
        etag: Some(object.etag.clone()),
        modified: object.modified,
        posix: match listed {
            true => PosixAttrs::default(),
            false => object.attrs,
        },
    }
}

#[async_trait]
impl Backend for Way {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn endpoint(&self) -> String {
        "nowhere".to_owned()
    }

    async fn check(&self) -> Result<(), ProbeError> {
        Ok(())
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, Error> {
        self.look("look up", key, |bucket| {
            let object = bucket.objects.get(key.as_str());
            Ok(object.map(|object| meta(key.as_str(), object, false)))
        })
        .await
    }

    async fn list_page(
        &self,
        dir: &ObjectKey,
        after: Option<&ListToken>,
        max: usize,
    ) -> Result<ListPage, Error> {
        self.look("list", dir, |bucket| {
            let begin = after.map_or(dir.0.clone(), |token| token.0.clone());
            let mut page = ListPage::default();
            let mut left = max;
            for (key, object) in bucket.objects.range(begin..) {
                let Some(rest) = key.strip_prefix(dir.as_str()) else {
                    break;
                };
                if left == 0 {
                    page.next = Some(ListToken(key.clone()));
                    break;
                }
                match rest.split_once('/') {
                    _ if rest.is_empty() => page.marker = Some(meta(key, object, true)),
                    None => page.files.push(meta(key, object, true)),
                    Some((name, _)) if page.directories.last().is_some_and(|last| last == name) => {
                        continue;
                    }
                    Some((name, _)) => page.directories.push(name.to_owned()),
                }
                left -= 1;
            }
            Ok(page)
        })
        .await
    }

    async fn exists_below(&self, dir: &ObjectKey) -> Result<bool, Error> {
        self.look("look below", dir, |bucket| {
            let mut below = bucket.objects.range(dir.0.clone()..);
            Ok(below
                .next()
                .is_some_and(|(key, _)| key.starts_with(dir.as_str())))
        })
        .await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Bytes, Error> {
        let body = self.look("read", key, |bucket| {
            let object = bucket.objects.get(key.as_str());
            let object = object.ok_or_else(|| Error::NotFound {
                op: "read",
                key: key.0.clone(),
            })?;
            if if_match.is_some_and(|etag| *etag != object.etag) {
                return Err(Error::Changed {
                    op: "read",
                    key: key.0.clone(),
                });
            }
            let end = range.end.min(object.bytes.len() as u64);
            Ok(object
                .bytes
                .slice(range.start.min(end) as usize..end as usize))
        });
        let mut body = body.await?;
        if self.world.breaks_off() {
            let kept = self.world.dice(|dice| dice.below(body.len() as u64 + 1));
            body.truncate(kept as usize);
        }
        Ok(body)
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        attrs: &PosixAttrs,
        condition: &Condition,
    ) -> Result<Put, Error> {
        let request = Request::Put(key.clone(), body, *attrs, condition.clone());
        put_of(self.change("write", key, request).await?)
    }

    async fn multipart(&self, key: &ObjectKey, attrs: &PosixAttrs) -> Result<UploadId, Error> {
        let request = Request::Begin(key.clone(), *attrs);
        match self.change("begin upload of", key, request).await? {
            Answer::Begun(id) => Ok(id),
            other => unreachable!("{other:?}"),
        }
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> Result<PartTag, Error> {
        let request = Request::Part(key.clone(), upload.clone(), number, body);
        match self.change("upload part of", key, request).await? {
            Answer::Part(tag) => Ok(tag),
            other => unreachable!("{other:?}"),
        }
    }

    async fn complete(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[(u32, PartTag)],
        condition: &Condition,
    ) -> Result<Put, Error> {
        let request = Request::Complete(
            key.clone(),
            upload.clone(),
            parts.to_vec(),
            condition.clone(),
        );
        put_of(self.change("complete upload of", key, request).await?)
    }

    async fn abort(&self, key: &ObjectKey, upload: &UploadId) -> Result<(), Error> {
        let request = Request::Abort(key.clone(), upload.clone());
        match self.change("abort upload of", key, request).await {
            Err(Error::NoSuchUpload { .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn uploads(&self, key: &ObjectKey) -> Result<Vec<OpenUpload>, Error> {
        self.look(
            "list uploads of",
            key,
            |bucket| Ok(bucket.open_uploads(key)),
        )
        .await
    }

    async fn has_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<bool, Error> {
        self.look("list parts of", key, |bucket| {
            match bucket.uploads.get(&upload.0) {
                Some(upload) => Ok(!upload.parts.is_empty()),
                None => Err(Error::NoSuchUpload {
                    op: "list parts of",
                    key: key.0.clone(),
                }),
            }
        })
        .await
    }

    async fn set_attributes(
        &self,
        key: &ObjectKey,
        etag: Option<&ETag>,
        attrs: &PosixAttrs,
    ) -> Result<Put, Error> {
        self.copy(key, key, attrs, etag).await
    }

    async fn copy(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        attrs: &PosixAttrs,
        if_match: Option<&ETag>,
    ) -> Result<Put, Error> {
        let request = Request::Copy(from.clone(), to.clone(), *attrs, if_match.cloned());
        put_of(self.change("copy", from, request).await?)
    }

    async fn delete(&self, key: &ObjectKey, if_match: Option<&ETag>) -> Result<(), Error> {
        let request = Request::Delete(key.clone(), if_match.cloned());
        self.change("delete", key, request).await.map(drop)
    }

    async fn make_dir(&self, dir: &ObjectKey, attrs: &PosixAttrs) -> Result<(), Error> {
        let request = Request::MakeDirectory(dir.clone(), *attrs);
        self.change("make directory", dir, request).await.map(drop)
    }

    async fn remove_dir(&self, dir: &ObjectKey) -> Result<(), Error> {
        let request = Request::RemoveDirectory(dir.clone());
        self.change("remove directory", dir, request)
            .await
            .map(drop)
    }
}

fn put_of(answer: Answer) -> Result<Put, Error> {
    match answer {
        Answer::Put(put) => Ok(put),
        other => unreachable!("{other:?}"),
    }
}
