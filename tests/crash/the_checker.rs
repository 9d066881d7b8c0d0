//! The checker can fail: ordinary folders with exactly one thing wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use harness::scratch;

use crate::check::{judge_object, judge_store, look_at};
use crate::content;
use crate::ledger::{Crash, Ledger, State};

const LEN: usize = 9000;

/// A worker that wrote `w0/f` and synced it.
fn synced() -> (tempfile::TempDir, Ledger, u64) {
    let folder = scratch();
    let mut ledger = Ledger::new(Crash::PowerCut, 0);
    fs::create_dir(folder.path().join("w0")).unwrap();
    let version = ledger.new_version(LEN);
    ledger.begin("w0/f", State::File(version));
    write(folder.path(), "w0/f", version, LEN);
    ledger.written(version, LEN);
    ledger.file_synced("w0/f");
    (folder, ledger, version)
}

/// A newer version of it is begun and acknowledged, not synced.
fn replaced(ledger: &mut Ledger) -> u64 {
    let version = ledger.new_version(LEN);
    ledger.begin("w0/f", State::File(version));
    ledger.written(version, LEN);
    ledger.acknowledged(&["w0/f"]);
    version
}

fn write(root: &Path, path: &str, version: u64, len: usize) {
    fs::write(root.join(path), content::version(version, len)).unwrap();
}

fn wrong(root: &Path, ledger: &Ledger) -> Vec<String> {
    look_at(root).judge(root, &mut [ledger.clone()], false)
}

#[test]
fn what_was_synced_is_there() {
    let (folder, ledger, _) = synced();
    assert_eq!(wrong(folder.path(), &ledger), Vec::<String>::new());
}

#[test]
fn a_synced_file_that_is_gone_is_noticed() {
    let (folder, ledger, _) = synced();
    fs::remove_file(folder.path().join("w0/f")).unwrap();
    assert_eq!(wrong(folder.path(), &ledger).len(), 2, "path and version");
}

#[test]
fn a_torn_file_is_noticed() {
    let (folder, ledger, version) = synced();
    let path = folder.path().join("w0/f");
    for torn in [
        Vec::new(),
        content::version(version, LEN)[..4096].to_vec(),
        [&content::version(version, 4096)[..], &vec![0; LEN - 4096]].concat(),
    ] {
        fs::write(&path, torn).unwrap();
        assert!(wrong(folder.path(), &ledger)[0].contains("torn"));
    }
}

/// Created, and killed before the first write; at the next kill its removal has begun.
#[test]
fn an_empty_file_is_what_an_earlier_kill_left_and_nothing_else() {
    let folder = scratch();
    let root = folder.path();
    fs::create_dir(root.join("w0")).unwrap();
    let mut ledger = Ledger::new(Crash::Kill, 0);
    let version = ledger.new_version(LEN);
    ledger.begin("w0/f", State::File(version));
    fs::write(root.join("w0/f"), "").unwrap();
    let mut ledgers = [ledger];
    let found = look_at(root).judge(root, &mut ledgers, false);
    assert_eq!(found, Vec::<String>::new());
    let [mut ledger] = ledgers;
    ledger.begin("w0/f", State::Absent);
    assert_eq!(wrong(root, &ledger), Vec::<String>::new());
    fs::write(root.join("w0/f"), "x").unwrap();
    assert_eq!(wrong(root, &ledger).len(), 1, "not empty any more");

    let (folder, mut ledger, _) = synced();
    ledger.begin("w0/f", State::Absent);
    fs::write(folder.path().join("w0/f"), "").unwrap();
    assert!(wrong(folder.path(), &ledger)[0].contains("torn"));
}

/// A listing that is late may show it once more; one that nobody removed is not to go.
#[test]
fn a_directory_goes_only_if_its_removal_had_begun() {
    for removed in [true, false] {
        let folder = scratch();
        let root = folder.path();
        fs::create_dir_all(root.join("w0/d")).unwrap();
        let mut ledger = Ledger::new(Crash::Kill, 0);
        ledger.begin("w0/d", State::Directory);
        ledger.acknowledged(&["w0/d"]);
        if removed {
            ledger.begin("w0/d", State::Absent);
        }
        let mut ledgers = [ledger];
        let found = look_at(root).judge(root, &mut ledgers, false);
        assert_eq!(found, Vec::<String>::new());
        fs::remove_dir(root.join("w0/d")).unwrap();
        let [ledger] = ledgers;
        assert_eq!(wrong(root, &ledger).is_empty(), removed);
    }
}

