//! The mounts of this machine, as `/proc/self/mountinfo` tells them.
//!
//! Nothing here touches a mount point: a `stat` of a mount whose daemon hangs would hang as well. A mount of
//! ours is known by its type, `fuse.fused`; its device numbers name its control socket.
//!
//! A line of mountinfo (proc(5)):
//!
//! ```text
//! 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//! id parent maj:min root mountpoint options [tags...] - type source super-options
//! ```
//!
//! Space, tab, newline and backslash in a field are written as a backslash and three octal digits.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The file system type of our mounts.
pub const FS_TYPE: &str = "fuse.fused";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Device number, first part.
    pub major: u32,
    /// Device number, second part.
    pub minor: u32,
    /// Which directory of the file system is mounted (other than `/` for a bind mount).
    pub root: PathBuf,
    /// Where.
    pub mountpoint: PathBuf,
    /// The type, such as `ext4` or `fuse.fused`.
    pub fs_type: String,
    /// What is mounted; for ours, the URL.
    pub source: String,
    /// The user whose daemon it is, for FUSE mounts.
    pub owner: u32,
}

impl Mount {
    /// Whether it is one of ours.
    pub fn is_fused(&self) -> bool {
        self.fs_type == FS_TYPE
    }

    /// The path inside the file system (relative to its root) of a path below this mount.
    pub fn inside(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(&self.mountpoint).ok()?;
        let root = self.root.strip_prefix("/").unwrap_or(&self.root);
        // Joining an empty path would append a slash.
        Some(if below.as_os_str().is_empty() {
            root.to_owned()
        } else {
            root.join(below)
        })
    }
}

/// Every mount that this process can see, in the order of mounting.
///
/// # Errors
///
/// `/proc` isn't there.
pub fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// Reads the text of mountinfo; lines of another form are left out.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let root = path(fields.next()?);
    let mountpoint = path(fields.next()?);
    fields.by_ref().find(|field| *field == b"-")?;
    let fs_type = String::from_utf8_lossy(&unescape(fields.next()?)).into_owned();
    let source = String::from_utf8_lossy(&unescape(fields.next()?)).into_owned();
    let super_options = String::from_utf8_lossy(fields.next().unwrap_or_default()).into_owned();
    let owner = super_options
        .split(',')
        .find_map(|option| option.strip_prefix("user_id="));
    Some(Mount {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        root,
        mountpoint,
        fs_type,
        source,
        owner: owner.and_then(|uid| uid.parse().ok()).unwrap_or(0),
    })
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

/// `\040` to a space, and so on for every three octal digits behind a backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail
            .split_at_checked(3)
            .filter(|_| first == b'\\')
            .and_then(|(digits, tail)| {
                let digits = std::str::from_utf8(digits).ok()?;
                let octal = digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
                Some((u8::from_str_radix(digits, 8).ok().filter(|_| octal)?, tail))
            });
        match escaped {
            Some((byte, tail)) => {
                out.push(byte);
                rest = tail;
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

/// The mount that one sees at exactly this path: the last one mounted there.
pub fn at<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts.iter().rev().find(|mount| mount.mountpoint == path)
}

/// The mount that an absolute path without symbolic links is in: the longest mount point that begins it,
/// and of several there the last.
pub fn containing<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.mountpoint))
        .max_by_key(|mount| mount.mountpoint.components().count())
}

/// The path of a mount point as mountinfo writes it, without touching the mount: symbolic links are
/// followed in its parent only, and in itself only when it is no mount point.
///
/// # Errors
///
/// The parent doesn't exist or can't be entered.
pub fn resolve_mountpoint(mounts: &[Mount], path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    // `absolute` leaves a trailing slash, which comparing component by component takes away.
    let absolute: PathBuf = absolute.components().collect();
    if at(mounts, &absolute).is_some() {
        return Ok(absolute);
    }
    if let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) {
        let real = parent.canonicalize()?.join(name);
        if at(mounts, &real).is_some() {
            return Ok(real);
        }
    }
    absolute.canonicalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:61 / /mnt/a rw,nosuid,nodev - fuse.fused s3://bucket/a rw,user_id=0,group_id=0,allow_other
31 22 0:62 / /mnt/a\\040b\\134c rw master:1 propagate_from:2 - fuse.fused gs://b rw,user_id=1000
32 30 0:63 / /mnt/a/deep rw - tmpfs tmpfs rw
33 22 0:61 /sub/dir /srv/bind rw - fuse.fused s3://bucket/a rw,user_id=0
34 22 0:64 / /mnt/a rw - fuse.fused s3://bucket/second rw,user_id=0
torn line
";

    fn find(path: &str) -> Option<Mount> {
        containing(&parse(TABLE), Path::new(path)).cloned()
    }

    #[test]
    fn escaped_bytes_of_a_mount_point_are_read() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 6);
        let mount = at(&mounts, Path::new("/mnt/a b\\c")).unwrap();
        assert_eq!((mount.major, mount.minor, mount.owner), (0, 62, 1000));
        assert_eq!(mount.source, "gs://b");
        assert!(mount.is_fused());
    }

    #[test]
    fn a_backslash_without_three_octal_digits_stands_for_itself() {
        assert_eq!(unescape(b"a\\04"), b"a\\04");
        assert_eq!(unescape(b"a\\089"), b"a\\089");
        assert_eq!(unescape(b"\\777"), b"\\777");
        assert_eq!(unescape(b"\\012\\"), b"\n\\");
    }

    #[test]
    fn a_path_is_in_the_mount_with_the_longest_mount_point() {
        assert_eq!(find("/mnt/a/deep/x").unwrap().fs_type, "tmpfs");
        assert_eq!(find("/mnt/ab").unwrap().fs_type, "ext4");
        assert_eq!(find("/mnt/a b\\c/x").unwrap().source, "gs://b");
    }

    #[test]
    fn of_two_mounts_at_one_place_the_last_is_seen() {
        assert_eq!(find("/mnt/a/x").unwrap().source, "s3://bucket/second");
        assert_eq!(at(&parse(TABLE), Path::new("/mnt/a")).unwrap().minor, 64);
    }

    #[test]
    fn a_path_below_a_bind_mount_is_a_path_inside_the_file_system() {
        let mount = find("/srv/bind/f").unwrap();
        assert_eq!(
            mount.inside(Path::new("/srv/bind/f")),
            Some("sub/dir/f".into())
        );
        assert_eq!(mount.inside(Path::new("/srv/bind")), Some("sub/dir".into()));
        let mount = find("/mnt/a").unwrap();
        assert_eq!(mount.inside(Path::new("/mnt/a")), Some(PathBuf::new()));
        assert_eq!(mount.inside(Path::new("/elsewhere")), None);
    }

    #[test]
    fn this_machine_has_a_root_mount() {
        let mounts = read().unwrap();
        assert!(containing(&mounts, Path::new("/proc/self")).is_some());
    }

    #[test]
    fn a_mount_point_with_a_trailing_slash_is_the_same() {
        let mounts = parse(TABLE);
        assert_eq!(
            resolve_mountpoint(&mounts, Path::new("/mnt/a/")).unwrap(),
            Path::new("/mnt/a")
        );
    }
}
