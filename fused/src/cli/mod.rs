//! The command line: `fused mount`, `umount`, `sync`, `load`, `pin`, `unpin`, `ls`, `free`, `status`, `doctor`, `journal`,
//! `install`, `man`.
//!
//! The same binary is also a mount helper: mount(8) runs `/sbin/mount.fused URL DIR -o ...` for an fstab line
//! of type `fused`, and `fused URL DIR -o ...` for type `fuse.fused`; [`args`] tells the forms apart.
//!
//! What a user can rely on: exit code 0 = done, 1 = failed, 2 = the command line is wrong; errors are one
//! sentence on standard error that begins with `fused: `; results go to standard output.

mod args;
mod background;
mod doctor;
mod error;
mod foreground;
mod forget_node;
mod free;
mod install;
mod journal;
mod load;
mod logging;
mod ls;
mod man;
mod output;
mod paths;
mod pin;
mod place;
mod progress;
mod status;
mod sync;
mod transfer;
mod umount;

use std::process::ExitCode;

use args::Command;
use error::Error;
pub use man::man_page;

use crate::options::MountOptions;

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let command = match args::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => return args::report(&error),
    };
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(sentence) = error.sentence() {
                output::complain(&sentence);
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Mount(mount) => {
            let options = MountOptions::from_lists(&mount.url, &mount.dir, &mount.options)?;
            if mount.check {
                Ok(())
            } else if mount.foreground || mount.ready_on_stdout {
                foreground::run(options, mount.ready_on_stdout)
            } else {
                background::start(&options, &mount)
            }
        }
        Command::Umount(umount) => umount::run(&umount),
        Command::Sync(sync) => sync::run(&sync),
        Command::Load(load) => load::run(&load),
        Command::Pin(pin) => pin::run(&pin),
        Command::Unpin(unpin) => pin::undo(&unpin),
        Command::Ls(ls) => ls::run(&ls),
        Command::Free(free) => free::run(&free),
        Command::Status(status) => status::run(&status),
        Command::Doctor(doctor) => doctor::run(&doctor),
        Command::ForgetNode(forget) => forget_node::run(&forget),
        Command::Journal(journal) => journal::run(&journal),
        Command::Install(install) => install::run(&install),
        Command::Man => output::print(&man_page()),
    }
}
