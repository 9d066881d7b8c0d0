//! The mode by itself, for whoever changes it along with something else.

use crate::Error;
use crate::records::InodeRow;
use crate::txn::{Order, Txn};
use crate::types::Timestamp;

/// Changes the mode alone, as a change that travels. The caller writes the inode afterwards.
pub(super) async fn change_mode(
    txn: &mut Txn<'_>,
    row: &mut InodeRow,
    mode: u32,
    now: Timestamp,
) -> Result<(), Error> {
    if row.inode.mode == mode {
        return Ok(());
    }
    row.inode.mode = mode;
    if row.inode.kind.is_synced() {
        row.inode.meta_epoch += 1;
        txn.mark_unsynced(row, Order::Keep, now).await?;
    }
    Ok(())
}
