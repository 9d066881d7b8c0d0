//! One method for each kernel request.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use extents::SeekTo;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use journal::{Kind, NewInode, RenameMode, XattrMode};
use nix::libc;

use super::convert::{caller, file_attr, file_type, ino, kind_of_mode, open_request, timestamp};
use super::executing::FMODE_EXEC;
use super::opening::{self, GENERATION, Opener};
use super::{Front, errno, kernel, reading};
use crate::vfs::{Result, SetAttributes};

/// Answers one reply with a value or an errno.
macro_rules! answer {
    ($operation:literal, $reply:ident, $call:expr, |$value:pat_param| $ok:expr) => {
        match $call {
            Ok($value) => $ok,
            Err(error) => $reply.error(errno($operation, &error)),
        }
    };
}

impl Front {
    fn entry(
        &self,
        operation: &'static str,
        reply: ReplyEntry,
        call: impl Future<Output = Result<crate::vfs::Attributes>> + Send + 'static,
    ) {
        let vfs = self.vfs.clone();
        self.serve(async move {
            match call.await {
                Ok(attributes) => {
                    let ttl = vfs.ttl_of(&attributes);
                    reply.entry(&ttl, &file_attr(&attributes), GENERATION);
                }
                Err(error) => reply.error(errno(operation, &error)),
            }
        });
    }

    fn opener(&self) -> Opener {
        Opener {
            vfs: self.vfs.clone(),
            backings: self.backings.clone(),
            passthrough: self.passthrough.clone(),
            executing: self.executing.clone(),
        }
    }

    fn empty(
        &self,
        operation: &'static str,
        reply: ReplyEmpty,
        call: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        self.serve(async move {
            match call.await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(operation, &error)),
            }
        });
    }
}

/// A new inode of `kind` for the caller of `request`.
fn new_inode(request: &Request, kind: Kind, (mode, umask): (u32, u32), rdev: u32) -> NewInode {
    NewInode {
        kind,
        mode: mode & 0o7777,
        umask,
        uid: request.uid(),
        gid: request.gid(),
        rdev,
        target: None,
        writer: None,
    }
}

