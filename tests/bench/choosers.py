#!/usr/bin/python3
"""What subscribers that choose cost, and what they do to the latency of others: a hundred with
thirty filters, a fifth of which do not read, beside none, in turn.  See docs/performance.md.

    choosers.py [--rounds N] [--pps N] [--subscribers N] [--binary SYNFIND]...

Several binaries take turns too.  Sender, readers and daemon share the processors: what else runs
there counts, so its load is printed."""
import argparse
import json
import os
import resource
import selectors
import signal
import socket
import statistics
import subprocess
import time

from measure import SYNFIND, note, program  # finds live, too
import live
import workloads
from online import cpu_used, settle

PORTS = range(33000, 64200, 1300)
REQUESTS = [
    {"events": ["tcp_close"]},
    {"events": ["tcp_established"]},
    {"events": ["tcp_close"], "where": "tcp.reason != 'fin'"},
    {"where": "ip_v == 6"},
    {"where": "tcp.conn_state in ['REJ', 'RSTO', 'S0']"},
    {"events": ["tcp_close"], "where": "flow.payload_toserver > 0"},
] + [{"where": f"src_port >= {p} && src_port < {p + 1300}"} for p in PORTS]
PER_USER = 8  # different expressions
OBSERVER = {"events": ["tcp_established"]}
LINE = 640  # octets, about the mean of these


def read_all(path, subscribers, report):
    """A process of its own: subscribes, reads until SIGTERM, and reports the octets."""
    live.die_with_parent()
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    buffer, octets, open_ones = bytearray(1 << 18), 0, []
    with selectors.DefaultSelector() as sel:
        for i in range(subscribers):
            k = i % len(REQUESTS)
            s = socket.socket(socket.AF_UNIX)
            live.connect_as(s, path, 1000 + k // PER_USER, 1000 + k // PER_USER)
            s.sendall(json.dumps(REQUESTS[k]).encode() + b"\n")
            s.setblocking(False)
            open_ones.append(s)
            if i >= subscribers // 5:
                sel.register(s, selectors.EVENT_READ)
        os.write(report, b"ready\n")
        while not ended:
            for key, _ in sel.select(0.1):
                try:
                    octets += key.fileobj.recv_into(buffer)
                except BlockingIOError:
                    pass
    os.write(report, b"%d\n" % octets)
    os._exit(0)


class Readers:
    def __init__(self, path, subscribers):
        here, there = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            read_all(path, subscribers, there)
        os.close(there)
        self.out = os.fdopen(here)
        self.out.readline()

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        octets = int(self.out.readline())
        os.waitpid(self.pid, 0)
        return octets


def run(near, far, binary, pcap, subscribers, pps):
    """CPU seconds of the daemon, octets that the subscribers read, ages of an observer's events."""
    live.SYNFIND = binary
    daemon = live.Synfind(far, "bench-b", ring_size="256M", event_ring_size="262144",
                          queue_size="64M", max_subscribers_per_uid="200", socket_mode="0666")
    readers = Readers(daemon.path, subscribers)
    observer = subprocess.Popen([program("latency"), daemon.path, json.dumps(OBSERVER)],
                                stdout=subprocess.PIPE)
    time.sleep(0.3)
    before = cpu_used(daemon.p.pid)
    pace = ["-p", str(pps)] if pps else []
    sent = json.loads(near.popen(program("blast"), "-i", "bench-a", *pace, pcap,
                                 stdout=subprocess.PIPE).communicate()[0])
    settle(daemon.p.pid)
    cpu = cpu_used(daemon.p.pid) - before
    octets = readers.stop()
    observer.terminate()
    ages = json.loads(observer.communicate()[0])
    daemon.stop()
    return {"cpu": cpu, "octets": octets, "p50": ages["p50"] / 1e6, "p99": ages["p99"] / 1e6,
            "max": ages["max"] / 1e6, "pps": sent["pps"]}


def writers(sockets, octets, batch):
    out = subprocess.check_output([program("writers"), str(sockets), str(octets), str(LINE),
                                   str(batch)])
    return json.loads(out)["cpu"]


def spread(values, form):
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--pps", type=int, default=150000)
    p.add_argument("--subscribers", type=int, default=100)
    p.add_argument("--binary", action="append", help="default: the one that is built here")
    args = p.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    pcap = workloads.Workloads(True)["W1f"].warm().pcap
    near, far = live.veth_pair("bench-a", "bench-b")
    got = {}
    for i in range(args.rounds):
        for binary in args.binary or [SYNFIND]:
            for n in (0, args.subscribers):
                paced = run(near, far, binary, pcap, n, args.pps)
                top = run(near, far, binary, pcap, n, 0)
                note(f"round {i + 1}, {n} subscribers: {paced} {top}; "
                     f"load {os.getloadavg()[0]:.1f}")
                row = got.setdefault((binary, n), {})
                for key in ("p50", "p99", "max"):
                    row.setdefault(key, []).append(paced[key])
                row.setdefault("cpu", []).append(top["cpu"])
            reading = args.subscribers - args.subscribers // 5
            more = row["cpu"][-1] - got[binary, 0]["cpu"][-1]
            for name, batch in (("lines", LINE), ("64 KiB", 1 << 16)):
                floor = writers(reading, top["octets"], batch)
                row.setdefault(name, []).append(more / floor)
    for (binary, n), row in got.items():
        print(f"{binary}, {n} subscribers: CPU s {spread(row['cpu'], '.2f')}; "
              f"at {args.pps} packets/s ms p50 {spread(row['p50'], '.1f')}, "
              f"p99 {spread(row['p99'], '.1f')}, max {spread(row['max'], '.1f')}")
        for name in ("lines", "64 KiB"):
            if name in row:
                print(f"  what they cost, to plain writers of the same octets by {name}: "
                      f"{spread(row[name], '.2f')}")
    near.close()
    far.close()


main()
