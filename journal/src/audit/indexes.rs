//! Rows by node, by object key, and those that stand alone.

use super::cursor::Cursor;
use super::inodes::Numbers;
use super::mend::What;
use super::{Damage, Grade, Known, Mend, Pass};
use crate::records::{
    self, AskedRow, ClaimRow, FormerRow, GarbageRow, MarkRow, OrphanRow, PartRow, Record,
    UnsyncedRow, UploadRow,
};
use crate::types::{Ino, NodeId, Sent};
use crate::{Error, keys};

/// The first bytes that keys have, in their order; see [`crate::keys`].
const TAGS: &[u8] = b"ABCDEFGHIJKLMNOPRSTUVWXpvx";

impl Pass<'_> {
    pub(super) async fn indexes(&mut self, numbers: Numbers) -> Result<(), Error> {
        let last_seq = self.unsynced().await?;
        self.writers().await?;
        self.orphans().await?;
        self.formers().await?;
        self.pins().await?;
        self.claims().await?;
        self.uploads().await?;
        self.readable::<GarbageRow>(b"G").await?;
        self.readable::<AskedRow>(b"N").await?;
        self.readable::<Sent>(b"M").await?;
        self.unknown_tags().await?;
        self.counters(&numbers, last_seq).await?;
        if !numbers.has_root && self.audit.inodes + self.audit.names > 0 {
            let sentence = "the root directory is not there; the next mount makes an empty one";
            self.tell_alone(Grade::Lost, "no-root", sentence.to_owned(), None);
        }
        if !self.reader.has(keys::FORMAT).await? && self.audit.inodes + self.audit.names > 0 {
            let sentence = "no row says whose journal this is; the next mount writes one";
            self.tell_alone(Grade::Wrong, "no-format", sentence.to_owned(), None);
        }
        Ok(())
    }

    fn tell_alone(
        &mut self,
        grade: Grade,
        kind: &'static str,
        sentence: String,
        mend: Option<What>,
    ) {
        self.tell(Damage {
            grade,
            kind,
            ino: None,
            key: None,
            path: None,
            sentence,
            mend: mend.map(Mend),
        });
    }

    /// A row about an inode that needs none.
    async fn dangling(&mut self, ino: Ino, key: &[u8], what: &str) {
        let sentence = format!("a row says that inode {ino} {what}");
        let mend = Some(What::DropRow(key.to_vec()));
        self.tell_of(ino, Grade::Wrong, "dangling-row", sentence, mend)
            .await;
    }

    /// Node and inode of a key by node.
    fn of_node(&mut self, key: &[u8]) -> Option<(NodeId, Ino)> {
        let node = keys::parse_ino(key).map(|node| NodeId(node.0));
        node.zip(keys::parse_of_node(key))
    }

    /// Answers the largest sequence number.
    async fn unsynced(&mut self) -> Result<u64, Error> {
        let mut last = 0;
        let mut rows = Cursor::new(b"U");
        while let Some((key, value)) = rows.next(&mut self.reader).await? {
            let row = self.decode::<UnsyncedRow>(&key, &value);
            last = row.map_or(last, |row| last.max(row.seq).max(row.stamp));
            let Some((node, ino)) = self.of_node(&key) else {
                continue;
            };
            match self.known(ino).await? {
                Known::Missing => {
                    self.dangling(ino, &key, "waits for its upload; it is not there")
                        .await;
                }
                Known::Here(row) if row.unsynced_on != Some(node) => {
                    let sentence = "the flusher is to upload it, and it does not know".to_owned();
                    let mend = Some(What::Remark {
                        ino,
                        key: Some(key),
                    });
                    self.tell_of(ino, Grade::Wrong, "dangling-row", sentence, mend)
                        .await;
                }
                _ => {}
            }
        }
        Ok(last)
    }

    async fn writers(&mut self) -> Result<(), Error> {
        let mut rows = Cursor::new(b"W");
        while let Some((key, value)) = rows.next(&mut self.reader).await? {
            self.decode::<MarkRow>(&key, &value);
            let Some((node, ino)) = self.of_node(&key) else {
                continue;
            };
            match self.known(ino).await? {
                Known::Missing => {
                    self.dangling(ino, &key, "is being written; it is not there")
                        .await
                }
                Known::Here(row) if row.inode.content.writer != Some(node) => {
                    self.dangling(ino, &key, "is being written; it is closed")
                        .await;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn orphans(&mut self) -> Result<(), Error> {
        let mut rows = Cursor::new(b"O");
        while let Some((key, value)) = rows.next(&mut self.reader).await? {
            self.decode::<OrphanRow>(&key, &value);
            let Some((node, ino)) = self.of_node(&key) else {
                continue;
            };
            match self.known(ino).await? {
                Known::Missing => {
                    self.dangling(ino, &key, "waits to be freed; it is not there")
                        .await
                }
                Known::Here(row) if row.orphan_on.is_none() && row.inode.nlink > 0 => {
                    self.dangling(ino, &key, "waits to be freed; it has a name")
                        .await;
                }
                // One without a name is told of with the inode, and has no mend there.
                Known::Here(row) if row.orphan_on.is_some_and(|on| on != node) => {
                    self.dangling(ino, &key, "waits to be freed on another node")
                        .await;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn formers(&mut self) -> Result<(), Error> {
        let mut rows = Cursor::new(b"B");
        while let Some((key, value)) = rows.next(&mut self.reader).await? {
            self.decode::<FormerRow>(&key, &value);
            let Some((_, ino)) = self.of_node(&key) else {
                continue;
            };
            if matches!(self.known(ino).await?, Known::Missing) {
                // Freeing an inode leaves it for a moment.
                let sentence = format!("a former version of inode {ino}, which was removed");
                let mend = Some(What::DropRow(key));
                self.tell_of(ino, Grade::Leftover, "dangling-row", sentence, mend)
                    .await;
            }
        }
        Ok(())
    }

    async fn pins(&mut self) -> Result<(), Error> {
        let mut rows = Cursor::new(b"H");
        while let Some((key, value)) = rows.next(&mut self.reader).await? {
            self.decode::<MarkRow>(&key, &value);
            let Some((_, ino)) = self.of_node(&key) else {
                continue;
            };
            if matches!(self.known(ino).await?, Known::Missing) {
                // Another node may have removed it.
                let sentence = format!("inode {ino} is pinned, which was removed");
                let mend = Some(What::DropRow(key));
                self.tell_of(ino, Grade::Leftover, "dangling-row", sentence, mend)
                    .await;
            }
        }
        Ok(())
    }

    async fn claims(&mut self) -> Result<(), Error> {
        let mut rows = Cursor::new(b"K");
        while let Some((key, value)) = rows.next(&mut self.reader).await? {
            let Some(claim) = self.decode::<ClaimRow>(&key, &value) else {
                continue;
            };
            let object = String::from_utf8_lossy(&key[1..]).into_owned();
            let stale = match self.known(claim.ino).await? {
                Known::Unreadable => None,
                Known::Missing => Some("which is not there"),
                Known::Here(row) => {
                    let origin = row.inode.content.origin.as_ref();
                    match origin.is_some_and(|origin| origin.key.as_bytes() == &key[1..]) {
                        true => None,
                        false => Some("which has another object or none"),
                    }
                }
            };
            if let Some(why) = stale {
                let path = self.journal.path(claim.ino).await.ok().flatten();
                self.tell(Damage {
                    grade: Grade::Wrong,
                    kind: "stale-claim",
                    ino: Some(claim.ino),
                    key: Some(object),
                    path,
                    sentence: format!("the object is to be inode {}'s, {why}", claim.ino),
                    mend: Some(Mend(What::DropRow(key))),
                });
            }
        }
        Ok(())
    }

    /// An upload outlives its inode: only its row says that it must be aborted. Its parts don't outlive it.
    async fn uploads(&mut self) -> Result<(), Error> {
        self.readable::<UploadRow>(b"P").await?;
        let mut rows = Cursor::new(b"p");
        let mut told = None;
        while let Some((key, value)) = rows.next(&mut self.reader).await? {
            self.decode::<PartRow>(&key, &value);
            let Some(ino) = keys::parse_ino(&key).filter(|ino| told != Some(*ino)) else {
                continue;
            };
            if !self.reader.has(&keys::upload(ino)).await? {
                told = Some(ino);
                let sentence = "parts of an upload that is not there".to_owned();
                let mend = Some(What::DropPrefix(keys::upload_parts(ino)));
                self.tell_of(ino, Grade::Wrong, "dangling-row", sentence, mend)
                    .await;
            }
        }
        Ok(())
    }

    async fn readable<R: Record>(&mut self, tag: &[u8]) -> Result<(), Error> {
        let mut rows = Cursor::new(tag);
        while let Some((key, value)) = rows.next(&mut self.reader).await? {
            self.decode::<R>(&key, &value);
        }
        Ok(())
    }

    /// Rows of no kind that this release knows.
    async fn unknown_tags(&mut self) -> Result<(), Error> {
        let mut begin = vec![0];
        for tag in TAGS.iter().map(|tag| vec![*tag]).chain([vec![0xff]]) {
            if begin < tag && !self.reader.range(&begin, &tag, 1).await?.is_empty() {
                let sentence = format!("rows of an unknown kind before {:?}", char::from(tag[0]));
                self.tell_alone(Grade::Wrong, "unknown-row", sentence, None);
            }
            begin = keys::after_prefix(&tag);
        }
        Ok(())
    }

    async fn counters(&mut self, numbers: &Numbers, last_seq: u64) -> Result<(), Error> {
        let mut counter = async |key: &'static [u8]| -> Result<Option<u64>, Error> {
            let value = self.reader.get(key).await?;
            Ok(records::decode_counter(key, value.as_deref()).ok())
        };
        let count = counter(keys::INODES).await?;
        let next_ino = counter(keys::NEXT_INO).await?;
        let next_seq = counter(keys::NEXT_SEQ).await?;
        let mut tell = |key: &'static [u8], right: u64, sentence: String| {
            let mend = Some(What::Counter {
                key: key.to_vec(),
                value: right,
            });
            self.tell_alone(Grade::Wrong, "counter", sentence, mend);
        };
        if count != Some(numbers.count) {
            let sentence = format!("{} inodes are there, counted were {count:?}", numbers.count);
            tell(keys::INODES, numbers.count, sentence);
        }
        // The root's number is never handed out.
        if numbers.last > Ino::ROOT.0 && next_ino.is_none_or(|next| next <= numbers.last) {
            let sentence = format!("inode number {} would be handed out again", numbers.last);
            tell(keys::NEXT_INO, numbers.last.saturating_add(1), sentence);
        }
        if last_seq > 0 && next_seq.is_none_or(|next| next <= last_seq) {
            let sentence = format!("sequence number {last_seq} would be handed out again");
            tell(keys::NEXT_SEQ, last_seq.saturating_add(1), sentence);
        }
        Ok(())
    }
}
