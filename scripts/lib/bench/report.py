"""Medians, ratios, bars."""

import os
import platform
import statistics
import time

from common import TARGETS
from targets import Fused

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
    ("create, write 4 KiB", "juicefs", 5),
    ("readdir + stat", "juicefs", 5),
    ("untar", "juicefs", 5),
    ("untar", "local", 1 / 3),
    ("git status", "juicefs", 5),
    ("git status", "local", 1 / 3),
    ("4 KiB read, depth 1", "local", 0.9),
    ("4 KiB read, depth 32", "local", 0.9),
    ("4 KiB write, depth 1", "local", 0.9),
    ("4 KiB write, depth 32", "local", 0.9),
    ("flush", "plain client", 0.85),
    ("flush", "unverified", 0.9),
    ("flush of 4 KiB files", "plain client", 0.8),
    ("flush of 4 KiB files", "careful client", 0.8),
    ("flush of 4 KiB files, 30 ms away", "plain client", 0.8),
    ("cold read", "plain client", 0.9),
    ("cold first 64 KiB", "plain client", 1 / 1.3),
]
BARS += [
    (f"warm {kind} {size}, {threads} at once", "local", 0.9)
    for kind in ("sequential", "random") for size in ("4 KiB", "128 KiB", "1 MiB") for threads in (1, 16)
]
BARS += [
    ("second epoch", "local", 0.8),
    ("second epoch, all caches dropped", "local", 0.8),
]
BARS += [
    (f"ls -lR, {state}{kind}", against, factor)
    for kind in ("", ", attributes=listing") for state, against, factor in (("cold", "plain client", 1 / 1.5), ("warm", "juicefs", 5))
]
# One work of the mount beside another one of it.
BARS_WITHIN = [("second epoch", "first epoch", 30), ("point query, warm", "point query, cold", 40)]
# The mount's own figure, at most.
AT_MOST = [("recovery of 100000 files", 2), ("fetched for each byte asked", 2), ("memory of 1,000,000 entries, MiB", 400)]
UNITS = {
    **dict.fromkeys(("write", "write+fsync", "read, FUSE cache dropped", "read, all caches dropped", "flush", "cold read"), "GB/s"),
    **dict.fromkeys(("recovery of 10000 files", "recovery of 100000 files"), "s"),
    "cold first 64 KiB": "1/s",
    "fetched for each byte asked": "",
    "memory of 1,000,000 entries, MiB": "MiB",
}


def daemon_bar(name):
    """Without passthrough; small requests are all about the way through the daemon."""
    if name.startswith("warm "):
        return None if "4 KiB" in name else 0.6
    return 0.35


RSS_MIB_MAX = 300


def report(bench):
    medians = {name: {t: statistics.median(v) for t, v in values.items()} for name, values in bench.results.items()}
    for values in medians.values():
        for kind in ("plain", "careful"):
            rates = [rate for target, rate in values.items() if target.startswith(f"{kind} ")]
            if rates:
                values[f"{kind} client"] = max(rates)
    # Of what was interrupted, a target is missing.
    medians = {name: values for name, values in medians.items() if "fused" in values}
    bars = []
    for name, against, factor in BARS:
        if name in medians and against in medians[name]:
            ratio = medians[name]["fused"] / medians[name][against]
            bars.append({"work": name, "against": against, "ratio": ratio, "bar": factor, "met": ratio >= factor})
        if name in medians and {"daemon", "local"} <= medians[name].keys() and (bar := daemon_bar(name)):
            ratio = medians[name]["daemon"] / medians[name]["local"]
            bars.append({"work": f"{name}, no passthrough", "against": "local", "ratio": ratio, "bar": bar, "met": ratio >= bar})
    for name, other, factor in BARS_WITHIN:
        if name in medians and other in medians:
            ratio = medians[name]["fused"] / medians[other]["fused"]
            bars.append({"work": name, "against": other, "ratio": ratio, "bar": factor, "met": ratio >= factor})
    for name, limit in AT_MOST:
        if name in medians:
            seen = medians[name]["fused"]
            bars.append({"work": name, "against": "", "ratio": seen, "bar": limit, "met": seen < limit})
    rss_mib = Fused.rss_kib_max / 1024
    bars.append({"work": "resident memory, MiB", "against": "", "ratio": rss_mib, "bar": RSS_MIB_MAX, "met": rss_mib < RSS_MIB_MAX})

    shown = (*TARGETS, "daemon", "rclone", "s3fs", "plain client")
    shown = [target for target in shown if any(target in values for values in medians.values())]
    row = ("{:<38}" + "{:>14}" * len(shown) + "   {}").format
    print("\n" + row("median", *shown, "unit"))
    for name, values in medians.items():
        cells = [f"{values[t]:.3g}" if t in values else "" for t in shown]
        unit = UNITS.get(name, "GB/s" if name.startswith("warm ") else "k/s")
        print(row(name, *cells, unit))
    print("\n" + "{:<38}{:<16}{:>10}{:>10}".format("ratio of fused", "to", "seen", "bar"))
    for bar in bars:
        sign = "<" if bar["against"] == "" else ">="
        print("{:<38}{:<16}{:>10.2f}{:>10}  {}".format(bar["work"], bar["against"], bar["ratio"], f"{sign} {bar['bar']:.3g}", "met" if bar["met"] else "MISSED"))
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(), "cores": os.cpu_count(), "mib": bench.options.mib, "files": bench.options.files,
        "rounds": bench.options.rounds, "entries": bench.options.entries, "passthrough": bench.targets["fused"].status.get("passthrough"),
        "rates": bench.results, "medians": medians, "bars": bars,
    }
