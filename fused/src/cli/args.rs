//! What may stand on the command line.
//!
//! Two forms: subcommands, and the form in which mount(8) calls its helpers, `URL DIR [-sfnvrw] [-o LIST]
//! [-t TYPE] [-N NS]`. The second is meant when the program is called by a name that begins with `mount.`, or when
//! the first argument is a URL. In it `-f` is mount(8)'s "fake" for a helper, and our "foreground" when
//! a person wrote the URL first.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::output;
use crate::options::help_text;

const EXIT_CODES: &str = "Exit status: 0 done, 1 failed, 2 the command line or an option is wrong.";

/// What `--version` says: also which journals this program was built with.
const VERSION: &str = match cfg!(feature = "foundationdb") {
    true => concat!(
        env!("CARGO_PKG_VERSION"),
        " (journals: embedded, foundationdb)"
    ),
    false => concat!(env!("CARGO_PKG_VERSION"), " (journals: embedded)"),
};

/// Mounts an object store as an ordinary file system: writes at the speed of the local disk, plain objects in
/// the bucket.
#[derive(Debug, Parser)]
#[command(
    name = "fused",
    version = VERSION,
    propagate_version = true,
    max_term_width = 100
)]
#[command(after_help = EXIT_CODES, after_long_help = long_help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Mount a store at a directory; returns when it can be used
    #[command(after_long_help = long_help())]
    Mount(Mount),
    /// Unmount; what is not uploaded yet stays in the cache directory for the next mount
    #[command(alias = "unmount")]
    Umount(Umount),
    /// Wait until files and directories are in the store
    Sync(Sync),
    /// Bring files into the local cache, before they are read
    Load(Load),
    /// Keep files and directories in the local cache, with what comes below them later
    Pin(Pin),
    /// Let go what was pinned at and below paths
    Unpin(Unpin),
    /// Show how much of files and directories is in the local cache
    Ls(Ls),
    /// Give up the local copies of files that are in the store
    Free(Free),
    /// Show how a mount is, or every mount of this machine
    Status(Status),
    /// Check a cache directory that is not mounted: journal, local bytes and objects against each other
    Doctor(Doctor),
    /// Give up a node that is lost: what only its disk had
    ForgetNode(ForgetNode),
    /// Show or move the journal of a file system that is not mounted
    #[command(subcommand)]
    Journal(Journal),
    /// Make mount(8), /etc/fstab, systemd and man know this program
    Install(Install),
    /// Print the man page (troff)
    Man,
}

#[derive(Clone, Debug, Args)]
pub(super) struct Mount {
    /// The store: s3://BUCKET/PREFIX, gs://..., az://..., hdfs://HOST:PORT/PATH, file:///PATH
    pub url: String,
    /// The directory to mount at
    pub dir: PathBuf,
    /// Mount options, separated by commas; may be given several times
    #[arg(short = 'o', long = "options", value_name = "NAME=VALUE,...")]
    pub options: Vec<String>,
    /// Stay in the foreground and log to standard error
    #[arg(short, long)]
    pub foreground: bool,
    /// Say "ready" on standard output, then close it: the background daemon's side of `fused mount`
    #[arg(long, hide = true)]
    pub ready_on_stdout: bool,
    /// Only check the options (`mount -f`)
    #[arg(skip)]
    pub check: bool,
}

#[derive(Debug, Args)]
pub(super) struct Umount {
    /// The mount point
    pub dir: PathBuf,
    /// Take the mount out of the tree now, and end it when its last user is gone
    #[arg(short, long)]
    pub lazy: bool,
    /// Wait until everything is in the store first; if it is not, tell what and stay mounted
    #[arg(long)]
    pub flush: bool,
    /// With --flush: print what was waited for as one JSON object
    #[arg(long, requires = "flush")]
    pub json: bool,
    /// With --flush: give up after so many seconds (default: never)
    #[arg(long, value_name = "SECS", value_parser = seconds, requires = "flush")]
    pub timeout: Option<std::time::Duration>,
}

#[derive(Debug, Args)]
pub(super) struct Sync {
    /// Files or directories in fused mounts
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Give up after so many seconds (default: never)
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub timeout: Option<std::time::Duration>,
}

