//! What is the next step for one inode? A pure function of what is wanted and what is there.
//!
//! Wanted comes from the journal: the key that the present path encodes to, the epoch of the bytes,
//! the epoch of the attributes. Actual is the inode's recorded origin: the object that holds a version
//! of it. One step is planned at a time; after it the inode is planned again, until the answer is
//! [`Step::Settle`]. So a file that was renamed *and* rewritten takes one upload to the new key (the old
//! key becomes garbage when that upload is recorded), and one that was renamed and chmod-ed takes one
//! copy, because copies carry the attributes.

use journal::{Epoch, Kind, Origin};

/// What the journal wants to be true of one inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What kind of inode it is; only files and directories live in the store.
    pub kind: Kind,
    /// The key of its present path; `None` when it has no name any more; empty for the root.
    pub key: Option<String>,
    /// Version of its bytes.
    pub epoch: Epoch,
    /// Version of its attributes.
    pub meta_epoch: u64,
    /// A writer has it open.
    pub open: bool,
}

/// What the store (and the configuration) allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Server-side copies.
    pub copy: bool,
    /// Attributes can travel on objects.
    pub attributes: bool,
    /// Directories have markers, or are real.
    pub markers: bool,
    /// Largest object that can be copied, and so have its attributes rewritten.
    pub copy_bytes_max: u64,
}

/// Reasons to do more than usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Urge {
    /// Somebody waits for the object (fsync to the store): upload although a writer has it open.
    pub open_too: bool,
    /// Another inode waits for the key that this one still occupies: move the object away even though
    /// it holds an old version, or a writer is at work.
    pub vacate: bool,
}

/// The next thing to do for an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing differs (or it isn't the store's business): clear the unsynced row.
    Settle,
    /// A writer has it open; its close will bring it back.
    WaitForClose,
    /// Send the bytes to the wanted key.
    Upload,
    /// The bytes are in the store under another key: copy the object there.
    Copy,
    /// Rewrite the attributes of the object.
    Attributes,
    /// The store can't carry these attributes: just record that they are seen.
    RecordAttributes,
    /// Write the directory's marker (or make the directory) at the wanted key.
    MakeDirectory,
}

/// Decides the next step.
pub fn plan(wanted: &Wanted, actual: Option<&Origin>, abilities: Abilities, urge: Urge) -> Step {
    let Some(key) = wanted.key.as_deref() else {
        return Step::Settle;
    };
    match wanted.kind {
        Kind::Directory => plan_directory(key, wanted, actual, abilities),
        Kind::File => plan_file(key, wanted, actual, abilities, urge),
        _ => Step::Settle,
    }
}

fn plan_directory(
    key: &str,
    wanted: &Wanted,
    actual: Option<&Origin>,
    abilities: Abilities,
) -> Step {
    let agrees =
        actual.is_some_and(|origin| origin.key == key && origin.meta_epoch == wanted.meta_epoch);
    // Without markers there is nothing to write, but what is under the old key has to follow.
    let follows = actual.is_some_and(|origin| origin.key != key);
    if key.is_empty() || agrees || !(abilities.markers || follows) {
        Step::Settle
    } else {
        Step::MakeDirectory
    }
}

