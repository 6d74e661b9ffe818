#!/usr/bin/python3
"""Trouble is reported when it begins: a server that drops SYNs, rejects them, is full or is gone; a
real outage of many clients; a connection that nobody closes.  Nothing of it where all is well."""
import collections
import os
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import events
import live
import tap

ADDRESS = "10.0.1.2"
DROP, REJECT, FULL, QUEUE, CLOSED, LEFT, WELL = 9001, 9002, 9003, 9004, 9005, 9006, 9007
GONE = "10.0.1.9"
HEALTHY = int(os.environ.get("HEALTHY", "2000"))
RATE, SECONDS = int(os.environ.get("RATE", "500")), int(os.environ.get("SECONDS", "6"))
LATE_NS = 100_000_000  # the kernel's timer, on a busy machine
STUCK = (1, 2, 3)  # s


def attempt(ns, address, port):
    """A connect() that goes on by itself."""
    with ns():
        s = socket.socket()
    s.setblocking(False)
    s.connect_ex((address, port))
    return s


def wait_ns(sub, port, kind, address=ADDRESS):
    """From the SYN of an attempt to its first event of a kind."""
    e = sub.wait_for(kind, dest_port=port, dest_ip=address)
    first = live.of_flow(sub.events, e)[0]
    return events.time_ns(e["timestamp"]) - events.time_ns(first["timestamp"]), e


def retried(sub, ns, what, address, port, segment="syn"):
    with attempt(ns, address, port):
        waited, e = wait_ns(sub, port, "tcp_retry", address)
        arrived = time.time_ns() - events.time_ns(e["timestamp"])
    tap.diag(f"{what}: told {waited / 1e6:.1f} ms after the first SYN, here {arrived / 1e6:.1f} ms later")
    tap.equal((e["tcp"]["segment"], e["tcp"]["count"], e["tcp"]["waited_ns"]), (segment, 1, waited),
              f"{what}: a repeated {segment}, the first one")
    tap.ok(0.9e9 < waited < 1.1e9 + LATE_NS, f"{what}: when the kernel repeats it, after a second", waited)


def silent_failures(a, b, sub):
    retried(sub, a, "dropped", ADDRESS, DROP)
    with attempt(a, ADDRESS, REJECT):
        waited, e = wait_ns(sub, REJECT, "tcp_close")
    tap.diag(f"rejected: told {waited / 1e6:.2f} ms after the SYN")
    tap.equal((e["tcp"]["reason"], e["tcp"]["segment"]), ("unreachable", "icmp"),
              "rejected: unreachable, by the ICMP error")
    tap.ok(waited < 1_000_000 + LATE_NS, "rejected: at once", waited)
    with b.listen((ADDRESS, FULL), backlog=0), a.connect((ADDRESS, FULL)):
        retried(sub, a, "a full queue", ADDRESS, FULL)
    a.ip(f"neigh add {GONE} lladdr 02:00:00:00:00:99 dev veth-a")
    retried(sub, a, "a host that is gone", GONE, 80)


def lost_ack(a, b, sub):
    """The client's ACK never arrives: the server repeats its SYN-ACK, the client is established."""
    with b.listen((ADDRESS, QUEUE)), attempt(a, ADDRESS, QUEUE):
        waited, e = wait_ns(sub, QUEUE, "tcp_retry")
    tap.equal((e["tcp"]["segment"], e["tcp"]["from"], e["tcp"]["client_state"]),
              ("syn_ack", "server", "established"), "an ACK that is lost: the SYN-ACK comes again")
    tap.ok(0.9e9 < waited < 1.1e9 + LATE_NS, "an ACK that is lost: after a second", waited)


def left_open(a, b, sub):
    """The server never closes."""
    with b.listen((ADDRESS, LEFT)) as l:
        c = a.connect((ADDRESS, LEFT))
        s = l.accept()[0]
        c.close()
        s.recv(1)
        sub.until(lambda e: sum(x["event_type"] == "tcp_stuck" for x in e) >= len(STUCK), "tcp_stuck")
        s.close()
    got = [e["tcp"] for e in sub.events if e["event_type"] == "tcp_stuck"]
    tap.equal([(t["client_state"], t["server_state"], t["waits_for"]) for t in got],
              [("fin_wait_2", "close_wait", "server")] * len(STUCK), "a server that does not close is named")
    tap.equal([t["silent_ns"] for t in got], [s * 10**9 for s in STUCK], "once for each time")
    tap.equal(sub.wait_for("tcp_close", dest_port=LEFT)["tcp"]["reason"] in ("rst", "fin"), True,
              "until it does")


