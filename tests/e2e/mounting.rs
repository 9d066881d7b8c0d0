//! Ways to mount, ways that must fail, and what they say.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::{Cache, Finished, Mount, Server, Store, fused, run, scratch, tool};
use nix::mount::{MntFlags, umount2};

/// Nothing is mounted, the code is 1, and it says so in words that tell this failure from others.
#[track_caller]
fn fails(url: &str, environment: &[(String, String)], words: &[&str]) -> String {
    let cache = Cache::new();
    let options = Mount::of_url(url, environment.to_vec()).cache(&cache);
    let failed = options.try_start().expect_err("this can't be mounted");
    assert_eq!(failed.code, Some(1), "{}", failed.said);
    let said = failed.said.to_lowercase();
    assert!(
        words.iter().any(|word| said.contains(word)),
        "none of {words:?} in {said:?}"
    );
    assert!(
        !said.contains("fused-test-secret") && !said.contains("panicked"),
        "{said}"
    );
    let journal = cache.path().join("journal");
    assert!(!journal.exists(), "its reserve stays on the disk");
    failed.said
}

fn changed(environment: &[(String, String)], name: &str, value: &str) -> Vec<(String, String)> {
    let mut environment = environment.to_vec();
    environment.retain(|(found, _)| found != name);
    environment.push((name.to_owned(), value.to_owned()));
    environment
}

#[test]
fn a_bucket_that_is_not_there_is_told() {
    harness::require_mounts!();
    let server = Server::seaweedfs();
    let said = fails(
        "s3://no-such-bucket-here",
        &server.environment(),
        &["no such bucket", "no bucket", "does not exist"],
    );
    assert!(said.contains("no-such-bucket-here"), "{said}");
}

#[test]
fn bad_credentials_are_told() {
    harness::require_mounts!();
    let server = Server::seaweedfs();
    let bucket = server.bucket();
    let wrong_secret = changed(bucket.environment(), "AWS_SECRET_ACCESS_KEY", "wrong");
    fails(&bucket.url(), &wrong_secret, &["credentials"]);
    let wrong_key = changed(bucket.environment(), "AWS_ACCESS_KEY_ID", "nobody");
    fails(&bucket.url(), &wrong_key, &["credentials"]);
}

#[test]
fn an_endpoint_where_nobody_listens_is_told() {
    harness::require_mounts!();
    let server = Server::seaweedfs();
    let nowhere = changed(
        &server.environment(),
        "AWS_ENDPOINT_URL",
        "http://127.0.0.1:9",
    );
    let said = fails("s3://any", &nowhere, &["unreachable", "reach", "connect"]);
    assert!(said.contains("127.0.0.1:9"), "{said}");
}

/// A user of the server that may read and list, and nothing else.
fn reader(environment: &[(String, String)]) -> Vec<(String, String)> {
    changed(environment, "AWS_ACCESS_KEY_ID", "reader")
}

#[test]
fn a_store_that_may_only_be_read_is_told() {
    harness::require_mounts!();
    let server = Server::seaweedfs();
    let bucket = server.bucket();
    fails(
        &bucket.url(),
        &reader(bucket.environment()),
        &["read-only", "write", "ro"],
    );
}

#[test]
fn a_store_that_may_only_be_read_can_be_mounted_read_only() {
    harness::require_mounts!();
    let server = Server::seaweedfs();
    let bucket = server.bucket();
    bucket.put("f", "readable");
    let environment = reader(bucket.environment());
    let mount = Mount::of_url(bucket.url(), environment)
        .option("ro")
        .start();
    assert_eq!(fs::read(mount.join("f")).unwrap(), b"readable");
    let refused = fs::write(mount.join("new"), "x").unwrap_err();
    assert_eq!(
        refused.raw_os_error(),
        Some(nix::errno::Errno::EROFS as i32)
    );
}

#[test]
fn a_folder_that_is_not_there_is_told() {
    harness::require_mounts!();
    let home = scratch();
    let missing = home.path().join("missing");
    let said = fails(
        &format!("file://{}", missing.display()),
        &[],
        &["no such", "does not exist", "not found"],
    );
    assert!(said.contains("missing"), "{said}");
}

