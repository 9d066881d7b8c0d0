//! Who may do what: access control lists, set-user-ID and set-group-ID bits, other users, extended
//! attributes. A local folder is the judge: the same commands run on both, and must show the same.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use harness::{Finished, Mount, Program, Way, scratch, tool};
use nix::errno::Errno;

harness::every_way!(
    set_id_bits_go_when_others_change_the_file,
    set_id_bits_go_with_a_write_through_an_older_descriptor,
    capabilities_of_a_program_go_when_it_changes,
);

/// All that these tests start; `None`, counted as a skip, if something is not installed.
fn tools() -> Option<()> {
    for name in ["setfacl", "getfattr", "setpriv", "setcap", "fallocate"] {
        tool(name)?;
    }
    Some(())
}

/// A shell script in a folder, as root; `as_user UID GROUPS COMMAND...` in it is somebody else.
/// `show NAME...` prints all that is known of a file's access.
fn script(folder: &Path, commands: &str) -> Finished {
    const FUNCTIONS: &str = r#"
        set -e
        umask 022
        as_user() {
            user=$1 groups=$2; shift 2
            setpriv --reuid="$user" --regid="$user" --groups="$groups" -- "$@"
        }
        show() {
            stat -c '%A %u:%g %n' "$@"
            getfacl -c -n -s -- "$@"
        }
        refused() { if "$@" 2>/dev/null; then echo "not refused: $*"; fi; }
    "#;
    let text = format!("{FUNCTIONS}\n{commands}");
    let shell = tool("bash").expect("bash");
    shell.args(["-c", &text]).within(folder).run()
}

