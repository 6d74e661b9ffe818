"""On a veth in namespaces of our own: live capture, latency, idling, starting."""
import json
import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass

import live
from measure import Cost, Failed, Series, note, program, ratios, read_cost
from report import figure, with_spread

NEAR, FAR = "bench-a", "bench-b"  # frames go in at NEAR; FAR is watched
FLOOR, SYNFIND, TCPDUMP = "bare ring", "synfind, one socat subscriber", "tcpdump -w /dev/null"
PROFILES = {"default": {}, "low latency (--block-timeout=1ms)": {"block_timeout": "1ms"}}
SETTLE_S = 0.3
QUIET_S = 1.2  # programs that use libpcap let the kernel keep frames back, tcpdump for a second
BUSY_PPS = 200_000
IDLE_PPS = 200


@dataclass
class Run:
    """One file sent, and what a program made of it."""
    cost: Cost  # from the first frame on: a ring's memory costs whatever the machine asks for it
    sent: dict
    seen: int | None  # frames; None: it does not say
    events_lost: int = 0
    events: int = 0
    socat: Cost | None = None

    @property
    def frames(self):
        """What its cost is divided by: who loses frames did not do their work."""
        return self.seen or self.sent["sent"]


class Wire:
    def __init__(self, bench):
        self.bench = bench
        self.near, self.far = live.veth_pair(NEAR, FAR)

    def blast(self, pcap, *options):
        """Sends a file from the harness's own processor; returns what blast says."""
        out = self.near.popen(program("blast"), "-i", NEAR, *options, pcap,
                              stdout=subprocess.PIPE).communicate()[0]
        return json.loads(out or "{}")

    def watched(self):
        """Does a packet socket of the far end receive yet?"""
        rows = self.far.run("cat", "/proc/net/packet").splitlines()[1:]
        return any(r.split()[3] != "0000" and r.split()[5] == "1" for r in rows)

    def close(self):
        self.near.close()
        self.far.close()


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as f:
        return sum(int(n) for n in f.read().rpartition(")")[2].split()[11:13])


