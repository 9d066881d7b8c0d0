//! `fused journal stat|dump CACHE_DIR|URL`: what the journal of a file system that is not mounted holds.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use journal::DumpedRow;
use serde::Serialize;

use super::args::{Journal, JournalOf};
use super::{Error, output, place, transfer};
use crate::daemon::CacheDir;
use crate::options::format_bytes;

/// Runs the command.
pub(super) fn run(command: &Journal) -> Result<(), Error> {
    match command {
        Journal::Stat(of) => stat(of),
        Journal::Dump(of) => dump(of),
        Journal::Export(transfer) => transfer::export(transfer),
        Journal::Import(transfer) => transfer::import(transfer),
    }
}

/// The rows of one kind.
#[derive(Debug, Default, Serialize)]
struct Kind {
    rows: u64,
    /// Of keys and values, as the journal keeps them.
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Stat {
    store: String,
    node: u64,
    rows: u64,
    bytes: u64,
    kinds: BTreeMap<&'static str, Kind>,
}

fn stat(of: &JournalOf) -> Result<(), Error> {
    let mut kinds: BTreeMap<&'static str, Kind> = BTreeMap::new();
    let cache_dir = each_row(of, &mut |row| {
        let kind = kinds.entry(row.kind).or_default();
        kind.rows += 1;
        kind.bytes += row.bytes;
        true
    })?;
    let identity = cache_dir.identity();
    let stat = Stat {
        store: identity.store.clone(),
        node: identity.node,
        rows: kinds.values().map(|kind| kind.rows).sum(),
        bytes: kinds.values().map(|kind| kind.bytes).sum(),
        kinds,
    };
    match of.json {
        true => output::print_json(&stat),
        false => output::print(&text(&stat)),
    }
}

fn text(stat: &Stat) -> String {
    let mut text = format!("store  {}\nnode   {:016x}\n\n", stat.store, stat.node);
    let mut line = |kind: &str, rows: u64, bytes: u64| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{kind:<28}{rows:>12}  {:>10}", format_bytes(bytes));
    };
    for (kind, sum) in &stat.kinds {
        line(kind, sum.rows, sum.bytes);
    }
    line("all", stat.rows, stat.bytes);
    text
}

fn dump(of: &JournalOf) -> Result<(), Error> {
    let mut printed = Ok(());
    each_row(of, &mut |row| {
        printed = match of.json {
            true => output::print_json_line(&row),
            false => output::print(&format!("{} {} {}\n", row.kind, row.key, row.value)),
        };
        printed.is_ok()
    })?;
    printed
}

/// Tells all rows, of a file system that nobody has mounted here.
fn each_row(
    of: &JournalOf,
    told: &mut (dyn FnMut(DumpedRow) -> bool + Send),
) -> Result<CacheDir, Error> {
    let options = place::options_of(&of.place, &of.options)?;
    place::block_on(async {
        let cache_dir = CacheDir::lock_existing(&options, "journal")?;
        let rows = place::open_journal(&options, &cache_dir).await?;
        journal::dump(rows.as_ref(), told).await?;
        Ok(cache_dir)
    })
}
