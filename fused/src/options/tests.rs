//! The options of a mount, from lists and files to [`MountOptions`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::table::{Form, Preset, ROWS};
use super::*;

const URL: &str = "s3://bucket/prefix";

fn parse(list: &str) -> Result<MountOptions, Error> {
    MountOptions::from_lists(URL, Path::new("/mnt/x"), &[list.to_owned()])
}

fn good(list: &str) -> MountOptions {
    parse(list).unwrap_or_else(|error| panic!("{list}: {error}"))
}

fn sentence(list: &str) -> String {
    parse(list).expect_err(list).to_string()
}

fn with_file(toml: &str, list: &str) -> Result<MountOptions, Error> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fused.toml");
    std::fs::write(&file, toml).unwrap();
    parse(&format!("config={}{list}", file.display()))
}

#[test]
fn defaults_are_the_texts_of_the_table() {
    let options = good("");
    for row in ROWS {
        let mut again = options.clone();
        match row.preset {
            Preset::Text(text) => table::apply(&mut again, row.name, Some(text)).unwrap(),
            Preset::On => table::apply(&mut again, row.name, None).unwrap(),
            Preset::Off => {
                let Form::Switch { set } = row.form else {
                    panic!("{} is no switch", row.name)
                };
                set(&mut again, false);
            }
            Preset::Told(_) | Preset::Nothing => {}
        }
        assert_eq!(again, options, "default of {}", row.name);
    }
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let options = good("");
    assert_eq!(options.cache_size, CacheSize::Percent(80));
    assert_eq!(options.journal, JournalKind::Embedded);
    assert_eq!(options.passthrough, Passthrough::Auto);
    assert_eq!(options.fsync, SafeAt::Local);
    assert_eq!(options.revalidate, Duration::from_secs(60));
    assert_eq!(options.umask, 0o022);
    assert_eq!(options.threads, 2);
    assert_eq!(options.upload_memory, 128 << 20);
    assert_eq!(options.uploads_max, 64);
    assert_eq!(options.dirty_wait, Duration::from_secs(60));
    assert_eq!(options.settle, Duration::from_millis(500));
    assert_eq!(options.on_conflict, OnConflict::KeepBoth);
    assert!(options.verify);
    assert_eq!(options.publish_order, PublishOrder::Directory);
    assert_eq!(options.log_level, LogLevel::Info);
    assert_eq!(options.allow_other, nix::unistd::geteuid().is_root());
    assert_eq!(options.uid, nix::unistd::geteuid().as_raw());
    assert!(!options.ro);
    assert!(options.flags.nodev && options.flags.nosuid);
    assert_eq!(options.source(), URL);
}

#[test]
fn names_are_written_once() {
    let mut names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ROWS.len());
}

#[test]
fn each_value_option_sets_its_field() {
    let options = good(
        "cache_dir=/c,cache_size=1.5GiB,journal=fdb:/etc/fdb.cluster,passthrough=off,fsync=store,\
         revalidate=0,uid=7,gid=8,umask=077,threads=4,upload_memory=1MB,uploads_max=3,dirty_wait=2m,journal_timeout=7s,\
         settle=0.25,on_conflict=theirs,publish_order=strict,log_level=debug,log_file=/l,fsname=data",
    );
    assert_eq!(options.cache_dir, PathBuf::from("/c"));
    assert_eq!(options.cache_size, CacheSize::Bytes(3 << 29));
    let cluster_file = PathBuf::from("/etc/fdb.cluster");
    assert_eq!(options.journal, JournalKind::FoundationDb { cluster_file });
    assert_eq!(options.passthrough, Passthrough::Off);
    assert_eq!(options.fsync, SafeAt::Store);
    assert_eq!(options.revalidate, Duration::ZERO);
    assert_eq!((options.uid, options.gid, options.umask), (7, 8, 0o077));
    assert_eq!((options.threads, options.uploads_max), (4, 3));
    assert_eq!(options.upload_memory, 1_000_000);
    assert_eq!(options.dirty_wait, Duration::from_secs(120));
    assert_eq!(options.journal_timeout, Duration::from_secs(7));
    assert_eq!(options.settle, Duration::from_millis(250));
    assert_eq!(options.log_level, LogLevel::Debug);
    assert_eq!(options.on_conflict, OnConflict::Theirs);
    assert_eq!(options.publish_order, PublishOrder::Strict);
    assert_eq!(good("on_conflict=ours").on_conflict, OnConflict::Ours);
    assert!(!good("verify=off").verify);
    assert_eq!(good("publish_order=none").publish_order, PublishOrder::None);
    assert_eq!(options.log_path(), PathBuf::from("/l"));
    assert_eq!(options.source(), "data");
}