def cpu_used(pid):
    """Seconds that its threads were on a processor so far."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total += int(f.read().split()[0])
    return total / 1e9


def settle(pid):
    """Waits until a process has nothing left to do."""
    before = None
    for _ in range(100):
        now = cpu_ticks(pid)
        if now == before:
            return
        before = now
        time.sleep(QUIET_S)


class Stream:
    """A synfind with a socat subscriber, both on the processor that is measured."""

    def __init__(self, wire, **options):
        m = wire.bench.machine
        self.cost_path, wrap = m.wrap("synfind")
        self.daemon = live.Synfind(wire.far, FAR, argv0=wrap, tmp=m.sockets,
                                   stats_interval="1s", **options)
        self.pid = live.children(self.daemon.p.pid)[0]
        self.socat_path, wrap = m.wrap("socat")
        self.socat = subprocess.Popen([*wrap, "socat", "-u", f"UNIX-CONNECT:{self.daemon.path}",
                                       "OPEN:/dev/null"], preexec_fn=live.die_with_parent)

        self.start_cpu = cpu_used(self.pid)

    def stop(self):
        """Returns (cost, cost of socat, a stats event from when all was quiet)."""
        settle(self.pid)
        stats = next_stats(self.daemon.path)
        self.daemon.stop()
        self.socat.wait()
        cost = read_cost(self.cost_path)
        cost.cpu -= self.start_cpu
        return cost, read_cost(self.socat_path), stats


def next_stats(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(live.DEADLINE)
        s.connect(path)
        for line in s.makefile("rb"):
            event = json.loads(line)
            if event["event_type"] == "stats":
                return event
    raise Failed("synfind: the stream ended without stats")


def run_synfind(wire, pcap):
    stream = Stream(wire)
    sent = wire.blast(pcap)
    cost, socat, stats = stream.stop()
    decoder = stats["decoders"][0]
    lost = stats["subscribers"]["lost_events"] + decoder["lost"]
    decoded = sum(decoder["verdicts"].values())
    if decoder["packets"] != decoded:
        raise Failed(f"synfind: decoded {decoded} of the {decoder['packets']} frames in its ring")
    return Run(cost, sent, decoded, lost, decoder["events"], socat)


def run_other(wire, name, argv, seen, pcap, ask=lambda: ""):
    """Any other program that watches until SIGINT."""
    m = wire.bench.machine
    path, wrap = m.wrap("live")
    answer, start_cpu = "", 0
    with open(os.path.join(m.tmp, "live.out"), "w+b") as out, \
            open(os.path.join(m.tmp, "live.err"), "w+b") as err:
        p = wire.far.popen(*wrap, *argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                           cwd=m.tmp)
        try:
            live.wait_until(lambda: wire.watched() or p.poll() is not None, f"{name} to watch", 10)
            time.sleep(SETTLE_S)  # between bind() and its loop
            if p.poll() is None:
                start_cpu = cpu_used(live.children(p.pid)[0])
            sent = wire.blast(pcap)
            if p.poll() is None:
                settle(live.children(p.pid)[0])
                answer = ask()
                p.send_signal(signal.SIGINT)
            p.wait(timeout=60)
        except (live.Timeout, subprocess.TimeoutExpired) as e:
            p.kill()
            p.wait()
            raise Failed(f"{name}: {e}") from e
        out.seek(0)
        err.seek(0)
        text = [f.read().decode(errors="replace") for f in (out, err)]
    if not os.path.exists(path):
        raise Failed(f"{name}: {text[1].strip()[-200:]}")
    cost = read_cost(path, text[0] + answer, text[1])
    cost.cpu -= start_cpu
    os.unlink(path)
    return Run(cost, sent, seen(cost))


def walkers(wire, peers):
    """Name -> what runs it once over a file."""
    runs = {SYNFIND: lambda pcap: run_synfind(wire, pcap),
            FLOOR: lambda pcap: run_other(wire, FLOOR, [program("ringwalk"), FAR],
                                          lambda c: json.loads(c.out)["packets"], pcap)}
    for peer in peers:
        argv = peer.live(FAR)
        if argv:
            def run(pcap, peer=peer, argv=argv):
                peer.clean()
                try:
                    return run_other(wire, peer.name, argv, peer.seen, pcap, peer.ask)
                finally:
                    peer.clean()
            runs[peer.name] = run
    return runs


LOADS = ("W1f", "W2f", "W3")


class Found:
    """Of every tool on every workload, a Series each."""

    def __init__(self):
        self.cpu, self.lost, self.events, self.socat, self.speed = ({} for _ in range(5))

    def add(self, name, load, run):
        def put(where, value):
            where.setdefault((name, load), Series()).add(value)

        put(self.cpu, run.cost.cpu * 1e6 / run.frames)
        put(self.speed, run.sent["pps"] / 1e6)
        if run.seen is not None:
            put(self.lost, 100 * (1 - run.seen / run.sent["sent"]))
        if run.socat:
            put(self.socat, run.socat.cpu * 1e6 / run.frames)
            put(self.events, 100 * run.events_lost / max(run.events, 1))

    def forget(self, name, load):
        for where in (self.cpu, self.lost, self.events, self.socat, self.speed):
            where.pop((name, load), None)

    def cell(self, name, load):
        lost = self.lost.get((name, load))
        return "-" if (name, load) not in self.cpu else \
            with_spread(self.cpu[name, load]) + (f"; {figure(lost.median)} %" if lost else "; ?")


def capture(bench):
    """(f): one processor sends at top speed, the other one captures."""
    wire = Wire(bench)
    runs = walkers(wire, bench.peers)
    found, failed = Found(), set()
    for load in LOADS:
        w = bench.loads[load].warm()
        for i in range(bench.live_rounds):
            note(f"live, {load}, round {i + 1} of {bench.live_rounds}")
            for name, run in runs.items():
                if (name, load) in failed:
                    continue
                try:
                    found.add(name, load, run(w.pcap))
                except (Failed, ValueError, RuntimeError) as e:
                    note(f"left out: {name} live on {load}: {e}")
                    bench.report.leave_out(f"{name} live on {load}: {e}")
                    failed.add((name, load))
                    found.forget(name, load)
    wire.close()
    capture_goals(bench, found)
    rows = [(name, *(found.cell(name, load) for load in LOADS)) for name in runs]
    rows.append(("(its socat)", *(with_spread(found.socat.get((SYNFIND, n))) for n in LOADS)))
    rows.append(("sent meanwhile, M packets/s",
                 *(with_spread(found.speed.get((SYNFIND, n))) for n in LOADS)))
    bench.report.table(
        "Live on veth at top speed: CPU seconds per million packets seen; lost", ("tool", *LOADS),
        rows,
        "The sender has a processor of its own; the capture and synfind's subscriber share the "
        "other. On veth the sender pays for the copy into the ring, so it is slowed where a NIC "
        "would lose. `?`: the tool does not say what it saw.")


def capture_goals(bench, found):
    empty = Series()
    for load in LOADS:
        for what, where in (("frames", found.lost), ("events", found.events)):
            lost = where.get((SYNFIND, load))
            bench.report.goal(f"live, {load}: {what} lost at top speed, worst round",
                              max(lost.values) if lost else None, at_most=0, unit="%")
    ours = found.cpu.get((SYNFIND, "W1f"), empty)
    bench.report.goal("live, W2f: CPU per packet against tcpdump -w /dev/null",
                      ratios(found.cpu.get((SYNFIND, "W2f"), empty),
                             found.cpu.get((TCPDUMP, "W2f"), empty)), at_most=2, unit="x")
    trackers = [p.name for p in bench.peers if p.tracks and (p.name, "W1f") in found.cpu]
    best = min(trackers, key=lambda n: found.cpu[n, "W1f"].median, default=None)
    bench.report.goal("live, W1f: less CPU than the best tracker",
                      ratios(found.cpu[best, "W1f"], ours) if best else None,
                      at_least=8, unit="x", remark=f"({best})" if best else "")


# ---- latency -----------------------------------------------------------------------------------

def latency_run(wire, options, pcap, *pace):
    m = wire.bench.machine
    daemon = live.Synfind(wire.far, FAR, argv0=m.wrap("synfind")[1], tmp=m.sockets, **options)
    client = subprocess.Popen([*m.wrap("client")[1], program("latency"), daemon.path],
                              stdout=subprocess.PIPE, preexec_fn=live.die_with_parent)
    time.sleep(SETTLE_S)
    wire.blast(pcap, *pace)
    settle(live.children(daemon.p.pid)[0])
    client.send_signal(signal.SIGTERM)  # before what is open is closed
    result = json.loads(client.communicate()[0])
    daemon.stop()
    if not result["events"]:
        raise Failed("latency: no event came")
    return result


def latency(bench):
    """(g): from the kernel's timestamp of a frame to read() in a subscriber."""
    wire = Wire(bench)
    seconds = 3 if bench.quick else 10
    rows = []
    pcap = bench.loads["W1f"].warm().pcap
    links = {"idle": ("-p", str(IDLE_PPS), "-b", "1", "-n", str(IDLE_PPS * seconds)),
             "busy": ("-p", str(BUSY_PPS), "-n", str(BUSY_PPS * seconds))}
    for profile, options in PROFILES.items():
        for link, pace in links.items():
            note(f"latency, {profile}, {link} link")
            t = latency_run(wire, options, pcap, *pace)
            rows.append((profile, link, f"{t['events']:,}",
                         *(figure(t[q] / 1e6) for q in ("p50", "p99", "p999", "max")),
                         f"{t['held']:,}", *(figure(t[q] / 1e6) for q in ("held_p50", "held_p99"))))
            if profile == "default":
                bench.report.goal(f"latency, p99, default profile, {link} link", t["p99"] / 1e6,
                                  at_most=5, unit="ms")
    wire.close()
    bench.report.table(
        "Latency from the wire to a subscriber, ms",
        ("profile", "link", "events", "p50", "p99", "p99.9", "max", "held", "p50", "p99"), rows,
        f"Idle: {IDLE_PPS} frames/s of churn, one by one. Busy: {BUSY_PPS:,} frames/s in batches "
        "of 64. From the kernel's timestamp of the frame to read() in a client that shares the "
        "processor with synfind. Held: told behind a later frame's event on purpose, when an attempt at "
        "a server with many half-open connections proves to be one; they are not in the figures before "
        "that, nor in the goals.")


