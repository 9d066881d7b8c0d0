//! The journal in itself.
//!
//! A mend may uncover other damage, or make it good as well. So after mending everything is looked at again,
//! until there is nothing left that can be mended.
//!
//! Extent files of inodes that are lost are set aside before: once the journal is in order, a mount that comes
//! before the end of this would take them for needless.

use journal::{Damage, Timestamp};
use remote::keys;

use super::objects::head;
use super::report::shown;
use super::{Doctor, Error, Finding};

/// Looks at the journal while it is mended. Each damage needs one mend, and a mend uncovers one more at most.
const LOOKS_MAX: usize = 8;

impl Doctor {
    /// Looks at every row, and mends.
    pub(super) async fn rows(&mut self) -> Result<(), Error> {
        for look in 1.. {
            let audit = self.journal.audit().await?;
            (self.report.inodes, self.report.names) = (audit.inodes, audit.names);
            // A file's bytes may be here although its row is not, or says nothing.
            self.searching |= audit.left_out > 0 || audit.damages.iter().any(is_inode_lost);
            if look == 1 && self.searching && self.repair {
                self.unnamed().await?;
                self.extents.sync_all()?;
            }
            let mut mended = 0;
            let mut rest = Vec::new();
            for damage in audit.damages {
                let mend = damage
                    .mend
                    .as_ref()
                    .filter(|_| self.repair && look < LOOKS_MAX);
                let done = match mend {
                    Some(mend) if mend.needs_object() && !self.comes_back(&damage).await? => false,
                    Some(mend) => match self.journal.mend(mend, Timestamp::now()).await {
                        Err(error @ journal::Error::Store(_)) => return Err(error.into()),
                        // Other damage is in the way; perhaps not at the next look.
                        mended => mended.unwrap_or(false),
                    },
                    None => false,
                };
                match done {
                    true => {
                        mended += 1;
                        self.report.tell(finding(damage, true));
                    }
                    false => rest.push(damage),
                }
            }
            if mended == 0 {
                for damage in rest {
                    self.report.tell(finding(damage, false));
                }
                self.report.left_out(audit.left_out);
                break;
            }
        }
        Ok(())
    }
}

impl Doctor {
    /// Whether the next listing finds this name, and takes it for what it was.
    async fn comes_back(&self, damage: &Damage) -> Result<bool, Error> {
        let (Some(remote), Some(path)) = (&self.remote, &damage.path) else {
            return Ok(false);
        };
        let key = keys::encode(path);
        let owner = self.journal.claim(&key.0).await?;
        if owner.is_some_and(|owner| Some(owner) != damage.ino)
            || self.journal.is_garbage(&key.0).await?
        {
            return Ok(false);
        }
        // A store that does not answer is told of when files are looked for.
        Ok(head(remote, &key)
            .await
            .is_ok_and(|object| object.is_some()))
    }
}

fn is_inode_lost(damage: &Damage) -> bool {
    matches!(
        damage.kind,
        "dangling-name" | "rows-without-inode" | "unreadable-row" | "no-root" | "no-format"
    )
}

fn finding(damage: Damage, repaired: bool) -> Finding {
    Finding {
        path: damage.path.as_deref().map(shown),
        key: damage.key,
        inode: damage.ino.map(|ino| ino.0),
        repaired,
        ..Finding::new(damage.grade.into(), damage.kind, damage.sentence)
    }
}
