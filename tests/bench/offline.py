"""Over files: synfind, its peers and the memory's own floor, in turn, round after round."""
import json
import re
import shlex
import subprocess

from measure import SYNFIND, Failed, Series, note, program, ratios
from report import figure, with_spread
from workloads import empty

QUIET, EVENTS, MEMWALK = "synfind, no output", "synfind, all events to a pipe", "memwalk"
LOADS = ("W1", "W2", "W3", "W4")


def synfind(pcap, *options):
    return [SYNFIND, f"--read={pcap}", *options]


def memwalk(bench, pcap, passes, huge=False):
    """The best of the batched loops, ns per packet."""
    cost = bench.machine.run([program("memwalk"), pcap, str(passes), *(["HUGE"] if huge else [])])
    figures = [json.loads(line) for line in cost.out.splitlines()]
    return min(f["value"] for f in figures if "batch" in f["name"])


class Results:
    """ns per packet and peak memory of each tool on each workload."""

    def __init__(self):
        self.ns, self.peak, self.counts, self.failed = {}, {}, {}, set()

    def series(self, tool, load):
        return self.ns.setdefault((tool, load), Series())

    def best_tracker(self, peers, load):
        """Of those that track: the cheapest, or None."""
        there = [p.name for p in peers if p.tracks and not p.slow and self.ns.get((p.name, load))]
        return min(there, key=lambda n: self.ns[n, load].median, default=None)


def measure_one(bench, results, tool, load, argv, w, **how):
    if (tool, load) in results.failed:
        return None
    try:
        cost = bench.machine.run(argv, **how)
    except Failed as e:
        note(f"left out: {tool} on {load}: {e}")
        bench.report.leave_out(f"{tool} on {load}: {e}")
        results.failed.add((tool, load))
        results.ns.pop((tool, load), None)
        return None
    results.series(tool, load).add(cost.cpu * 1e9 / w.frames)
    results.peak[tool, load] = max(cost.peak, results.peak.get((tool, load), 0))
    return cost


def measure_peer(bench, results, peer, load, w, out="file"):
    peer.clean()
    cost = measure_one(bench, results, peer.name, load, peer.offline(w.pcap), w, out=out)
    if cost and load in ("W1", "W1r"):
        try:
            results.counts[peer.name, load] = peer.count(cost)
        except Failed as e:
            note(f"{peer.name} on {load}: no count: {e}")
    peer.clean()


def measure_load(bench, results, load):
    w = bench.loads[load].warm()
    for i in range(bench.rounds):
        note(f"{load}, round {i + 1} of {bench.rounds}: {w.frames:,} frames")
        measure_one(bench, results, QUIET, load, synfind(w.pcap, "--quiet"), w)
        measure_one(bench, results, EVENTS, load, synfind(w.pcap), w, out="pipe")
        results.series(MEMWALK, load).add(memwalk(bench, w.pcap, 3))
        for peer in bench.peers:
            if not (peer.slow and i):
                measure_peer(bench, results, peer, load, w)
    results.series("memwalk, huge pages", load).add(memwalk(bench, w.pcap, 3, huge=True))


def tool_names(bench):
    return [QUIET, EVENTS, MEMWALK, "memwalk, huge pages", *(p.name for p in bench.peers)]


def speed(bench):
    """(a), (b), (c): CPU time per packet over files."""
    r = bench.results
    for load in LOADS:
        measure_load(bench, r, load)
    for load in ("W1", "W2", "W4"):
        bench.report.goal(f"decode and track, {load}, against memwalk's best batched loop",
                          ratios(r.series(QUIET, load), r.series(MEMWALK, load)), at_most=2.5,
                          unit="x")
    for load, tool, goal, what in (("W1", EVENTS, 10, "all events to a pipe, W1"),
                                   ("W3", QUIET, 15, "flood (W3), no output"),
                                   ("W3", EVENTS, 15, "flood (W3), all events to a pipe")):
        best = r.best_tracker(bench.peers, load)
        bench.report.goal(f"{what}: less CPU than the best tracker",
                          ratios(r.series(best, load), r.series(tool, load)) if best else None,
                          at_least=goal, unit="x", remark=f"({best})" if best else "")
    bench.report.table(
        "Files: CPU time, ns per packet", ("tool", *LOADS),
        [(t, *(with_spread(r.series(t, load)) for load in LOADS)) for t in tool_names(bench)],
        "memwalk is no tracker but the floor: parse, hash, and one random cache line per packet. "
        "The peers print less than synfind: flows or conversations, no states.")