#[derive(Debug, Args)]
pub(super) struct Load {
    /// Files or directories in fused mounts. What is in the cache already is not fetched again
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Pin {
    /// Files or directories in fused mounts. They are loaded as well, and never evicted
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Only pin: what is not in the cache comes when it is read
    #[arg(long)]
    pub no_load: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Unpin {
    /// Files or directories in fused mounts
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Ls {
    /// Files or directories in fused mounts. Of a directory: its entries, each with all that is below it
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Each file below, instead of sums
    #[arg(short, long)]
    pub recursive: bool,
    /// Print a JSON object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Free {
    /// Files or directories in fused mounts. What is pinned or not in the store yet is kept
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    /// A mount point or a path in a mount (default: every fused mount of this machine)
    pub dir: Option<PathBuf>,
    /// Print a JSON object, or an array of them without DIR
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The cache directory, or the URL of its store
    #[arg(value_name = "CACHE_DIR|URL")]
    pub place: PathBuf,
    /// Mount options, such as config=FILE for the store's credentials; may be given several times
    #[arg(short = 'o', long = "options", value_name = "NAME=VALUE,...")]
    pub options: Vec<String>,
    /// Repair what can be repaired without losing anything; look without it first
    #[arg(long)]
    pub repair: bool,
    /// Read all local copies of what was uploaded, and compare them with what it was
    #[arg(long)]
    pub read: bool,
    /// Do not ask the store for objects
    #[arg(long)]
    pub no_store: bool,
    /// Print the findings as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ForgetNode {
    /// The cache directory of this machine, or the URL of its store
    #[arg(value_name = "CACHE_DIR|URL")]
    pub place: PathBuf,
    /// The node, as `fused status` and the refused mount call it; without it all are listed
    #[arg(value_parser = node)]
    pub node: Option<journal::NodeId>,
    /// Mount options; journal=fdb:FILE is needed
    #[arg(short = 'o', long = "options", value_name = "NAME=VALUE,...")]
    pub options: Vec<String>,
    /// Do it. Otherwise only tell what would be lost
    #[arg(long, requires = "node")]
    pub give_up: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn node(text: &str) -> Result<journal::NodeId, String> {
    let number = u64::from_str_radix(text, 16);
    number
        .map(journal::NodeId)
        .map_err(|_| "a node is 16 hexadecimal digits".into())
}

/// What is to be known of a journal.
#[derive(Debug, Subcommand)]
pub(super) enum Journal {
    /// Print how many rows of each kind there are, and how long they are
    Stat(JournalOf),
    /// Print every row, a line each
    Dump(JournalOf),
    /// Write it to a file, to move the file system to another journal
    Export(Transfer),
    /// Read it from a file into the journal that the options name, which must be empty
    Import(Transfer),
}

#[derive(Debug, Args)]
pub(super) struct Transfer {
    /// The cache directory, or the URL of its store
    #[arg(value_name = "CACHE_DIR|URL")]
    pub place: PathBuf,
    /// The file; an export makes it
    pub file: PathBuf,
    /// Mount options, such as journal=fdb:FILE; may be given several times
    #[arg(short = 'o', long = "options", value_name = "NAME=VALUE,...")]
    pub options: Vec<String>,
    /// Print what was done as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct JournalOf {
    /// The cache directory, or the URL of its store
    #[arg(value_name = "CACHE_DIR|URL")]
    pub place: PathBuf,
    /// Mount options, such as journal=fdb:FILE; may be given several times
    #[arg(short = 'o', long = "options", value_name = "NAME=VALUE,...")]
    pub options: Vec<String>,
    /// Print JSON: one object, or one for each row
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Install {
    /// Put everything below this directory instead of /, to make a package
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

/// The form in which mount(8) calls a helper.
#[derive(Debug, Parser)]
#[command(name = "mount.fused", version = VERSION, max_term_width = 100)]
struct Helper {
    /// The store
    url: String,
    /// The directory to mount at
    dir: PathBuf,
    /// Mount options, separated by commas
    #[arg(short = 'o', value_name = "NAME=VALUE,...")]
    options: Vec<String>,
    /// Called by mount(8): don't mount, check the options only. Otherwise: stay in the foreground
    #[arg(short = 'f')]
    fake_or_foreground: bool,
    /// No entry in /etc/mtab (there is none)
    #[arg(short = 'n')]
    no_mtab: bool,
    /// Sloppy (unknown options are errors all the same)
    #[arg(short = 's')]
    sloppy: bool,
    /// Verbose
    #[arg(short = 'v')]
    verbose: bool,
    /// Read-only
    #[arg(short = 'r')]
    read_only: bool,
    /// Read and write
    #[arg(short = 'w', overrides_with = "read_only")]
    read_write: bool,
    /// The type in fstab
    #[arg(short = 't', value_name = "TYPE")]
    fs_type: Option<String>,
    /// Not supported: a mount namespace
    #[arg(short = 'N', value_name = "NAMESPACE", hide = true)]
    namespace: Option<String>,
}

/// The command line's description, complete with the mount options.
pub(super) fn command() -> clap::Command {
    Cli::command()
}

/// What `--help` says below the arguments.
fn long_help() -> String {
    format!("{}\n{EXIT_CODES}", help_text())
}

/// Reads the command line.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let called_by_mount = args
        .first()
        .and_then(|name| Path::new(name).file_name())
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"mount."));
    let url_first = args
        .get(1)
        .is_some_and(|first| first.to_string_lossy().contains("://"));
    if called_by_mount || url_first {
        return Helper::try_parse_from(args)
            .and_then(|helper| as_mount(helper, called_by_mount))
            .map(Command::Mount);
    }
    let matches = command().try_get_matches_from(args)?;
    Cli::from_arg_matches(&matches).map(|cli| cli.command)
}

fn as_mount(helper: Helper, called_by_mount: bool) -> Result<Mount, clap::Error> {
    if helper.namespace.is_some() {
        return Err(Helper::command().error(
            clap::error::ErrorKind::InvalidValue,
            "-N is not supported: enter the namespace by nsenter(1) and mount there",
        ));
    }
    let mut options = helper.options;
    if helper.read_only {
        options.push("ro".to_owned());
    } else if helper.read_write {
        options.push("rw".to_owned());
    }
    Ok(Mount {
        url: helper.url,
        dir: helper.dir,
        options,
        foreground: helper.fake_or_foreground && !called_by_mount,
        ready_on_stdout: false,
        check: helper.fake_or_foreground && called_by_mount,
    })
}

/// Prints help and version on standard output, errors on standard error; and the exit code of each.
pub(super) fn report(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Coloured if it is a terminal; a reader that went away is no error.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    output::complain(text.strip_prefix("error: ").unwrap_or(&text).trim_end());
    ExitCode::from(2)
}

fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let problem = || "write a number of seconds, such as 30 or 0.5".to_owned();
    let number: f64 = text.parse().map_err(|_| problem())?;
    std::time::Duration::try_from_secs_f64(number).map_err(|_| problem())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(line: &str) -> Mount {
        match parse(line.split(' ').map(OsString::from)) {
            Ok(Command::Mount(mount)) => mount,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn clap_finds_nothing_wrong_with_the_description() {
        command().debug_assert();
        Helper::command().debug_assert();
    }

    #[test]
    fn mount_takes_several_lists() {
        let mount = mount("fused mount s3://b /mnt -o ro -o threads=3,rw -f");
        assert_eq!(mount.options, ["ro", "threads=3,rw"]);
        assert!(mount.foreground && !mount.check);
    }

    #[test]
    fn the_form_of_mount_8_is_a_mount() {
        for line in [
            "/sbin/mount.fused s3://b /mnt -o rw,noatime",
            "mount.fuse.fused s3://b /mnt -n -v -s -o rw,noatime -t fuse.fused",
            "fused s3://b /mnt -o rw,noatime",
            "/usr/bin/fused s3://b /mnt -o rw -o noatime",
        ] {
            let mount = mount(line);
            assert_eq!(
                (mount.url.as_str(), mount.dir.as_path()),
                ("s3://b", Path::new("/mnt"))
            );
            assert_eq!(mount.options.join(","), "rw,noatime", "{line}");
            assert!(!mount.foreground && !mount.check, "{line}");
        }
    }

    #[test]
    fn f_is_fake_for_mount_8_and_foreground_for_people() {
        assert!(mount("mount.fused s3://b /mnt -f").check);
        assert!(mount("fused s3://b /mnt -f").foreground);
    }

    #[test]
    fn r_and_w_of_mount_8_are_ro_and_rw() {
        assert_eq!(mount("mount.fused s3://b /mnt -r").options, ["ro"]);
        assert_eq!(mount("mount.fused s3://b /mnt -w").options, ["rw"]);
        assert_eq!(
            mount("mount.fused s3://b /mnt -o noatime -r -w").options,
            ["noatime", "rw"]
        );
    }

    #[test]
    fn a_time_limit_of_umount_is_one_of_its_flush() {
        let parsed = |line: &str| parse(line.split(' ').map(OsString::from));
        assert!(parsed("fused umount /mnt --flush --timeout 5 --json").is_ok());
        for line in ["fused umount /mnt --timeout 5", "fused umount /mnt --json"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_timeout_is_a_number_of_seconds() {
        assert_eq!(seconds("0.5"), Ok(std::time::Duration::from_millis(500)));
        for text in ["-1", "soon", "inf", "nan"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
