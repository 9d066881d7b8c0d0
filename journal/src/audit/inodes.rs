//! Inodes, each with all rows that begin with its number.

use super::cursor::Cursor;
use super::mend::What;
use super::{Grade, Pass};
use crate::records::{self, ChunkRow, DirentRow, InodeRow, LinkRow, XattrRow};
use crate::types::{Ino, Kind};
use crate::{Error, keys};

/// Largest value of an attribute in rows: 64 KiB in pieces of 2 KiB.
const CHUNKS_MAX: usize = 32;

/// What the passes over inodes learned of their numbers.
pub(super) struct Numbers {
    /// How many there are.
    pub(super) count: u64,
    /// The largest.
    pub(super) last: u64,
    pub(super) has_root: bool,
}

/// Cursors over everything that hangs on inodes, in the order of their numbers.
struct Side {
    inodes: Cursor,
    entries: Cursor,
    links: Cursor,
    targets: Cursor,
    attributes: Cursor,
    chunks: Cursor,
    digested: Cursor,
    digests: Cursor,
    listings: Cursor,
    resyncs: Cursor,
}

/// What the rows beside an inode add up to.
#[derive(Default)]
struct Around {
    child_dirs: i64,
    links: i64,
    primaries: usize,
    /// The primary link, or else the first.
    place: Option<(Ino, Vec<u8>)>,
    target_rows: u64,
    target_bytes: u64,
    /// Rows that nobody but this inode can need, links included.
    rows: u64,
    listing: bool,
    resync: bool,
}