/// Runs the script on a mount and in a local folder, and compares what it prints.
fn as_locally(mount: &Mount, commands: &str) -> String {
    let local = scratch();
    fs::set_permissions(local.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let expected = script(local.path(), commands).success();
    let shown = script(mount.path(), commands).success();
    assert_eq!(shown, expected, "the mount, and a local folder");
    shown
}

/// Everything about who may do what in a tree.
fn list(folder: &Path) -> String {
    let commands = "find . | LC_ALL=C sort | while read -r name; do
        stat -c '%A %u:%g %Y %n' \"$name\"; getfacl -c -n -s \"$name\"; done";
    script(folder, commands).success()
}

fn way() -> Way {
    Way::folder("passthrough=auto")
}

#[test]
fn an_acl_lets_those_in_whom_it_names() {
    harness::require_mounts!();
    let Some(()) = tools() else { return };
    let way = way();
    let mount = way.mount();
    let said = as_locally(
        &mount,
        "
        echo secret > f
        chmod 600 f
        refused as_user 1001 1001 cat f
        setfacl -m u:1001:r,g:2001:rw f
        as_user 1001 1001 cat f
        refused as_user 1001 1001 sh -c 'echo x >> f'
        as_user 1002 2001 sh -c 'echo more >> f'
        as_user 1002 1002,2001 cat f
        refused as_user 1003 1003 cat f
        show f
        ",
    );
    assert!(said.contains("user:1001:r--"), "{said}");
    let before = list(mount.path());
    let again = mount.unmount().start();
    assert_eq!(list(again.path()), before, "after a remount");
    let seen = script(again.path(), "as_user 1001 1001 cat f").success();
    assert_eq!(seen, "secret\nmore\n");
}

#[test]
fn chmod_and_acl_keep_step() {
    harness::require_mounts!();
    let Some(()) = tools() else { return };
    let way = way();
    as_locally(
        &way.mount(),
        "
        touch f
        setfacl -m u:1001:rw f; show f
        chmod 640 f; show f
        refused as_user 1001 1001 sh -c 'echo x > f'
        chmod 6777 f; show f
        setfacl -m m::r f; show f
        setfacl -m g::rwx,o::- f; show f
        setfacl -b f; show f
        setfacl -m u::rw,g::r,o::- f; show f; getfattr -d -m- f
        setfacl -m u:1001:rw,m::- f; show f
        setfacl -x u:1001 f; show f
        chown 1003:1004 f; show f
        mkdir d; setfacl -d -m u:1001:rwx d; show d
        setfacl -k d; show d
        refused setfacl -d -m u:1001:rwx f
        ln -s f link; refused setfattr -h -n system.posix_acl_access -v 0x02000000 link
        as_user 1003 1003 setfacl -m u:1005:r f; show f
        refused as_user 1005 1005 setfacl -m u:1005:rw f
        ",
    );
}

#[test]
fn what_is_made_in_a_directory_inherits_its_default_acl() {
    harness::require_mounts!();
    let Some(()) = tools() else { return };
    let way = way();
    as_locally(
        &way.mount(),
        "
        mkdir plain with strict minimal
        setfacl -d -m u:1001:rwx,g:2001:rx with
        setfacl -d -m u::rwx,g::r,o::-,u:1001:r,m::r strict
        setfacl -d -m u::rw,g::r,o::- minimal
        for umask in 000 022 077; do
            umask $umask
            for in in plain with strict minimal; do
                at=$in/$umask
                touch $at.file
                mkdir $at.dir
                mkdir -m 700 $at.private
                mkfifo $at.fifo
                mknod $at.device c 1 3
                ln -s nowhere $at.link
                touch $at.dir/below
                show $at.file $at.dir $at.private $at.fifo $at.device $at.dir/below
                stat -c %A $at.link
                install -m 755 /dev/null $at.installed
                show $at.installed
            done
        done
        mv with/022.file plain/; show plain/022.file
        ln plain/000.file with/linked; show with/linked
        ",
    );
}

#[test]
fn group_directories_pass_on_their_group() {
    harness::require_mounts!();
    let Some(()) = tools() else { return };
    let way = way();
    as_locally(
        &way.mount(),
        "
        mkdir shared; chown 1001:2001 shared; chmod 2777 shared
        as_user 1002 1002 sh -c 'touch shared/f; mkdir shared/d; mkfifo shared/p; touch shared/d/f'
        show shared/f shared/d shared/p shared/d/f
        as_user 1002 1002,2001 sh -c 'touch shared/g; chmod 2775 shared/g'; show shared/g
        as_user 1002 1002 sh -c 'chmod 2775 shared/f'; show shared/f
        as_user 1002 1002,2001 setfacl -m u:1005:r shared/g; show shared/g
        as_user 1002 1002 setfacl -m u:1005:rx shared/g; show shared/g
        chmod 2755 shared/g; setfacl -m u:1006:r shared/g; show shared/g
        chown 1002 shared/d; chmod 2755 shared/d
        as_user 1002 1002 setfacl -m u:1005:rx shared/d; show shared/d
        setfacl -d -m u:1005:rwx shared; as_user 1002 1002 mkdir shared/e; show shared/e
        ",
    );
}

#[test]
fn tools_copy_acls_there_and_back() {
    harness::require_mounts!();
    let Some(()) = tools() else { return };
    let home = scratch();
    let (from, back) = (home.path().join("from"), home.path().join("back"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&back).unwrap();
    let made = "
        mkdir d d/e; setfacl -d -m u:1001:rwx,g:2001:- d; touch d/inherits d/e/f g
        setfacl -m u:1002:r,m::rwx g; setfattr -n user.note -v kept g; setfattr -n trusted.note -v kept d
        chmod 2750 d/e; touch -d 2020-02-02T02:02:02.123456789Z g
    ";
    script(&from, made).success();
    let expected = list(&from);
    let way = way();
    let mount = way.mount();
    let copies = [
        ("cp", "cp -a . \"$TO\"/"),
        ("rsync", "rsync -aAX ./ \"$TO\"/"),
        (
            "tar",
            "tar --acls --xattrs --xattrs-include='*' -cf - . | tar --acls --xattrs --xattrs-include='*' -xpf - -C \"$TO\"",
        ),
    ];
    for (name, command) in copies {
        if tool(name).is_none() {
            continue;
        }
        let there = mount.join(name);
        fs::create_dir(&there).unwrap();
        let (here, there_text) = (back.join(name), there.display().to_string());
        fs::create_dir(&here).unwrap();
        script(&from, &format!("TO={there_text}; {command}")).success();
        assert_eq!(list(&there), expected, "{name}, there");
        script(&there, &format!("TO={}; {command}", here.display())).success();
        assert_eq!(list(&here), expected, "{name}, and back");
        let notes =
            "getfattr --only-values -n user.note g; getfattr --only-values -n trusted.note d";
        assert_eq!(script(&here, notes).success(), "keptkept", "{name}");
    }
}

/// Six ways to change a file, by somebody who may write it and does not own it. (A set-group-ID bit
/// without the group's execute bit stays, as it did everywhere before Linux 6.0: it means nothing, and
/// the kernel's FUSE leaves it alone.)
fn set_id_bits_go_when_others_change_the_file(way: &Way) {
    let Some(()) = tools() else { return };
    as_locally(
        &way.mount(),
        "
        ways='append overwrite truncate shrink allocate chgrp'
        change() {
            case $1 in
                append) sh -c 'echo x >> $0' $2 ;;
                overwrite) echo x | dd of=$2 conv=notrunc status=none ;;
                truncate) sh -c ': > $0' $2 ;;
                shrink) truncate -s 1 $2 ;;
                allocate) fallocate -l 10000 $2 ;;
                chgrp) chgrp $3 $2 ;;
            esac
        }
        export -f change
        for mode in 6777 4777 2777; do
            for way in $ways; do
                f=$way-$mode
                echo content > $f; chown 1001:1001 $f; chmod $mode $f
                case $way in
                    chgrp) as_user 1001 1001,2001 bash -c \"change $way $f 2001\" ;;
                    *) as_user 1002 1002 bash -c \"change $way $f\" ;;
                esac
                sleep 0.02
                stat -c '%A %n' $f
                chmod $mode $f; change $way $f 2002; stat -c 'by root: %A %n' $f
            done
        done
        ",
    );
}

