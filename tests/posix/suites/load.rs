//! Load that checks itself: fio with checksums in every block, stress-ng's file system stressors, dbench.

use std::path::Path;
use std::time::Duration;

use harness::{Way, tool};

harness::every_way!(
    fio_finds_every_block_as_written,
    stress_ng_finds_nothing_wrong,
    dbench_runs_through,
);

/// Those that work in one folder and know what must come out. Left out are stressors of other things
/// (processes, /proc, bind mounts), and of what only some file systems have (verity, binderfs).
const STRESSORS: [&str; 32] = [
    "access",
    "chdir",
    "chmod",
    "chown",
    "dentry",
    "dir",
    "dirdeep",
    "dirmany",
    "fallocate",
    "fcntl",
    "filename",
    "flock",
    "fpunch",
    "fsize",
    "fstat",
    "getdent",
    "hdd",
    "iomix",
    "lease",
    "link",
    "locka",
    "lockf",
    "lockofd",
    "mknod",
    "open",
    "rename",
    "seek",
    "symlink",
    "sync-file",
    "touch",
    "utime",
    "xattr",
];

fn fio_finds_every_block_as_written(way: &Way) {
    fio(way, "24m", Duration::from_secs(180));
}

fn stress_ng_finds_nothing_wrong(way: &Way) {
    stress_ng(way, 2);
}

fn dbench_runs_through(way: &Way) {
    dbench(way, 4);
}

mod long {
    use std::time::Duration;

    use harness::Way;

    const LIMIT: Duration = Duration::from_secs(3600);

    fn on_every_way(load: impl Fn(&Way)) {
        harness::require_mounts!();
        for passthrough in ["passthrough=auto", "passthrough=off"] {
            load(&Way::folder(passthrough));
            load(&Way::bucket(passthrough));
        }
    }

    #[test]
    #[ignore = "takes minutes and gigabytes"]
    fn fio_finds_every_block_as_written() {
        on_every_way(|way| super::fio(way, "512m", LIMIT));
    }

    #[test]
    #[ignore = "takes minutes"]
    fn stress_ng_finds_nothing_wrong() {
        on_every_way(|way| super::stress_ng(way, 120));
    }

    #[test]
    #[ignore = "takes minutes"]
    fn dbench_runs_through() {
        on_every_way(|way| super::dbench(way, 60));
    }
}

/// Four files of this size: sequential and random, buffered and direct.
fn fio(way: &Way, size: &str, limit: Duration) {
    let mount = way.mount();
    let Some(writing) = fio_jobs(mount.path(), size) else {
        return;
    };
    writing.run_within(limit).success();
    mount.sync();
    // What arrived is looked at where nothing of it is in a cache.
    let other = way.mount();
    let checking = fio_jobs(other.path(), size).expect("it was there");
    checking.arg("--verify_only").run_within(limit).success();
}

fn fio_jobs(at: &Path, size: &str) -> Option<harness::Program> {
    let mut fio = tool("fio")?
        .arg(format!("--directory={}", at.display()))
        .arg(format!("--size={size}"))
        .args([
            "--verify=crc32c",
            "--verify_fatal=1",
            "--do_verify=1",
            "--randseed=7",
        ])
        .args(["--ioengine=libaio", "--iodepth=8", "--thread=0"])
        // fio keeps a record of its verification where it starts.
        .arg("--verify_state_save=0");
    for (pattern, block) in [("write", "128k"), ("randwrite", "4k")] {
        for direct in [0, 1] {
            let name = format!("{pattern}-{direct}");
            fio = fio.args([
                format!("--name={name}"),
                format!("--filename={name}"),
                format!("--rw={pattern}"),
                format!("--bs={block}"),
                format!("--direct={direct}"),
            ]);
        }
    }
    Some(fio)
}

fn stress_ng(way: &Way, seconds: u64) {
    let Some(mut stress) = tool("stress-ng") else {
        return;
    };
    let mount = way.mount();
    stress = stress
        .arg("--temp-path")
        .arg(mount.path())
        .args(["--verify", "--timeout", &format!("{seconds}s")])
        .args([
            "--fallocate-bytes",
            "32m",
            "--hdd-bytes",
            "32m",
            "--iomix-bytes",
            "16m",
        ])
        .args(["--seek-size", "32m", "--sync-file-bytes", "16m"])
        .args(["--dirmany-bytes", "0", "--chdir-dirs", "256"])
        .args(["--dirdeep-inodes", "2000", "--open-max", "2000"]);
    for stressor in STRESSORS {
        stress = stress.args([&format!("--{stressor}"), "1"]);
    }
    let finished = stress.run_within(Duration::from_secs(120 + seconds));
    let said = finished.to_string();
    let complaints: Vec<&str> = said.lines().filter(|line| line.contains("fail:")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}\n{said}");
    finished.success();
    mount.sync();
}

fn dbench(way: &Way, seconds: u32) {
    let load = Path::new("/usr/share/dbench/client.txt");
    let Some(dbench) = tool("dbench") else { return };
    let mount = way.mount();
    let said = dbench
        .args(["--timelimit", &seconds.to_string()])
        .arg("--loadfile")
        .arg(load)
        .arg("--directory")
        .arg(mount.path())
        .arg("4")
        .run_within(Duration::from_secs(120) + Duration::from_secs(3) * seconds)
        .success();
    assert!(said.contains("Throughput"), "{said}");
    assert!(!said.contains("ERROR"), "{said}");
    mount.sync();
}
