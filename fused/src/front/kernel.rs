//! What is agreed with the kernel at mount, and what is set after it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use fuser::{Config, InitFlags, KernelConfig, MountOption, SessionACL};
use parking_lot::Mutex;

use crate::options::MountOptions;

/// One request carries this much at most. Larger ones were measured to be no faster.
const REQUEST_BYTES_MAX: u32 = 1 << 20;

/// Requests that the kernel may have under way in the background (readahead, async direct I/O).
const BACKGROUND_MAX: u16 = 64;

/// Readahead of the daemon path, in KiB: sequential reads keep several requests under way.
const READ_AHEAD_KB: u32 = 8192;

/// Whether the kernel takes backing files, and if not, why.
#[derive(Debug, Default)]
pub struct PassthroughState {
    on: AtomicBool,
    reason: Mutex<Option<String>>,
}

impl PassthroughState {
    /// Whether it does.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Why not.
    pub fn reason(&self) -> Option<String> {
        self.reason.lock().clone()
    }

    /// The kernel agreed.
    pub fn switch_on(&self) {
        self.on.store(true, Ordering::Relaxed);
    }

    /// It is off, for this reason.
    pub fn switch_off(&self, reason: impl Into<String>) {
        self.on.store(false, Ordering::Relaxed);
        *self.reason.lock() = Some(reason.into());
    }
}

/// Answers the kernel's INIT. No FUSE_WRITEBACK_CACHE: it excludes passthrough and hides writes.
pub fn negotiate(config: &mut KernelConfig, passthrough: Option<&PassthroughState>) {
    let wanted = [
        InitFlags::FUSE_ASYNC_DIO,
        InitFlags::FUSE_ATOMIC_O_TRUNC,
        InitFlags::FUSE_CACHE_SYMLINKS,
        // With access control lists, whether the umask applies depends on the directory.
        InitFlags::FUSE_DONT_MASK,
        InitFlags::FUSE_DO_READDIRPLUS,
        // Set-ID bits are cleared here; otherwise every write asks for capabilities first.
        InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        InitFlags::FUSE_PARALLEL_DIROPS,
        // The kernel keeps to the access control lists that it reads as attributes.
        InitFlags::FUSE_POSIX_ACL,
        InitFlags::FUSE_READDIRPLUS_AUTO,
    ];
    for flag in wanted {
        if config.add_capabilities(flag).is_err() {
            tracing::debug!(?flag, "the kernel does not have it");
        }
    }
    if let Some(passthrough) = passthrough {
        // Depth 1: the extents may not be on a stacked file system themselves.
        match config
            .add_capabilities(InitFlags::FUSE_PASSTHROUGH)
            .and_then(|()| {
                config
                    .set_max_stack_depth(1)
                    .map_err(|_| InitFlags::empty())
            }) {
            Ok(_) => passthrough.switch_on(),
            Err(_) => passthrough.switch_off("this kernel has no FUSE passthrough (Linux 6.9 has)"),
        }
    }
    // Each setter answers with the nearest value it takes.
    if let Err(nearest) = config.set_max_write(REQUEST_BYTES_MAX) {
        let _ = config.set_max_write(nearest);
    }
    if let Err(nearest) = config.set_max_readahead(READ_AHEAD_KB * 1024) {
        let _ = config.set_max_readahead(nearest);
    }
    let _ = config.set_max_background(BACKGROUND_MAX);
}

/// The session's settings for these mount options.
pub fn mount_config(options: &MountOptions) -> Config {
    let flags = options.flags;
    let mut mount_options = vec![
        MountOption::FSName(options.source().to_string()),
        // Not `Subtype`: fuser drops that one where it calls mount(2) itself.
        MountOption::CUSTOM("subtype=fused".into()),
        MountOption::DefaultPermissions,
    ];
    let choices = [
        (options.ro, MountOption::RO, MountOption::RW),
        (flags.nodev, MountOption::NoDev, MountOption::Dev),
        (flags.nosuid, MountOption::NoSuid, MountOption::Suid),
        (flags.noexec, MountOption::NoExec, MountOption::Exec),
        (flags.noatime, MountOption::NoAtime, MountOption::Atime),
    ];
    for (chosen, yes, no) in choices {
        mount_options.push(if chosen { yes } else { no });
    }
    if flags.sync {
        mount_options.push(MountOption::Sync);
    }
    if flags.dirsync {
        mount_options.push(MountOption::DirSync);
    }
    let mut config = Config::default();
    config.mount_options = mount_options;
    config.acl = match options.allow_other {
        true => SessionACL::All,
        false => SessionACL::Owner,
    };
    config.n_threads = Some(options.threads.max(1));
    config.clone_fd = true;
    config
}

/// Sets what can only be set once the mount is there: the readahead of its backing device.
pub fn tune(major: u32, minor: u32) {
    let file = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(Path::new(&file), READ_AHEAD_KB.to_string()) {
        tracing::debug!(%file, %error, "cannot set the readahead; reads use the kernel's default");
    }
}
