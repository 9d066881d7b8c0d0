//! A quota is used up, by others or by the programs themselves: as on a full disk, and nobody can see it coming.
//!
//! The kernel's word for it is EDQUOT, and a program hears that where the kernel writes by itself. The rest is as
//! in [`crate::full_disks`].

use crate::full_disks::{Limit, Plan, outruns};

fn used_up_by_others(passthrough: &'static str) {
    Plan {
        passthrough,
        bucket: false,
        cycles: 4,
        limit: Limit::Quota,
    }
    .run();
}

#[test]
fn a_quota_used_up_by_others_while_the_kernel_writes() {
    used_up_by_others("passthrough=auto");
}

#[test]
fn a_quota_used_up_by_others_while_the_daemon_writes() {
    used_up_by_others("passthrough=off");
}

#[test]
fn a_program_that_outruns_the_quota_through_the_kernel() {
    outruns(Limit::Quota, "passthrough=auto");
}

#[test]
fn a_program_that_outruns_the_quota_through_the_daemon() {
    outruns(Limit::Quota, "passthrough=off");
}
