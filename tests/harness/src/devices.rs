//! Small file systems for cache directories that fill up, can't be written, or are of another kind.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::files::scratch;
use crate::process::run;

const TOOL_LIMIT: Duration = Duration::from_secs(60);

/// A file system of the test's own, detached when the guard goes.
#[derive(Debug)]
pub struct Device {
    at: PathBuf,
    /// The folder in it that is to be used, if not all of it.
    below: Option<PathBuf>,
    _home: TempDir,
}

/// Runs a tool that need not be there, nor able to do it.
fn tried(command: &mut Command) -> Result<(), String> {
    let said = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    match said.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&said.stderr).trim()
        )),
    }
}

impl Device {
    /// A tmpfs of this size.
    pub fn tmpfs(bytes: u64) -> Self {
        let device = Self::at_new_place();
        let options = format!("size={bytes}");
        mount(
            Some("tmpfs"),
            &device.at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .expect("a tmpfs");
        device
    }

    /// An ext4 on a loop device of this size.
    pub fn ext4(bytes: u64) -> Self {
        let device = Self::at_new_place();
        let image = device.at.with_file_name("image");
        Self::ext4_in(device, &image, bytes)
    }

    /// An ext4 on a loop device of this size whose image is on another device: what does not fit there can't be
    /// written, and the kernel says EIO.
    pub fn ext4_on(carrier: &Device, bytes: u64) -> Self {
        Self::ext4_in(Self::at_new_place(), &carrier.at.join("image"), bytes)
    }

    /// Mounts the image of [`Device::ext4_on`] again, after the one before is gone.
    pub fn ext4_again_on(carrier: &Device) -> Self {
        let device = Self::at_new_place();
        device.attach(&carrier.at.join("image"));
        device
    }

    /// A folder on a btrfs on a loop device, where no more than `quota` bytes can be. What the tools and the kernel
    /// say, where there is no such thing.
    pub fn btrfs_with_quota(bytes: u64, quota: u64) -> Result<Self, String> {
        let mut device = Self::at_new_place();
        let image = device.at.with_file_name("image");
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(bytes).expect("a sparse image");
        let whole = device.at.clone();
        let limited = whole.join("limited");
        let mut mkfs = Command::new("mkfs.btrfs");
        tried(mkfs.arg("-q").arg(&image))?;
        let mut mount = Command::new("mount");
        tried(mount.args(["-o", "loop"]).arg(&image).arg(&whole))?;
        let btrfs = || Command::new("btrfs");
        tried(btrfs().args(["quota", "enable"]).arg(&whole))?;
        tried(btrfs().args(["subvolume", "create"]).arg(&limited))?;
        let limit = quota.to_string();
        tried(btrfs().args(["qgroup", "limit", &limit]).arg(&limited))?;
        device.below = Some(limited);
        Ok(device)
    }

    /// Gives a tmpfs another size.
    pub fn resize_tmpfs(&self, bytes: u64) {
        let none = None::<&str>;
        let options = format!("size={bytes}");
        mount(
            none,
            &self.at,
            none,
            MsFlags::MS_REMOUNT,
            Some(options.as_str()),
        )
        .expect("a tmpfs");
    }

    /// Unmounts it, once nobody uses it any more.
    pub fn unmount(self) {
        crate::wait_until("nobody uses it", TOOL_LIMIT, || {
            umount2(&self.at, MntFlags::empty()).is_ok()
        });
    }

    fn ext4_in(device: Self, image: &Path, bytes: u64) -> Self {
        let file = std::fs::File::create(image).expect("an image");
        file.set_len(bytes).expect("a sparse image");
        run(Command::new("mkfs.ext4").arg("-q").arg(image), TOOL_LIMIT).success();
        device.attach(image);
        device
    }

    fn attach(&self, image: &Path) {
        let mut attach = Command::new("mount");
        run(
            attach.args(["-o", "loop"]).arg(image).arg(&self.at),
            TOOL_LIMIT,
        )
        .success();
    }

    fn at_new_place() -> Self {
        let home = scratch();
        let at = home.path().join("fs");
        std::fs::create_dir(&at).expect("a folder");
        Self {
            at,
            below: None,
            _home: home,
        }
    }

    /// Where it is mounted, or the folder in it that is to be used.
    pub fn path(&self) -> &Path {
        self.below.as_deref().unwrap_or(&self.at)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

/// The same folder seen through a mount that can't be written.
pub fn read_only_view(of: &Path) -> Device {
    let device = Device::at_new_place();
    let none = None::<&str>;
    mount(Some(of), &device.at, none, MsFlags::MS_BIND, none).expect("a bind mount");
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(none, &device.at, none, flags, none).expect("a read-only remount");
    device
}