#[test]
fn each_switch_sets_its_field_and_its_opposite_resets_it() {
    type Get = fn(&MountOptions) -> bool;
    let pairs: [(&str, &str, Get); 7] = [
        ("ro", "rw", |o| o.ro),
        ("allow_other", "no_allow_other", |o| o.allow_other),
        ("nodev", "dev", |o| o.flags.nodev),
        ("nosuid", "suid", |o| o.flags.nosuid),
        ("noexec", "exec", |o| o.flags.noexec),
        ("noatime", "atime", |o| o.flags.noatime),
        ("sync", "async", |o| o.flags.sync),
    ];
    for (on, off, get) in pairs {
        assert!(get(&good(&format!("{off},{on}"))), "{on}");
        assert!(!get(&good(&format!("{on},{off}"))), "{off}");
    }
    assert!(good("dirsync").flags.dirsync);
}

#[test]
fn users_and_groups_may_be_named() {
    let options = good("uid=root,gid=root");
    assert_eq!((options.uid, options.gid), (0, 0));
    assert!(sentence("uid=no-such-user").contains("there is no user `no-such-user`"));
}

#[test]
fn words_of_mount_and_fstab_change_nothing() {
    let words = "defaults,_netdev,nofail,noauto,auto,user=joe,users,owner,group,comment=a b,\
                 x-systemd.requires=net,X-mount.mkdir=0755,helper=fused,relatime,nodiratime,subtype=fused";
    assert_eq!(good(words), good(""));
}

#[test]
fn lists_are_read_from_left_to_right() {
    let lists = ["threads=3,ro".to_owned(), "threads=4,rw".to_owned()];
    let options = MountOptions::from_lists(URL, Path::new("/mnt"), &lists).unwrap();
    assert_eq!((options.threads, options.ro), (4, false));
}

#[test]
fn relative_paths_become_absolute() {
    let options =
        MountOptions::from_lists(URL, Path::new("m"), &["cache_dir=c".to_owned()]).unwrap();
    let here = std::env::current_dir().unwrap();
    assert_eq!(options.mountpoint, here.join("m"));
    assert_eq!(options.cache_dir, here.join("c"));
}

#[test]
fn a_share_of_the_file_system_becomes_bytes() {
    assert_eq!(CacheSize::Percent(80).bytes(1000), 800);
    assert_eq!(CacheSize::Percent(100).bytes(u64::MAX), u64::MAX);
    assert_eq!(CacheSize::Bytes(5).bytes(1000), 5);
}

#[test]
fn an_unknown_option_names_the_nearest_known_one() {
    for (typed, meant) in [
        ("cachesize=1G", "cache_size"),
        ("cache-dir=/x", "cache_dir"),
        ("pasthrough=off", "passthrough"),
        ("revaildate=1", "revalidate"),
        ("Ro", "ro"),
        ("noallow_other", "no_allow_other"),
        ("netdev", "_netdev"),
        ("treads=2", "threads"),
    ] {
        let name = typed.split('=').next().unwrap();
        assert_eq!(
            sentence(typed),
            format!("unknown option `{name}`; the nearest known one is `{meant}`")
        );
    }
    assert_eq!(
        sentence("zzzzzzzz=1"),
        "unknown option `zzzzzzzz`; `fused mount --help` lists all"
    );
}

