"""Reading what is only in the store, beside a plain client."""

import os

from common import FUSED, call, work

# Ranged requests at once.
GETS = [4, 8, 16]
SCATTERED = 200
SCATTERED_BYTES = 64 << 10


class ColdReads:
    def __init__(self, bench):
        self.bench = bench

    def run(self, number):
        bench = self.bench
        file = bench.targets["fused"].dir / "cold"
        if not file.exists():
            work("write", file, bench.bytes)
        order = [None, *GETS] if number % 2 else [*GETS, None]
        for parallel in order:
            bench.quiet()
            if parallel:
                bench.record("cold read", f"plain {parallel} at once", bench.bytes / 1e9 / work("get", "bench-fused", "cold", parallel))
                bench.record("cold first 64 KiB", "plain client", 1 / work("get", "bench-fused", "cold", 0))
                continue
            self.free(file)
            bench.record("cold read", "fused", bench.bytes / 1e9 / work("read", file))
            self.free(file)
            bench.record("cold first 64 KiB", "fused", 1 / work("scattered", file, 1))
            self.free(file)
            work("scattered", file, SCATTERED)
            fetched = int(os.getxattr(file, "user.fused.resident"))
            bench.record("fetched for each byte asked", "fused", fetched / (SCATTERED * SCATTERED_BYTES))

    def free(self, file):
        call(FUSED, "free", file)
        assert int(os.getxattr(file, "user.fused.resident")) == 0
