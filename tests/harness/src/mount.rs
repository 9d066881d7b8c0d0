//! The built `fused`, mounted for a test.
//!
//! The daemon runs in the foreground as a child of the test, so that its pid is known, `kill -9`
//! hits exactly it, and it dies with the test. The mount counts as usable once the kernel lists it
//! and its root answers.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::files::scratch;
use crate::process::{Finished, Guarded, Running, run};
use crate::proxy::Proxy;
use crate::store::Store;

const COMMAND_LIMIT: Duration = Duration::from_secs(180);
const MOUNT_LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(60);

/// The program under test: `FUSED_BIN`, or the one built next to this test.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("FUSED_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("this test's path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps");
    let built = profile.join("fused");
    assert!(
        built.exists(),
        "{} is missing: run `cargo build` first",
        built.display()
    );
    built
}

/// A command of the program, like `fused(["status", "--json"])`, run to its end.
pub fn fused<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Finished {
    run(&mut fused_command(&[], arguments), COMMAND_LIMIT)
}

/// As [`fused`], but it goes on.
pub fn running<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Running {
    Running::start(&mut fused_command(&[], arguments))
}

/// The program with nothing of the caller's own cloud settings, and these variables.
fn fused_command<S: AsRef<OsStr>>(
    environment: &[(String, String)],
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().into_owned();
        if ["AWS_", "GOOGLE_", "AZURE_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    command.envs(environment.iter().cloned()).args(arguments);
    command
}

/// A cache directory that outlives the mounts that use it.
#[derive(Debug, Clone)]
pub struct Cache(Rc<TempDir>);

impl Cache {
    /// A new, empty one.
    #[allow(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        Self(Rc::new(scratch()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// How to mount: say what differs from the defaults, then [`start`](Self::start).
#[derive(Debug, Clone)]
pub struct MountOptions {
    url: String,
    environment: Vec<(String, String)>,
    cache: Option<Cache>,
    options: Vec<String>,
    at: Option<PathBuf>,
}

/// What the program said when it ended instead of mounting.
#[derive(Debug)]
pub struct Failed {
    /// Its exit code.
    pub code: Option<i32>,
    /// All its output.
    pub said: String,
}

impl MountOptions {
    /// Uses this cache directory, instead of one that goes with the mount.
    #[must_use]
    pub fn cache(mut self, cache: &Cache) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// Adds an `-o` option, like `passthrough=off`.
    #[must_use]
    pub fn option(mut self, option: impl Into<String>) -> Self {
        self.options.push(option.into());
        self
    }

    /// Sets a variable of the daemon's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has it reach its bucket by a proxy.
    #[must_use]
    pub fn through(self, proxy: &Proxy) -> Self {
        self.env("AWS_ENDPOINT_URL", &proxy.endpoint())
    }

    /// Mounts there, instead of at a folder that goes with the mount.
    #[must_use]
    pub fn at(mut self, directory: &Path) -> Self {
        self.at = Some(directory.to_owned());
        self
    }

    /// The cache directory; of several the first.
    fn cache_dir(&self) -> PathBuf {
        let named = self.options.iter().rev();
        let named =
            named.filter_map(|option| option.strip_prefix("cache_dir=")?.split(":/").next());
        match named.map(PathBuf::from).next() {
            Some(path) => path,
            None => self
                .cache
                .as_ref()
                .expect("it was mounted")
                .path()
                .to_owned(),
        }
    }

    /// `fused doctor --json` of the cache directory after a mount has ended, with these further arguments;
    /// panics unless the exit code says the same as the report.
    #[track_caller]
    pub fn doctor(&self, arguments: &[&str]) -> Value {
        let mut command = fused_command(&self.environment, ["doctor", "--json"]);
        command.args(arguments).arg(self.cache_dir());
        let said = run(&mut command, COMMAND_LIMIT);
        let report: Value =
            serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
        let is_sound = report["lost"] == 0 && report["wrong"] == 0;
        let code = said.status.and_then(|status| status.code());
        assert_eq!(code, Some(i32::from(!is_sound)), "{said}");
        report
    }

    /// Panics unless the doctor finds nothing lost and nothing wrong.
    #[track_caller]
    pub fn is_sound(&self, arguments: &[&str]) {
        let report = self.doctor(arguments);
        assert!(report["lost"] == 0 && report["wrong"] == 0, "{report:#}");
    }

    /// Mounts; panics with the daemon's log when that fails.
    #[track_caller]
    pub fn start(self) -> Mount {
        self.try_start()
            .unwrap_or_else(|failed| panic!("no mount: {failed:?}"))
    }

    /// Mounts, or tells why not.
    #[track_caller]
    pub fn try_start(mut self) -> Result<Mount, Failed> {
        let home = scratch();
        let cache = self.cache.get_or_insert_with(Cache::new).clone();
        let at = self.at.clone().unwrap_or_else(|| home.path().join("mnt"));
        fs::create_dir_all(home.path().join("mnt")).expect("a mount point");
        let log = home.path().join("log");
        // An option of the test's own may say another cache directory.
        let mut options = self.options.clone();
        if !options
            .iter()
            .any(|option| option.starts_with("cache_dir="))
        {
            options.push(format!("cache_dir={}", cache.path().display()));
        }
        let mut command = fused_command(&self.environment, ["mount", "-f", &self.url]);
        command.arg(&at).arg("-o").arg(options.join(","));
        let before = mount_id(&at);
        // The number of a dead mount that is taken away is given to the next one.
        let dead = nix::sys::statfs::statfs(&at).is_err();
        let mut daemon = Guarded::spawn(&mut command, &log).expect("the fused binary");
        let mounts = fs::File::open("/proc/self/mountinfo").expect("mountinfo");
        let began = Instant::now();
        loop {
            if let Some(status) = daemon.ended() {
                let said = fs::read_to_string(&log).unwrap_or_default();
                if mount_id(&at) != before {
                    // It was killed after it had mounted.
                    let _ = umount2(&at, MntFlags::MNT_DETACH);
                }
                return Err(Failed {
                    code: status.code(),
                    said,
                });
            }
            let now = mount_id(&at);
            if now.is_some() && (now != before || dead) && nix::sys::statfs::statfs(&at).is_ok() {
                return Ok(Mount {
                    spec: self,
                    at,
                    log,
                    daemon,
                    home: Some(home),
                });
            }
            if began.elapsed() > MOUNT_LIMIT {
                let said = fs::read_to_string(&log).unwrap_or_default();
                panic!("not mounted after {MOUNT_LIMIT:?}; its log:\n{said}");
            }
            // The kernel tells of a changed mount table; the daemon's end has to be asked for.
            let mut changed = [PollFd::new(mounts.as_fd(), PollFlags::POLLPRI)];
            poll(&mut changed, PollTimeout::from(50u8)).expect("mountinfo");
        }
    }
}

/// The number of the topmost FUSE mount there; none is ever like another.
fn mount_id(at: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let at = at.to_str().expect("a plain path");
    let mut here = table
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some(at));
    here.rfind(|line| line.contains(" - fuse"))
        .and_then(|line| line.split(' ').next())
        .map(str::to_owned)
}

/// A mounted store; unmounted when the guard goes.
#[derive(Debug)]
pub struct Mount {
    spec: MountOptions,
    at: PathBuf,
    log: PathBuf,
    daemon: Guarded,
    home: Option<TempDir>,
}

impl Mount {
    /// A store to be mounted with a new cache directory.
    pub fn of(store: &Store) -> MountOptions {
        Self::of_url(store.url(), store.environment())
    }

    /// A URL to be mounted, with the environment that it needs.
    pub fn of_url(url: impl Into<String>, environment: Vec<(String, String)>) -> MountOptions {
        MountOptions {
            url: url.into(),
            environment,
            cache: None,
            options: vec![],
            at: None,
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// A path on it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.at.join(name)
    }

    /// The cache directory.
    pub fn cache(&self) -> &Cache {
        self.spec.cache.as_ref().expect("set when it was mounted")
    }

    /// The daemon.
    pub fn daemon(&mut self) -> &mut Guarded {
        &mut self.daemon
    }

    /// What the daemon has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `fused sync` of the whole mount; panics unless all of it is in the store then.
    #[track_caller]
    pub fn sync(&self) {
        fused([
            OsStr::new("sync"),
            OsStr::new("--timeout"),
            OsStr::new("120"),
            self.at.as_os_str(),
        ])
        .success();
    }

    /// `fused status --json` of this mount.
    #[track_caller]
    pub fn status(&self) -> Value {
        let said = fused([
            OsStr::new("status"),
            OsStr::new("--json"),
            self.at.as_os_str(),
        ])
        .success();
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"))
    }

    /// An extended attribute as text.
    #[track_caller]
    pub fn attribute(&self, path: impl AsRef<Path>, name: &str) -> String {
        let mut command = Command::new("getfattr");
        command
            .args(["--absolute-names", "--only-values", "-n", name])
            .arg(self.join(path));
        run(&mut command, COMMAND_LIMIT).success()
    }

    /// `fused umount`; waits until the daemon has ended.
    #[track_caller]
    pub fn unmount(mut self) -> MountOptions {
        fused([OsStr::new("umount"), self.at.as_os_str()]).success();
        self.wait_for_end();
        self.spec.clone()
    }

    /// Sends the daemon a signal and waits until it has ended.
    #[track_caller]
    pub fn end_by(mut self, signal: Signal) -> MountOptions {
        self.daemon.signal(signal);
        self.wait_for_end();
        self.spec.clone()
    }

    #[track_caller]
    fn wait_for_end(&mut self) {
        let began = Instant::now();
        while self.daemon.ended().is_none() {
            assert!(
                began.elapsed() < END_LIMIT,
                "the daemon goes on; its log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the daemon as a crash would; what it takes to mount the same again is returned.
    pub fn crash(mut self) -> MountOptions {
        self.daemon.kill();
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
        self.spec.clone()
    }

    /// Kills the daemon as a crash would and leaves the dead mount in place.
    pub fn abandon(mut self) -> (MountOptions, PathBuf, TempDir) {
        self.daemon.kill();
        let home = self.home.take().expect("taken once");
        (self.spec.clone(), self.at.clone(), home)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- log of the daemon at {}\n{}",
                self.at.display(),
                self.log()
            );
        }
        let Some(home) = self.home.take() else { return };
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
        self.daemon.kill();
        if mount_id(&self.at).is_some() {
            // Removing the folder would remove the content of the store.
            std::mem::forget(home);
        }
    }
}