#[test]
fn each_bad_value_is_told_with_what_would_be_right() {
    for (list, part) in [
        ("cache_size=lots", "write a size such as 500M"),
        ("cache_size=0", "is nothing"),
        ("cache_size=101%", "not between 1% and 100%"),
        ("cache_size=-1", "is no size"),
        ("upload_memory=1X", "is no size"),
        ("upload_memory=999999999999P", "is no size"),
        ("journal=redis", "write embedded or fdb:/path/fdb.cluster"),
        ("journal=fdb:", "write embedded or fdb:"),
        ("passthrough=on", "neither auto nor off"),
        ("verify=yes", "neither on nor off"),
        ("on_conflict=mine", "none of keep-both, ours and theirs"),
        ("publish_order=any", "none of directory, strict and none"),
        ("fsync=never", "neither local nor store"),
        ("revalidate=soon", "write a time such as"),
        ("settle=1w", "write a time such as"),
        ("umask=999", "octal number"),
        ("umask=7777", "octal number"),
        ("threads=0", "from 1 to 64"),
        ("uploads_max=2000", "from 1 to 1024"),
        ("log_level=loud", "none of error, warn"),
        ("cache_dir=", "the path is empty"),
        ("gid=no-such-group", "there is no group"),
    ] {
        let name = list.split('=').next().unwrap();
        let sentence = sentence(list);
        assert!(
            sentence.starts_with(&format!("option `{name}`: ")),
            "{sentence}"
        );
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[test]
fn several_cache_directories_are_told_from_a_colon_in_a_name() {
    let list = "cache_dir=/a:b:/c:/d".to_owned();
    let options = MountOptions::from_lists(URL, Path::new("/m"), &[list]).unwrap();
    assert_eq!(options.cache_dir, PathBuf::from("/a:b"));
    let further = ["/c", "/d"].map(PathBuf::from);
    assert_eq!(options.further_cache_dirs, further);
}

#[test]
fn a_missing_or_extra_value_is_told() {
    assert_eq!(
        sentence("cache_dir"),
        "option `cache_dir` needs a value: cache_dir=DIR[:DIR...]"
    );
    assert_eq!(
        sentence("config"),
        "option `config` needs a value: config=FILE"
    );
    assert!(sentence("ro=1").contains("takes no value"));
}

#[test]
fn remount_is_refused_with_the_way_out() {
    assert!(sentence("remount,ro").contains("then mount again"));
}

#[test]
fn credentials_in_a_list_are_refused_and_never_shown() {
    for name in [
        "access_key",
        "AWS_SECRET_ACCESS_KEY",
        "secret",
        "session_token",
        "password",
        "passwd_file",
        "account_key",
        "endpoint",
        "region",
    ] {
        let sentence = sentence(&format!("{name}=hunter2"));
        assert!(sentence.contains("[s3] in a TOML file"), "{sentence}");
        assert!(!sentence.contains("hunter2"), "{sentence}");
    }
}

#[test]
fn a_file_sets_the_same_options_and_the_list_wins() {
    let options = with_file(
        "cache_size = \"10G\"\nthreads = 3\nsettle = 0.5\nro = true\nrevalidate = 5\nnodev = false\n",
        ",threads=4",
    )
    .unwrap();
    assert_eq!(options.cache_size, CacheSize::Bytes(10 << 30));
    assert_eq!(options.threads, 4);
    assert_eq!(options.settle, Duration::from_millis(500));
    assert_eq!(options.revalidate, Duration::from_secs(5));
    assert!(options.ro && !options.flags.nodev);
    assert!(options.config.is_some());
}

#[test]
fn every_option_with_a_text_default_can_stand_in_a_file() {
    let mut toml = String::new();
    for row in ROWS {
        if let Preset::Text(text) = row.preset {
            toml.push_str(&format!("{} = \"{text}\"\n", row.name));
        }
    }
    let mut options = with_file(&toml, "").unwrap();
    options.config = None;
    assert_eq!(options, good(""));
}

#[test]
fn tables_of_the_store_are_handed_on_and_never_shown() {
    let options = with_file("[s3]\nsecret_access_key = \"hunter2\"\n", "").unwrap();
    assert_eq!(
        options.store.0["s3"]["secret_access_key"].as_str(),
        Some("hunter2")
    );
    let shown = format!("{options:?}");
    assert!(
        shown.contains("s3") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[test]
fn errors_in_a_file_name_the_file() {
    for (toml, part) in [
        ("cachesize = 1", "unknown option `cachesize` in "),
        ("threads = \"many\"", "option `threads` in "),
        ("ro = \"yes\"", "write true or false"),
        ("umask = 22", "write it in quotes"),
        ("config = \"other.toml\"", "can't name another"),
        ("threads = [1]", "write text in quotes, or a number"),
        ("s3 = 1", "this is a table"),
        ("secret_access_key = \"hunter2\"", "[s3] in a TOML file"),
        ("threads = = 1", "line 1: "),
    ] {
        let sentence = with_file(toml, "").expect_err(toml).to_string();
        assert!(sentence.contains(part), "{sentence}");
        assert!(sentence.contains("fused.toml"), "{sentence}");
        assert!(!sentence.contains("hunter2"), "{sentence}");
    }
}

#[test]
fn a_torn_file_is_refused_without_showing_its_lines() {
    let error = with_file("[s3]\nsecret_access_key = \"hunter2\n", "").unwrap_err();
    let sentence = error.to_string();
    assert!(
        sentence.contains("line 2") && !sentence.contains("hunter2"),
        "{sentence}"
    );
}

#[test]
fn a_missing_file_is_told() {
    let sentence = sentence("config=/no/such/file.toml");
    assert!(
        sentence.starts_with("config file /no/such/file.toml: No such file"),
        "{sentence}"
    );
}

#[test]
fn help_lists_every_option_with_its_default() {
    let text = help_text();
    for row in ROWS {
        if matches!(row.form, Form::Word) {
            let word = format!("{},", row.name);
            assert!(text.contains(&word), "{word} is missing");
            continue;
        }
        let line = text
            .lines()
            .find(|line| {
                let line = line.trim_start();
                line.starts_with(&format!("{}=", row.name))
                    || line.starts_with(&format!("{}  [", row.name))
            })
            .unwrap_or_else(|| panic!("{} is missing", row.name));
        assert!(line.contains("[default: "), "{line}");
        assert!(!row.help.is_empty(), "{} has no help", row.name);
    }
}

#[test]
fn sizes_and_times_are_written_for_people() {
    assert_eq!(format_bytes(0), "0 B");
    assert_eq!(format_bytes(1023), "1023 B");
    assert_eq!(format_bytes(1536), "1.5 KiB");
    assert_eq!(format_bytes((1 << 20) - 1), "1.0 MiB");
    assert_eq!(format_bytes(u64::MAX), "16.0 EiB");
    assert_eq!(format_duration(Duration::ZERO), "0 s");
    assert_eq!(format_duration(Duration::from_millis(20)), "20 ms");
    assert_eq!(format_duration(Duration::from_secs(200)), "3 min 20 s");
    assert_eq!(format_duration(Duration::from_secs(7200)), "2 h");
    assert_eq!(format_duration(Duration::from_secs(187_200)), "2 d 4 h");
}

#[test]
fn a_password_in_the_url_is_refused_without_being_shown() {
    for url in [
        "s3://AKIDEXAMPLE:hunter2@bucket/p",
        "s3:/AKIDEXAMPLE:hunter2@bucket",
    ] {
        let error = MountOptions::new(url, Path::new("/mnt")).unwrap_err();
        assert!(matches!(error, Error::Url(_)), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn what_is_no_url_is_refused() {
    for url in ["/dev/sda1", "bucket", "://x", "ftp://x", ""] {
        assert!(
            matches!(
                MountOptions::new(url, Path::new("/mnt")),
                Err(Error::Url(_))
            ),
            "{url}"
        );
    }
}

#[test]
fn patterns_of_rules_are_those_of_gitignore_and_the_last_that_matches_holds() {
    let toml = "[[rules]]\npaths = [\"*.tmp\", \"/data/raw/\"]\nskip = true\n\
                [[rules]]\npaths = [\"data/*/keep.tmp\", \"a/**/z\"]\nttl = \"2m\"\nclose = \"store\"\n";
    let options = with_file(toml, "").unwrap();
    let skip = PathRule {
        skip: true,
        ..PathRule::default()
    };
    let stay = PathRule {
        ttl: Some(Duration::from_secs(120)),
        close: Some(SafeAt::Store),
        ..PathRule::default()
    };
    for (path, rule) in [
        ("x.tmp", Some(skip)),
        ("deep/down/x.tmp", Some(skip)),
        ("dir.tmp/below", Some(skip)),
        ("data/raw", Some(skip)),
        ("data/raw/1/2", Some(skip)),
        ("other/data/raw/1", None),
        ("data/rawer", None),
        ("data/x/keep.tmp", Some(stay)),
        ("data/x/y/keep.tmp", Some(skip)),
        ("a/z", Some(stay)),
        ("a/b/c/z/below", Some(stay)),
        ("x.tmpl", None),
    ] {
        assert_eq!(options.rules.of(path.as_bytes()), rule, "{path}");
    }
    assert_eq!(options.rules.of(b"\xff\xfe.tmp"), Some(skip));
}

#[test]
fn rules_that_are_none_are_told() {
    for (toml, part) in [
        ("rules = 1", "below a heading [[rules]]"),
        ("[rules]\nskip = true", "below a heading [[rules]]"),
        ("[[rules]]\nskip = true", "number 1: `paths` is a list"),
        ("[[rules]]\npaths = \"a\"", "`paths` is a list"),
        ("[[rules]]\npaths = [\"/\"]", "names nothing below"),
        (
            "[[rules]]\npaths = [\"a\"]\n[[rules]]\npaths = [\"{a\"]",
            "number 2: `{a` is no pattern",
        ),
        (
            "[[rules]]\npaths = [\"a\"]\nskip = 1",
            "`skip` is true or false",
        ),
        ("[[rules]]\npaths = [\"a\"]\nttl = true", "`ttl` is a time"),
        ("[[rules]]\npaths = [\"a\"]\nclose = \"moon\"", "moon"),
        ("[[rules]]\npaths = [\"a\"]\nkeep = 1", "there is no `keep`"),
    ] {
        let sentence = with_file(toml, "").expect_err(toml).to_string();
        assert!(
            sentence.contains(part) && sentence.contains("fused.toml"),
            "{sentence}"
        );
    }
}
