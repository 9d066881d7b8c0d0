"""A bucket with very many objects: what it costs to look at all of it, in time and in memory."""

import subprocess
import time

from common import WORK, call, drop_caches, work
from targets import Fused

IN_EACH = 1000
# Works of their own: whether each object is asked for its attributes decides.
KINDS = {"": [], ", attributes=listing": ["attributes=listing"]}


class Tree:
    def __init__(self, bench):
        self.bench = bench
        self.mounts = {}

    def stop(self):
        for mount in self.mounts.values():
            mount.stop()

    def run(self, number):
        """Only the first round is cold."""
        bench, entries = self.bench, self.bench.options.entries
        juicefs = bench.targets["juicefs"].dir / "tree"
        if not self.mounts:
            bench.server.make_bucket("bench-tree")
            call(WORK, "put-tree", "bench-tree", "tree", entries, 1, IN_EACH)
            for n in range(entries // IN_EACH):
                directory = juicefs / f"d{n:04}"
                directory.mkdir(parents=True)
                work("create", directory, IN_EACH)
            bench.quiet()
            # The kernel's own entries of the fill are nobody's.
            drop_caches()
            for kind, options in KINDS.items():
                name = "tree" + kind.replace(", attributes=", "-")
                self.mounts[kind] = mount = Fused(bench.base, bench.server, [*bench.options.o, *options], name, bucket="bench-tree")
                before = mount.rss_kib()
                bench.record(f"ls -lR, cold{kind}", "plain client", entries / 1e3 / work("list-bucket", "bench-tree"))
                bench.record(f"ls -lR, cold{kind}", "fused", entries / 1e3 / self.look(mount.dir))
                known = (mount.rss_kib() - before) / 1024
                bench.record(f"memory of 1,000,000 entries, MiB{kind}", "fused", known * 1e6 / entries)
        for kind, mount in self.mounts.items():
            for name, directory in (("fused", mount.dir), ("juicefs", juicefs)):
                self.look(directory)
                bench.record(f"ls -lR, warm{kind}", name, entries / 1e3 / self.look(directory))

    def look(self, directory):
        began = time.perf_counter()
        subprocess.run(["ls", "-lR", directory], check=True, stdout=subprocess.DEVNULL, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
        return time.perf_counter() - began
