//! `fused forget-node`: the nodes of a file system, and the end of one that is lost.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flusher::Rooms;
use journal::{Identity, Journal, KvStore, Node, NodeId, Timestamp};
use serde::Serialize;

use super::args::ForgetNode;
use super::{Error, output, place};
use crate::control::protocol::WirePath;
use crate::daemon::forget_node::{Held, give_up, held};
use crate::daemon::{CacheDir, OpenRooms, open_rows, open_store};
use crate::options::{JournalKind, MountOptions, format_bytes};

/// A node that says that it is there, as it does every ten seconds, is not lost.
const SILENCE_SECS_MIN: i64 = 300;
/// For all that it had begun in the store.
const PATIENCE: Duration = Duration::from_secs(600);

/// A node, as it is told.
#[derive(Debug, Serialize)]
struct Told {
    node: String,
    host: String,
    mountpoint: String,
    mounted: bool,
    /// Since its last sign of life.
    seen_secs_ago: i64,
    /// Files and directories whose newest version the store does not have.
    unsynced: u64,
}

/// A file, as it is told.
#[derive(Debug, Serialize)]
struct Lost {
    path: String,
    bytes: u64,
    /// It goes back to an earlier version.
    goes_back: bool,
}

/// Runs the command.
pub(super) fn run(forget: &ForgetNode) -> Result<(), Error> {
    let mut options = place::options_of(&forget.place, &forget.options)?;
    if options.journal == JournalKind::Embedded {
        return Err(Error::Failed(
            "a journal in a cache directory has no other nodes; name the shared one by -o journal=fdb:FILE".into(),
        ));
    }
    options.settle = Duration::ZERO;
    place::block_on(async {
        let cache_dir = CacheDir::lock_existing(&options, "forget-node")?;
        let rows = open_rows(&options, &cache_dir).await?;
        let here = open(&rows, &cache_dir, NodeId(cache_dir.identity().node)).await?;
        let nodes = here.nodes().await?;
        let Some(node) = forget.node else {
            return list(forget, &rows, &cache_dir, nodes).await;
        };
        may_be_forgotten(&nodes, node, here.node())?;
        let there = open(&rows, &cache_dir, node).await?;
        let lost = held(&there).await?;
        tell(forget, &lost)?;
        if !forget.give_up {
            return Ok(());
        }
        let folder = cache_dir.torn().with_file_name("forgetting");
        let done = take_its_place(&options, &cache_dir, there, &folder).await;
        if let Err(error) = fs::remove_dir_all(&folder) {
            output::complain(&format!("{}: {error}", folder.display()));
        }
        done
    })
}

async fn open(
    rows: &Arc<dyn KvStore>,
    cache_dir: &CacheDir,
    node: NodeId,
) -> Result<Journal, Error> {
    let store_url = cache_dir.identity().store.clone();
    Ok(Journal::open(Arc::clone(rows), Identity { store_url, node }).await?)
}

fn may_be_forgotten(nodes: &[Node], node: NodeId, here: NodeId) -> Result<(), Error> {
    let refused = |why: String| Err(Error::Failed(format!("node {node} {why}")));
    if node == here {
        return refused("is that of this cache directory: mount it, and `fused sync`".into());
    }
    let Some(found) = nodes.iter().find(|known| known.node == node) else {
        return refused("is none of this file system's; without a node all are listed".into());
    };
    let silent = Timestamp::now().secs - found.seen.secs;
    if found.mounted && silent < SILENCE_SECS_MIN {
        return refused(format!(
            "({} on {}) was there {silent} s ago: unmount it there, or end its daemon and wait until nobody has heard \
             of it for {SILENCE_SECS_MIN} s",
            found.place.mountpoint, found.place.host
        ));
    }
    Ok(())
}

async fn list(
    forget: &ForgetNode,
    rows: &Arc<dyn KvStore>,
    cache_dir: &CacheDir,
    nodes: Vec<Node>,
) -> Result<(), Error> {
    let now = Timestamp::now().secs;
    let mut all = Vec::new();
    for node in nodes {
        let there = open(rows, cache_dir, node.node).await?;
        all.push(Told {
            node: node.node.to_string(),
            host: node.place.host,
            mountpoint: node.place.mountpoint,
            mounted: node.mounted,
            seen_secs_ago: now - node.seen.secs,
            unsynced: there.counters().await?.unsynced,
        });
    }
    if forget.json {
        return output::print_json(&all);
    }
    for told in &all {
        let state = match told.mounted {
            true => "mounted",
            false => "unmounted",
        };
        output::print(&format!(
            "{}  {state:<9}  seen {} s ago  {} not in the store  {} on {}\n",
            told.node, told.seen_secs_ago, told.unsynced, told.mountpoint, told.host
        ))?;
    }
    Ok(())
}

fn tell(forget: &ForgetNode, lost: &[Held]) -> Result<(), Error> {
    let lost: Vec<Lost> = lost
        .iter()
        .map(|held| Lost {
            path: WirePath::from(held.path.clone()).to_string(),
            bytes: held.bytes,
            goes_back: held.has_earlier,
        })
        .collect();
    if forget.json {
        return output::print_json(&lost);
    }
    for file in &lost {
        let end = match file.goes_back {
            true => "goes back to its version in the store",
            false => "is gone, or what it had replaced is back",
        };
        output::print(&format!(
            "{} ({}) {end}\n",
            file.path,
            format_bytes(file.bytes)
        ))?;
    }
    let files = lost.len();
    match forget.give_up {
        true => output::print(&format!("{files} files are given up\n")),
        false => output::print(&format!(
            "{files} files have versions that only this node's disk has; --give-up gives them up\n"
        )),
    }
}

async fn take_its_place(
    options: &MountOptions,
    cache_dir: &CacheDir,
    there: Journal,
    folder: &Path,
) -> Result<(), Error> {
    // Of an earlier try.
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::path(folder, error.to_string()));
        }
        _ => {}
    }
    fs::create_dir(folder).map_err(|error| Error::path(folder, error.to_string()))?;
    let (_, remote, capabilities) = open_store(options, &cache_dir.probes()).await?;
    let extents = extents::ExtentStore::open(&folder.join("extents"), extents::Options::default());
    let rooms = OpenRooms {
        node: there.node(),
        rooms: Rooms {
            journal: there,
            extents: extents.map_err(crate::daemon::Error::from)?,
            remote,
            capabilities,
        },
    };
    Ok(give_up(&rooms, options, &folder.join("torn"), PATIENCE).await?)
}
