//! Deliberate faults, done to the left folder to see that the comparison finds each kind.

use nix::libc::{O_CREAT, O_RDWR};
use serde::{Deserialize, Serialize};

use crate::operation::{
    Flags, Identity, Mode, Operation, Put, Step, Target, When, Xattr, at, by, data,
};
use crate::outcome::Outcome;
use crate::side::Side;

/// A fault that a file system could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sabotage {
    /// The last byte of a write is another one.
    WrongByte,
    /// A write is cut short on the disk.
    LostTail,
    /// What is removed stays.
    KeepsName,
    /// Special permission bits are not kept.
    LosesSpecialBits,
    /// The owner stays what it was.
    KeepsOwner,
    /// A new hard link is a file of its own.
    LinksByCopy,
    /// An extended attribute is not kept.
    LosesXattr,
    /// The time of modification stays what it was.
    KeepsTime,
    /// The nanoseconds are cut off.
    CutsTime,
    /// It fails with another errno.
    OtherErrno,
    /// A symlink leads elsewhere.
    OtherLink,
}

/// Every one.
pub const ALL: [Sabotage; 11] = [
    Sabotage::WrongByte,
    Sabotage::LostTail,
    Sabotage::KeepsName,
    Sabotage::LosesSpecialBits,
    Sabotage::KeepsOwner,
    Sabotage::LinksByCopy,
    Sabotage::LosesXattr,
    Sabotage::KeepsTime,
    Sabotage::CutsTime,
    Sabotage::OtherErrno,
    Sabotage::OtherLink,
];

/// A sequence with an occasion for each. Its own answers give away only the wrong errno; the others
/// are to be found in the trees.
pub fn sequence() -> Vec<Step> {
    use Operation as O;
    let open = |slot, path, flags| {
        let (path, flags, mode) = (at(path), Flags(flags), Mode(0o755));
        O::Open {
            slot,
            path,
            flags,
            mode,
        }
    };
    let (name, link) = (|path| Target::Name(at(path)), |path| Target::Link(at(path)));
    let (old, any) = (When::At(1_500_000_000, 123_456_789), Put::Any);
    let bytes = |seed| data(seed, 100);
    let steps = [
        open(0, "file", O_RDWR | O_CREAT),
        O::Pwrite {
            slot: 0,
            offset: 0,
            data: bytes(1),
        },
        O::Chmod {
            on: name("file"),
            mode: Mode(0o1755),
        },
        O::Chown {
            on: name("file"),
            user: Some(1001),
            group: None,
        },
        O::SetXattr {
            on: Target::Slot(0),
            name: Xattr::UserA,
            value: bytes(2),
            put: any,
        },
        O::Hardlink {
            from: at("file"),
            to: at("second"),
            follow: false,
        },
        O::Symlink {
            to: "file".to_owned(),
            path: at("symlink"),
        },
        O::Utimens {
            on: link("symlink"),
            atime: When::Omit,
            mtime: old,
        },
        open(1, "written", O_RDWR | O_CREAT),
        O::Utimens {
            on: Target::Slot(1),
            atime: old,
            mtime: old,
        },
        O::Write {
            slot: 1,
            data: bytes(3),
        },
        open(2, "gone", O_RDWR | O_CREAT),
        O::Unlink { path: at("gone") },
        O::Rmdir { path: at("file") },
    ];
    steps.map(|what| by(0, Identity::Root, what)).to_vec()
}

impl Sabotage {
    /// Does it, with the fault where it applies.
    pub fn perform(self, side: &mut Side, operation: &Operation) -> Outcome {
        use Operation as O;
        match (self, operation.clone()) {
            (
                Self::WrongByte,
                O::Pwrite {
                    slot,
                    offset,
                    mut data,
                },
            ) => {
                let outcome = side.perform(operation);
                let last = offset + u64::from(data.len) - 1;
                data.seed = data.seed.wrapping_add(1);
                data.len = 1;
                side.perform(&O::Pwrite {
                    slot,
                    offset: last,
                    data,
                });
                outcome
            }
            (Self::LostTail, O::Pwrite { slot, offset, data }) => {
                let outcome = side.perform(operation);
                let len = offset + u64::from(data.len) - 1;
                side.perform(&O::Ftruncate { slot, len });
                outcome
            }
            (Self::KeepsName, O::Unlink { .. })
            | (Self::KeepsOwner, O::Chown { .. })
            | (Self::LosesXattr, O::SetXattr { .. }) => Outcome::Done,
            (Self::LosesSpecialBits, O::Chmod { on, mode }) => side.perform(&O::Chmod {
                on,
                mode: Mode(mode.0 & 0o777),
            }),
            (Self::LinksByCopy, O::Hardlink { to, .. }) => {
                let mode = Mode(0o644);
                side.perform(&O::Mkfifo { path: to, mode })
            }
            (Self::KeepsTime, O::Write { slot, .. }) => {
                let before = side.perform(&O::Stat {
                    on: Target::Slot(slot),
                });
                let outcome = side.perform(operation);
                if let Outcome::About(before) = before {
                    let (seconds, rest) = (
                        before.mtime.0 / 1_000_000_000,
                        before.mtime.0 % 1_000_000_000,
                    );
                    side.perform(&O::Utimens {
                        on: Target::Slot(slot),
                        atime: When::Omit,
                        mtime: When::At(seconds as i64, rest as u32),
                    });
                }
                outcome
            }
            (
                Self::CutsTime,
                O::Utimens {
                    on,
                    atime,
                    mtime: When::At(seconds, _),
                },
            ) => side.perform(&O::Utimens {
                on,
                atime,
                mtime: When::At(seconds, 0),
            }),
            (Self::OtherErrno, _) => match side.perform(operation) {
                Outcome::Failed(_) => Outcome::Failed("EIO".to_owned()),
                outcome => outcome,
            },
            (Self::OtherLink, O::Symlink { path, .. }) => side.perform(&O::Symlink {
                path,
                to: "elsewhere".to_owned(),
            }),
            _ => side.perform(operation),
        }
    }
}