#[test]
fn an_unknown_option_names_the_nearest_known_one() {
    harness::require_mounts!();
    let store = Store::folder();
    let failed = Mount::of(&store)
        .option("cache_sice=1G")
        .try_start()
        .expect_err("unknown");
    assert!(failed.said.contains("cache_size"), "{}", failed.said);
    assert_eq!(failed.code, Some(2), "{}", failed.said);
}

#[test]
fn an_unknown_scheme_is_an_error_that_lists_the_known_ones() {
    let home = scratch();
    let said = fused([
        "mount".as_ref(),
        "ftp://x/y".as_ref(),
        home.path().as_os_str(),
    ])
    .fails_with(2);
    assert!(said.contains("s3") && said.contains("file"), "{said}");
}

#[test]
fn the_words_of_mount_8_are_accepted() {
    harness::require_mounts!();
    let store = Store::folder();
    let words = "_netdev,nofail,noauto,user,rw,dev,suid,exec,noatime,x-systemd.automount";
    let mount = Mount::of(&store).option(words).start();
    fs::write(mount.join("f"), "x").unwrap();
}

#[test]
fn settings_come_from_a_file_as_well() {
    harness::require_mounts!();
    let (store, home) = (Store::folder(), scratch());
    let (config, cache) = (home.path().join("fused.toml"), home.path().join("cache"));
    fs::write(
        &config,
        format!("cache_dir = {:?}\numask = \"077\"\n", cache),
    )
    .unwrap();
    // The harness gives cache_dir by an option, unless the test does.
    let at = home.path().join("mnt");
    fs::create_dir(&at).unwrap();
    let options = format!("config={}", config.display());
    fused(["mount", &store.url(), at.to_str().unwrap(), "-o", &options]).success();
    let mounted = Detach(&at);
    fs::write(at.join("f"), "x").unwrap();
    assert!(cache.is_dir());
    fused(["umount", at.to_str().unwrap()]).success();
    drop(mounted);
}

/// Takes a mount away that no guard knows of.
struct Detach<'a>(&'a Path);

impl Drop for Detach<'_> {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

/// Works on a mount that was made without the harness, then takes it away.
#[track_caller]
fn works_and_goes(at: &Path, store: &Store) {
    let mounted = Detach(at);
    fs::write(at.join("f"), "by hand").unwrap();
    fused(["sync", at.to_str().unwrap()]).success();
    assert_eq!(store.get("f").as_deref(), Some(&b"by hand"[..]));
    fused(["umount", at.to_str().unwrap()]).success();
    assert!(!at.join("f").exists(), "it is unmounted");
    drop(mounted);
}

#[test]
fn mount_returns_when_the_mount_is_usable_and_umount_takes_it_away() {
    harness::require_mounts!();
    let (store, cache, home) = (Store::folder(), Cache::new(), scratch());
    let at = home.path();
    let options = format!("cache_dir={}", cache.path().display());
    fused(["mount", &store.url(), at.to_str().unwrap(), "-o", &options]).success();
    works_and_goes(at, &store);
}

#[test]
fn a_mount_that_fails_in_the_background_says_so_and_leaves_nothing() {
    harness::require_mounts!();
    let (cache, home) = (Cache::new(), scratch());
    let options = format!("cache_dir={}", cache.path().display());
    let url = format!("file://{}/missing", home.path().display());
    let said = fused(["mount", &url, home.path().to_str().unwrap(), "-o", &options]).fails_with(1);
    assert!(said.contains("missing"), "{said}");
}

#[test]
fn a_stale_dead_mount_is_cleaned_up() {
    harness::require_mounts!();
    let store = Store::folder();
    let (options, at, _home) = Mount::of(&store).start().abandon();
    let _detach = Detach(&at);
    fs::read_dir(&at).expect_err("it is dead");
    let again = options.at(&at).start();
    fs::write(again.join("f"), "alive").unwrap();
    again.sync();
}

