//! Random sequences: how often what is done, and with which of the few names, places and users.
//!
//! The weights aim at collisions: most paths exist half of the time, most descriptors are open.

use nix::libc;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::{BoxedStrategy, Union};

use crate::operation::{
    Data, Event, Flags, Identity, Lock, LockKind, MAPS, Mode, OPEN_FLAGS, Operation as O, Over,
    PROCESSES, Place, Put, SLOTS, Space, Step, TEAM, Target, When, Xattr, data,
};

/// Sequences of up to so many steps.
pub fn sequence(steps_max: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..=steps_max)
}

fn step() -> impl Strategy<Value = Step> {
    let who = prop_oneof![
        6 => Just(Identity::Root),
        3 => Just(Identity::Ann),
        2 => Just(Identity::Bob),
        1 => Just(Identity::Eve),
    ];
    let process = prop_oneof![3 => Just(0), 1 => 0..PROCESSES];
    let world = prop_oneof![
        8 => Just(Event::Pause),
        4 => Just(Event::Sync),
        4 => Just(Event::Free),
        1 => Just(Event::Remount),
        1 => Just(Event::Crash),
    ];
    prop_oneof![
        60 => (process, who, operation()).prop_map(|(by, who, what)| {
            // Of others than the owner the kernel does not say enough (README, "chown that changes nothing").
            let who = match what {
                O::Chown { user: None, group: None, .. } => Identity::Root,
                _ => who,
            };
            Step::Do(by, who, what)
        }),
        3 => world.prop_map(Step::World),
    ]
}

fn slot() -> BoxedStrategy<u8> {
    (0..SLOTS).boxed()
}

fn map() -> BoxedStrategy<u8> {
    (0..MAPS).boxed()
}

/// Paths, the first the simplest.
fn path() -> BoxedStrategy<String> {
    let few = ["a", "b", "c"];
    let deeper = ["a/a", "a/b", "b/a", "b/b", "a/b/a", "a/a/b", "b/a/b"];
    let odd = [
        ".",
        "a/",
        "b/.",
        "a/..",
        "a/../b",
        "",
        "c/",
        "x y%20",
        "n\nl",
        "\u{ff}\u{e9}",
        "a/\u{ff}",
        ".tmp",
    ];
    let long = [255, 256].map(|len| "l".repeat(len));
    prop_oneof![
        12 => prop::sample::select(few.to_vec()).prop_map(str::to_owned),
        8 => prop::sample::select(deeper.to_vec()).prop_map(str::to_owned),
        2 => prop::sample::select(odd.to_vec()).prop_map(str::to_owned),
        1 => prop::sample::select(long.to_vec()),
    ]
    .boxed()
}

fn place() -> BoxedStrategy<Place> {
    let slot = prop_oneof![12 => Just(None), 1 => slot().prop_map(Some)];
    (slot, path())
        .prop_map(|(slot, path)| Place { slot, path })
        .boxed()
}

fn target() -> BoxedStrategy<Target> {
    prop_oneof![
        3 => place().prop_map(Target::Name),
        2 => place().prop_map(Target::Link),
        3 => slot().prop_map(Target::Slot),
    ]
    .boxed()
}

fn mode() -> BoxedStrategy<Mode> {
    let modes = [
        0o644, 0o777, 0o755, 0o600, 0o666, 0o700, 0o000, 0o2755, 0o2777, 0o4755, 0o1777, 0o6777,
        0o2770, 0o711,
    ];
    prop::sample::select(modes.to_vec()).prop_map(Mode).boxed()
}

fn flags() -> BoxedStrategy<Flags> {
    let access = prop_oneof![
        5 => Just(libc::O_RDWR),
        3 => Just(libc::O_RDONLY),
        2 => Just(libc::O_WRONLY),
    ];
    let percent = |flag: i32| match flag {
        libc::O_CREAT => 60,
        libc::O_TRUNC | libc::O_APPEND => 15,
        libc::O_PATH => 2,
        libc::O_DSYNC => 4,
        _ => 8,
    };
    let chosen = OPEN_FLAGS.iter().map(|(_, flag)| {
        let flag = *flag;
        let given = prop::bool::weighted(f64::from(percent(flag)) / 100.0);
        given.prop_map(move |given| if given { flag } else { 0 })
    });
    let chosen: Vec<_> = chosen.collect();
    (access, chosen)
        .prop_map(|(access, chosen)| Flags(chosen.iter().fold(access, |all, flag| all | flag)))
        .boxed()
}

/// Edges of pages, of requests, of a mapping; rarely of the blocks that are fetched (8 MiB).
fn offset() -> BoxedStrategy<u64> {
    let near = [
        0, 1, 100, 4095, 4096, 4097, 8192, 10_000, 65_536, 131_000, 131_072,
    ];
    let far = [
        1 << 20,
        (8 << 20) - 1,
        8 << 20,
        (8 << 20) + 4096,
        (16 << 20) + 1,
    ];
    prop_oneof![
        40 => prop::sample::select(near.to_vec()),
        1 => prop::sample::select(far.to_vec()),
    ]
    .boxed()
}

