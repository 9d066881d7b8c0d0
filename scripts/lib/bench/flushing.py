"""What is not in the store yet: how fast it gets there, and how soon it is served again after a crash."""

import os
import time

from common import FUSED, call, work
from targets import Fused

# What the plain client is tried with: (MiB a part, parallel requests).
UPLOADS = [(8, 10), (16, 4), (16, 16), (32, 8), (64, 4)]
# The same for small objects.
PUTS = [8, 16, 32, 64]
SMALL_FILES = 20_000
# The second is held against the first: the cost is to grow linearly.
DIRTY_FILES = [10_000, 100_000]


class Flushing:
    def __init__(self, bench):
        self.bench = bench
        self.held = {}

    def stop(self):
        for held in self.held.values():
            held.stop()

    def holding(self, name="held", *options):
        """A mount that uploads nothing by itself."""
        if name not in self.held:
            options = [*self.bench.options.o, "settle=1h", *options]
            self.held[name] = Fused(self.bench.base, self.bench.server, options, name)
        return self.held[name]

    def large(self, number):
        bench = self.bench
        source = bench.base / "source"
        if not source.exists():
            with open(source, "wb") as out:
                for _ in range(bench.options.mib):
                    out.write(os.urandom(1 << 20))
        order = ["fused", "unverified", *UPLOADS]
        for upload in order if number % 2 else reversed(order):
            bench.quiet()
            if upload in UPLOADS:
                seconds = bench.server.upload(source, *upload)
                bench.record("flush", f"plain {upload[1]} x {upload[0]} MiB", bench.bytes / 1e9 / seconds)
                continue
            held = self.holding() if upload == "fused" else self.holding("unverified", "verify=off")
            file = held.dir / "flushed"
            work("copy", source, file)
            # The plain client's file is on the disk, too.
            os.sync()
            bench.record("flush", upload, bench.bytes / 1e9 / sync(file))
            file.unlink()
            held.settle()

    def small(self, number):
        bench, held = self.bench, self.holding()
        puts = [(kind, parallel) for kind in ("plain", "careful") for parallel in PUTS]
        order = [None, *puts] if number % 2 else [*puts, None]
        for put in order:
            bench.quiet()
            if put:
                kind, parallel = put
                with bench.server.bucket() as bucket:
                    seconds = work("put", bucket, SMALL_FILES, parallel, *(["careful"] if kind == "careful" else []))
                bench.record("flush of 4 KiB files", f"{kind} {parallel} at once", SMALL_FILES / 1e3 / seconds)
                continue
            home = held.dir / f"small-{number}"
            home.mkdir()
            work("create-4k", home, SMALL_FILES)
            os.sync()
            bench.record("flush of 4 KiB files", "fused", SMALL_FILES / 1e3 / sync(home))
            call("rm", "-r", home)
            held.settle()

    def recovery(self, number):
        """Killed with dirty files, the next mount is usable after so many seconds."""
        bench, held = self.bench, self.holding()
        for count in DIRTY_FILES:
            bench.quiet()
            home = held.dir / f"dirty-{number}"
            home.mkdir()
            work("create-4k", home, count)
            os.sync()
            held.kill()
            began = time.perf_counter()
            held.mount()
            bench.record(f"recovery of {count} files", "fused", time.perf_counter() - began)
            assert len(os.listdir(home)) == count
            call("rm", "-r", home)
            held.settle()


def sync(path):
    """Seconds until all of it is in the store."""
    began = time.perf_counter()
    call(FUSED, "sync", path)
    return time.perf_counter() - began
