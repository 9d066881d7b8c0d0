//! Files that are to stay in the cache: `fused pin`.
//!
//! The journal holds the pins; nothing is remembered here. Whoever is about to give up local bytes asks it first, so
//! that a pin counts from the moment that it is recorded, also for what comes below a pinned directory later. An
//! eviction that had asked just before goes on: the load that follows a pin brings the file back.

use journal::Ino;

use super::walk::Unmet;
use super::{Error, Result, Vfs};

/// Pins read from the journal at once.
const PAGE: usize = 512;

/// What keeps a file or directory in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// Nothing.
    No,
    /// Its own pin.
    Itself,
    /// The pin of this directory above it.
    Above(Ino),
}

/// What taking pins away did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpinned {
    /// Pins that are gone.
    pub count: u64,
    /// Paths that a directory above them keeps in the cache all the same, and the directory's path.
    pub still: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Vfs {
    /// Pins what these paths, relative to the root, lead to; answers how many were not pinned before. All of them
    /// are there, or none is pinned.
    pub async fn pin(&self, paths: &[Vec<u8>]) -> std::result::Result<u64, Unmet> {
        let mut inos = Vec::with_capacity(paths.len());
        for path in paths {
            inos.push(self.at(path).await?);
        }
        let mut count = 0;
        for (path, ino) in paths.iter().zip(inos) {
            let pinned = self.journal().pin(ino).await;
            count += u64::from(pinned.map_err(|error| unmet(path, error.into()))?);
        }
        self.durable(paths).await?;
        Ok(count)
    }

    /// Takes the pins from everything at and below these paths.
    pub async fn unpin(&self, paths: &[Vec<u8>]) -> std::result::Result<Unpinned, Unmet> {
        let mut unpinned = Unpinned::default();
        for path in paths {
            let ino = self.at(path).await?;
            let taken = self.unpin_below(path).await;
            unpinned.count += taken.map_err(|error| unmet(path, error))?;
            let still = self.pinned(ino).await;
            if let Pinned::Above(above) = still.map_err(|error| unmet(path, error))? {
                let above = self.journal().path(above).await;
                let above = above.map_err(|error| unmet(path, error.into()))?;
                let above = above.unwrap_or_default().join(&b'/');
                unpinned.still.push((path.clone(), above));
            }
        }
        self.inner.space.tenants.recount();
        self.inner.space.expiry.recount();
        self.durable(paths).await?;
        Ok(unpinned)
    }

    async fn unpin_below(&self, path: &[u8]) -> Result<u64> {
        let mut count = 0;
        let mut after = None;
        loop {
            let pins = self.journal().pins(after, PAGE).await?;
            for ino in &pins {
                let at = self.journal().path(*ino).await?;
                if at.is_some_and(|at| is_below(&at.join(&b'/'), path)) {
                    count += u64::from(self.journal().unpin(*ino).await?);
                }
            }
            match pins.last() {
                Some(last) => after = Some(*last),
                None => return Ok(count),
            }
        }
    }

    /// What keeps it in the cache.
    pub(super) async fn pinned(&self, ino: Ino) -> Result<Pinned> {
        Ok(match self.journal().pinned(ino).await? {
            None => Pinned::No,
            Some(by) if by == ino => Pinned::Itself,
            Some(above) => Pinned::Above(above),
        })
    }

    /// How many pins there are, and the paths of the first ones.
    pub async fn pins(&self, named_max: usize) -> Result<(u64, Vec<Vec<u8>>)> {
        let mut count = 0;
        let mut named = Vec::new();
        let mut after = None;
        loop {
            let pins = self.journal().pins(after, PAGE).await?;
            count += pins.len() as u64;
            for ino in pins.iter().take(named_max.saturating_sub(named.len())) {
                let path = self.journal().path(*ino).await?;
                named.extend(path.map(|path| path.join(&b'/')));
            }
            match pins.last() {
                Some(last) => after = Some(*last),
                None => return Ok((count, named)),
            }
        }
    }

    async fn at(&self, path: &[u8]) -> std::result::Result<Ino, Unmet> {
        let found = self.find_path(path).await;
        Ok(found.map_err(|error| unmet(path, error))?.ino)
    }

    async fn durable(&self, paths: &[Vec<u8>]) -> std::result::Result<(), Unmet> {
        let path = paths.first().map_or(&b""[..], Vec::as_slice);
        let synced = self.journal().sync().await;
        synced.map_err(|error| unmet(path, error.into()))
    }
}

fn unmet(path: &[u8], error: Error) -> Unmet {
    Unmet {
        path: path.to_vec(),
        error,
    }
}

/// Whether a path is at or below another one.
pub fn is_below(path: &[u8], wanted: &[u8]) -> bool {
    match path.strip_prefix(wanted) {
        Some(rest) => wanted.is_empty() || rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_itself_and_its_parents_only() {
        assert!(is_below(b"a/b", b""));
        assert!(is_below(b"a/b", b"a"));
        assert!(is_below(b"a/b", b"a/b"));
        assert!(!is_below(b"a/bc", b"a/b"));
        assert!(!is_below(b"a", b"a/b"));
    }
}