#[test]
fn a_mix_of_two_versions_is_noticed() {
    let (folder, mut ledger, old) = synced();
    let new = replaced(&mut ledger);
    let mut mixed = content::version(old, LEN);
    mixed[4096..].copy_from_slice(&content::version(new, LEN)[4096..]);
    fs::write(folder.path().join("w0/f"), mixed).unwrap();
    assert!(wrong(folder.path(), &ledger)[0].contains("torn"));
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one_and_nothing_else() {
    let (folder, mut ledger, old) = synced();
    let new = replaced(&mut ledger);
    for version in [old, new] {
        write(folder.path(), "w0/f", version, LEN);
        assert_eq!(wrong(folder.path(), &ledger), Vec::<String>::new());
    }
    fs::remove_file(folder.path().join("w0/f")).unwrap();
    assert!(!wrong(folder.path(), &ledger).is_empty());
}

#[test]
fn a_killed_daemon_must_have_kept_the_new_one() {
    let (folder, mut ledger, old) = synced();
    ledger.crash = Crash::Kill;
    replaced(&mut ledger);
    write(folder.path(), "w0/f", old, LEN);
    assert!(!wrong(folder.path(), &ledger).is_empty());
}

#[test]
fn a_removed_file_that_comes_back_is_noticed() {
    let (folder, mut ledger, _) = synced();
    ledger.begin("w0/f", State::Absent);
    assert_eq!(wrong(folder.path(), &ledger), Vec::<String>::new());
    ledger.directory_synced("w0");
    // A known gap of the product: counted. Anything else under the name is an error all the same.
    let mut ledgers = [ledger.clone()];
    look_at(folder.path()).judge(folder.path(), &mut ledgers, false);
    assert_eq!(ledgers[0].litter, 1);
    fs::write(folder.path().join("w0/f"), "something else").unwrap();
    assert_eq!(wrong(folder.path(), &ledger).len(), 1);
}

#[test]
fn a_file_that_nobody_made_is_noticed() {
    let (folder, ledger, version) = synced();
    write(folder.path(), "w0/other", version, LEN);
    assert!(wrong(folder.path(), &ledger)[0].contains("nobody made it"));
}

#[test]
fn a_synced_file_lost_by_a_rename_is_noticed() {
    let (folder, mut ledger, version) = synced();
    ledger.begin_move("w0/f", "w0/g");
    let root = folder.path();
    assert_eq!(wrong(root, &ledger), Vec::<String>::new(), "not yet");
    write(root, "w0/g", version, LEN);
    let mut ledgers = [ledger.clone()];
    look_at(root).judge(root, &mut ledgers, false);
    assert_eq!(ledgers[0].litter, 1, "both names: a known gap, counted");
    fs::remove_file(root.join("w0/f")).unwrap();
    assert_eq!(wrong(root, &ledger), Vec::<String>::new(), "moved");
    fs::remove_file(root.join("w0/g")).unwrap();
    assert_eq!(wrong(root, &ledger).len(), 1, "neither name");
}

#[test]
fn objects_are_whole_versions_under_their_own_names() {
    let (folder, ledger, version) = synced();
    let mut ledgers = [ledger];
    let whole = content::version(version, LEN);
    assert_eq!(judge_object(&ledgers, "w0/f", &whole), None);
    assert!(judge_object(&ledgers, "w0/f", &whole[..LEN - 1]).is_some());
    assert!(judge_object(&ledgers, "w0/f", b"").is_some());
    assert!(judge_object(&ledgers, "w0/g", &whole).is_some());

    let found = look_at(folder.path());
    let mut objects = BTreeMap::from([("w0/f".to_owned(), whole)]);
    assert_eq!(
        judge_store(&found, &objects, &mut ledgers),
        Vec::<String>::new()
    );
    objects.insert("w0/litter".to_owned(), vec![1]);
    objects.insert("w0/f".to_owned(), vec![2]);
    assert_eq!(judge_store(&found, &objects, &mut ledgers).len(), 2);
}