impl Pass<'_> {
    pub(super) async fn inodes(&mut self) -> Result<Numbers, Error> {
        let mut side = Side {
            inodes: Cursor::new(b"I"),
            entries: Cursor::new(b"D"),
            links: Cursor::new(b"L"),
            targets: Cursor::new(b"T"),
            attributes: Cursor::new(b"X"),
            chunks: Cursor::new(b"x"),
            digested: Cursor::new(b"V"),
            digests: Cursor::new(b"v"),
            listings: Cursor::new(b"S"),
            resyncs: Cursor::new(b"R"),
        };
        let mut numbers = Numbers {
            count: 0,
            last: 0,
            has_root: false,
        };
        while let Some(ino) = self.next_ino(&mut side).await? {
            let row = side.inodes.next_of(ino, &mut self.reader).await?;
            let around = self.around(ino, &mut side).await?;
            let ino = Ino(ino);
            match row {
                Some((key, value)) => {
                    self.audit.inodes += 1;
                    numbers.count += 1;
                    numbers.last = numbers.last.max(ino.0);
                    numbers.has_root |= ino == Ino::ROOT;
                    if let Some(row) = self.decode::<InodeRow>(&key, &value) {
                        self.inode(ino, row, around).await?;
                    }
                }
                None if around.rows > 0 => {
                    let sentence = format!(
                        "inode {ino} is not there, but {} rows of it are",
                        around.rows
                    );
                    let has_name = self.half.get(&ino).is_some_and(|names| *names > 0);
                    let mend = (!has_name).then_some(What::DropInodeRows(ino));
                    self.tell_of(ino, Grade::Wrong, "rows-without-inode", sentence, mend)
                        .await;
                }
                None => {}
            }
        }
        Ok(numbers)
    }

    /// The smallest number that any of the next rows begins with.
    async fn next_ino(&mut self, side: &mut Side) -> Result<Option<u64>, Error> {
        let mut least: Option<u64> = None;
        for cursor in [
            &mut side.inodes,
            &mut side.entries,
            &mut side.links,
            &mut side.targets,
            &mut side.attributes,
            &mut side.chunks,
            &mut side.digested,
            &mut side.digests,
            &mut side.listings,
            &mut side.resyncs,
        ] {
            let next = cursor.ino(&mut self.reader).await?;
            least = [least, next].into_iter().flatten().min();
        }
        Ok(least)
    }

    async fn around(&mut self, ino: u64, side: &mut Side) -> Result<Around, Error> {
        let mut around = Around::default();
        while let Some((key, value)) = side.entries.next_of(ino, &mut self.reader).await? {
            // Unreadable ones have been told of.
            if let Ok(entry) = records::decode::<DirentRow>(&key, &value) {
                around.child_dirs += i64::from(entry.kind == Kind::Directory);
            }
        }
        while let Some((key, value)) = side.links.next_of(ino, &mut self.reader).await? {
            around.rows += 1;
            around.links += 1;
            let primary = records::decode::<LinkRow>(&key, &value).is_ok_and(|row| row.primary);
            if let Some((parent, name)) = keys::parse_link(&key)
                && (around.place.is_none() || (primary && around.primaries == 0))
            {
                around.place = Some((parent, name.to_vec()));
            }
            around.primaries += usize::from(primary);
        }
        while let Some((key, value)) = side.targets.next_of(ino, &mut self.reader).await? {
            around.rows += 1;
            around.target_rows += 1;
            if let Some(chunk) = self.decode::<ChunkRow>(&key, &value) {
                around.target_bytes += chunk.bytes.len() as u64;
            }
        }
        while let Some((key, value)) = side.attributes.next_of(ino, &mut self.reader).await? {
            around.rows += 1;
            if let Some(row) = self.decode::<XattrRow>(&key, &value) {
                let name = key[keys::XATTR_NAME..].to_vec();
                self.attribute(Ino(ino), &name, row).await?;
            }
        }
        let mut before = Vec::new();
        while let Some((key, _)) = side.chunks.next_of(ino, &mut self.reader).await? {
            around.rows += 1;
            self.chunk(Ino(ino), &key, &mut before).await?;
        }
        while let Some((key, value)) = side.digested.next_of(ino, &mut self.reader).await? {
            around.rows += 1;
            self.digests::<records::DigestedRow>(Ino(ino), key, &value)
                .await;
        }
        while let Some((key, value)) = side.digests.next_of(ino, &mut self.reader).await? {
            around.rows += 1;
            self.digests::<records::DigestRow>(Ino(ino), key, &value)
                .await;
        }
        while let Some((key, value)) = side.listings.next_of(ino, &mut self.reader).await? {
            around.rows += 1;
            around.listing = true;
            self.decode::<crate::types::Listing>(&key, &value);
        }
        while let Some((key, value)) = side.resyncs.next_of(ino, &mut self.reader).await? {
            around.rows += 1;
            around.resync = true;
            self.decode::<records::ResyncRow>(&key, &value);
        }
        Ok(around)
    }

    /// A row of digests that can't be read keeps the object from being read. Without it nothing is compared.
    async fn digests<R: records::Record>(&mut self, ino: Ino, key: Vec<u8>, value: &[u8]) {
        if let Err(error) = records::decode::<R>(&key, value) {
            let sentence = format!("digests of its object can't be read: {error}");
            let mend = Some(What::DropRow(key));
            self.tell_of(ino, Grade::Wrong, "unreadable-digests", sentence, mend)
                .await;
        }
    }

    /// The first row of an attribute says how long it is.
    async fn attribute(&mut self, ino: Ino, name: &[u8], row: XattrRow) -> Result<(), Error> {
        let mut bytes = row.head.len();
        if bytes < row.length as usize {
            let prefix = keys::xattr_chunks(ino, name);
            let end = keys::after_prefix(&prefix);
            for (key, value) in self.reader.range(&prefix, &end, CHUNKS_MAX).await? {
                if let Some(chunk) = self.decode::<ChunkRow>(&key, &value) {
                    bytes += chunk.bytes.len();
                }
            }
        }
        if bytes != row.length as usize {
            let sentence = format!(
                "of the extended attribute {} {bytes} bytes are there, not {}",
                String::from_utf8_lossy(name),
                row.length
            );
            self.tell_of(ino, Grade::Lost, "torn-attribute", sentence, None)
                .await;
        }
        Ok(())
    }

    /// A further piece of an attribute belongs to a first one.
    async fn chunk(&mut self, ino: Ino, key: &[u8], before: &mut Vec<u8>) -> Result<(), Error> {
        // Name, NUL, two bytes.
        let name_end = key.len().saturating_sub(3).max(keys::XATTR_NAME);
        let name = key.get(keys::XATTR_NAME..name_end).unwrap_or_default();
        if name == before.as_slice() {
            return Ok(());
        }
        *before = name.to_vec();
        // All rows of a missing inode are told of together.
        let needless = !self.reader.has(&keys::xattr(ino, name)).await?
            && self.reader.has(&keys::inode(ino)).await?;
        if needless {
            let sentence = format!(
                "the end of an extended attribute {} that is not there",
                String::from_utf8_lossy(name)
            );
            let mend = Some(What::DropPrefix(keys::xattr_chunks(ino, name)));
            self.tell_of(ino, Grade::Wrong, "dangling-row", sentence, mend)
                .await;
        }
        Ok(())
    }

    async fn inode(&mut self, ino: Ino, row: InodeRow, around: Around) -> Result<(), Error> {
        if row.inode.ino != ino {
            let sentence = format!("its row says that it is inode {}", row.inode.ino);
            self.tell_of(ino, Grade::Wrong, "wrong-number", sentence, None)
                .await;
            return Ok(());
        }
        self.names_of(&row, &around).await?;
        self.marks_of(&row).await?;
        self.claim_of(&row).await?;
        let wrong = |what: &str| format!("{what}, which it can't have");
        let live_dir = row.inode.kind == Kind::Directory && row.inode.nlink > 0;
        if around.listing && !live_dir {
            let mend = Some(What::DropRow(keys::listing(ino)));
            self.tell_of(ino, Grade::Wrong, "dangling-row", wrong("a listing"), mend)
                .await;
        }
        if around.resync && !live_dir {
            let mend = Some(What::DropRow(keys::resync(ino)));
            let sentence = wrong("children that wait to follow a rename");
            self.tell_of(ino, Grade::Wrong, "dangling-row", sentence, mend)
                .await;
        }
        match row.inode.kind {
            Kind::Symlink if around.target_bytes != row.inode.size => {
                let sentence = format!(
                    "of its target {} bytes are there, not {}",
                    around.target_bytes, row.inode.size
                );
                self.tell_of(ino, Grade::Lost, "torn-symlink", sentence, None)
                    .await;
            }
            Kind::Symlink => {}
            _ if around.target_rows > 0 => {
                let mend = Some(What::DropPrefix(keys::targets(ino)));
                let sentence = wrong("the target of a symlink");
                self.tell_of(ino, Grade::Wrong, "dangling-row", sentence, mend)
                    .await;
            }
            _ => {}
        }
        Ok(())
    }

    async fn names_of(&mut self, row: &InodeRow, around: &Around) -> Result<(), Error> {
        let (inode, ino) = (&row.inode, row.inode.ino);
        let is_dir = inode.kind == Kind::Directory;
        let half = self.half.get(&ino).copied().unwrap_or_default();
        let names = around.links + half;
        if ino != Ino::ROOT && names <= 0 {
            if inode.nlink > 0 {
                let sentence = "no name leads to it".to_owned();
                self.tell_of(ino, Grade::Lost, "unreachable", sentence, None)
                    .await;
            }
            return Ok(());
        }
        if is_dir && names > 1 {
            let sentence = format!("a directory with {names} names");
            self.tell_of(ino, Grade::Wrong, "second-name", sentence, None)
                .await;
        }
        let unlisted = self.unlisted.get(&ino).copied().unwrap_or_default();
        let right = match is_dir {
            true => 2 + around.child_dirs + unlisted,
            false => names,
        };
        let right = u32::try_from(right).unwrap_or(u32::MAX);
        if inode.nlink != right {
            let sentence = format!("its link count is {}, not {right}", inode.nlink);
            let mend = Some(What::SetLinks { ino, nlink: right });
            self.tell_of(ino, Grade::Wrong, "link-count", sentence, mend)
                .await;
        }
        if let Some((parent, name)) = &around.place
            && half == 0
            && ino != Ino::ROOT
        {
            let problem = match around.primaries {
                1 if inode.parent == *parent => None,
                1 => Some((
                    "wrong-parent",
                    format!(
                        "it is in inode {parent}, and says that it is in {}",
                        inode.parent
                    ),
                )),
                count => Some((
                    "primary-name",
                    format!("{count} names give its object the key, not one"),
                )),
            };
            if let Some((kind, sentence)) = problem {
                let mend = What::Primary {
                    ino,
                    parent: *parent,
                    name: name.clone(),
                };
                self.tell_of(ino, Grade::Wrong, kind, sentence, Some(mend))
                    .await;
            }
        }
        if is_dir && inode.nlink > 0 && self.is_in_circle(ino).await? {
            let sentence = "directories that contain each other".to_owned();
            self.tell_of(ino, Grade::Lost, "circle", sentence, None)
                .await;
        }
        Ok(())
    }

    /// Whether the way up comes back to this directory. One that only hangs below a circle does not count (Brent's
    /// algorithm: no memory, and few steps more than there are).
    async fn is_in_circle(&mut self, ino: Ino) -> Result<bool, Error> {
        let (mut mark, mut at) = (ino, ino);
        let (mut steps, mut limit) = (0u64, 1u64);
        loop {
            let super::Known::Here(row) = self.known(at).await? else {
                return Ok(false);
            };
            if at == Ino::ROOT {
                return Ok(false);
            }
            at = row.inode.parent;
            if at == ino {
                return Ok(true);
            }
            if at == mark {
                return Ok(false);
            }
            steps += 1;
            if steps == limit {
                (mark, limit, steps) = (at, limit * 2, 0);
            }
        }
    }

    /// Without a claim the next listing would take the object for another file.
    async fn claim_of(&mut self, row: &InodeRow) -> Result<(), Error> {
        let (inode, ino) = (&row.inode, row.inode.ino);
        if let Some(origin) = &inode.content.origin
            && !self.reader.has(&keys::claim(&origin.key)).await?
        {
            let sentence = "no row says that its object is its".to_owned();
            let mend = Some(What::PutClaim {
                key: origin.key.clone(),
                ino,
            });
            self.tell_of(ino, Grade::Wrong, "missing-claim", sentence, mend)
                .await;
        }
        Ok(())
    }

    /// What an inode says of rows that are ordered otherwise.
    async fn marks_of(&mut self, row: &InodeRow) -> Result<(), Error> {
        let (inode, ino) = (&row.inode, row.inode.ino);
        match row.unsynced_on {
            Some(node) if !self.reader.has(&keys::unsynced(node, ino)).await? => {
                let sentence = "it waits for its upload, and the flusher does not know".to_owned();
                let mend = Some(What::Remark { ino, key: None });
                self.tell_of(ino, Grade::Wrong, "never-uploaded", sentence, mend)
                    .await;
            }
            None if inode.kind == Kind::File
                && inode.nlink > 0
                && inode.content.writer.is_none()
                && (inode.is_content_dirty() || inode.is_meta_dirty()) =>
            {
                let sentence =
                    "it is not in the store as it is here, and does not wait for its upload";
                let mend = Some(What::Remark { ino, key: None });
                let sentence = sentence.to_owned();
                self.tell_of(ino, Grade::Wrong, "never-uploaded", sentence, mend)
                    .await;
            }
            _ => {}
        }
        if let Some(node) = inode.content.writer
            && !self.reader.has(&keys::writer(node, ino)).await?
        {
            let sentence = format!("node {node} is to be writing it, and no row says so");
            self.tell_of(ino, Grade::Wrong, "writer-row", sentence, None)
                .await;
        }
        match row.orphan_on {
            Some(_) if inode.nlink > 0 => {
                let sentence = "it has a name, and waits to be removed".to_owned();
                let mend = Some(What::DropOrphan(ino));
                self.tell_of(ino, Grade::Wrong, "live-orphan", sentence, mend)
                    .await;
            }
            Some(node) if !self.reader.has(&keys::orphan(node, ino)).await? => {
                let sentence = "it was removed, and nobody remembers to free it".to_owned();
                let mend = Some(What::PutOrphan { node, ino });
                self.tell_of(ino, Grade::Wrong, "forgotten-orphan", sentence, mend)
                    .await;
            }
            None if inode.nlink == 0 => {
                let sentence =
                    "it has no name, and nobody remembers that it was removed".to_owned();
                self.tell_of(ino, Grade::Wrong, "forgotten-orphan", sentence, None)
                    .await;
            }
            _ => {}
        }
        Ok(())
    }
}