fn plan_file(
    key: &str,
    wanted: &Wanted,
    actual: Option<&Origin>,
    abilities: Abilities,
    urge: Urge,
) -> Step {
    let copyable =
        actual.is_some_and(|origin| abilities.copy && origin.size <= abilities.copy_bytes_max);
    let moved = actual.is_some_and(|origin| origin.key != key);
    if wanted.open && !urge.open_too {
        return match urge.vacate && moved && copyable {
            true => Step::Copy,
            false => Step::WaitForClose,
        };
    }
    let Some(origin) = actual.filter(|origin| origin.epoch == wanted.epoch) else {
        return Step::Upload;
    };
    if moved {
        return if copyable { Step::Copy } else { Step::Upload };
    }
    if origin.meta_epoch == wanted.meta_epoch {
        Step::Settle
    } else if abilities.attributes && origin.size <= abilities.copy_bytes_max {
        Step::Attributes
    } else {
        Step::RecordAttributes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use journal::Timestamp;

    const ALL: Abilities = Abilities {
        copy: true,
        attributes: true,
        markers: true,
        copy_bytes_max: 1000,
    };
    const CALM: Urge = Urge {
        open_too: false,
        vacate: false,
    };

    fn wanted(kind: Kind, key: Option<&str>) -> Wanted {
        Wanted {
            kind,
            key: key.map(str::to_owned),
            epoch: Epoch(3),
            meta_epoch: 7,
            open: false,
        }
    }

    fn origin(key: &str, epoch: u64, meta_epoch: u64) -> Origin {
        Origin {
            key: key.to_owned(),
            etag: Some("e".to_owned()),
            size: 10,
            epoch: Epoch(epoch),
            meta_epoch,
            checked: Timestamp { secs: 0, nanos: 0 },
        }
    }

    #[test]
    fn a_file_takes_the_step_its_difference_asks_for() {
        let file = wanted(Kind::File, Some("d/f"));
        let cases = [
            (None, Step::Upload),
            (Some(origin("d/f", 2, 7)), Step::Upload),
            (Some(origin("d/f", 2, 6)), Step::Upload),
            (Some(origin("d/old", 2, 7)), Step::Upload),
            (Some(origin("d/old", 3, 7)), Step::Copy),
            (Some(origin("d/old", 3, 6)), Step::Copy),
            (Some(origin("d/f", 3, 6)), Step::Attributes),
            (Some(origin("d/f", 3, 7)), Step::Settle),
        ];
        for (actual, step) in cases {
            assert_eq!(plan(&file, actual.as_ref(), ALL, CALM), step, "{actual:?}");
        }
    }

    #[test]
    fn an_open_file_waits_for_its_close_whatever_differs() {
        let file = Wanted {
            open: true,
            ..wanted(Kind::File, Some("f"))
        };
        for actual in [
            None,
            Some(origin("f", 2, 7)),
            Some(origin("g", 3, 7)),
            Some(origin("f", 3, 7)),
        ] {
            assert_eq!(
                plan(&file, actual.as_ref(), ALL, CALM),
                Step::WaitForClose,
                "{actual:?}"
            );
        }
    }

    #[test]
    fn an_open_file_is_uploaded_when_somebody_waits_for_the_object() {
        let file = Wanted {
            open: true,
            ..wanted(Kind::File, Some("f"))
        };
        let urge = Urge {
            open_too: true,
            vacate: false,
        };
        assert_eq!(plan(&file, None, ALL, urge), Step::Upload);
        assert_eq!(
            plan(&file, Some(&origin("f", 2, 7)), ALL, urge),
            Step::Upload
        );
        assert_eq!(
            plan(&file, Some(&origin("f", 3, 7)), ALL, urge),
            Step::Settle
        );
        assert_eq!(plan(&file, Some(&origin("g", 3, 7)), ALL, urge), Step::Copy);
    }

    #[test]
    fn an_open_file_moves_its_old_object_away_when_its_key_is_needed() {
        let file = Wanted {
            open: true,
            ..wanted(Kind::File, Some("log.1"))
        };
        let urge = Urge {
            open_too: false,
            vacate: true,
        };
        let old = origin("log", 2, 6);
        assert_eq!(plan(&file, Some(&old), ALL, urge), Step::Copy);
        let no_copy = Abilities { copy: false, ..ALL };
        assert_eq!(plan(&file, Some(&old), no_copy, urge), Step::WaitForClose);
        assert_eq!(plan(&file, None, ALL, urge), Step::WaitForClose);
        let closed = Wanted {
            open: false,
            ..file
        };
        assert_eq!(plan(&closed, Some(&old), ALL, urge), Step::Upload);
    }

    #[test]
    fn a_store_without_copies_or_attributes_gets_uploads_and_no_attributes() {
        let file = wanted(Kind::File, Some("f"));
        let none = Abilities {
            copy: false,
            attributes: false,
            ..ALL
        };
        assert_eq!(
            plan(&file, Some(&origin("g", 3, 7)), none, CALM),
            Step::Upload
        );
        assert_eq!(
            plan(&file, Some(&origin("f", 3, 1)), none, CALM),
            Step::RecordAttributes
        );
    }

    #[test]
    fn an_object_too_large_to_copy_is_uploaded_and_keeps_its_old_attributes() {
        let file = wanted(Kind::File, Some("f"));
        let huge = |key, meta| Origin {
            size: 1001,
            ..origin(key, 3, meta)
        };
        assert_eq!(plan(&file, Some(&huge("g", 7)), ALL, CALM), Step::Upload);
        assert_eq!(
            plan(&file, Some(&huge("f", 6)), ALL, CALM),
            Step::RecordAttributes
        );
    }

    #[test]
    fn a_directory_gets_a_marker_where_it_is_now() {
        let directory = wanted(Kind::Directory, Some("d/"));
        assert_eq!(plan(&directory, None, ALL, CALM), Step::MakeDirectory);
        for (actual, step) in [
            (origin("old/", 0, 7), Step::MakeDirectory),
            (origin("d/", 0, 6), Step::MakeDirectory),
            (origin("d/", 0, 7), Step::Settle),
        ] {
            assert_eq!(plan(&directory, Some(&actual), ALL, CALM), step);
        }
        let no_markers = Abilities {
            markers: false,
            ..ALL
        };
        assert_eq!(plan(&directory, None, no_markers, CALM), Step::Settle);
        assert_eq!(
            plan(&directory, Some(&origin("d/", 0, 6)), no_markers, CALM),
            Step::Settle
        );
        assert_eq!(
            plan(&directory, Some(&origin("old/", 0, 7)), no_markers, CALM),
            Step::MakeDirectory,
            "its content moves all the same"
        );
    }

    #[test]
    fn the_root_the_nameless_and_what_only_the_journal_holds_are_settled() {
        assert_eq!(
            plan(&wanted(Kind::Directory, Some("")), None, ALL, CALM),
            Step::Settle
        );
        assert_eq!(
            plan(&wanted(Kind::File, None), None, ALL, CALM),
            Step::Settle
        );
        for kind in [Kind::Symlink, Kind::Fifo, Kind::Socket, Kind::CharDevice] {
            assert_eq!(
                plan(&wanted(kind, Some("x")), None, ALL, CALM),
                Step::Settle
            );
        }
    }
}
