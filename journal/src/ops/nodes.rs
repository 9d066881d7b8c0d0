//! The daemons that mount this file system, one after the other.
//!
//! Several machines may share a journal, but not at the same time: a node knows nothing of what another one has
//! only on its disk, and its own local copies are of the time when it left. So a node joins only when no other one
//! has it mounted, or holds anything that is not in the store; and the first time after another one it must drop
//! its local copies before it takes its turn.

use crate::attempts::{look, transact};
use crate::records::{NodeRow, corrupt};
use crate::txn::Txn;
use crate::types::{Node, NodeId, Place, Timestamp};
use crate::{Error, Journal, keys};

/// Nodes of one file system.
const NODES_MAX: usize = 10_000;

impl Journal {
    /// This node mounts. True: another one has been here since, so nothing local is to be trusted; to be asked again
    /// until [`take_turn`](Journal::take_turn) was called.
    ///
    /// Fails with [`Error::NodeElsewhere`] while another node has it mounted, or holds what the store does not have.
    pub async fn join(&self, place: &Place, now: Timestamp) -> Result<bool, Error> {
        transact!(self, txn => async {
            let me = txn.node();
            let all = nodes(txn).await?;
            for (node, row) in all.iter().filter(|(node, _)| *node != me) {
                let holds = row.mounted || holds_anything(txn, *node).await?;
                if holds {
                    let (host, mountpoint) = (row.place.host.clone(), row.place.mountpoint.clone());
                    return Err(Error::NodeElsewhere { node: *node, host, mountpoint, mounted: row.mounted });
                }
            }
            let turn_of = |id| all.iter().find(|(node, _)| *node == id).map_or(0, |(_, row)| row.turn);
            let last = all.iter().map(|(_, row)| row.turn).max().unwrap_or(0);
            let row = NodeRow { place: place.clone(), since: now, seen: now, mounted: true, turn: turn_of(me) };
            txn.put(&keys::node(me), &row)?;
            Ok(turn_of(me) < last)
        })
    }

    /// Nothing local is left of the time before another node's turn.
    pub async fn take_turn(&self) -> Result<(), Error> {
        transact!(self, txn => async {
            let last = nodes(txn).await?.iter().map(|(_, row)| row.turn).max().unwrap_or(0);
            change(txn, |row| row.turn = last + 1).await
        })
    }

    /// This node is still there.
    pub async fn is_seen(&self, now: Timestamp) -> Result<(), Error> {
        transact!(self, txn => change(txn, |row| row.seen = now))
    }

    /// This node has unmounted.
    pub async fn leave(&self, now: Timestamp) -> Result<(), Error> {
        transact!(self, txn => change(txn, |row| (row.seen, row.mounted) = (now, false)))
    }

    /// This node is none of them any more, if there is nothing that only it has, or that only it can do. False: there
    /// is, and it stays one. What it has pinned is forgotten.
    pub async fn resign(&self) -> Result<bool, Error> {
        transact!(self, txn => async {
            let me = txn.node();
            let has_orphans = txn.has_any(&keys::of_node(b'O', me)).await?;
            if has_orphans || holds_anything(txn, me).await? {
                return Ok(false);
            }
            let pins = keys::of_node(b'H', me);
            txn.clear_range(&pins, &keys::after_prefix(&pins));
            txn.clear(&keys::node(me));
            Ok(true)
        })
    }

    /// All nodes that ever joined.
    pub async fn nodes(&self) -> Result<Vec<Node>, Error> {
        let all = look!(self, txn => nodes(txn))?;
        let node = |(node, row): (NodeId, NodeRow)| Node {
            node,
            place: row.place,
            since: row.since,
            seen: row.seen,
            mounted: row.mounted,
        };
        Ok(all.into_iter().map(node).collect())
    }

    /// Whether other nodes may have this journal open: [`join`](Journal::join) first.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared.store.is_shared()
    }
}

async fn nodes(txn: &mut Txn<'_>) -> Result<Vec<(NodeId, NodeRow)>, Error> {
    let rows = txn.rows(keys::NODES, None, NODES_MAX).await?;
    rows.iter()
        .map(|(key, value)| {
            let node = keys::parse_node(key).ok_or_else(|| corrupt(key, "a short key".into()))?;
            Ok((node, crate::records::decode(key, value)?))
        })
        .collect()
}

/// Whether a node has files that are not in the store, or is writing one.
async fn holds_anything(txn: &mut Txn<'_>, node: NodeId) -> Result<bool, Error> {
    for tag in [b'U', b'W', b'B'] {
        if txn.has_any(&keys::of_node(tag, node)).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn change(txn: &mut Txn<'_>, change: impl FnOnce(&mut NodeRow)) -> Result<(), Error> {
    let key = keys::node(txn.node());
    let Some(mut row) = txn.load::<NodeRow>(&key).await? else {
        return Err(corrupt(&key, "a node that never joined".into()));
    };
    change(&mut row);
    txn.put(&key, &row)
}
