//! What it is all for: checkpoints, by the libraries that write them.

use std::path::Path;

use harness::{Way, python, torch_python};

harness::every_way!(
    a_checkpoint_written_as_torch_does_arrives_whole,
    safetensors_saves_and_loads,
    torch_saves_and_loads,
    torch_distributed_checkpoint_saves_and_loads,
);

/// The digest, the first word that the programs print.
fn digest(printed: &str) -> &str {
    printed.split_whitespace().next().expect("a digest")
}

fn a_checkpoint_written_as_torch_does_arrives_whole(way: &Way) {
    let check = |path: &Path| {
        python("checkpoint.py")
            .arg("digest")
            .arg(path)
            .run()
            .success()
    };
    let mount = way.mount();
    let path = mount.join("step-100.pt");
    let program = python("checkpoint.py")
        .arg("write")
        .arg(&path)
        .args(["--mib", "300"]);
    let written = program.run().success();
    mount.sync();
    let object = way.store.fetch("step-100.pt").expect("the object");
    assert_eq!(
        digest(&check(object.path())),
        digest(&written),
        "the object"
    );
    assert_eq!(digest(&check(&path)), digest(&written), "the file");
}

fn safetensors_saves_and_loads(way: &Way) {
    let load = |path: &Path| {
        python("safetensors_file.py")
            .arg("digest")
            .arg(path)
            .run()
            .success()
    };
    let mount = way.mount();
    let path = mount.join("model.safetensors");
    let program = python("safetensors_file.py")
        .arg("save")
        .arg(&path)
        .args(["--mib", "96"]);
    let saved = program.run().success();
    mount.sync();
    assert_eq!(load(&path), saved, "the file");
    assert_eq!(
        load(&way.mount().join("model.safetensors")),
        saved,
        "a second mount"
    );
    let object = way.store.fetch("model.safetensors").expect("the object");
    assert_eq!(load(object.path()), saved, "the object");
    assert_eq!(
        way.store.keys(),
        ["model.safetensors"],
        "no temporary name ever arrived"
    );
}

/// 1 GiB into the bucket, less into the folder: the libraries are the same.
fn torch_saves_and_loads(way: &Way) {
    let Some(program) = torch_python("torch_checkpoint.py") else {
        return;
    };
    let size = if way.store.url().starts_with("s3:") {
        "1024"
    } else {
        "256"
    };
    let load = |path: &Path, more: &[&str]| {
        let program = torch_python("torch_checkpoint.py").expect("it was there");
        program.arg("digest").arg(path).args(more).run().success()
    };
    let mount = way.mount();
    let path = mount.join("model.pt");
    let saved = program
        .arg("save")
        .arg(&path)
        .args(["--mib", size])
        .run()
        .success();
    mount.sync();
    assert_eq!(digest(&load(&path, &[])), digest(&saved), "from the mount");
    assert_eq!(
        digest(&load(&path, &["--mmap"])),
        digest(&saved),
        "mapped, from the mount"
    );
    let other = way.mount();
    let cold = load(&other.join("model.pt"), &["--mmap"]);
    assert_eq!(digest(&cold), digest(&saved), "mapped, from a second mount");
    let object = way.store.fetch("model.pt").expect("the object");
    harness::same_bytes(object.path(), &path);
    assert_eq!(
        digest(&load(object.path(), &[])),
        digest(&saved),
        "from the object"
    );
}

fn torch_distributed_checkpoint_saves_and_loads(way: &Way) {
    let run = |what: &str, path: &Path| {
        let program = torch_python("torch_checkpoint.py")?;
        Some(
            program
                .arg(what)
                .arg(path)
                .args(["--mib", "128"])
                .run()
                .success(),
        )
    };
    let mount = way.mount();
    let Some(saved) = run("dcp-save", &mount.join("dcp")) else {
        return;
    };
    mount.sync();
    let keys = way.store.files();
    assert_eq!(
        keys,
        ["dcp/.metadata", "dcp/__0_0.distcp"],
        "shards and index, nothing temporary"
    );
    let loaded = run("dcp-digest", &mount.join("dcp")).expect("torch");
    assert_eq!(digest(&loaded), digest(&saved), "from the mount");
    let elsewhere = run("dcp-digest", &way.mount().join("dcp")).expect("torch");
    assert_eq!(digest(&elsewhere), digest(&saved), "from a second mount");
}
