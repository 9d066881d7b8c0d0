//! `fused journal export|import`: a file system's journal goes to another key-value store.
//!
//! The bytes in the cache directory stay where they are, so both are done with the same one, and nothing is mounted in
//! between: a journal that does not know the newest files there would take them for nobody's.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use journal::{Identity, Journal, KvStore, NodeId, Timestamp, Transferred};
use serde::Serialize;

use super::args::Transfer;
use super::{Error, output, place};
use crate::daemon::{CacheDir, here, open_rows};
use crate::options::{JournalKind, MountOptions, format_bytes};

/// Bytes read or written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// What is told of an export.
#[derive(Debug, Serialize)]
struct Told<'a> {
    store: &'a str,
    node: u64,
    rows: u64,
    bytes: u64,
    blake3: &'a str,
}

/// Writes the journal to a new file.
pub(super) fn export(transfer: &Transfer) -> Result<(), Error> {
    let options = place::options_of(&transfer.place, &transfer.options)?;
    let done = place::block_on(async {
        let cache_dir = CacheDir::lock_existing(&options, "journal export")?;
        let rows = place::open_journal(&options, &cache_dir).await?;
        stop_others(&options, &cache_dir, Arc::clone(&rows)).await?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&transfer.file)
            .map_err(|error| Error::path(&transfer.file, error.to_string()))?;
        let node = NodeId(cache_dir.identity().node);
        let written = write(rows.as_ref(), node, &mut file).await;
        let written = written.map_err(|error| Error::path(&transfer.file, error.to_string()));
        let noted = written.and_then(|done| {
            cache_dir.note_export(&done.digest)?;
            Ok(done)
        });
        if noted.is_err()
            && let Err(error) = std::fs::remove_file(&transfer.file)
        {
            output::complain(&format!("{}: {error}", transfer.file.display()));
        }
        noted
    })?;
    tell(transfer, &done, "exported")
}

async fn write(
    rows: &dyn KvStore,
    node: NodeId,
    file: &mut File,
) -> Result<Transferred, journal::TransferError> {
    let mut to = BufWriter::with_capacity(BUFFER_BYTES, file);
    let done = journal::export(rows, node, &mut to).await?;
    let stream = journal::TransferError::Stream;
    let file = to
        .into_inner()
        .map_err(|error| stream(error.into_error()))?;
    file.sync_all().map_err(stream)?;
    Ok(done)
}

/// Where others could mount it meanwhile, or afterwards, they are kept out until this node has mounted it again.
async fn stop_others(
    options: &MountOptions,
    cache_dir: &CacheDir,
    rows: Arc<dyn KvStore>,
) -> Result<(), Error> {
    let identity = Identity {
        store_url: cache_dir.identity().store.clone(),
        node: NodeId(cache_dir.identity().node),
    };
    let journal = Journal::open(rows, identity).await?;
    cache_dir.take_journal(journal.id().await?)?;
    if !journal.is_shared() {
        return Ok(());
    }
    let was_elsewhere = journal
        .join(
            &here(Path::new("an export of the journal")),
            Timestamp::now(),
        )
        .await?;
    if was_elsewhere {
        journal.leave(Timestamp::now()).await?;
        return Err(Error::path(
            &options.cache_dir,
            "another node has mounted this file system since: mount and unmount it here first",
        ));
    }
    Ok(())
}

/// Reads the journal from a file.
pub(super) fn import(transfer: &Transfer) -> Result<(), Error> {
    let options = place::options_of(&transfer.place, &transfer.options)?;
    let problem = |error: &dyn std::fmt::Display| Error::path(&transfer.file, error.to_string());
    let open = || {
        let file = File::open(&transfer.file).map_err(|error| problem(&error))?;
        Ok::<_, Error>(BufReader::with_capacity(BUFFER_BYTES, file))
    };
    let done = place::block_on(async {
        let cache_dir = CacheDir::lock_existing(&options, "journal import")?;
        // All of it, before anything is changed.
        let found = journal::verify(&mut open()?).map_err(|error| problem(&error))?;
        may_come_here(&cache_dir, &found).map_err(|why| problem(&why))?;
        let rows = open_rows(&options, &cache_dir).await?;
        let imported = journal::import(rows.as_ref(), &mut open()?).await;
        let imported = imported.map_err(|error| problem(&error))?;
        if imported.transferred() != &found {
            return Err(problem(&"it was changed while it was imported"));
        }
        if options.journal != JournalKind::Embedded {
            // First: two journals that can be mounted are one too many.
            cache_dir.put_journal_aside()?;
        }
        let done = imported.finish(rows.as_ref()).await;
        done.map_err(|error| problem(&error))
    })?;
    tell(transfer, &done, "imported")
}

/// Whether the cache directory is as it was when the export was made of it.
fn may_come_here(cache_dir: &CacheDir, found: &Transferred) -> Result<(), String> {
    let identity = cache_dir.identity();
    if found.of.store_url != identity.store {
        return Err(format!(
            "it is of the store {}, and the cache directory of {}",
            found.of.store_url, identity.store
        ));
    }
    if found.of.node.0 != identity.node {
        return Err(
            "it was made with another cache directory, which holds what is in no store: import it with that one"
                .into(),
        );
    }
    match cache_dir.exported().map_err(|error| error.to_string())? {
        Some(digest) if digest == found.digest => Ok(()),
        _ => Err(
            "it is not the last thing that was done with this cache directory: files may be there of which it does \
             not know; export again"
                .into(),
        ),
    }
}

fn tell(transfer: &Transfer, done: &Transferred, what: &str) -> Result<(), Error> {
    if transfer.json {
        return output::print_json(&Told {
            store: &done.of.store_url,
            node: done.of.node.0,
            rows: done.rows,
            bytes: done.bytes,
            blake3: &done.digest,
        });
    }
    output::print(&format!(
        "{what} {} rows, {}, of {} (blake3 {})\n",
        done.rows,
        format_bytes(done.bytes),
        done.of.store_url,
        done.digest
    ))
}
