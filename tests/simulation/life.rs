//! The lives of a daemon over the same remains: start and recovery, work, death; and at last a peaceful end, after
//! which the bucket must be the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use extents::{ExtentStore, IoMode};
use flusher::Rooms;
use fused::daemon::OpenRooms;
use fused::options::MountOptions;
use fused::vfs::{NoKernel, Vfs};
use journal::{Grade, Identity, Journal, NodeId};
use parking_lot::Mutex;
use remote::{Backend, Remote, StoreUrl};
use tokio::task::JoinSet;

use crate::bucket::Bucket;
use crate::disk;
use crate::kv;
use crate::machine;
use crate::plan::{Plan, Sort};
use crate::program::Program;
use crate::store::{LATE_MAX, PATIENCE, Way};
use crate::tree::{Kind, Node};
use crate::world::{self, CHECKING, Weather, World};

const URL: &str = "s3://bucket/";
const NODE: NodeId = NodeId(7);
/// Files above this go in parts of [`PART_BYTES`]: the smallest that end where the digests of blocks do.
const WHOLE_BYTES_MAX: u64 = 40_000;
const PART_BYTES: u64 = 32 << 10;
/// An upload that nobody remembers is found after this.
const STRAY_AGE: Duration = Duration::from_secs(60);
/// Points after which a daemon dies at the latest.
const DEATH_MAX: u64 = 6000;
/// Ends of a life at which the power goes, in thousandths.
const CUTS: u64 = 700;
/// Nobody mounts for so long.
const AWAY_MS_MAX: u64 = 100_000;
/// Once nothing goes wrong any more everything is in the store after this; what may come late included.
const PEACE: Duration = Duration::from_secs(2 * 3600);

/// What is left when a daemon dies.
pub struct Remains {
    world: Arc<World>,
    plan: Plan,
    directory: PathBuf,
    journal: Arc<kv::Disk>,
    bucket: Arc<Mutex<Bucket>>,
    programs: Vec<Arc<Program>>,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Death,
    Peace,
}

/// A daemon at work.
struct Daemon {
    rooms: OpenRooms,
    vfs: Vfs,
}

impl Remains {
    /// A new world, with nothing in it.
    pub fn new(world: &Arc<World>, directory: &Path, sort: Sort) -> Self {
        let plan = world.dice(|dice| Plan::draw(dice, sort));
        world.say(|| format!("{plan:?}"));
        let bucket = Arc::new(Mutex::new(Bucket::new(world)));
        let journal = kv::Disk::new(plan.journal, world);
        let programs = (0..plan.programs)
            .map(|number| Program::new(world, (&bucket, &journal), number, &plan))
            .collect();
        Self {
            world: Arc::clone(world),
            directory: directory.to_owned(),
            journal,
            bucket,
            programs,
            plan,
        }
    }

    /// All lives, one after the other.
    pub fn live(&self) {
        for life in 1..=self.plan.lives {
            let is_last = life == self.plan.lives;
            let dies = (!is_last && self.world.dice(|dice| dice.chance(850)))
                .then(|| self.world.dice(|dice| dice.any_magnitude(DEATH_MAX)));
            let death = self.world.dies_after(dies);
            self.world.say(|| format!("life {life} begins"));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build();
            let runtime = runtime.expect("a runtime");
            let end = runtime.block_on(async {
                machine::life_begins();
                let end = tokio::select! {
                    biased;
                    () = death.notified() => End::Death,
                    () = self.work(is_last) => End::Peace,
                };
                machine::life_ends();
                end
            });
            self.world.say(|| format!("life {life} ends: {end:?}"));
            drop(runtime);
            self.programs.iter().for_each(|program| program.bereaved());
            if self.plan.cuts && !is_last && self.world.dice(|dice| dice.chance(CUTS)) {
                self.cut();
            }
            let away = self.world.dice(|dice| dice.any_magnitude(AWAY_MS_MAX));
            machine::pass(Duration::from_millis(away));
        }
    }

