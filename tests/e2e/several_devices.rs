//! Several cache directories, one for each device: files are spread by room, and a device that is not there is
//! noticed before anybody takes its files for holes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use harness::{Device, Mount, MountOptions, Random, Store, fused, wait_until};

const MIB: usize = 1 << 20;

/// Two devices, and a mount on both.
struct Stand {
    store: Store,
    first: Device,
    second: Device,
}

impl Stand {
    fn new(bytes: [u64; 2]) -> Self {
        let [first, second] = bytes.map(Device::ext4);
        Self {
            store: Store::folder(),
            first,
            second,
        }
    }

    fn both(&self) -> MountOptions {
        let (first, second) = (cache(&self.first), cache(&self.second));
        Mount::of(&self.store).option(format!("cache_dir={first}:{second}"))
    }

    fn first_only(&self) -> MountOptions {
        Mount::of(&self.store).option(format!("cache_dir={}", cache(&self.first)))
    }
}

fn cache(device: &Device) -> String {
    device.path().join("cache").display().to_string()
}

/// The extent files of a device, without those that are made ahead.
fn files_on(device: &Device) -> usize {
    let shards = fs::read_dir(device.path().join("cache/extents")).unwrap();
    let files = shards
        .flatten()
        .filter_map(|shard| fs::read_dir(shard.path()).ok());
    let files = files.flatten().flatten();
    files
        .filter(|file| file.metadata().is_ok_and(|metadata| metadata.len() > 0))
        .count()
}

fn content(number: usize) -> Vec<u8> {
    Random::new(number as u64).bytes(MIB)
}

#[track_caller]
fn all_there(root: &Path, count: usize) {
    for number in 0..count {
        let bytes = fs::read(root.join(format!("f{number}"))).unwrap();
        assert!(bytes == content(number), "f{number}");
    }
}

fn write_all(root: &Path, count: usize) {
    for number in 0..count {
        fs::write(root.join(format!("f{number}")), content(number)).unwrap();
    }
}

#[track_caller]
fn refused(options: MountOptions, words: &[&str]) {
    let failed = options.try_start().expect_err("this can't be mounted");
    assert_eq!(failed.code, Some(1), "{}", failed.said);
    for word in words {
        assert!(failed.said.contains(word), "no {word:?} in {}", failed.said);
    }
}

#[test]
fn files_are_spread_and_survive_a_kill_wherever_they_are() {
    harness::require_mounts!();
    let stand = Stand::new([256 << 20, 256 << 20]);
    let mount = stand.both().option("settle=5m").start();
    write_all(mount.path(), 40);
    let status = mount.status();
    assert_eq!(
        status["further_cache_dirs"][0],
        cache(&stand.second).as_str()
    );
    let (first, second) = (files_on(&stand.first), files_on(&stand.second));
    assert!(first >= 10 && second >= 10, "{first} and {second}");
    let mount = mount.crash().start();
    all_there(mount.path(), 40);
    // Renamed, rewritten, removed: wherever they are.
    for number in 0..40 {
        let at = |name: &str| mount.join(format!("{name}{number}"));
        fs::rename(at("f"), at("g")).unwrap();
        match number % 3 {
            0 => fs::remove_file(at("g")).unwrap(),
            1 => fs::write(at("g"), "rewritten").unwrap(),
            _ => {}
        }
    }
    mount.sync();
    let mount = mount.unmount().start();
    let kept = (0..40).filter(|number| number % 3 != 0);
    for number in kept {
        let expected = match number % 3 {
            1 => b"rewritten".to_vec(),
            _ => content(number),
        };
        assert!(fs::read(mount.join(format!("g{number}"))).unwrap() == expected);
        assert!(stand.store.get(&format!("g{number}")) == Some(expected));
    }
    mount.unmount().is_sound(&[]);
}

