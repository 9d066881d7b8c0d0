//! The control socket: how the command line talks to a running daemon. See [`protocol`] for what is said,
//! [`mounts`] for how a mount is found, [`client`] for the asking side.

pub mod client;
mod line;
mod list_request;
mod load_request;
pub mod mounts;
mod pin_request;
mod place;
pub mod protocol;
pub mod server;
mod sync_request;

pub use place::{prepare_socket_dir, socket_dir, socket_name};
