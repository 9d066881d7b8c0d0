//! sqlite3: byte-range locks, a journal or a write-ahead log with its shared mapping, and several writers.

use std::path::Path;
use std::process::Stdio;

use harness::{Guarded, Program, Way, tool};

use crate::side_by_side::Twins;

harness::every_way!(
    a_database_arrives_whole,
    writers_share_a_database_with_a_rollback_journal,
    writers_share_a_database_with_a_write_ahead_log,
);

const WRITERS: usize = 3;
const COMMITS: usize = 20;

fn sqlite(database: &Path, sql: &str) -> Option<Program> {
    let program = tool("sqlite3")?.args(["-batch", "-cmd", ".timeout 60000"]);
    Some(program.arg(database).arg(sql))
}

fn a_database_arrives_whole(way: &Way) {
    let mount = way.mount();
    let sql = "CREATE TABLE t(n INTEGER, s TEXT);
        WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 5000)
        INSERT INTO t SELECT n, hex(randomblob(50)) FROM c;
        DELETE FROM t WHERE n % 3 = 0; CREATE INDEX i ON t(s); VACUUM;";
    let Some(program) = sqlite(&mount.join("db"), sql) else {
        return;
    };
    program.run().success();
    let again = mount.unmount().start();
    let check = |database: &Path| {
        let sql = "PRAGMA integrity_check; SELECT count(*) FROM t;";
        sqlite(database, sql).expect("it was there").run().success()
    };
    assert_eq!(check(&again.join("db")), "ok\n3334\n");
    again.sync();
    let object = way.store.fetch("db").expect("the object");
    assert_eq!(check(object.path()), "ok\n3334\n");
}

fn writers_share_a_database_with_a_rollback_journal(way: &Way) {
    share(way, "DELETE");
}

fn writers_share_a_database_with_a_write_ahead_log(way: &Way) {
    share(way, "WAL");
}

fn share(way: &Way, journal_mode: &str) {
    if tool("sqlite3").is_none() {
        return;
    }
    Twins::at_work(way, |at| {
        let database = at.join("db");
        let run = |sql: &str| {
            sqlite(&database, sql)
                .expect("it was there")
                .run()
                .success()
        };
        run(&format!(
            "PRAGMA journal_mode={journal_mode}; CREATE TABLE t(writer, n, s); CREATE TABLE sum(n);
             INSERT INTO sum VALUES(0);"
        ));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let commits = (0..COMMITS).map(|n| {
                    format!(
                        "BEGIN IMMEDIATE; INSERT INTO t VALUES({writer}, {n}, printf('%.{length}c', 'x'));
                         UPDATE sum SET n = n + {n}; COMMIT;",
                        length = 1 + n * 500
                    )
                });
                let sql = commits.collect::<String>();
                let mut command = sqlite(&database, &sql).expect("it was there").into_command();
                Guarded::spawn_as_is(command.stdin(Stdio::null())).unwrap()
            })
            .collect();
        for mut writer in writers {
            let status = writer.child().wait().unwrap();
            assert!(status.success(), "{status}");
        }
        run("PRAGMA integrity_check; SELECT writer, count(*), sum(length(s)) FROM t GROUP BY writer;
             SELECT n FROM sum; PRAGMA journal_mode;")
    });
}
