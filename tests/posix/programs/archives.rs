//! Programs that copy trees: tar, rsync, cp, unzip.
//!
//! The source is the tree of [`everything`](crate::everything) on the local disk; what comes back from the
//! mount must be the same in every respect that the program keeps.

use std::fs;
use std::path::Path;

use harness::{Way, scratch, tool};

use crate::everything::make_tree;
use crate::portrait::{Portrait, Times};
use crate::side_by_side::Twins;

harness::every_way!(
    rsync_copies_everything_both_ways,
    tar_packs_and_unpacks_everything,
    cp_copies_everything_and_keeps_holes,
    unzip_unpacks_the_same_tree,
);

/// The tree is copied from the local disk to the mount, within it, and back, as `copy` does it.
fn there_and_back(way: &Way, kept: impl Fn(Portrait) -> Portrait, copy: impl Fn(&Path, &Path)) {
    let home = scratch();
    let (from, back) = (home.path().join("from"), home.path().join("back"));
    make_tree(&from);
    let look = |place: &Path| kept(Portrait::of(place, Times::Compared));
    let expected = look(&from);
    let is_in = |place: &Path| expected.same_as(&look(place));
    let mount = way.mount();
    let (first, second) = (mount.join("first"), mount.join("second"));
    copy(&from, &first);
    is_in(&first);
    copy(&first, &second);
    is_in(&second);
    copy(&second, &back);
    is_in(&back);
    mount.sync();
    let again = mount.unmount().start();
    is_in(&again.join("first"));
    again.sync();
    assert!(way.store.has("first/script"));
}

fn rsync_copies_everything_both_ways(way: &Way) {
    if tool("rsync").is_none() {
        return;
    }
    there_and_back(
        way,
        |all| all,
        |from, to| {
            let rsync = || tool("rsync").expect("it was there");
            let source = format!("{}/", from.display());
            rsync().arg("-aHAXS").arg(&source).arg(to).run().success();
            let differences = rsync()
                .args(["-aHAXS", "--checksum", "--dry-run", "--itemize-changes"])
                .arg(&source)
                .arg(to)
                .run()
                .success();
            assert_eq!(differences, "", "a second run has nothing to do");
        },
    );
}

fn tar_packs_and_unpacks_everything(way: &Way) {
    if tool("tar").is_none() {
        return;
    }
    let home = scratch();
    let archive = home.path().join("archive.tar");
    // A socket is nothing that tar packs, and of a FIFO with two names it makes two FIFOs.
    let lost = |what: &str| what.starts_with("socket") || what.starts_with("fifo");
    let kept = |all: Portrait| all.without(lost);
    there_and_back(way, kept, |from, to| {
        let tar = |what: &str, at: &Path| {
            let tar = tool("tar").expect("it was there");
            tar.args([
                "--xattrs",
                "--xattrs-include=*",
                "--format=posix",
                "--sparse",
            ])
            .args([
                "--preserve-permissions",
                "--same-owner",
                "--numeric-owner",
                what,
            ])
            .arg(&archive)
            .arg("--directory")
            .arg(at)
            .arg(".")
            .run()
            .success();
        };
        tar("-cf", from);
        fs::create_dir(to).unwrap();
        tar("-xf", to);
    });
}

fn cp_copies_everything_and_keeps_holes(way: &Way) {
    there_and_back(
        way,
        |all| all,
        |from, to| {
            let cp = tool("cp").expect("cp is everywhere");
            cp.args(["-a", "--sparse=always", "--reflink=auto"])
                .arg(from)
                .arg(to)
                .run()
                .success();
        },
    );
}

fn unzip_unpacks_the_same_tree(way: &Way) {
    let Some(zip) = tool("zip") else { return };
    if tool("unzip").is_none() {
        return;
    }
    let home = scratch();
    let archive = home.path().join("archive.zip");
    let tree = home.path().join("tree");
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    for number in 0..200 {
        let path = tree.join(format!("a/b/{number}.txt"));
        fs::write(path, format!("{number}\n").repeat(number)).unwrap();
    }
    std::os::unix::fs::symlink("a/b/7.txt", tree.join("link")).unwrap();
    zip.within(&tree)
        .args(["-q", "-r", "-y"])
        .arg(&archive)
        .arg(".")
        .run()
        .success();
    let unzip = || tool("unzip").expect("it was there");
    let twins = Twins::at_work(way, |at| {
        unzip()
            .arg("-q")
            .arg(&archive)
            .arg("-d")
            .arg(at)
            .run()
            .success()
    });
    twins.stay_alike(Times::Ignored);
}
