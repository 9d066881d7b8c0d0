//! Both folders, the processes that work in them, and the playing of a sequence.
//!
//! One mount serves many sequences, each in a folder of its own. What a failed sequence may have
//! broken, hung or killed is replaced before the next: that is how shrinking goes on after a crash.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::{Mount, MountOptions, scratch, wait_until};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::compare::{Windows, now};
use crate::operation::{Event, Identity, Operation, PROCESSES, Step};
use crate::sabotage::Sabotage;
use crate::worker::{Answer, Request, Worker};

/// Longer than a tick of any file system's clock, see `compare`.
const PAUSE: Duration = Duration::from_millis(20);
/// Until a mounted daemon takes commands.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder of the local file system, seen as one that is mounted as the mount is.
struct Plain {
    view: PathBuf,
    _home: TempDir,
}

impl Plain {
    fn new() -> Self {
        let home = scratch();
        let view = home.path().join("view");
        fs::create_dir(&view).expect("a folder");
        let (none, flags) = (None::<&str>, MsFlags::MS_BIND);
        mount(Some(&view), &view, none, flags, none).expect("a bind mount");
        // `noatime` is the mount's manner (see `compare`), the other two are its defaults.
        let manner = MsFlags::MS_NOATIME | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(
            none,
            &view,
            none,
            flags | MsFlags::MS_REMOUNT | manner,
            none,
        )
        .expect("a noatime remount");
        Self { view, _home: home }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = umount2(&self.view, MntFlags::MNT_DETACH);
    }
}

/// What is compared with a plain folder.
enum Left {
    /// Another plain folder: a test of the test.
    Plain(Plain),
    /// The mount; none while it is being mounted again, or when that failed.
    Mounted {
        options: Box<MountOptions>,
        mount: Option<Mount>,
    },
}

/// Mounts, and waits for the daemon to take commands: the kernel lists the mount a moment earlier.
fn usable(options: MountOptions) -> Mount {
    let mount = options.start();
    wait_until("the daemon takes commands", PATIENCE, || {
        let status = harness::fused(["status".as_ref(), mount.path().as_os_str()]).status;
        status.is_some_and(|status| status.success())
    });
    mount
}

/// What was different.
#[derive(Debug, Clone)]
pub struct Failure {
    /// How many steps were played, with the one that failed.
    pub steps_played: usize,
    /// What was found.
    pub why: String,
}

impl Failure {
    /// Whether both seem to be the same fault: they begin alike, but for numbers.
    pub fn like(&self, other: &Self) -> bool {
        let gist = |failure: &Self| {
            let what = failure.why.split_once("  gave ");
            let what = what.map_or(failure.why.as_str(), |(_, what)| what);
            let letters = what.chars().filter(|c| !c.is_ascii_digit());
            letters.take(30).collect::<String>()
        };
        gist(self) == gist(other)
    }
}

/// Both folders and the processes.
pub struct World {
    left: Left,
    right: Plain,
    workers: Vec<Worker>,
    windows: Windows,
    played: u32,
    can_free: bool,
    /// Wait after each step, so that their times can be told apart.
    pub slowly: bool,
    /// How many operations were compared.
    pub operations: u64,
}

impl World {
    /// Two plain folders.
    pub fn plain() -> Self {
        Self::new(Left::Plain(Plain::new()))
    }

    /// A mount and a plain folder.
    pub fn mounted(options: MountOptions) -> Self {
        Self::new(Left::Mounted {
            options: Box::new(options),
            mount: None,
        })
    }

    fn new(left: Left) -> Self {
        let help = harness::fused(["--help"]);
        Self {
            left,
            right: Plain::new(),
            workers: Vec::new(),
            windows: Windows::default(),
            played: 0,
            can_free: help.stdout.contains("\n  free"),
            slowly: false,
            operations: 0,
        }
    }

    /// Plays a sequence in new, empty folders; tells the first difference.
    pub fn play(&mut self, steps: &[Step], sabotage: Option<Sabotage>) -> Result<(), Failure> {
        self.repair();
        self.played += 1;
        let mut steps_played = 0;
        let played = self.play_in_folders(steps, sabotage, &mut steps_played);
        if played.is_err() && self.forget().is_err() {
            // One hangs or is dead. What it holds open would keep the mount busy.
            self.workers.clear();
        }
        played.map_err(|why| Failure { steps_played, why })
    }

