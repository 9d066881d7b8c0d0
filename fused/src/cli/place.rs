//! A file system that is not mounted, as commands name it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use journal::KvStore;

use super::Error;
use crate::control::mounts;
use crate::daemon::{CacheDir, open_rows};
use crate::options::{JournalKind, MountOptions};

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

/// For requests to a store that does not answer.
const END_MAX: Duration = Duration::from_secs(2);

/// Runs what such a command does, on this thread.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Failed(format!("cannot start: {error}")))?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(END_MAX);
    #[cfg(feature = "foundationdb")]
    journal::kv::stop_network();
    done
}

/// The rows of its journal, which must be there.
pub(super) async fn open_journal(
    options: &MountOptions,
    cache_dir: &CacheDir,
) -> Result<Arc<dyn KvStore>, Error> {
    let folder = cache_dir.journal();
    if options.journal == JournalKind::Embedded && !folder.is_dir() {
        // Looking must not make one.
        let problem = "has no journal; is it in FoundationDB? Then name it by -o journal=fdb:FILE";
        return Err(Error::path(&options.cache_dir, problem));
    }
    Ok(open_rows(options, cache_dir).await?)
}
