//! What the tests on a real mount share.
//!
//! A test asks for a [`Server`] (or a plain [`folder`](Store::folder)), mounts a [`Store`] with a
//! [`Mount`], works on it with ordinary system calls or [`python`] programs, and looks at the store
//! with a client that shares no code with the program under test. Every guard cleans up in `drop`,
//! also when the test panics: mounts are detached, processes killed by their own pid (and by the
//! kernel, should the test process die first), folders and buckets removed.
//!
//! What this machine can't do is not a failure: [`require_mounts!`] and [`skip`] print the reason and
//! count it (in the file that `FUSED_SKIP_LOG` names), and the test returns.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a library for tests: it fails by panicking and talks on stderr"
)]

mod devices;
mod files;
mod mount;
mod process;
mod programs;
mod proxy;
mod requirements;
mod server;
mod store;
mod way;

pub use devices::{Device, read_only_view};
pub use files::{Random, digest_of, same_bytes, same_tree, scratch, wait_until};
pub use mount::{Cache, Failed, Mount, MountOptions, fused, running};
pub use process::{Finished, Guarded, Running, run};
pub use programs::{Program, python, tool, torch_python};
pub use proxy::{Fault, Proxy};
pub use requirements::{cannot_mount, skip};
pub use server::{Bucket, Client, Head, Server};
pub use store::Store;
pub use way::Way;
