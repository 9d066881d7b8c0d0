"""A bucket with very many objects: what it costs to look at all of it, in time and in memory."""

import subprocess
import time

from common import WORK, call, drop_caches, work
from targets import Fused

IN_EACH = 1000


class Tree:
    def __init__(self, bench):
        self.bench = bench
        self.mount = None

    def stop(self):
        if self.mount:
            self.mount.stop()

    def run(self, number):
        """Only the first round is cold."""
        bench, entries = self.bench, self.bench.options.entries
        juicefs = bench.targets["juicefs"].dir / "tree"
        cold = self.mount is None
        if cold:
            bench.server.make_bucket("bench-tree")
            call(WORK, "put-tree", "bench-tree", "tree", entries, 1, IN_EACH)
            self.mount = Fused(bench.base, bench.server, bench.options.o, "tree")
            for n in range(entries // IN_EACH):
                directory = juicefs / f"d{n:04}"
                directory.mkdir(parents=True)
                work("create", directory, IN_EACH)
            bench.quiet()
            # The kernel's own entries of the fill are nobody's.
            drop_caches()
            before = self.mount.rss_kib()
            bench.record("ls -lR, cold", "plain client", entries / 1e3 / work("list-bucket", "bench-tree"))
            bench.record("ls -lR, cold", "fused", entries / 1e3 / self.look(self.mount.dir))
            known = (self.mount.rss_kib() - before) / 1024
            bench.record("memory of 1,000,000 entries, MiB", "fused", known * 1e6 / entries)
        for name, directory in (("fused", self.mount.dir), ("juicefs", juicefs)):
            self.look(directory)
            bench.record("ls -lR, warm", name, entries / 1e3 / self.look(directory))

    def look(self, directory):
        began = time.perf_counter()
        subprocess.run(["ls", "-lR", directory], check=True, stdout=subprocess.DEVNULL, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
        return time.perf_counter() - began
