//! Azure and HDFS, where they are served: a tree that is written, renamed in and synced is there for a
//! second mount that knows nothing of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use harness::{Mount, MountOptions, Random, require_mounts, same_tree, scratch, skip};

/// Long enough to be uploaded in parts.
const LARGE_BYTES: usize = 40 << 20;

#[test]
fn an_azure_container_holds_a_tree() {
    require_mounts!();
    let Ok(endpoint) = std::env::var("FUSED_TEST_AZURITE") else {
        return skip("Azurite is not served here (FUSED_TEST_AZURITE)");
    };
    let url = format!("az://container/e2e-{}", std::process::id());
    let environment = [
        ("AZURE_STORAGE_USE_EMULATOR", "true"),
        ("AZURE_STORAGE_ENDPOINT", &endpoint),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    a_tree_comes_back(&Mount::of_url(url, environment.to_vec()), "tree");
}

#[test]
fn an_hdfs_holds_a_tree() {
    require_mounts!();
    let Ok(name_node) = std::env::var("FUSED_TEST_HDFS") else {
        return skip("HDFS is not served here (FUSED_TEST_HDFS)");
    };
    let mount = Mount::of_url(format!("hdfs://{name_node}"), Vec::new());
    a_tree_comes_back(&mount, &format!("e2e-{}", std::process::id()));
}

fn a_tree_comes_back(options: &MountOptions, folder: &str) {
    let kept = scratch();
    let mount = options.clone().start();
    let tree = mount.join(folder);
    let write = |name: &str, length: usize| {
        let bytes = Random::new(length as u64).bytes(length);
        fs::write(tree.join(name), bytes).expect("a file");
    };
    fs::create_dir_all(tree.join("deep/er")).expect("folders");
    fs::create_dir(tree.join("empty")).expect("a folder");
    write("large.tmp", LARGE_BYTES);
    write("deep/er/small", 1000);
    write("nothing", 0);
    write("12:30 a\\b.", 7);
    write(&"x".repeat(255), 8);
    fs::rename(tree.join("large.tmp"), tree.join("large")).expect("a rename");
    fs::rename(tree.join("deep"), tree.join("moved")).expect("a rename");
    write("large-2", LARGE_BYTES + 1);
    mount.sync();
    fs::rename(tree.join("large-2"), tree.join("moved/large-2")).expect("a rename");
    let old = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500_000_000_123);
    for name in ["large", "moved/er/small"] {
        let file = fs::File::options()
            .write(true)
            .open(tree.join(name))
            .expect("a file");
        file.set_permissions(fs::Permissions::from_mode(0o640))
            .expect("a mode");
        file.set_modified(old).expect("a time");
    }
    mount.sync();
    copy(&tree, kept.path());
    mount.unmount();

    let again = options.clone().start();
    let tree = again.join(folder);
    same_tree(kept.path(), &tree);
    for name in ["large", "moved/er/small"] {
        let about = tree.join(name).metadata().expect("attributes");
        assert_eq!(
            (about.mode() & 0o777, about.modified().ok()),
            (0o640, Some(old)),
            "{name}"
        );
    }
    fs::remove_dir_all(&tree).expect("removal");
    again.sync();
    again.unmount();
    let empty = options.clone().start();
    assert!(!empty.join(folder).join("large").exists());
    empty.unmount();
}

/// With modes, which `fs::copy` keeps of files.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).expect("a folder");
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a copy");
        }
    }
}