    /// The last of the journal goes, and in some worlds what is in extent files and was not synced. In the others that
    /// is all there: then the journal is what lags behind.
    fn cut(&self) {
        let version = self.journal.cut();
        let extents = self.directory.join("extents");
        if self.plan.tears && extents.is_dir() {
            let lost = self.world.dice(|dice| disk::lose(&extents, dice));
            for line in lost.expect("files of ours") {
                self.world.say(|| line);
            }
        }
        for program in &self.programs {
            program.cut(version);
        }
        let state = self.directory.join("extents/state");
        // A daemon may die before it has one.
        if let Ok(text) = std::fs::read_to_string(&state) {
            let lines = text.lines().map(|line| match line.starts_with("boot ") {
                true => "boot another\n".to_owned(),
                false => format!("{line}\n"),
            });
            std::fs::write(&state, lines.collect::<String>()).expect("a writable file");
        }
    }

    async fn start(&self) -> Daemon {
        let extents = ExtentStore::open(
            &self.directory.join("extents"),
            extents::Options {
                io: IoMode::Tasks,
                durable_after_boot: false,
            },
        );
        let url = StoreUrl::parse(URL).expect("a URL");
        let way = Arc::new(Way::new(&self.world, &self.bucket, &self.plan));
        let store = Arc::new(kv::Store(Arc::clone(&self.journal)));
        let identity = Identity {
            store_url: url.to_string(),
            node: NODE,
        };
        let rooms = OpenRooms {
            rooms: Rooms {
                journal: Journal::open(store, identity).await.expect("a journal"),
                extents: extents.expect("extents"),
                capabilities: way.capabilities(),
                remote: Remote::over(&url, way),
            },
            node: NODE,
        };
        let options = self.options();
        let aside = self.directory.join("torn");
        let vfs = rooms.assemble(&options, Arc::new(NoKernel), aside.clone(), |config| {
            config.single_put_bytes_max = WHOLE_BYTES_MAX;
            config.part_bytes_min = PART_BYTES;
            config.late_max = LATE_MAX + PATIENCE;
            config.work_items_max = self.plan.work_items;
        });
        rooms.recover(&vfs, &aside).await.expect("recovery");
        Daemon { rooms, vfs }
    }

    fn options(&self) -> MountOptions {
        let plan = &self.plan;
        let lists = [
            format!("cache_dir={}", self.directory.display()),
            format!("settle={}ms", plan.settle_ms),
            format!("revalidate={}s", plan.revalidate_s),
            format!("stale_uploads={}s", STRAY_AGE.as_secs()),
            format!(
                "passthrough={}",
                if plan.passthrough { "auto" } else { "off" }
            ),
            format!(
                "publish_order={}",
                if plan.strict { "strict" } else { "directory" }
            ),
            plan.cache_bytes
                .map_or("cache_size=90%".to_owned(), |bytes| {
                    format!("cache_size={bytes}")
                }),
        ];
        MountOptions::from_lists(URL, Path::new("/mnt"), &lists).expect("options")
    }

    async fn work(&self, is_last: bool) {
        self.world.set_weather(self.plan.weather);
        let daemon = self.start().await;
        self.check(&daemon.vfs).await;
        let mut programs = JoinSet::new();
        for program in &self.programs {
            let program = Arc::clone(program);
            programs.spawn(program.work(daemon.vfs.clone(), self.plan.steps));
        }
        while programs.join_next().await.is_some() {}
        if is_last {
            self.end_in_peace(&daemon).await;
        }
        daemon.rooms.leave_safe(&daemon.vfs).await.expect("an end");
        if is_last {
            self.audit(&daemon.rooms.rooms.journal).await;
        }
    }

    async fn check(&self, vfs: &Vfs) {
        for program in &self.programs {
            CHECKING.scope((), program.check(vfs)).await;
        }
        self.world.say(|| "everything is as it was left".to_owned());
    }