/// Somebody has the file open for writing when it gets the bits.
fn set_id_bits_go_with_a_write_through_an_older_descriptor(way: &Way) {
    let Some(()) = tools() else { return };
    as_locally(
        &way.mount(),
        "
        chmod 777 .
        for what in write look truncate; do
            rm -f opened go; echo content > $what; chown 1001:1001 $what; chmod 777 $what
            as_user 1002 1002 bash -c '
                exec 3>>$0; touch opened
                until [ -e go ]; do sleep 0.01; done
                case $0 in write) echo more >&3;; truncate) truncate -s 1 /dev/fd/3;; esac
                exec 3>&-' $what &
            until [ -e opened ]; do sleep 0.01; done
            chmod 6777 $what; stat -c 'before: %A %n' $what
            touch go; wait
            stat -c 'after: %A %s %n' $what
        done
        ",
    );
}

/// Otherwise a small write takes six times as long.
#[test]
fn a_write_by_passthrough_asks_the_daemon_nothing() {
    harness::require_mounts!();
    let way = way();
    let mut mount = way.mount();
    if mount.status()["passthrough"]["on"] == false {
        return harness::skip("no passthrough here");
    }
    let mut file = fs::File::create(mount.join("f")).unwrap();
    file.write_all(b"x").unwrap();
    let pid = mount.daemon().pid();
    let reads = || {
        let figures = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
        let mut lines = figures.lines();
        let reads = lines.find_map(|line| line.strip_prefix("syscr: "));
        reads.expect("syscr").parse::<u64>().unwrap()
    };
    let before = reads();
    for _ in 0..1000 {
        file.write_all(b"x").unwrap();
    }
    let requests = reads() - before;
    assert!(requests < 500, "{requests} reads of the daemon");
}

fn capabilities_of_a_program_go_when_it_changes(way: &Way) {
    let Some(()) = tools() else { return };
    as_locally(
        &way.mount(),
        "
        for way in '>> f' '> f'; do
            echo program > f; chmod 755 f
            setcap cap_net_raw+ep f; getcap f
            eval \"echo x $way\"; echo \"after $way: $(getcap f)\"
        done
        setcap cap_net_raw+ep f; truncate -s 3 f; echo \"after truncate: $(getcap f)\"
        setcap cap_net_raw+ep f; chown 1001 f; echo \"after chown: $(getcap f)\"
        ",
    );
}

#[test]
fn other_users_get_what_the_modes_say() {
    harness::require_mounts!();
    let Some(()) = tools() else { return };
    let way = way();
    as_locally(
        &way.mount(),
        "
        mkdir tmp; chmod 1777 tmp
        as_user 1001 1001 touch tmp/mine
        refused as_user 1002 1002 rm -f tmp/mine
        refused as_user 1002 1002 mv tmp/mine tmp/yours
        refused as_user 1002 1002 chmod 777 tmp/mine
        refused as_user 1002 1002 chown 1002 tmp/mine
        refused as_user 1001 1001 chown 1002 tmp/mine
        refused as_user 1001 1001 chgrp 2001 tmp/mine
        as_user 1001 1001,2001 chgrp 2001 tmp/mine
        refused as_user 1002 1002 touch -d 2020-01-01 tmp/mine
        show tmp/mine
        as_user 1001 1001 rm tmp/mine
        mkdir closed; echo x > closed/f; chmod 644 closed/f; chmod 711 closed
        as_user 1001 1001 cat closed/f
        refused as_user 1001 1001 ls closed
        refused as_user 1001 1001 touch closed/g
        echo team > team; chown 1003:2001 team; chmod 640 team
        as_user 1001 5,2001,7 cat team
        refused as_user 1001 5,7 cat team
        refused as_user 1001 1001 mknod tmp/dev c 1 3
        as_user 1001 1001 mkfifo tmp/fifo
        as_user 1001 1001 test -r tmp/fifo
        refused as_user 1001 1001 test -w closed
        ls -ln tmp | grep fifo | cut -c1-20
        ",
    );
}

