//! git: clone, commit, repack, check; a repository has thousands of small renames, locks and hard links.

use std::fs;
use std::path::Path;

use harness::{Program, Random, Way, scratch, tool};

use crate::side_by_side::Twins;

harness::every_way!(git_clones_commits_repacks_and_checks);

fn git(directory: &Path, words: &[&str]) -> Program {
    let program = tool("git").expect("it was there").within(directory);
    let moment = "2026-01-02T03:04:05Z";
    program
        .args(["-c", "user.name=t", "-c", "user.email=t@example"])
        .args(["-c", "init.defaultBranch=main", "-c", "gc.auto=0"])
        .args(words)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_DATE", moment)
        .env("GIT_COMMITTER_DATE", moment)
}

fn do_it(directory: &Path, words: &[&str]) -> String {
    git(directory, words).run().success()
}

fn make_origin(at: &Path) {
    fs::create_dir_all(at.join("sub")).unwrap();
    Random::write_file(71, &at.join("sub/data"), (2 << 20) + 17);
    fs::write(at.join("script"), "#!/bin/sh\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o751);
    fs::set_permissions(at.join("script"), mode).unwrap();
    std::os::unix::fs::symlink("sub/data", at.join("link")).unwrap();
    do_it(at, &["init", "-q", "."]);
    for round in 0..5 {
        for file in 0..40 {
            let text = format!("{file} in round {round}\n").repeat(file);
            fs::write(at.join(format!("sub/{file}.txt")), text).unwrap();
        }
        do_it(at, &["add", "."]);
        do_it(at, &["commit", "-q", "-m", "round"]);
    }
}

fn git_clones_commits_repacks_and_checks(way: &Way) {
    if tool("git").is_none() {
        return;
    }
    let home = scratch();
    let origin = home.path().join("origin");
    fs::create_dir(&origin).unwrap();
    make_origin(&origin);
    let origin = origin.to_str().unwrap();
    Twins::at_work(way, |at| {
        do_it(at, &["clone", "-q", origin, "clone"]);
        let clone = at.join("clone");
        for number in 0..10 {
            fs::write(clone.join("new"), number.to_string()).unwrap();
            do_it(&clone, &["add", "new"]);
            do_it(&clone, &["commit", "-q", "-m", "more"]);
        }
        do_it(&clone, &["checkout", "-q", "-b", "other", "HEAD~8"]);
        do_it(&clone, &["rm", "-q", "-r", "sub"]);
        do_it(&clone, &["commit", "-q", "-m", "less"]);
        do_it(&clone, &["checkout", "-q", "main"]);
        do_it(&clone, &["gc", "-q", "--aggressive", "--prune=now"]);
        do_it(&clone, &["fsck", "--full", "--strict"]);
        let changes = do_it(&clone, &["status", "--porcelain"]);
        assert_eq!(changes, "", "the clone is clean");
        let mut said = do_it(&clone, &["log", "--all", "--format=%H %s"]);
        said += &do_it(&clone, &["ls-tree", "-r", "HEAD"]);
        said + &do_it(&clone, &["count-objects", "-v"])
            .replace("size-pack", "")
            .lines()
            .filter(|line| line.starts_with("count") || line.starts_with("in-pack"))
            .collect::<String>()
    });
}
