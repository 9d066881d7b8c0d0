//! What a mount is told: the options of `fused mount`, from the command line, from `/etc/fstab` and
//! from a TOML file.
//!
//! Every option is one row of [`table`]: its name, the form of its value, its default, one or two
//! sentences of help, and the function that sets it. The parser of `-o`, the TOML reader, `--help`
//! and the man page all walk that table, so none of them can know an option that the others don't.
//! Even the defaults are the text of the table, run through the same setter as a user's text.
//!
//! Later wins: defaults, then the TOML file named by `config=`, then the `-o` lists from left to
//! right. An unknown name is an error that names the nearest known one: a typing error must not
//! become a mount that silently works otherwise than asked for.
//!
//! Credentials are refused on the `-o` line: it is seen by everybody in `ps`, `/etc/fstab` and
//! `/proc/self/mountinfo`. They come from the environment, from a profile or from a table of the TOML
//! file ([`StoreSettings`]), and neither errors nor `Debug` ever show them.

mod error;
mod file;
mod help;
mod list;
mod place;
mod rules;
mod table;
#[cfg(test)]
mod tests;
mod values;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use remote::StoreUrl;

pub use error::Error;
pub(crate) use help::ignored_words;
pub use help::{HelpRow, help_rows, help_text};
pub use list::{escape, split};
pub use place::default_cache_dir;
pub use rules::{PathRule, PathRules};
pub use values::{format_bytes, format_duration};

/// Everything that a mount needs to know, complete and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct MountOptions {
    /// The store as the user wrote it, such as `s3://bucket/prefix`. Holds no credentials.
    pub url: String,
    /// Where to mount; absolute.
    pub mountpoint: PathBuf,
    /// Directory of the extents and the embedded journal, absolute; one daemon at a time.
    pub cache_dir: PathBuf,
    /// Further directories of extents, absolute, on other devices.
    pub further_cache_dirs: Vec<PathBuf>,
    /// Those that were, and are lost with all that was in them.
    pub lost_cache_dirs: Vec<PathBuf>,
    /// How much of its file system the cache may fill.
    pub cache_size: CacheSize,
    /// Where metadata lives.
    pub journal: JournalKind,
    /// Whether the kernel may use extent files without the daemon.
    pub passthrough: Passthrough,
    /// What `fsync` or `close` waits for.
    pub fsync: SafeAt,
    /// What closing a file that was written waits for.
    pub close: SafeAt,
    /// A cached file is compared with the store at open when the last comparison is older than this.
    pub revalidate: Duration,
    /// Where attributes come from that only the store has.
    pub attributes: AttributesFrom,
    /// Owner of files and directories whose object names none.
    pub uid: u32,
    /// Group of files and directories whose object names none.
    pub gid: u32,
    /// Permission bits taken away from `0666` (files) and `0777` (directories) whose object has none.
    pub umask: u32,
    /// Nothing may be changed through this mount.
    pub ro: bool,
    /// Other users than the one who mounted may use it.
    pub allow_other: bool,
    /// Threads that read requests from the kernel.
    pub threads: usize,
    /// Memory for parts that are on their way to the store, in bytes.
    pub upload_memory: u64,
    /// Requests that carry data to the store at one time.
    pub uploads_max: usize,
    /// How long a writer waits for room when the cache is full of dirty data, before ENOSPC.
    pub dirty_wait: Duration,
    /// How long names and attributes wait for a journal that is away, before EIO.
    pub journal_timeout: Duration,
    /// How long a closed file rests before it is uploaded, in case it is renamed or written again.
    pub settle: Duration,
    /// What is done when somebody else has changed an object that is to be written.
    pub on_conflict: OnConflict,
    /// Which files wait for which before they become visible in the store.
    pub publish_order: PublishOrder,
    /// Whether what comes from the store is compared with what was uploaded.
    pub verify: bool,
    /// Whether files are brought in ahead of readers that go through a directory.
    pub prefetch: bool,
    /// How old a multipart upload is that was begun here and lost, before it is aborted.
    pub stale_uploads: Duration,
    /// The least important messages that are logged (`RUST_LOG` overrides it).
    pub log_level: LogLevel,
    /// Log file of a background mount; `None` = `fused.log.<date>` in `cache_dir`, kept for a week.
    pub log_file: Option<PathBuf>,
    /// The TOML file that was read.
    pub config: Option<PathBuf>,
    /// What `df` and `/proc/mounts` show as the source; `None` = the URL.
    pub fsname: Option<String>,
    /// Flags for the mount itself.
    pub flags: MountFlags,
    /// `[[rules]]` of the TOML file.
    pub rules: PathRules,
    /// `[s3]`, `[gs]`, `[azure]` and `[hdfs]` of the TOML file.
    pub store: StoreSettings,
}

/// Room for the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheSize {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of what the cache could have (1 to 100).
    Percent(u8),
}

