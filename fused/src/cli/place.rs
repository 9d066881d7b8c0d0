//! A file system that is not mounted, as commands name it.

use std::path::Path;

use super::Error;
use crate::control::mounts;
use crate::daemon::CacheDir;
use crate::options::MountOptions;

/// The options of a mount that is not there. `place` is its cache directory, or the URL of its store.
pub(super) fn options_of(place: &Path, lists: &[String]) -> Result<MountOptions, Error> {
    let nowhere = Path::new("/");
    if let Some(url) = place.to_str().filter(|place| place.contains("://")) {
        return Ok(MountOptions::from_lists(url, nowhere, lists)?);
    }
    let failed = |problem: String| Error::path(place, problem);
    let mounts =
        mounts::read().map_err(|error| Error::path("/proc/self/mountinfo", error.to_string()))?;
    let is_mount = mounts::resolve_mountpoint(&mounts, place)
        .ok()
        .and_then(|dir| mounts::at(&mounts, &dir).map(mounts::Mount::is_fused));
    if is_mount == Some(true) {
        return Err(failed(
            "is mounted: `fused umount` it, and name its cache directory or the URL of its store"
                .into(),
        ));
    }
    let store = CacheDir::store_of(place).map_err(|error| failed(error.to_string()))?;
    let store = store.ok_or_else(|| {
        failed("is no cache directory (there is no identity.toml in it): name one, or the URL of its store".into())
    })?;
    let mut options = MountOptions::from_lists(&store, nowhere, lists)?;
    options.cache_dir = std::path::absolute(place).map_err(|error| failed(error.to_string()))?;
    Ok(options)
}
