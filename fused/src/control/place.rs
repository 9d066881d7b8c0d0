//! Where control sockets are.
//!
//! One socket a mount, named after the mount's device numbers, because they are what a client can find out
//! about a mount without touching it: they stand in `/proc/self/mountinfo`. The directory belongs to the
//! user whose daemon it is, mode 0700: whoever can enter it may control the daemon.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The file name of a mount's socket.
pub fn socket_name(major: u32, minor: u32) -> String {
    format!("{major}:{minor}.sock")
}

/// The directory for the sockets of this process's user: `/run/fused` for root, `$XDG_RUNTIME_DIR/fused` for
/// others, or a directory in `/tmp` where that variable isn't set.
pub fn socket_dir() -> PathBuf {
    let uid = nix::unistd::geteuid();
    if uid.is_root() {
        return PathBuf::from("/run/fused");
    }
    std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .map_or_else(
            || private_tmp(uid.as_raw()),
            |runtime| runtime.join("fused"),
        )
}

/// Every place where the socket of a mount made by `owner` (`user_id=` in mountinfo) may be, best first.
pub(super) fn candidates(owner: u32, major: u32, minor: u32) -> Vec<PathBuf> {
    let mut dirs = vec![];
    if owner == nix::unistd::geteuid().as_raw() {
        dirs.push(socket_dir());
    }
    if owner == 0 {
        dirs.push(PathBuf::from("/run/fused"));
    } else {
        dirs.push(PathBuf::from(format!("/run/user/{owner}/fused")));
        dirs.push(private_tmp(owner));
    }
    dirs.dedup();
    let name = socket_name(major, minor);
    dirs.into_iter().map(|dir| dir.join(&name)).collect()
}

fn private_tmp(uid: u32) -> PathBuf {
    PathBuf::from(format!("/tmp/fused-{uid}"))
}

/// Creates the directory if it isn't there, and refuses one that isn't this user's alone.
///
/// # Errors
///
/// It can't be created, or somebody else owns it or can enter it.
pub fn prepare_socket_dir(dir: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let meta = std::fs::symlink_metadata(dir)?;
    if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} must be a directory of this user with mode 0700",
                dir.display()
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("run");
        prepare_socket_dir(&dir).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        prepare_socket_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            prepare_socket_dir(&dir).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
    }

    #[test]
    fn the_socket_of_another_user_is_looked_for_in_that_users_runtime_directory() {
        let paths = candidates(12345, 0, 61);
        assert!(paths.contains(&PathBuf::from("/run/user/12345/fused/0:61.sock")));
    }
}
