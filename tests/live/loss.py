#!/usr/bin/python3
"""Frames that the kernel drops while the daemon hangs: counted, told, and held against the
connections that were alive.  Events that a decoder cannot say while the publisher hangs: their
numbers are skipped, and told.  The stream stays right.  Counters that are right although nothing more
comes."""
import os
import signal
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import inject
import live
import tap

FLOOD = 2000  # connections: some 12,000 frames, more than a ring of 1 MiB holds
EVENT_RING = 1024  # events: the least there is
BURST = 3000  # frames: several blocks of a ring


def connect(ns, listener):
    c = ns.connect(listener.getsockname())
    return c, listener.accept()[0]


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
        with inject.stopped(d.p.pid):  # the publisher's thread alone; SIGSTOP stops the decoders too
            for _ in range(FLOOD):
                for s in connect(ns, listener):
                    s.close()
    except PermissionError as e:
        tap.skip("events that find the ring full", f"ptrace: {e}")
        return
    sub.until(lambda e: len(decoder_events(e)) >= before + EVENT_RING, "what the ring held")
    one = sub.wait_for("tcp_close", **live.exchange(ns, ns, "127.0.0.1", 81))
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


def last_frames(ns):
    """The kernel's counters are read now and then while frames come.  Nothing is tracked here, so that
    no timeout has the decoder look once more."""
    d = live.Synfind(ns, "lo", stats_interval="1s")
    sub = d.subscribe()
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, b"\x7f\0\0\1", b"\x7f\0\0\1")
    rst = struct.pack("!HHIIBBHHH", 7, 9, 1, 0, 5 << 4, 4, 0, 0, 0)
    ns.send("lo", [bytes(12) + b"\x08\0" + ip + rst] * BURST)

    def counters(events):
        stats = [e["decoders"][0] for e in events if e["event_type"] == "stats"]
        return stats and stats[-1]["packets"] == BURST and stats[-1]

    stats = sub.until(counters, f"{BURST} frames in stats")
    tap.equal((stats["verdicts"]["tcp"], stats["connections"]["total"]), (BURST, 0),
              "the last frames before a silence are counted, and so is what was lost of them")
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

    close = sub.wait_for("tcp_close", **live.exchange(ns, ns, "127.0.0.1", 81))
    tap.ok(not close["tcp"]["lossy"], "a later connection is not lossy", close, loss)
    told = sum(e["count"] for e in sub.events if e["event_type"] == "capture_loss")
    stats = sub.stats_after(close)
    tap.equal(stats["decoders"][0]["drops"], told, "stats count the same frames")
    d.ends_well(sub)
with live.guarded("a full event ring"):
    ring_loss(live.Netns())
with live.guarded("a burst, and then nothing"):
    last_frames(live.Netns())
tap.done()
