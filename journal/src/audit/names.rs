//! Names in both directions: directory entries and links.

use super::cursor::Cursor;
use super::mend::What;
use super::{Damage, Grade, Known, Mend, Pass};
use crate::records::{self, DirentRow, LinkRow};
use crate::types::{Ino, Kind};
use crate::{Error, keys};

impl Pass<'_> {
    pub(super) async fn names(&mut self) -> Result<(), Error> {
        let mut entries = Cursor::new(b"D");
        // Entries of one directory come one after the other.
        let mut directory = (Ino(0), false);
        while let Some((key, value)) = entries.next(&mut self.reader).await? {
            self.audit.names += 1;
            let Some(entry) = self.decode::<DirentRow>(&key, &value) else {
                continue;
            };
            let Some(parent) = keys::parse_ino(&key) else {
                continue;
            };
            let name = &key[keys::DIRENT_NAME..];
            if directory.0 != parent {
                directory = (parent, self.known(parent).await?.is_live_dir());
            }
            self.entry(parent, name, entry, directory.1).await?;
        }
        let mut links = Cursor::new(b"L");
        while let Some((key, value)) = links.next(&mut self.reader).await? {
            if self.decode::<LinkRow>(&key, &value).is_none() {
                continue;
            }
            if let (Some(ino), Some((parent, name))) =
                (keys::parse_ino(&key), keys::parse_link(&key))
            {
                self.link(&key, ino, parent, name).await?;
            }
        }
        Ok(())
    }

    /// A name that can't be reached.
    async fn tell_astray(&mut self, place: (Ino, &[u8]), ino: Ino) {
        let parent = place.0;
        let sentence = format!("the name is in inode {parent}, which is no directory with a name");
        self.tell_name(
            place,
            ino,
            Grade::Lost,
            "name-without-directory",
            sentence,
            None,
        )
        .await;
    }

    async fn tell_name(
        &mut self,
        place: (Ino, &[u8]),
        ino: Ino,
        grade: Grade,
        kind: &'static str,
        sentence: String,
        mend: Option<What>,
    ) {
        let path = self.path_of(place.0, place.1).await;
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

    async fn entry(
        &mut self,
        parent: Ino,
        name: &[u8],
        entry: DirentRow,
        in_directory: bool,
    ) -> Result<(), Error> {
        let (ino, place) = (entry.ino, (parent, name));
        let row = match self.known(ino).await? {
            Known::Unreadable => return Ok(()),
            Known::Missing => {
                if !self.reader.has(&keys::link(ino, parent, name)).await? {
                    *self.half.entry(ino).or_default() += 1;
                }
                let mut sentence = format!("the name leads to inode {ino}, which is not there");
                // Of a directory there may be children, and a symlink is in no store.
                let mend = (entry.kind == Kind::File).then(|| What::DropName {
                    parent,
                    name: name.to_vec(),
                });
                if mend.is_some() {
                    sentence.push_str(
                        "; if its object is in the store, removing the name lets the next listing bring it back",
                    );
                }
                self.tell_name(place, ino, Grade::Lost, "dangling-name", sentence, mend)
                    .await;
                return Ok(());
            }
            Known::Here(row) => row,
        };
        if !in_directory {
            self.tell_astray(place, ino).await;
            return Ok(());
        }
        if entry.kind != row.inode.kind {
            let is_dir = |kind| i64::from(kind == Kind::Directory);
            *self.unlisted.entry(parent).or_default() +=
                is_dir(row.inode.kind) - is_dir(entry.kind);
            let sentence = format!(
                "the directory says that this is a {:?}, its inode that it is a {:?}",
                entry.kind, row.inode.kind
            );
            let mend = What::FixKind {
                parent,
                name: name.to_vec(),
            };
            self.tell_name(place, ino, Grade::Wrong, "wrong-kind", sentence, Some(mend))
                .await;
        }
        if self.reader.has(&keys::link(ino, parent, name)).await? {
            return Ok(());
        }
        *self.half.entry(ino).or_default() += 1;
        let sentence = format!("the directory has the name, inode {ino} does not know of it");
        // A directory must not get a second name by that.
        let mend = match row.inode.kind == Kind::Directory && self.has_link(ino).await? {
            true => None,
            false => Some(What::WholeName {
                parent,
                name: name.to_vec(),
                ino,
            }),
        };
        self.tell_name(place, ino, Grade::Wrong, "half-name", sentence, mend)
            .await;
        Ok(())
    }

    async fn has_link(&mut self, ino: Ino) -> Result<bool, Error> {
        let prefix = keys::links(ino);
        let rows = self
            .reader
            .range(&prefix, &keys::after_prefix(&prefix), 1)
            .await?;
        Ok(!rows.is_empty())
    }

    async fn link(&mut self, key: &[u8], ino: Ino, parent: Ino, name: &[u8]) -> Result<(), Error> {
        let entry_key = keys::dirent(parent, name);
        let place = (parent, name);
        match self.reader.get(&entry_key).await? {
            // An unreadable entry is told of already.
            Some(value) => match records::decode::<DirentRow>(&entry_key, &value) {
                Ok(entry) if entry.ino != ino => {
                    *self.half.entry(ino).or_default() -= 1;
                    let sentence = format!(
                        "inode {ino} claims the name, which is inode {}'s",
                        entry.ino
                    );
                    let mend = What::DropRow(key.to_vec());
                    self.tell_name(place, ino, Grade::Wrong, "stale-link", sentence, Some(mend))
                        .await;
                }
                _ => {}
            },
            None => {
                let Known::Here(row) = self.known(ino).await? else {
                    // All rows of a missing inode are told of together.
                    return Ok(());
                };
                if !self.known(parent).await?.is_live_dir() {
                    self.tell_astray(place, ino).await;
                    return Ok(());
                }
                if row.inode.kind == Kind::Directory {
                    *self.unlisted.entry(parent).or_default() += 1;
                }
                let sentence = format!("inode {ino} has the name, its directory does not list it");
                let mend = What::WholeName {
                    parent,
                    name: name.to_vec(),
                    ino,
                };
                self.tell_name(place, ino, Grade::Wrong, "half-name", sentence, Some(mend))
                    .await;
            }
        }
        Ok(())
    }
}
