//! Pages of a directory, in the order of keys.
//!
//! A directory gives its names in no order, so it is read whole, sorted and kept until its last page is
//! taken; the page's token is the listing's number and the last name. Of listings that nobody finished,
//! the [`KEPT_MAX`] youngest are kept; a token of one that is gone reads the directory again and goes
//! on after that name.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use nix::dir::{Dir, Type};
use parking_lot::Mutex;

use super::tree::{errno_error, from_disk};
use super::{Inner, meta};
use crate::error::{Error, Result};
use crate::keys::ObjectKey;
use crate::types::{ListPage, ListToken};

/// Unfinished listings kept.
const KEPT_MAX: usize = 4;

/// What something in a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    File,
    Directory,
    Special,
}

/// The key component (a directory's with '/'), and the name on disk where that differs.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    component: Box<str>,
    kind: Kind,
    disk: Option<Box<[u8]>>,
}

#[derive(Debug)]
struct Snapshot {
    id: u64,
    dir: ObjectKey,
    entries: Vec<Entry>,
}

/// The unfinished listings. A leaf lock, never held while the disk is waited for.
#[derive(Debug, Default)]
pub(super) struct Snapshots(Mutex<VecDeque<Arc<Snapshot>>>);

impl Snapshots {
    fn find(&self, id: u64, dir: &ObjectKey) -> Option<Arc<Snapshot>> {
        self.0
            .lock()
            .iter()
            .find(|snapshot| snapshot.id == id && snapshot.dir == *dir)
            .cloned()
    }

    fn keep(&self, snapshot: &Arc<Snapshot>) {
        let mut kept = self.0.lock();
        if kept.iter().all(|other| other.id != snapshot.id) {
            kept.push_back(Arc::clone(snapshot));
            if kept.len() > KEPT_MAX {
                kept.pop_front();
            }
        }
    }

    fn drop(&self, id: u64) {
        self.0.lock().retain(|snapshot| snapshot.id != id);
    }
}

impl Inner {
    pub(super) fn list_page(
        &self,
        dir: &ObjectKey,
        after: Option<&ListToken>,
        max: usize,
    ) -> Result<ListPage> {
        const OP: &str = "list";
        let mut page = ListPage::default();
        let Some(open) = self.tree.dir(OP, dir)? else {
            return Ok(page);
        };
        let (id, last) = match after {
            None => (None, ""),
            Some(token) => match token.0.split_once('/') {
                Some((id, last)) => (u64::from_str_radix(id, 16).ok(), last),
                None => {
                    return Err(Error::other(
                        OP,
                        dir.as_str(),
                        "this is not the token of a listing",
                    ));
                }
            },
        };
        if after.is_none() && !dir.0.is_empty() {
            page.marker = Some(meta::stat(&open, OP, dir)?.meta(dir));
        }
        let stat_dir = open
            .try_clone()
            .map_err(|e| super::tree::io_error(OP, dir, e))?;
        let snapshot = match id.and_then(|id| self.listings.find(id, dir)) {
            Some(snapshot) => snapshot,
            None => Arc::new(Snapshot {
                id: rand::random(),
                dir: dir.clone(),
                entries: read(
                    Dir::from_fd(open).map_err(|errno| errno_error(OP, dir, errno))?,
                    dir,
                )?,
            }),
        };
        let from = match after {
            None => 0,
            Some(_) => snapshot
                .entries
                .partition_point(|entry| &*entry.component <= last),
        };
        let to = snapshot.entries.len().min(from.saturating_add(max));
        for entry in &snapshot.entries[from..to] {
            let component = entry.component.trim_end_matches('/');
            match entry.kind {
                Kind::Directory => page.directories.push(component.to_owned()),
                Kind::Special => page.hidden.push(format!("{dir}{component}")),
                Kind::File => {
                    let key = dir.child(component);
                    let disk = entry.disk.as_deref().unwrap_or(component.as_bytes());
                    // One that is gone or replaced by something else meanwhile isn't listed.
                    if let Some(stat) = meta::stat_at(&stat_dir, OsStr::from_bytes(disk), OP, &key)?
                        && stat.is_file()
                    {
                        page.files.push(stat.meta(&key));
                    }
                }
            }
        }
        if to < snapshot.entries.len() && to > from {
            page.next = Some(ListToken(format!(
                "{:x}/{}",
                snapshot.id,
                snapshot.entries[to - 1].component
            )));
            self.listings.keep(&snapshot);
        } else {
            self.listings.drop(snapshot.id);
        }
        Ok(page)
    }
}

fn read(mut open: Dir, dir: &ObjectKey) -> Result<Vec<Entry>> {
    const OP: &str = "list";
    let mut found = Vec::new();
    for entry in open.iter() {
        let entry = entry.map_err(|errno| errno_error(OP, dir, errno))?;
        let disk = entry.file_name().to_bytes();
        if disk == b"." || disk == b".." {
            continue;
        }
        let Some(component) = from_disk(OsStr::from_bytes(disk)) else {
            continue;
        };
        let differs = (component.as_bytes() != disk).then(|| disk.into());
        found.push((component, differs, entry.file_type()));
    }
    let mut entries = Vec::with_capacity(found.len());
    for (component, disk, kind) in found {
        let kind = match kind {
            Some(Type::File) => Kind::File,
            Some(Type::Directory) => Kind::Directory,
            Some(_) => Kind::Special,
            None => {
                let name: &[u8] = disk.as_deref().unwrap_or(component.as_bytes());
                match meta::stat_at(&open, OsStr::from_bytes(name), OP, dir)? {
                    Some(stat) if stat.is_file() => Kind::File,
                    Some(stat) if stat.is_dir() => Kind::Directory,
                    Some(_) => Kind::Special,
                    None => continue,
                }
            }
        };
        let component = if kind == Kind::Directory {
            format!("{component}/")
        } else {
            component
        };
        entries.push(Entry {
            component: component.into(),
            kind,
            disk,
        });
    }
    entries.sort_unstable();
    Ok(entries)
}
