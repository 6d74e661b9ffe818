#!/usr/bin/python3
"""Frames that the kernel drops while the daemon hangs: counted, told, and held against the
connections that were alive; and the stream stays right."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import live
import tap

FLOOD = 2000  # connections: some 12,000 frames, more than a ring of 1 MiB holds


def connect(ns, listener):
    c = ns.connect(listener.getsockname())
    return c, listener.accept()[0]


live.need("ip")
ns = live.Netns()
with live.guarded("loss"):
    d = live.Synfind(ns, "lo", ring_size="1M", ring_block_size="128K", stats_interval="1s")
    sub = d.subscribe()
    listener = ns.listen(("127.0.0.1", 80))
    early = connect(ns, listener)
    flow = {"src_port": early[0].getsockname()[1], "dest_port": 80}
    sub.until(lambda e: live.find(e, "tcp_established", **flow), "the early connection")

    d.p.send_signal(signal.SIGSTOP)
    for _ in range(FLOOD):
        for s in connect(ns, listener):
            s.close()
    d.p.send_signal(signal.SIGCONT)
    loss = sub.until(lambda e: live.find(e, "capture_loss"), "capture_loss")
    tap.ok(loss["count"] > 0 and loss["in_iface"] == "lo", "a loss is told, with its count", loss)
    tap.ok(loss["from"] < loss["to"], "and with its time", loss)

    early[0].sendall(b"still there")
    early[1].recv(11)
    for s in early:
        s.close()
    close = sub.until(lambda e: live.find(e, "tcp_close", **flow), "the early connection's close")
    tap.ok(close["tcp"]["lossy"] and close["tcp"]["reason"] == "fin",
           "a connection that was alive meanwhile is lossy", close)
    tap.equal((close["flow"]["payload_toserver"], close["flow"]["gap_bytes"]), (11, 0),
              "and goes on as before")

    later = connect(ns, listener)
    after = {"src_port": later[0].getsockname()[1], "dest_port": 80}
    for s in later:
        s.close()
    close = sub.until(lambda e: live.find(e, "tcp_close", **after), "a later connection's close")
    tap.ok(not close["tcp"]["lossy"], "a later connection is not lossy", close, loss)
    told = sum(e["count"] for e in sub.events if e["event_type"] == "capture_loss")
    stats = sub.until(lambda e: [x for x in e if x["event_type"] == "stats" and
                                 x["timestamp"] > close["timestamp"]][:1], "stats")[0]
    tap.equal(stats["decoders"][0]["drops"], told, "stats count the same frames")
    tap.equal(d.stop(), 0, "status 0")
    tap.ok(not sub.to_end(), "every line is right", sub.checker.errors)
tap.done()
