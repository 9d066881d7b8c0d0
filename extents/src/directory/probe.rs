//! What the file system of the cache directory can do, found out by doing it.
//!
//! Everything is tried on a scratch file in the cache directory itself, because the answers depend on
//! mount options, block size, huge pages and the device, not on a name. The scratch file has no name
//! after its creation, so that nothing is left behind by a crash.
//!
//! The granule, the unit of residency, is what becomes data when one byte is written in the middle of a
//! hole, before and after the bytes have reached the disk; it is at least 4 KiB, the unit of the page
//! cache and of direct I/O. A file system that reports everything as data (ramfs), or can't punch holes,
//! or has a granule above 4 MiB is refused: residency would mean nothing there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};

use crate::file::residency;
use crate::io::buffer::{ALIGN, Buffer};
use crate::io::sys;
use crate::{Error, Result};

const GRANULE_MAX: u64 = 4 << 20;
/// Not a multiple of anything likely, inside a large aligned hole.
const PROBE_AT: u64 = 12 * (1 << 20) + 12_345;
const PROBE_LEN: u64 = 32 << 20;

/// Answers of the probe.
pub(super) struct Answers {
    pub granule: u64,
    pub direct: bool,
    pub reflink: bool,
}

/// Refuses file systems whose bytes are not on this machine, or are served by a user-space process.
pub(super) fn refuse_network(dir: &Path) -> Result<()> {
    let answer =
        nix::sys::statfs::statfs(dir).map_err(|error| Error::io("statfs", dir.display(), error))?;
    match network_kind(answer.filesystem_type().0 as u32) {
        Some(kind) => Err(Error::NetworkFilesystem {
            dir: dir.to_owned(),
            kind,
        }),
        None => Ok(()),
    }
}

/// Magic numbers of `statfs(2)` and of the kernel's `magic.h`.
fn network_kind(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB/CIFS",
        0x6573_5546 => "FUSE",
        0x0102_1997 => "9P",
        0x00c3_6400 => "Ceph",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x7461_636f => "OCFS2",
        0x0116_1970 => "GFS2",
        0x1983_0326 => "BeeGFS",
        0x2003_0528 => "OrangeFS",
        0xaad7_aaea => "PanFS",
        0x786f_4256 => "a VirtualBox shared folder",
        0x564c => "NCP",
        _ => return None,
    })
}

/// Tries everything on a scratch file.
pub(super) fn probe(dir: &Path) -> Result<Answers> {
    let scratch = scratch(dir).map_err(|source| Error::NotWritable {
        dir: dir.to_owned(),
        source,
    })?;
    // A full disk says nothing about holes.
    let byte_written = write_byte(&scratch);
    byte_written.map_err(|error| Error::io("probing", dir.display(), error))?;
    let granule = granule(&scratch).map_err(|why| Error::NoHoles {
        dir: dir.to_owned(),
        why,
    })?;
    let direct = try_direct(&scratch).unwrap_or(false);
    let reflink =
        self::scratch(dir).is_ok_and(|copy| sys::reflink(scratch.as_fd(), copy.as_fd()).is_ok());
    Ok(Answers {
        granule,
        direct,
        reflink,
    })
}

/// An open file without a name. Made with a name and unlinked, rather than with O_TMPFILE, because
/// making names is what has to work here.
fn scratch(dir: &Path) -> io::Result<File> {
    let path = dir.join(format!("probe-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Inside a large hole.
fn write_byte(file: &File) -> io::Result<()> {
    file.set_len(PROBE_LEN)?;
    file.write_all_at(b"x", PROBE_AT)
}

/// Of a file with one byte written.
fn granule(file: &File) -> std::result::Result<u64, String> {
    let say = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let mut granule = ALIGN as u64;
    for synced in [false, true] {
        if synced {
            file.sync_data().map_err(say("fdatasync"))?;
        }
        let map = residency::scan(file).map_err(say("SEEK_DATA"))?;
        let Some(run) = map.get(&PROBE_AT) else {
            return Err("SEEK_DATA doesn't see a byte that was written".to_owned());
        };
        // The smallest aligned power of two around the byte that covers the whole run.
        while PROBE_AT / granule * granule > run.start
            || (PROBE_AT / granule + 1) * granule < run.end
        {
            granule *= 2;
            if granule > GRANULE_MAX {
                return Err(format!(
                    "one byte written makes {} bytes data",
                    run.end - run.start
                ));
            }
        }
    }
    let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(file, mode, 0, PROBE_LEN as i64)
        .map_err(|error| format!("punching a hole: {error}"))?;
    match residency::scan(file).map_err(say("SEEK_DATA"))?.is_empty() {
        true => Ok(granule),
        false => Err("a punched hole still counts as data".to_owned()),
    }
}

/// Writes and reads 4 KiB past the page cache.
fn try_direct(scratch: &File) -> io::Result<bool> {
    let direct = reopen_direct(scratch)?;
    let mut buffer = Buffer::unpooled(ALIGN)?;
    buffer.fill(0x5a);
    direct.write_all_at(&buffer, PROBE_LEN / 2)?;
    buffer.fill(0);
    direct.read_exact_at(&mut buffer, PROBE_LEN / 2)?;
    Ok(buffer.iter().all(|&byte| byte == 0x5a))
}

/// A second descriptor of the same file, with O_DIRECT; works for files without a name as well.
pub(crate) fn reopen_direct(file: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_by_their_magic_and_local_ones_are_not() {
        for magic in [0x6969, 0xff53_4d42, 0x6573_5546, 0x0102_1997, 0x00c3_6400] {
            assert!(network_kind(magic).is_some(), "{magic:x}");
        }
        // ext4, XFS, btrfs, tmpfs, overlay.
        for magic in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630] {
            assert!(network_kind(magic).is_none(), "{magic:x}");
        }
    }
}
