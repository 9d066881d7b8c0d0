//! What the lints can't say about this project's files.

#![allow(
    clippy::unwrap_used,
    reason = "a test, also in the functions that its tests share"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Longer files have more than one purpose.
const LINES_MAX: usize = 700;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Every text file that is the project's own, with its content.
fn own_files() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut pending = vec![project()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_symlink() || ["target", ".git", ".venv", "__pycache__"].contains(&&*name) {
                continue;
            }
            if path.is_dir() {
                pending.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.push((path, text));
            }
        }
    }
    found
}

fn rust_files() -> impl Iterator<Item = (PathBuf, String)> {
    own_files()
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|kind| kind == "rs"))
}

#[test]
fn every_rust_file_opens_with_what_it_is_for() {
    let without = |(path, text): (PathBuf, String)| (!text.starts_with("//!")).then_some(path);
    let silent: Vec<_> = rust_files().filter_map(without).collect();
    assert!(silent.is_empty(), "no //! at the head of {silent:?}");
}

#[test]
fn no_rust_file_has_grown_beyond_one_purpose() {
    for (path, text) in rust_files() {
        let lines = text.lines().count();
        assert!(
            lines <= LINES_MAX,
            "{} has {lines} lines, more than {LINES_MAX}",
            path.display()
        );
    }
}

#[test]
fn no_file_knows_where_a_developer_keeps_the_project() {
    let root = project();
    let root = root.to_str().unwrap();
    // In a container the project may be at a path as general as this.
    if root.len() < 6 {
        return;
    }
    for (path, text) in own_files() {
        assert!(!text.contains(root), "{} names {root}", path.display());
    }
}
