//! The ways that bytes can take: into a folder or a bucket, by FUSE passthrough or through the daemon.

use crate::mount::{Mount, MountOptions};
use crate::server::Server;
use crate::store::Store;

/// One of the ways: a store, and whether the kernel writes into the extent files by itself.
#[derive(Debug)]
pub struct Way {
    /// An empty store.
    pub store: Store,
    /// The option that says which of the two.
    pub passthrough: &'static str,
}

impl Way {
    /// Into a local folder.
    pub fn folder(passthrough: &'static str) -> Self {
        Self {
            store: Store::folder(),
            passthrough,
        }
    }

    /// Into a bucket on a real server.
    pub fn bucket(passthrough: &'static str) -> Self {
        Self {
            store: Store::on(Server::seaweedfs()),
            passthrough,
        }
    }

    /// The store, to be mounted with an empty cache.
    pub fn options(&self) -> MountOptions {
        Mount::of(&self.store).option(self.passthrough)
    }

    /// The store, mounted.
    pub fn mount(&self) -> Mount {
        self.options().start()
    }
}

/// For each function `fn name(way: &Way)`: four tests in a module of its name. An attribute before the
/// name, such as `#[ignore = "takes an hour"]`, is each of theirs.
#[macro_export]
macro_rules! every_way {
    ($($(#[$attribute:meta])* $name:ident),+ $(,)?) => { $(
        mod $name {
            use $crate::Way;

            fn on(way: impl FnOnce() -> Way) {
                $crate::require_mounts!();
                super::$name(&way());
            }

            #[test]
            $(#[$attribute])*
            fn in_a_folder_by_passthrough() {
                on(|| Way::folder("passthrough=auto"));
            }

            #[test]
            $(#[$attribute])*
            fn in_a_folder_through_the_daemon() {
                on(|| Way::folder("passthrough=off"));
            }

            #[test]
            $(#[$attribute])*
            fn in_a_bucket_by_passthrough() {
                on(|| Way::bucket("passthrough=auto"));
            }

            #[test]
            $(#[$attribute])*
            fn in_a_bucket_through_the_daemon() {
                on(|| Way::bucket("passthrough=off"));
            }
        }
    )+ };
}
