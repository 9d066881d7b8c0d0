//! The same run on the mount and on a local folder.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use harness::{Mount, Way, fused, scratch};
use tempfile::TempDir;

use crate::portrait::{Portrait, Times};

/// Where the same was done twice.
pub struct Twins {
    local: TempDir,
    mount: Mount,
}

impl Twins {
    /// Does the work in an empty folder on the local disk and in an empty folder on the mount; panics
    /// unless it says the same in both.
    #[track_caller]
    pub fn at_work(way: &Way, work: impl Fn(&Path) -> String) -> Self {
        let (local, mount) = (scratch(), way.mount());
        let place = |base: &Path| -> PathBuf {
            let place = base.join("work");
            std::fs::create_dir(&place).unwrap();
            place
        };
        let expected = work(&place(local.path()));
        let said = work(&place(mount.path()));
        assert_eq!(said, expected, "on the mount, and on the local disk");
        Self { local, mount }
    }

    /// The folder on the local disk.
    pub fn local(&self) -> PathBuf {
        self.local.path().join("work")
    }

    /// The mount; the folder on it is called `work`.
    pub fn mount(&self) -> &Mount {
        &self.mount
    }

    /// Panics unless both trees are the same: now, after the local copies of the mount's files were given
    /// up, and after the next mount.
    #[track_caller]
    pub fn stay_alike(self, times: Times) {
        let expected = Portrait::of(&self.local(), times);
        expected.same_as(&Portrait::of(&self.mount.join("work"), times));
        self.mount.sync();
        fused([OsStr::new("free"), self.mount.path().as_os_str()]).success();
        expected.same_as(&Portrait::of(&self.mount.join("work"), times));
        let again = self.mount.unmount().start();
        expected.same_as(&Portrait::of(&again.join("work"), times));
    }
}
