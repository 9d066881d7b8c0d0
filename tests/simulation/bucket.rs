//! The bucket: what the store holds, and what it does with a request once that has arrived.
//!
//! It behaves as S3 does: conditions are checked in the step that they are for, an object is replaced by a whole
//! one, parts are seen by nobody until they are completed. Whatever becomes visible is compared with what the
//! programs wrote: see [`World::check_version`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use remote::{Condition, ETag, Error, ObjectKey, OpenUpload, PartTag, PosixAttrs, Put, UploadId};

use crate::machine;
use crate::world::{self, World};

/// An object.
#[derive(Clone, Debug)]
pub struct Object {
    pub bytes: Bytes,
    pub etag: ETag,
    pub attrs: PosixAttrs,
    pub modified: SystemTime,
}

/// An upload that is neither completed nor aborted.
#[derive(Clone, Debug)]
pub struct Upload {
    pub key: String,
    pub attrs: PosixAttrs,
    pub begun: SystemTime,
    pub parts: BTreeMap<u32, (PartTag, Bytes)>,
}

/// What changes the bucket.
#[derive(Clone, Debug)]
pub enum Request {
    Put(ObjectKey, Bytes, PosixAttrs, Condition),
    Begin(ObjectKey, PosixAttrs),
    Part(ObjectKey, UploadId, u32, Bytes),
    Complete(ObjectKey, UploadId, Vec<(u32, PartTag)>, Condition),
    Abort(ObjectKey, UploadId),
    Copy(ObjectKey, ObjectKey, PosixAttrs, Option<ETag>),
    Delete(ObjectKey, Option<ETag>),
    MakeDirectory(ObjectKey, PosixAttrs),
    RemoveDirectory(ObjectKey),
}

/// What it says.
#[derive(Clone, Debug)]
pub enum Answer {
    Done,
    Put(Put),
    Begun(UploadId),
    Part(PartTag),
}

/// A bucket. Survives everything.
pub struct Bucket {
    world: Arc<World>,
    pub objects: BTreeMap<String, Object>,
    pub uploads: BTreeMap<String, Upload>,
    /// What arrives later than anybody waits for.
    late: BTreeMap<(Duration, u64), Request>,
    count: u64,
    /// Versions are named by what they hold, as S3 does, so that two may have one name.
    names_by_content: bool,
}

impl Bucket {
    pub fn new(world: &Arc<World>) -> Self {
        Self {
            world: Arc::clone(world),
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            late: BTreeMap::new(),
            count: 0,
            names_by_content: world.dice(|dice| dice.chance(500)),
        }
    }

    /// This request arrives in so long.
    pub fn arrives_in(&mut self, time: Duration, request: Request) {
        self.count += 1;
        self.late
            .insert((machine::age() + time, self.count), request);
    }

    /// Whether anything is still under way.
    pub fn expects_more(&self) -> bool {
        !self.late.is_empty()
    }

    /// What should have arrived by now has.
    pub fn catch_up(&mut self) {
        while let Some(entry) = self.late.first_entry()
            && entry.key().0 <= machine::age()
        {
            let request = entry.remove();
            let world = Arc::clone(&self.world);
            let line = outline(&request);
            let answer = self.apply(request);
            world.say(|| format!("late: {line}: {answer:?}"));
        }
    }

    /// Does what was asked for.
    pub fn apply(&mut self, request: Request) -> Result<Answer, Error> {
        match request {
            Request::Put(key, bytes, attrs, condition) => {
                self.check("write", &key, &condition)?;
                Ok(Answer::Put(self.put(&key, bytes, attrs, None)))
            }
            Request::Begin(key, attrs) => {
                self.count += 1;
                let id = format!("upload-{}", self.count);
                let upload = Upload {
                    key: key.0,
                    attrs,
                    begun: now(),
                    parts: BTreeMap::new(),
                };
                self.uploads.insert(id.clone(), upload);
                Ok(Answer::Begun(UploadId(id)))
            }
            Request::Part(key, id, number, bytes) => {
                let tag = PartTag(format!("{:016x}", world::hash(&bytes)));
                let upload = self.upload("upload part of", &key, &id)?;
                upload.parts.insert(number, (tag.clone(), bytes));
                Ok(Answer::Part(tag))
            }
            Request::Complete(key, id, parts, condition) => {
                self.complete(&key, &id, &parts, &condition)
            }
            Request::Abort(key, id) => {
                self.upload("abort upload of", &key, &id)?;
                self.uploads.remove(&id.0);
                Ok(Answer::Done)
            }
            Request::Copy(from, to, attrs, if_match) => {
                let source = self.objects.get(from.as_str()).cloned();
                let source = source.ok_or_else(|| Error::NotFound {
                    op: "copy",
                    key: from.0.clone(),
                })?;
                if if_match.is_some_and(|etag| etag != source.etag) {
                    return Err(precondition("copy", &from));
                }
                let attrs = attrs.or(source.attrs);
                Ok(Answer::Put(self.put(
                    &to,
                    source.bytes,
                    attrs,
                    Some(source.etag),
                )))
            }
            Request::Delete(key, if_match) => {
                let there = self.objects.get(key.as_str());
                if let (Some(there), Some(etag)) = (there, if_match)
                    && there.etag != etag
                {
                    return Err(precondition("delete", &key));
                }
                self.objects.remove(key.as_str());
                Ok(Answer::Done)
            }
            Request::MakeDirectory(key, attrs) => {
                Ok(Answer::Put(self.put(&key, Bytes::new(), attrs, None)))
            }
            Request::RemoveDirectory(key) => {
                self.objects.remove(key.as_str());
                Ok(Answer::Done)
            }
        }
    }

