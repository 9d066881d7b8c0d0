//! The doctor: whether journal, extent files and store agree, of a cache directory that no daemon uses.
//!
//! 1. `rows`: the journal in itself (see [`journal::Audit`]);
//! 2. `bytes`: each version that has bytes here has its extent file, as long as it should be; each extent
//!    file is somebody's; and if asked for, `copies`: what was uploaded is still what it was;
//! 3. `objects`: each file that refers to an object finds it in the store, in the version that it knows.
//!
//! The order matters to repairs: extent files are judged by a journal that is in order, objects by files whose
//! local bytes are known. Nothing is changed without being asked for, save that the journal's log is replayed,
//! as any start does. A repair removes no inode, no object, and no bytes that may be somebody's; a name or a
//! copy only if the store has just been seen to have it. What was kept for a power cut may go, so everything is
//! made durable first; and after a power cut nothing is repaired before a mount has judged what that took.
//!
//! Memory is bounded: pages of files, [`REQUESTS_AT_ONCE`] requests to the store, and so many findings as a
//! report shows. Time is about four reads of the journal for a name, an open of each extent file, and a request
//! for each object.

mod bytes;
mod copies;
mod error;
mod objects;
mod report;
mod rows;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use extents::{ExtentFile, ExtentId, ExtentStore, PreviousRun};
use journal::{EmbeddedOptions, EmbeddedStore, Identity, Inode, Journal, NodeId};
use remote::Remote;

use crate::daemon::{CacheDir, open_store};
use crate::options::{JournalKind, MountOptions};

pub use error::Error;
pub use report::{Finding, Grade, Report};

/// Files read from the journal at once.
const PAGE: usize = 512;

/// Requests to the store at a time.
const REQUESTS_AT_ONCE: usize = 16;

/// What to look at.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which store, which cache directory.
    pub options: MountOptions,
    /// Repair what can be repaired without losing anything.
    pub repair: bool,
    /// Ask the store, too.
    pub store: bool,
    /// Read all local copies, too.
    pub read: bool,
}

/// Examines a cache directory, and repairs it if asked to.
///
/// # Errors
///
/// Why it can't be examined: it is in use, is none, or can't be read.
pub fn examine(request: &Request) -> Result<Report, Error> {
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let report = runtime.block_on(async {
        let cache_dir = CacheDir::lock_existing(&request.options, "doctor")?;
        if request.repair {
            cache_dir.forget_export()?;
        }
        let mut doctor = Doctor::open(request, &cache_dir).await?;
        doctor.rows().await?;
        doctor.bytes().await?;
        doctor.copies().await?;
        doctor.objects().await?;
        doctor.journal.sync().await?;
        Ok::<_, Error>(doctor.report)
    });
    let mut report = report?;
    report.elapsed_s = began.elapsed().as_secs_f64();
    Ok(report)
}

struct Doctor {
    journal: Journal,
    extents: ExtentStore,
    remote: Option<Remote>,
    node: NodeId,
    torn: PathBuf,
    repair: bool,
    read: bool,
    /// Bytes that somebody misses may be in an extent file that nobody names.
    searching: bool,
    report: Report,
}

impl Doctor {
    async fn open(request: &Request, cache_dir: &CacheDir) -> Result<Self, Error> {
        let options = &request.options;
        if options.journal != JournalKind::Embedded {
            return Err(Error::NotEmbedded);
        }
        let folder = cache_dir.journal();
        if !folder.is_dir() {
            return Err(Error::NoJournal { path: folder });
        }
        let node = NodeId(cache_dir.identity().node);
        let identity = Identity {
            store_url: cache_dir.identity().store.clone(),
            node,
        };
        let rows = EmbeddedStore::open(&folder, EmbeddedOptions::default())
            .map_err(journal::Error::from)?;
        let journal = Journal::open_as_is(Arc::new(rows), identity).await?;
        let extents = cache_dir.open_extents()?;
        let mut report = Report::new(&options.cache_dir, &cache_dir.identity().store);
        if extents.previous_run() == PreviousRun::UncleanBoot {
            if request.repair {
                return Err(Error::PowerCut);
            }
            report.tell(Finding::new(
                Grade::Leftover,
                "power-cut",
                "the machine went down since the last mount, and the next one has not judged yet what that took: \
                 mount once before you believe what is said of bytes here",
            ));
        }
        if request.repair {
            extents.sync_all()?;
        }
        let remote = match request.store {
            true => {
                // Nothing of ours is to be written there.
                let options = MountOptions {
                    ro: true,
                    ..options.clone()
                };
                match open_store(&options, &()).await {
                    Ok((_, remote, _)) => Some(remote),
                    Err(error) => {
                        report.tell(Finding::new(
                            Grade::Wrong,
                            "store-error",
                            format!("objects are not looked at: {error}"),
                        ));
                        None
                    }
                }
            }
            false => None,
        };
        Ok(Self {
            journal,
            extents,
            remote,
            node,
            torn: cache_dir.torn(),
            repair: request.repair,
            read: request.read,
            searching: false,
            report,
        })
    }

    /// A finding about a file.
    async fn finding(
        &self,
        inode: &Inode,
        grade: Grade,
        kind: &'static str,
        sentence: String,
    ) -> Finding {
        // In a damaged tree there may be none.
        let path = self.journal.path(inode.ino).await.ok().flatten();
        let origin = inode.content.origin.as_ref();
        Finding {
            path: path.map(|path| report::shown(&path)),
            key: origin.map(|origin| origin.key.clone()),
            inode: Some(inode.ino.0),
            ..Finding::new(grade, kind, sentence)
        }
    }
}

/// The extent file that holds an inode's present content.
fn extent_id(inode: &Inode) -> ExtentId {
    ExtentId {
        ino: inode.ino.0,
        generation: inode.content.generation,
    }
}

/// Bytes of the file are, or were, in its extent file and nowhere else: holes there are zeros.
fn needs_extents(inode: &Inode) -> bool {
    inode.size > inode.content.valid
}

/// Whether an extent file has every byte of a closed file.
fn has_all(inode: &Inode, extents: &ExtentFile) -> extents::Result<bool> {
    Ok(extents.is_resident(inode.content.valid) && extents.stat()?.size == inode.size)
}
