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
mod dir_files;
mod error;
pub(crate) mod forget_node;
mod further_dirs;
mod membership;
mod open_rooms;
mod probes;
mod session;
mod store;

use std::sync::Arc;
use std::time::Duration;

use flusher::Rooms;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::control::server;
use crate::front::{InvalidateQueue, PassthroughState};
use crate::options::{MountOptions, Passthrough};

pub(crate) use cache_dir::CacheDir;
pub use error::Error;
use membership::Membership;
pub(crate) use membership::here;
pub use open_rooms::OpenRooms;
pub(crate) use store::{open as open_store, open_rows};

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
    #[cfg(feature = "foundationdb")]
    journal::kv::stop_network();
    outcome
}

fn serve(
    options: &MountOptions,
    ready: Ready,
    runtime: &tokio::runtime::Runtime,
) -> Result<(), Error> {
    let cache_dir = CacheDir::lock(options)?;
    let rooms = runtime.block_on(open_rooms(options, &cache_dir))?;
    let member = runtime.block_on(Membership::join(&rooms, options))?;
    let outcome = serve_as_member(options, ready, runtime, &cache_dir, &rooms);
    runtime.block_on(member.leave());
    outcome
}

fn serve_as_member(
    options: &MountOptions,
    ready: Ready,
    runtime: &tokio::runtime::Runtime,
    cache_dir: &CacheDir,
    rooms: &OpenRooms,
) -> Result<(), Error> {
    let (invalidate, invalidations) = InvalidateQueue::new();
    let passthrough = Arc::new(PassthroughState::default());
    if options.passthrough == Passthrough::Off {
        passthrough.switch_off("switched off by -o passthrough=off");
    }
    let vfs = rooms.assemble(options, Arc::new(invalidate), cache_dir.torn(), |_| {});
    runtime.block_on(rooms.recover(&vfs, &cache_dir.torn()))?;
    let mounted = session::mount(options, vfs.clone(), runtime.handle(), passthrough.clone())?;
    invalidations
        .run(mounted.notifier())
        .map_err(|source| Error::Start {
            what: "the invalidation thread",
            source,
        })?;
    let facts = server::Facts::new(
        options,
        rooms.store(),
        cache_dir.identity().node,
        passthrough,
    );
    let control = server::Server::start(facts, vfs.clone(), mounted.device(), runtime.handle())
        .map_err(Error::ControlSocket)?;
    vfs.flusher().wake();
    tracing::info!(store = %rooms.store(), mountpoint = %options.mountpoint.display(), "mounted");
    ready(Ok(()));

    let ended = mounted.wait(runtime.handle());
    tracing::info!(mountpoint = %options.mountpoint.display(), "unmounted");
    drop(control);
    runtime.block_on(rooms.leave_safe(&vfs))?;
    ended
}

async fn open_rooms(options: &MountOptions, cache_dir: &CacheDir) -> Result<OpenRooms, Error> {
    let extents = cache_dir.open_extents()?;
    cache_dir.check_journal(options, &extents)?;
    let node = journal::NodeId(cache_dir.identity().node);
    let probes = cache_dir.probes();
    // Both may take a second: asking a store what it can do, and replaying a log.
    let replay = async {
        match cache_dir.journal().exists() {
            true => store::open_rows(options, cache_dir).await.map(Some),
            false => Ok(None),
        }
    };
    let (store, rows) = tokio::join!(store::open(options, &probes), replay);
    let (url, remote, capabilities) = store?;
    let rows = match rows? {
        Some(rows) => rows,
        // A new journal takes its reserve of the disk: not for a URL with a typing error.
        None => store::open_rows(options, cache_dir).await?,
    };
    let identity = journal::Identity {
        store_url: url.to_string(),
        node,
    };
    let journal = journal::Journal::open(rows, identity).await?;
    journal.set_patience(options.journal_timeout);
    cache_dir.take_journal(journal.id().await?)?;
    Ok(OpenRooms {
        rooms: Rooms {
            journal,
            extents,
            remote,
            capabilities,
        },
        node,
    })
}

/// Every open file needs a descriptor or two; the soft limit of 1024 is for programs using select(2).
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
