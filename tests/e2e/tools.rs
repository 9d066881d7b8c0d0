//! Unmodified programs.

use std::fs;
use std::path::Path;

use harness::{Program, Random, Way, python, same_tree, scratch, tool};

harness::every_way!(
    cp_and_rsync_copy_trees_both_ways,
    git_clones_commits_and_checks_itself,
    sqlite_keeps_a_database,
    numpy_maps_a_file_and_changes_it,
);

/// A small tree with all that an archive keeps.
fn make_tree(at: &Path) {
    fs::create_dir_all(at.join("sub/empty")).unwrap();
    Random::write_file(71, &at.join("sub/data"), (2 << 20) + 17);
    fs::write(at.join("script"), "#!/bin/sh\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o751);
    fs::set_permissions(at.join("script"), mode).unwrap();
    fs::write(at.join("empty"), "").unwrap();
    std::os::unix::fs::symlink("sub/data", at.join("link")).unwrap();
}

fn cp_and_rsync_copy_trees_both_ways(way: &Way) {
    let home = scratch();
    let (from, back) = (home.path().join("from"), home.path().join("back"));
    make_tree(&from);
    let mount = way.mount();
    let Some(cp) = tool("cp") else { return };
    cp.arg("-a")
        .arg(&from)
        .arg(mount.join("copy"))
        .run()
        .success();
    same_tree(&from, &mount.join("copy"));
    let Some(rsync) = tool("rsync") else { return };
    let source = format!("{}/", mount.join("copy").display());
    rsync.arg("-aHX").arg(source).arg(&back).run().success();
    same_tree(&from, &back);
    let source = format!("{}/", from.display());
    let rsync = tool("rsync").expect("it was there");
    rsync
        .arg("-aHX")
        .arg(source)
        .arg(mount.join("synced"))
        .run()
        .success();
    same_tree(&from, &mount.join("synced"));
    mount.sync();
    assert!(way.store.has("synced/sub/data"));
}

fn git(directory: &Path) -> Option<Program> {
    let program =
        tool("git")?
            .within(directory)
            .args(["-c", "user.name=t", "-c", "user.email=t@example"]);
    Some(program.env("GIT_CONFIG_GLOBAL", "/dev/null"))
}

fn git_clones_commits_and_checks_itself(way: &Way) {
    let home = scratch();
    let origin = home.path().join("origin");
    make_tree(&origin);
    let Some(init) = git(&origin) else { return };
    init.args(["init", "-q", "."]).run().success();
    git(&origin)
        .expect("git")
        .args(["add", "."])
        .run()
        .success();
    git(&origin)
        .expect("git")
        .args(["commit", "-q", "-m", "first"])
        .run()
        .success();
    let mount = way.mount();
    let clone = mount.join("clone");
    git(mount.path())
        .expect("git")
        .args(["clone", "-q"])
        .arg(&origin)
        .arg(&clone)
        .run()
        .success();
    fs::write(clone.join("new"), "new").unwrap();
    git(&clone)
        .expect("git")
        .args(["add", "new"])
        .run()
        .success();
    git(&clone)
        .expect("git")
        .args(["commit", "-q", "-m", "second"])
        .run()
        .success();
    git(&clone).expect("git").args(["gc", "-q"]).run().success();
    git(&clone)
        .expect("git")
        .args(["fsck", "--full"])
        .run()
        .success();
    let changes = git(&clone)
        .expect("git")
        .args(["status", "--porcelain"])
        .run()
        .success();
    assert_eq!(changes, "", "the clone is clean");
    mount.sync();
}

fn sqlite_keeps_a_database(way: &Way) {
    let mount = way.mount();
    let Some(program) = tool("sqlite3") else {
        return;
    };
    let sql = "CREATE TABLE t(n INTEGER, s TEXT);
        WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 5000)
        INSERT INTO t SELECT n, hex(randomblob(50)) FROM c;
        DELETE FROM t WHERE n % 3 = 0; CREATE INDEX i ON t(s); VACUUM;";
    program.arg(mount.join("db")).arg(sql).run().success();
    let again = mount.unmount().start();
    let check = "PRAGMA integrity_check; SELECT count(*) FROM t;";
    let program = tool("sqlite3").expect("it was there");
    assert_eq!(
        program.arg(again.join("db")).arg(check).run().success(),
        "ok\n3334\n"
    );
    again.sync();
    let object = way.store.fetch("db").expect("the object");
    let program = tool("sqlite3").expect("it was there");
    assert_eq!(
        program.arg(object.path()).arg(check).run().success(),
        "ok\n3334\n"
    );
}

fn numpy_maps_a_file_and_changes_it(way: &Way) {
    let mount = way.mount();
    let path = mount.join("array.npy");
    python("numpy_map.py").arg(&path).run().success();
    mount.sync();
    let other = way.mount();
    python("numpy_map.py")
        .arg("--check")
        .arg(other.join("array.npy"))
        .run()
        .success();
}
