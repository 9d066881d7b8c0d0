//! Reading a directory: one name, or all of them with their attributes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{ReplyDirectoryPlus, ReplyEntry};
use journal::Ino;
use nix::errno::Errno;

use super::convert::{file_attr, no_attr};
use super::errno;
use super::opening::GENERATION;
use crate::vfs::{Error, Result, Vfs};

/// Entries whose attributes are read at once: as many as their objects are asked for in parallel, and
/// few enough that little is read in vain when the kernel's buffer is full (4 KiB hold about 25).
const CHUNK: usize = 32;

/// Answers LOOKUP. The kernel remembers a name that is not there for as long as the daemon would.
pub async fn look_up(vfs: Vfs, parent: Ino, name: Vec<u8>, reply: ReplyEntry) {
    let error = match vfs.lookup(parent, &name).await {
        Ok(attributes) => {
            let ttl = vfs.ttl_of(&attributes);
            return reply.entry(&ttl, &file_attr(&attributes), GENERATION);
        }
        Err(error) => error,
    };
    if matches!(error, Error::Posix(Errno::ENOENT))
        && let Ok(ttl) = vfs.absence_ttl(parent).await
        && !ttl.is_zero()
    {
        return reply.entry(&ttl, &no_attr(), GENERATION);
    }
    reply.error(errno("lookup", &error));
}

/// Fills the kernel's buffer with what follows `offset`. An empty buffer says that the end is reached,
/// so entries that are gone meanwhile do not end it.
pub async fn fill(
    vfs: &Vfs,
    handle: u64,
    mut offset: u64,
    reply: &mut ReplyDirectoryPlus,
) -> Result<()> {
    let mut is_empty = true;
    while is_empty {
        let entries = vfs.read_directory(handle, offset).await?;
        let Some(last) = entries.last() else {
            return Ok(());
        };
        offset = last.offset;
        for chunk in entries.chunks(CHUNK) {
            let attributes = vfs.entry_attributes(chunk).await?;
            for (entry, attributes) in chunk.iter().zip(attributes) {
                let Some(attributes) = attributes else {
                    continue;
                };
                let (ttl, attr) = (vfs.ttl_of(&attributes), file_attr(&attributes));
                let name = OsStr::from_bytes(&entry.name);
                if reply.add(attr.ino, entry.offset, name, &ttl, &attr, GENERATION) {
                    return Ok(());
                }
                is_empty = false;
            }
        }
    }
    Ok(())
}
