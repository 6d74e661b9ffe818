#!/usr/bin/python3
"""The end of a busy capture comes: frames that go on arriving do not delay it, and a second signal
ends it at once."""
import os
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import fdstore
import live
import syn
import tap

OPEN = 60000  # connections


class Sender:
    """Sends SYNs from a process of its own, as fast as it can: `count` of them or, None, for ever."""

    def __init__(self, ns, device, count=None):
        self.pid = os.fork()
        if self.pid:
            return
        live.die_with_parent()
        live._call("setns", ns.fd, live.CLONE_NEWNET)
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        s.bind((device, 0))
        n = 0
        while n != count:
            try:
                s.send(syn.frame(n % OPEN))
            except OSError:  # ENOBUFS
                continue
            n += 1
        os._exit(0)

    def wait(self):
        os.waitpid(self.pid, 0)

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        self.wait()


def ends_within(d, seconds):
    before = time.monotonic()
    live.wait_until(d.has_ended, "the daemon to end", seconds)
    return time.monotonic() - before


near, far = live.veth_pair("ea", "eb")
SIZES = {"max_connections": 2 * OPEN, "max_half_open": 2 * OPEN, "syn_flood_half_open": 0}

with live.guarded("frames that go on arriving"):
    for store in (True, False):
        what = "with a store" if store else "without a store"
        d = fdstore.Manager(near, "ea", store=store, stats_interval="1s", **SIZES)
        d.start()
        sub = live.Subscriber(d.path)
        senders = [Sender(far, "eb"), Sender(far, "eb")]
        live.wait_until(lambda: sub.read() and any(e["event_type"] == "stats" and
                        sum(x["packets"] for x in e["decoders"]) > 20000 for e in sub.events), "traffic")
        d.p.send_signal(signal.SIGINT)
        tap.ok(ends_within(d, live.DEADLINE) >= 0 and d.p.returncode == 0,
               f"{what}: SIGINT ends it amid traffic", d.p.returncode)
        for s in senders:
            s.end()
        sub.close()
        d.empty()

with live.guarded("two signals"):
    for store in (True, False):
        what = "with a store" if store else "without a store"
        d = fdstore.Manager(near, "ea", store=store, event_ring_size=1024, **SIZES)
        d.start()
        Sender(far, "eb", OPEN).wait()
        d.p.send_signal(signal.SIGSTOP)  # both are pending when it goes on
        d.p.send_signal(signal.SIGINT)
        d.p.send_signal(signal.SIGTERM)
        d.p.send_signal(signal.SIGCONT)
        tap.ok(ends_within(d, live.DEADLINE) >= 0, f"{what}: a second signal ends it at once")
        d.empty()
tap.done()
