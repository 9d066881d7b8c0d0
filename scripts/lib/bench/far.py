"""A store that is 30 ms away: what the second look at a data set costs, and how fast small files get there."""

import os
import random
import shutil
import subprocess
import time

from common import WORK, call, drop_caches, work
from flushing import PUTS, SMALL_FILES, sync
from targets import Fused, JuiceFs, Rclone, S3fs

ROUND_TRIP_MS = 30
# A folder of images: like a DataLoader with four workers.
IMAGES = 2000
IMAGE_BYTES = 24 << 10
IN_EACH = 500
WORKERS = 4
# A table of which a query wants one column of a few rows.
ROWS, ROW_GROUPS, COLUMNS = 1 << 20, 64, 8
QUERIES = 20


class Far:
    def __init__(self, bench):
        self.bench = bench
        self.delay = subprocess.Popen(
            [WORK, "delay", bench.server.endpoint.split("//")[1], str(ROUND_TRIP_MS)], stdout=subprocess.PIPE, text=True,
        )
        self.endpoint = f"http://{self.delay.stdout.readline().strip()}"
        self.targets = {}
        self.holding = None
        self.local = bench.targets["local"].dir / "far"

    def stop(self):
        for target in [*self.targets.values(), *filter(None, [self.holding])]:
            target.stop()
        self.delay.terminate()
        self.delay.wait()

    def prepare(self):
        """The same files for all: in the local folder, in a bucket, and as JuiceFS keeps them."""
        if self.targets:
            return
        bench = self.bench
        base, server = bench.base / "far", bench.server
        base.mkdir()
        server.make_bucket("bench-far")
        call(WORK, "put-tree", "bench-far", "images", IMAGES, IMAGE_BYTES, IN_EACH)
        for n in range(IMAGES):
            directory = self.local / f"images/d{n // IN_EACH:04}"
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"f{n:06}").write_bytes(bytes([7]) * IMAGE_BYTES)
        self.table(self.local / "table.parquet")
        server.s3.upload_file(str(self.local / "table.parquet"), "bench-far", "table.parquet")
        self.targets["fused"] = Fused(base, server, bench.options.o, "far", self.endpoint)
        self.targets["juicefs"] = JuiceFs(base, server, "far-juicefs", self.endpoint)
        shutil.copytree(self.local, self.targets["juicefs"].dir, dirs_exist_ok=True)
        self.targets["juicefs"].forget()
        if shutil.which("rclone"):
            self.targets["rclone"] = Rclone(base, server, "bench-far", self.endpoint)
        if shutil.which("s3fs"):
            self.targets["s3fs"] = S3fs(base, server, "bench-far", self.endpoint)

    def table(self, path):
        import pyarrow
        import pyarrow.parquet
        numbers = random.Random(7)
        columns = {f"c{n}": [numbers.random() for _ in range(ROWS)] for n in range(COLUMNS)}
        pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=ROWS // ROW_GROUPS, use_dictionary=False)

    def directories(self):
        yield "local", self.local
        for name, target in self.targets.items():
            yield name, target.dir

    def epochs(self, number):
        """Only the first round is cold."""
        self.prepare()
        for name, directory in self.directories():
            directory = directory / "images"
            drop_caches()
            first = work("read-each", directory, WORKERS)
            if not number:
                self.bench.record("first epoch", name, IMAGES / 1e3 / first)
            cached = work("read-each", directory, WORKERS)
            self.bench.record("second epoch", name, IMAGES / 1e3 / cached)
            drop_caches()
            self.bench.record("second epoch, all caches dropped", name, IMAGES / 1e3 / work("read-each", directory, WORKERS))

    def flush(self, number):
        """Nearby, client and server share the processors; here it counts how many requests are under way."""
        bench = self.bench
        if not self.holding:
            options = [*bench.options.o, "settle=1h"]
            self.holding = Fused(bench.base, bench.server, options, "far-flush", self.endpoint)
        environment = {**os.environ, "AWS_ENDPOINT_URL": self.endpoint}
        order = [None, *PUTS] if number % 2 else [*PUTS, None]
        for parallel in order:
            bench.quiet()
            if parallel:
                with bench.server.bucket() as bucket:
                    seconds = float(call(WORK, "put", bucket, SMALL_FILES, parallel, env=environment))
                bench.record("flush of 4 KiB files, 30 ms away", f"plain {parallel} at once", SMALL_FILES / 1e3 / seconds)
                continue
            home = self.holding.dir / f"small-{number}"
            home.mkdir()
            work("create-4k", home, SMALL_FILES)
            os.sync()
            bench.record("flush of 4 KiB files, 30 ms away", "fused", SMALL_FILES / 1e3 / sync(home))
            call("rm", "-r", home)
            self.holding.settle()

    def queries(self, number):
        """Only the first round is cold."""
        import pyarrow.parquet
        self.prepare()
        for name, directory in self.directories():
            for kind in ("cold", "warm") if not number else ("warm",):
                drop_caches()
                began = time.perf_counter()
                for n in range(QUERIES):
                    table = pyarrow.parquet.ParquetFile(directory / "table.parquet", memory_map=False)
                    # Each in a row group and a column of its own.
                    group, column = n * 3 % ROW_GROUPS, f"c{n % COLUMNS}"
                    assert table.read_row_group(group, columns=[column]).num_rows == ROWS // ROW_GROUPS
                    table.close()
                self.bench.record(f"point query, {kind}", name, QUERIES / 1e3 / (time.perf_counter() - began))
