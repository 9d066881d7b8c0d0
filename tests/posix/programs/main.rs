//! Real programs, each checked against the same run on a local folder.
//!
//! The checkpoint libraries (torch, safetensors) are in `tests/e2e/checkpoints.rs`. The modules named
//! `long` hold what is too heavy for every run; `scripts/test --long` runs them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, also in the functions that they share"
)]

mod archives;
mod cargo_build;
mod editors;
mod everything;
mod git;
mod many_files;
mod portrait;
mod python_libraries;
mod side_by_side;
mod sqlite;