    fn check(&self, op: &'static str, key: &ObjectKey, condition: &Condition) -> Result<(), Error> {
        let there = self.objects.get(key.as_str()).map(|object| &object.etag);
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => there.is_none(),
            Condition::Match(etag) => there == Some(etag),
        };
        match holds {
            true => Ok(()),
            false => Err(precondition(op, key)),
        }
    }

    fn complete(
        &mut self,
        key: &ObjectKey,
        id: &UploadId,
        parts: &[(u32, PartTag)],
        condition: &Condition,
    ) -> Result<Answer, Error> {
        const OP: &str = "complete upload of";
        let upload = self.upload(OP, key, id)?.clone();
        let mut bytes = Vec::new();
        for (number, tag) in parts {
            match upload.parts.get(number) {
                Some((known, part)) if known == tag => bytes.extend_from_slice(part),
                _ => {
                    return Err(Error::NoSuchUpload {
                        op: OP,
                        key: key.0.clone(),
                    });
                }
            }
        }
        self.check(OP, key, condition)?;
        self.uploads.remove(&id.0);
        let tags: String = parts.iter().map(|(_, tag)| tag.0.as_str()).collect();
        let name = ETag(format!(
            "{:016x}-{}",
            world::hash(tags.as_bytes()),
            parts.len()
        ));
        Ok(Answer::Put(self.put(
            key,
            bytes.into(),
            upload.attrs,
            Some(name),
        )))
    }

    fn upload(
        &mut self,
        op: &'static str,
        key: &ObjectKey,
        id: &UploadId,
    ) -> Result<&mut Upload, Error> {
        let upload = self.uploads.get_mut(&id.0);
        upload
            .filter(|upload| upload.key == key.0)
            .ok_or_else(|| Error::NoSuchUpload {
                op,
                key: key.0.clone(),
            })
    }

    fn put(&mut self, key: &ObjectKey, bytes: Bytes, attrs: PosixAttrs, name: Option<ETag>) -> Put {
        if !key.is_directory() {
            self.world.check_version(key.as_str(), &bytes);
        }
        self.count += 1;
        let etag = match name {
            Some(name) if self.names_by_content => name,
            _ if self.names_by_content => ETag(format!("{:016x}", world::hash(&bytes))),
            _ => ETag(format!("version-{}", self.count)),
        };
        let object = Object {
            bytes,
            etag: etag.clone(),
            attrs,
            modified: now(),
        };
        self.objects.insert(key.0.clone(), object);
        Put::of(Some(etag))
    }

    pub fn open_uploads(&self, key: &ObjectKey) -> Vec<OpenUpload> {
        let of_key = self
            .uploads
            .iter()
            .filter(|(_, upload)| upload.key == key.0);
        of_key
            .map(|(id, upload)| OpenUpload {
                id: UploadId(id.clone()),
                begun: upload.begun,
            })
            .collect()
    }
}

fn precondition(op: &'static str, key: &ObjectKey) -> Error {
    Error::PreconditionFailed {
        op,
        key: key.0.clone(),
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(machine::now_ns())
}

/// A request in a line.
pub fn outline(request: &Request) -> String {
    match request {
        Request::Put(key, bytes, attrs, condition) => format!(
            "PUT {key} {} {:?} if {condition:?}",
            world::outline(bytes),
            attrs.version.map(|of| (of.ino, of.epoch, of.meta_epoch))
        ),
        Request::Begin(key, _) => format!("BEGIN {key}"),
        Request::Part(key, id, number, bytes) => {
            format!("PART {number} of {} {key} {}", id.0, world::outline(bytes))
        }
        Request::Complete(key, id, parts, condition) => format!(
            "COMPLETE {key} {} of {} parts if {condition:?}",
            id.0,
            parts.len()
        ),
        Request::Abort(key, id) => format!("ABORT {key} {}", id.0),
        Request::Copy(from, to, attrs, etag) => format!(
            "COPY {from} to {to} {:?} if {etag:?}",
            attrs.version.map(|of| (of.ino, of.epoch, of.meta_epoch))
        ),
        Request::Delete(key, etag) => format!("DELETE {key} if {etag:?}"),
        Request::MakeDirectory(key, _) => format!("MKDIR {key}"),
        Request::RemoveDirectory(key) => format!("RMDIR {key}"),
    }
}
