//! The one description of every option.
//!
//! A row is what a user can write in an `-o` list or as a key of the TOML file. A *switch* has no value
//! in a list and is `true` or `false` in the file. A *word* is something that mount(8), fstab(5) or
//! systemd understand and that means nothing to a daemon; it is taken and forgotten.

use std::path::Path;

use remote::StoreUrl;

use super::{
    AttributesFrom, CacheSize, Error, JournalKind, LogLevel, MountFlags, MountOptions, OnConflict,
    Passthrough, PathRules, PublishOrder, SafeAt, StoreSettings, place, values,
};

/// One option.
pub(super) struct Row {
    /// What the user writes.
    pub name: &'static str,
    /// With a value, without, or without meaning.
    pub form: Form,
    /// What holds when nothing is written.
    pub preset: Preset,
    /// One or two sentences for `--help` and the man page.
    pub help: &'static str,
}

/// What follows the name.
pub(super) enum Form {
    /// `name=SHAPE`.
    Value {
        /// The form of the value, for people.
        shape: &'static str,
        /// Sets it, or says what is wrong with it.
        set: fn(&mut MountOptions, &str) -> Result<(), String>,
    },
    /// `name` alone.
    Switch {
        /// Sets it.
        set: fn(&mut MountOptions, bool),
    },
    /// `config=FILE`, which is read before everything else.
    Config,
    /// Taken and forgotten, with or without a value.
    Word,
}

