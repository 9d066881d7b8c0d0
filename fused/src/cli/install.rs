//! `fused install`: makes mount(8), /etc/fstab, systemd and man know this program.
//!
//! Written below `--root`: two links for mount(8) (`mount.fused` serves fstab lines of type `fused`,
//! `mount.fuse.fused` those of type `fuse.fused`, also where the package fuse3 is missing), a unit template and
//! the man page. Files are replaced by rename; something of another kind in the place of a link is left alone
//! and told.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::args::Install;
use super::{Error, man, output};

const HELPERS: [&str; 2] = ["sbin/mount.fused", "sbin/mount.fuse.fused"];
const UNIT: &str = "etc/systemd/system/fused@.service";
const MAN_PAGE: &str = "usr/local/share/man/man8/fused.8";

/// Runs the command.
pub(super) fn run(args: &Install) -> Result<(), Error> {
    let program = std::env::current_exe()
        .map_err(|error| Error::Failed(format!("the program's own path: {error}")))?;
    let mut report = String::new();
    for helper in HELPERS {
        let link = args.root.join(helper);
        put_link(&program, &link).map_err(|error| cannot(&link, &error))?;
        report += &format!("{} -> {}\n", link.display(), program.display());
    }
    for (file, text) in [(UNIT, unit(&program)), (MAN_PAGE, man::man_page())] {
        let path = args.root.join(file);
        put_file(&path, text.as_bytes()).map_err(|error| cannot(&path, &error))?;
        report += &format!("{}\n", path.display());
    }
    report += "now `mount -t fused URL DIR` and /etc/fstab lines of type `fused` work; for systemd write FUSED_URL= and \
               FUSED_OPTIONS= to /etc/fused/INSTANCE.env, INSTANCE from `systemd-escape -p DIR`, then \
               `systemctl enable --now fused@INSTANCE`\n";
    output::print(&report)
}

fn cannot(path: &Path, error: &io::Error) -> Error {
    Error::path(path, format!("can't be written: {error}"))
}

/// A name next to the target, for writing before the rename.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn put_link(target: &Path, link: &Path) -> io::Result<()> {
    make_parent(link)?;
    if fs::symlink_metadata(link).is_ok_and(|meta| !meta.is_symlink()) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something that is no link is there: move it away if it isn't needed",
        ));
    }
    let new = temporary(link);
    std::os::unix::fs::symlink(target, &new)?;
    rename(&new, link)
}

fn put_file(path: &Path, content: &[u8]) -> io::Result<()> {
    make_parent(path)?;
    let new = temporary(path);
    fs::write(&new, content)?;
    rename(&new, path)
}

fn rename(new: &Path, path: &Path) -> io::Result<()> {
    fs::rename(new, path).inspect_err(|_| {
        // The reason of the failure is what the user needs; the leftover is only untidy.
        let _ = fs::remove_file(new);
    })
}

/// A unit for `fused@mnt-data.service`. `%f` is the instance name as a path. That the mount point can't be made is
/// no failure: after a crash a dead mount is there, which `fused mount` takes away. The end may take as long as
/// programs with open files are given, and then the disk.
fn unit(program: &Path) -> String {
    let program = program.display();
    format!(
        "[Unit]\n\
         Description=Object store mounted at %f\n\
         Documentation=man:fused(8)\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         Before=remote-fs.target\n\
         \n\
         [Service]\n\
         Type=notify\n\
         EnvironmentFile=/etc/fused/%i.env\n\
         ExecStartPre=-/bin/mkdir -p \"%f\"\n\
         ExecStart=\"{program}\" mount --foreground -o \"${{FUSED_OPTIONS}}\" \"${{FUSED_URL}}\" \"%f\"\n\
         ExecStop=\"{program}\" umount \"%f\"\n\
         Restart=on-failure\n\
         RestartSec=1\n\
         TimeoutStartSec=300\n\
         TimeoutStopSec=180\n\
         LimitNOFILE=1048576\n\
         \n\
         [Install]\n\
         WantedBy=remote-fs.target\n"
    )
}
