#!/usr/bin/python3
"""Interfaces come and go under traffic, as those of containers do, while the daemon is killed, stopped and
reloaded: each is reported up and gone once, each connection opened and closed once, and memory stays flat.

SECONDS=600 AT_ONCE=250 is the long form."""
import collections
import os
import random
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import fdstore
import live
import tap

SECONDS = int(os.environ.get("SECONDS", "20"))
AT_ONCE = int(os.environ.get("AT_ONCE", "40"))
SEED = int(os.environ.get("SEED", str(time.time_ns() % 100000)))
LEFT_OPEN = 4  # one connection of so many is open when its interface goes
GROWTH_KB = 4096
SERVER = ("10.9.0.1", 80)
RELOADS = ("", "stuck-after = 7s\n", "anomalies-per-connection = 3\n")


class Pod:
    """A veth with an address of its own; the other end is in the namespace that all share."""

    def __init__(self, n):
        self.veth, self.eth, self.address = f"v{n}", f"p{n}", f"10.{1 + n // 60000}.{n // 250 % 240}.{1 + n % 250}"

    def made(self):
        return (f"link add {self.veth} type veth peer name {self.eth} netns {pods.path}",
                f"link set {self.veth} up", f"route add {self.address}/32 dev {self.veth}")

    def configured(self):
        return (f"addr add {self.address}/32 dev {self.eth}", f"link set {self.eth} up",
                f"route add {SERVER[0]}/32 dev {self.eth} src {self.address} metric {1 + int(self.eth[1:])}")

    def connect(self, listener):
        with pods():
            c = socket.socket()
        c.settimeout(live.DEADLINE)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.eth.encode())
        c.bind((self.address, 0))
        c.connect(SERVER)
        s = listener.accept()[0]
        c.sendall(b"question")
        s.recv(100)
        s.sendall(b"answer" * 50)
        c.recv(1000)
        return c, s


def batch(ns, commands):
    path = os.path.join(live.tmpdir(), "batch")
    with open(path, "w") as f:
        f.write("\n".join(commands) + "\n")
    ns.run("ip", "-batch", path)


