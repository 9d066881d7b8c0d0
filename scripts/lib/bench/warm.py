"""Reading what is on the local disk already: one after the other and at random, by one thread and by many."""

import json

from common import call, drop_caches, work

FIO_SECONDS = 3
FIO_MIB = 1024


class WarmReads:
    def __init__(self, bench):
        self.bench = bench

    def run(self, number):
        bench = self.bench
        daemon = bench.without_passthrough()
        for kind, name in (("read", "sequential"), ("randread", "random")):
            for size, shown in (("4k", "4 KiB"), ("128k", "128 KiB"), ("1m", "1 MiB")):
                for threads in (1, 16):
                    for target, directory in [*bench.in_turn(number), ("daemon", daemon.dir)]:
                        self.measure(f"warm {name} {shown}, {threads} at once", target, directory, kind, size, threads)

    def measure(self, work_name, target, directory, kind, size, threads):
        file = directory / "warm"
        if not file.exists():
            work("write", file, FIO_MIB << 20)
            self.bench.quiet()
            # The next open is the one that may pass the daemon by.
            work("read", file)
        drop_caches()
        said = call(
            "fio", "--name=r", f"--filename={file}", f"--rw={kind}", f"--bs={size}", f"--size={FIO_MIB}m", "--ioengine=psync",
            f"--numjobs={threads}", "--group_reporting", "--invalidate=0", "--time_based", f"--runtime={FIO_SECONDS}",
            "--output-format=json", "--fallocate=none",
        )
        self.bench.record(work_name, target, json.loads(said)["jobs"][0]["read"]["bw_bytes"] / 1e9)
