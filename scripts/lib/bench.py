"""Measures a mount against the local folder below it and against JuiceFS --writeback.

Every work is done by every target in turn, in an order that turns with the round, after everything
that the last one left behind has been uploaded or removed. Reported are medians over the rounds and
ratios of medians of this one run. The store is one SeaweedFS on loopback for both. Nothing here
asserts a time; the bars are printed as met or missed.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELEASE = ROOT / "target/release"
FUSED = RELEASE / "fused"
WORK = RELEASE / "bench-work"
TARGETS = ("local", "fused", "juicefs")

# (work, what it is compared with, how: at least / at most, the factor)
BARS = [
    ("write", "local", 0.95),
    ("write", "juicefs", 10),
    ("write+fsync", "local", 0.95),
    ("read, FUSE cache dropped", "local", 0.95),
    ("read, all caches dropped", "local", 0.95),
    ("create", "juicefs", 5),
    ("stat", "juicefs", 5),
    ("rename", "juicefs", 5),
    ("unlink", "juicefs", 5),
    ("flush", "plain upload", 0.85),
]
RSS_MIB_MAX = 300
# What plain uploads are tried with: (MiB a part, parallel requests).
UPLOADS = [(8, 10), (16, 4), (16, 16), (32, 8), (64, 4)]


def call(*command, **options):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {result.stdout}{result.stderr}")
    return result.stdout


def work(*words):
    return float(call(WORK, *words))


def wait_until(what, happened, limit_s=600):
    deadline = time.monotonic() + limit_s
    while not happened():
        if time.monotonic() > deadline:
            sys.exit(f"waited {limit_s} s in vain: {what}")
        time.sleep(0.1)


class Server:
    """SeaweedFS and a boto3 client for it."""

    def __init__(self, base):
        serve = [sys.executable, ROOT / "tests/programs/serve.py", "--dir", base / "s3", "seaweedfs"]
        self.process = subprocess.Popen(list(map(str, serve)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = json.loads(self.process.stdout.readline())
        self.endpoint, self.master = said["endpoint"], said["master"]
        self.access_key, self.secret_key = said["access_key"], said["secret_key"]
        os.environ.update(
            AWS_ACCESS_KEY_ID=self.access_key, AWS_SECRET_ACCESS_KEY=self.secret_key,
            AWS_ENDPOINT_URL=self.endpoint, AWS_REGION="us-east-1",
        )
        import boto3
        import botocore.config
        # What costs a client time and the server doesn't ask for is off: the best plain client counts.
        config = botocore.config.Config(
            s3={"addressing_style": "path", "payload_signing_enabled": False}, max_pool_connections=32,
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
        )
        self.s3 = boto3.client("s3", endpoint_url=self.endpoint, config=config)

    def vacuum(self):
        """Gives the space of deleted objects back."""
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{self.master}/vol/vacuum?garbageThreshold=0.01", timeout=120).close()

    def upload(self, file, part_mib, parallel):
        """Seconds of one plain multipart upload to a new bucket, which goes away with the object."""
        from boto3.s3.transfer import TransferConfig
        bucket = f"plain-{time.time_ns()}"
        self.s3.create_bucket(Bucket=bucket)
        config = TransferConfig(multipart_chunksize=part_mib << 20, max_concurrency=parallel)
        began = time.perf_counter()
        self.s3.upload_file(str(file), bucket, "object", Config=config)
        seconds = time.perf_counter() - began
        self.s3.delete_object(Bucket=bucket, Key="object")
        self.s3.delete_bucket(Bucket=bucket)
        return seconds

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Local:
    """The plain folder on the file system of the extents."""

    def __init__(self, base):
        self.dir = base / "local"
        self.dir.mkdir()

    def settle(self):
        pass

    def stop(self):
        pass


class Fused:
    """The release binary, its cache beside the plain folder."""

    def __init__(self, base, server, options):
        server.s3.create_bucket(Bucket="bench-fused")
        self.dir = base / "fused"
        self.dir.mkdir()
        options = ",".join([f"cache_dir={base / 'fused-cache'}"] + options)
        call(FUSED, "mount", "s3://bench-fused", self.dir, "-o", options)
        self.status = json.loads(call(FUSED, "status", "--json", self.dir))
        self.rss_kib_max = 0
        self.sampling = threading.Event()
        threading.Thread(target=self.sample, daemon=True).start()

    def sample(self):
        """VmHWM is the kernel's own maximum; asked again and again, in case the daemon ends."""
        while not self.sampling.wait(0.5):
            with contextlib.suppress(OSError, StopIteration):
                lines = open(f"/proc/{self.status['pid']}/status").read().splitlines()
                peak = next(line for line in lines if line.startswith("VmHWM"))
                self.rss_kib_max = max(self.rss_kib_max, int(peak.split()[1]))

    def settle(self):
        call(FUSED, "sync", self.dir)

    def stop(self):
        self.sampling.set()
        subprocess.run([FUSED, "umount", self.dir], check=False)


