//! Reading the unsynced rows into the work set.
//!
//! Rows come in the order of inode numbers, in pages, not of one instant. That matters for the order of
//! publishing: a scan may pass the place of a shard before the shard is closed, and then meet the marker that
//! was closed after it. What was closed before a scan began is met by it, and so is all that was closed earlier:
//! it may publish after this scan. Anything else only after a scan that *began* after it was seen.
//!
//! Rows known already cost nothing but the read of the page.

use std::time::Duration;

use journal::{Ino, Kind, Unsynced, Wanted};
use tokio::time::Instant;

use crate::core::Core;
use crate::error::Error;
use crate::key::wanted_key;
use crate::temporary::looks_temporary;
use crate::upload::is_multipart;
use crate::work::{Item, Known};

/// Rows read at a time.
const PAGE_ROWS: usize = 512;

/// What the scans have seen so far.
#[derive(Debug, Default)]
pub(crate) struct Scans {
    /// Scans begun.
    pub(crate) begun: u64,
    /// Number of the last one that came to its end.
    complete: u64,
    /// What had been closed when that began, as a place in the order of closing.
    closed_before: u64,
}

impl Scans {
    /// Whether everything that was closed before this one has been met.
    pub(crate) fn know_all_before(&self, item: &Item) -> bool {
        item.row.seq <= self.closed_before || item.seen_in < self.complete
    }

    /// A row that may be there is not in the work set.
    pub(crate) fn missed_one(&mut self) {
        (self.complete, self.closed_before) = (0, 0);
    }

    /// Reads all rows once.
    pub(crate) async fn scan(&mut self, core: &Core) -> Result<(), Error> {
        self.begun += 1;
        // One that breaks off has met nothing.
        self.missed_one();
        let closed_before = core.journal().closed_so_far();
        scan(core, self.begun).await?;
        (self.complete, self.closed_before) = (self.begun, closed_before);
        Ok(())
    }
}

async fn scan(core: &Core, scan: u64) -> Result<(), Error> {
    core.work.lock().scan_begins();
    let mut after: Option<Ino> = None;
    loop {
        let page = core.journal().unsynced(after, PAGE_ROWS).await?;
        let Some(last) = page.last() else {
            break;
        };
        after = Some(last.ino);
        let short = page.len() < PAGE_ROWS;
        for row in page {
            let known = core.work.lock().met(&row, scan);
            if known == Known::Look {
                look(core, row.ino, scan).await?;
                core.work.lock().trim();
            }
        }
        if short {
            break;
        }
        // A long scan leaves room for the tasks on this thread.
        tokio::task::yield_now().await;
    }
    core.work.lock().scan_ended(scan);
    Ok(())
}

/// Reads one inode into the work set, which may hold one too many then. False if it has no unsynced row.
pub(crate) async fn look(core: &Core, ino: Ino, scan: u64) -> Result<bool, Error> {
    let wanted = core.journal().wanted(ino).await?;
    let Some((wanted, row)) = wanted.and_then(|wanted| wanted.unsynced.map(|row| (wanted, row)))
    else {
        let mut work = core.work.lock();
        if work.get(ino).is_some_and(|item| !item.running) {
            work.remove(ino);
        }
        return Ok(false);
    };
    let mut work = core.work.lock();
    let old = work.get(ino).cloned();
    work.insert(item(core, &wanted, row, old, scan));
    Ok(true)
}

fn item(core: &Core, wanted: &Wanted, row: Unsynced, old: Option<Item>, scan: u64) -> Item {
    let inode = &wanted.inode;
    let is_file = inode.kind == Kind::File;
    let dirty = is_file && inode.is_content_dirty();
    let moved = is_file && is_moved(wanted);
    let open = is_file && inode.content.writer.is_some();
    // A new change of attributes alone doesn't start the quiet time again, nor does it change the order.
    let same_version = old
        .as_ref()
        .is_some_and(|old| old.row.seq == row.seq && old.open == open);
    let fresh = Item {
        row,
        parent: inode.parent,
        dirty_bytes: if dirty { inode.size } else { 0 },
        large: (dirty || moved) && is_multipart(core, inode.size),
        publishes: dirty || moved,
        open,
        due: Instant::now() + settle(core, wanted),
        seen_in: scan,
        marked_in: scan,
        failures: 0,
        spins: 0,
        forced: None,
        vacate: None,
        running: false,
        parked: false,
        behind: None,
        held_until: None,
    };
    match old {
        Some(old) if same_version => Item {
            due: old.due,
            seen_in: old.seen_in,
            failures: old.failures,
            spins: old.spins,
            forced: old.forced,
            vacate: old.vacate,
            running: old.running,
            parked: old.parked,
            behind: old.behind,
            held_until: old.held_until,
            ..fresh
        },
        Some(old) => Item {
            due: if old.forced.is_some() {
                Instant::now()
            } else {
                fresh.due
            },
            forced: old.forced,
            vacate: old.vacate,
            running: old.running,
            ..fresh
        },
        None => fresh,
    }
}

fn is_moved(wanted: &Wanted) -> bool {
    let Some(origin) = &wanted.inode.content.origin else {
        return false;
    };
    wanted_key(wanted).is_some_and(|key| key.0 != origin.key)
}

/// How long nothing should happen to it before it is sent.
fn settle(core: &Core, wanted: &Wanted) -> Duration {
    let name = wanted.path.as_deref().and_then(<[_]>::last);
    match name.is_some_and(|name| looks_temporary(name)) {
        true => core.config.settle_temporary,
        false => core.config.settle,
    }
}
