//! A small workspace built by cargo, all of it on the mount.

use std::fs;
use std::path::Path;

use harness::{Program, Way, tool};

use crate::side_by_side::Twins;

harness::every_way!(cargo_builds_and_knows_what_is_fresh);

fn cargo(at: &Path) -> Program {
    let cargo = tool("cargo").expect("cargo runs this test");
    let cargo = cargo.within(at).env("CARGO_TARGET_DIR", at.join("target"));
    cargo.env("CARGO_TERM_COLOR", "never")
}

fn write_workspace(at: &Path) {
    for (name, text) in [
        (
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"words\", \"says\"]\n",
        ),
        (
            "words/Cargo.toml",
            "[package]\nname = \"words\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
        ),
        (
            "words/src/lib.rs",
            "pub fn word() -> &'static str { \"first\" }\n",
        ),
        (
            "says/Cargo.toml",
            "[package]\nname = \"says\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
             [dependencies]\nwords = { path = \"../words\" }\n",
        ),
        (
            "says/build.rs",
            "fn main() { println!(\"cargo::rustc-env=BUILT=by a script\"); }\n",
        ),
        (
            "says/src/main.rs",
            "fn main() { println!(\"{} {}\", words::word(), env!(\"BUILT\")); }\n",
        ),
    ] {
        let path = at.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn cargo_builds_and_knows_what_is_fresh(way: &Way) {
    Twins::at_work(way, |at| {
        write_workspace(at);
        let mut said = cargo(at).args(["run", "--offline", "-q"]).run().success();
        let again = cargo(at).args(["build", "--offline", "-v"]).run();
        let compiled = again.stderr.matches("Running").count();
        said += &format!("compiled again: {compiled}\n");
        again.success();
        let changed = "pub fn word() -> &'static str { \"second\" }\n";
        fs::write(at.join("words/src/lib.rs"), changed).unwrap();
        said += &cargo(at).args(["run", "--offline", "-q"]).run().success();
        assert_eq!(
            said,
            "first by a script\ncompiled again: 0\nsecond by a script\n"
        );
        said
    });
}
