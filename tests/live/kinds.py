#!/usr/bin/python3
"""--events of a live daemon: a reload changes which kinds of event are produced, and a restart with
kept connections as well; the stream stays one, without gaps, and no connection is forgotten."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import fdstore
import live
import tap

OWN = ("hello", "restart")


class Daemon(fdstore.Manager):
    def __init__(self, ns):
        super().__init__(ns, "lo", ring_size="4M")
        self.conf = os.path.join(self.tmp, "conf")
        self.argv = [a for a in self.argv if "stats-interval" not in a] + [f"--config={self.conf}"]

    def configure(self, events, stats="0"):
        live.replace(self.conf, f"[events]\nevents = {events}\nstats-interval = {stats}\n")

    def reload(self, events, says="Configuration read again", **more):
        self.configure(events, **more)
        before = self.stderr().count(says)
        self.p.send_signal(signal.SIGHUP)
        live.wait_until(lambda: self.stderr().count(says) > before, says)

    def hello(self):
        with live.contextlib.closing(live.Subscriber(self.path)) as s:
            s.until(lambda e: e, "hello")
            return s.events[0]


class Open:
    """A connection that stays open."""

    def __init__(self, ns, port):
        self.listener = ns.listen(("127.0.0.1", port))
        self.client = ns.connect(("127.0.0.1", port))
        self.server = self.listener.accept()[0]
        self.fields = {"src_port": self.client.getsockname()[1], "dest_port": port}

    def say(self):
        self.client.send(b"x")
        self.server.recv(1)

    def close(self):
        for s in (self.client, self.server, self.listener):
            s.close()


def main():
    live.need()
    ns = live.Netns()
    d = Daemon(ns)
    d.configure("tcp_close")
    d.start()
    sub = d.subscribe()
    sub.checker.some = True  # whatever hello says: reloads change it

    def exchange(port):
        return sub.wait_for("tcp_close", **live.exchange(ns, ns, "127.0.0.1", port))

    def kinds_since(n):
        return sorted({e["event_type"] for e in sub.events[n:]} - {*OWN})

    stays, leaves = Open(ns, 7001), Open(ns, 7002)
    exchange(8001)
    first = exchange(8002)
    tap.equal((kinds_since(0), first["seq"] - sub.events[0]["seq"]), (["tcp_close"], 2),
              "tcp_close: two connections are two lines, numbered in turn")
    tap.equal(d.hello().get("events"), ["tcp_close"], "hello names the kinds")

    n = len(sub.events)
    d.reload("all")
    exchange(8003)  # the decoder has the new limits with the next frames, at the latest
    m = len(sub.events)
    exchange(8004)
    tap.equal(kinds_since(m), ["tcp_close", "tcp_established", "tcp_open", "tcp_state"],
              "reload to all: a connection has all its events")
    leaves.close()
    end = sub.wait_for("tcp_close", **leaves.fields)
    tap.ok(end["tcp"]["reason"] == "fin" and not end["tcp"]["midstream"] and
           {e["event_type"] for e in live.of_flow(sub.events[n:], end)} == {"tcp_state", "tcp_close"},
           "one that was open, and not reported so far: from now on", end)
    tap.ok("events" not in d.hello(), "hello no longer names kinds")

    d.reload("tcp_close, tcp_opened", "keeping the previous one")
    tap.ok("events: 'tcp_opened' is not a kind of event; did you mean 'tcp_open'?" in d.stderr(),
           "a wrong kind: the reload is refused, with the nearest name", d.stderr())
    m = len(sub.events)
    exchange(8005)
    tap.ok("tcp_open" in kinds_since(m), "and what was produced before still is")

    stays.say()
    d.end(signal.SIGKILL)
    d.configure("tcp_open, stats", stats="1s")
    m = len(sub.events)
    d.start()
    sub.wait_for("restart")
    port = live.exchange(ns, ns, "127.0.0.1", 8006)["src_port"]
    opened = sub.wait_for("tcp_open", src_port=port)
    sub.stats_after(opened)
    tap.equal(kinds_since(m), ["stats", "tcp_open"], "killed, and begun with other kinds: only those")
    tap.equal(sub.events[-1]["decoders"][0]["connections"]["total"], 1,
              "the connection from before is still there")
    d.reload("iface, tcp_close")
    stays.close()
    end = sub.wait_for("tcp_close", **stays.fields)
    tap.ok(end["tcp"]["reason"] == "fin" and end["flow"]["payload_toserver"] == 1,
           "its end is reported, with all that it did", end)
    ns.ip("link set lo down")
    sub.wait_for("iface", state="down")
    tap.ok("capture_loss" not in kinds_since(0) and not sub.checker.lost, "nothing was lost")

    m = len(sub.events)
    d.reload("stats", stats="1s")
    ns.ip("link set lo up")
    sub.stats_after(sub.wait_for("iface", state="down"))
    tap.equal(kinds_since(m), ["stats"], "without iface, an interface that is up again is no line")
    tap.equal(d.end(signal.SIGINT), 0, "status 0")
    tap.ok(not sub.to_end(), "every line is right, and numbered without gaps", sub.checker.errors)
    tap.done()


if __name__ == "__main__":
    main()