#[test]
fn a_full_device_sends_new_files_to_the_other_one_and_makes_room_on_its_own() {
    harness::require_mounts!();
    let stand = Stand::new([640 << 20, 96 << 20]);
    let mount = stand.both().option("cache_size=100%").start();
    // Three times what the small one holds, by its share of the room.
    for number in 0..400 {
        fs::write(mount.join(format!("f{number}")), content(number)).unwrap();
    }
    mount.sync();
    // Somebody else takes nearly all of the small one: what is clean goes from there, and only there.
    let (of_first, of_second) = (files_on(&stand.first), files_on(&stand.second));
    assert!(of_second > 15, "{of_second}");
    let filler = stand.second.path().join("filler");
    let free = nix::sys::statvfs::statvfs(stand.second.path()).unwrap();
    let free = free.blocks_available() * free.fragment_size();
    fs::write(&filler, vec![1; free as usize - 2 * MIB]).unwrap();
    let gives_up = || files_on(&stand.second) < of_second - 2;
    wait_until("some files there go", Duration::from_secs(20), gives_up);
    assert_eq!(files_on(&stand.first), of_first, "no file need go here");
    for number in 400..420 {
        fs::write(mount.join(format!("f{number}")), content(number)).unwrap();
    }
    let (on_first, on_second) = (files_on(&stand.first), files_on(&stand.second));
    assert!(
        on_first >= of_first + 15,
        "of 20 new files too few went where there is room: {of_first} and {of_second} before, {on_first} and \
         {on_second} now"
    );
    all_there(mount.path(), 420);
    mount.sync();
    mount.unmount().is_sound(&[]);
}

#[test]
fn a_device_that_is_not_there_is_refused_and_an_empty_one_may_go() {
    harness::require_mounts!();
    let stand = Stand::new([256 << 20, 256 << 20]);
    let mount = stand.both().start();
    write_all(mount.path(), 20);
    mount.unmount();
    let second = cache(&stand.second);
    refused(stand.first_only(), &[&second, "holds files", "cache_dir"]);
    // The empty folder below its disk.
    let elsewhere = stand.second.path().join("cache");
    let aside = stand.second.path().join("aside");
    fs::rename(&elsewhere, &aside).unwrap();
    refused(stand.first_only(), &[&second, "is not there"]);
    refused(stand.both(), &[&second, "disk mounted"]);
    fs::remove_dir_all(&elsewhere).unwrap();
    fs::rename(&aside, &elsewhere).unwrap();
    // A further directory is no first one, a first one no further one, and both are no others'.
    let swapped = format!("cache_dir={second}:{}", cache(&stand.first));
    refused(
        Mount::of(&stand.store).option(swapped),
        &[&second, "further"],
    );
    let other = Store::folder();
    let home = harness::Cache::new();
    let theirs = format!("cache_dir={}:{second}", home.path().display());
    refused(
        Mount::of(&other).option(theirs),
        &[&second, "another mount"],
    );

    let mount = stand.both().start();
    all_there(mount.path(), 20);
    mount.sync();
    fused(["free".as_ref(), mount.path().as_os_str()]).success();
    mount.unmount();
    let mount = stand.first_only().start();
    all_there(mount.path(), 20);
    mount.unmount();
    // And come back.
    let mount = stand.both().start();
    write_all(mount.path(), 20);
    assert!(files_on(&stand.second) > 3);
    mount.unmount().is_sound(&[]);
}

#[test]
fn what_was_uploaded_outlives_a_lost_device() {
    harness::require_mounts!();
    let mut stand = Stand::new([256 << 20, 256 << 20]);
    let mount = stand.both().start();
    write_all(mount.path(), 20);
    mount.sync();
    let mount = mount.unmount().option("settle=5m").start();
    for number in 100..120 {
        fs::write(mount.join(format!("late{number}")), content(number)).unwrap();
    }
    let options = mount.crash();
    let lost = cache(&stand.second);
    let gone = std::mem::replace(&mut stand.second, Device::tmpfs(1 << 20));
    drop(gone);
    refused(options.clone(), &["cache directory"]);
    let options = stand.first_only().option(format!("lost_cache_dir={lost}"));
    let mount = options.option("settle=5m").start();
    all_there(mount.path(), 20);
    let mut kept = 0;
    for number in 100..120 {
        match fs::read(mount.join(format!("late{number}"))) {
            Ok(bytes) => {
                assert!(bytes == content(number), "late{number} is not as it was");
                kept += 1;
            }
            Err(error) => assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EIO as i32)),
        }
    }
    assert!(
        (3..=17).contains(&kept),
        "{kept} of 20 were on the other device"
    );
    // Without the word, too: it is no longer known.
    drop(mount.crash());
    let mount = stand.first_only().start();
    all_there(mount.path(), 20);
}
