//! Libraries that keep arrays and tables in files: numpy, h5py, pyarrow.

use std::ffi::OsStr;
use std::path::Path;

use harness::{Way, fused, python};

use crate::side_by_side::Twins;

harness::every_way!(
    numpy_maps_a_file_and_changes_it,
    h5py_writes_chunks_and_resizes,
    pyarrow_writes_tables_and_reads_columns,
);

fn numpy_maps_a_file_and_changes_it(way: &Way) {
    let mount = way.mount();
    let path = mount.join("array.npy");
    python("numpy_map.py").arg(&path).run().success();
    mount.sync();
    let other = way.mount();
    python("numpy_map.py")
        .arg("--check")
        .arg(other.join("array.npy"))
        .run()
        .success();
}

fn h5py_writes_chunks_and_resizes(way: &Way) {
    written_here_and_read_elsewhere(way, "h5_file.py", "data.h5");
}

fn pyarrow_writes_tables_and_reads_columns(way: &Way) {
    written_here_and_read_elsewhere(way, "parquet_tables.py", "tables");
}

/// What the program reads back is the same on the local disk, on the mount, after the mount's local copies
/// were given up, and where nothing of it was ever in a cache.
fn written_here_and_read_elsewhere(way: &Way, program: &str, name: &str) {
    let run = |what: &str, path: &Path| python(program).arg(what).arg(path).run().success();
    let twins = Twins::at_work(way, |at| {
        run("write", &at.join(name));
        run("read", &at.join(name))
    });
    let (local, mount) = (twins.local(), twins.mount());
    let expected = run("read", &local.join(name));
    mount.sync();
    fused([OsStr::new("free"), mount.path().as_os_str()]).success();
    assert_eq!(run("read", &mount.join("work").join(name)), expected);
    let other = way.mount();
    assert_eq!(run("read", &other.join("work").join(name)), expected);
}
