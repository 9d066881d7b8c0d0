//! How editors save: by a backup and a new file, by a temporary file that is renamed over the old one.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use harness::{Way, tool};

use crate::portrait::Times;
use crate::side_by_side::Twins;

harness::every_way!(an_editor_saves_with_a_backup, sed_edits_in_place);

const SAVES: u32 = 20;

/// As vim does with `backupcopy=no`: the old file becomes `name~`, the new one takes its name and mode,
/// and is fsynced before the backup goes.
fn save_as_vim(path: &Path, text: &str) {
    let mode = fs::metadata(path).unwrap().permissions();
    let backup = path.with_extension("txt~");
    let probe = path.with_file_name("4913");
    File::options()
        .write(true)
        .create_new(true)
        .open(&probe)
        .unwrap();
    fs::remove_file(&probe).unwrap();
    fs::rename(path, &backup).unwrap();
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.sync_all().unwrap();
    drop(file);
    fs::set_permissions(path, mode).unwrap();
    assert_eq!(fs::metadata(path).unwrap().len(), text.len() as u64);
    fs::remove_file(&backup).unwrap();
}

fn an_editor_saves_with_a_backup(way: &Way) {
    let twins = Twins::at_work(way, |at| {
        let path = at.join("notes.txt");
        fs::write(&path, "first").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        for save in 0..SAVES {
            let text = format!("line {save}\n").repeat(1 + save as usize * 100);
            save_as_vim(&path, &text);
        }
        let mut names: Vec<_> = fs::read_dir(at)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        format!("{names:?}")
    });
    twins.stay_alike(Times::Ignored);
}

fn sed_edits_in_place(way: &Way) {
    let twins = Twins::at_work(way, |at| {
        let path = at.join("text");
        fs::write(&path, "one two three\n".repeat(10_000)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        for script in ["s/two/2/", "s/three/drei/;1d", "/nothing/d"] {
            let sed = tool("sed").expect("sed is everywhere");
            sed.args(["-i", "-e", script]).arg(&path).run().success();
        }
        let sed = tool("sed").expect("sed is everywhere");
        sed.args(["-i.orig", "-e", "2,$d"])
            .arg(&path)
            .run()
            .success();
        fs::read_to_string(&path).unwrap()
    });
    twins.stay_alike(Times::Ignored);
}
