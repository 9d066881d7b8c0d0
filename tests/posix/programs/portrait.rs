//! All that a tree is to the programs that copy trees, in a form that compares and prints.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::{digest_of, run};

/// Whether the times of modification count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    Compared,
    Ignored,
}

/// Names, with what each of them is.
pub struct Portrait(BTreeMap<Vec<u8>, String>);

impl Portrait {
    /// Everything below `base`; two folders of different trees give the same if they hold the same.
    pub fn of(base: &Path, times: Times) -> Self {
        let mut found = BTreeMap::new();
        let mut first_names: HashMap<u64, Vec<u8>> = HashMap::new();
        let attributes = extended_attributes(base);
        let mut pending = vec![base.to_owned()];
        while let Some(directory) = pending.pop() {
            let entries = fs::read_dir(&directory).unwrap();
            let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            for path in paths {
                let about = path.symlink_metadata().unwrap();
                let name = path
                    .strip_prefix(base)
                    .unwrap()
                    .as_os_str()
                    .as_bytes()
                    .to_vec();
                let mut what = kind(&path, &about);
                what += &format!(
                    " {:o} {}:{}",
                    about.mode() & 0o7777,
                    about.uid(),
                    about.gid()
                );
                if times == Times::Compared {
                    what += &format!(" {}.{:09}", about.mtime(), about.mtime_nsec());
                }
                if about.is_dir() {
                    pending.push(path.clone());
                } else if about.nlink() > 1 {
                    let first = first_names
                        .entry(about.ino())
                        .or_insert_with(|| name.clone());
                    let first = String::from_utf8_lossy(first);
                    what += &format!(" {} links, like {first}", about.nlink());
                }
                if let Some(attributes) = attributes.get(&name) {
                    what += &format!(" {attributes}");
                }
                found.insert(name, what);
            }
        }
        Self(found)
    }

    /// The same without what this says of.
    pub fn without(mut self, left_out: impl Fn(&str) -> bool) -> Self {
        self.0.retain(|_, what| !left_out(what));
        self
    }

    /// Panics unless both are the same; says where not.
    #[track_caller]
    pub fn same_as(&self, other: &Self) {
        for name in self.0.keys().chain(other.0.keys()) {
            let shown = String::from_utf8_lossy(name);
            assert_eq!(other.0.get(name), self.0.get(name), "{shown}");
        }
    }
}

fn kind(path: &Path, about: &fs::Metadata) -> String {
    let file_type = about.file_type();
    if file_type.is_dir() {
        "directory".to_owned()
    } else if file_type.is_symlink() {
        format!("link to {:?}", fs::read_link(path).unwrap())
    } else if file_type.is_fifo() {
        "fifo".to_owned()
    } else if file_type.is_socket() {
        "socket".to_owned()
    } else if file_type.is_char_device() {
        format!("character device {:x}", about.rdev())
    } else if file_type.is_block_device() {
        format!("block device {:x}", about.rdev())
    } else {
        format!("file of {} bytes, {}", about.len(), digest_of(path))
    }
}

/// By name below `base`, as getfattr prints them.
fn extended_attributes(base: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut getfattr = Command::new("getfattr");
    getfattr
        .args(["-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "."])
        .current_dir(base);
    let said = run(&mut getfattr, Duration::from_secs(120)).success();
    let mut found = BTreeMap::new();
    for block in said.split("\n\n") {
        let mut lines = block.lines();
        let Some(name) = lines.next().and_then(|line| line.strip_prefix("# file: ")) else {
            continue;
        };
        let mut values: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        values.sort_unstable();
        found.insert(unescaped(name), values.join(" "));
    }
    found
}

/// getfattr writes other bytes than printable ones as `\ooo`.
fn unescaped(name: &str) -> Vec<u8> {
    let bytes = name.as_bytes();
    let (mut plain, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let octal = bytes
            .get(at + 1..at + 4)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let code = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (bytes[at], code) {
            (b'\\', Some(code)) => {
                plain.push(code);
                at += 4;
            }
            (byte, _) => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    plain
}
