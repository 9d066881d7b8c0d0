//! What holds for some paths only.
//!
//! The path is the one that a file has when the rule is asked for: a file that is renamed comes under another rule
//! with its next open or close.

use std::sync::Arc;
use std::time::Duration;

use journal::Ino;

use super::{Result, Vfs};

/// How a file is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How long bytes stay in the cache after they were used last; `None` = as long as there is room.
    pub ttl: Option<Duration>,
    /// It is not to be in the cache at all: nothing is brought in ahead.
    pub skip: bool,
    /// See [`super::Config::close_waits_for_store`].
    pub close_waits_for_store: bool,
}

/// The rule of a path, relative to the root, if there is one.
pub type Rules = Arc<dyn Fn(&[u8]) -> Option<Rule> + Send + Sync>;

impl Vfs {
    /// The rule of a file. Costs nothing where there are none.
    pub(super) async fn rule_of(&self, ino: Ino) -> Result<Option<Rule>> {
        let Some(rules) = &self.inner.config.rules else {
            return Ok(None);
        };
        let path = self.journal().path(ino).await?;
        Ok(path.and_then(|path| rules(&path.join(&b'/'))))
    }

    /// Whether it is not to be brought in ahead.
    pub(super) async fn is_skipped(&self, ino: Ino) -> Result<bool> {
        Ok(self.rule_of(ino).await?.is_some_and(|rule| rule.skip))
    }
}
