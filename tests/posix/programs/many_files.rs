//! Many small files, and all of them gone again.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use harness::{Way, tool};

harness::every_way!(find_deletes_many_files);

fn find_deletes_many_files(way: &Way) {
    make_and_delete(way, 2000);
}

mod long {
    use harness::Way;

    use super::make_and_delete;

    const FILES: usize = 50_000;

    #[test]
    #[ignore = "takes minutes"]
    fn find_deletes_fifty_thousand_files() {
        harness::require_mounts!();
        make_and_delete(&Way::folder("passthrough=auto"), FILES);
        make_and_delete(&Way::bucket("passthrough=off"), FILES);
    }
}

/// Half of the files in one large directory, the others spread over small ones.
fn make_and_delete(way: &Way, count: usize) {
    let mount = way.mount();
    let base = mount.join("many");
    for number in 0..count {
        let directory = match number % 2 {
            0 => base.join("large"),
            _ => base.join(format!("small/{}", number % 199)),
        };
        if number < 400 {
            fs::create_dir_all(&directory).unwrap();
        }
        File::create(directory.join(format!("file-{number}"))).unwrap();
    }
    assert_eq!(found(&base, &["-type", "f"]), count);
    found(&base.join("large"), &["-delete"]);
    assert_eq!(found(&base, &["-type", "f"]), count / 2);
    found(&base, &["-delete"]);
    assert_eq!(
        fs::read_dir(mount.path()).unwrap().count(),
        0,
        "nothing is left"
    );
    mount.sync();
    assert_eq!(way.store.keys(), [""; 0], "nor in the store");
}

/// How many lines find prints.
fn found(base: &Path, words: &[&str]) -> usize {
    let find = tool("find").expect("find is everywhere");
    let printed = find
        .arg(base)
        .args(words)
        .run_within(Duration::from_secs(1200))
        .success();
    printed.lines().count()
}
