//! Uploads in parts, continued by a later process if need be.
//!
//! An upload is a file in the staging folder. Parts are as long as the first one (but for the last), so
//! part `n` is written at `(n-1) * length`; a part that comes before the length is known, doesn't fit, or
//! belongs to an upload that another process began, goes to a file of its own, `<upload>.<n>`. Every part
//! is flushed before it is acknowledged, because the caller records it as done. Completing checks that the
//! parts lie end to end, which is the rule, copies those with files of their own into their gaps, and
//! renames; if parts have odd lengths, it puts them together in a new file.
//!
//! The upload's name holds all that a later process needs, separated by dots: a version (`1`), the
//! staging file, its inode number, and mode, owner, group, mtime, atime,
//! version (`-` if unknown). The inode tells
//! after a crash whether the upload had become the object already. A part's tag is `m-<offset>-<length>`
//! or `s-<length>` (own file), in hexadecimal.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use parking_lot::Mutex;

use super::tree::{errno_error, io_error, sync_dir};
use super::write::Staged;
use super::{Inner, meta};
use crate::attrs::{FileVersion, PosixAttrs};
use crate::error::{Error, Result};
use crate::keys::ObjectKey;
use crate::types::{Condition, PartTag, Put, UploadId};

/// Uploads that this process began, by staging file: the length of their parts once the first is seen.
/// A leaf lock.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<HashMap<String, Option<u64>>>);

impl Uploads {
    /// Takes note of a part that is about to be written.
    pub(super) fn announce(&self, upload: &UploadId, number: u32, length: u64) {
        if let (1, Some(upload)) = (number, Upload::parse(upload))
            && let Some(known) = self.0.lock().get_mut(&upload.name)
        {
            known.get_or_insert(length);
        }
    }

    fn part_length(&self, name: &str) -> Option<u64> {
        self.0.lock().get(name).copied().flatten()
    }
}

/// What an upload's name says.
struct Upload {
    name: String,
    ino: u64,
    attrs: PosixAttrs,
}

impl Upload {
    fn id(&self) -> UploadId {
        fn show(value: Option<impl ToString>) -> String {
            value.map_or_else(|| "-".to_owned(), |value| value.to_string())
        }
        let PosixAttrs {
            mode,
            uid,
            gid,
            mtime_ns,
            atime_ns,
            version,
        } = self.attrs;
        UploadId(
            [
                "1".to_owned(),
                self.name.clone(),
                self.ino.to_string(),
                show(mode),
                show(uid),
                show(gid),
                show(mtime_ns),
                show(atime_ns),
                version.map_or_else(|| "-".to_owned(), FileVersion::encode),
            ]
            .join("."),
        )
    }

    fn parse(id: &UploadId) -> Option<Upload> {
        fn read<T: std::str::FromStr>(text: &str) -> Option<Option<T>> {
            if text == "-" {
                Some(None)
            } else {
                text.parse().ok().map(Some)
            }
        }
        let fields: Vec<&str> = id.0.split('.').collect();
        let ["1", name, ino, mode, uid, gid, mtime, atime, version] = fields[..] else {
            return None;
        };
        // It becomes a path: nothing but what we gave out.
        (name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit())).then_some(())?;
        Some(Upload {
            name: name.to_owned(),
            ino: ino.parse().ok()?,
            attrs: PosixAttrs {
                mode: read(mode)?,
                uid: read(uid)?,
                gid: read(gid)?,
                mtime_ns: read(mtime)?,
                atime_ns: read(atime)?,
                version: FileVersion::decode(version),
            },
        })
    }
}

/// Where a part is.
enum Place {
    Main { offset: u64, length: u64 },
    Own { length: u64 },
}

impl Place {
    fn length(&self) -> u64 {
        match self {
            Place::Main { length, .. } | Place::Own { length } => *length,
        }
    }

    fn tag(&self) -> PartTag {
        PartTag(match self {
            Place::Main { offset, length } => format!("m-{offset:x}-{length:x}"),
            Place::Own { length } => format!("s-{length:x}"),
        })
    }

    fn parse(tag: &PartTag) -> Option<Place> {
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let fields: Vec<&str> = tag.0.split('-').collect();
        match fields[..] {
            ["m", offset, length] => Some(Place::Main {
                offset: number(offset)?,
                length: number(length)?,
            }),
            ["s", length] => Some(Place::Own {
                length: number(length)?,
            }),
            _ => None,
        }
    }
}

