//! The process that is the daemon: prepares the mount point, starts logging, runs [`crate::daemon::run`].
//!
//! As the child of `fused mount` (`--ready-on-stdout`) it leads a session of its own in `/`, and its standard
//! output and error are one pipe to the parent: until the mount is usable it may say `fused: sentence` there
//! and exit; then it writes the line `ready` and points both at `/dev/null`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use tracing::{info, warn};

use super::{Error, logging};
use crate::control::client::{self, Client};
use crate::control::mounts::{self, Mount};
use crate::options::MountOptions;

/// What the background daemon says when the mount can be used.
pub(super) const READY: &str = "ready";
/// How long a mount point may take to say whether its daemon is alive.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// More dead mounts on top of each other than anybody has seen.
const STALE_MOUNTS_MAX: usize = 32;

/// Runs the daemon until it is unmounted.
pub(super) fn run(mut options: MountOptions, ready_on_stdout: bool) -> Result<(), Error> {
    if ready_on_stdout {
        leave_the_terminal()?;
    }
    logging::start(&options, ready_on_stdout)?;
    warn_of_readable_secrets(&options);
    options.mountpoint = prepare_mountpoint(&options.mountpoint)?;

    let (outcome, told) = mpsc::channel();
    let ready = move |result: Result<(), String>| {
        if result.is_ok() {
            notify_systemd();
            if ready_on_stdout && let Err(error) = tell_parent() {
                warn!("the process that asked for this mount is gone: {error}");
            }
        }
        // The other end lives until the daemon has ended.
        let _ = outcome.send(result);
    };
    crate::daemon::run(options, Box::new(ready))?;
    match told.try_recv() {
        Ok(Err(sentence)) => Err(Error::Failed(sentence)),
        _ => Ok(()),
    }
}

/// A session without a terminal: closing the one that `fused mount` was typed in must not end the mount.
fn leave_the_terminal() -> Result<(), Error> {
    nix::unistd::setsid()
        .and_then(|_| nix::unistd::chdir("/"))
        .map_err(|errno| {
            Error::Failed(format!(
                "the daemon can't leave the terminal: {}",
                errno.desc()
            ))
        })
}

fn tell_parent() -> io::Result<()> {
    let mut out = io::stdout().lock();
    let told = writeln!(out, "{READY}").and_then(|()| out.flush());
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    told
}

/// sd_notify(3): a unit of `Type=notify` is started when the mount can be used.
fn notify_systemd() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Ok(name) = std::env::var("NOTIFY_SOCKET") else {
        return;
    };
    let address = match name.strip_prefix('@') {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
        None => SocketAddr::from_pathname(&name),
    };
    let sent =
        address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address));
    if let Err(error) = sent {
        warn!("systemd can't be told that the mount is ready: {error}");
    }
}

fn warn_of_readable_secrets(options: &MountOptions) {
    let Some(path) = options
        .config
        .as_deref()
        .filter(|_| !options.store.0.is_empty())
    else {
        return;
    };
    if std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o044 != 0) {
        warn!(
            "{} may hold credentials and can be read by others: chmod 600 it",
            path.display()
        );
    }
}

/// Makes sure that something can be mounted at a directory, and gives its path as mountinfo will write it.
/// Dead mounts of ours (daemon killed) are taken away; a living one is an error.
fn prepare_mountpoint(dir: &Path) -> Result<PathBuf, Error> {
    for _ in 0..STALE_MOUNTS_MAX {
        let mounts = mounts::read()
            .map_err(|error| Error::path("/proc/self/mountinfo", error.to_string()))?;
        let path = mounts::resolve_mountpoint(&mounts, dir)
            .map_err(|error| Error::path(dir, format!("can't mount there: {error}")))?;
        match mounts::at(&mounts, &path) {
            Some(mount) if mount.is_fused() => detach_if_dead(mount)?,
            _ => return check_directory(&path).map(|()| path),
        }
    }
    Err(Error::path(
        dir,
        "there are more dead mounts here than can be right: see `findmnt`",
    ))
}

fn check_directory(path: &Path) -> Result<(), Error> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(Error::path(
            path,
            "can't mount there: it is not a directory",
        )),
        Err(error) => Err(Error::path(path, format!("can't mount there: {error}"))),
    }
}

fn detach_if_dead(mount: &Mount) -> Result<(), Error> {
    let path = &mount.mountpoint;
    let alive = || {
        Error::path(
            path,
            format!(
                "{} is mounted here already: `fused umount` it first",
                mount.source
            ),
        )
    };
    match Client::connect(mount) {
        Ok(_) | Err(client::Error::NotAllowed { .. }) => return Err(alive()),
        Err(_) => {}
    }
    match probe(path) {
        Some(Err(error)) if error.raw_os_error() == Some(libc::ENOTCONN) => {}
        Some(_) => return Err(alive()),
        None => {
            return Err(Error::path(
                path,
                "a mount is here whose daemon hangs: end the daemon, then `fused umount --lazy`",
            ));
        }
    }
    info!(
        "taking away the dead mount of {} at {}",
        mount.source,
        path.display()
    );
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) => super::umount::by_fusermount(path, true),
        Err(errno) => Err(Error::path(
            path,
            format!("the dead mount here can't be taken away: {}", errno.desc()),
        )),
    }
}

/// Looks at a mount point from a thread of its own, because that may hang; `None` = it does.
fn probe(path: &Path) -> Option<io::Result<()>> {
    let (answer, answered) = mpsc::channel();
    let path = path.to_owned();
    std::thread::spawn(move || {
        // Nobody may be waiting any more.
        // statfs(2) always asks the daemon; the attributes of the root may still be cached.
        let _ = answer.send(
            nix::sys::statfs::statfs(&path)
                .map(drop)
                .map_err(io::Error::from),
        );
    });
    answered.recv_timeout(PROBE_TIMEOUT).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_must_be_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        assert_eq!(prepare_mountpoint(dir.path()).unwrap(), real);
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(
            prepare_mountpoint(&file)
                .unwrap_err()
                .to_string()
                .contains("not a directory")
        );
        let error = prepare_mountpoint(&dir.path().join("none"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_mount_point_behind_a_symbolic_link_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(prepare_mountpoint(&link).unwrap(), real);
    }
}
