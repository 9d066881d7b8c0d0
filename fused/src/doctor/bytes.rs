//! The journal and the extent files.
//!
//! How long an extent file should be is known of versions that were closed or fsynced. What was truncated since
//! may have either length: a crash between journal and extent file is put right by the next open. A file that a
//! daemon was still writing when it died has what its extent file has.
//!
//! An extent file that nobody names is removed, as by the next mount, unless something of a file is missing
//! that it may have: then it is set aside.

use extents::ExtentId;
use journal::{Former, Ino, Inode, Kind, Seal, Timestamp};

use super::{Doctor, Error, Finding, Grade, PAGE, extent_id, needs_extents};

/// What is wrong with a file's extent file.
enum Flaw {
    Missing,
    Short { bytes: u64 },
    Long { bytes: u64 },
}

impl Doctor {
    /// Looks at every file that has bytes here, and at every extent file.
    pub(super) async fn bytes(&mut self) -> Result<(), Error> {
        let mut after = None;
        loop {
            let (files, next) = self.journal.files(after, PAGE).await?;
            for inode in files {
                // What was removed waits only to be freed.
                if inode.nlink > 0
                    && let Some(flaw) = self.flaw_of(&inode)?
                {
                    self.flawed(&inode, flaw).await?;
                }
            }
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        self.formers().await?;
        self.unnamed().await
    }

    fn flaw_of(&self, inode: &Inode) -> Result<Option<Flaw>, Error> {
        if !needs_extents(inode) {
            return Ok(None);
        }
        let Some(extents) = self.extents.open_file(extent_id(inode))? else {
            return Ok(Some(Flaw::Missing));
        };
        let right = match inode.content.seal {
            _ if inode.content.writer.is_some() => return Ok(None),
            Some(Seal::Closed { size, .. } | Seal::Survived { size, .. }) => size,
            Some(Seal::Synced | Seal::Touched) => inode.size,
            Some(Seal::Lost) | None => return Ok(None),
        };
        let bytes = extents.stat()?.size;
        Ok(match bytes {
            bytes if bytes < right => Some(Flaw::Short { bytes }),
            // Fsynced before it was cut: the next open cuts the extent file, too.
            bytes if bytes > right && !inode.content.seal.is_some_and(Seal::is_fsynced) => {
                Some(Flaw::Long { bytes })
            }
            _ => None,
        })
    }

    async fn flawed(&mut self, inode: &Inode, flaw: Flaw) -> Result<(), Error> {
        let id = extent_id(inode);
        let is_long = matches!(flaw, Flaw::Long { .. });
        let what = match flaw {
            Flaw::Missing => format!("its extent file {id} is not there"),
            Flaw::Short { bytes } => {
                format!(
                    "its extent file {id} ends after {bytes} of {} bytes",
                    inode.size
                )
            }
            Flaw::Long { bytes } => {
                format!("its extent file {id} has {bytes} bytes, not {}", inode.size)
            }
        };
        let finding = match (inode.is_content_dirty(), flaw) {
            (true, Flaw::Missing) => {
                self.searching = true;
                let sentence = format!("{what}, and the store does not have this version");
                self.finding(inode, Grade::Lost, "bytes-missing", sentence)
                    .await
            }
            (true, Flaw::Short { .. }) => {
                let sentence = format!("{what}, and the store does not have this version");
                self.finding(inode, Grade::Lost, "bytes-short", sentence)
                    .await
            }
            (true, Flaw::Long { .. }) => {
                let sentence = format!("{what}: it was changed behind the journal's back");
                self.finding(inode, Grade::Wrong, "bytes-changed", sentence)
                    .await
            }
            (false, _) => {
                let sentence = format!("{what}; its object should have every byte");
                let finding = self.finding(inode, Grade::Wrong, "copy-damaged", sentence);
                let finding = finding.await;
                let repaired = self.repair
                    && self.is_in_store(inode).await
                    && self.give_up_copy(inode, is_long).await?;
                Finding {
                    repaired,
                    ..finding
                }
            }
        };
        self.report.tell(finding);
        Ok(())
    }

    /// From now on every byte of a clean file is the object's.
    pub(super) async fn give_up_copy(
        &self,
        inode: &Inode,
        is_doubtful: bool,
    ) -> Result<bool, Error> {
        let given_up = self
            .journal
            .evicted(inode.ino, inode.content.epoch, inode.content.generation)
            .await?;
        if given_up {
            self.journal.sync().await?;
            // More than the journal knows of is no version of the file, but may be somebody's.
            match is_doubtful {
                true => drop(self.extents.set_aside(extent_id(inode), &self.torn)?),
                false => self.extents.remove(extent_id(inode))?,
            }
        }
        Ok(given_up)
    }

    /// Versions that are kept in case that the one after them is torn.
    async fn formers(&mut self) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = match self.journal.formers(self.node, after, PAGE).await {
                // Told of with the other rows.
                Err(journal::Error::Corrupt { .. }) => return Ok(()),
                page => page?,
            };
            for former in &page {
                let id = former_id(former);
                if former.size > former.valid && self.extents.open_file(id)?.is_none() {
                    let sentence = format!(
                        "the extent file {id} of the synced version before this one is not there"
                    );
                    let inode = self.journal.inode(former.ino).await?;
                    let finding = match inode {
                        Some(inode) => {
                            self.finding(&inode, Grade::Wrong, "former-missing", sentence)
                                .await
                        }
                        None => Finding::new(Grade::Leftover, "former-missing", sentence),
                    };
                    if self.repair {
                        self.journal.former_done(self.node, former).await?;
                    }
                    self.report.tell(Finding {
                        repaired: self.repair,
                        ..finding
                    });
                }
            }
            match page.last() {
                Some(last) => after = Some(last.ino),
                None => return Ok(()),
            }
        }
    }

    /// Extent files that no row refers to.
    pub(super) async fn unnamed(&mut self) -> Result<(), Error> {
        self.report.extent_files = 0;
        // What is removed below must not come back with a lost transaction.
        self.journal.sync().await?;
        for id in self.extents.list() {
            let id = id?;
            self.report.extent_files += 1;
            if self.is_named(id).await? {
                continue;
            }
            let bytes = self.extents.allocated_bytes(id)?;
            let may_be_missed = self.searching && bytes > 0;
            let (grade, fate) = match may_be_missed {
                true => (
                    Grade::Wrong,
                    "; it may have what a file misses, and a mount would remove it",
                ),
                false => (Grade::Leftover, ""),
            };
            let mut finding = Finding {
                inode: Some(id.ino),
                ..Finding::new(
                    grade,
                    "unnamed-extents",
                    format!("nothing refers to the extent file {id}, of {bytes} bytes{fate}"),
                )
            };
            match (self.repair, may_be_missed) {
                (false, _) => {}
                (true, false) => {
                    self.extents.remove(id)?;
                    finding.repaired = true;
                }
                (true, true) => {
                    let kept = self.extents.set_aside(id, &self.torn)?;
                    finding.sentence = format!(
                        "nothing refers to the extent file {id}, of {bytes} bytes; it is kept as {}",
                        kept.display()
                    );
                    finding.repaired = true;
                }
            }
            self.report.tell(finding);
        }
        Ok(())
    }

    async fn is_named(&self, id: ExtentId) -> Result<bool, Error> {
        let inode = match self.journal.inode(Ino(id.ino)).await {
            Ok(inode) => inode,
            // It may be its.
            Err(journal::Error::Corrupt { .. }) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let Some(inode) = inode else {
            return Ok(false);
        };
        if inode.kind == Kind::File && extent_id(&inode) == id {
            return Ok(true);
        }
        match self.journal.former(self.node, Ino(id.ino)).await {
            Ok(former) => Ok(former.is_some_and(|former| former_id(&former) == id)),
            Err(journal::Error::Corrupt { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Uploads a file again whose bytes are all here.
    pub(super) async fn upload_again(&self, inode: &Inode) -> Result<(), Error> {
        if let Some(extents) = self.extents.open_file(extent_id(inode))? {
            // From now on they are nowhere else.
            extents.sync_data().await?;
        }
        let generation = inode.content.generation;
        self.journal
            .detach(inode.ino, generation, Timestamp::now())
            .await?;
        Ok(())
    }
}

fn former_id(former: &Former) -> ExtentId {
    ExtentId {
        ino: former.ino.0,
        generation: former.generation,
    }
}