    /// From now on nothing goes wrong.
    async fn end_in_peace(&self, daemon: &Daemon) {
        self.world.set_weather(Weather::default());
        self.world.say(|| "peace".to_owned());
        let began = machine::age();
        loop {
            let left = self.left(&daemon.rooms.rooms.journal).await;
            if left.is_empty() && machine::age() > began + LATE_MAX {
                break;
            }
            assert!(
                machine::age() < began + PEACE,
                "after {PEACE:?} of peace there are still {left:?}; {:?}",
                daemon.vfs.flusher().status()
            );
            daemon.vfs.flusher().flush_all();
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        let status = daemon.vfs.flusher().status();
        assert_eq!(status.conflicts, 0, "nobody else was there: {status:?}");
        self.check_bucket();
        self.check(&daemon.vfs).await;
    }

    /// What is not done yet.
    async fn left(&self, journal: &Journal) -> Vec<String> {
        let mut left = Vec::new();
        let unsynced = journal.unsynced(None, 1000).await.expect("rows");
        for row in unsynced {
            let path = journal.path(row.ino).await.expect("rows");
            let path = path.map(|path| String::from_utf8_lossy(&path.join(&b'/')).into_owned());
            let wanted = journal.wanted(row.ino).await.expect("rows");
            left.push(format!("{row:?} at {path:?}: {wanted:?}"));
        }
        let garbage = journal.garbage(None, 1000).await.expect("rows");
        left.extend(garbage.iter().map(|row| format!("garbage {row:?}")));
        let asked = journal.asked_uploads(None, 1000).await.expect("rows");
        left.extend(asked.iter().map(|row| format!("asked for {row:?}")));
        let uploads = journal.uploads(1000).await.expect("rows");
        left.extend(uploads.iter().map(|row| format!("upload {row:?}")));
        let sent = journal.sent(None, 1000).await.expect("rows");
        left.extend(sent.iter().map(|row| format!("sent {row:?}")));
        let mut bucket = self.bucket.lock();
        bucket.catch_up();
        if bucket.expects_more() {
            left.push("late requests".to_owned());
        }
        left
    }

    /// Panics unless the bucket is exactly the tree.
    fn check_bucket(&self) {
        let bucket = self.bucket.lock();
        let mut wanted = BTreeSet::new();
        for program in &self.programs {
            let tree = program.tree();
            let mut files: BTreeMap<Node, Vec<&String>> = BTreeMap::new();
            for (path, node, thing) in tree.all() {
                match &thing.kind {
                    Kind::Directory => {
                        wanted.insert(format!("{path}/"));
                    }
                    Kind::File(_) => files.entry(node).or_default().push(path),
                    Kind::Symlink(_) => {}
                }
            }
            for (node, names) in files {
                // Hard links are one object, under one of the names.
                let at = names
                    .iter()
                    .find(|name| bucket.objects.contains_key(**name));
                let at = at.unwrap_or_else(|| panic!("{names:?} is not in the bucket"));
                wanted.insert((*at).clone());
                let (object, thing) = (&bucket.objects[*at], tree.thing(node).expect("it"));
                let bytes = thing.bytes().expect("a file");
                assert!(
                    object.bytes == bytes[..],
                    "object {at} is {}, and the file is {}",
                    world::outline(&object.bytes),
                    world::outline(bytes)
                );
                assert_eq!(object.attrs.mode, Some(thing.mode), "mode of object {at}");
            }
        }
        let found: BTreeSet<String> = bucket.objects.keys().cloned().collect();
        let stray: Vec<_> = found.difference(&wanted).collect();
        assert!(stray.is_empty(), "nobody wants these objects: {stray:?}");
        let missing: Vec<_> = wanted.difference(&found).collect();
        assert!(
            missing.is_empty(),
            "these are not in the bucket: {missing:?}"
        );
        assert!(
            bucket.uploads.is_empty(),
            "uploads are left: {:?}",
            bucket.uploads.keys()
        );
    }

    async fn audit(&self, journal: &Journal) {
        let audit = journal.audit().await.expect("an audit");
        let mut damages = audit.damages;
        damages.retain(|damage| damage.grade != Grade::Leftover);
        assert!(
            damages.is_empty(),
            "the journal contradicts itself: {damages:?}"
        );
    }
}
