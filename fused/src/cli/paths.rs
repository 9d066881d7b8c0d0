//! Paths on the command line, as the mounts that they are in see them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Error;
use crate::control::mounts::{self, Mount};
use crate::control::protocol::WirePath;

/// The paths inside each mount, in the order of mounting.
pub(super) fn by_mount<'a>(
    mounts: &'a [Mount],
    paths: &[PathBuf],
) -> Result<impl Iterator<Item = (&'a Mount, Vec<WirePath>)> + use<'a>, Error> {
    let mut wanted: BTreeMap<(u32, u32), (&Mount, Vec<WirePath>)> = BTreeMap::new();
    for path in paths {
        let real = resolve(path).map_err(|error| Error::path(path, error.to_string()))?;
        let mount = mounts::containing(mounts, &real).filter(|mount| mount.is_fused());
        let Some((mount, inside)) = mount.and_then(|mount| Some((mount, mount.inside(&real)?)))
        else {
            return Err(Error::path(path, "this is not in a fused mount"));
        };
        let entry = wanted
            .entry((mount.major, mount.minor))
            .or_insert((mount, Vec::new()));
        entry.1.push(WirePath::from(inside.as_path()));
    }
    Ok(wanted.into_values())
}

/// The absolute path of a path inside a mount; a file outside a bind mount's part keeps its inner path.
pub(super) fn outside(mount: &Mount, path: WirePath) -> PathBuf {
    let path = path.into_path();
    let root = mount.root.strip_prefix("/").unwrap_or(&mount.root);
    match path.strip_prefix(root) {
        Ok(below) if below.as_os_str().is_empty() => mount.mountpoint.clone(),
        Ok(below) => mount.mountpoint.join(below),
        Err(_) => path,
    }
}

/// The absolute path without symbolic links; of a dangling link, the link itself.
fn resolve(path: &Path) -> std::io::Result<PathBuf> {
    path.canonicalize()
        .or_else(|error| match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) if path.is_symlink() => {
                let parent = if parent.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    parent
                };
                Ok(parent.canonicalize()?.join(name))
            }
            _ => Err(error),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_outside_of_fused_mounts_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = mounts::read().unwrap();
        let error = by_mount(&mounts, &[dir.path().to_owned()]).err().unwrap();
        assert!(
            error.to_string().ends_with("this is not in a fused mount"),
            "{error}"
        );
    }

    #[test]
    fn a_dangling_link_is_resolved_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert_eq!(
            resolve(&link).unwrap(),
            dir.path().canonicalize().unwrap().join("link")
        );
        assert!(resolve(&dir.path().join("none")).is_err());
    }
}
