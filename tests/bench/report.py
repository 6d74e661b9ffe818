"""What was found, as Markdown: goals, tables, the machine."""
import os
import platform
import re
import subprocess
import time

from measure import ROOT, SYNFIND, Series

DOC = os.path.join(ROOT, "docs/benchmarks.md")
BEGIN, END = "<!-- begin: written by make bench -->", "<!-- end: written by make bench -->"


def read(path, default="unknown"):
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError:
        return default


def output(*argv):
    p = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return p.stdout.decode(errors="replace").strip()


def figure(v, digits=3):
    """Three digits that count."""
    if v is None:
        return "-"
    if isinstance(v, int) or abs(v) >= 10 ** (digits - 1):
        return f"{v:,.0f}"
    whole = len(str(int(abs(v)))) if abs(v) >= 1 else 0
    return f"{v:.{digits - whole}f}"


def with_spread(s):
    """Median and, from several rounds, half the range in percent: "123 ±4 %"."""
    if not s:
        return "-"
    return figure(s.median) + (f" ±{s.spread:.0f} %" if s.spread is not None else "")


def commit():
    dirty = output("git", "status", "--porcelain", "--untracked-files=no", ":!docs/benchmarks.md")
    name = output("git", "log", "-1", "--format=%h of %cs") or "unknown"
    return name + (", changed since" if dirty else "")


def machine(cpus):
    cpu = re.search(r"model name\s*: (.*)", read("/proc/cpuinfo"))
    thp = re.search(r"\[(\w+)\]", read("/sys/kernel/mm/transparent_hugepage/enabled"))
    memory = re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo"))
    return [
        ("processor", f"{cpu.group(1) if cpu else platform.machine()}, {os.cpu_count()} cores; "
                      f"measured programs on number {cpus[0]}, all else on {cpus[1]}"),
        ("memory", f"{int(memory.group(1)) / 2**20:.1f} GiB" if memory else "unknown"),
        ("kernel", platform.release()),
        ("huge pages", f"transparent: {thp.group(1) if thp else 'not built in'}; "
                       f"reserved: {read('/proc/sys/vm/nr_hugepages')}"),
        ("virtual machine", output("systemd-detect-virt", "--vm") or "unknown"),
        ("compiler", output(os.environ.get("CC", "gcc"), "--version").split("\n")[0]),
        ("synfind", f"{output(SYNFIND, '--version').split()[-1]}, commit {commit()}"),
        ("date", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())),
    ]


class Report:
    def __init__(self):
        self.goals, self.parts, self.left_out = [], [], []

    def goal(self, what, value, at_most=None, at_least=None, unit="", remark=""):
        """`value`: a Series or a number; None: could not be measured."""
        if isinstance(value, Series):
            if not value:
                value = None
            else:
                remark = f"±{value.spread:.0f} % {remark}".strip() if value.spread is not None \
                    else remark
                value = value.median
        limit, sense = (at_most, "at most") if at_most is not None else (at_least, "at least")
        if value is None:
            verdict = "not measured"
        elif value <= limit if sense == "at most" else value >= limit:
            verdict = "met"
        else:
            verdict = "**missed**"
        self.goals.append((what, f"{sense} {limit:g} {unit}".strip(),
                           f"{figure(value)} {unit}".strip(), remark, verdict))

    def table(self, title, header, rows, *notes):
        self.parts.append((title, header, rows, notes))

    def leave_out(self, what):
        self.left_out.append(what)

    def markdown(self, how, cpus, versions):
        lines = [how, "", *table(("machine", ""), machine(cpus)), ""]
        if versions:
            lines += ["Peers: " + "; ".join(f"{n} {v}" for n, v in versions) + ".", ""]
        if self.goals:
            met = sum(g[4] == "met" for g in self.goals)
            lines += [f"### Goals: {met} of {len(self.goals)} met", "",
                      *table(("what", "goal", "measured", "", ""), self.goals), ""]
        for title, header, rows, notes in self.parts:
            lines += [f"### {title}", "", *table(header, rows), ""]
            for n in notes:
                lines += [n, ""]
        if self.left_out:
            lines += ["Left out:", "", *(f"- {w}" for w in self.left_out), ""]
        return "\n".join(lines)


def table(header, rows):
    yield "| " + " | ".join(header) + " |"
    yield "|---" + "|--:" * (len(header) - 1) + "|"
    for row in rows:
        yield "| " + " | ".join(str(c) for c in row) + " |"


def around_markers(path):
    """What people wrote before and behind the markers."""
    with open(path) as f:
        before, begin, rest = f.read().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"bench: {path}: the lines {BEGIN} and {END} are missing")
    return before, after


def write_between_markers(path, text):
    before, after = around_markers(path)
    with open(path + ".new", "w") as f:
        f.write(f"{before}{BEGIN}\n{text.strip()}\n{END}{after}")
    os.rename(path + ".new", path)
