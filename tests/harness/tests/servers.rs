//! The harness itself: its servers serve, and its client tells the truth.

use harness::{Server, Store};

#[test]
fn an_object_put_on_seaweedfs_comes_back() {
    let store = Store::seaweedfs();
    store.put("a/b.txt", "hello");
    assert_eq!(store.get("a/b.txt").as_deref(), Some(&b"hello"[..]));
    assert_eq!(store.keys(), ["a/b.txt"]);
    store.delete("a/b.txt");
    assert!(!store.has("a/b.txt"));
}

#[test]
fn moto_takes_keys_that_no_file_system_can_hold() {
    let store = Store::moto();
    let keys = ["/x", "a", "a//b", "a/b", "dir/"];
    keys.iter().for_each(|key| store.put(key, key));
    assert_eq!(store.keys(), keys);
    assert_eq!(store.get("a//b").as_deref(), Some(&b"a//b"[..]));
}

#[test]
fn a_killed_server_comes_back_with_its_data() {
    let mut store = Store::on(Server::own_seaweedfs());
    store.put("kept", "still here");
    store.server().kill();
    store.server().restart();
    assert_eq!(store.get("kept").as_deref(), Some(&b"still here"[..]));
}
