//! Where an inode belongs in the store.

use journal::{Kind, Wanted};
use remote::{ObjectKey, keys};

/// The key that the inode's path stands for; a directory's ends with a slash, the root's is empty.
pub(crate) fn wanted_key(wanted: &Wanted) -> Option<ObjectKey> {
    let key = keys::encode(wanted.path.as_deref()?);
    match wanted.inode.kind {
        Kind::Directory if !key.as_str().is_empty() => Some(key.to_directory()),
        _ => Some(key),
    }
}
