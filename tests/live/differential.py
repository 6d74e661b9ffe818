#!/usr/bin/python3
"""What synfind makes of a capture against tshark, tcptrace and Zeek's rules, connection by
connection, on generated loads, spoilt ones, and the captures and scripts of the conformance tests.

    differential.py            seeds from SEED (default: the same ones each time)
    differential.py FILE...    these captures (pcap, Ethernet)
"""
import collections
import os
import random
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../support"), os.path.join(HERE, "../support/differential")]
import compare
import events
import live
import peers
import tap
import workloads

SEED = int(os.environ.get("SEED", "1"))
ROUNDS = int(os.environ.get("ROUNDS", "6"))
TSHARK = "4.0"  # Debian 12's: Debian 13's begins some streams elsewhere, which has no name yet
TELL_ALL = ("--anomalies-per-connection=14", "--anomalies-per-second=1000000")
classes, equal = collections.Counter(), collections.Counter()


def run(name, frames):
    pcap = os.path.join(tmp, "x.pcap")
    workloads.write_pcap(frames, pcap)
    p = subprocess.run([live.SYNFIND, "--read", pcap, *TELL_ALL], capture_output=True, timeout=60)
    stream, faults = events.check(p.stdout.splitlines())
    tap.ok(p.returncode == 0 and not faults, f"{name}: the stream is right", faults)
    c = compare.Comparison(stream, peers.tshark(pcap), peers.tcptrace(pcap))
    c.run()
    classes.update(c.classes)
    equal.update(c.equal)
    if not tap.ok(c.conns and not c.unexplained,
                  f"{name}: {len(c.conns)} connections, every difference has a name",
                  c.unexplained[:12], f"{len(c.unexplained)} in all"):
        kept = os.path.join(os.environ.get("TMPDIR", "/tmp"),
                            f"differential-{re.sub('[^a-z0-9]+', '-', name)}.pcap")
        shutil.copy(pcap, kept)
        tap.diag(f"kept: {kept}")


def main():
    if len(sys.argv) > 1:
        for path in sys.argv[1:]:
            run(os.path.basename(path), workloads.distinct(workloads.read_pcap(path)))
        return
    frames, compare.NAMES = workloads.conformance_scripts()
    run("scripts", frames)
    compare.NAMES = {}
    for case, frames in workloads.conformance_captures():
        run(case, frames)
    for seed in range(SEED, SEED + ROUNDS):
        rng = random.Random(seed)
        frames, options = workloads.generate(rng, os.path.join(tmp, "gen.pcap"))
        print(f"# seed {seed}: gen {options}")
        run(f"seed {seed}", frames)
        for how in workloads.SPOILS:
            run(f"seed {seed}, {how}", workloads.spoil(frames, how, rng))


missing = [p for p in ("tshark", "tcptrace") if not shutil.which(p)]
if not missing:
    version = subprocess.run(["tshark", "--version"], stdout=subprocess.PIPE, text=True).stdout
    here = re.search(r"\d+\.\d+", version)[0]
    missing = [f"tshark {TSHARK} (here is {here})"] if here != TSHARK else []
if missing:
    tap.skip("differential", "missing: " + ", ".join(missing))
    tap.done()
tmp = live.tmpdir()
begun = time.monotonic()
main()
for what, n in sorted(equal.items()):
    tap.diag(f"{what}: {n} equal" + "".join(
        f", {k} {cause}" for (w, cause), k in sorted(classes.items()) if w == what))
tap.diag(f"{time.monotonic() - begun:.0f} s")
tap.done()
