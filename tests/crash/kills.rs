//! The daemon is killed under load, at a random instant. The page cache stays: whatever was
//! acknowledged is there.

use crate::rounds::Plan;

const KILLS: usize = 50;
const KILLS_LONG: usize = 500;

macro_rules! kills {
    ($($name:ident: $passthrough:literal, $settle:literal, $bucket:literal;)+) => { $(
        mod $name {
            use super::{KILLS, KILLS_LONG, Plan};

            fn times(rounds: usize) {
                harness::require_mounts!();
                let plan = Plan {
                    image: None,
                    passthrough: $passthrough,
                    settle: $settle,
                    bucket: $bucket,
                    rounds,
                };
                plan.run();
            }

            #[test]
            fn again_and_again() {
                times(KILLS);
            }

            #[test]
            #[ignore = "takes minutes"]
            fn again_and_again_for_long() {
                times(KILLS_LONG);
            }
        }
    )+ };
}

kills! {
    killed_with_passthrough_while_files_are_uploaded: "passthrough=auto", "settle=0s", false;
    killed_with_passthrough_before_anything_is_uploaded: "passthrough=auto", "settle=5m", false;
    killed_without_passthrough_while_files_are_uploaded: "passthrough=off", "settle=0s", false;
    killed_without_passthrough_into_a_bucket: "passthrough=off", "settle=500ms", true;
}
