//! What the flusher tells of that concerns open files, the evictor and the kernel.

use std::sync::{Arc, OnceLock, Weak};

use extents::ExtentId;
use flusher::Events;
use journal::Ino;

use super::{Inner, Vfs};

/// Passes on what the flusher tells, once there is a file system to pass it to.
#[derive(Clone, Default)]
pub struct Listener(Arc<OnceLock<Weak<Inner>>>);

impl Listener {
    /// From now on for this one.
    pub fn listen(&self, vfs: &Vfs) {
        // Another one would be a mistake of the one place where this is called.
        let _ = self.0.set(Arc::downgrade(&vfs.inner));
    }
}

impl Events for Listener {
    fn clean(&self, ino: Ino) {
        if let Some(inner) = self.0.get().and_then(Weak::upgrade) {
            inner.space.tenants.uploaded(ino);
            if inner.space.expiry.uploaded(ino) {
                inner.space.grew();
            }
        }
    }

    fn superseded(&self, ino: Ino, old: ExtentId) {
        let Some(inner) = self.0.get().and_then(Weak::upgrade) else {
            // The next start finds an extent file that nothing refers to.
            return;
        };
        inner.parts.invalidate.inode(ino);
        tokio::spawn(async move {
            // Whoever is just opening the old content gets its file first.
            let slot = inner.opens.slot(ino);
            drop(slot.gate.lock().await);
            inner.opens.put(ino, slot);
            inner.reaper.remove_extents(old);
        });
    }
}
