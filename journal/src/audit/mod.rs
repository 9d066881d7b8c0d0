//! Whether a journal agrees with itself, row by row, and what of it can be mended without losing anything.
//!
//! For a journal that nobody else changes meanwhile: the daemon does not run. Three passes:
//!
//! 1. `names`: every name has both its directions (directory entry and link) and leads to an inode;
//! 2. `inodes`: the rows of one inode, of all tags that begin with its number, are read side by side, so that
//!    what hangs on it is counted without remembering more than one inode;
//! 3. `indexes`: rows by node, by object key and by nothing lead to inodes that say the same.
//!
//! Memory is a page of rows for each tag, at most [`DAMAGES_MAX`] damages, and a number for each inode with half
//! a name; time about five reads a name.
//!
//! A [`Mend`] makes one damage good by what other rows say. It never removes an inode, nor the last that leads
//! to one. What needs a guess has none. Mending may uncover or mend other damage, so look again afterwards.
//! What is mended may have been kept for a power cut only: the bytes that are here must be durable before.

mod cursor;
mod indexes;
mod inodes;
mod mend;
mod names;
#[cfg(test)]
mod tests;

use crate::attempts::look;
use crate::kv::KvStore;
use crate::records::{self, FORMAT, FormatRow, InodeRow, Record};
use crate::types::{Identity, Ino, Inode, Kind};
use crate::{Error, Journal, keys};
use cursor::Reader;
use mend::What;
use std::collections::HashMap;
use std::sync::Arc;

/// Damages told by one look; the rest is counted.
pub const DAMAGES_MAX: usize = 10_000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Something of a user's is gone, or can't be reached any more.
    Lost,
    /// Rows that contradict each other.
    Wrong,
    /// What an interrupted daemon leaves and the next one removes.
    Leftover,
}

/// Rows that are not as they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// How bad it is.
    pub grade: Grade,
    /// What it is, in a word or two that do not change between releases.
    pub kind: &'static str,
    /// The inode that it is about.
    pub ino: Option<Ino>,
    /// The object key that it is about.
    pub key: Option<String>,
    /// Names from the root, as far as they are known.
    pub path: Option<Vec<Vec<u8>>>,
    /// What is wrong, for people.
    pub sentence: String,
    /// How to make it good.
    pub mend: Option<Mend>,
}

/// How to make a damage good; see [`Journal::mend`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mend(What);

/// What a look found.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// The damages, [`DAMAGES_MAX`] at most.
    pub damages: Vec<Damage>,
    /// How many more there are.
    pub left_out: u64,
    /// Inodes looked at.
    pub inodes: u64,
    /// Directory entries looked at.
    pub names: u64,
}

impl Journal {
    /// Opens the journal in `store` without changing anything in it, to look for damage.
    pub async fn open_as_is(store: Arc<dyn KvStore>, identity: Identity) -> Result<Journal, Error> {
        let journal = Journal::over(store, identity.node);
        let format: Option<FormatRow> = look!(journal, txn => txn.load(keys::FORMAT))?;
        match format {
            Some(row) if row.format > FORMAT => Err(Error::NewerFormat {
                found: row.format,
                known: FORMAT,
            }),
            Some(row) if row.store_url != identity.store_url => Err(Error::OtherStore {
                found: row.store_url,
                wanted: identity.store_url,
            }),
            _ => Ok(journal),
        }
    }

    /// Looks at every row. Changes nothing.
    pub async fn audit(&self) -> Result<Audit, Error> {
        let mut pass = Pass {
            journal: self,
            reader: Reader::new(&self.shared),
            audit: Audit::default(),
            half: HashMap::new(),
            unlisted: HashMap::new(),
        };
        pass.names().await?;
        let numbers = pass.inodes().await?;
        pass.indexes(numbers).await?;
        Ok(pass.audit)
    }

    /// Regular files after `after`, in the order of numbers, and the number to go on after; unreadable ones
    /// are left out.
    pub async fn files(
        &self,
        after: Option<Ino>,
        limit: usize,
    ) -> Result<(Vec<Inode>, Option<Ino>), Error> {
        let after = after.map(keys::inode);
        let rows = look!(self, txn => txn.rows(b"I", after.as_deref(), limit))?;
        let next = rows.last().and_then(|(key, _)| keys::parse_ino(key));
        let files = rows
            .iter()
            .filter_map(|(key, value)| records::decode::<InodeRow>(key, value).ok())
            .map(|row| row.inode)
            .filter(|inode| inode.kind == Kind::File)
            .collect();
        Ok((files, next))
    }
}

/// One look at everything.
struct Pass<'j> {
    journal: &'j Journal,
    reader: Reader<'j>,
    audit: Audit,
    /// Links of an inode more than it has rows: names of which only the other direction is there, less links
    /// that lead nowhere.
    half: HashMap<Ino, i64>,
    /// Child directories of a directory that lack their entry in it.
    unlisted: HashMap<Ino, i64>,
}

/// An inode's row.
enum Known {
    Missing,
    Unreadable,
    Here(Box<InodeRow>),
}

impl Known {
    /// Whether names can be in it.
    fn is_live_dir(&self) -> bool {
        match self {
            Known::Here(row) => row.inode.kind == Kind::Directory && row.inode.nlink > 0,
            // Nobody can tell.
            Known::Unreadable => true,
            Known::Missing => false,
        }
    }
}

impl Pass<'_> {
    fn tell(&mut self, damage: Damage) {
        match self.audit.damages.len() < DAMAGES_MAX {
            true => self.audit.damages.push(damage),
            false => self.audit.left_out += 1,
        }
    }

    /// A damage of an inode, by its path if it has one.
    async fn tell_of(
        &mut self,
        ino: Ino,
        grade: Grade,
        kind: &'static str,
        sentence: String,
        mend: Option<What>,
    ) {
        // In a damaged tree there may be none.
        let path = self.journal.path(ino).await.ok().flatten();
        self.tell(Damage {
            grade,
            kind,
            ino: Some(ino),
            key: None,
            path,
            sentence,
            mend: mend.map(Mend),
        });
    }

    async fn path_of(&self, parent: Ino, name: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut path = self.journal.path(parent).await.ok().flatten()?;
        path.push(name.to_vec());
        Some(path)
    }

    /// The record of a row, or a damage.
    fn decode<R: Record>(&mut self, key: &[u8], value: &[u8]) -> Option<R> {
        let tag = char::from(key.first().copied().unwrap_or_default());
        match records::decode(key, value) {
            Ok(record) => Some(record),
            Err(error) => {
                let sentence = format!("a row of kind {tag} can't be read: {error}");
                self.tell(Damage {
                    grade: Grade::Lost,
                    kind: "unreadable-row",
                    ino: None,
                    key: None,
                    path: None,
                    sentence,
                    mend: None,
                });
                None
            }
        }
    }

    async fn known(&mut self, ino: Ino) -> Result<Known, Error> {
        let key = keys::inode(ino);
        Ok(match self.reader.get(&key).await? {
            None => Known::Missing,
            Some(value) => match records::decode(&key, &value) {
                Ok(row) => Known::Here(Box::new(row)),
                Err(_) => Known::Unreadable,
            },
        })
    }
}
