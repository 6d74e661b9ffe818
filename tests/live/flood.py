#!/usr/bin/python3
"""200,000 SYNs from forged addresses to a server that answers, and the kernel's own connections to
it meanwhile: each of these is told right, the flood in fewer than 100 lines, and memory stays.
With several decoders each has a series for its part, and together they count every SYN once."""
import contextlib
import errno
import os
import random
import socket
import struct
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import events
import live
import tap

ROUND, ROUNDS, REAL = 100_000, 2, 150
# SYNs at most while a real connection waits for its handshake: synfind remembers more than twice as
# many.  On a busy machine a handshake may take as long as the whole flood.
BETWEEN = 15_000
PORT, CLIENT, SERVER = 80, "10.0.1.1", "10.0.1.2"
LINES_MOST = 100
GROWTH_MOST_KIB = 1536  # lines of real connections, in the queue of subscribers, are half of that


def checksum(octets):
    n = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    n = (n & 0xffff) + (n >> 16)
    return ~(n + (n >> 16)) & 0xffff


def forged_syn(mac, source, port, seq):
    dest = socket.inet_aton(SERVER)
    tcp = struct.pack("!HHIIBBHHH", port, PORT, seq, 0, 5 << 4, 2, 64240, 0, 0)
    pseudo = source + dest + struct.pack("!BBH", 0, 6, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, source, dest)
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return mac + b"\x02\0\0\0\0\x0c" + b"\x08\0" + ip + tcp


class Flood(threading.Thread):
    """Sends SYNs, no 4-tuple twice, until it has sent all; at most BETWEEN during a handshake."""

    def __init__(self, ns, mac, first, n):
        super().__init__()
        with ns():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.bind(("veth-a", 0))
        rnd = random.Random(first)
        self.frames = [forged_syn(mac, struct.pack("!I", 0xc6120000 | i & 0x1ffff),
                                  1024 + (i >> 17) + rnd.randrange(60000) // 8 * 8,
                                  rnd.getrandbits(32)) for i in range(first, first + n)]
        self.sent = 0
        self.most = None  # sent, until the handshake is over
        self.changed = threading.Condition()

    def run(self):
        while self.sent < len(self.frames):
            with self.changed:
                self.changed.wait_for(lambda: self.most is None or self.sent < self.most)
            try:
                self.socket.send(self.frames[self.sent])
                self.sent += 1
            except OSError as e:
                if e.errno != errno.ENOBUFS:  # it was dropped on the way there: send it again
                    raise

    @contextlib.contextmanager
    def handshake(self):
        """Within it a real connection is made."""
        self.most = self.sent + BETWEEN
        try:
            yield
        finally:
            with self.changed:
                self.most = None
                self.changed.notify()


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(next(line for line in f if line.startswith("VmRSS:")).split()[1])


def connection(ns, listener, n, flood):
    """A whole one; returns its port."""
    with flood.handshake():
        c = ns.connect((SERVER, PORT))
        port = c.getsockname()[1]
        s = listener.accept()[0]
    c.sendall(b"q" * (n + 1))
    while n >= 0:
        n -= len(s.recv(65536))
    s.sendall(b"answer")
    c.recv(6)
    c.close()
    s.recv(1)
    s.close()
    return port


def is_real(e):
    return e.get("src_ip") == CLIENT


def wrong(stream, n):
    """What is told of the nth connection, if it is not as it was."""
    kinds = [e["event_type"] for e in stream]
    close = stream[-1]
    flow = close.get("flow", {})
    ok = (kinds[0], kinds[-1], kinds.count("tcp_established")) == ("tcp_open", "tcp_close", 1) and \
        set(kinds[1:-1]) == {"tcp_state", "tcp_established"} and \
        live.path_of(stream, "client") == ["syn_sent", "established", "fin_wait_1", "fin_wait_2",
                                           "time_wait"] and \
        live.path_of(stream, "server")[:3] == ["listen", "syn_received", "established"] and \
        live.path_of(stream, "server")[-2:] == ["last_ack", "closed"] and \
        (flow["payload_toserver"], flow["payload_toclient"]) == (n + 1, 6) and \
        close["tcp"]["reason"] == "fin" and not close["tcp"]["lossy"] and \
        [e["timestamp"] for e in stream] == sorted(e["timestamp"] for e in stream)
    return None if ok else f"connection {n}: {stream}"


def main(decoders):
    left, right = live.veth_pair()
    right.ip(f"route add default via {CLIENT}")  # the answers go out, and nowhere
    mac = bytes.fromhex(right.ip("link show veth-b").split("link/ether ")[1][:17].replace(":", ""))
    # A ring that holds the whole flood: how fast a busy machine reads it is not asked here.
    d = live.Synfind(right, "veth-b", max_half_open=65536, stats_interval="1s", ring_size="128M",
                     **({"decoders": decoders} if decoders > 1 else {}))
    sub = d.subscribe()
    listener = right.listen((SERVER, PORT))
    ports, rss = [], []
    for i in range(ROUNDS):
        flood = Flood(left, mac, i * ROUND, ROUND)
        flood.start()
        for _ in range(REAL):
            ports.append(connection(left, listener, len(ports), flood))
        flood.join()
        for _ in range(3):  # when these are told, all before them was taken in
            ports.append(connection(left, listener, len(ports), flood))
        sub.until(lambda e: live.find(e, "tcp_close", src_ip=CLIENT, src_port=ports[-1]),
                  "the last connection's close")
        rss.append(rss_kib(d.p.pid))
    tap.equal(d.stop(), 0, "status 0")
    tap.ok(not sub.to_end(), "every line is right", sub.checker.errors)

    by_port = {}
    for e in filter(is_real, sub.events):
        by_port.setdefault(e["src_port"], []).append(e)
    bad = [w for n, port in enumerate(ports) if (w := wrong(by_port.get(port, [{"event_type": ""}]), n))]
    tap.ok(not bad and len(set(ports)) == len(ports) == len(by_port),
           f"each of {len(ports)} real connections is told right", *bad[:2])

    others = [e for e in sub.events if not is_real(e) and e["event_type"] not in ("hello", "stats")]
    tap.ok(len(others) < LINES_MOST, f"the flood takes {len(others)} lines, fewer than {LINES_MOST}")
    series = [e["flood"] for e in others if e["event_type"] == "syn_flood"]
    tap.ok(series and series[0]["phase"] == "begin" and series[-1]["phase"] == "end",
           "it has a series, with a begin and an end", series)
    ends = [f for f in series if f["phase"] == "end"]
    tap.equal((len({f["id"] for f in series}), {f.get("decoders", 1) for f in ends}),
              (decoders, {decoders}), "each decoder has a series")
    counted = sum(f["attempts"] - f["completed"] - f["told"] for f in ends)
    told = sum(e["event_type"] == "tcp_open" for e in others)
    stats = [e for e in sub.events if e["event_type"] == "stats"][-1]["decoders"]
    tap.equal((counted + told, [d["drops"] for d in stats]), (ROUND * ROUNDS, [0] * decoders), "every SYN of it is counted, once")
    tap.ok(sum(f["answered"] for f in ends) > ROUND, "the server answered, and that is counted", ends)
    tap.ok(rss[1] - rss[0] <= GROWTH_MOST_KIB,
           f"resident memory is flat: {rss[0]} KiB after one half, {rss[1]} after the other")


live.need("ip")
with live.guarded("flood"):
    main(1)
with live.guarded("flood, several decoders"):
    main(2)
tap.done()