def healthy(a, b, sub):
    before = len(sub.events)
    with b.listen((ADDRESS, WELL)) as l:
        for i in range(HEALTHY):
            if i % 100 == 0:
                sub.read(0.001)
            c = a.connect((ADDRESS, WELL))
            s = l.accept()[0]
            c.close()
            s.recv(1)
            s.close()
    closed = lambda e: sum(x["event_type"] == "tcp_close" and x["dest_port"] == WELL for x in e[before:])
    sub.until(lambda e: closed(e) >= HEALTHY, "all closes")
    odd = [e for e in sub.events[before:] if e["event_type"] in ("tcp_retry", "tcp_stuck")
           and e["dest_port"] == WELL]
    tap.ok(not odd, f"{HEALTHY} connections without loss: no trouble", odd[:3])


def outage(a, b, sub):
    """Clients of a server that is gone, which do not give up."""
    cpu = lambda: sum(map(int, open(f"/proc/{sub.pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))
    before, socks, ports = len(sub.events), collections.deque(), set()
    begin, used = time.monotonic(), []
    for i in range(RATE * SECONDS):
        socks.append(attempt(a, ADDRESS, DROP))
        ports.add(socks[-1].getsockname()[1])
        if len(socks) > 1.5 * RATE:
            socks.popleft().close()  # gives up, after its first retry
        while time.monotonic() < begin + i / RATE:
            sub.read(0.001)
        if i % RATE == RATE - 1:
            used.append(cpu())
    mine = lambda kind: [e for e in sub.events[before:] if e["event_type"] == kind
                         and e["dest_port"] == DROP and e["src_port"] in ports]
    sub.until(lambda _: len({e["src_port"] for e in mine("tcp_retry")}) >= len(ports), "a retry of each")
    first = {}
    for e in mine("tcp_retry"):
        first.setdefault(e["src_port"], e["tcp"]["waited_ns"])
    waits = sorted(first.values())
    tap.diag(f"{len(ports)} attempts at {RATE}/s: the first retry after {waits[0] / 1e6:.0f} to "
             f"{waits[-1] / 1e6:.0f} ms; CPU ticks of each second {[y - x for x, y in zip(used, used[1:])]}")
    tap.ok(waits[0] > 0.9e9 and waits[len(waits) // 2] < 1.1e9 + LATE_NS,
           f"{len(ports)} attempts in an outage: each has its retry after a second", waits[0], waits[-1])
    tap.ok(not [e for e in sub.events[before:] if e["event_type"] == "syn_flood"], "and it is no flood")
    for s in socks:
        s.close()


def main():
    live.need("ip", "nft")
    a, b = live.veth_pair()
    rules = f"""table inet t {{ chain in {{ type filter hook input priority 0;
        tcp dport {DROP} drop; tcp dport {REJECT} reject with icmpx port-unreachable;
        tcp dport {QUEUE} tcp flags & (syn | ack) == ack drop
        }}
        }}"""
    path = os.path.join(live.tmpdir(), "rules")
    with open(path, "w") as f:
        f.write(rules)
    b.run("nft", "-f", path)
    for ns in (a, b):
        ns.run("sysctl", "-qw", "net.ipv4.tcp_syncookies=0")
    d = live.Synfind(a, "veth-a", stuck_after=",".join(f"{s}s" for s in STUCK))
    sub = d.subscribe()
    sub.pid = d.p.pid
    for part in (silent_failures, lost_ack, left_open, healthy, outage):
        with live.guarded(part.__name__):
            part(a, b, sub)
    d.p.send_signal(signal.SIGTERM)  # read on meanwhile: thousands of attempts end with it
    tap.ok(not sub.to_end(), "every line is right", sub.checker.errors, d.stderr())
    tap.equal(d.wait(), 0, "status 0")
    tap.done()


main()