# ---- idle and start ----------------------------------------------------------------------------

def switches(pid):
    """Times that any thread was put on a processor."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status") as f:
            total += sum(int(n) for n in re.findall(r"ctxt_switches:\s*(\d+)", f.read()))
    return total


def resident(pid):
    """(octets without the capture ring, octets of the ring)."""
    ring = rest = 0
    here = ""
    with open(f"/proc/{pid}/smaps") as f:
        for line in f:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                here = line
            elif line.startswith("Rss:"):
                octets = int(line.split()[1]) * 1024
                if "socket:" in here:
                    ring += octets
                else:
                    rest += octets
    return rest, ring


def ready_after(wire, **options):
    """Seconds from before fork() to READY=1."""
    path = os.path.join(wire.bench.machine.sockets, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        os.chmod(path, 0o666)  # the daemon is not root by then; systemd's is open to all as well
        s.settimeout(live.DEADLINE)
        try:
            start = time.monotonic()
            daemon = live.Synfind(wire.far, FAR, tmp=wire.bench.machine.sockets, wait=False,
                                  argv0=["env", f"NOTIFY_SOCKET={path}"], **options)
            while b"READY=1" not in s.recv(4096):
                pass
            took = time.monotonic() - start
            daemon.stop()
        except TimeoutError as e:
            raise Failed(f"synfind: not ready: {daemon.stderr()[-200:]}") from e
        finally:
            os.unlink(path)
    return took


def quiet(bench):
    """(h): what it costs when nothing happens, and how soon it is there."""
    wire = Wire(bench)
    note("idle")
    seconds = 3 if bench.quick else 20
    daemon = live.Synfind(wire.far, FAR, tmp=bench.machine.sockets)
    time.sleep(1)
    before = switches(daemon.p.pid)
    time.sleep(seconds)
    rate = (switches(daemon.p.pid) - before) / seconds
    rest, ring = resident(daemon.p.pid)
    daemon.stop()
    note("start")
    start = Series()
    for _ in range(5 if bench.quick else 15):
        start.add(1000 * ready_after(wire))
    wire.close()
    bench.report.goal("idle: context switches per second, all threads", rate, at_most=0)
    bench.report.goal("idle: resident, without the capture ring", rest / 1e6, at_most=8, unit="MB",
                      remark=f"(ring: {ring / 1e6:.0f} MB)")
    bench.report.goal("start: ready after", start, at_most=50, unit="ms")
