//! The flusher: a reconciler that makes the object store agree with the journal.
//!
//! It is level-triggered. Nothing tells it *what to do*; [`Flusher::wake`] only tells it that
//! something changed. It compares what the journal wants (an inode's path, content epoch and
//! attribute epoch) with what the store has (the inode's recorded origin), takes one step that brings
//! them closer, and repeats until they agree. A crash at any instruction is therefore repaired by
//! starting again.
//!
//! Where to find what:
//!
//! | module | question it answers |
//! |---|---|
//! | [`plan`] | given wanted and actual, which step is next? (pure) |
//! | `key` | where an inode belongs in the store |
//! | `step` | locks the keys, plans, and carries one step out |
//! | `snapshot`, `upload` | how bytes travel: stable reads, single puts, multipart, resume |
//! | `digests` | is what comes from the store what was sent there? |
//! | `expect` | what must be at a key before it is replaced; is the object there our own? |
//! | `occupant`, `detach`, `holds` | a key that another inode still uses: move it away, break cycles |
//! | `relocate`, `directory` | server-side copies, attributes, directory markers |
//! | `conflict`, `garbage`, `strays` | somebody else's version; keys and uploads that nobody wants any more |
//! | `unheard`, `late` | requests that may arrive when nobody waits for them any more, also the last daemon's |
//! | `order`, `temporary`, `pace`, `yielding`, `memory`, `locks`, [`parts`] | when, how fast, how much at once |
//! | `work`, `scan`, `reconcile` | the bounded work set, and the loop |
//! | `upkeep` | when the loop sweeps, and looks for uploads of no use |
//! | [`status`] | what a user sees of it |

mod config;
mod conflict;
mod core;
mod detach;
mod digests;
mod directory;
mod error;
mod expect;
mod garbage;
mod handle;
mod holds;
mod identity;
mod key;
mod late;
mod locks;
mod lost;
mod memory;
mod occupant;
mod order;
mod pace;
pub mod parts;
pub mod plan;
mod reconcile;
mod relocate;
mod scan;
mod snapshot;
pub mod status;
mod step;
mod strays;
mod temporary;
mod unheard;
mod upkeep;
mod upload;
mod work;
mod yielding;

pub use config::{BackoffLimits, Events, FlusherConfig, OnConflict, PublishOrder, Rooms};
pub use digests::is_block;
pub use error::{Error, Severity};
pub use handle::Flusher;
pub use holds::Hold;
pub use lost::own_version;
pub use status::{Conflict, FlusherStatus, LastError, Progress, Resolution, State, Uploading};
