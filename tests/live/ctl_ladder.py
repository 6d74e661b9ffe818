#!/usr/bin/python3
"""synfinctl ladder, live: a connection that is open, the next one to a server, one that is over."""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import live
import tap

CTL = os.environ.get("SYNFINCTL", os.path.join(os.path.dirname(live.SYNFIND), "synfinctl"))
ENV = {**os.environ, "COLUMNS": "100", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
FOUND, NOTHING, USAGE, NO_DAEMON = 0, 1, 2, 3
SERVER = "10.0.1.2"


class Ladder:
    """synfinctl ladder, running."""

    def __init__(self, d, *args):
        self.d = d
        self.p = subprocess.Popen([CTL, "ladder", f"--socket={d.path}", *args], env=ENV, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  preexec_fn=live.die_with_parent)

    def subscribed(self):
        """Waits until its request was answered."""
        def asked():
            out = subprocess.run([CTL, "subscribers", "--json", f"--socket={self.d.path}"], text=True,
                                 stdout=subprocess.PIPE).stdout
            return '"where"' in out or self.p.poll() is not None
        live.wait_until(asked, "the ladder to subscribe")

    def end(self, sig=None):
        if sig:
            self.p.send_signal(sig)
        out, err = self.p.communicate(timeout=live.DEADLINE)
        return self.p.returncode, out, err

    def until(self, text):
        """Reads lines up to one that has the text."""
        lines = []
        while not lines or text not in lines[-1]:
            line = self.p.stdout.readline()
            if not line:
                raise RuntimeError(f"no {text!r} in {lines}")
            lines.append(line)
        return lines


def run(d, *args):
    return subprocess.run([CTL, "ladder", *args, f"--socket={d.path}"], env=ENV, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=live.DEADLINE)


def known(d, port):
    """Waits until synfind has the connection of this client's port: it may be behind the kernel."""
    def listed():
        return subprocess.run([CTL, "list", f"--port={port}", "--state=established",
                               f"--socket={d.path}"], stdout=subprocess.DEVNULL).returncode == FOUND
    live.wait_until(listed, f"port {port} in the list")
    return f"10.0.1.1:{port}"


def take(s, n):
    """Reads so many octets."""
    while n:
        n -= len(s.recv(n))


def in_order(text, *wanted):
    """Whether the texts are there, each one after the one before."""
    at = 0
    for w in wanted:
        at = text.find(w, at)
        if at < 0:
            return False
        at += len(w)
    return True


def rows(out):
    """The arrows: (direction, label)."""
    found = []
    for line in out.splitlines():
        m = re.match(r"[ \d.]{10}.*?│([─╌◄►].*[─╌◄►])│", line)
        if m:
            found.append(("<" if "◄" in m[1] else ">", m[1].strip("─╌◄► ")))
    return found


def open_one(client, server, d):
    """Followed from the middle of its life until it closes."""
    with server.listen((SERVER, 80)) as l:
        c = client.connect((SERVER, 80))
        s = l.accept()[0]
        c.sendall(b"q" * 10)
        take(s, 10)
        port = c.getsockname()[1]
        ladder = Ladder(d, known(d, port))
        before = ladder.until("established")
        ladder.subscribed()
        s.sendall(b"a" * 1000)
        take(c, 1000)
        c.close()
        s.recv(1)
        s.close()
    status, out, err = ladder.end()
    out = "".join(before) + out
    tap.equal((status, err), (FOUND, ""), "an open connection: it ends when that closes, with status 0")
    tap.ok(in_order(out, f"10.0.1.1:{port} > {SERVER}:80", "SYN", "client asks to open", "SYN ACK",
                    "server agrees", "open"), "first its past, from the queue of events", out)
    tap.ok(in_order(out, "established", "len 1000", "FIN ACK", "client has no more to send",
                    "server has no more to send, either", "closed"),
           "then every segment, to the end", out)
    tap.ok(re.search(r"^CLOSED: by client, age [\d.]+ m?s, sent 10 B, received 1.0 kB$", out, re.M),
           "the last line is the outcome", out)
    r = run(d, f"10.0.1.1:{port}")
    tap.ok(r.returncode == FOUND and in_order(r.stdout, "client asks to open", "server agrees", "open",
                                              "client has no more to send", "CLOSED: by client") and
           "it is over" in r.stderr, "one that is over is drawn from its events", r.stdout, r.stderr)
    r = run(d, f"10.0.1.1:{port}", "--json")
    kinds = [json.loads(line)["event_type"] for line in r.stdout.splitlines()]
    tap.ok(r.returncode == FOUND and kinds[0] == "tcp_open" and kinds[-1] == "tcp_close",
           "--json: its lines", kinds)


def next_one(client, server, d):
    """Waits for a new connection, while others to the same server are open."""
    with server.listen((SERVER, 81)) as l:
        old = client.connect((SERVER, 81))
        s_old = l.accept()[0]
        known(d, old.getsockname()[1])
        ladder = Ladder(d, "--next", f"{SERVER}:81")
        ladder.subscribed()
        old.sendall(b"o" * 77)
        take(s_old, 77)
        c = client.connect((SERVER, 81))
        s = l.accept()[0]
        other = client.connect((SERVER, 81))
        s_other = l.accept()[0]
        c.sendall(b"n" * 33)
        take(s, 33)
        other.sendall(b"x" * 55)
        take(s_other, 55)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        port = c.getsockname()[1]
        c.close()
        status, out, err = ladder.end()
        for x in (old, s_old, other, s_other, s):
            x.close()
    tap.equal((status, err), (FOUND, ""), "--next: status 0")
    got = rows(out)
    tap.equal(got[:3], [(">", "SYN seq 0"), ("<", "SYN ACK seq 0 ack 1"), (">", "ACK seq 1 ack 1")],
              "--next: the new connection from its SYN on, with numbers")
    tap.ok(f"10.0.1.1:{port} > {SERVER}:81" in out and any("len 33" in label for _, label in got) and
           "len 77" not in out and "len 55" not in out, "--next: of no other connection", out)
    tap.ok(in_order(out, "RST", "client breaks off", "RESET: by client"), "--next: its end", out)


def svg(client, server, d):
    path = os.path.join(d.tmp, "x.svg")
    ladder = Ladder(d, "--next", ":82", "--svg", path)
    ladder.subscribed()
    live.exchange(client, server, SERVER, 82)
    status, out, err = ladder.end()
    with open(path, encoding="utf-8") as f:
        text = f.read()
    tap.ok(status == FOUND and out.startswith("CLOSED: by client") and text.startswith("<svg") and
           in_order(text, "SYN seq 0", "client asks to open", "closed", "</svg>"),
           "--svg: live, too", status, out, err)


def errors(d):
    r = run(d, "10.9.9.9:1")
    tap.ok(r.returncode == NOTHING and "no connection 10.9.9.9:1 is open" in r.stderr,
           "an unknown connection: status 1", r.stderr)
    r = run(d, "--next", "nonsense")
    tap.ok(r.returncode == USAGE and "'nonsense' is not the end of a server" in r.stderr,
           "--next with another word: status 2", r.stderr)
    ladder = Ladder(d, "--next", f"{SERVER}:99")
    ladder.subscribed()
    tap.equal(ladder.end(signal.SIGINT)[0], NOTHING, "Ctrl-C before it came: status 1")
    r = subprocess.run([CTL, "ladder", "10.9.9.9:1", "--socket=/nonexistent/events.sock"],
                       capture_output=True, text=True, timeout=live.DEADLINE)
    tap.ok(r.returncode == NO_DAEMON and r.stderr.startswith("synfinctl: /nonexistent/"),
           "no daemon: status 3", r.stderr)


def interrupted(client, server, d):
    with server.listen((SERVER, 83)) as l:
        c = client.connect((SERVER, 83))
        s = l.accept()[0]
        known(d, c.getsockname()[1])
        ladder = Ladder(d, f"{SERVER}:83")
        before = ladder.until("established")
        ladder.subscribed()
        status, out, err = ladder.end(signal.SIGINT)
        tap.ok(status == FOUND and "OPEN: established/established" in out,
               "Ctrl-C: it says that the connection is open", status, before, out, err)
        c.close()
        s.close()


def forgotten(client, server):
    """The queue has nothing of its beginning any more; synfind still knows its states."""
    d = live.Synfind(server, "veth-b", queue_size="1M")
    with server.listen((SERVER, 80)) as l:
        c = client.connect((SERVER, 80))
        s = l.accept()[0]
        for _ in range(1500):
            live.exchange(client, server, SERVER, 84)
        ladder = Ladder(d, known(d, c.getsockname()[1]))
        before = ladder.until("open: established/established, age")
        c.sendall(b"x" * 100)
        take(s, 100)
        c.close()
        s.recv(1)
        s.close()
        status, out, err = ladder.end()
    tap.ok(status == FOUND and rows(out)[0] == (">", "PSH ACK seq 1 ack 1 len 100") and
           in_order(out, "client has no more to send", "CLOSED: by client"),
           "its beginning is no longer in the queue: its states, then its segments", before, out, err)
    tap.equal(d.stop(), 0, "this daemon, too, ends with status 0")


def one_more(client, server, d, what):
    """A ladder of one connection, from before it closes."""
    with server.listen((SERVER, 80)) as l:
        c = client.connect((SERVER, 80))
        s = l.accept()[0]
        ladder = Ladder(d, known(d, c.getsockname()[1]))
        ladder.subscribed()
        c.close()
        s.recv(1)
        s.close()
        status, out, err = ladder.end()
    tap.ok(status == FOUND and in_order(out, "client asks to open", "server agrees", "open",
                                        "client has no more to send", "closed", "CLOSED: by client"),
           f"{what}: the states are drawn", out, err)
    return rows(out), err


def auto(client, server):
    """With mode=auto the connection leaves the bypass."""
    d = live.Synfind(server, "veth-b", mode="auto")
    drawn, _ = one_more(client, server, d, "mode=auto")
    tap.ok((">", "FIN ACK seq 1 ack 1") in drawn, "mode=auto: with segments", drawn)
    tap.equal(d.stop(), 0, "mode=auto: the daemon ends with status 0")


def not_seen(client, server):
    """All that one user may ask for is in use: segments cannot be had, the states can."""
    d = live.Synfind(server, "veth-b")
    full = d.subscribe()
    full.s.sendall(json.dumps({"segments": [{"port": p} for p in (1, 2, 3, 4)]}).encode() + b"\n")
    full.wait_for("subscribed")
    drawn, err = one_more(client, server, d, "no segments")
    tap.ok("only what changes a state is drawn" in err, "no segments: it says why", drawn, err)
    tap.equal(d.stop(), 0, "no segments: the daemon ends with status 0")


def main():
    live.need("ip")
    client, server = live.veth_pair()
    d = live.Synfind(server, "veth-b")
    open_one(client, server, d)
    next_one(client, server, d)
    svg(client, server, d)
    interrupted(client, server, d)
    errors(d)
    tap.equal(d.stop(), 0, "the daemon ends with status 0")
    forgotten(client, server)
    auto(client, server)
    not_seen(client, server)
    tap.done()


if __name__ == "__main__":
    main()
