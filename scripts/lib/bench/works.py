"""The works, and the order in which the targets do them."""

import os
import sys

from cold import ColdReads
from common import TARGETS, drop_caches, work
from far import Far
from flushing import Flushing
from small import SmallFiles
from targets import Fused, JuiceFs, Local, Server
from tree import Tree
from warm import WarmReads

WORKS = (
    "write", "fsync", "read", "names", "small", "random", "flush", "flush-small", "flush-far", "recovery",
    "cold", "warm", "epochs", "queries", "tree",
)


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
        self.daemon = None
        self.small, self.flushing = SmallFiles(self), Flushing(self)
        self.far, self.tree = Far(self), Tree(self)

    def without_passthrough(self):
        """One more mount: each request passes through the daemon."""
        if not self.daemon:
            self.daemon = Fused(self.base, self.server, [*self.options.o, "passthrough=off"], "daemon")
        return self.daemon

    def stop(self):
        for part in (self.flushing, self.far, self.tree):
            part.stop()
        if self.daemon:
            self.daemon.stop()
        for target in self.targets.values():
            target.stop()
        self.server.stop()

    def record(self, name, target, value):
        self.results.setdefault(name, {}).setdefault(target, []).append(value)

    def quiet(self):
        for target in [*self.targets.values(), *filter(None, [self.daemon])]:
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

    def run(self):
        wanted = self.options.only.split(",") if self.options.only else WORKS
        works = {
            "write": lambda n: self.writes(n, "write"),
            "fsync": lambda n: self.writes(n, "write+fsync", "fsync"),
            "read": self.reads, "names": self.names,
            "small": self.small.run, "random": self.small.random,
            "flush": self.flushing.large, "flush-small": self.flushing.small, "flush-far": self.far.flush,
            "recovery": self.flushing.recovery,
            "cold": ColdReads(self).run, "warm": WarmReads(self).run,
            "epochs": self.far.epochs, "queries": self.far.queries, "tree": self.tree.run,
        }
        for number in range(self.options.rounds):
            for name in wanted:
                print(f"round {number + 1} of {self.options.rounds}: {name}", file=sys.stderr, flush=True)
                works[name](number)
            self.quiet()
            self.server.vacuum()
