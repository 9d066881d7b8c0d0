//! Conformance suites that others wrote, on every way that bytes can take; and what they found and do not test.
//!
//! The modules named `long` hold the forms that take many minutes; `scripts/test --long` runs them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, also in the functions that they share"
)]

mod fsx;
mod load;
mod meddler;
mod pjdfstest;
mod running_programs;
mod times;
