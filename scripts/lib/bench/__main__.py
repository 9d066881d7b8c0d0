"""Measures a mount against the local folder below it and against JuiceFS --writeback.

Every work is done by every target in turn, in an order that turns with the round, after everything
that the last one left behind has been uploaded or removed. Reported are medians over the rounds and
ratios of medians of this one run. The store is one SeaweedFS on loopback for both. Nothing here
asserts a time; the bars are printed as met or missed.
"""

import argparse
import json
import pathlib
import shutil
import signal
import sys
import tempfile

from common import ROOT
from report import report
from works import WORKS, Bench


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=2048, help="size of the large files (default: 2048)")
    parser.add_argument("--files", type=int, default=10_000, help="number of the empty files (default: 10000)")
    parser.add_argument("--only", help=f"some of: {','.join(WORKS)}")
    parser.add_argument("--entries", type=int, default=100_000, help="entries of the directory that is listed (default: 100000)")
    parser.add_argument("-o", action="append", default=[], metavar="OPTION", help="more options for the mount")
    parser.add_argument("--json", type=pathlib.Path, help="write every figure there")
    parser.add_argument("--dir", type=pathlib.Path, default=ROOT / "target/tmp", help="where all data is (default: target/tmp)")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a bar is missed")
    options = parser.parse_args()

    # Also where it was started in the background: what is mounted is to go.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    options.dir.mkdir(parents=True, exist_ok=True)
    base = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=options.dir))
    bench = None
    try:
        bench = Bench(options, base)
        try:
            bench.run()
        except KeyboardInterrupt:
            print("interrupted; this is what was measured by then", file=sys.stderr)
        result = report(bench)
    finally:
        if bench:
            bench.stop()
        # Or what is in the store would be removed through it.
        if f" {base.resolve()}/" in pathlib.Path("/proc/self/mountinfo").read_text():
            print(f"something is still mounted below {base}", file=sys.stderr)
        else:
            shutil.rmtree(base, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if options.strict and not all(bar["met"] for bar in result["bars"]) else 0


if __name__ == "__main__":
    sys.exit(main())