/// What holds when nothing is written.
pub(super) enum Preset {
    /// As if this text had been given.
    Text(&'static str),
    /// As if the switch had been given.
    On,
    /// The switch is off.
    Off,
    /// Something that depends on the machine, told in words.
    Told(&'static str),
    /// Nothing: it is a [`Form::Word`].
    Nothing,
}

/// The options as they are before the table's own defaults are applied. Values that the table presets
/// by text are placeholders here; the test `defaults_are_the_texts_of_the_table` watches that.
fn blank(url: &str, store: &StoreUrl, mountpoint: &Path) -> Result<MountOptions, Error> {
    let absolute = std::path::absolute(mountpoint).map_err(|error| Error::Path {
        path: mountpoint.to_owned(),
        problem: error.to_string(),
    })?;
    let effective = nix::unistd::geteuid();
    Ok(MountOptions {
        url: url.to_owned(),
        mountpoint: absolute,
        cache_dir: place::default_cache_dir(store),
        further_cache_dirs: Vec::new(),
        lost_cache_dirs: Vec::new(),
        cache_size: CacheSize::Percent(0),
        journal: JournalKind::Embedded,
        passthrough: Passthrough::Auto,
        fsync: SafeAt::Local,
        close: SafeAt::Local,
        revalidate: std::time::Duration::ZERO,
        attributes: AttributesFrom::Object,
        uid: effective.as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        umask: 0,
        ro: false,
        allow_other: effective.is_root(),
        threads: 0,
        upload_memory: 0,
        uploads_max: 0,
        dirty_wait: std::time::Duration::ZERO,
        journal_timeout: std::time::Duration::ZERO,
        settle: std::time::Duration::ZERO,
        on_conflict: OnConflict::KeepBoth,
        publish_order: PublishOrder::Directory,
        verify: false,
        prefetch: false,
        stale_uploads: std::time::Duration::ZERO,
        log_level: LogLevel::Error,
        log_file: None,
        config: None,
        fsname: None,
        flags: MountFlags::default(),
        rules: PathRules::default(),
        store: StoreSettings::default(),
    })
}

/// The options of a mount about which nothing was said.
pub(super) fn defaults(
    url: &str,
    store: &StoreUrl,
    mountpoint: &Path,
) -> Result<MountOptions, Error> {
    let mut options = blank(url, store, mountpoint)?;
    for row in ROWS {
        match row.preset {
            Preset::Text(text) => apply(&mut options, row.name, Some(text))?,
            Preset::On => apply(&mut options, row.name, None)?,
            Preset::Off | Preset::Told(_) | Preset::Nothing => {}
        }
    }
    Ok(options)
}

/// The row of a name.
pub(super) fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// Sets one option from text.
pub(super) fn apply(
    options: &mut MountOptions,
    name: &str,
    value: Option<&str>,
) -> Result<(), Error> {
    let Some(row) = row(name) else {
        return if is_private_word(name) {
            Ok(())
        } else {
            Err(unknown(name))
        };
    };
    let owned = || name.to_owned();
    match (&row.form, value) {
        (Form::Value { set, .. }, Some(text)) => {
            set(options, text).map_err(|problem| Error::BadValue {
                name: owned(),
                problem,
                file: None,
            })
        }
        (Form::Value { shape, .. }, None) => Err(Error::NeedsValue {
            name: owned(),
            shape,
            file: None,
        }),
        (Form::Switch { set }, None) => {
            set(options, true);
            Ok(())
        }
        (Form::Switch { .. }, Some(_)) => Err(Error::TakesNoValue { name: owned() }),
        (Form::Config | Form::Word, _) => Ok(()),
    }
}

/// `x-systemd.requires=...`, `X-mount.mkdir`: for mount(8) and systemd, whatever they say.
pub(super) fn is_private_word(name: &str) -> bool {
    name.starts_with("x-") || name.starts_with("X-")
}

/// The error for a name that isn't in the table: something of the store, or a typing error.
pub(super) fn unknown(name: &str) -> Error {
    let name = name.to_owned();
    let lower = name.to_ascii_lowercase();
    if lower == "remount" {
        return Error::Remount;
    }
    if STORE_NAMES.contains(&lower.as_str()) || SECRET_PARTS.iter().any(|p| lower.contains(p)) {
        return Error::StoreSetting { name, file: None };
    }
    Error::Unknown {
        nearest: nearest(&name),
        name,
        file: None,
    }
}

/// The known name with the fewest typing errors between, if it is less than half of the name.
fn nearest(name: &str) -> Option<&'static str> {
    let wanted = name.to_ascii_lowercase().replace('-', "_");
    ROWS.iter()
        .map(|row| {
            (
                strsim::normalized_damerau_levenshtein(&wanted, row.name),
                row.name,
            )
        })
        .filter(|(similarity, _)| *similarity > 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Parts of names that other tools use for secrets.
const SECRET_PARTS: &[&str] = &[
    "access_key",
    "account_key",
    "accesskey",
    "secret",
    "password",
    "passwd",
    "credential",
    "session_token",
    "sas_token",
    "service_account",
];

/// Settings of stores that other tools take on this line.
const STORE_NAMES: &[&str] = &[
    "token",
    "profile",
    "region",
    "endpoint",
    "endpoint_url",
    "url",
    "bucket",
    "aws_profile",
    "aws_region",
    "iam_role",
    "use_path_request_style",
];

const fn value(
    name: &'static str,
    shape: &'static str,
    preset: Preset,
    set: fn(&mut MountOptions, &str) -> Result<(), String>,
    help: &'static str,
) -> Row {
    Row {
        name,
        form: Form::Value { shape, set },
        preset,
        help,
    }
}

const fn switch(
    name: &'static str,
    preset: Preset,
    set: fn(&mut MountOptions, bool),
    help: &'static str,
) -> Row {
    Row {
        name,
        form: Form::Switch { set },
        preset,
        help,
    }
}

const fn word(name: &'static str) -> Row {
    Row {
        name,
        form: Form::Word,
        preset: Preset::Nothing,
        help: "",
    }
}

/// Every option there is.
#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    value("cache_dir", "DIR[:DIR...]", Preset::Told("/var/cache/fused/<hash of URL>, or ~/.cache/fused/<hash of URL>"),
        |o, v| { (o.cache_dir, o.further_cache_dirs) = values::paths(v)?; Ok(()) },
        "Directory for file data and the embedded journal, on a local disk, best on NVMe (not root: the second default); further ones, one for each \
         device, are for file data, each file in one of them, more of them where there is more room. They hold what \
         is not uploaded yet: don't delete them, and use the same ones at the next mount. One that is empty may be \
         left out. One mount at a time."),
    value("lost_cache_dir", "DIR[:DIR...]", Preset::Told("none"),
        |o, v| { let (first, further) = values::paths(v)?; o.lost_cache_dirs = vec![first]; o.lost_cache_dirs.extend(further); Ok(()) },
        "Further directories of the mount before that are lost for good, with what was in them and not uploaded. \
         Without this word a mount that lacks one is refused."),
    value("cache_size", "SIZE|PERCENT", Preset::Text("80%"),
        |o, v| { o.cache_size = values::cache_size(v)?; Ok(()) },
        "How much the cache may fill: 100G, 10GiB, 500GB, or a share of the bytes that were free or already the \
         cache's when it was mounted."),
    value("journal", "embedded|fdb:FILE", Preset::Text("embedded"),
        |o, v| { o.journal = values::journal(v)?; Ok(()) },
        "Where metadata lives: embedded in cache_dir (one machine), or in FoundationDB by its cluster file \
         (many machines)."),
    value("passthrough", "auto|off", Preset::Text("auto"),
        |o, v| { o.passthrough = values::passthrough(v)?; Ok(()) },
        "auto lets the kernel read and write cached files without the daemon where it can (Linux 6.9, root); off \
         sends everything through the daemon."),
    value("fsync", "local|store", Preset::Text("local"),
        |o, v| { o.fsync = values::safe_at(v)?; Ok(()) },
        "What fsync waits for: until the file survives a power cut on this machine, or until it is an object in \
         the store."),
    value("close", "local|store", Preset::Text("local"),
        |o, v| { o.close = values::safe_at(v)?; Ok(()) },
        "What closing a written file waits for: until it survives the end of the daemon, or (write-through) until it \
         is an object in the store, however long that is away."),
    value("revalidate", "TIME", Preset::Text("60s"),
        |o, v| { o.revalidate = values::duration(v)?; Ok(()) },
        "Opening a cached file asks the store for a newer version when the last look is older than this. 0 asks at \
         every open."),
    value("attributes", "object|listing", Preset::Text("object"),
        |o, v| { o.attributes = values::attributes_from(v)?; Ok(()) },
        "Where owner, mode and times of a file come from that is only in the store. object: each object is asked \
         for its own when it is shown. listing: until it is opened or changed, `ls -l` shows the time of its upload, \
         and what uid, gid and umask say; nothing but the listing is asked for."),
    value("uid", "USER", Preset::Told("the user who mounts"),
        |o, v| { o.uid = values::user(v)?; Ok(()) },
        "Owner, by name or number, of files whose objects carry none."),
    value("gid", "GROUP", Preset::Told("the group of the user who mounts"),
        |o, v| { o.gid = values::group(v)?; Ok(()) },
        "Group, by name or number, of files whose objects carry none."),
    value("umask", "OCTAL", Preset::Text("022"),
        |o, v| { o.umask = values::umask(v)?; Ok(()) },
        "Permissions taken away from files (0666) and directories (0777) whose objects carry none."),
    switch("ro", Preset::Off, |o, on| o.ro = on,
        "Read-only: needs no write permission in the store."),
    switch("rw", Preset::On, |o, on| o.ro = !on,
        "Read and write."),
    switch("allow_other", Preset::Told("on for root, off for others"), |o, on| o.allow_other = on,
        "Other users may use the mount, each with the rights that file modes give. Those who are not root need \
         user_allow_other in /etc/fuse.conf."),
    switch("no_allow_other", Preset::Told("off for root, on for others"), |o, on| o.allow_other = !on,
        "Only the user who mounts may use the mount."),
    value("threads", "N", Preset::Text("2"),
        |o, v| { o.threads = values::count(v, 64)?; Ok(()) },
        "Threads that take requests from the kernel (1 to 64)."),
    value("upload_memory", "SIZE", Preset::Text("128MiB"),
        |o, v| { o.upload_memory = values::size(v)?; Ok(()) },
        "Memory for data on its way to the store."),
    value("uploads_max", "N", Preset::Text("64"),
        |o, v| { o.uploads_max = values::count(v, 1024)?; Ok(()) },
        "Requests that carry data to the store at one time (1 to 1024)."),
    value("dirty_wait", "TIME", Preset::Text("60s"),
        |o, v| { o.dirty_wait = values::duration(v)?; Ok(()) },
        "When the cache is full of data that is not uploaded yet, or its disk is full, a writer waits this long \
         for room; then it gets ENOSPC."),
    value("journal_timeout", "TIME", Preset::Text("30s"),
        |o, v| { o.journal_timeout = values::duration(v)?; Ok(()) },
        "When FoundationDB does not answer, names and attributes wait this long for it; then the answer is EIO. Open \
         files are read and written meanwhile."),
    value("settle", "TIME", Preset::Text("500ms"),
        |o, v| { o.settle = values::duration(v)?; Ok(()) },
        "A closed file rests this long before its upload, in case it is renamed or written again."),
    value("on_conflict", "keep-both|ours|theirs", Preset::Text("keep-both"),
        |o, v| { o.on_conflict = values::on_conflict(v)?; Ok(()) },
        "When somebody else has changed an object that is to be written: keep-both gives the local version the \
         name NAME.conflict-..., ours replaces their object, theirs shows their content and keeps the local \
         version in the folder torn of cache_dir. Each is told by `fused status` and in the log."),
    value("publish_order", "directory|strict|none", Preset::Text("directory"),
        |o, v| { o.publish_order = values::publish_order(v)?; Ok(()) },
        "A file becomes visible in the store after all large ones (directory) or all files (strict) that were \
         closed before it in its own directory or below, or as soon as it is there (none)."),
    value("verify", "on|off", Preset::Text("on"),
        |o, v| { o.verify = values::on_or_off(v)?; Ok(()) },
        "What was uploaded here is compared with what comes back, block by block (blake3): a block that has \
         become something else is asked for again, counted, and EIO in the end. With off nothing is compared, and \
         what is uploaded meanwhile will not be."),
    value("prefetch", "on|off", Preset::Text("on"),
        |o, v| { o.prefetch = values::on_or_off(v)?; Ok(()) },
        "Brings in files before they are opened, while programs read one file after the other in the order of the \
         names or numbers of a directory; never more than twice what they have read."),
    value("stale_uploads", "TIME", Preset::Text("1d"),
        |o, v| { o.stale_uploads = values::duration(v)?; Ok(()) },
        "A multipart upload that was begun here, and whose name was lost with the store's answer or in a crash, is \
         aborted when it is this old."),
    value("log_level", "LEVEL", Preset::Text("info"),
        |o, v| { o.log_level = values::log_level(v)?; Ok(()) },
        "error, warn, info, debug or trace. The variable RUST_LOG overrides it."),
    value("log_file", "FILE", Preset::Told("fused.log.<date> in cache_dir, the last 7 days"),
        |o, v| { o.log_file = Some(values::path(v)?); Ok(()) },
        "Where a background mount writes its log; a file given here is appended to and never rotated. A \
         foreground mount logs to standard error."),
    Row { name: "config", form: Form::Config, preset: Preset::Told("none"),
        help: "TOML file with any of these options as keys, with tables [s3], [gs], [azure], [hdfs] for the store's \
               endpoint and credentials, and with [[rules]] for some paths: each has paths = [PATTERN, ...] as in \
               gitignore(5), and skip = true (nothing stays in the cache), ttl = \"TIME\" (bytes stay so long after \
               their last use) or close = \"store\". The last that matches holds. What stands in an -o list wins." },
    value("fsname", "TEXT", Preset::Told("the URL"),
        |o, v| { o.fsname = Some(v.to_owned()); Ok(()) },
        "What df and mount show as the source."),

    switch("nodev", Preset::On, |o, on| o.flags.nodev = on, "Device files can't be opened."),
    switch("dev", Preset::Off, |o, on| o.flags.nodev = !on, "Device files work."),
    switch("nosuid", Preset::On, |o, on| o.flags.nosuid = on, "Set-user-id bits have no effect."),
    switch("suid", Preset::Off, |o, on| o.flags.nosuid = !on, "Set-user-id bits work."),
    switch("noexec", Preset::Off, |o, on| o.flags.noexec = on, "Programs can't be executed."),
    switch("exec", Preset::On, |o, on| o.flags.noexec = !on, "Programs can be executed."),
    switch("noatime", Preset::Off, |o, on| o.flags.noatime = on, "Reading leaves access times alone."),
    switch("atime", Preset::On, |o, on| o.flags.noatime = !on, "Access times as the kernel keeps them."),
    switch("sync", Preset::Off, |o, on| o.flags.sync = on, "Every write is synchronous."),
    switch("async", Preset::On, |o, on| o.flags.sync = !on, "Writes return before they are on the disk."),
    switch("dirsync", Preset::Off, |o, on| o.flags.dirsync = on, "Every change of a directory is synchronous."),

    word("defaults"), word("_netdev"), word("nofail"), word("noauto"), word("auto"),
    word("user"), word("nouser"), word("users"), word("nousers"), word("owner"), word("noowner"),
    word("group"), word("nogroup"), word("comment"), word("helper"), word("uhelper"), word("subtype"),
    word("relatime"), word("norelatime"), word("strictatime"), word("nostrictatime"),
    word("diratime"), word("nodiratime"), word("lazytime"), word("nolazytime"),
    word("silent"), word("loud"), word("default_permissions"),
];
