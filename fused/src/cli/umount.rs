//! `fused umount DIR`: takes the mount away and waits until its daemon has ended, so that the cache directory
//! is free for the next mount when the command returns.
//!
//! The mount point is looked up in mountinfo and never touched, because a mount whose daemon hangs would hang
//! us too. The control connection is made *before* the unmount; its end is the end of the daemon's process.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::args::Umount;
use super::{Error, output};
use crate::control::client::Client;
use crate::control::mounts;

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
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    if args.lazy {
        flags |= MntFlags::MNT_DETACH;
    }
    match umount2(&dir, flags) {
        Ok(()) => {}
        Err(Errno::EPERM) => by_fusermount(&dir, args.lazy)?,
        Err(Errno::EBUSY) => return Err(busy(&dir)),
        Err(errno) => {
            return Err(Error::path(
                &dir,
                format!("can't be unmounted: {}", errno.desc()),
            ));
        }
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
