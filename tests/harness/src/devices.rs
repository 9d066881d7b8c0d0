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
    _home: TempDir,
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
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(bytes).expect("a sparse image");
        run(Command::new("mkfs.ext4").arg("-q").arg(&image), TOOL_LIMIT).success();
        let mut attach = Command::new("mount");
        run(
            attach.args(["-o", "loop"]).arg(&image).arg(&device.at),
            TOOL_LIMIT,
        )
        .success();
        device
    }

    fn at_new_place() -> Self {
        let home = scratch();
        let at = home.path().join("fs");
        std::fs::create_dir(&at).expect("a folder");
        Self { at, _home: home }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
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
