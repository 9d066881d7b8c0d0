//! Opening a file: by passthrough if the file system says so and the kernel agrees.

use std::io;
use std::sync::Arc;

use fuser::{Errno, FileHandle, FopenFlags, Generation, ReplyCreate, ReplyOpen};
use journal::{Ino, NewInode};

use super::backing::Backings;
use super::convert::file_attr;
use super::executing::Executing;
use super::{errno, kernel};
use crate::vfs::{Caller, Mode, OpenRequest, Opened, Result, Vfs};

/// Inode numbers are never reused, so every inode is the first of its number.
pub const GENERATION: Generation = Generation(0);

/// What opening takes.
pub struct Opener {
    pub vfs: Vfs,
    pub backings: Arc<Backings>,
    pub passthrough: Arc<kernel::PassthroughState>,
    pub executing: Arc<Executing>,
}

impl Opener {
    /// Reopens a file in daemon mode, because the kernel did not take its extent file.
    async fn reopen(
        &self,
        opened: Opened,
        request: OpenRequest,
        error: io::Error,
    ) -> Result<Opened> {
        tracing::warn!(%error, "the kernel takes no backing files; reads and writes go through the daemon");
        self.passthrough
            .switch_off(format!("the kernel refused a backing file: {error}"));
        self.vfs.disable_passthrough();
        self.vfs.reopen(opened, request).await
    }
}

/// Closing a read-only open tells us nothing: the kernel need not wait for our answer.
fn open_flags(request: OpenRequest) -> FopenFlags {
    match request.writes {
        true => FopenFlags::empty(),
        false => FopenFlags::FOPEN_NOFLUSH,
    }
}

/// Answers OPEN; `executes` says that it is for running the file.
pub async fn open(
    opener: Opener,
    ino: Ino,
    request: OpenRequest,
    caller: Caller,
    executes: bool,
    reply: ReplyOpen,
) {
    if request.truncate && !request.writes && opener.executing.runs(ino) {
        return reply.error(Errno::ETXTBSY);
    }
    let note = |opened: &Opened| {
        if executes {
            opener.executing.note(opened.handle, ino);
        }
    };
    // First, because a truncation that is refused must leave the file as it was.
    if request.truncate
        && let Err(error) = opener.vfs.changed_by(ino, caller).await
    {
        return reply.error(errno("open", &error));
    }
    let mut opened = match opener.vfs.open(ino, request).await {
        Ok(opened) => opened,
        Err(error) => return reply.error(errno("open", &error)),
    };
    if opened.file.mode == Mode::Passthrough {
        let extents = opened.file.extents.clone();
        let attached = opener
            .backings
            .attach(ino, opened.handle, || reply.open_backing(&*extents));
        match attached {
            Ok(backing) => {
                note(&opened);
                let handle = FileHandle(opened.handle);
                return reply.opened_passthrough(handle, open_flags(request), &backing);
            }
            Err(error) => match opener.reopen(opened, request, error).await {
                Ok(again) => opened = again,
                Err(error) => return reply.error(errno("open", &error)),
            },
        }
    }
    note(&opened);
    reply.opened(FileHandle(opened.handle), open_flags(request));
}

/// Answers CREATE.
pub async fn create(
    opener: Opener,
    parent: Ino,
    name: Vec<u8>,
    new: NewInode,
    request: OpenRequest,
    reply: ReplyCreate,
) {
    let created = opener.vfs.create(parent, &name, new, request).await;
    let (attributes, mut opened) = match created {
        Ok(created) => created,
        Err(error) => return reply.error(errno("create", &error)),
    };
    let (ttl, attr) = (opener.vfs.ttl_of(&attributes), file_attr(&attributes));
    let flags = FopenFlags::empty();
    if opened.file.mode == Mode::Passthrough {
        let extents = opened.file.extents.clone();
        let attached = opener.backings.attach(attributes.ino, opened.handle, || {
            reply.open_backing(&*extents)
        });
        match attached {
            Ok(backing) => {
                let handle = FileHandle(opened.handle);
                return reply.created_passthrough(&ttl, &attr, GENERATION, handle, flags, &backing);
            }
            Err(error) => match opener.reopen(opened, request, error).await {
                Ok(again) => opened = again,
                Err(error) => return reply.error(errno("create", &error)),
            },
        }
    }
    reply.created(&ttl, &attr, GENERATION, FileHandle(opened.handle), flags);
}