#[test]
fn a_living_mount_is_not_mounted_over() {
    harness::require_mounts!();
    let (store, other) = (Store::folder(), Store::folder());
    let mount = Mount::of(&store).start();
    let failed = Mount::of(&other)
        .at(mount.path())
        .try_start()
        .expect_err("it is taken");
    assert_eq!(failed.code, Some(1), "{}", failed.said);
    fs::write(mount.join("f"), "still here").unwrap();
}

/// `fused install`, as far as a test may: into a folder, and mount(8) finds it by PATH.
#[test]
fn install_says_what_it_wrote() {
    let root = scratch();
    let said = fused([
        "install".as_ref(),
        "--root".as_ref(),
        root.path().as_os_str(),
    ])
    .success();
    let helper = root.path().join("sbin/mount.fused");
    assert!(helper.symlink_metadata().is_ok(), "{said}");
    assert!(said.contains("mount.fused"), "{said}");
}

/// The helpers that `fused install` makes, where mount(8) looks for them; gone when the guard goes.
struct Helpers(Vec<std::path::PathBuf>);

impl Helpers {
    /// None, counted as a skip, where somebody has installed the program: it is not touched.
    fn install() -> Option<Self> {
        let root = scratch();
        fused([
            "install".as_ref(),
            "--root".as_ref(),
            root.path().as_os_str(),
        ])
        .success();
        let mut installed = Self(Vec::new());
        for entry in fs::read_dir(root.path().join("sbin")).unwrap() {
            let link = entry.unwrap().path();
            let helper = Path::new("/sbin").join(link.file_name().unwrap());
            if helper.symlink_metadata().is_ok() {
                harness::skip(&format!("{} is there already", helper.display()));
                return None;
            }
            std::os::unix::fs::symlink(fs::read_link(&link).unwrap(), &helper).unwrap();
            installed.0.push(helper);
        }
        Some(installed)
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        for helper in &self.0 {
            let _ = fs::remove_file(helper);
        }
    }
}

fn mount_8(arguments: &[&str]) -> Finished {
    run(
        Command::new("mount").args(arguments),
        Duration::from_secs(60),
    )
}

/// One test for all that mount(8) does, because there is one place for its helper.
#[test]
fn mount_8_mounts_by_type_and_by_fstab() {
    harness::require_mounts!();
    let Some(_helpers) = Helpers::install() else {
        return;
    };
    let (store, cache, home) = (Store::folder(), Cache::new(), scratch());
    let at = home.path().to_str().unwrap();
    let options = format!("_netdev,cache_dir={}", cache.path().display());
    mount_8(&["-t", "fused", &store.url(), at, "-o", &options]).success();
    works_and_goes(home.path(), &store);
    for kind in ["fused", "fuse.fused"] {
        let (store, cache) = (Store::folder(), Cache::new());
        let fstab = home.path().with_extension("fstab");
        let cache_dir = cache.path().display();
        let line = format!(
            "{} {at} {kind} rw,nofail,_netdev,cache_dir={cache_dir} 0 0\n",
            store.url()
        );
        fs::write(&fstab, line).unwrap();
        mount_8(&["--fstab", fstab.to_str().unwrap(), at]).success();
        fs::remove_file(&fstab).unwrap();
        works_and_goes(home.path(), &store);
    }
}

#[test]
fn other_users_see_the_mount_of_root() {
    harness::require_mounts!();
    let Some(program) = tool("setpriv") else {
        return;
    };
    let store = Store::folder();
    let mount = Mount::of(&store).start();
    fs::write(mount.join("open"), "for all").unwrap();
    fs::write(mount.join("closed"), "for root").unwrap();
    fs::set_permissions(mount.join("open"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(mount.join("closed"), fs::Permissions::from_mode(0o600)).unwrap();
    let as_nobody = [
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "cat",
    ];
    // The scratch folder itself is for root alone: the mount is seen through a folder for all.
    let public = tempfile_for_all();
    let bound = Bound::of(mount.path(), &public);
    assert_eq!(
        program
            .args(as_nobody)
            .arg(bound.0.join("open"))
            .run()
            .success(),
        "for all"
    );
    let program = tool("setpriv").expect("it was there");
    program
        .args(as_nobody)
        .arg(bound.0.join("closed"))
        .run()
        .fails_with(1);
}

fn tempfile_for_all() -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("fused-public-{}", std::process::id()));
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A second place where a mount is seen.
struct Bound(std::path::PathBuf);

impl Bound {
    fn of(mount: &Path, at: &Path) -> Self {
        let none = None::<&str>;
        nix::mount::mount(Some(mount), at, none, nix::mount::MsFlags::MS_BIND, none).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.0);
    }
}