impl Inner {
    pub(super) fn begin_upload(&self, key: &ObjectKey, attrs: &PosixAttrs) -> Result<UploadId> {
        const OP: &str = "begin upload of";
        let mut staged = self.stage(OP, key)?;
        sync_dir(self.staging(OP, key)?, OP, key)?;
        let ino = meta::stat(&staged.file, OP, key)?.ino();
        let upload = Upload {
            name: staged.name().to_string_lossy().into_owned(),
            ino,
            attrs: *attrs,
        };
        self.uploads.0.lock().insert(upload.name.clone(), None);
        staged.keep();
        Ok(upload.id())
    }

    pub(super) fn put_part(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        number: u32,
        body: &[u8],
    ) -> Result<PartTag> {
        const OP: &str = "upload part of";
        let upload = Upload::parse(id).ok_or_else(|| no_such_upload(OP, key))?;
        let Some(staged) = self.staged(OP, key, &upload.name)? else {
            return Err(no_such_upload(OP, key));
        };
        let length = body.len() as u64;
        let place = match self.uploads.part_length(&upload.name) {
            Some(stride) if length <= stride => Place::Main {
                offset: u64::from(number - 1) * stride,
                length,
            },
            _ => Place::Own { length },
        };
        let written = match &place {
            Place::Main { offset, .. } => staged
                .file
                .write_all_at(body, *offset)
                .and_then(|()| staged.file.sync_data()),
            Place::Own { .. } => {
                let flags = OFlag::O_WRONLY
                    | OFlag::O_CREAT
                    | OFlag::O_TRUNC
                    | OFlag::O_NOFOLLOW
                    | OFlag::O_CLOEXEC;
                let dir = self.staging(OP, key)?;
                let own = format!("{}.{number}", upload.name);
                let file = openat(&dir, own.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
                    .map(File::from)
                    .map_err(|errno| errno_error(OP, key, errno))?;
                let written = file.write_all_at(body, 0).and_then(|()| file.sync_all());
                sync_dir(&dir, OP, key)?;
                written
            }
        };
        written.map_err(|e| io_error(OP, key, e))?;
        Ok(place.tag())
    }

    pub(super) fn complete(
        &self,
        key: &ObjectKey,
        id: &UploadId,
        parts: &[(u32, PartTag)],
        condition: &Condition,
    ) -> Result<Put> {
        const OP: &str = "complete upload of";
        let upload = Upload::parse(id).ok_or_else(|| no_such_upload(OP, key))?;
        let places: Option<Vec<(u32, Place)>> = parts
            .iter()
            .map(|(number, tag)| Some((*number, Place::parse(tag)?)))
            .collect();
        let places = places.ok_or_else(|| no_such_upload(OP, key))?;
        let Some(mut staged) = self.staged(OP, key, &upload.name)? else {
            return self.completed_before(key, &upload);
        };
        let mut end = 0;
        let in_place = places.iter().all(|(_, place)| {
            let fits = !matches!(place, Place::Main { offset, .. } if *offset != end);
            end += place.length();
            fits
        });
        let put = if in_place {
            self.fill_gaps(key, &upload, &mut staged, &places)?;
            let there = meta::stat(&staged.file, OP, key)?.size();
            if there < end {
                return Err(no_such_upload(OP, key));
            }
            // Longer only if a part that isn't wanted any more was sent.
            staged.file.set_len(end).map_err(|e| io_error(OP, key, e))?;
            self.publish(OP, key, &mut staged, &upload.attrs, condition)?
        } else {
            let mut whole = self.put_together(key, &upload, &staged, &places)?;
            self.publish(OP, key, &mut whole, &upload.attrs, condition)?
        };
        self.forget(OP, key, &upload.name)?;
        Ok(put)
    }

    pub(super) fn abort(&self, key: &ObjectKey, id: &UploadId) -> Result<()> {
        match Upload::parse(id) {
            Some(upload) => self.forget("abort upload of", key, &upload.name),
            None => Ok(()),
        }
    }

    /// The upload's file is gone: because it is the object already?
    fn completed_before(&self, key: &ObjectKey, upload: &Upload) -> Result<Put> {
        const OP: &str = "complete upload of";
        if let Some((dir, name)) = self.tree.parent(OP, key)?
            && let Some(stat) = meta::stat_at(&dir, &name, OP, key)?
            && stat.ino() == upload.ino
            && upload
                .attrs
                .mtime_ns
                .is_none_or(|mtime| mtime == stat.mtime_ns())
        {
            sync_dir(&dir, OP, key)?;
            return Ok(Put::of(Some(stat.etag())));
        }
        Err(no_such_upload(OP, key))
    }

    /// Copies parts that have files of their own to where they belong.
    fn fill_gaps(
        &self,
        key: &ObjectKey,
        upload: &Upload,
        main: &mut Staged,
        places: &[(u32, Place)],
    ) -> Result<()> {
        const OP: &str = "complete upload of";
        let mut at = 0;
        for (number, place) in places {
            if let Place::Own { length } = place {
                main.file
                    .seek(SeekFrom::Start(at))
                    .map_err(|e| io_error(OP, key, e))?;
                self.copy_part(
                    key,
                    self.own_part(key, upload, *number)?,
                    0,
                    *length,
                    &mut main.file,
                )?;
            }
            at += place.length();
        }
        Ok(())
    }

    /// Copies parts that don't lie end to end into a new file.
    fn put_together(
        &self,
        key: &ObjectKey,
        upload: &Upload,
        main: &Staged,
        places: &[(u32, Place)],
    ) -> Result<Staged> {
        const OP: &str = "complete upload of";
        let mut whole = self.stage(OP, key)?;
        for (number, place) in places {
            let (source, offset) = match place {
                Place::Main { offset, .. } => (
                    main.file.try_clone().map_err(|e| io_error(OP, key, e))?,
                    *offset,
                ),
                Place::Own { .. } => (self.own_part(key, upload, *number)?, 0),
            };
            self.copy_part(key, source, offset, place.length(), &mut whole.file)?;
        }
        Ok(whole)
    }

    fn own_part(&self, key: &ObjectKey, upload: &Upload, number: u32) -> Result<File> {
        const OP: &str = "complete upload of";
        match self.staged(OP, key, &format!("{}.{number}", upload.name))? {
            Some(own) => own.file.try_clone().map_err(|e| io_error(OP, key, e)),
            None => Err(no_such_upload(OP, key)),
        }
    }

    fn copy_part(
        &self,
        key: &ObjectKey,
        mut source: File,
        offset: u64,
        length: u64,
        to: &mut File,
    ) -> Result<()> {
        const OP: &str = "complete upload of";
        source
            .seek(SeekFrom::Start(offset))
            .map_err(|e| io_error(OP, key, e))?;
        let copied =
            std::io::copy(&mut source.take(length), to).map_err(|e| io_error(OP, key, e))?;
        if copied == length {
            Ok(())
        } else {
            Err(no_such_upload(OP, key))
        }
    }

    /// Removes what is left of an upload.
    fn forget(&self, op: &'static str, key: &ObjectKey, name: &str) -> Result<()> {
        self.uploads.0.lock().remove(name);
        let staging = self.staging(op, key)?;
        let mut left = vec![OsString::from(name)];
        let dir = staging.try_clone().map_err(|e| io_error(op, key, e))?;
        for entry in Dir::from_fd(dir)
            .map_err(|errno| errno_error(op, key, errno))?
            .iter()
        {
            let entry = entry.map_err(|errno| errno_error(op, key, errno))?;
            let bytes = entry.file_name().to_bytes();
            if bytes
                .strip_prefix(name.as_bytes())
                .is_some_and(|rest| rest.starts_with(b"."))
            {
                left.push(OsString::from_vec(bytes.to_vec()));
            }
        }
        for name in left {
            match unlinkat(&staging, &*name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno_error(op, key, errno)),
            }
        }
        Ok(())
    }
}

fn no_such_upload(op: &'static str, key: &ObjectKey) -> Error {
    Error::NoSuchUpload {
        op,
        key: key.0.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uploads_name_carries_its_attributes() {
        let attrs = PosixAttrs {
            mode: Some(0o640),
            mtime_ns: Some(-7),
            version: FileVersion::decode("1-2-3-4-5"),
            ..Default::default()
        };
        let upload = Upload {
            name: "0123456789abcdef0123456789abcdef".into(),
            ino: 42,
            attrs,
        };
        let back = Upload::parse(&upload.id()).unwrap();
        assert_eq!(
            (back.name, back.ino, back.attrs),
            (upload.name.clone(), 42, attrs)
        );
    }

    #[test]
    fn a_name_that_was_not_given_out_here_is_refused() {
        for id in [
            "",
            "1.../../etc/passwd.1.-.-.-.-.-.-",
            "1.0123456789abcdef0123456789abcde/.1.-.-.-.-.-.-",
            "2.0123456789abcdef0123456789abcdef.1.-.-.-.-.-.-",
        ] {
            assert!(Upload::parse(&UploadId(id.into())).is_none(), "{id}");
        }
    }
}
