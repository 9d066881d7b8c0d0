//! `fused ls`: how much of what is in the cache.

use std::collections::BTreeMap;
use std::fs;

use harness::{Mount, Random, Store, fused};
use serde_json::Value;

const MIB: usize = 1 << 20;

/// The lines of `fused ls --json`, by paths below the mount.
fn ls(mount: &Mount, options: &[&str], path: &str) -> BTreeMap<String, Value> {
    let path = mount.join(path);
    let words = ["ls", "--json"].into_iter().chain(options.iter().copied());
    let said = fused(words.chain([path.to_str().unwrap()])).success();
    let rows = said.lines().map(|line| {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let path = row["path"].as_str().expect("a path").to_owned();
        let below = path.strip_prefix(mount.path().to_str().unwrap());
        (below.expect("a path on the mount").to_owned(), row)
    });
    rows.collect()
}

#[track_caller]
fn is(row: &Value, files: u64, bytes: usize, resident: usize, state: &str) {
    assert_eq!(row["files"], files, "{row:#}");
    assert_eq!(row["bytes"], bytes, "{row:#}");
    assert_eq!(row["resident"], resident, "{row:#}");
    assert_eq!(row["state"], state, "{row:#}");
}

#[test]
fn ls_sums_what_is_below_each_entry_and_tells_what_is_here() {
    harness::require_mounts!();
    let store = Store::folder();
    let mount = Mount::of(&store).start();
    fs::create_dir_all(mount.join("d/sub/deep")).unwrap();
    for (n, name) in ["d/a", "d/sub/b", "d/sub/deep/c"].iter().enumerate() {
        Random::write_file(n as u64, &mount.join(name), MIB + 100);
    }
    fs::write(mount.join("f"), "beside").unwrap();
    mount.sync();
    mount.unmount();

    let mount = Mount::of(&store).option("settle=1m").start();
    let rows = ls(&mount, &[], "");
    assert_eq!(rows.keys().collect::<Vec<_>>(), ["/d", "/f"]);
    is(&rows["/d"], 3, 3 * (MIB + 100), 0, "store");
    is(&rows["/f"], 1, 6, 0, "store");

    let [sub, a] = ["d/sub", "d/a"].map(|path| mount.join(path));
    fused(["load", sub.to_str().unwrap()]).success();
    fused(["pin", "--no-load", a.to_str().unwrap()]).success();
    fs::write(mount.join("d/new"), "not in the store").unwrap();
    let rows = ls(&mount, &[], "d");
    assert_eq!(
        rows.keys().collect::<Vec<_>>(),
        ["/d/a", "/d/new", "/d/sub"]
    );
    is(&rows["/d/a"], 1, MIB + 100, 0, "store");
    assert_eq!(
        (&rows["/d/a"]["pinned"], &rows["/d/sub"]["pinned"]),
        (&true.into(), &false.into())
    );
    is(&rows["/d/new"], 1, 16, 16, "dirty");
    is(
        &rows["/d/sub"],
        2,
        2 * (MIB + 100),
        2 * (MIB + 100),
        "clean",
    );

    let rows = ls(&mount, &["-r"], "");
    let all = ["/d/a", "/d/new", "/d/sub/b", "/d/sub/deep/c", "/f"];
    assert_eq!(rows.keys().collect::<Vec<_>>(), all);
    is(&rows["/d/sub/deep/c"], 1, MIB + 100, MIB + 100, "clean");
    let text = fused(["ls".as_ref(), mount.path().as_os_str()]).success();
    assert!(
        text.contains("dirty") && text.contains("/d/  (4 files)"),
        "{text}"
    );
}
