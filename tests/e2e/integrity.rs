//! What comes back from the store is what was sent there, or an error.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use harness::{Fault, Mount, MountOptions, Proxy, Random, Store, fused};

const MIB: usize = 1 << 20;

/// A mount of a bucket, and what stands between the two.
struct Rig {
    store: Store,
    proxy: Proxy,
}

impl Rig {
    fn new() -> Self {
        let store = Store::seaweedfs();
        let proxy = store.proxy();
        Self { store, proxy }
    }

    fn options(&self) -> MountOptions {
        Mount::of(&self.store).through(&self.proxy)
    }

    /// From now on the first so many answers with bytes of `f` have a wrong one.
    fn corrupt(&self, mut times: usize) {
        self.proxy.judge(move |line| {
            let hit = times > 0 && line.starts_with("GET") && line.contains("/f ");
            times -= usize::from(hit);
            hit.then_some(Fault::WrongByte)
        });
    }
}

/// `f` is in the store, and nowhere else; its bytes.
fn only_in_the_store(mount: &Mount, bytes: usize) -> Vec<u8> {
    Random::write_file(bytes as u64, &mount.join("f"), bytes);
    let content = fs::read(mount.join("f")).unwrap();
    mount.sync();
    free(mount.path());
    content
}

fn free(path: &Path) {
    fused(["free".as_ref(), path.as_os_str()]).success();
}

fn corrupt_blocks(mount: &Mount) -> u64 {
    mount.status()["corrupt_blocks"].as_u64().expect("a number")
}

#[test]
fn a_byte_that_changed_on_the_way_is_asked_for_again() {
    harness::require_mounts!();
    let rig = Rig::new();
    // One put, and several parts.
    for (bytes, passthrough) in [
        (100_001, "auto"),
        (24 * MIB + 77, "auto"),
        (24 * MIB, "off"),
    ] {
        let mount = rig
            .options()
            .option(format!("passthrough={passthrough}"))
            .start();
        let content = only_in_the_store(&mount, bytes);
        rig.corrupt(2);
        assert!(fs::read(mount.join("f")).unwrap() == content, "{bytes}");
        assert_eq!(corrupt_blocks(&mount), 2);
    }
}

#[test]
fn what_stays_wrong_is_an_error_and_nobodys_data() {
    harness::require_mounts!();
    let rig = Rig::new();
    let mount = rig.options().start();
    let content = only_in_the_store(&mount, MIB);
    rig.corrupt(usize::MAX);
    let error = fs::read(mount.join("f")).expect_err("the bytes are wrong");
    assert_eq!(error.raw_os_error(), Some(nix::libc::EIO));
    assert!(
        mount.log().contains("not those that were uploaded"),
        "{}",
        mount.log()
    );
    // A version that is made of it does not go anywhere.
    let file = OpenOptions::new()
        .write(true)
        .open(mount.join("f"))
        .unwrap();
    file.write_all_at(&vec![7; 64 << 10], 0).unwrap();
    drop(file);
    let path = mount.path().to_str().unwrap();
    let sync = fused(["sync", "--timeout", "5", path]);
    assert_eq!(
        sync.status.and_then(|status| status.code()),
        Some(1),
        "{sync}"
    );
    assert!(rig.store.get("f").unwrap() == content);
    rig.proxy.judge(|_| None);
    mount.sync();
    let mut changed = content;
    changed[..64 << 10].fill(7);
    assert!(rig.store.get("f").unwrap() == changed);
    free(mount.path());
    assert!(fs::read(mount.join("f")).unwrap() == changed);
}

#[test]
fn nothing_is_compared_where_nobody_wants_it_or_nothing_is_known() {
    harness::require_mounts!();
    let rig = Rig::new();
    let wrong = |content: &[u8], mount: &Mount| {
        rig.corrupt(1);
        assert!(fs::read(mount.join("f")).unwrap() != content);
        assert_eq!(corrupt_blocks(mount), 0);
    };
    let mount = rig.options().option("verify=off").start();
    let content = only_in_the_store(&mount, 100_000);
    wrong(&content, &mount);
    // Another cache has never uploaded it.
    wrong(&content, &rig.options().start());
    // Somebody else has put another one.
    let mount = rig.options().option("revalidate=0s").start();
    let content = only_in_the_store(&mount, 100_000);
    rig.store.put("f", &"theirs".repeat(10_000));
    assert!(fs::read(mount.join("f")).unwrap() == "theirs".repeat(10_000).as_bytes());
    assert_eq!(corrupt_blocks(&mount), 0, "{}", content.len());
}

#[test]
fn digests_outlive_the_daemon_a_rename_and_a_chmod() {
    harness::require_mounts!();
    let rig = Rig::new();
    let mount = rig.options().start();
    let content = only_in_the_store(&mount, 20 * MIB);
    fs::rename(mount.join("f"), mount.join("g")).unwrap();
    mount.sync();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(mount.join("g"), mode).unwrap();
    mount.sync();
    fs::rename(mount.join("g"), mount.join("f")).unwrap();
    mount.sync();
    let mount = mount.crash().start();
    free(mount.path());
    rig.corrupt(1);
    assert!(fs::read(mount.join("f")).unwrap() == content);
    assert_eq!(corrupt_blocks(&mount), 1);
}
