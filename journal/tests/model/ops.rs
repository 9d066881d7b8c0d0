//! What can happen, in random order.

use journal::{Kind, RenameMode};
use proptest::prelude::*;

pub type Name = String;

#[derive(Clone, Debug)]
pub enum Op {
    Create(usize, Name, Kind),
    Link(usize, usize, Name),
    Unlink(usize, Name),
    Rmdir(usize, Name),
    Rename(usize, Name, usize, Name, RenameMode),
    Truncate(usize, u64),
    Chmod(usize, u32),
    Pin(usize, bool),
    Write(usize, u64),
    OpenTruncate(usize),
    Close(usize, bool),
    Reap(usize),
    FlushStart(usize),
    FlushEnd(usize),
    Resync(usize),
    Collect(usize),
    ForeignPut(usize, Name, bool),
    ListStart(usize),
    ListEnd,
}

pub fn name() -> impl Strategy<Value = Name> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

pub fn op() -> impl Strategy<Value = Op> {
    let n = 0usize..8;
    let kind = prop::sample::select(vec![Kind::File, Kind::File, Kind::Directory, Kind::Symlink]);
    let mode = prop::sample::select(vec![
        RenameMode::Replace,
        RenameMode::Replace,
        RenameMode::NoReplace,
        RenameMode::Exchange,
    ]);
    prop_oneof![
        6 => (n.clone(), name(), kind).prop_map(|(d, name, kind)| Op::Create(d, name, kind)),
        1 => (n.clone(), n.clone(), name()).prop_map(|(i, d, name)| Op::Link(i, d, name)),
        3 => (n.clone(), name()).prop_map(|(d, name)| Op::Unlink(d, name)),
        1 => (n.clone(), name()).prop_map(|(d, name)| Op::Rmdir(d, name)),
        6 => (n.clone(), name(), n.clone(), name(), mode)
            .prop_map(|(d, name, e, other, mode)| Op::Rename(d, name, e, other, mode)),
        1 => (n.clone(), 0u64..9).prop_map(|(i, size)| Op::Truncate(i, size)),
        1 => (n.clone(), 0u32..0o1000).prop_map(|(i, mode)| Op::Chmod(i, mode)),
        1 => (n.clone(), any::<bool>()).prop_map(|(i, on)| Op::Pin(i, on)),
        2 => (n.clone(), 0u64..9).prop_map(|(i, size)| Op::Write(i, size)),
        1 => n.clone().prop_map(Op::OpenTruncate),
        1 => (n.clone(), any::<bool>()).prop_map(|(i, changed)| Op::Close(i, changed)),
        2 => n.clone().prop_map(Op::Reap),
        6 => n.clone().prop_map(Op::FlushStart),
        6 => n.clone().prop_map(Op::FlushEnd),
        3 => n.clone().prop_map(Op::Resync),
        3 => n.clone().prop_map(Op::Collect),
        2 => (n.clone(), name(), any::<bool>()).prop_map(|(d, name, dir)| Op::ForeignPut(d, name, dir)),
        2 => n.prop_map(Op::ListStart),
        2 => Just(Op::ListEnd),
    ]
}