class JuiceFs:
    """JuiceFS with --writeback on the same server, Redis for its metadata."""

    def __init__(self, base, server):
        server.s3.create_bucket(Bucket="bench-juicefs")
        self.dir, self.cache = base / "juicefs", base / "juicefs-cache"
        self.dir.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        redis = ["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", base, "--daemonize", "no"]
        self.redis = subprocess.Popen(list(map(str, redis)), stdout=subprocess.DEVNULL)
        wait_until("redis answers", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 30)
        meta = f"redis://127.0.0.1:{port}/1"
        self.program = pathlib.Path(sys.executable).parent / "juicefs"
        call(
            self.program, "format", "--storage", "s3", "--bucket", f"{server.endpoint}/bench-juicefs",
            "--access-key", server.access_key, "--secret-key", server.secret_key, "--trash-days", "0", meta, "bench",
        )
        call(
            self.program, "mount", "-d", "--writeback", "--no-usage-report", "--metrics", "127.0.0.1:0", "--cache-dir", self.cache,
            "--log", base / "juicefs.log", meta, self.dir,
        )

    def settle(self):
        """Until every staged block is in the store."""
        staged = lambda: any(files for top in self.cache.glob("*/rawstaging") for _, _, files in os.walk(top))
        wait_until("JuiceFS has uploaded what it staged", lambda: not staged())

    def stop(self):
        subprocess.run([self.program, "umount", "--force", self.dir], check=False, capture_output=True)
        self.redis.terminate()
        self.redis.wait()


def drop_caches():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


class Bench:
    def __init__(self, options, base):
        self.options, self.base = options, base
        self.bytes, self.files = options.mib << 20, options.files
        self.results = {}
        self.server = Server(base)
        self.targets = {
            "local": Local(base),
            "fused": Fused(base, self.server, options.o),
            "juicefs": JuiceFs(base, self.server),
        }

    def stop(self):
        for target in self.targets.values():
            target.stop()
        self.server.stop()

    def record(self, name, target, value):
        self.results.setdefault(name, {}).setdefault(target, []).append(value)

    def quiet(self):
        for target in self.targets.values():
            target.settle()
        os.sync()

    def in_turn(self, number):
        turn = number % len(TARGETS)
        for name in TARGETS[turn:] + TARGETS[:turn]:
            self.quiet()
            yield name, self.targets[name].dir

    def writes(self, number, name, *fsync):
        for target, directory in self.in_turn(number):
            file = directory / "written"
            self.record(name, target, self.bytes / 1e9 / work("write", file, self.bytes, *fsync))
            file.unlink()

    def reads(self, number):
        for target, directory in self.in_turn(number):
            file = directory / "resident"
            if not file.exists():
                work("write", file, self.bytes)
                self.quiet()
            # Once unmeasured: what is cached below the mount is cached now.
            work("read", file)
            self.record("read, FUSE cache dropped", target, self.bytes / 1e9 / self.read_through(target, file))
            drop_caches()
            self.record("read, all caches dropped", target, self.bytes / 1e9 / work("read", file))

    def read_through(self, target, file):
        """Below the mount the local file system's cache stays; the local folder keeps its own, too."""
        if target != "local":
            return work("read", file)
        with open(file, "rb", buffering=0) as warm:
            while warm.read(1 << 20):
                pass
        return work("read-cached", file)

    def names(self, number):
        for target, directory in self.in_turn(number):
            directory = directory / f"names-{number}"
            directory.mkdir()
            for name in ("create", "stat", "rename", "unlink"):
                self.record(name, target, self.files / 1e3 / work(name, directory, self.files))
            directory.rmdir()

    def flushes(self, number):
        source = self.base / "source"
        if not source.exists():
            with open(source, "wb") as out:
                for _ in range(self.options.mib):
                    out.write(os.urandom(1 << 20))
        fused = self.targets["fused"]
        order = [None, *UPLOADS] if number % 2 else [*UPLOADS, None]
        for upload in order:
            self.quiet()
            if upload:
                seconds = self.server.upload(source, *upload)
                self.record("flush", f"plain {upload[1]} x {upload[0]} MiB", self.bytes / 1e9 / seconds)
                continue
            file = fused.dir / "flushed"
            work("copy", source, file)
            began = time.perf_counter()
            call(FUSED, "sync", file)
            self.record("flush", "fused", self.bytes / 1e9 / (time.perf_counter() - began))
            file.unlink()

    def run(self):
        wanted = self.options.only.split(",") if self.options.only else ["write", "fsync", "read", "names", "flush"]
        works = {
            "write": lambda n: self.writes(n, "write"),
            "fsync": lambda n: self.writes(n, "write+fsync", "fsync"),
            "read": self.reads, "names": self.names, "flush": self.flushes,
        }
        for number in range(self.options.rounds):
            for name in wanted:
                print(f"round {number + 1} of {self.options.rounds}: {name}", file=sys.stderr, flush=True)
                works[name](number)
            self.quiet()
            self.server.vacuum()
        for values in self.results.values():
            plain = {name: rates for name, rates in values.items() if name.startswith("plain ")}
            if plain:
                values["plain upload"] = max(plain.values(), key=statistics.median)


