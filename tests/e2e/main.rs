//! The whole, from outside: the built `fused`, a real mount, a real store, unmodified programs.
//!
//! A test that is about bytes runs every way that bytes can take: into a folder and into a bucket,
//! by FUSE passthrough and through the daemon. [`harness::every_way!`] makes the four tests of one function.
//! Those marked `ignore` take long or need much disk; `scripts/test --long` runs them too.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, also in the functions that they share"
)]

mod access;
mod allocation;
mod cache_directories;
mod checkpoints;
mod cold_reads;
mod commands;
mod crashes;
mod data;
mod datasets;
mod directories;
mod doctor;
mod eviction;
mod existing_buckets;
mod integrity;
mod journals;
mod limits;
mod loading;
mod mounting;
mod names;
mod namespace;
mod nodes;
mod other_stores;
mod outages;
mod partial_files;
mod path_rules;
mod pinning;
mod prefetching;
mod removed_names;
mod residency;
mod semantics;
mod several_devices;
