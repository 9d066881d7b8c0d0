//! The power fails under load, on ext4 and on XFS; see [`crate::image`].
//!
//! The tests differ in who writes into the extent files (the kernel or the daemon), in whether the
//! flusher is at work at the cut, and in the store. Within a test, rounds differ in how much is
//! synced, from nothing to nearly everything.

use crate::image::Kind;
use crate::rounds::Plan;

const ROUNDS: usize = 15;
const ROUNDS_LONG: usize = 125;

macro_rules! power_cuts {
    ($($name:ident: $passthrough:literal, $settle:literal, $bucket:literal, $directories:literal;)+) => { $(
        mod $name {
            use super::{Kind, Plan, ROUNDS, ROUNDS_LONG};

            fn on(image: Kind, rounds: usize) {
                harness::require_mounts!();
                let plan = Plan {
                    image: Some(image),
                    passthrough: $passthrough,
                    settle: $settle,
                    bucket: $bucket,
                    directories: $directories,
                    points: &[],
                    rounds,
                };
                plan.run();
            }

            #[test]
            fn on_ext4() {
                on(Kind::Ext4, ROUNDS);
            }

            #[test]
            fn on_xfs() {
                on(Kind::Xfs, ROUNDS);
            }

            #[test]
            #[ignore = "takes minutes"]
            fn on_ext4_for_long() {
                on(Kind::Ext4, ROUNDS_LONG);
            }

            #[test]
            #[ignore = "takes minutes"]
            fn on_xfs_for_long() {
                on(Kind::Xfs, ROUNDS_LONG);
            }
        }
    )+ };
}

power_cuts! {
    passthrough_while_files_are_uploaded: "passthrough=auto", "settle=0s", false, 1;
    passthrough_before_anything_is_uploaded: "passthrough=auto", "settle=5m", false, 2;
    through_the_daemon_while_files_are_uploaded: "passthrough=off", "settle=0s", false, 2;
    through_the_daemon_into_a_bucket: "passthrough=off", "settle=500ms", true, 1;
}
