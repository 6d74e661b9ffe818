"""Each stage by itself: micro-benchmarks in ns, and instructions per packet, which are the same in
every run of the same build."""
import glob
import json
import os
import re
import shutil
import subprocess

from measure import BUILD, ROOT, SYNFIND, Failed, note
from report import figure, output
from workloads import empty

KEPT = os.path.join(ROOT, "tests/bench/instructions.txt")
LOADS = {"churn": "small-churn", "bulk": "small-bulk", "flood": "small-flood"}


def micro(bench):
    """Every build/bench/micro_*; see micro.h."""
    rows = []
    env = dict(os.environ, BENCH_PCAP=bench.loads["W1"].pcap)
    for path in sorted(p for p in glob.glob(os.path.join(BUILD, "micro_*"))
                       if os.access(p, os.X_OK) and "." not in os.path.basename(p)):
        name = os.path.basename(path)
        note(f"stages: {name}")
        p = subprocess.run([path], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           preexec_fn=bench.free_to_move)
        if p.returncode:
            why = (p.stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
            note(f"left out: {name}: status {p.returncode}: {why}")
            bench.report.leave_out(f"{name}: status {p.returncode}: {why}")
            continue
        for line in p.stdout.splitlines():
            f = json.loads(line)
            rows.append((f["name"], figure(f["value"]), f["unit"]))
            if "at_most" in f or "at_least" in f:
                bench.report.goal(f["name"], f["value"], at_most=f.get("at_most"),
                                  at_least=f.get("at_least"), unit=f["unit"])
    bench.report.table("Stages", ("stage", "value", "unit"), rows)


def instructions_of(pcap):
    p = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", SYNFIND,
                        f"--read={pcap}", "--quiet"], stdout=subprocess.DEVNULL,
                       stderr=subprocess.PIPE)
    m = re.search(r"Collected : (\d+)", p.stderr.decode(errors="replace"))
    if p.returncode or not m:
        raise Failed(f"callgrind: status {p.returncode}")
    return int(m.group(1))


def read_kept():
    """The compiler and name -> instructions per packet, as they were kept."""
    kept, compiler = {}, ""
    if os.path.exists(KEPT):
        with open(KEPT) as f:
            for line in f:
                if line.startswith("# compiler: "):
                    compiler = line[12:].strip()
                elif line.strip() and not line.startswith("#"):
                    name, value = line.split()
                    kept[name] = float(value)
    return compiler, kept


def write_kept(compiler, now):
    with open(KEPT, "w") as f:
        f.write("# Instructions per packet of `synfind --read --quiet`, start-up excluded, as\n"
                "# callgrind counts them.  `make bench` compares, and\n"
                "# `make bench STEPS=instructions KEEP=1` renews.\n"
                f"# compiler: {compiler}\n")
        for name, value in now.items():
            f.write(f"{name:<8}{value:.1f}\n")


def instructions(bench):
    if not shutil.which("valgrind"):
        bench.report.leave_out("instruction counts: valgrind is not installed")
        return
    compiler = output(os.environ.get("CC", "gcc"), "--version").split("\n")[0]
    before, kept = read_kept()
    note("instructions: start-up")
    base = instructions_of(empty())
    now, rows = {}, []
    for name, load in LOADS.items():
        note(f"instructions: {name}")
        w = bench.loads[load]
        now[name] = (instructions_of(w.pcap) - base) / w.frames
        change = f"{100 * (now[name] / kept[name] - 1):+.1f} %" if name in kept else "-"
        note(f"instructions: {name}: {now[name]:.1f} per packet, {change}")
        rows.append((name, f"{now[name]:.1f}", f"{kept[name]:.1f}" if name in kept else "-",
                     change))
    notes = ["synfind --read --quiet, start-up excluded, counted by callgrind."]
    if kept and before != compiler:
        notes.append(f"What was kept came from another compiler: {before}.")
    bench.report.table("Instructions per packet", ("workload", "now", "kept", "change"), rows,
                       *notes)
    if bench.keep:
        write_kept(compiler, now)
        note(f"kept in {os.path.relpath(KEPT, ROOT)}")