fn len() -> BoxedStrategy<u32> {
    let lens = [1, 0, 10, 100, 4095, 4096, 4097, 12_288, 65_536, 140_000];
    prop::sample::select(lens.to_vec()).boxed()
}

fn bytes() -> BoxedStrategy<Data> {
    (any::<u8>(), len())
        .prop_map(|(seed, len)| data(seed, len))
        .boxed()
}

fn when() -> BoxedStrategy<When> {
    prop_oneof![
        2 => Just(When::Now),
        2 => Just(When::Omit),
        1 => Just(When::At(0, 0)),
        3 => Just(When::At(1_500_000_000, 123_456_789)),
        1 => Just(When::At(1_600_000_000, 1)),
        1 => Just(When::At(4_000_000_000, 999_999_999)),
        1 => Just(When::At(-1, 500_000_000)),
    ]
    .boxed()
}

fn owner() -> BoxedStrategy<Option<u32>> {
    prop::sample::select(vec![
        None,
        Some(0),
        Some(1001),
        Some(1002),
        Some(1003),
        Some(TEAM),
    ])
    .boxed()
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> BoxedStrategy<T> {
    prop::sample::select(values.to_vec()).boxed()
}

fn xattr() -> BoxedStrategy<Xattr> {
    one_of(&[Xattr::UserA, Xattr::UserB, Xattr::Trusted, Xattr::Security])
}

/// One operation; the numbers are how often it comes in relation to the others.
fn operation() -> impl Strategy<Value = O> {
    let all = [
        descriptors(),
        content(),
        mappings(),
        names(),
        attributes(),
        others(),
    ];
    Union::new_weighted(all.into_iter().flatten().collect())
}

type Weighted = Vec<(u32, BoxedStrategy<O>)>;

fn descriptors() -> Weighted {
    let simple =
        (slot(), path(), prop::bool::ANY, mode()).prop_map(|(slot, path, append, mode)| {
            let flags = libc::O_RDWR | libc::O_CREAT | if append { libc::O_APPEND } else { 0 };
            let path = Place { slot: None, path };
            O::Open {
                slot,
                path,
                flags: Flags(flags),
                mode,
            }
        });
    let directory = (slot(), place()).prop_map(|(slot, path)| O::Open {
        slot,
        path,
        flags: Flags(libc::O_DIRECTORY),
        mode: Mode(0),
    });
    let any = (slot(), place(), flags(), mode()).prop_map(|(slot, path, flags, mode)| O::Open {
        slot,
        path,
        flags,
        mode,
    });
    vec![
        (60, simple.boxed()),
        (15, directory.boxed()),
        (60, any.boxed()),
        (20, slot().prop_map(|slot| O::Close { slot }).boxed()),
    ]
}

fn content() -> Weighted {
    let space = one_of(&[
        Space::Allocate,
        Space::KeepSize,
        Space::Punch,
        Space::Zero,
        Space::ZeroKeepSize,
    ]);
    let ends = one_of(&[0_i64, -1, -4096, 10, 5000]);
    let read = (slot(), len()).prop_map(|(slot, len)| O::Read { slot, len });
    let write = (slot(), bytes()).prop_map(|(slot, data)| O::Write { slot, data });
    let pread =
        (slot(), offset(), len()).prop_map(|(slot, offset, len)| O::Pread { slot, offset, len });
    let pwrite = (slot(), offset(), bytes()).prop_map(|(slot, offset, data)| O::Pwrite {
        slot,
        offset,
        data,
    });
    let seek = (slot(), offset()).prop_map(|(slot, offset)| O::Seek { slot, offset });
    let seek_end = (slot(), ends).prop_map(|(slot, offset)| O::SeekEnd { slot, offset });
    let truncate = (path(), offset()).prop_map(|(path, len)| O::Truncate { path, len });
    let ftruncate = (slot(), offset()).prop_map(|(slot, len)| O::Ftruncate { slot, len });
    let fallocate =
        (slot(), space, offset(), offset()).prop_map(|(slot, space, offset, len)| O::Fallocate {
            slot,
            space,
            offset,
            len,
        });
    let copy = (slot(), slot(), offset(), offset(), len()).prop_map(
        |(from, to, from_offset, to_offset, len)| O::Copy {
            from,
            to,
            from_offset,
            to_offset,
            len: len.into(),
        },
    );
    let fsync = (slot(), any::<bool>()).prop_map(|(slot, data_only)| O::Fsync { slot, data_only });
    vec![
        (20, read.boxed()),
        (50, write.boxed()),
        (25, pread.boxed()),
        (50, pwrite.boxed()),
        (10, seek.boxed()),
        (10, seek_end.boxed()),
        (20, truncate.boxed()),
        (25, ftruncate.boxed()),
        (20, fallocate.boxed()),
        (15, copy.boxed()),
        (10, slot().prop_map(|slot| O::Holes { slot }).boxed()),
        (15, fsync.boxed()),
    ]
}

fn mappings() -> Weighted {
    let offset = || one_of(&[0_u32, 1, 4095, 4096, 10_000, 65_536, 131_000]);
    let open = (map(), slot(), prop::bool::weighted(0.8), any::<bool>()).prop_map(
        |(map, slot, shared, write)| O::Map {
            map,
            slot,
            shared,
            write,
        },
    );
    let read =
        (map(), offset(), len()).prop_map(|(map, offset, len)| O::MapRead { map, offset, len });
    let write = (map(), offset(), bytes()).prop_map(|(map, offset, data)| O::MapWrite {
        map,
        offset,
        data,
    });
    vec![
        (20, open.boxed()),
        (15, read.boxed()),
        (20, write.boxed()),
        (5, map().prop_map(|map| O::MapSync { map }).boxed()),
        (5, map().prop_map(|map| O::Unmap { map }).boxed()),
    ]
}

fn names() -> Weighted {
    let over = prop_oneof![
        3 => Just(Over::Replace),
        1 => Just(Over::NoReplace),
        2 => Just(Over::Exchange),
    ];
    let mkdir = (place(), mode()).prop_map(|(path, mode)| O::Mkdir { path, mode });
    let rename = (place(), place(), over).prop_map(|(from, to, over)| O::Rename { from, to, over });
    let link = (place(), place(), any::<bool>()).prop_map(|(from, to, follow)| O::Hardlink {
        from,
        to,
        follow,
    });
    let leads = prop_oneof![3 => path(), 1 => one_of(&["b/a", "../a", "/nowhere/at/all"]).prop_map(str::to_owned)];
    let symlink = (leads, place()).prop_map(|(to, path)| O::Symlink { to, path });
    let mkfifo = (place(), mode()).prop_map(|(path, mode)| O::Mkfifo { path, mode });
    vec![
        (50, mkdir.boxed()),
        (20, place().prop_map(|path| O::Rmdir { path }).boxed()),
        (40, place().prop_map(|path| O::Unlink { path }).boxed()),
        (60, rename.boxed()),
        (30, link.boxed()),
        (25, symlink.boxed()),
        (10, place().prop_map(|path| O::Readlink { path }).boxed()),
        (8, mkfifo.boxed()),
    ]
}

fn attributes() -> Weighted {
    let put = one_of(&[Put::Any, Put::Create, Put::Replace]);
    let value = (any::<u8>(), one_of(&[5_u32, 0, 300])).prop_map(|(seed, len)| data(seed, len));
    // Root's write to a file that got set-ID bits while it was open takes them away (README).
    let chmod = (target(), mode()).prop_map(|(on, mode)| O::Chmod {
        on,
        mode: Mode(mode.0 & !0o6000),
    });
    let chown =
        (target(), owner(), owner()).prop_map(|(on, user, group)| O::Chown { on, user, group });
    let utimens =
        (target(), when(), when()).prop_map(|(on, atime, mtime)| O::Utimens { on, atime, mtime });
    let set = (target(), xattr(), value, put).prop_map(|(on, name, value, put)| O::SetXattr {
        on,
        name,
        value,
        put,
    });
    let get = (target(), xattr()).prop_map(|(on, name)| O::GetXattr { on, name });
    let remove = (target(), xattr()).prop_map(|(on, name)| O::RemoveXattr { on, name });
    vec![
        (30, chmod.boxed()),
        (25, chown.boxed()),
        (30, utimens.boxed()),
        (20, set.boxed()),
        (10, get.boxed()),
        (10, target().prop_map(|on| O::ListXattr { on }).boxed()),
        (8, remove.boxed()),
        (50, target().prop_map(|on| O::Stat { on }).boxed()),
    ]
}

fn others() -> Weighted {
    let access = (place(), 0..8_u32).prop_map(|(path, wanted)| O::Access { path, wanted });
    let kind = one_of(&[LockKind::Whole, LockKind::Process, LockKind::Description]);
    let lock = one_of(&[Lock::Shared, Lock::Exclusive, Lock::Free]);
    let lock = (slot(), kind, lock).prop_map(|(slot, kind, lock)| O::Lock { slot, kind, lock });
    // None that leaves a group's setgid without its execute: what a stranger's write does to the two is
    // the kernel's business, and differs (README, "setgid without group execute").
    let mask = one_of(&[0o022, 0, 0o007]).prop_map(|mask| O::Umask { mask: Mode(mask) });
    vec![
        (10, access.boxed()),
        (25, target().prop_map(|on| O::List { on }).boxed()),
        (20, lock.boxed()),
        (5, mask.boxed()),
    ]
}
