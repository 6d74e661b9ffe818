#!/usr/bin/python3
"""Measures synfind beside its peers, on the same workloads, in one run; see docs/benchmarks.md.

    bench.py [--quick] [--full] [--keep] [STEP]...

A whole run is written to docs/benchmarks.md, any run to build/bench/report.md and to standard
output; progress goes to standard error."""
import argparse
import os
import sys
import time

import measure
import offline
import online
import peers
import report
import stages
import workloads
from measure import note

STEPS = {
    "instructions": stages.instructions,
    "stages": stages.micro,
    "speed": offline.speed,
    "memory": offline.memory,
    "counts": offline.counts,
    "growth": offline.growth,
    "live": online.capture,
    "latency": online.latency,
    "quiet": online.quiet,
}
NEEDS = {"memory": ["speed"]}  # whose figures a step uses
NEEDS_ROOT = ("live", "latency", "quiet")


class Bench:
    """What the steps share."""

    def __init__(self, args):
        self.quick, self.full, self.keep = args.quick, args.full, args.keep
        self.rounds, self.live_rounds = (2, 1) if args.quick else (3, 3)
        self.cpus = os.sched_getaffinity(0)
        self.machine = measure.Machine()
        self.loads = workloads.Workloads(args.quick)
        self.report = report.Report()
        self.peers = peers.available(self.machine.tmp)
        self.results = offline.Results()

    def free_to_move(self):
        os.sched_setaffinity(0, self.cpus)


def parse():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--quick", action="store_true", help="small workloads: under 3 minutes")
    p.add_argument("--full", action="store_true", help="also 10 million open connections")
    p.add_argument("--keep", action="store_true", help="renew tests/bench/instructions.txt")
    p.add_argument("steps", nargs="*", metavar="STEP", help=" ".join(STEPS))
    args = p.parse_args()
    unknown = [s for s in args.steps if s not in STEPS]
    if unknown:
        p.error(f"no such step: {' '.join(unknown)}")
    if not args.steps:
        args.steps = list(STEPS)
    for step in list(args.steps):
        args.steps += [n for n in NEEDS.get(step, []) if n not in args.steps]
    return args


def run_steps(bench, steps):
    for name, step in STEPS.items():
        if name not in steps:
            continue
        if name in NEEDS_ROOT and bench.machine.alone:
            bench.report.leave_out(f"{name}: one processor cannot both send and capture")
            continue
        try:
            step(bench)
        except (measure.Failed, measure.live.Timeout, OSError, RuntimeError) as e:
            note(f"step {name} failed: {e}")
            bench.report.leave_out(f"the rest of step {name}: {e}")


def main():
    args = parse()
    if os.geteuid():
        sys.exit("bench: network namespaces and packet sockets need root")
    whole = set(args.steps) == set(STEPS)
    if whole and not args.quick:
        report.around_markers(report.DOC)  # rather now than in 40 minutes
    os.makedirs(measure.BUILD, exist_ok=True)
    start = time.monotonic()
    bench = Bench(args)
    try:
        run_steps(bench, args.steps)
    finally:
        bench.machine.close()
    took = time.monotonic() - start
    kind = "Quick" if args.quick else "Whole" if whole else "Partial"
    how = (f"{kind} run of {took / 60:.0f} minutes. Figures are medians of {bench.rounds} rounds, "
           f"live of {bench.live_rounds}; ± half the range.")
    text = bench.report.markdown(how, (bench.machine.cpu, bench.machine.other),
                                 [(p.binary, p.version()) for p in bench.peers])
    with open(os.path.join(measure.BUILD, "report.md"), "w") as f:
        f.write(text)
    print(text)
    if whole and not args.quick:
        report.write_between_markers(report.DOC, text)
        note(f"written to {os.path.relpath(report.DOC, measure.ROOT)}")


main()
