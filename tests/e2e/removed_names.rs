//! A name that was removed or moved away here does not come back, whatever a listing of the store says.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Fault, Mount, Proxy, Store, wait_until};

/// More keys than one page of a listing has.
const MANY: usize = 1001;
const LIMIT: Duration = Duration::from_secs(20);

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A mount behind a proxy that looks at the store whenever it is asked something.
fn curious(store: &Store) -> (Proxy, Mount) {
    let proxy = store.proxy();
    let mount = Mount::of(store)
        .through(&proxy)
        .option("revalidate=0")
        .option("settle=10ms")
        .start();
    (proxy, mount)
}

/// SeaweedFS lists a folder for a minute and more after the last object in it went, if the folder's own marker
/// went before.
#[test]
fn a_removed_directory_stays_away_where_the_store_still_lists_its_folder() {
    harness::require_mounts!();
    let store = Store::seaweedfs();
    let (proxy, mount) = curious(&store);
    fs::create_dir(mount.join("removed")).unwrap();
    fs::write(mount.join("removed/f"), "bytes").unwrap();
    mount.sync();
    proxy.hold(|line| line.starts_with("PUT") && line.contains("/elsewhere"));
    fs::rename(mount.join("removed/f"), mount.join("elsewhere")).unwrap();
    fs::remove_dir(mount.join("removed")).unwrap();
    let is_removal = |line: &str| line.starts_with("DELETE") && line.contains("/removed/");
    wait_until("the marker goes", LIMIT, || proxy.count(is_removal) > 0);
    proxy.release();
    mount.sync();
    assert_eq!(store.keys(), ["elsewhere"]);
    let is_right = |mount: &Mount| {
        assert!(!mount.join("removed").exists());
        assert_eq!(names(mount.path()), ["elsewhere"]);
    };
    is_right(&mount);
    let mount = mount.crash().start();
    is_right(&mount);
    // Somebody else's directories are there at once, also one of that name.
    store.put("removed/theirs", "theirs");
    store.put("theirs/f", "theirs");
    assert_eq!(names(mount.path()), ["elsewhere", "removed", "theirs"]);
    assert_eq!(names(&mount.join("removed")), ["theirs"]);
}

#[test]
fn an_answer_about_one_name_that_comes_after_its_object_went_does_not_bring_it_back() {
    harness::require_mounts!();
    let store = Store::moto();
    for number in 0..MANY {
        store.put(&format!("many/{number:04}"), "");
    }
    let (proxy, mount) = curious(&store);
    let file = mount.join("many/file");
    fs::write(&file, "bytes").unwrap();
    mount.sync();
    proxy.hold(|line| line.starts_with("DELETE"));
    fs::remove_file(&file).unwrap();
    proxy.wait_for_held();
    let is_look = |line: &str| line.starts_with("HEAD") && line.contains("many/file");
    let late = Fault::LateAnswer(Duration::from_secs(3));
    proxy.judge(move |line| is_look(line).then_some(late));
    proxy.forget();
    let looking = thread::spawn(move || (file.exists(), Instant::now()));
    wait_until("the store is asked", LIMIT, || proxy.count(is_look) > 0);
    thread::sleep(Duration::from_millis(300));
    proxy.release();
    mount.sync();
    let gone = Instant::now();
    let (exists, answered) = looking.join().unwrap();
    assert!(answered > gone, "the answer came first");
    assert!(!exists, "it came back");
    proxy.mend();
    assert!(!mount.join("many/file").exists());
    assert_eq!(names(&mount.join("many")).len(), MANY);
}
