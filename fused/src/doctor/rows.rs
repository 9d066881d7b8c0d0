//! The journal in itself.
//!
//! A mend may uncover other damage, or make it good as well. So after mending everything is looked at again,
//! until there is nothing left that can be mended.

use journal::{Damage, Timestamp};

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
            let mut mended = 0;
            let mut rest = Vec::new();
            for damage in audit.damages {
                let mend = damage
                    .mend
                    .as_ref()
                    .filter(|_| self.repair && look < LOOKS_MAX);
                let done = match mend {
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
