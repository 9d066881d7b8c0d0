//! Sequences that once failed, each by the name of what it found.
//!
//! They are what the random test printed, shortened and with plainer names where that was possible.

use nix::libc::{O_APPEND, O_CREAT, O_RDWR};

use crate::operation::{
    Event, Flags, Identity::Root, Mode, Operation as O, Put, Step, Target, When, Xattr, at, by,
    data, then,
};

/// What each of them found, and the sequence.
pub fn cases() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        ("a time before 1970 keeps its nanoseconds", {
            let mode = Mode(0o700);
            vec![
                by(
                    0,
                    Root,
                    O::Mkdir {
                        path: at("d"),
                        mode,
                    },
                ),
                by(0, Root, times(When::Omit, When::At(-1, 500_000_000))),
            ]
        }),
        (
            "a close moves no ctime of a file whose mtime is in the future",
            vec![
                open(0, "d", O_RDWR | O_CREAT),
                write(0, 10),
                by(0, Root, times(When::Omit, When::At(4_000_000_000, 0))),
                then(Event::Pause),
            ],
        ),
        ("a chown that changes nothing moves ctime", {
            let (on, user, group) = (Target::Slot(0), None, None);
            vec![
                open(0, "f", O_RDWR | O_CREAT),
                then(Event::Pause),
                by(0, Root, O::Chown { on, user, group }),
            ]
        }),
        ("a FIFO without a name has attributes while it is open", {
            let (path, mode) = (at("f"), Mode(0o711));
            vec![
                by(0, Root, O::Mkfifo { path, mode }),
                open(0, "f", O_RDWR),
                by(0, Root, O::Unlink { path: at("f") }),
                then(Event::Sync),
                by(
                    0,
                    Root,
                    O::Stat {
                        on: Target::Slot(0),
                    },
                ),
            ]
        }),
        ("a chown that changes nothing takes set-id bits", {
            let (on, mode) = (Target::Slot(0), Mode(0o6777));
            let (user, group) = (None, None);
            vec![
                open(0, "f", O_RDWR | O_CREAT),
                by(0, Root, O::Chmod { on, mode }),
                by(
                    0,
                    Root,
                    O::Chown {
                        on: Target::Slot(0),
                        user,
                        group,
                    },
                ),
                then(Event::Remount),
            ]
        }),
        ("a close does not take back the ctime of a chmod", {
            let (on, mode) = (Target::Slot(0), Mode(0o700));
            vec![
                open(0, "f", O_RDWR | O_CREAT | O_APPEND),
                write(0, 4096),
                then(Event::Pause),
                by(0, Root, O::Chmod { on, mode }),
            ]
        }),
        (
            "recovery does not take back the ctime of a new attribute",
            {
                let (on, name, value, put) = (Target::Slot(0), Xattr::UserA, data(1, 5), Put::Any);
                vec![
                    open(0, "f", O_RDWR | O_CREAT),
                    then(Event::Pause),
                    by(
                        0,
                        Root,
                        O::SetXattr {
                            on,
                            name,
                            value,
                            put,
                        },
                    ),
                    then(Event::Crash),
                ]
            },
        ),
    ]
}

fn open(slot: u8, path: &str, flags: i32) -> Step {
    let (path, flags, mode) = (at(path), Flags(flags), Mode(0o644));
    by(
        0,
        Root,
        O::Open {
            slot,
            path,
            flags,
            mode,
        },
    )
}

fn write(slot: u8, len: u32) -> Step {
    by(
        0,
        Root,
        O::Write {
            slot,
            data: data(1, len),
        },
    )
}

fn times(atime: When, mtime: When) -> O {
    let on = Target::Name(at("d"));
    O::Utimens { on, atime, mtime }
}
