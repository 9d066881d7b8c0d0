//! Who makes a call, as far as the kernel leaves that question to us.
//!
//! The kernel checks permissions itself. Two questions remain with a file that has a set-user-ID or
//! set-group-ID bit: whether the caller of setxattr may leave the set-group-ID bit in place (a member
//! of the file's group may), and whether truncating clears the bits (see `set_id`). The kernel answers
//! both in flags of its requests, which fuser 0.18 does not pass on; so the caller's groups and
//! capabilities are read from `/proc`. Whoever can't be found there has none, and the bits go.

use std::fs;

/// Capability numbers of capabilities(7).
const CAP_FSETID: u32 = 4;
/// The same: the owner of every file, where that counts.
const CAP_FOWNER: u32 = 3;

/// The process behind a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its thread.
    pub pid: u32,
}

impl Caller {
    /// Whether `trusted.` attributes are shown to it.
    pub fn sees_trusted(&self) -> bool {
        self.uid == 0
    }

    /// Whether it may change a file without its set-user-ID and set-group-ID bits being cleared. Only
    /// root's capabilities count: in a user namespace of their own, others have them all.
    pub fn keeps_set_id(&self) -> bool {
        self.uid == 0 && has_capability(&self.status(), CAP_FSETID)
    }

    /// Whether it may do what only the owner of a file may.
    pub fn may_act_for(&self, uid: u32) -> bool {
        self.uid == uid || (self.uid == 0 && has_capability(&self.status(), CAP_FOWNER))
    }

    /// Whether it may set the set-group-ID bit of a file of this group.
    pub fn may_set_group_id(&self, gid: u32) -> bool {
        self.gid == gid || self.keeps_set_id() || has_group(&self.status(), gid)
    }

    fn status(&self) -> String {
        fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default()
    }
}

/// A line of `/proc/PID/status`.
fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    let mut lines = status.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn has_group(status: &str, gid: u32) -> bool {
    let groups = field(status, "Groups").unwrap_or_default();
    groups
        .split_whitespace()
        .any(|group| group.parse() == Ok(gid))
}

fn has_capability(status: &str, capability: u32) -> bool {
    let effective = field(status, "CapEff").unwrap_or_default();
    u64::from_str_radix(effective.trim(), 16).is_ok_and(|bits| bits >> capability & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        "Name:\tsh\nGroups:\t4 24 1000 \nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000000010\n";

    #[test]
    fn groups_and_capabilities_are_found_in_a_status() {
        assert!(has_group(STATUS, 24) && !has_group(STATUS, 2));
        assert!(has_capability(STATUS, CAP_FSETID) && !has_capability(STATUS, 5));
    }

    #[test]
    fn who_is_not_found_has_neither() {
        let gone = Caller {
            uid: 0,
            gid: 0,
            pid: u32::MAX,
        };
        assert!(!gone.keeps_set_id() && !gone.may_set_group_id(7));
        assert!(!has_group("", 0) && !has_capability("CapEff:\tnonsense\n", CAP_FSETID));
    }
}
