"""Runs programs on one processor and keeps what they cost; medians and spreads of that."""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import live

ROOT = live.ROOT
BUILD = os.path.join(ROOT, "build/bench")
SYNFIND = live.SYNFIND


def program(name):
    return os.path.join(BUILD, name)


def note(text):
    """Progress, for who waits."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


class Failed(Exception):
    """A program could not be measured; its text says why, in one line."""


@dataclass
class Cost:
    """Of one run of one program, its threads and children."""
    cpu: float  # s, user and system
    wall: float  # s
    peak: int  # octets resident at most
    out: str = ""
    err: str = ""


def read_cost(path, out="", err=""):
    with open(path) as f:
        m = json.load(f)
    return Cost(m["user"] + m["sys"], m["wall"], m["peak_kib"] * 1024, out, err)


@dataclass
class Series:
    """A figure over several rounds."""
    values: list = field(default_factory=list)

    def add(self, value):
        self.values.append(value)

    def __bool__(self):
        return bool(self.values)

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def spread(self):
        """Half of the range, in percent of the median."""
        if len(self.values) < 2 or not self.median:
            return None
        return 50 * (max(self.values) - min(self.values)) / abs(self.median)


def ratios(above, below):
    """Of two series that were measured in turn: round by round, so that what slows a whole round
    does not count."""
    return Series([a / b for a, b in zip(above.values, below.values) if b])


class Machine:
    """Where things run: measured programs on `cpu`, everything else on `other`."""

    def __init__(self):
        cpus = sorted(os.sched_getaffinity(0))
        self.cpu, self.other = cpus[-1], cpus[0]
        self.alone = len(cpus) == 1
        os.sched_setaffinity(0, {self.other})
        self.ns = live.Netns()  # peers that send somewhere do it in here
        self.tmp = tempfile.mkdtemp(prefix="tmp.", dir=BUILD)  # where room is needed
        self.sockets = live.tmpdir()  # where a short path is

    def close(self):
        shutil.rmtree(self.tmp, ignore_errors=True)

    def wrap(self, name, huge=True):
        """The command before a measured one, and the file where its cost will be."""
        path = os.path.join(self.tmp, f"cost.{name}")
        return path, [program("measure"), "-o", path, "-c", str(self.cpu),
                      *([] if huge else ["-H"]), "--"]

    def run(self, argv, out="file", huge=True, ok=(0,)):
        """Runs a program to its end.  `out`: "file" keeps its standard output, "pipe" has somebody
        on the other processor read it and throw it away."""
        path, wrap = self.wrap("run", huge)
        with tempfile.TemporaryFile(dir=self.tmp) as stdout, \
                tempfile.TemporaryFile(dir=self.tmp) as stderr:
            reader = None
            if out == "pipe":
                reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            p = self.ns.popen(*wrap, *argv, stdin=subprocess.DEVNULL, stderr=stderr, cwd=self.tmp,
                              stdout=reader.stdin if reader else stdout)
            status = p.wait()
            if reader:
                reader.stdin.close()
                reader.wait()
            stdout.seek(0)
            stderr.seek(0)
            texts = [f.read().decode(errors="replace") for f in (stdout, stderr)]
        if status not in ok:
            last = (texts[1].strip().splitlines() or [""])[-1]
            raise Failed(f"{os.path.basename(argv[0])}: status {status}: {last[:200]}")
        return read_cost(path, *texts)
