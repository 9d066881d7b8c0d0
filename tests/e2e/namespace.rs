//! Names: what renaming, linking and removing does on the mount and in the store.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use harness::Way;
use nix::errno::Errno;

harness::every_way!(
    a_rename_before_the_flush_leaves_nothing_at_the_temporary_name,
    a_rename_after_the_flush_moves_the_object,
    a_renamed_directory_takes_its_objects_along,
    a_file_and_a_directory_exchange_their_places,
    a_rename_over_a_file_replaces_its_object,
    a_deleted_file_is_deleted_in_the_store,
    a_file_deleted_before_it_arrived_never_arrives,
    directories_are_made_listed_and_removed,
    an_empty_directory_is_seen_by_a_second_mount,
    symbolic_links_point_where_they_were_told,
    hard_links_share_one_content,
    an_open_file_can_be_read_after_it_was_deleted,
);

fn a_rename_before_the_flush_leaves_nothing_at_the_temporary_name(way: &Way) {
    let mount = way.mount();
    fs::write(mount.join("model.bin.tmp"), "weights").unwrap();
    fs::rename(mount.join("model.bin.tmp"), mount.join("model.bin")).unwrap();
    mount.sync();
    assert_eq!(way.store.keys(), ["model.bin"]);
    assert_eq!(way.store.get("model.bin").as_deref(), Some(&b"weights"[..]));
}

fn a_rename_after_the_flush_moves_the_object(way: &Way) {
    let mount = way.mount();
    fs::write(mount.join("old"), "content").unwrap();
    mount.sync();
    fs::create_dir(mount.join("d")).unwrap();
    fs::rename(mount.join("old"), mount.join("d/new")).unwrap();
    assert_eq!(
        fs::read(mount.join("d/new")).unwrap(),
        b"content",
        "at once"
    );
    mount.sync();
    assert_eq!(way.store.get("d/new").as_deref(), Some(&b"content"[..]));
    assert!(!way.store.has("old"));
}

fn a_renamed_directory_takes_its_objects_along(way: &Way) {
    let mount = way.mount();
    fs::create_dir_all(mount.join("a/b")).unwrap();
    fs::write(mount.join("a/one"), "1").unwrap();
    fs::write(mount.join("a/b/two"), "2").unwrap();
    mount.sync();
    fs::rename(mount.join("a"), mount.join("z")).unwrap();
    fs::write(mount.join("z/three"), "3").unwrap();
    mount.sync();
    let files = way.store.files();
    assert_eq!(files, ["z/b/two", "z/one", "z/three"]);
    assert_eq!(way.store.get("z/b/two").as_deref(), Some(&b"2"[..]));
    assert!(!way.store.has("a"));
}

fn a_file_and_a_directory_exchange_their_places(way: &Way) {
    let mount = way.mount();
    fs::create_dir_all(mount.join("d/deep")).unwrap();
    fs::write(mount.join("d/deep/in"), "inside").unwrap();
    fs::write(mount.join("f"), "the file").unwrap();
    mount.sync();
    nix::fcntl::renameat2(
        nix::fcntl::AT_FDCWD,
        &mount.join("d"),
        nix::fcntl::AT_FDCWD,
        &mount.join("f"),
        nix::fcntl::RenameFlags::RENAME_EXCHANGE,
    )
    .unwrap();
    mount.sync();
    assert_eq!(way.store.files(), ["d", "f/deep/in"]);
    assert_eq!(way.store.get("d").as_deref(), Some(&b"the file"[..]));
    assert_eq!(fs::read(mount.join("f/deep/in")).unwrap(), b"inside");
}

fn a_rename_over_a_file_replaces_its_object(way: &Way) {
    let mount = way.mount();
    fs::write(mount.join("f"), "old").unwrap();
    mount.sync();
    fs::write(mount.join("f.new"), "new").unwrap();
    fs::rename(mount.join("f.new"), mount.join("f")).unwrap();
    mount.sync();
    assert_eq!(way.store.keys(), ["f"]);
    assert_eq!(way.store.get("f").as_deref(), Some(&b"new"[..]));
}

fn a_deleted_file_is_deleted_in_the_store(way: &Way) {
    let mount = way.mount();
    fs::write(mount.join("f"), "x").unwrap();
    fs::write(mount.join("kept"), "x").unwrap();
    mount.sync();
    assert!(way.store.has("f"));
    fs::remove_file(mount.join("f")).unwrap();
    assert!(!mount.join("f").exists());
    mount.sync();
    assert_eq!(way.store.keys(), ["kept"]);
    assert!(
        !mount.join("f").exists(),
        "it does not come back from the store"
    );
}

fn a_file_deleted_before_it_arrived_never_arrives(way: &Way) {
    let mount = way.mount();
    fs::write(mount.join("brief"), "x").unwrap();
    fs::remove_file(mount.join("brief")).unwrap();
    mount.sync();
    assert!(way.store.keys().is_empty());
}

fn directories_are_made_listed_and_removed(way: &Way) {
    let mount = way.mount();
    fs::create_dir(mount.join("d")).unwrap();
    fs::write(mount.join("d/f"), "x").unwrap();
    let refused = fs::remove_dir(mount.join("d")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::ENOTEMPTY as i32));
    let names: Vec<_> = fs::read_dir(mount.join("d"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["f"]);
    fs::remove_file(mount.join("d/f")).unwrap();
    fs::remove_dir(mount.join("d")).unwrap();
    mount.sync();
    assert!(!mount.join("d").exists());
    assert!(way.store.keys().is_empty());
}

fn an_empty_directory_is_seen_by_a_second_mount(way: &Way) {
    let mount = way.mount();
    fs::create_dir_all(mount.join("outer/empty")).unwrap();
    mount.sync();
    assert!(way.mount().join("outer/empty").is_dir());
}

fn symbolic_links_point_where_they_were_told(way: &Way) {
    let mount = way.mount();
    fs::write(mount.join("target"), "x").unwrap();
    symlink("target", mount.join("link")).unwrap();
    symlink("nowhere/at all", mount.join("dangling")).unwrap();
    assert_eq!(
        fs::read_link(mount.join("dangling")).unwrap().to_str(),
        Some("nowhere/at all")
    );
    assert_eq!(fs::read(mount.join("link")).unwrap(), b"x");
    let again = mount.unmount().start();
    assert_eq!(
        fs::read(again.join("link")).unwrap(),
        b"x",
        "after a remount"
    );
}

fn hard_links_share_one_content(way: &Way) {
    let mount = way.mount();
    fs::write(mount.join("a"), "one").unwrap();
    fs::hard_link(mount.join("a"), mount.join("b")).unwrap();
    fs::write(mount.join("b"), "two").unwrap();
    assert_eq!(fs::read(mount.join("a")).unwrap(), b"two");
    let (a, b) = (
        fs::metadata(mount.join("a")).unwrap(),
        fs::metadata(mount.join("b")).unwrap(),
    );
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    fs::remove_file(mount.join("a")).unwrap();
    assert_eq!(fs::read(mount.join("b")).unwrap(), b"two");
    mount.sync();
    assert_eq!(way.store.get("b").as_deref(), Some(&b"two"[..]));
}

fn an_open_file_can_be_read_after_it_was_deleted(way: &Way) {
    use std::io::{Read, Seek, Write};
    let mount = way.mount();
    let mut options = fs::File::options();
    let mut file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(mount.join("f"))
        .unwrap();
    fs::remove_file(mount.join("f")).unwrap();
    file.write_all(b"nameless").unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "nameless");
    drop(file);
    mount.sync();
    assert!(way.store.keys().is_empty());
}
