//! `fused umount DIR`: takes the mount away and waits until its daemon has ended, so that the cache directory
//! is free for the next mount when the command returns.
//!
//! The mount point is looked up in mountinfo and never touched, because a mount whose daemon hangs would hang
//! us too. The control connection is made *before* the unmount; its end is the end of the daemon's process.
//!
//! `--flush` waits for the store first, as long as that takes; then it has the kernel refuse further changes and
//! looks once more, so that nothing slips in between the wait and the unmount.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::args::Umount;
use super::sync::Waiting;
use super::{Error, output};
use crate::control::client::Client;
use crate::control::mounts::{self, Mount};
use crate::control::protocol::WirePath;

/// After this long the user is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// The daemon waits for open transactions only; after this long something is wrong.
const DAEMON_END_MAX: Duration = Duration::from_secs(120);

/// Runs the command.
pub(super) fn run(args: &Umount) -> Result<(), Error> {
    let mounts =
        mounts::read().map_err(|error| Error::path("/proc/self/mountinfo", error.to_string()))?;
    let dir = mounts::resolve_mountpoint(&mounts, &args.dir)
        .map_err(|error| Error::path(&args.dir, error.to_string()))?;
    let Some(mount) = mounts::at(&mounts, &dir) else {
        return Err(Error::path(&args.dir, "nothing is mounted here"));
    };
    if !mount.is_fused() {
        return Err(Error::path(
            &args.dir,
            format!(
                "this is a mount of type {}, not a fused one: use umount(8)",
                mount.fs_type
            ),
        ));
    }

    let daemon = Client::connect(mount).ok();
    let frozen = match args.flush {
        true => Some(flush(mount, args)?),
        false => None,
    };
    unmount(&dir, args.lazy)?;
    if let Some(frozen) = frozen {
        frozen.stays();
    }
    // A lazy unmount ends when the last program closes its last file: that is not waited for. Nor is the
    // daemon of a mount that is still to be seen somewhere else (a bind mount, another namespace).
    let elsewhere = mounts::read().is_ok_and(|mounts| {
        mounts
            .iter()
            .any(|other| (other.major, other.minor) == (mount.major, mount.minor))
    });
    match daemon {
        Some(daemon) if !args.lazy && !elsewhere => wait_for_end(daemon),
        _ => Ok(()),
    }
}

fn unmount(dir: &Path, lazy: bool) -> Result<(), Error> {
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    if lazy {
        flags |= MntFlags::MNT_DETACH;
    }
    match umount2(dir, flags) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) => by_fusermount(dir, lazy),
        Err(Errno::EBUSY) => Err(busy(dir)),
        Err(errno) => Err(Error::path(
            dir,
            format!("can't be unmounted: {}", errno.desc()),
        )),
    }
}

/// Waits until everything is in the store; an error tells what is not. Nothing changes any more then.
fn flush(mount: &Mount, args: &Umount) -> Result<Frozen, Error> {
    let everything = || vec![WirePath::from(Path::new(""))];
    let mut waiting = Waiting::new(args.timeout, args.json);
    let frozen = match waiting.wait(mount, everything())? {
        true => {
            let frozen = Frozen::freeze(&mount.mountpoint)?;
            waiting.wait(mount, everything())?;
            Some(frozen)
        }
        false => None,
    };
    waiting.tell()?;
    frozen.ok_or(Error::Told { exit_code: 1 })
}

/// A mount that takes no changes; it takes them again when this goes.
struct Frozen {
    dir: PathBuf,
    /// As it was, if it could be changed.
    flags: Option<MsFlags>,
}

impl Frozen {
    fn freeze(dir: &Path) -> Result<Frozen, Error> {
        let mut frozen = Frozen {
            dir: dir.to_owned(),
            flags: None,
        };
        let flags = flags_of(dir).map_err(|errno| Error::path(dir, errno.desc()))?;
        match remount(dir, flags | MsFlags::MS_RDONLY) {
            Ok(()) => frozen.flags = Some(flags),
            Err(Errno::EBUSY) => return Err(busy(dir)),
            // Only root can; others unmount a moment after the wait.
            Err(Errno::EPERM) => {}
            Err(errno) => {
                return Err(Error::path(
                    dir,
                    format!("can't be made read-only: {}", errno.desc()),
                ));
            }
        }
        Ok(frozen)
    }

    /// It is unmounted: nothing is to be undone.
    fn stays(mut self) {
        self.flags = None;
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(flags) = self.flags
            && let Err(errno) = remount(&self.dir, flags)
        {
            output::complain(&format!(
                "{} stays read-only ({}): mount it again",
                self.dir.display(),
                errno.desc()
            ));
        }
    }
}

fn remount(dir: &Path, flags: MsFlags) -> nix::Result<()> {
    let none = None::<&str>;
    mount(none, dir, none, flags | MsFlags::MS_REMOUNT, none)
}

/// The mount's flags, which remounting would forget.
fn flags_of(dir: &Path) -> nix::Result<MsFlags> {
    let now = statvfs(dir)?.flags();
    let pairs = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_SYNCHRONOUS, MsFlags::MS_SYNCHRONOUS),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let set = pairs.into_iter().filter(|(flag, _)| now.contains(*flag));
    Ok(set.fold(MsFlags::empty(), |flags, (_, flag)| flags | flag))
}

fn busy(dir: &Path) -> Error {
    let dir_text = dir.display();
    Error::path(
        dir,
        format!(
            "in use: `fuser -vm {dir_text}` shows by whom; `fused umount --lazy {dir_text}` takes it away now and \
             ends it when they are done"
        ),
    )
}

fn wait_for_end(mut daemon: Client) -> Result<(), Error> {
    if daemon.wait_for_end(PATIENCE) {
        return Ok(());
    }
    let who = daemon
        .daemon_pid()
        .map_or_else(String::new, |pid| format!(" (process {pid})"));
    output::complain(&format!(
        "unmounted; waiting for the daemon{who} to close its journal"
    ));
    if daemon.wait_for_end(DAEMON_END_MAX) {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "unmounted, but the daemon{who} has not ended after {} s; its log may tell why",
        DAEMON_END_MAX.as_secs()
    )))
}

/// Unmounts as an ordinary user, who needs FUSE's set-user-id helper for that.
pub(super) fn by_fusermount(dir: &Path, lazy: bool) -> Result<(), Error> {
    let mut command = Command::new("fusermount3");
    command.arg("-u");
    if lazy {
        command.arg("-z");
    }
    let output = command
        .arg("--")
        .arg(dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Error::path(
                dir,
                format!("not root, and fusermount3 (Debian: fuse3) can't be run: {error}"),
            )
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("busy") {
        return Err(busy(dir));
    }
    Err(Error::path(
        dir,
        format!("can't be unmounted: {}", said.trim()),
    ))
}
