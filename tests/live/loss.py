#!/usr/bin/python3
"""Frames that the kernel drops while the daemon hangs: counted, told, and held against the
connections that were alive.  Events that a decoder cannot say while the publisher hangs: their
numbers are skipped, and told.  The stream stays right."""
import contextlib
import ctypes
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import live
import tap

FLOOD = 2000  # connections: some 12,000 frames, more than a ring of 1 MiB holds
EVENT_RING = 1024  # events: the least there is
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000


def connect(ns, listener):
    c = ns.connect(listener.getsockname())
    return c, listener.accept()[0]


@contextlib.contextmanager
def main_thread_stopped(pid):
    """The publisher's thread alone: SIGSTOP would stop the decoders as well."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if ptrace(request, pid, None, None) < 0:
            raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(pid, WALL)
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH, pid, None, None)


def decoder_events(stream):
    return [e for e in stream if e["event_type"].startswith("tcp_")]


def ring_loss(ns):
    d = live.Synfind(ns, "lo", event_ring_size=EVENT_RING, stats_interval="1s")
    sub = d.subscribe()
    listener = ns.listen(("127.0.0.1", 80))
    for s in connect(ns, listener):
        s.close()
    sub.wait_for("tcp_close")
    before = len(decoder_events(sub.events))
    try:
        with main_thread_stopped(d.p.pid):
            for _ in range(FLOOD):
                for s in connect(ns, listener):
                    s.close()
    except PermissionError as e:
        tap.skip("events that find the ring full", f"ptrace: {e}")
        return
    sub.until(lambda e: len(decoder_events(e)) >= before + EVENT_RING, "what the ring held")
    later = connect(ns, listener)
    after = {"src_port": later[0].getsockname()[1], "dest_port": 80}
    for s in later:
        s.close()
    one = sub.wait_for("tcp_close", **after)
    lost = live.find(sub.events, "lost")
    tap.ok(lost and lost["reason"] == "ring" and lost["count"] > EVENT_RING,
           "events that find the ring full are told as lost, by the next one that does not", lost)
    at = sub.events.index(lost)
    tap.equal(len(decoder_events(sub.events[:at])) - before, EVENT_RING,
              "what came first is all there: as much as the ring holds")
    last, next_ = sub.events[at - 1]["seq"], sub.events[at + 1]["seq"]
    tap.equal((lost["first_seq"], lost["last_seq"], lost["count"]),
              (last + 1, next_ - 1, next_ - 1 - last), "the gap in seq is the count that is told")
    tap.equal(live.of_flow(sub.events, one)[0]["event_type"], "tcp_open",
              "a later connection is told from its open on")
    stats = sub.until(lambda e: live.find(e[e.index(one):], "stats"), "stats")["decoders"][0]
    told = sum(e["count"] for e in sub.events if e["event_type"] == "lost")
    tap.equal((stats["lost"], stats["drops"]), (told, 0), "stats count the same events")
    d.ends_well(sub)


live.need("ip")
ns = live.Netns()
with live.guarded("loss"):
    d = live.Synfind(ns, "lo", ring_size="1M", ring_block_size="128K", stats_interval="1s")
    sub = d.subscribe()
    listener = ns.listen(("127.0.0.1", 80))
    early = connect(ns, listener)
    flow = {"src_port": early[0].getsockname()[1], "dest_port": 80}
    sub.wait_for("tcp_established", **flow)

    d.p.send_signal(signal.SIGSTOP)
    for _ in range(FLOOD):
        for s in connect(ns, listener):
            s.close()
    d.p.send_signal(signal.SIGCONT)
    loss = sub.wait_for("capture_loss")
    tap.ok(loss["count"] > 0 and loss["in_iface"] == "lo", "a loss is told, with its count", loss)
    tap.ok(loss["from"] < loss["to"], "and with its time", loss)

    early[0].sendall(b"still there")
    early[1].recv(11)
    for s in early:
        s.close()
    close = sub.wait_for("tcp_close", **flow)
    tap.ok(close["tcp"]["lossy"] and close["tcp"]["reason"] == "fin",
           "a connection that was alive meanwhile is lossy", close)
    tap.equal((close["flow"]["payload_toserver"], close["flow"]["gap_bytes"]), (11, 0),
              "and goes on as before")

    later = connect(ns, listener)
    after = {"src_port": later[0].getsockname()[1], "dest_port": 80}
    for s in later:
        s.close()
    close = sub.wait_for("tcp_close", **after)
    tap.ok(not close["tcp"]["lossy"], "a later connection is not lossy", close, loss)
    told = sum(e["count"] for e in sub.events if e["event_type"] == "capture_loss")
    stats = sub.stats_after(close)
    tap.equal(stats["decoders"][0]["drops"], told, "stats count the same frames")
    d.ends_well(sub)
with live.guarded("a full event ring"):
    ring_loss(live.Netns())
tap.done()
