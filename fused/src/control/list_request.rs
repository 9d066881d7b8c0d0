//! `fused ls`: lines as they are known, and a sign of life during long sums.

use std::io;
use std::time::Duration;

use tokio::net::unix::OwnedWriteHalf;
use tokio::time::Instant;

use super::line::say;
use super::protocol::{Entry, EntryKind, Failed, Reply, WirePath};
use crate::vfs::{Pinned, Residency, Vfs};

/// Well within what the client takes for silence.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// Answers one list request.
pub async fn answer(
    writer: &mut OwnedWriteHalf,
    vfs: &Vfs,
    paths: Vec<WirePath>,
    each: bool,
) -> io::Result<()> {
    let paths = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    let mut report = vfs.residency(paths, each);
    let mut spoken = Instant::now();
    loop {
        // A listing that the store does not answer takes longer than a client waits.
        let next = report.next();
        tokio::pin!(next);
        let line = loop {
            match tokio::time::timeout(SIGN_OF_LIFE, &mut next).await {
                Ok(line) => break line,
                Err(_) => say(writer, &Reply::Listing).await?,
            }
        };
        let reply = match line {
            None => return say(writer, &Reply::Listed).await,
            Some(Ok(Some(line))) => Reply::Entry(entry(line)),
            Some(Ok(None)) if spoken.elapsed() < SIGN_OF_LIFE => continue,
            Some(Ok(None)) => Reply::Listing,
            Some(Err(unmet)) => Reply::Unlisted(Failed {
                path: unmet.path.into(),
                reason: unmet.error.to_string(),
            }),
        };
        say(writer, &reply).await?;
        spoken = Instant::now();
    }
}

fn entry(line: Residency) -> Entry {
    Entry {
        path: line.path.into(),
        kind: match line.kind {
            journal::Kind::File => EntryKind::File,
            journal::Kind::Directory => EntryKind::Directory,
            _ => EntryKind::Other,
        },
        files: line.files,
        bytes: line.bytes,
        resident: line.resident,
        dirty: line.dirty,
        pinned: line.pinned != Pinned::No,
    }
}
