//! One step for one inode: lock its keys, look, plan, do.
//!
//! The keys to lock follow from the inode and its path, which another step may change until the locks are held;
//! if one had them meanwhile, they are computed again under the locks, and if they differ the locks are let go
//! and taken anew.

use journal::{FlushOutcome, Ino, Kind, Wanted};
use remote::ObjectKey;

use crate::conflict::resolve;
use crate::core::Core;
use crate::detach::detach;
use crate::directory;
use crate::error::Error;
use crate::key::wanted_key;
use crate::occupant::{Room, make_room};
use crate::plan::{self, Step, Urge, plan};
use crate::relocate::{self, Moved};
use crate::upload::{Sent, upload};
use crate::work::Asked;

/// Tries to hold the right locks.
const LOCK_ATTEMPTS_MAX: usize = 4;

/// What the loop asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) ino: Ino,
    /// Somebody waits for this version of it.
    pub(crate) asked: Option<Asked>,
    /// See [`Urge`].
    pub(crate) vacate: bool,
    /// It may become visible now.
    pub(crate) publish: bool,
    /// It may not, and one that must be visible before needs its key: it leaves its object.
    pub(crate) detach: bool,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The unsynced row is gone, or was found gone.
    Clean,
    /// A step was made; there may be more to do.
    Again,
    /// Only making it visible is left, and must wait for its turn.
    Parked,
    /// A writer has it open.
    Open,
    /// Another inode must move first.
    Behind(Ino),
    /// The file changed while it was read.
    Changed,
    /// It failed.
    Failed(Error),
}

/// A job's end, and the key it was about.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) ino: Ino,
    pub(crate) key: String,
    pub(crate) asked: Option<Asked>,
    pub(crate) outcome: Outcome,
}

/// Takes the next step for an inode.
pub(crate) async fn take(core: &Core, job: Job) -> Report {
    let mut key = format!("inode {}", job.ino);
    let outcome = match attempt(core, job, &mut key).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(error),
    };
    Report {
        ino: job.ino,
        key,
        asked: job.asked,
        outcome,
    }
}

async fn attempt(core: &Core, job: Job, label: &mut String) -> Result<Outcome, Error> {
    for _ in 0..LOCK_ATTEMPTS_MAX {
        let before = core.locks.now();
        let Some(mut wanted) = core.journal().wanted(job.ino).await? else {
            return Ok(Outcome::Clean);
        };
        let touched = touched_keys(&wanted);
        let locks = core.locks.lock(touched.clone()).await;
        if !locks.alone_since(before) {
            let Some(now) = core.journal().wanted(job.ino).await? else {
                return Ok(Outcome::Clean);
            };
            if touched_keys(&now) != touched {
                continue;
            }
            wanted = now;
        }
        if let Some(key) = wanted_key(&wanted) {
            *label = key.0;
        }
        return locked(core, job, wanted).await;
    }
    Err(Error::Unsteady { key: label.clone() })
}

fn touched_keys(wanted: &Wanted) -> Vec<String> {
    let origin = wanted.inode.content.origin.as_ref();
    let target = wanted_key(wanted).map(|key| key.0);
    target
        .into_iter()
        .chain(origin.map(|origin| origin.key.clone()))
        .collect()
}

/// With the locks held.
async fn locked(core: &Core, job: Job, wanted: Wanted) -> Result<Outcome, Error> {
    let Some(row) = wanted.unsynced else {
        return Ok(Outcome::Clean);
    };
    let key = wanted_key(&wanted);
    let inode = &wanted.inode;
    let origin = inode.content.origin.as_ref();
    if job.detach {
        let has_left = origin.is_none_or(|o| key.as_ref().is_none_or(|key| key.0 == o.key));
        if has_left || inode.kind != Kind::File {
            return Ok(Outcome::Parked);
        }
        tracing::debug!(ino = %job.ino, "one that comes before it needs its key: it becomes independent of its object");
        detach(core, &wanted).await?;
        return Ok(Outcome::Again);
    }
    let step = plan(
        &plan::Wanted {
            kind: inode.kind,
            key: key.as_ref().map(|key| key.0.clone()),
            epoch: inode.content.epoch,
            meta_epoch: inode.meta_epoch,
            open: inode.content.writer.is_some(),
        },
        origin,
        core.abilities(),
        Urge {
            open_too: job.asked.is_some_and(|asked| asked.covers(inode)),
            vacate: job.vacate,
        },
    );
    tracing::trace!(ino = %job.ino, ?step, publish = job.publish, "planned");
    match (step, key, origin) {
        (Step::WaitForClose, ..) => Ok(Outcome::Open),
        (Step::Upload, Some(key), _) => send(core, job, &wanted, &key).await,
        (Step::Copy, Some(key), Some(origin)) => {
            if !job.publish {
                return Ok(Outcome::Parked);
            }
            match make_room(core, &wanted, key.as_str()).await? {
                Room::Behind(other) => return Ok(Outcome::Behind(other)),
                Room::Detached => return Ok(Outcome::Again),
                Room::Free => {}
            }
            let moved = relocate::copy(core, inode, origin, &key).await?;
            after_move(core, job, &wanted, &key, moved).await
        }
        (Step::Attributes, Some(key), Some(origin)) => {
            let moved = relocate::rewrite(core, inode, origin).await?;
            after_move(core, job, &wanted, &key, moved).await
        }
        (Step::RecordAttributes, Some(key), Some(origin)) => {
            let moved = relocate::forgo(core, inode, origin).await?;
            after_move(core, job, &wanted, &key, moved).await
        }
        (Step::MakeDirectory, Some(key), _) => {
            Ok(recorded(directory::make(core, inode, &key).await?))
        }
        // Nothing to do, or nothing that can be done without a name.
        _ => match core.journal().settle(&row).await? {
            true => Ok(Outcome::Clean),
            false => Ok(Outcome::Again),
        },
    }
}

async fn send(core: &Core, job: Job, wanted: &Wanted, key: &ObjectKey) -> Result<Outcome, Error> {
    // Parts may be sent while others are still in the way; only publishing needs the room.
    if job.publish {
        match make_room(core, wanted, key.as_str()).await? {
            Room::Behind(other) => return Ok(Outcome::Behind(other)),
            Room::Detached => return Ok(Outcome::Again),
            Room::Free => {}
        }
    }
    match upload(core, wanted.inode.clone(), key, job.publish).await? {
        Sent::Recorded(outcome) => Ok(recorded(outcome)),
        Sent::Parked => Ok(Outcome::Parked),
        Sent::Changed => Ok(Outcome::Changed),
        Sent::Conflict => {
            resolve(core, wanted, key).await?;
            Ok(Outcome::Again)
        }
    }
}

async fn after_move(
    core: &Core,
    job: Job,
    wanted: &Wanted,
    key: &ObjectKey,
    moved: Moved,
) -> Result<Outcome, Error> {
    match moved {
        Moved::Recorded(outcome) => Ok(recorded(outcome)),
        Moved::Refreshed => Ok(Outcome::Again),
        Moved::UploadInstead => send(core, job, wanted, key).await,
        Moved::Conflict => {
            resolve(core, wanted, key).await?;
            Ok(Outcome::Again)
        }
    }
}

fn recorded(outcome: FlushOutcome) -> Outcome {
    match outcome {
        FlushOutcome::Clean => Outcome::Clean,
        FlushOutcome::Newer => Outcome::Again,
    }
}
