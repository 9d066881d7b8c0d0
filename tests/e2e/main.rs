//! The whole, from outside: the built `fused`, a real mount, a real store, unmodified programs.
//!
//! A test that is about bytes runs every way that bytes can take: into a folder and into a bucket,
//! by FUSE passthrough and through the daemon. [`every_way!`] makes the four tests of one function.
//! Those marked `ignore` take long or need much disk; `scripts/test --long` runs them too.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, also in the functions that they share"
)]

use harness::{Mount, MountOptions, Server, Store};

/// One of the ways: a store, and whether the kernel writes into the extent files by itself.
struct Way {
    store: Store,
    passthrough: &'static str,
}

impl Way {
    fn folder(passthrough: &'static str) -> Self {
        Self {
            store: Store::folder(),
            passthrough,
        }
    }

    fn bucket(passthrough: &'static str) -> Self {
        Self {
            store: Store::on(Server::seaweedfs()),
            passthrough,
        }
    }

    /// The store, to be mounted with an empty cache.
    fn options(&self) -> MountOptions {
        Mount::of(&self.store).option(self.passthrough)
    }

    fn mount(&self) -> Mount {
        self.options().start()
    }
}

/// For each function `fn name(way: &Way)`: four tests in a module of its name.
macro_rules! every_way {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            use crate::Way;

            fn on(way: impl FnOnce() -> Way) {
                harness::require_mounts!();
                super::$name(&way());
            }

            #[test]
            fn in_a_folder_by_passthrough() {
                on(|| Way::folder("passthrough=auto"));
            }

            #[test]
            fn in_a_folder_through_the_daemon() {
                on(|| Way::folder("passthrough=off"));
            }

            #[test]
            fn in_a_bucket_by_passthrough() {
                on(|| Way::bucket("passthrough=auto"));
            }

            #[test]
            fn in_a_bucket_through_the_daemon() {
                on(|| Way::bucket("passthrough=off"));
            }
        }
    )+ };
}

mod cache_directories;
mod checkpoints;
mod commands;
mod crashes;
mod data;
mod existing_buckets;
mod mounting;
mod names;
mod namespace;
mod other_stores;
mod outages;
mod tools;
