//! How much of a directory in the store has been seen, and when.

use crate::attempts::{look, transact};
use crate::types::{Ino, Listing};
use crate::{Error, Journal, keys};

impl Journal {
    /// What is known of a directory's listing; `None`: nothing.
    pub async fn listing(&self, dir: Ino) -> Result<Option<Listing>, Error> {
        look!(self, txn => txn.load(&keys::listing(dir)))
    }

    /// Records what is known of a directory's listing.
    pub async fn set_listing(&self, dir: Ino, listing: Listing) -> Result<(), Error> {
        transact!(self, txn => async {
            txn.need_dir(dir).await?;
            txn.put(&keys::listing(dir), &listing)
        })
    }
}