def private_kb():
    with open(f"/proc/{m.p.pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith(("Private_Dirty:", "Private_Clean:")))


class Book:
    """What was reported, and what must have been."""

    def __init__(self):
        self.links = collections.defaultdict(list)
        self.opened, self.closed = collections.Counter(), collections.Counter()
        self.expected = {}
        self.made = []
        self.wrong = []

    def read(self):
        for e in sub.events:
            if e["event_type"] == "iface":
                self.links[e["in_iface"]].append(e["state"])
            elif e["event_type"] in ("tcp_open", "tcp_close"):
                self.connection(e)
        sub.events.clear()

    def connection(self, e):
        key = (e["src_ip"], e["src_port"])
        if e["event_type"] == "tcp_open":
            self.opened[key] += 1
            return
        self.closed[key, e["tcp"]["reason"]] += 1
        if e["in_iface"] != self.expected.get(key, (None, None))[0]:
            self.wrong.append((key, e["in_iface"]))

    def reported(self, pods_, state):
        sub.read()
        self.read()
        return all(state in self.links[p.veth] for p in pods_)


def disturb(rng, done):
    what = rng.choice(["kill", "stop", "reload", "reload", "nothing", "nothing"])
    done[what] += 1
    if what in ("kill", "stop"):
        m.end(signal.SIGKILL if what == "kill" else signal.SIGTERM)
        return True
    if what == "reload":
        with open(conf, "w") as f:
            f.write(rng.choice(RELOADS))
        m.p.send_signal(signal.SIGHUP)
    return False


def wave(first, rng, done):
    """Some interfaces, their traffic, and their end; the daemon may be away meanwhile."""
    new = [Pod(n) for n in range(first, first + AT_ONCE)]
    batch(host, [c for p in new for c in p.made()])
    batch(pods, [c for p in new for c in p.configured()])
    live.wait_until(lambda: book.reported(new, "up"), f"{AT_ONCE} interfaces to be up", 3 * live.DEADLINE)
    away, still_open = disturb(rng, done), []
    for p in new:
        for _ in range(3):
            c, s = p.connect(listener)
            key = c.getsockname()
            if rng.randrange(LEFT_OPEN):
                c.close()
                s.recv(1)
                s.close()
                book.expected[key] = (p.veth, "fin")
            else:
                still_open.append((c, s))
                book.expected[key] = (p.veth, "capture_end")
    if away:
        m.start(ready=rng.random() < 0.5)
    elif disturb(rng, done):
        away = True
    batch(host, [f"link del {p.veth}" for p in new])
    if away and m.has_ended():
        m.start()
    live.wait_until(m.is_ready, "the daemon to be ready")
    live.wait_until(lambda: book.reported(new, "gone"), f"{AT_ONCE} interfaces to be gone", 3 * live.DEADLINE)
    book.made += [p.veth for p in new]
    try:
        live.wait_until(lambda: sub.read() is None or book.read() or
                        sum(book.closed.values()) >= len(book.expected), "all connections to be closed",
                        3 * live.DEADLINE)
    except live.Timeout as e:
        open_ = [(k, v) for k, v in book.expected.items() if not book.closed[k, v[1]]]
        raise live.Timeout(f"{e}: {len(open_)}: {open_[:5]}, opened {[book.opened[k] for k, _ in open_[:5]]}; "
                           f"{dict(done)}; {book.wrong[:5]}; seed {SEED}") from e
    for c, s in still_open:
        c.close()
        s.close()


live.need("ip")
with live.guarded("churn"):
    host, pods = live.Netns(), live.Netns()
    host.ip(f"addr add {SERVER[0]}/32 dev lo")
    for ns in (host, pods):
        with ns():
            for name in ("all", "default"):
                with open(f"/proc/sys/net/ipv4/conf/{name}/rp_filter", "w") as f:
                    f.write("0")
    listener = host.listen(SERVER)
    conf = os.path.join(live.tmpdir(), "synfind.conf")
    open(conf, "w").close()
    m = fdstore.Manager(host, "any", config=conf, ring_size="32M", timeout_time_wait="5s", queue_size="64M")
    m.start()
    sub, book, rng, done = m.subscribe(), Book(), random.Random(SEED), collections.Counter()
    until, sizes, first = time.monotonic() + SECONDS, [], 1
    while time.monotonic() < until or len(sizes) < 3:
        wave(first, rng, done)
        first += AT_ONCE
        sizes.append(private_kb())
    tap.diag(f"seed {SEED}: {len(book.made)} interfaces, {len(book.expected)} connections, {dict(done)}")
    tap.diag(f"private memory after the first, the middle and the last round: "
             f"{sizes[0]}, {sizes[len(sizes) // 2]}, {sizes[-1]} kB")
    odd = {k: v for k, v in book.links.items() if k in book.made and
           ([s for s in v if s not in ("down", "up")], v.count("up")) != (["gone"], 1)}
    tap.equal(odd, {}, "each interface is reported up and gone, once")
    tap.equal([k for k in book.expected if book.opened[k] != 1][:9], [], "each connection is opened once")
    tap.equal([(k, v) for k, v in book.expected.items() if book.closed[k, v[1]] != 1][:9], [],
              "and closed once: by its FIN, or with its interface")
    tap.equal(sum(book.closed.values()), len(book.expected), "and there are no others")
    tap.equal(book.wrong[:9], [], "all under the name of their interface")
    late = sizes[len(sizes) // 4:]  # at first connections that are over are added up
    tap.ok(max(late[len(late) // 2:]) - max(late[:len(late) // 2]) < GROWTH_KB, "memory stays flat", sizes)
    tap.ok(not sub.checker.errors and not sub.checker.lost, "nothing is lost, and every line is right",
           sub.checker.errors)
    m.end(signal.SIGTERM)
tap.done()
