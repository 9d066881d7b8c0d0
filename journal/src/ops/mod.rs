//! The typed transactions, a topic each.

mod acl;
mod attrs;
mod create;
mod detach;
mod digests;
mod flush;
mod forget;
mod former;
mod garbage;
mod import;
mod listing;
mod lookup;
mod mode;
mod orphans;
mod path;
mod pins;
mod refresh;
mod rename;
mod residency;
mod resync;
mod sent;
mod unlink;
mod unsynced;
mod uploads;
mod write;
mod xattr;