impl CacheSize {
    /// The limit in bytes, where `available_bytes` is what the cache could have at most: the free
    /// bytes of its file system plus what the cache already uses there.
    pub fn bytes(self, available_bytes: u64) -> u64 {
        match self {
            CacheSize::Bytes(bytes) => bytes,
            CacheSize::Percent(percent) => {
                let share = u128::from(available_bytes) * u128::from(percent) / 100;
                u64::try_from(share).unwrap_or(available_bytes)
            }
        }
    }
}

/// Where metadata lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalKind {
    /// In the cache directory, for this machine alone.
    Embedded,
    /// In FoundationDB, for many machines.
    FoundationDb {
        /// The file that names the cluster's coordinators; absolute.
        cluster_file: PathBuf,
    },
}

/// Whether the kernel may use extent files without the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passthrough {
    /// Wherever the kernel can.
    Auto,
    /// Never: every read and write comes through the daemon.
    Off,
}

/// What `fsync` or `close` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SafeAt {
    /// Bytes and metadata survive a power cut of this machine.
    Local,
    /// The object is in the store.
    Store,
}

/// Where owner, mode and times of a file come from that only the store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributesFrom {
    /// Each object is asked.
    Object,
    /// What a listing has will do, until the file is opened or changed.
    Listing,
}

/// What is done when somebody else has changed an object that is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// The local version gets another name.
    KeepBoth,
    /// The local version replaces theirs.
    Ours,
    /// The local version is kept aside, the file shows theirs.
    Theirs,
}

/// Which files wait for which before they become visible in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishOrder {
    /// For the large ones closed before, in the same directory or below.
    Directory,
    /// For all that were closed before, in the same directory or below.
    Strict,
    /// None for any.
    None,
}

/// The least important messages that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// And what looks wrong.
    Warn,
    /// And what an operator wants to know.
    Info,
    /// And what a developer wants to know.
    Debug,
    /// And every request.
    Trace,
}

/// Flags for the mount itself; all off by [`Default`], the option table switches `nodev` and
/// `nosuid` on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountFlags {
    /// Device nodes can't be opened.
    pub nodev: bool,
    /// Set-user-id and set-group-id bits are without effect.
    pub nosuid: bool,
    /// No program can be executed.
    pub noexec: bool,
    /// Reading doesn't change access times.
    pub noatime: bool,
    /// Every write is synchronous.
    pub sync: bool,
    /// Every change of a directory is synchronous.
    pub dirsync: bool,
}

/// The tables `[s3]`, `[gs]`, `[azure]` and `[hdfs]` of the TOML file, for `remote`'s settings.
/// They may hold credentials, so `Debug` shows the names of the tables only.
#[derive(Clone, Default, PartialEq)]
pub struct StoreSettings(pub toml::Table);

impl fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl MountOptions {
    /// The options of a mount of `url` at `mountpoint` with nothing else said.
    ///
    /// # Errors
    ///
    /// `url` is no store URL or holds credentials, or the current directory is needed and can't be had.
    pub fn new(url: &str, mountpoint: &Path) -> Result<MountOptions, Error> {
        MountOptions::from_lists(url, mountpoint, &[])
    }

    /// The options of a mount of `url` at `mountpoint` with the given `-o` lists.
    ///
    /// # Errors
    ///
    /// See [`Error`]: what is wrong, where it was written, and what would be right.
    pub fn from_lists(
        url: &str,
        mountpoint: &Path,
        lists: &[String],
    ) -> Result<MountOptions, Error> {
        let store = StoreUrl::parse(url)?;
        let mut items = Vec::new();
        for list in lists {
            items.extend(list::split(list)?);
        }

        let mut options = table::defaults(url, &store, mountpoint)?;
        if let Some(path) = config_of(&items)? {
            file::apply(&mut options, &path)?;
            options.config = Some(path);
        }
        for (name, value) in &items {
            if name != "config" {
                table::apply(&mut options, name, value.as_deref())?;
            }
        }
        Ok(options)
    }

    /// The log file of a background mount (without the date that is appended to the default one).
    pub fn log_path(&self) -> PathBuf {
        self.log_file
            .clone()
            .unwrap_or_else(|| self.cache_dir.join("fused.log"))
    }

    /// What `df` and `/proc/mounts` show as the source of this mount.
    pub fn source(&self) -> &str {
        self.fsname.as_deref().unwrap_or(&self.url)
    }
}

/// The last `config=FILE` of the lists, made absolute.
fn config_of(items: &[(String, Option<String>)]) -> Result<Option<PathBuf>, Error> {
    let Some((_, value)) = items.iter().rev().find(|(name, _)| name == "config") else {
        return Ok(None);
    };
    let name = || "config".to_owned();
    let Some(value) = value else {
        return Err(Error::NeedsValue {
            name: name(),
            shape: "FILE",
            file: None,
        });
    };
    values::path(value)
        .map(Some)
        .map_err(|problem| Error::BadValue {
            name: name(),
            problem,
            file: None,
        })
}