impl Filesystem for Front {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = self.vfs.wants_passthrough();
        kernel::negotiate(config, wanted.then_some(&*self.passthrough));
        if !self.passthrough.is_on() {
            self.vfs.disable_passthrough();
        }
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.as_bytes().to_vec();
        self.serve(reading::look_up(self.vfs.clone(), ino(parent), name, reply));
    }

    fn forget(&self, _request: &Request, number: INodeNo, _lookups: u64) {
        self.vfs.forgotten(ino(number));
    }

    fn getattr(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let vfs = self.vfs.clone();
        self.serve(async move {
            answer!(
                "getattr",
                reply,
                vfs.attributes(ino(number)).await,
                |attributes| { reply.attr(&vfs.ttl_of(&attributes), &file_attr(&attributes)) }
            );
        });
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let vfs = self.vfs.clone();
        let set = SetAttributes {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(timestamp),
            mtime: mtime.map(timestamp),
        };
        let caller = caller(request);
        self.serve(async move {
            let attributes = vfs.set_attributes(ino(number), set, caller).await;
            answer!("setattr", reply, attributes, |attributes| {
                reply.attr(&vfs.ttl_of(&attributes), &file_attr(&attributes))
            });
        });
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        let vfs = self.vfs.clone();
        self.serve(async move {
            answer!(
                "readlink",
                reply,
                vfs.read_link(ino(number)).await,
                |target| { reply.data(&target) }
            );
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let Some(kind) = kind_of_mode(mode) else {
            return reply.error(Errno::EINVAL);
        };
        let vfs = self.vfs.clone();
        let name = name.as_bytes().to_vec();
        let new = new_inode(request, kind, (mode, umask), rdev);
        self.entry("mknod", reply, async move {
            vfs.make(ino(parent), &name, new).await
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let vfs = self.vfs.clone();
        let name = name.as_bytes().to_vec();
        let new = new_inode(request, Kind::Directory, (mode, umask), 0);
        self.entry("mkdir", reply, async move {
            vfs.make(ino(parent), &name, new).await
        });
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let vfs = self.vfs.clone();
        let name = name.as_bytes().to_vec();
        self.empty("unlink", reply, async move {
            vfs.unlink(ino(parent), &name).await
        });
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let vfs = self.vfs.clone();
        let name = name.as_bytes().to_vec();
        self.empty("rmdir", reply, async move {
            vfs.rmdir(ino(parent), &name).await
        });
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let vfs = self.vfs.clone();
        let name = name.as_bytes().to_vec();
        let new = NewInode {
            target: Some(target.as_os_str().as_bytes().to_vec()),
            ..new_inode(request, Kind::Symlink, (0o777, 0), 0)
        };
        self.entry("symlink", reply, async move {
            vfs.make(ino(parent), &name, new).await
        });
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            flags if flags.is_empty() => RenameMode::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            RenameFlags::RENAME_EXCHANGE => RenameMode::Exchange,
            _ => return reply.error(Errno::EINVAL),
        };
        let vfs = self.vfs.clone();
        let (name, new_name) = (name.as_bytes().to_vec(), new_name.as_bytes().to_vec());
        self.empty("rename", reply, async move {
            vfs.rename((ino(parent), &name), (ino(new_parent), &new_name), mode)
                .await
        });
    }

    fn link(
        &self,
        _request: &Request,
        number: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let vfs = self.vfs.clone();
        let name = new_name.as_bytes().to_vec();
        self.entry("link", reply, async move {
            vfs.link(ino(number), ino(new_parent), &name).await
        });
    }

    fn open(&self, request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let executes = flags.0 & FMODE_EXEC != 0;
        let (caller, request) = (caller(request), open_request(flags));
        let opened = opening::open(self.opener(), ino(number), request, caller, executes, reply);
        self.serve(opened);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let new = new_inode(request, Kind::File, (mode, umask), 0);
        self.serve(opening::create(
            self.opener(),
            ino(parent),
            name.as_bytes().to_vec(),
            new,
            open_request(OpenFlags(flags)),
            reply,
        ));
    }

    fn read(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let vfs = self.vfs.clone();
        self.serve(async move {
            answer!(
                "read",
                reply,
                vfs.read(handle.0, offset, size as usize).await,
                |data| { reply.data(&data) }
            );
        });
    }

    fn write(
        &self,
        _request: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // At most REQUEST_BYTES_MAX.
        let len = data.len() as u32;
        let by_others = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let written = match by_others {
            true => None,
            false => self.vfs.write_resident(handle.0, offset, data),
        };
        match written {
            Some(written) => answer!("write", reply, written, |()| reply.written(len)),
            None => {
                let vfs = self.vfs.clone();
                let data = data.to_vec();
                self.serve(async move {
                    let cleared = match by_others {
                        true => vfs.written_by_others(ino(number)).await,
                        false => Ok(()),
                    };
                    let written = match cleared {
                        Ok(()) => vfs.write(handle.0, offset, &data).await,
                        refused => refused,
                    };
                    answer!("write", reply, written, |()| reply.written(len));
                });
            }
        }
    }

    fn flush(
        &self,
        _request: &Request,
        number: INodeNo,
        handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let vfs = self.vfs.clone();
        self.empty("close", reply, async move {
            vfs.check_watched(ino(number)).await?;
            vfs.flush(handle.0).await
        });
    }

    fn release(
        &self,
        _request: &Request,
        number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.backings.detach(handle.0);
        self.executing.forget(handle.0);
        let vfs = self.vfs.clone();
        self.empty("release", reply, async move {
            let checked = vfs.check_watched(ino(number)).await;
            vfs.release(handle.0).await?;
            vfs.unwatch_closed(ino(number));
            checked
        });
    }

    fn fsync(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let vfs = self.vfs.clone();
        self.empty("fsync", reply, async move { vfs.fsync(handle.0).await });
    }

    fn opendir(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let vfs = self.vfs.clone();
        self.serve(async move {
            answer!(
                "opendir",
                reply,
                vfs.open_directory(ino(number)).await,
                |opened| {
                    let mut flags = FopenFlags::FOPEN_CACHE_DIR;
                    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.is_unchanged);
                    reply.opened(FileHandle(opened.handle), flags)
                }
            );
        });
    }

    fn readdir(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let vfs = self.vfs.clone();
        self.serve(async move {
            let entries = vfs.read_directory(handle.0, offset).await;
            answer!("readdir", reply, entries, |entries| {
                for entry in entries {
                    let name = OsStr::from_bytes(&entry.name);
                    let number = INodeNo(entry.ino.0);
                    if reply.add(number, entry.offset, file_type(entry.kind), name) {
                        break;
                    }
                }
                reply.ok()
            });
        });
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let vfs = self.vfs.clone();
        self.serve(async move {
            match reading::fill(&vfs, handle.0, offset, &mut reply).await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno("readdirplus", &error)),
            }
        });
    }

    fn releasedir(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.vfs.close_directory(handle.0);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let vfs = self.vfs.clone();
        self.empty(
            "fsyncdir",
            reply,
            async move { vfs.fsync_directory().await },
        );
    }

    fn statfs(&self, _request: &Request, _number: INodeNo, reply: ReplyStatfs) {
        /// Units of the figures, as ext4's.
        const BLOCK_BYTES: u64 = 4096;
        const NAME_BYTES_MAX: u32 = 255;
        let vfs = self.vfs.clone();
        self.serve(async move {
            answer!("statfs", reply, vfs.space().await, |space| {
                let free = space.free_bytes / BLOCK_BYTES;
                let inodes_free = u64::from(u32::MAX);
                reply.statfs(
                    space.total_bytes / BLOCK_BYTES,
                    free,
                    free,
                    space.inodes + inodes_free,
                    inodes_free,
                    BLOCK_BYTES as u32,
                    NAME_BYTES_MAX,
                    BLOCK_BYTES as u32,
                )
            });
        });
    }

    fn setxattr(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            0 => XattrMode::Any,
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => return reply.error(Errno::EINVAL),
        };
        let vfs = self.vfs.clone();
        let (name, value) = (name.as_bytes().to_vec(), value.to_vec());
        let caller = caller(request);
        self.empty("setxattr", reply, async move {
            vfs.set_xattr(ino(number), &name, &value, mode, caller)
                .await
        });
    }

    fn getxattr(
        &self,
        _request: &Request,
        number: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let vfs = self.vfs.clone();
        let name = name.as_bytes().to_vec();
        self.serve(async move {
            answer!(
                "getxattr",
                reply,
                vfs.get_xattr(ino(number), &name).await,
                |value| { sized(reply, &value, size) }
            );
        });
    }

    fn listxattr(&self, request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let vfs = self.vfs.clone();
        let caller = caller(request);
        self.serve(async move {
            answer!(
                "listxattr",
                reply,
                vfs.list_xattr(ino(number), caller).await,
                |names| {
                    let mut list = Vec::new();
                    for name in names {
                        list.extend_from_slice(&name);
                        list.push(0);
                    }
                    sized(reply, &list, size)
                }
            );
        });
    }

    fn removexattr(&self, request: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let vfs = self.vfs.clone();
        let caller = caller(request);
        let name = name.as_bytes().to_vec();
        self.empty("removexattr", reply, async move {
            vfs.remove_xattr(ino(number), &name, caller).await
        });
    }

    fn fallocate(
        &self,
        request: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let vfs = self.vfs.clone();
        let caller = caller(request);
        self.empty("fallocate", reply, async move {
            vfs.allocate(handle.0, mode, offset, length).await?;
            vfs.changed_by(ino(number), caller).await
        });
    }

    fn lseek(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let to = match whence {
            libc::SEEK_DATA => SeekTo::Data,
            libc::SEEK_HOLE => SeekTo::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        let vfs = self.vfs.clone();
        self.serve(async move {
            answer!(
                "lseek",
                reply,
                vfs.seek(handle.0, offset, to).await,
                |offset| {
                    // File offsets are below 2^63 (loff_t).
                    reply.offset(offset as i64)
                }
            );
        });
    }

    fn copy_file_range(
        &self,
        request: &Request,
        _number_in: INodeNo,
        handle_in: FileHandle,
        offset_in: u64,
        number_out: INodeNo,
        handle_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let vfs = self.vfs.clone();
        let caller = caller(request);
        // The reply has 32 bits; programs go on after a short copy.
        let len = len.min(1 << 30);
        self.serve(async move {
            let copied = vfs.copy_range((handle_in.0, offset_in), (handle_out.0, offset_out), len);
            let copied = match copied.await {
                Ok(copied) => {
                    let cleared = vfs.changed_by(ino(number_out), caller).await;
                    cleared.map(|()| copied)
                }
                refused => refused,
            };
            answer!("copy_file_range", reply, copied, |copied| {
                reply.written(copied as u32)
            });
        });
    }
}

/// getxattr(2) and listxattr(2) ask for the size first, with a size of 0.
fn sized(reply: ReplyXattr, value: &[u8], size: u32) {
    match size {
        0 => reply.size(value.len() as u32),
        size if value.len() > size as usize => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}
