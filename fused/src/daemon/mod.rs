//! The daemon: puts the rooms together, mounts, waits for the end, and leaves everything safe.
//!
//! Start: lock the cache directory; open and probe the store; open extents and journal; recover what
//! the last daemon left; mount; open the control socket; say that the mount is ready. Whatever fails
//! on the way is one sentence to the user, and nothing stays mounted.
//!
//! End: by `umount`, or by SIGTERM or SIGINT, which detach the mount and give programs that still
//! have files open a while to finish. What open files hold is recorded, uploads under way are
//! stopped (the next mount goes on with them), and everything local is synced.

mod cache_dir;
mod error;
mod probes;
mod session;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flusher::{Flusher, FlusherConfig, Rooms};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::control::server;
use crate::front::{InvalidateQueue, PassthroughState};
use crate::options::{Fsync, MountOptions, OnConflict, Passthrough, PublishOrder};
use crate::vfs::{self, FsyncTarget, Listener, Vfs};

pub(crate) use cache_dir::CacheDir;
pub use error::Error;
pub(crate) use store::open as open_store;

/// Called once: when the mount is usable, or with the sentence that says why it isn't.
pub type Ready = Box<dyn FnOnce(Result<(), String>) + Send>;

/// Threads that run what can't be answered at once.
const RUNTIME_THREADS: usize = 2;

