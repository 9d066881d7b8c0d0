"""What the parts of the bench share: where things are, how a command is run."""

import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
RELEASE = ROOT / "target/release"
FUSED = RELEASE / "fused"
WORK = RELEASE / "bench-work"
TARGETS = ("local", "fused", "juicefs")


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


def drop_caches():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