def report(bench):
    medians = {name: {t: statistics.median(v) for t, v in values.items()} for name, values in bench.results.items()}
    bars = []
    for name, against, factor in BARS:
        if name in medians and against in medians[name]:
            ratio = medians[name]["fused"] / medians[name][against]
            bars.append({"work": name, "against": against, "ratio": ratio, "bar": factor, "met": ratio >= factor})
    rss_mib = bench.targets["fused"].rss_kib_max / 1024
    bars.append({"work": "resident memory, MiB", "against": "", "ratio": rss_mib, "bar": RSS_MIB_MAX, "met": rss_mib < RSS_MIB_MAX})

    row = "{:<27}{:>10}{:>10}{:>10}{:>14}   {}".format
    print("\n" + row("median", "local", "fused", "juicefs", "plain upload", "unit"))
    for name, values in medians.items():
        cells = [f"{values[t]:.2f}" if t in values else "" for t in (*TARGETS, "plain upload")]
        unit = "k/s" if name in ("create", "stat", "rename", "unlink") else "GB/s"
        print(row(name, *cells, unit))
    print("\n" + "{:<27}{:<16}{:>10}{:>10}".format("ratio of fused", "to", "seen", "bar"))
    for bar in bars:
        sign = "<" if bar["against"] == "" else ">="
        print("{:<27}{:<16}{:>10.2f}{:>10}  {}".format(bar["work"], bar["against"], bar["ratio"], f"{sign} {bar['bar']}", "met" if bar["met"] else "MISSED"))
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(), "cores": os.cpu_count(), "mib": bench.options.mib, "files": bench.options.files,
        "rounds": bench.options.rounds, "passthrough": bench.targets["fused"].status.get("passthrough"),
        "rates": bench.results, "medians": medians, "bars": bars,
    }


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=2048, help="size of the large files (default: 2048)")
    parser.add_argument("--files", type=int, default=10_000, help="number of the empty files (default: 10000)")
    parser.add_argument("--only", help="some of: write,fsync,read,names,flush")
    parser.add_argument("-o", action="append", default=[], metavar="OPTION", help="more options for the mount")
    parser.add_argument("--json", type=pathlib.Path, help="write every figure there")
    parser.add_argument("--dir", type=pathlib.Path, default=ROOT / "target/tmp", help="where all data is (default: target/tmp)")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a bar is missed")
    options = parser.parse_args()

    options.dir.mkdir(parents=True, exist_ok=True)
    base = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=options.dir))
    bench = None
    try:
        bench = Bench(options, base)
        bench.run()
        result = report(bench)
    finally:
        if bench:
            bench.stop()
        if any(os.path.ismount(base / name) for name in TARGETS):
            print(f"something is still mounted below {base}", file=sys.stderr)
        else:
            shutil.rmtree(base, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if options.strict and not all(bar["met"] for bar in result["bars"]) else 0


if __name__ == "__main__":
    sys.exit(main())