/// Mounts, serves, and returns when the mount is gone.
///
/// # Errors
///
/// Why it could not be mounted, or what kept it from ending cleanly.
pub fn run(options: MountOptions, ready: Ready) -> Result<(), Error> {
    killpoints::arm().map_err(Error::KillPoint)?;
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .thread_name("fused-rt")
        .enable_all()
        .build()
        .map_err(|source| Error::Start {
            what: "threads",
            source,
        })?;
    let outcome = serve(&options, ready, &runtime);
    // Requests to a store that does not answer must not keep an unmounted daemon alive.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

fn serve(
    options: &MountOptions,
    ready: Ready,
    runtime: &tokio::runtime::Runtime,
) -> Result<(), Error> {
    let cache_dir = CacheDir::lock(options)?;
    let rooms = runtime.block_on(open_rooms(options, &cache_dir))?;
    let (invalidate, invalidations) = InvalidateQueue::new();
    let passthrough = Arc::new(PassthroughState::default());
    if options.passthrough == Passthrough::Off {
        passthrough.switch_off("switched off by -o passthrough=off");
    }
    let vfs = assemble(options, &rooms, invalidate, cache_dir.torn());
    runtime.block_on(recover(&vfs, &rooms, &cache_dir))?;
    let mounted = session::mount(options, vfs.clone(), runtime.handle(), passthrough.clone())?;
    invalidations
        .run(mounted.notifier())
        .map_err(|source| Error::Start {
            what: "the invalidation thread",
            source,
        })?;
    let facts = server::Facts::new(
        options,
        &rooms.store,
        cache_dir.identity().node,
        passthrough,
    );
    let control = server::Server::start(facts, vfs.clone(), mounted.device(), runtime.handle())
        .map_err(Error::ControlSocket)?;
    vfs.flusher().wake();
    tracing::info!(store = %rooms.store, mountpoint = %options.mountpoint.display(), "mounted");
    ready(Ok(()));

    let ended = mounted.wait(runtime.handle());
    tracing::info!(mountpoint = %options.mountpoint.display(), "unmounted");
    drop(control);
    runtime.block_on(leave_safe(&vfs, &rooms))?;
    ended
}

/// What the daemon is made of, opened.
struct OpenRooms {
    rooms: Rooms,
    store: remote::StoreUrl,
    node: journal::NodeId,
}

async fn open_rooms(options: &MountOptions, cache_dir: &CacheDir) -> Result<OpenRooms, Error> {
    let extents = cache_dir.open_extents()?;
    let (store, remote, capabilities) = store::open(options, &cache_dir.probes()).await?;
    let node = journal::NodeId(cache_dir.identity().node);
    let journal = store::open_journal(options, cache_dir, &store, node).await?;
    Ok(OpenRooms {
        rooms: Rooms {
            journal,
            extents,
            remote,
            capabilities,
        },
        store,
        node,
    })
}

fn assemble(
    options: &MountOptions,
    open: &OpenRooms,
    invalidate: InvalidateQueue,
    aside: PathBuf,
) -> Vfs {
    let mut config = FlusherConfig::new(open.rooms.clone(), open.node);
    config.memory_bytes_max = options.upload_memory;
    config.uploads_max = options.uploads_max;
    config.settle = options.settle;
    config.on_conflict = match options.on_conflict {
        OnConflict::KeepBoth => flusher::OnConflict::KeepBoth,
        OnConflict::Ours => flusher::OnConflict::Ours,
        OnConflict::Theirs => flusher::OnConflict::Theirs { aside },
    };
    config.verify = options.verify;
    config.publish_order = match options.publish_order {
        PublishOrder::Directory => flusher::PublishOrder::Default,
        PublishOrder::Strict => flusher::PublishOrder::Strict,
        PublishOrder::None => flusher::PublishOrder::None,
    };
    let listener = Listener::default();
    config.events = Arc::new(listener.clone());
    config.stray_age = options.stale_uploads;
    let flusher = Flusher::idle(config);
    let rooms = &open.rooms;
    let cache_size = options.cache_size;
    let config = vfs::Config {
        fsync: match options.fsync {
            Fsync::Local => FsyncTarget::Local,
            Fsync::Store => FsyncTarget::Store,
        },
        revalidate: options.revalidate,
        uid: options.uid,
        gid: options.gid,
        umask: options.umask,
        read_only: options.ro,
        cache_limit: Arc::new(move |available| cache_size.bytes(available)),
        dirty_wait: options.dirty_wait,
        settle: options.settle,
        passthrough: options.passthrough == Passthrough::Auto,
    };
    let vfs = Vfs::new(
        config,
        vfs::Parts {
            journal: rooms.journal.clone(),
            extents: rooms.extents.clone(),
            remote: rooms.remote.clone(),
            attributes_on_objects: rooms.capabilities.attributes,
            flusher,
            node: open.node,
            invalidate: Arc::new(invalidate),
        },
    );
    listener.listen(&vfs);
    vfs
}

async fn recover(vfs: &Vfs, open: &OpenRooms, cache_dir: &CacheDir) -> Result<(), Error> {
    let power_cut = open.rooms.extents.previous_run() == extents::PreviousRun::UncleanBoot;
    let recovered = vfs.recover(power_cut, &cache_dir.torn()).await;
    let recovered = recovered.map_err(Error::Recovery)?;
    open.rooms.extents.mark_running()?;
    if power_cut || recovered.writers + recovered.stale > 0 {
        tracing::warn!(
            power_cut,
            ?recovered,
            "the last daemon did not end cleanly; recovered"
        );
    }
    // Only now: nothing may be uploaded or removed that recovery has not judged.
    vfs.begin();
    // A listing now, so that the root is known even if the store goes away.
    if let Err(error) = vfs.list_root().await {
        tracing::warn!(%error, "cannot list the root of the store yet");
    }
    Ok(())
}

/// Everything that programs were told is done is on the disk when this returns.
async fn leave_safe(vfs: &Vfs, open: &OpenRooms) -> Result<(), Error> {
    vfs.settle_all().await;
    vfs.flusher().stop().await;
    let synced = open.rooms.journal.sync().await;
    synced.map_err(|error| Error::Recovery(error.into()))?;
    // What stays is empty, and removed by the next start.
    if let Err(error) = open.rooms.extents.discard_prepared(u64::MAX) {
        tracing::warn!(%error, "cannot remove extent files that were made ahead");
    }
    // Blocks for as long as the disk takes; nothing else runs on this thread any more.
    open.rooms
        .extents
        .mark_clean()
        .map_err(|error| Error::Recovery(error.into()))
}

/// Every open file needs a descriptor or two; the soft limit of 1024 is for programs using select(2).
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
