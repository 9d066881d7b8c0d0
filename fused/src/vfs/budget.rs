//! How large the cache may be.

use std::sync::atomic::Ordering;

use super::Vfs;

impl Vfs {
    /// Bytes that the cache may hold.
    pub fn cache_budget(&self) -> u64 {
        self.inner.space.budget_bytes.load(Ordering::Relaxed)
    }

    /// Looks again how large the cache may be: it may have been started on a disk that others had filled.
    /// What is less than before is others' doing, and no reason to give anything up.
    pub(super) fn look_at_budget(&self) {
        let budget = match self.extents().usage() {
            Ok(usage) => {
                let available = usage.fs_free_bytes.saturating_add(usage.used_bytes);
                (self.inner.config.cache_limit)(available)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot see how large the cache is; its budget is not limited");
                u64::MAX
            }
        };
        let budget_bytes = &self.inner.space.budget_bytes;
        budget_bytes.fetch_max(budget, Ordering::Relaxed);
    }
}
