//! The man page fused(8): the command line from clap's description, the mount options from their table.

use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::args;
use crate::options::{help_rows, ignored_words};

const FILES: &[(&str, &str)] = &[
    (
        "/var/cache/fused/<hash of URL>",
        "cache_dir of root's mounts. Holds what is not uploaded yet.",
    ),
    (
        "<cache_dir>/fused.log",
        "Log of a background mount: a link to today's, of which seven days are kept.",
    ),
    (
        "/run/fused/<major>:<minor>.sock",
        "Control sockets of root's mounts; of others in $XDG_RUNTIME_DIR/fused.",
    ),
    (
        "/etc/fused/<instance>.env",
        "FUSED_URL and FUSED_OPTIONS of the systemd unit fused@<instance>.",
    ),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL",
        "The S3 store, as for other AWS tools.",
    ),
    (
        "AWS_UNSIGNED_PAYLOAD",
        "true or false: whether signatures leave out the bodies of requests. A body's hash costs both sides time; \
         by default it is left out over TLS, which protects bodies itself, and made over http://.",
    ),
    (
        "GOOGLE_*, AZURE_*",
        "The stores of Google and Microsoft, as for their own tools.",
    ),
    ("RUST_LOG", "Log filter; overrides the option log_level."),
];

const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "Done."),
    (
        "1",
        "Failed; a sentence on standard error says what, where and what to do. fused doctor: something is lost or wrong.",
    ),
    ("2", "The command line or an option is wrong."),
];

const EXAMPLES: &[(&str, &str)] = &[
    (
        "fused mount s3://bucket/prefix /mnt/data -o cache_dir=/mnt/nvme/cache,cache_size=500G",
        "Mounts a part of a bucket.",
    ),
    (
        "s3://bucket  /mnt/data  fused  _netdev,nofail,cache_dir=/mnt/nvme/cache  0  0",
        "The same as a line of /etc/fstab (after fused install).",
    ),
    (
        "fused sync /mnt/data/checkpoints",
        "Returns when the directory is in the bucket.",
    ),
    (
        "fused load /mnt/data/imagenet",
        "Brings the directory into the cache before training begins.",
    ),
    (
        "fused pin /mnt/data/models/base",
        "Loads the directory, and keeps it in the cache until fused unpin.",
    ),
    (
        "fused doctor /mnt/nvme/cache",
        "Tells what is lost or wrong in a cache directory that is not mounted; with --repair, repairs what is safe.",
    ),
];

/// The page in troff.
pub fn man_page() -> String {
    let mut command = args::command()
        .disable_help_subcommand(true)
        .mut_subcommands(|subcommand| {
            subcommand
                .disable_help_flag(true)
                .disable_version_flag(true)
        });
    command.build();

    let mut roff = Roff::new();
    roff.control(
        "TH",
        [
            "fused",
            "8",
            " ",
            concat!("fused ", env!("CARGO_PKG_VERSION")),
            "System Administration",
        ],
    );
    roff.control("SH", ["NAME"]);
    roff.text([roman("fused - mount an object store as a file system")]);
    roff.control("SH", ["SYNOPSIS"]);
    for subcommand in visible(&command) {
        synopsis(&mut roff, subcommand);
    }
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        command
            .get_about()
            .map(|about| format!("{about}."))
            .unwrap_or_default(),
    )]);
    roff.control("SH", ["COMMANDS"]);
    let mut text = roff.to_roff();
    for subcommand in visible(&command) {
        text.push_str(&command_section(subcommand));
    }

    let mut roff = Roff::new();
    roff.control("SH", ["MOUNT OPTIONS"]);
    roff.text([roman(
        "Given as -o NAME=VALUE,NAME,... (a comma in a value: \\, or double quotes), in the fourth field of \
         /etc/fstab, or as keys of the TOML file that the option config names.",
    )]);
    for row in help_rows() {
        let (name, shape) = match row.usage.split_once('=') {
            Some((name, shape)) => (name.to_owned(), format!("={shape}")),
            None => (row.usage.clone(), String::new()),
        };
        let default = format!(" Default: {}.", row.default);
        let mut term = vec![bold(name)];
        if !shape.is_empty() {
            term.push(italic(shape));
        }
        entry(&mut roff, term, row.help.to_owned() + &default);
    }
    roff.control("PP", []);
    roff.text([roman(format!(
        "Taken from mount(8) and fstab(5) without effect: {}.",
        ignored_words()
    ))]);
    for (title, entries) in [
        ("EXAMPLES", EXAMPLES),
        ("FILES", FILES),
        ("ENVIRONMENT", ENVIRONMENT),
        ("EXIT STATUS", EXIT_STATUS),
    ] {
        roff.control("SH", [title]);
        for (term, meaning) in entries {
            entry(&mut roff, vec![bold(*term)], (*meaning).to_owned());
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("mount(8), fstab(5), fuse(4), fuser(1)")]);
    text + &roff.to_roff()
}

/// The commands that do something: those of a group, not the group itself.
fn visible(command: &clap::Command) -> Vec<&clap::Command> {
    let shown = command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set() && subcommand.get_name() != "help");
    shown
        .flat_map(|subcommand| match subcommand.has_subcommands() {
            true => visible(subcommand),
            false => vec![subcommand],
        })
        .collect()
}

fn synopsis(roff: &mut Roff, subcommand: &clap::Command) {
    let usage = subcommand.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
    roff.text([bold(usage)]);
    roff.control("br", []);
}

fn entry(roff: &mut Roff, term: Vec<Inline>, meaning: String) {
    roff.control("TP", []);
    roff.text(term);
    roff.text([roman(meaning)]);
}

/// A subcommand with its arguments, as a subsection.
fn command_section(subcommand: &clap::Command) -> String {
    let mut roff = Roff::new();
    let name = subcommand.get_bin_name().unwrap_or(subcommand.get_name());
    roff.control("SS", [name]);
    roff.text([roman(
        subcommand
            .get_about()
            .map(|about| format!("{about}."))
            .unwrap_or_default(),
    )]);
    let mut text = roff.to_roff();

    let mut options = Vec::new();
    // clap_mangen writes whole sections only; the heading of this one is ours, above.
    if Man::new(subcommand.clone())
        .render_options_section(&mut options)
        .is_ok()
    {
        let options = String::from_utf8_lossy(&options);
        let body = options.lines().filter(|line| {
            !line.starts_with(".SH") && !line.starts_with(".ie") && !line.starts_with(".el")
        });
        text.extend(body.flat_map(|line| [line, "\n"]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_man_page_has_every_command_and_every_option_with_its_default() {
        let page = man_page().replace("\\-", "-");
        for name in [
            "mount", "umount", "sync", "load", "pin", "unpin", "ls", "free", "status", "doctor",
            "install", "man",
        ] {
            assert!(page.contains(&format!(".SS \"fused {name}\"")), "{name}");
        }
        for row in help_rows() {
            let name = row.usage.split('=').next().unwrap();
            assert!(page.contains(&format!("\\fB{name}\\fR")), "{name}");
        }
        assert!(page.contains("Default: 80%."));
        assert!(!page.contains("ready-on-stdout"));
    }
}
