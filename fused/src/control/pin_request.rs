//! `fused pin` and `fused unpin`: answered once they are durable.

use super::protocol::{Reply, StillPinned, Unpinned, WirePath};
use crate::vfs::{Unmet, Vfs};

/// Answers one pin request.
pub async fn pin(vfs: &Vfs, paths: &[WirePath]) -> Reply {
    match vfs.pin(&bytes_of(paths)).await {
        Ok(count) => Reply::Pinned { count },
        Err(unmet) => refusal(unmet),
    }
}

/// Answers one unpin request.
pub async fn unpin(vfs: &Vfs, paths: &[WirePath]) -> Reply {
    match vfs.unpin(&bytes_of(paths)).await {
        Ok(unpinned) => Reply::Unpinned(Unpinned {
            count: unpinned.count,
            still: unpinned
                .still
                .into_iter()
                .map(|(path, by)| StillPinned {
                    path: path.into(),
                    by: by.into(),
                })
                .collect(),
        }),
        Err(unmet) => refusal(unmet),
    }
}

fn bytes_of(paths: &[WirePath]) -> Vec<Vec<u8>> {
    paths.iter().map(|path| path.as_bytes().to_vec()).collect()
}

fn refusal(unmet: Unmet) -> Reply {
    let path = WirePath::from(unmet.path);
    Reply::Error {
        message: format!("{path}: {}", unmet.error),
    }
}