# ---- memory ------------------------------------------------------------------------------------

def memory_run(bench, load, *options):
    """Peak memory beyond that of the same program on an empty file.  Through a pipe: a file would be
    mapped, and up to 8 MiB of it count as resident."""
    def peak(pcap):
        command = shlex.join(synfind("-", "--quiet", *options))
        return bench.machine.run(["sh", "-c", f"cat {shlex.quote(pcap)} | {command}"]).peak

    return peak(bench.loads[load].pcap) - peak(empty())


def memory(bench):
    """(d): resident octets per connection that is open, and half-open."""
    r = bench.results
    note("memory per connection")
    w3, w4 = bench.loads["W3"], bench.loads["W4"]
    whole, half = w4.truth["peak_open"], w3.truth["flood_syns"]
    per_whole = memory_run(bench, "W4", f"--max-connections={whole}") / whole
    # Real connections are half-open for a while as well.
    per_half = memory_run(bench, "W3", f"--max-half-open={half + 20000}",
                          "--max-connections=20000") / half
    few = "with so few, what is fixed weighs" if bench.quick else ""
    bench.report.goal(f"memory per open connection ({whole:,}: W4)", per_whole, at_most=128,
                      unit="octets", remark=few)
    bench.report.goal(f"memory per half-open connection ({half:,}: W3)", per_half, at_most=64,
                      unit="octets", remark=few)
    rows = [("synfind, room for all", figure(per_whole), figure(per_half), "-", "-")]
    for tool in [QUIET, *(p.name for p in bench.peers if p.tracks and not p.slow)]:
        base, on3, on4 = (r.peak.get((tool, n)) for n in ("W2", "W3", "W4"))
        rows.append((tool.replace("no output", "default limits"),
                     figure((on4 - base) / whole) if on4 and base else "-",
                     figure((on3 - base) / half) if on3 and base and tool != QUIET else "-",
                     *(figure(peak / 1e6) if peak else "-" for peak in (on3, on4))))
    bench.report.table(
        "Memory", ("tool", "octets per open connection (W4)", "octets per lone SYN (W3)",
                   "peak on W3, MB", "peak on W4, MB"), rows,
        "Peak resident set. The first row: less that on an empty file. The others: less that on W2, "
        "a long file of 2,000 connections. With its default limits synfind keeps 65,536 half-open "
        "connections, whatever comes: that peak, mapped file included, is its maximum.")


# ---- counts ------------------------------------------------------------------------------------

TOKENS = {
    "opened": b'"event_type":"tcp_open"',
    "established": b'"event_type":"tcp_established"',
    "closed": b'"event_type":"tcp_close"',
    "three segments": b'"teardown":"three_segments"',
    "four segments": b'"teardown":"four_segments"',
    "reset": b'"reason":"rst"',
    "refused": b'"reason":"refused"',
    "unanswered": b'"conn_state":"S0"',
}


NO_SERIES = "--syn-flood-half-open=0"


