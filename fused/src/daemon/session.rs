//! The FUSE session: mounting, and the ways it ends.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fuser::{BackgroundSession, Notifier, Session};
use nix::mount::{MntFlags, umount2};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::Error;
use crate::control::mounts;
use crate::front::{self, Front, PassthroughState};
use crate::options::MountOptions;
use crate::vfs::Vfs;

/// How long programs may go on with files that they have open when a signal ends the mount. Below
/// the 90 s after which systemd kills a unit.
const GRACE: Duration = Duration::from_secs(30);

/// A live mount.
pub struct Mounted {
    session: BackgroundSession,
    mountpoint: PathBuf,
    device: (u32, u32),
}

/// Mounts, and answers requests from now on.
pub fn mount(
    options: &MountOptions,
    vfs: Vfs,
    runtime: &Handle,
    passthrough: Arc<PassthroughState>,
) -> Result<Mounted, Error> {
    let mountpoint = options.mountpoint.clone();
    let refused = |source: io::Error| Error::Mount {
        hint: match source.raw_os_error() {
            Some(libc::ENOENT) if !std::path::Path::new("/dev/fuse").exists() => {
                " (there is no /dev/fuse: load the kernel module `fuse`)"
            }
            Some(libc::EPERM | libc::EACCES) => {
                " (mount as root, or install fuse3 and allow this user to open /dev/fuse)"
            }
            _ => "",
        },
        mountpoint: mountpoint.clone(),
        source,
    };
    let front = Front::new(vfs, runtime.clone(), passthrough);
    let config = front::mount_config(options);
    let session = Session::new(front, &mountpoint, &config).map_err(refused)?;
    let session = session.spawn().map_err(refused)?;
    let device = device(&mountpoint).map_err(refused)?;
    front::tune(device.0, device.1);
    Ok(Mounted {
        session,
        mountpoint,
        device,
    })
}

/// The device numbers of the mount, from mountinfo: that asks nothing of the mount itself.
fn device(mountpoint: &std::path::Path) -> io::Result<(u32, u32)> {
    let mounts = mounts::read()?;
    let mount = mounts::at(&mounts, mountpoint).ok_or(io::ErrorKind::NotFound)?;
    Ok((mount.major, mount.minor))
}

impl Mounted {
    /// For invalidations.
    pub fn notifier(&self) -> Notifier {
        self.session.notifier()
    }

    /// Major and minor device number of the mount.
    pub fn device(&self) -> (u32, u32) {
        self.device
    }

    /// Returns when the mount is gone: unmounted, or ended by a signal.
    pub fn wait(self, runtime: &Handle) -> Result<(), Error> {
        let Self {
            session,
            mountpoint,
            device,
        } = self;
        let (ended_sender, ended) = oneshot::channel();
        let waiter = std::thread::Builder::new()
            .name("fused-session".into())
            .spawn(move || {
                // Nobody may be listening any more, after a signal and the grace.
                let _ = ended_sender.send(session.join());
            });
        waiter.map_err(|source| Error::Start {
            what: "the session's thread",
            source,
        })?;
        runtime.block_on(async {
            let mut ended = ended;
            let stopped = tokio::select! {
                ended = &mut ended => return session_result(ended),
                stopped = stop_signal() => stopped,
            };
            tracing::info!(signal = ?stopped.map_err(Error::Session)?, "ending the mount");
            detach(&mountpoint, device);
            tokio::select! {
                ended = &mut ended => session_result(ended),
                _ = stop_signal() => {
                    tracing::warn!("a second signal: not waiting for programs that have files open");
                    Ok(())
                }
                () = tokio::time::sleep(GRACE) => {
                    tracing::warn!("programs still have files open; their further writes fail");
                    Ok(())
                }
            }
        })
    }
}

fn session_result(ended: Result<io::Result<()>, oneshot::error::RecvError>) -> Result<(), Error> {
    match ended {
        Ok(Err(error)) => Err(Error::Session(error)),
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

async fn stop_signal() -> io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Takes the mount out of the tree; what is open stays usable until it is closed.
fn detach(mountpoint: &std::path::Path, device: (u32, u32)) {
    // Only our own mount: somebody may have unmounted it and mounted another in its place.
    if self::device(mountpoint).ok() != Some(device) {
        return;
    }
    if let Err(errno) = umount2(mountpoint, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        tracing::error!(mountpoint = %mountpoint.display(), error = errno.desc(), "cannot detach the mount");
    }
}
