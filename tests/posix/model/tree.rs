//! A whole folder, as the superuser finds it at the end of a sequence.

use std::collections::BTreeMap;

use nix::libc;
use rustix::fs::{self, AtFlags, CWD, OFlags};

use crate::operation::{Place, Target, at, bytes_of, text_of};
use crate::outcome::{Attributes, Entry, Outcome, Summary};
use crate::side::{Side, Stop};

/// Every name of the folder with everything that is known about it, in order; the folder is ".".
///
/// All attributes are taken before the first file is opened: opening may be what mends them.
pub fn snapshot(side: &Side) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut first_names = BTreeMap::new();
    let mut pending = vec![".".to_owned()];
    while let Some(path) = pending.pop() {
        let stat = fs::statat(CWD, bytes_of(&path), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| format!("stat of {path}: {errno}"))?;
        let name = Target::Link(at(&path));
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            let listed = side.list(&name).map_err(|stop| told("list", &path, stop))?;
            let listed = listed.iter().filter_map(|entry| entry.rsplit_once(' '));
            let below = listed.filter(|(entry, _)| !matches!(*entry, "." | ".."));
            pending.extend(below.map(|(entry, _)| format!("{path}/{entry}")));
            // In order, whatever order the directory is read in.
            pending.sort_by(|a, b| b.cmp(a));
        }
        let same_as = first_names
            .entry(stat.st_ino)
            .or_insert_with(|| path.clone());
        entries.push(Entry {
            same_as: same_as.clone(),
            about: Attributes::of(&stat),
            content: Outcome::Nothing,
            xattrs: Vec::new(),
            path,
        });
    }
    for entry in &mut entries {
        let place = at(&entry.path);
        entry.content = content(&place, &entry.about);
        let link = Target::Link(place);
        let names = side
            .xattrs(&link)
            .map_err(|stop| told("xattrs", &entry.path, stop))?;
        for name in names {
            let value = match side.xattr(&link, &name) {
                Ok(value) => Outcome::Bytes(Summary::of(value)),
                Err(_) => Outcome::Wrong("listed, but not there".to_owned()),
            };
            entry.xattrs.push((name, value));
        }
    }
    Ok(entries)
}

fn content(place: &Place, about: &Attributes) -> Outcome {
    let path = bytes_of(&place.path);
    let read = || -> rustix::io::Result<Outcome> {
        if about.mode.starts_with("symlink") {
            let link = fs::readlinkat(CWD, &path, Vec::new())?;
            return Ok(Outcome::Text(text_of(link.as_bytes())));
        }
        if !about.mode.starts_with("file") {
            return Ok(Outcome::Nothing);
        }
        let fd = fs::openat(CWD, &path, OFlags::CLOEXEC | OFlags::NOFOLLOW, 0.into())?;
        // One byte more than the size: the end is where it should be.
        let mut bytes = vec![0; about.size as usize + 1];
        let mut count = 0;
        while count < bytes.len() {
            match rustix::io::read(&fd, &mut bytes[count..])? {
                0 => break,
                more => count += more,
            }
        }
        bytes.truncate(count);
        Ok(Outcome::Bytes(Summary::of(bytes)))
    };
    read().unwrap_or_else(|errno| Outcome::Wrong(format!("can't be read: {errno}")))
}

fn told(what: &str, path: &str, stop: Stop) -> String {
    match stop {
        Stop::Empty => format!("{what} of {path}: nothing"),
        Stop::Refused(errno) => format!("{what} of {path}: {errno}"),
    }
}