    fn play_in_folders(
        &mut self,
        steps: &[Step],
        sabotage: Option<Sabotage>,
        steps_played: &mut usize,
    ) -> Result<(), String> {
        self.windows = Windows::default();
        let began = now();
        for folder in [self.left_folder(), self.right_folder()] {
            let inner = folder.join("r");
            fs::create_dir_all(&inner)
                .and_then(|()| fs::set_permissions(&inner, PermissionsExt::from_mode(0o777)))
                .map_err(|error| format!("{}: {error}", inner.display()))?;
        }
        self.windows.add(began);
        self.begin()?;
        for (number, step) in steps.iter().enumerate() {
            *steps_played += 1;
            self.step(step, sabotage)
                .map_err(|why| format!("step {}: {step:?}\n  gave {why}", number + 1))?;
        }
        self.compare_trees("at the end")?;
        self.forget()?;
        self.begin()?;
        self.compare_trees("with everything closed")?;
        if self.played.is_multiple_of(4) {
            self.event(Event::Free)?;
            self.compare_trees("with everything in the store")?;
        }
        self.forget()?;
        for folder in [self.left_folder(), self.right_folder()] {
            fs::remove_dir_all(&folder).map_err(|error| format!("removing it all: {error}"))?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step, sabotage: Option<Sabotage>) -> Result<(), String> {
        match step {
            Step::World(event) => self.event(*event),
            Step::Do(process, who, what) => self.operation(*process, *who, what, sabotage),
        }
    }

    fn operation(
        &mut self,
        process: u8,
        who: Identity,
        what: &Operation,
        sabotage: Option<Sabotage>,
    ) -> Result<(), String> {
        self.operations += 1;
        let began = now();
        let request = Request::Do(who, what.clone(), sabotage);
        let answer = self.workers[usize::from(process)].ask(&request)?;
        self.windows.add(began);
        if self.slowly {
            std::thread::sleep(PAUSE);
        }
        let Answer::Both(left, right, note) = answer else {
            return Err(format!("{answer:?}"));
        };
        match self.windows.outcomes(&left, &right) {
            Some(difference) => Err(format!("{difference} {}", note.unwrap_or_default())),
            None => Ok(()),
        }
    }

    fn event(&mut self, event: Event) -> Result<(), String> {
        if event == Event::Pause {
            std::thread::sleep(PAUSE);
            return Ok(());
        }
        if matches!(self.left, Left::Plain(_)) {
            return Ok(());
        }
        match event {
            Event::Pause => {}
            Event::Sync => self.sync()?,
            Event::Free => {
                self.sync()?;
                if self.can_free {
                    self.command(&["free"])?;
                }
            }
            Event::Remount | Event::Crash => {
                self.forget()?;
                if let Left::Mounted { mount, .. } = &mut self.left {
                    let old = mount.take().expect("mounted before every sequence");
                    let options = match event {
                        Event::Crash => old.crash(),
                        _ => old.unmount(),
                    };
                    *mount = Some(usable(options));
                }
                self.begin()?;
                self.compare_trees("after it was mounted again")?;
            }
        }
        Ok(())
    }

    /// `fused sync`. A directory that has the name of a removed file waits for that file's last close
    /// before it gets there; so, should it last, everything is closed.
    fn sync(&mut self) -> Result<(), String> {
        if self.command(&["sync", "--timeout", "2"]).is_ok() {
            return Ok(());
        }
        self.forget()?;
        self.begin()?;
        self.command(&["sync", "--timeout", "25"])
    }

    /// A command of the program about the folder of the sequence.
    fn command(&self, words: &[&str]) -> Result<(), String> {
        let folder = self.left_folder();
        let folder = folder.to_str().expect("a plain path");
        let finished = harness::fused(words.iter().copied().chain([folder]));
        match finished.status.is_some_and(|status| status.success()) {
            true => Ok(()),
            false => Err(finished.to_string()),
        }
    }

    fn compare_trees(&mut self, when: &str) -> Result<(), String> {
        let answer = self.workers[0]
            .ask(&Request::Tree)
            .map_err(|why| format!("{when}: {why}"))?;
        let Answer::Trees(left, right, notes) = answer else {
            return Err(format!("{answer:?}"));
        };
        match self.windows.trees(&left, &right) {
            Some(difference) => Err(format!("{when}: {difference} {}", notes.join(", "))),
            None => Ok(()),
        }
    }

    fn begin(&mut self) -> Result<(), String> {
        let (left, right) = (self.left_folder().join("r"), self.right_folder().join("r"));
        self.ask_all(|| Request::Begin(left.clone(), right.clone()))
    }

    fn forget(&mut self) -> Result<(), String> {
        self.ask_all(|| Request::Forget)
    }

    fn ask_all(&mut self, request: impl Fn() -> Request) -> Result<(), String> {
        for worker in &mut self.workers {
            worker.ask(&request())?;
        }
        Ok(())
    }

    /// Replaces what a failed sequence left behind: workers, and a mount that does not answer.
    fn repair(&mut self) {
        if !self.workers.is_empty() {
            return;
        }
        if let Left::Mounted { options, mount } = &mut self.left {
            if let Some(old) = mount.take() {
                drop(old.crash());
            }
            *mount = Some(usable(*options.clone()));
        }
        self.workers = (0..PROCESSES).map(|_| Worker::start()).collect();
    }

    fn left_folder(&self) -> PathBuf {
        match &self.left {
            Left::Plain(plain) => plain.view.join(format!("left-{}", self.played)),
            Left::Mounted { mount, .. } => {
                let mount = mount.as_ref().map_or(Path::new("/nowhere"), Mount::path);
                mount.join(format!("sequence-{}", self.played))
            }
        }
    }

    fn right_folder(&self) -> PathBuf {
        self.right.view.join(format!("right-{}", self.played))
    }
}
