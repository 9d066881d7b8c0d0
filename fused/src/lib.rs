//! `fused`: a POSIX file system over an object store, at the speed of the local disk.
//!
//! | module | what it holds |
//! |---|---|
//! | [`vfs`] | what the file system means, without a FUSE type |
//! | [`front`] | the kernel's requests, translated |
//! | [`daemon`] | the process: start, recovery, end |
//! | [`control`] | what the command line and the daemon say to each other |
//! | [`options`] | what a mount is told |
//! | [`doctor`] | whether journal, extent files and store of an unused cache directory agree |
//! | [`cli`] | the program `fused` |

pub mod cli;
pub mod control;
pub mod daemon;
pub mod doctor;
pub mod front;
pub mod options;
pub mod vfs;
