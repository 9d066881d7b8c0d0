//! A file system on a loop device, and its power cut.
//!
//! The cut is the file system's own shutdown ioctl without a log flush, as xfstests does it: from one
//! instant to the next nothing more reaches the device, neither data nor journal, and every call
//! fails. What was not synced is gone with the page cache at the unmount; the next mount replays the
//! journal. The image is an ordinary sparse file on the machine's disk.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{run, scratch};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

const TOOL_LIMIT: Duration = Duration::from_secs(60);

/// How long the last users of a dead file system may take to let go of it.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(60);

/// No data, no log: as if the power had failed.
const NO_LOG_FLUSH: u32 = 2;

/// A kind of local file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ext4 with its journal, data=ordered.
    Ext4,
    /// XFS.
    Xfs,
}

/// A mounted image, detached when the guard goes.
#[derive(Debug)]
pub struct Image {
    kind: Kind,
    file: PathBuf,
    at: PathBuf,
    mounted: bool,
    home: Option<TempDir>,
}

impl Image {
    /// A new one of this size.
    pub fn new(kind: Kind, bytes: u64) -> Self {
        let home = scratch();
        let (file, at) = (home.path().join("image"), home.path().join("disk"));
        fs::create_dir(&at).expect("a folder");
        let sparse = File::create(&file).expect("an image");
        sparse.set_len(bytes).expect("a sparse image");
        let mut make = match kind {
            Kind::Ext4 => Command::new("mkfs.ext4"),
            Kind::Xfs => Command::new("mkfs.xfs"),
        };
        run(make.arg("-q").arg(&file), TOOL_LIMIT).success();
        let mut image = Self {
            kind,
            file,
            at,
            mounted: false,
            home: Some(home),
        };
        image.mount();
        image
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Cuts the power. Everything that is not on the device by now will never be.
    pub fn cut(&self) {
        let root = File::open(&self.at).expect("the image's root");
        shutdown::without_log_flush(root.as_raw_fd(), NO_LOG_FLUSH)
            .unwrap_or_else(|error| panic!("{:?} can't be shut down: {error}", self.kind));
    }

    /// After a cut, when nobody uses it any more: unmounts, and mounts again, replaying the journal.
    pub fn replay(&mut self) {
        let began = Instant::now();
        loop {
            match umount2(&self.at, MntFlags::empty()) {
                Ok(()) => break,
                Err(Errno::EBUSY) if began.elapsed() < UNMOUNT_LIMIT => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => panic!("unmounting {}: {error}", self.at.display()),
            }
        }
        self.mounted = false;
        self.mount();
    }

    fn mount(&mut self) {
        let mut attach = Command::new("mount");
        attach.args(["-o", "loop"]).arg(&self.file).arg(&self.at);
        run(&mut attach, TOOL_LIMIT).success();
        self.mounted = true;
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if !self.mounted {
            return;
        }
        // The loop device goes with its last user.
        let detached = umount2(&self.at, MntFlags::MNT_DETACH);
        if detached.is_err()
            && let Some(home) = self.home.take()
        {
            // Removing the folder would empty the image.
            std::mem::forget(home);
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "said at the call")]
mod shutdown {
    use std::os::fd::RawFd;

    // FS_IOC_SHUTDOWN of the kernel's uapi; ext4, XFS, f2fs and btrfs have the same number.
    nix::ioctl_read!(fs_ioc_shutdown, b'X', 125, u32);

    pub(super) fn without_log_flush(root: RawFd, mut flags: u32) -> nix::Result<()> {
        // SAFETY: the descriptor is open during the call, and the kernel only reads the u32.
        unsafe { fs_ioc_shutdown(root, &raw mut flags) }.map(drop)
    }
}
