"""Small files and small requests: what builds, version control and databases do.

The tree is this project's own dependencies, as cargo unpacked them: a few thousand real source files.
"""

import json
import pathlib
import shutil
import subprocess
import time

from common import call, work

TREE_FILES = 4000
FIO_SECONDS = 4
FIO_MIB = 512


class SmallFiles:
    def __init__(self, bench):
        self.bench = bench
        self.archive = bench.base / "tree.tar"
        self.files = bench.options.entries

    def timed(self, name, target, count, *command, **options):
        began = time.perf_counter()
        call(*command, **options)
        self.bench.record(name, target, count / 1e3 / (time.perf_counter() - began))

    def pack(self):
        """A tar of real sources."""
        registry = pathlib.Path.home() / ".cargo/registry/src"
        files = []
        for path in sorted(registry.rglob("*")):
            if path.is_file() and path.suffix in (".rs", ".md", ".toml"):
                files.append(str(path.relative_to(registry)))
                if len(files) == TREE_FILES:
                    break
        names = self.bench.base / "tree.names"
        names.write_text("\n".join(files))
        call("tar", "-C", registry, "-cf", self.archive, "-T", names)

    def run(self, number):
        if not self.archive.exists():
            self.pack()
        bench = self.bench
        for target, directory in bench.in_turn(number):
            home = directory / f"small-{number}"
            home.mkdir()
            bench.record("create, write 4 KiB", target, bench.files / 1e3 / work("create-4k", home, bench.files))
            shutil.rmtree(home)
        for target, directory in bench.in_turn(number):
            home = directory / f"list-{number}"
            home.mkdir()
            work("create", home, self.files)
            bench.record("readdir + stat", target, self.files / 1e3 / work("list", home))
            shutil.rmtree(home)
        for target, directory in bench.in_turn(number):
            home = directory / f"tree-{number}"
            home.mkdir()
            self.timed("untar", target, TREE_FILES, "tar", "-C", home, "-xf", self.archive)
            git = ["git", "-C", home, "-c", "user.name=b", "-c", "user.email=b@b", "-c", "gc.auto=0"]
            call(*git, "init", "-q")
            call(*git, "add", "-A")
            call(*git, "commit", "-q", "-m", "tree")
            self.timed("git status", target, TREE_FILES, *git, "status", "--short")
            shutil.rmtree(home)

    def random(self, number):
        """4 KiB at random places of a resident file, through the page cache, also without passthrough."""
        bench = self.bench
        daemon = bench.without_passthrough()
        for target, directory in [*bench.in_turn(number), ("daemon", daemon.dir)]:
            file = directory / "random"
            if not file.exists():
                work("write", file, FIO_MIB << 20)
                bench.quiet()
            for kind in ("randread", "randwrite"):
                for depth in (1, 32):
                    # What the last one wrote is neither uploaded nor written to the disk meanwhile.
                    bench.quiet()
                    said = call(
                        "fio", "--name=r", f"--filename={file}", f"--rw={kind}", "--bs=4k", f"--size={FIO_MIB}m",
                        "--ioengine=psync" if depth == 1 else "--ioengine=io_uring", f"--iodepth={depth}",
                        "--time_based", f"--runtime={FIO_SECONDS}", "--output-format=json", "--fallocate=none",
                    )
                    side = json.loads(said)["jobs"][0]["read" if kind == "randread" else "write"]
                    bench.record(f"4 KiB {kind[4:]}, depth {depth}", target, side["iops"] / 1e3)