/// What a program holds of a mount whose daemon is killed: its folder, and an open file.
struct Holder {
    child: std::process::Child,
}

impl Holder {
    fn of(at: &Path) -> Self {
        let shell =
            "exec 3>>open; echo before >&3; echo ready; read line; echo after >&3 && echo written";
        let mut child = Command::new("bash")
            .args(["-c", shell])
            .current_dir(at)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        Self { child }
    }

    /// Lets it go on; what it says then.
    fn goes_on(mut self) -> String {
        drop(self.child.stdin.take());
        let mut said = String::new();
        std::io::Read::read_to_string(self.child.stdout.as_mut().unwrap(), &mut said).unwrap();
        said
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_same_line_takes_over_from_a_killed_daemon_under_a_program() {
    harness::require_mounts!();
    let store = Store::folder();
    let mount = Mount::of(&store).option("passthrough=off").start();
    let holder = Holder::of(mount.path());
    let (options, at, _home) = mount.abandon();
    let _detach = Detach(&at);
    let again = options.at(&at).start();
    fs::write(again.join("f"), "alive").unwrap();
    assert_eq!(fs::read(again.join("open")).unwrap(), b"before\n");
    // What the old program still has is the dead mount: an error, and nothing of it gets into the new one.
    assert_eq!(holder.goes_on(), "");
    again.sync();
    assert_eq!(store.get("open").as_deref(), Some(&b"before\n"[..]));
    assert_eq!(store.get("f").as_deref(), Some(&b"alive"[..]));
}

#[test]
fn mount_8_takes_over_from_a_killed_daemon_and_does_not_remount() {
    harness::require_mounts!();
    let Some(_helpers) = Helpers::install() else {
        return;
    };
    let store = Store::folder();
    let cache = Cache::new();
    let mount = Mount::of(&store).cache(&cache).start();
    fs::write(mount.join("before"), "kept").unwrap();
    let holder = Holder::of(mount.path());
    let (_options, at, _home) = mount.abandon();
    let _detach = Detach(&at);
    let options = format!("cache_dir={}", cache.path().display());
    let place = at.to_str().unwrap();
    mount_8(&["-t", "fused", &store.url(), place, "-o", &options]).success();
    assert_eq!(fs::read(at.join("before")).unwrap(), b"kept");
    let refused = mount_8(&["-o", "remount,settle=9s", place]);
    assert!(
        refused.status.is_some_and(|status| !status.success()),
        "{refused}"
    );
    assert!(refused.stderr.contains("then mount again"), "{refused}");
    drop(holder);
    works_and_goes(&at, &store);
}

/// A unit of `Type=notify`: systemd's side is a datagram socket.
#[test]
fn systemd_is_told_when_the_mount_can_be_used() {
    use std::os::unix::net::UnixDatagram;

    harness::require_mounts!();
    let (store, home) = (Store::folder(), scratch());
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mount = Mount::of(&store)
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .start();
    let mut said = [0; 64];
    let length = socket.recv(&mut said).unwrap();
    assert_eq!(&said[..length], b"READY=1");
    fs::write(mount.join("f"), "usable").unwrap();
    mount.unmount();

    socket.set_nonblocking(true).unwrap();
    let nowhere = Mount::of_url("file:///no/such/folder", vec![]);
    let failed = nowhere
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .try_start();
    failed.expect_err("there is no such folder");
    socket.recv(&mut said).expect_err("nothing is ready");
}
