//! The store goes away and comes back; the mount does not mind.

use std::fs;
use std::time::Duration;

use harness::{Mount, Random, Server, Store, digest_of, fused, wait_until};

const MIB: usize = 1 << 20;
const BACK_LIMIT: Duration = Duration::from_secs(150);

/// Writes go on, reads of what is resident go on, the status tells, and everything arrives later.
fn writes_go_on(away: impl FnOnce(&mut Server), back: impl FnOnce(&mut Server)) {
    let mut store = Store::on(Server::own_seaweedfs());
    let mount = Mount::of(&store).start();
    fs::write(mount.join("before"), "before").unwrap();
    mount.sync();
    away(store.server());
    let written = Random::write_file(41, &mount.join("during"), 12 * MIB);
    fs::create_dir(mount.join("d")).unwrap();
    fs::write(mount.join("d/small"), "small").unwrap();
    fs::rename(mount.join("before"), mount.join("d/after")).unwrap();
    assert_eq!(digest_of(&mount.join("during")), written);
    wait_until("the status tells of the outage", BACK_LIMIT, || {
        let status = mount.status();
        assert!(status["dirty_files"].as_u64() >= Some(1), "{status:#}");
        status["store_ok"] == false && !status["last_error"].is_null()
    });
    let arguments = [
        "sync",
        "--timeout",
        "2",
        "--json",
        mount.path().to_str().unwrap(),
    ];
    let gave_up = fused(arguments);
    assert_eq!(gave_up.status.and_then(|s| s.code()), Some(1), "{gave_up}");
    assert!(
        gave_up.stdout.contains("during"),
        "it lists what is not there yet: {gave_up}"
    );
    back(store.server());
    wait_until("everything arrives", BACK_LIMIT, || {
        fused(["sync", "--timeout", "30", mount.path().to_str().unwrap()])
            .status
            .is_some_and(|status| status.success())
    });
    assert_eq!(
        digest_of(store.fetch("during").expect("the object").path()),
        written
    );
    assert_eq!(store.get("d/after").as_deref(), Some(&b"before"[..]));
    assert!(!store.has("before"));
}

#[test]
fn writes_go_on_while_the_store_is_dead() {
    harness::require_mounts!();
    writes_go_on(Server::kill, Server::restart);
}

#[test]
fn writes_go_on_while_the_store_answers_nothing() {
    harness::require_mounts!();
    writes_go_on(|server| server.pause(), |server| server.resume());
}

#[test]
fn a_read_that_needs_the_store_fails_while_it_is_dead_and_works_afterwards() {
    harness::require_mounts!();
    let mut store = Store::on(Server::own_seaweedfs());
    store.put("cold", "cold data");
    let mount = Mount::of(&store).start();
    assert_eq!(fs::metadata(mount.join("cold")).unwrap().len(), 9);
    store.server().kill();
    fs::read(mount.join("cold")).expect_err("nobody has the bytes");
    store.server().restart();
    wait_until("the bytes come", BACK_LIMIT, || {
        fs::read(mount.join("cold")).is_ok_and(|bytes| bytes == b"cold data")
    });
}