#[test]
fn extended_attributes_have_the_sizes_of_linux() {
    harness::require_mounts!();
    let Some(()) = tools() else { return };
    let way = way();
    let mount = way.mount();
    let set = |name: &str, bytes: usize| {
        const PROGRAM: &str = "import os, sys\n\
            try: os.setxattr('f', sys.argv[1], b'v' * int(sys.argv[2])); print(0)\n\
            except OSError as e: print(e.errno)\n";
        let python = Program::python_line(PROGRAM)
            .arg(name)
            .arg(bytes.to_string());
        let said = python.within(mount.path()).run().success();
        said.trim().parse::<i32>().expect("an errno")
    };
    fs::write(mount.join("f"), "x").unwrap();
    let longest = format!("user.{}", "n".repeat(250));
    assert_eq!(set(&longest, 0), 0);
    assert_eq!(set(&format!("{longest}n"), 0), Errno::ERANGE as i32);
    assert_eq!(set("user.large", 65_536), 0);
    assert_eq!(set("user.large", 65_537), Errno::E2BIG as i32);
    assert_eq!(set("unknown.space", 1), Errno::EOPNOTSUPP as i32);
    assert_eq!(set("system.other", 1), Errno::EOPNOTSUPP as i32);
    assert_eq!(set("security.note", 1), 0);
    assert_eq!(set("trusted.note", 1), 0);
    let names = "getfattr --absolute-names -m - f | grep -c note";
    assert_eq!(script(mount.path(), names).success(), "2\n");
    let theirs = "chmod 666 f; as_user 1001 1001 getfattr -m - f | grep note";
    assert_eq!(script(mount.path(), theirs).success(), "security.note\n");
    let mount = mount.unmount().start();
    let large = "getfattr --only-values -n user.large f | wc -c";
    assert_eq!(script(mount.path(), large).success(), "65536\n");
}

/// `ls -l` asks no second file for a label then, nor us.
#[test]
fn there_are_no_labels_until_somebody_sets_one() {
    harness::require_mounts!();
    let way = way();
    let mount = way.mount();
    const PROGRAM: &str = "import errno, os\n\
        open('f', 'w').close()\n\
        def code(name):\n\
        \x20   try: return os.getxattr('f', name)\n\
        \x20   except OSError as e: return errno.errorcode[e.errno]\n\
        assert code('security.selinux') == 'ENOTSUP', code('security.selinux')\n\
        assert code('security.other') == 'ENODATA'\n\
        os.setxattr('f', 'security.selinux', b'a label')\n\
        assert code('security.selinux') == b'a label'\n";
    let python = Program::python_line(PROGRAM).within(mount.path());
    python.run().success();
}

#[test]
fn as_many_attributes_as_can_be_listed_can_be_set() {
    harness::require_mounts!();
    let way = way();
    let mount = way.mount();
    const PROGRAM: &str = "import errno, os\n\
        open('f', 'w').close()\n\
        count = 0\n\
        try:\n\
        \x20   while True:\n\
        \x20       os.setxattr('f', f'user.{count:0240}', b'')\n\
        \x20       count += 1\n\
        except OSError as e: assert e.errno == errno.ENOSPC, e\n\
        assert len(os.listxattr('f')) == count and count > 260, count\n";
    let python = Program::python_line(PROGRAM).within(mount.path());
    python.run().success();
}

/// README's table, for a journal that is lost: what is left of who may do what.
#[test]
fn a_lost_journal_costs_acls_and_attributes_but_no_mode() {
    harness::require_mounts!();
    let Some(()) = tools() else { return };
    let way = Way::bucket("passthrough=auto");
    let mount = way.mount();
    script(
        mount.path(),
        "
        echo x > f; chown 1003:1004 f; setfacl -m u:1001:rw f; setfattr -n user.note -v x f
        mkdir d; setfacl -d -m u:1001:rwx d; chmod 4711 f; setfacl -m m::rx f
        ",
    )
    .success();
    mount.sync();
    let other = way.mount();
    fs::read(other.join("f")).unwrap();
    let found = fs::metadata(other.join("f")).unwrap();
    assert_eq!(
        (found.mode() & 0o7777, found.uid(), found.gid()),
        (0o4751, 1003, 1004),
        "the mask stays as the group's rights"
    );
    let lists = script(other.path(), "getfacl -s -R f d; getfattr -m - f d").success();
    assert_eq!(lists, "", "neither lists nor attributes");
}
