//! The built program as a user meets it: help, usage errors, exit codes, installation. What needs a mount is
//! tested elsewhere.

#![allow(
    clippy::unwrap_used,
    reason = "a test's helper may panic like the test itself"
)]

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fused");

fn fused(args: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(args)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Asserts that a command line fails with this code and a sentence with this part, and prints nothing else.
fn refused(args: &[&str], code: i32, part: &str) -> String {
    let output = fused(args);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(said.starts_with("fused: "), "{args:?}: {said}");
    assert!(said.contains(part), "{args:?}: {said}");
    assert_eq!(stdout(&output), "", "{args:?}");
    said
}

#[test]
fn version_is_that_of_the_crate_and_tells_the_journals() {
    let output = fused(&["--version"]);
    assert!(output.status.success());
    let journals = match cfg!(feature = "foundationdb") {
        true => "embedded, foundationdb",
        false => "embedded",
    };
    assert_eq!(
        stdout(&output),
        format!(
            "fused {} (journals: {journals})\n",
            env!("CARGO_PKG_VERSION")
        )
    );
}

#[test]
fn help_lists_every_mount_option_with_its_default() {
    for args in [&["--help"][..], &["mount", "--help"], &["help", "mount"]] {
        let output = fused(args);
        assert!(output.status.success());
        let text = stdout(&output);
        for row in fused::options::help_rows() {
            let line = format!("{}  [default: {}]", row.usage, row.default);
            assert!(text.contains(&line), "{args:?} lacks {line}");
        }
    }
}

#[test]
fn short_help_is_short() {
    let text = stdout(&fused(&["-h"]));
    assert!(
        text.contains("umount") && text.lines().count() < 30,
        "{text}"
    );
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    refused(&[], 2, "Usage:");
    refused(&["frobnicate"], 2, "frobnicate");
    refused(&["mount", "s3://bucket"], 2, "<DIR>");
    refused(&["sync"], 2, "<PATHS>");
    refused(&["sync", "/", "--timeout", "soon"], 2, "number of seconds");
}

#[test]
fn a_wrong_option_is_a_usage_error_that_names_the_nearest() {
    refused(
        &["mount", "s3://b", "/mnt", "-o", "cachesize=1G"],
        2,
        "the nearest known one is `cache_size`",
    );
    refused(
        &["s3://b", "/mnt", "-o", "rw,pasthrough=off"],
        2,
        "the nearest known one is `passthrough`",
    );
    refused(
        &["mount", "s3://b", "/mnt", "-o", "umask=9"],
        2,
        "option `umask`",
    );
}

#[test]
fn a_wrong_key_in_the_config_file_is_a_usage_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mount.toml");
    std::fs::write(&file, "revaildate = 5\n").unwrap();
    let list = format!("config={}", file.display());
    let said = refused(&["mount", "s3://b", "/mnt", "-o", &list], 2, "mount.toml");
    assert!(said.contains("`revalidate`"), "{said}");
}

#[test]
fn credentials_on_the_command_line_are_refused_and_not_repeated() {
    let said = refused(
        &["mount", "s3://b", "/mnt", "-o", "secret_key=hunter2"],
        2,
        "AWS_PROFILE",
    );
    assert!(!said.contains("hunter2"), "{said}");
    let said = refused(&["mount", "s3://key:hunter2@b", "/mnt"], 2, "credentials");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn what_is_no_url_is_a_usage_error() {
    refused(&["mount", "/dev/sda1", "/mnt"], 2, "/dev/sda1");
}

#[test]
fn the_form_of_mount_8_knows_the_same_errors() {
    let output = Command::new(PROGRAM)
        .arg0("/sbin/mount.fused")
        .args([
            "s3://b",
            "/mnt",
            "-n",
            "-v",
            "-o",
            "rw,_netdev,treads=3",
            "-t",
            "fused",
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("the nearest known one is `threads`"));
}

#[test]
fn a_fake_mount_of_mount_8_only_checks_the_options() {
    let output = Command::new(PROGRAM)
        .arg0("/sbin/mount.fused")
        .args([
            "s3://b",
            "/no/such/dir",
            "-f",
            "-o",
            "rw,_netdev,nofail,noatime",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_mount_point_that_is_not_there_is_told_by_the_background_daemon_too() {
    let dir = tempfile::tempdir().unwrap();
    let cache = format!("cache_dir={}", dir.path().join("cache").display());
    let missing = dir.path().join("missing");
    let missing = missing.to_str().unwrap();
    for extra in [&[][..], &["-f"]] {
        let mut args = vec!["mount", "file:///tmp", missing, "-o", &cache];
        args.extend(extra);
        let output = fused(&args);
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        assert!(
            said.contains("fused: ") && said.contains("can't mount there: No such file"),
            "{said}"
        );
    }
}

#[test]
fn a_cache_directory_that_cannot_be_made_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let cache = format!("cache_dir={}", dir.path().join("file/cache").display());
    let at = dir.path().to_str().unwrap();
    refused(
        &["mount", "file:///tmp", at, "-o", &cache],
        1,
        "the cache directory can't be created",
    );
}

#[test]
fn umount_and_status_and_sync_refuse_what_is_not_ours() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    refused(&["umount", at], 1, "nothing is mounted here");
    refused(
        &["umount", "/proc"],
        1,
        "a mount of type proc, not a fused one",
    );
    refused(&["status", at], 1, "this is not in a fused mount");
    refused(&["sync", at], 1, "this is not in a fused mount");
    refused(&["sync", "/no/such/file"], 1, "No such file");
}

#[test]
fn install_writes_links_unit_and_man_page_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    for _ in 0..2 {
        let output = fused(&["install", "--root", root]);
        assert!(output.status.success(), "{}", stderr(&output));
        let said = stdout(&output);
        for file in [
            "sbin/mount.fused",
            "sbin/mount.fuse.fused",
            "etc/systemd/system/fused@.service",
            "usr/local/share/man/man8/fused.8",
        ] {
            let path = dir.path().join(file);
            assert!(said.contains(path.to_str().unwrap()), "{said}");
            assert!(path.exists(), "{file}");
        }
    }
    let link = dir.path().join("sbin/mount.fused");
    assert_eq!(std::fs::read_link(&link).unwrap(), Path::new(PROGRAM));
    let names: Vec<_> = std::fs::read_dir(dir.path().join("sbin"))
        .unwrap()
        .collect();
    assert_eq!(names.len(), 2, "leftovers: {names:?}");

    // The link works as mount(8) uses it.
    let output = Command::new(&link)
        .args(["s3://b", "/mnt", "-o", "rw,bogus_option"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn install_leaves_a_foreign_file_alone() {
    let dir = tempfile::tempdir().unwrap();
    let helper = dir.path().join("sbin/mount.fused");
    std::fs::create_dir_all(helper.parent().unwrap()).unwrap();
    std::fs::write(&helper, "mine").unwrap();
    refused(
        &["install", "--root", dir.path().to_str().unwrap()],
        1,
        "something that is no link",
    );
    assert_eq!(std::fs::read(&helper).unwrap(), b"mine");
}

#[test]
fn the_man_page_is_printed() {
    let output = fused(&["man"]);
    assert!(output.status.success());
    assert!(stdout(&output).contains(".SH \"MOUNT OPTIONS\""));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let shell = format!("'{PROGRAM}' man | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}");
    let status = Command::new("bash").args(["-c", &shell]).status().unwrap();
    assert!(status.success());
}
