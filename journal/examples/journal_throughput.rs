//! How fast the journal is on the embedded store: prints a table.
//!
//! `cargo run --release -p journal --example journal_throughput [DIR]`: DIR should be on the disk in
//! question; by default a directory below the current one, because /tmp is often memory.

use journal::{
    EmbeddedOptions, EmbeddedStore, EndWrite, Identity, Ino, Journal, Kind, NewInode, NodeId,
    Timestamp,
};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NODE: NodeId = NodeId(1);

fn new_file(kind: Kind) -> NewInode {
    NewInode {
        kind,
        mode: 0o644,
        umask: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        target: None,
        writer: None,
    }
}

#[allow(clippy::print_stdout, reason = "a program that prints a table")]
fn report(what: &str, count: u64, elapsed: Duration) {
    let seconds = elapsed.as_secs_f64();
    println!(
        "{what:<44} {:>10.0}/s {:>10.1} us each",
        count as f64 / seconds,
        seconds * 1e6 / count as f64
    );
}

/// Creates files until the time is over; returns how many.
async fn producer(
    journal: Journal,
    parent: Ino,
    id: u64,
    until: Instant,
) -> Result<u64, journal::Error> {
    let mut count = 0;
    while Instant::now() < until {
        let name = format!("p{id}-{count}");
        journal
            .create(
                parent,
                name.as_bytes(),
                new_file(Kind::File),
                Timestamp::now(),
            )
            .await?;
        journal.sync().await?;
        count += 1;
    }
    Ok(count)
}

async fn durable(journal: &Journal, producers: u64) -> Result<(), Box<dyn Error>> {
    let name = format!("durable-{producers}");
    let dir = journal
        .create(
            Ino::ROOT,
            name.as_bytes(),
            new_file(Kind::Directory),
            Timestamp::now(),
        )
        .await?;
    let start = Instant::now();
    let until = start + Duration::from_secs(5);
    let tasks: Vec<_> = (0..producers)
        .map(|id| tokio::spawn(producer(journal.clone(), dir.ino, id, until)))
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    let what = format!("create + sync, {producers} producers");
    report(&what, count, start.elapsed());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let below = std::env::args_os().nth(1).map_or(".".into(), PathBuf::from);
    let temporary = tempfile::tempdir_in(below)?;
    let store = EmbeddedStore::open(temporary.path(), EmbeddedOptions::default())?;
    let identity = Identity {
        store_url: "file:///bench".into(),
        node: NODE,
    };
    let journal = Journal::open(Arc::new(store), identity).await?;
    let count = 50_000;

    let start = Instant::now();
    for n in 0..count {
        let name = format!("file-{n}");
        journal
            .create(
                Ino::ROOT,
                name.as_bytes(),
                new_file(Kind::File),
                Timestamp::now(),
            )
            .await?;
    }
    report("create, 1 thread", count, start.elapsed());

    let start = Instant::now();
    for n in 0..count {
        let name = format!("file-{}", (n * 7919) % count);
        journal.lookup(Ino::ROOT, name.as_bytes()).await?;
    }
    report("lookup, 1 thread", count, start.elapsed());

    let start = Instant::now();
    for n in 0..count {
        journal
            .lookup(Ino::ROOT, format!("none-{n}").as_bytes())
            .await?;
    }
    report("lookup of a missing name, 1 thread", count, start.elapsed());

    let start = Instant::now();
    let (mut after, mut entries) = (None, 0);
    loop {
        let page = journal.read_dir(Ino::ROOT, after.as_deref(), 1000).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        entries += page.len() as u64;
    }
    report("read_dir, per entry", entries, start.elapsed());

    let start = Instant::now();
    for n in 0..count {
        let ino = Ino(n + 2);
        let end = EndWrite {
            size: n,
            mtime: Timestamp::now(),
            changed: true,
            close: true,
            seal: None,
        };
        journal
            .begin_write(ino, NODE, false, Timestamp::now())
            .await?;
        journal.end_write(ino, NODE, end, Timestamp::now()).await?;
    }
    report("begin_write + end_write, 1 thread", count, start.elapsed());

    durable(&journal, 1).await?;
    durable(&journal, 64).await?;

    let start = Instant::now();
    for n in 0..count {
        let name = format!("file-{n}");
        let removed = journal
            .unlink(Ino::ROOT, name.as_bytes(), Timestamp::now())
            .await?;
        journal.reap(removed.inode.ino).await?;
    }
    report("unlink + reap, 1 thread", count, start.elapsed());
    Ok(())
}
