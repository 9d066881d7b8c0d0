//! Backing files: the extent files that the kernel uses by itself.
//!
//! All opens of an inode in passthrough mode share one backing id, as the kernel demands. It is
//! given back before the file system learns of the last close: from then on a new open may come
//! with another extent file.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use fuser::BackingId;
use journal::Ino;
use parking_lot::Mutex;

/// The backing ids in use.
#[derive(Default)]
pub struct Backings {
    // One lock over both maps and over the ioctl that makes an id: it only allocates in the kernel.
    in_use: Mutex<InUse>,
}

#[derive(Default)]
struct InUse {
    by_ino: HashMap<Ino, (Arc<BackingId>, u32)>,
    by_handle: HashMap<u64, Ino>,
}

impl Backings {
    /// The backing id for another open of `ino`; `register` makes the first one.
    pub fn attach(
        &self,
        ino: Ino,
        handle: u64,
        register: impl FnOnce() -> io::Result<BackingId>,
    ) -> io::Result<Arc<BackingId>> {
        let mut in_use = self.in_use.lock();
        let id = match in_use.by_ino.get_mut(&ino) {
            Some((id, opens)) => {
                *opens += 1;
                id.clone()
            }
            None => {
                let id = Arc::new(register()?);
                in_use.by_ino.insert(ino, (id.clone(), 1));
                id
            }
        };
        in_use.by_handle.insert(handle, ino);
        Ok(id)
    }

    /// An open is over. Nothing happens for one that was not passthrough.
    pub fn detach(&self, handle: u64) {
        let mut in_use = self.in_use.lock();
        let Some(ino) = in_use.by_handle.remove(&handle) else {
            return;
        };
        if let Some((_, opens)) = in_use.by_ino.get_mut(&ino) {
            *opens -= 1;
            if *opens == 0 {
                in_use.by_ino.remove(&ino);
            }
        }
    }
}
