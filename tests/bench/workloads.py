"""The workloads: what the generator is told, and what it says is in them."""
import json
import os
import shutil
import struct
import subprocess

from measure import BUILD, ROOT, note

GEN = os.path.join(ROOT, "build/tests/gen")
OCTETS_PER_FRAME = 16 + 128  # in a file, at most, but for whole frames
ENDS = "--refused 5 --unanswered 3 --aborted 7 --fin3 50"
CHURN = "--seed 11 -n {n} -w {w} --segs 2 {size} --ipv6 20 " + ENDS
BULK = "--seed 22 -n {n} -w {n} --segs {segs} {size} --upload 25 --ipv6 20 --aborted 2"


def definitions(quick):
    """Name -> (what it is, generator options)."""
    churn = {"n": 20000, "w": 2000} if quick else {"n": 200000, "w": 20000}
    live = {"n": 60000, "w": 6000} if quick else churn  # starting must not count for much
    segs = 80 if quick else 1334
    flood = "100000" if quick else "2000000"
    held = "50000" if quick else "1000000"
    cut, whole = "--payload 400 --request 200 -s 128", "--payload 48 --request 40"
    return {
        "W1": ("churn", CHURN.format(size=cut, **churn)),
        "W1f": ("churn, whole frames", CHURN.format(size=whole, **live)),
        "W1r": ("churn, 4-tuples used again", CHURN.format(size=cut, **churn) + " --reuse 20"),
        "W2": ("bulk", BULK.format(n=2000, segs=segs, size="--payload 1400 -s 128")),
        "W2f": ("bulk, whole frames",
                BULK.format(n=2000, segs=3 * segs if quick else segs, size="--payload 48")),
        "W3": ("flood", f"--seed 33 -n 10000 -w 1000 --segs 2 -s 128 --ipv6 20 --flood {flood}"),
        "W4": ("many open at once",
               f"--seed 44 -n {held} -w 1000 --hold --segs 0 -s 128 --ipv6 20 --fin3 50"),
        "small-churn": ("instruction counts", CHURN.format(size=cut, n=5000, w=1000)),
        "small-bulk": ("instruction counts",
                       BULK.format(n=20, segs=1334, size="--payload 1400 -s 128")),
        "small-flood": ("instruction counts",
                        "--seed 33 -n 1000 -w 1000 --segs 2 -s 128 --ipv6 20 --flood 40000"),
    }


def growth(conns, exchange):
    return ("traffic among open connections",
            f"--seed 55 -n {conns} -w 1000 --hold --leave-open --segs 0 --headers --ipv6 20 "
            f"--payload 100 --exchange {exchange}")


def empty():
    """A capture file without a frame: what starting costs."""
    path = os.path.join(BUILD, "empty.pcap")
    with open(path, "wb") as f:
        f.write(struct.pack("=IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
    return path


class Workload:
    def __init__(self, name, what, options):
        self.name, self.what, self.options = name, what, options
        self.pcap = os.path.join(BUILD, f"{name}.pcap")
        self.truth_path = os.path.join(BUILD, f"{name}.truth")
        self.truth = {}

    @property
    def frames(self):
        return self.truth["frames"]

    @property
    def connections(self):
        """All that a tracker ought to tell of, lone SYNs of a flood included."""
        return self.truth["connections"] + self.truth["flood_syns"]

    def make(self):
        """Makes the file, unless it is there, made by this generator with these options."""
        stamp = f"{self.options} gen={os.stat(GEN).st_mtime_ns}"
        done = os.path.join(BUILD, f"{self.name}.made")
        if not (os.path.exists(done) and open(done).read() == stamp):
            note(f"making {self.name}: {self.what}")
            free = shutil.disk_usage(BUILD).free
            if free < 8 << 30:
                raise SystemExit(f"bench: {BUILD}: {free >> 30} GiB free, 8 wanted for workloads")
            subprocess.run([GEN, *self.options.split(), "-o", self.pcap, "--truth",
                            self.truth_path], check=True, stderr=subprocess.DEVNULL)
            with open(done, "w") as f:
                f.write(stamp)
        with open(self.truth_path) as f:
            self.truth = json.load(f)
        return self

    def warm(self):
        """Brings the file into the page cache: disks are not what is measured."""
        with open(self.pcap, "rb") as f:
            while f.read(1 << 22):
                pass
        return self


class Workloads:
    """Made when they are first asked for."""

    def __init__(self, quick):
        self.all = {n: Workload(f"quick-{n}" if quick and not n.startswith("small") else n, *d)
                    for n, d in definitions(quick).items()}

    def __getitem__(self, name):
        w = self.all[name]
        return w if w.truth else w.make()

    def growth(self, conns, exchange):
        name = f"open-{conns}-{exchange}"
        if name not in self.all:
            self.all[name] = Workload(name, *growth(conns, exchange))
        return self[name]