def count_events(pcap, *args):
    """How often each token stands in the stream; a line has each at most once.  And what the series
    of SYN floods counted instead, and their lines."""
    counts = dict.fromkeys(TOKENS, 0)
    untold = series = 0
    p = subprocess.Popen(synfind(pcap, *args), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    rest = b""
    while block := p.stdout.read(1 << 22):
        lines, newline, tail = (rest + block).rpartition(b"\n")
        rest = tail
        for name, token in TOKENS.items():
            counts[name] += lines.count(token)
        for m in re.finditer(rb'^.*"event_type":"syn_flood".*$', lines, re.M):
            flood = json.loads(m[0])["flood"]
            series += 1
            if flood["phase"] == "end":
                untold += flood["attempts"] - flood["completed"] - flood["told"]
    if p.wait():
        raise Failed(f"synfind: status {p.returncode}")
    return counts, untold, series


def truth_of(w):
    t = w.truth
    return {"opened": w.connections, "established": t["established"], "closed": w.connections,
            "three segments": t["closed_3seg"], "four segments": t["closed_4seg"],
            "reset": t["aborted_rst"], "refused": t["refused"],
            "unanswered": t["unanswered"] + t["flood_syns"]}


def counts(bench):
    """Right or wrong, beside the generator's truth."""
    rows, wrong_figures = [], 0
    for load, *args in (("W1",), ("W1r",), ("W2",), ("W3",), ("W3", NO_SERIES), ("W4",)):
        note(f"counting what is told of {load}")
        w = bench.loads[load]
        (got, untold, series), want = count_events(w.pcap, *args), truth_of(w)
        for name in ("opened", "closed", "unanswered"):
            got[name] += untold
        wrong = [f"{k} {got[k]:,} of {want[k]:,}" for k in TOKENS if got[k] != want[k]]
        wrong_figures += len(wrong)
        rows.append(("synfind", " ".join((load, *args)) + (f", {series} lines of series" if series else ""),
                     f"{len(TOKENS)} figures of {w.connections:,} connections",
                     "; ".join(wrong) or "all", "**wrong**" if wrong else "right"))
    bench.report.goal("figures that differ from the truth, W1 W1r W2 W3 W4", wrong_figures,
                      at_most=0)
    w = bench.loads["W1r"].warm()
    for peer in bench.peers:
        if peer.tracks:
            measure_peer(bench, bench.results, peer, "W1r", w)
        for load in ("W1", "W1r"):
            got, want = bench.results.counts.get((peer.name, load)), \
                peer.expected(bench.loads[load])
            if got is not None:
                rows.append((peer.name, load, f"{want:,} {peer.counts}", f"{got:,}",
                             "right" if got == want else "wrong"))
    bench.report.table("Counts beside the truth", ("tool", "workload", "truth", "told", ""), rows,
                       "Of synfind: connections opened, established, closed; by three segments, by "
                       "four, by reset; refused; unanswered.")


# ---- growth ------------------------------------------------------------------------------------

def growth(bench):
    """(e): what a packet costs on a connection among many, with huge pages and without."""
    sizes = [10_000, 1_000_000] if bench.quick else [10_000, 100_000, 1_000_000]
    sizes += [10_000_000] if bench.full else []
    exchange = 1_000_000 if bench.quick else 4_000_000
    cost = {}
    for conns in sizes:
        only = bench.loads.growth(conns, 0).warm()
        both = bench.loads.growth(conns, exchange).warm()
        limits = [f"--max-connections={conns + 1000}", "--quiet"]
        for i in range(bench.rounds):
            note(f"{conns:,} open connections, round {i + 1} of {bench.rounds}")
            for huge in (True, False):
                opened, all_in = (bench.machine.run(synfind(w.pcap, *limits), huge=huge).cpu
                                  for w in (only, both))
                cost.setdefault((conns, huge), Series()).add((all_in - opened) * 1e9 / exchange)
    rows = []
    for conns in sizes:
        rows.append((f"{conns:,}", *(with_spread(cost[conns, huge]) for huge in (True, False)),
                     *(figure(ratios(cost[conns, huge], cost[sizes[0], huge]).median)
                       for huge in (True, False))))
        for huge, limit in ((True, 1.5), (False, 2)):
            if conns >= 1_000_000:
                bench.report.goal(
                    f"cost per packet at {conns:,} open connections against {sizes[0]:,}, "
                    f"huge pages {'allowed' if huge else 'forbidden'}",
                    ratios(cost[conns, huge], cost[sizes[0], huge]), at_most=limit, unit="x")
    bench.report.table(
        "Growth: CPU time, ns per packet on an open connection", (
            "open connections", "huge pages allowed", "forbidden", "x the first", "x the first"),
        rows, f"{exchange:,} data segments, each on a connection picked at random: the time of a "
        "file with them less that of one without, synfind --read --quiet.")
