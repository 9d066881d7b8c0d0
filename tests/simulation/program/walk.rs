//! Ways through the mount, component by component, as the kernel asks.

use fused::vfs::{self, Attributes, OpenRequest, Vfs};
use journal::{Ino, Kind as FileKind, NewInode};

pub(super) fn new(kind: FileKind, mode: u32) -> NewInode {
    NewInode {
        kind,
        mode,
        umask: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        target: None,
        writer: None,
    }
}

/// What has this path, component by component, as the kernel asks.
pub(super) async fn find(vfs: &Vfs, path: &str) -> vfs::Result<Attributes> {
    let mut at = vfs.attributes(Ino::ROOT).await?;
    for name in path.split('/') {
        at = vfs.lookup(at.ino, name.as_bytes()).await?;
    }
    Ok(at)
}

pub(super) async fn parent_of<'p>(vfs: &Vfs, path: &'p str) -> vfs::Result<(Ino, &'p [u8])> {
    match path.rsplit_once('/') {
        Some((parent, name)) => Ok((find(vfs, parent).await?.ino, name.as_bytes())),
        None => Ok((Ino::ROOT, path.as_bytes())),
    }
}

pub(super) async fn contents(vfs: &Vfs, ino: Ino) -> vfs::Result<Vec<u8>> {
    let opened = vfs.open(ino, OpenRequest::default()).await?;
    let size = vfs.attributes(ino).await?.size;
    let read = vfs.read(opened.handle, 0, size as usize + 1).await;
    vfs.release(opened.handle).await?;
    Ok(read?.to_vec())
}

pub(super) async fn names_in(vfs: &Vfs, ino: Ino) -> vfs::Result<Vec<(String, Ino)>> {
    let handle = vfs.open_directory(ino).await?.handle;
    let mut names = Vec::new();
    let mut offset = 0;
    let read = loop {
        match vfs.read_directory(handle, offset).await {
            Err(error) => break Err(error),
            Ok(entries) => {
                let Some(last) = entries.last() else {
                    break Ok(());
                };
                offset = last.offset;
                let entries = entries
                    .iter()
                    .map(|entry| (String::from_utf8_lossy(&entry.name).into_owned(), entry.ino));
                names.extend(entries.filter(|(name, _)| name != "." && name != ".."));
            }
        }
    };
    vfs.close_directory(handle);
    read.map(|()| names)
}
