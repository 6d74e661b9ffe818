#!/usr/bin/python3
"""`--dedupe`: a connection that several interfaces show is one.

Each case is a list of connections, and of the interfaces that each direction passes.  The whole
capture, read with --dedupe=yes, must give the events that a capture gives which has only the frames of
the owners (the interfaces that showed a direction first), with an interface for each connection.
SEED=N RUNS=N: other, or more, random interleavings."""
import collections
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../support"))
import events
import tap

SYNFIND = os.environ.get("SYNFIND", os.path.join(HERE, "../../build/synfind"))
SEED = int(os.environ.get("SEED", "1"))
RUNS = int(os.environ.get("RUNS", "20"))
FIN, SYN, RST, ACK = 1, 2, 4, 16
START = 10**12  # us
IFACES = 200

Frame = collections.namedtuple("Frame", "us iface conn octets owned bare")


def segment(ends, side, flags, seq, ack, octets):
    a, b = (ends[0], ends[1]) if side == "C" else (ends[1], ends[0])
    opts = b"\x02\x04\x05\xb4" if flags & SYN else b""
    tcp = struct.pack(">HHIIBBHHH", a[1], b[1], seq % 2**32, ack % 2**32 if flags & ACK else 0,
                      (5 + len(opts) // 4) << 4, flags, 64240, 0, 0) + opts + bytes(octets)
    if ":" in a[0]:
        ip = struct.pack(">IHBB", 6 << 28, len(tcp), 6, 64)
        ip += socket.inet_pton(socket.AF_INET6, a[0]) + socket.inet_pton(socket.AF_INET6, b[0])
        return ip + tcp
    return ipv4(6, a[0], b[0], tcp)


def ipv4(proto, src, dst, octets):
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(octets), 0, 0, 64, proto, 0) + \
        socket.inet_aton(src) + socket.inet_aton(dst) + octets


def ethernet(ip):
    return bytes(12) + (b"\x86\xdd" if ip[0] >> 4 == 6 else b"\x08\x00") + ip


def vxlan(vni):
    def wrap(ip):
        inner = b"\x08\0\0\0" + struct.pack(">I", vni << 8) + ethernet(ip)
        udp = struct.pack(">HHHH", 50000, 4789, 8 + len(inner), 0) + inner
        return ipv4(17, "172.16.0.1", "172.16.0.2", udp)
    return wrap


def plain(ip):
    return ip


Hop = collections.namedtuple("Hop", "iface wrap", defaults=(plain,))


class Conn:
    """One connection: its steps, and the hops of each direction."""

    def __init__(self, isn, out, back, ends=(("10.0.0.1", 40000), ("10.0.0.2", 80)), start=0):
        self.ends, self.us, self.steps = ends, START + start, []
        self.path = {"C": out, "S": back}
        self.next = {"C": isn, "S": isn ^ 0x5a5a5a5a}
        self.acked = {"C": 0, "S": 0}
        self.lost = set()  # (step, iface)
        self.moves = {}  # step from which on the client's direction has another path

    def send(self, side, flags, octets=0, after=100, seq=None):
        peer = "S" if side == "C" else "C"
        self.us += after
        at = self.next[side] if seq is None else seq
        self.steps.append((self.us, side, flags, at, self.next[peer], octets))
        if seq is None:
            self.next[side] += octets + bool(flags & SYN) + bool(flags & FIN)
        return at

    def open(self):
        self.send("C", SYN)
        self.send("S", SYN | ACK)
        self.send("C", ACK)
        return self

    def data(self, n=3):
        for _ in range(n):
            self.send("C", ACK, 100)
            self.send("S", ACK, 1000)
            self.send("C", ACK)
        return self

    def close(self):
        self.send("C", FIN | ACK)
        self.send("S", FIN | ACK)
        self.send("C", ACK)
        return self

    def all(self):
        return self.open().data().close()

    def frames(self, number):
        """Each step on each of its hops, a few microseconds apart."""
        for n, (us, side, flags, seq, ack, octets) in enumerate(self.steps):
            ip = segment(self.ends, side, flags, seq, ack, octets)
            self.path["C"] = self.moves.get(n, self.path["C"])
            for at, hop in enumerate(self.path[side]):
                if (n, hop.iface) not in self.lost:
                    yield Frame(us + at * 3, hop.iface, number, ethernet(hop.wrap(ip)), at == 0,
                                ethernet(ip))


def path(*ifaces):
    return [Hop(i) for i in ifaces]


def pcapng(frames):
    """(us, interface, octets): a file of Ethernet interfaces."""
    def block(kind, body):
        body += bytes(-len(body) % 4)
        return struct.pack("<II", kind, 12 + len(body)) + body + struct.pack("<I", 12 + len(body))

    out = [block(0x0a0d0d0a, struct.pack("<IHHq", 0x1a2b3c4d, 1, 0, -1))]
    out += [block(1, struct.pack("<HHI", 1, 0, 0))] * IFACES
    for us, iface, octets in frames:
        out.append(block(6, struct.pack("<IIIII", iface, us >> 32, us & 0xffffffff, len(octets),
                                        len(octets)) + octets))
    return b"".join(out)


def read(frames, *args):
    """Events by connection, sorted; the stats."""
    with tempfile.NamedTemporaryFile(suffix=".pcapng") as f:
        f.write(pcapng(frames))
        f.flush()
        run = subprocess.run([SYNFIND, "--read", f.name, *args], capture_output=True, timeout=60)
    if run.returncode:
        tap.ok(False, "the file is read", run.stderr)
    lines = run.stdout.splitlines()
    faults = events.check(lines)[1]
    flows, stats = collections.defaultdict(list), None
    for line in lines:
        e = json.loads(line)
        if e["event_type"] == "stats":
            stats = e["decoders"][0]
        elif "flow_id" in e:
            flow = e.pop("flow_id")
            for name in ("seq", "in_iface", "tunnel"):
                e.pop(name, None)
            e["tcp"].pop("prev_flow_id", None)
            if e["tcp"].get("reason") == "capture_end":  # the time of the last frame of all
                del e["timestamp"]
            for name in ("bytes_toclient", "bytes_toserver") if "--decap" in args else ():
                e.get("flow", {}).pop(name, None)  # with the octets around
            flows[flow].append(json.dumps(e, sort_keys=True))
    return sorted(flows.values()), stats, faults


def merged(conns):
    frames = [f for n, c in enumerate(conns) for f in c.frames(n)]
    return sorted(frames, key=lambda f: f.us)


def differences(got, want):
    a, b = ([line for flow in flows for line in flow] for flows in (got, want))
    return [f"only {name}: {line}" for name, one, other in (("here", a, b), ("expected", b, a))
            for line in one if line not in other][:4]


def case(text, conns, full=0, args=(), same=True, opened=None):
    frames = merged(conns)
    got, stats, faults = read([(f.us, f.iface, f.octets) for f in frames], "--dedupe=yes", *args)
    tap.ok(not faults, f"{text}: a right stream", faults)
    if same:
        want, _, _ = read([(f.us, f.conn, f.bare) for f in frames if f.owned], "--dedupe=no",
                          *args)
        tap.ok(got == want, f"{text}: the events of the owners alone",
               "\n".join(differences(got, want)))
        copies = sum(not f.owned for f in frames)
        tap.equal(stats.get("duplicates", 0), copies, f"{text}: the others are counted")
    if opened is not None:
        tap.equal(stats["connections"]["opened"], opened, f"{text}: {opened} connections")
    tap.equal(stats.get("dedupe_full", 0), full, f"{text}: {full} had no place")
    return stats


def twins(n, delay=1000):
    """@n connections of an equal 4-tuple, each on two interfaces of its own."""
    return [Conn(1000 + i * 10**8, path(2 * i, 2 * i + 1), path(2 * i + 1, 2 * i), start=i * delay // 3)
            .open().data(5).close() for i in range(n)]


def control():
    """Without dedupe each interface has the connection."""
    conns = [Conn(1000, path(0, 1, 2), path(2, 1, 0)).all()]
    frames = [(f.us, f.iface, f.octets) for f in merged(conns)]
    for args in (), ("--dedupe=no",), ("--dedupe=auto",):
        _, stats, _ = read(frames, *args)
        tap.equal(stats["connections"]["opened"], 3, f"{args}: each interface has it")
        tap.ok("duplicates" not in stats, f"{args}: no copies")


def single():
    v6 = (("2001:db8::1", 40000), ("2001:db8::2", 80))
    three = path(0, 1, 2), path(2, 1, 0)
    case("veth, bridge, veth", [Conn(1000, *three).all()], opened=1)
    case("the same order both ways", [Conn(1000, path(0, 1, 2), path(0, 1, 2)).all()], opened=1)
    case("one interface", [Conn(1000, path(3), path(3)).all()], opened=1)
    case("IPv6", [Conn(1000, *three, ends=v6).all()], opened=1)
    case("asymmetric routes", [Conn(1000, path(0), path(1)).all()], opened=1)
    case("asymmetric routes with copies", [Conn(1000, path(0, 2), path(1, 2, 0)).all()], opened=1)
    case("sequence numbers turn over", [Conn(2**32 - 50, *three).all()], opened=1)
    moved = Conn(1000, *three).all()
    for step in range(2, len(moved.steps)):
        moved = Conn(1000, *three).all()
        moved.moves = {step: path(3, 1, 0), step + 5: path(0, 1, 3)}
        case(f"another route from segment {step + 1} on", [moved], opened=1)
    refused = Conn(1000, *three)
    refused.send("C", SYN)
    refused.send("S", RST | ACK)
    case("refused", [refused], opened=1)
    reset = Conn(1000, *three).open().data()
    reset.send("C", RST | ACK)
    case("reset", [reset], opened=1)
    again = Conn(1000, *three)
    at = again.send("C", SYN)
    again.send("C", SYN, after=10**6, seq=at)
    again.send("S", SYN | ACK)
    again.send("C", ACK)
    data = again.send("C", ACK, 100)
    again.send("C", ACK, 100, after=300000, seq=data)
    again.send("S", ACK)
    case("retransmissions", [again.close()], opened=1)
    case("silent", [Conn(1000, *three).open()], opened=1)
    unanswered = Conn(1000, *three)
    unanswered.send("C", SYN)
    case("unanswered", [unanswered], opened=1)
    case("mid-stream, client first", [Conn(1000, *three).data().close()], opened=1)
    server = Conn(1000, *three)
    server.send("S", ACK, 100)
    case("mid-stream, server first", [server.data().close()], opened=1)
    crossed = Conn(1000, *three)
    crossed.send("C", SYN)
    crossed.send("S", SYN)
    crossed.send("C", SYN | ACK, seq=1000)
    crossed.send("S", SYN | ACK, seq=1000 ^ 0x5a5a5a5a)
    case("simultaneous open", [crossed.data().close()], opened=1)
    lossy = Conn(1000, *three).all()
    lossy.lost = {(n, i) for n in range(len(lossy.steps)) for i in (0, 1, 2)
                  if n % 4 == i and i != (0 if lossy.steps[n][1] == "C" else 2)}
    case("copies that are missing", [lossy], opened=1)


def several():
    for n in (2, 4):
        case(f"{n} of an equal 4-tuple", twins(n), opened=n)
    stats = case("5 of an equal 4-tuple", twins(5), same=False, opened=4, full=2)
    tap.ok(stats["connections"]["closed"] == 4, "four of them complete")
    reuse = [Conn(1000, path(0, 1), path(1, 0)).all(),
             Conn(10**6, path(0, 1), path(1, 0), start=10**5).all(),
             Conn(2 * 10**6, path(4, 5), path(5, 4), start=2 * 10**5).all()]
    case("the port is used again after the close", reuse, same=False, opened=3)
    first, second = Conn(1000, path(0, 1), path(1, 0)).open(), \
        Conn(10**8, path(0, 1), path(1, 0), start=10**6).all()
    case("a new incarnation of a connection that lives", [first, second], same=False, opened=2)
    ends = [(("10.1.%d.%d" % (i >> 8, i & 255), 1024 + i), ("10.0.0.2", 80)) for i in range(3000)]
    flood = [Conn(i * 7919, path(0, 1), path(1, 0), ends=e, start=i * 50) for i, e in enumerate(ends)]
    for c in flood:
        c.send("C", SYN)
    frames = merged(flood)
    args = "--syn-flood-half-open=100", "--syn-flood-rate=100"
    _, a, faults = read([(f.us, f.iface, f.octets) for f in frames], "--dedupe=yes", *args)
    _, b, _ = read([(f.us, 0, f.octets) for f in frames if f.owned], *args)
    tap.ok(not faults, "SYN flood: a right stream", faults)
    tap.equal(a["duplicates"], 3000, "SYN flood: each SYN has a copy")
    tap.equal((a["connections"], a["syn_flood"]), (b["connections"], b["syn_flood"]),
              "SYN flood: as without copies")


def tunnels():
    inner = [Hop(0), Hop(1, vxlan(7)), Hop(2, vxlan(7))]
    case("a tunnel's frames and decapsulated ones", [Conn(1000, inner, inner[::-1]).all()],
         args=("--decap",), opened=1)
    two = [Conn(1000 + n * 10**8, [Hop(0, vxlan(n))], [Hop(0, vxlan(n))], start=30 * n).all()
           for n in range(3)]
    case("equal 4-tuples in three tunnels", two, args=("--decap",), opened=3)


def randomly():
    rnd = random.Random(SEED)
    print(f"# seed {SEED}, {RUNS} runs")
    bad = []
    for run in range(RUNS):
        conns = []
        for n in range(60):
            group = n % 20  # three of each 4-tuple, on interfaces of their own
            ifaces = [3 * n, 3 * n + 1, 3 * n + 2]
            out, back = rnd.sample(ifaces, rnd.randint(1, 3)), rnd.sample(ifaces, rnd.randint(1, 3))
            c = Conn(rnd.getrandbits(32), path(*out), path(*back), start=rnd.randrange(3000),
                     ends=(("10.0.0.%d" % group, 40000), ("10.1.0.1", 80)))
            kind = rnd.random()
            if kind < 0.1:
                c.send("C", SYN)
                c.send("S", RST | ACK)
            else:
                c.open().data(rnd.randrange(6))
                if kind < 0.3:
                    c.send(rnd.choice("CS"), RST | ACK)
                elif kind < 0.8:
                    c.close()
            c.lost = {(i, f) for i in range(len(c.steps)) for f in ifaces
                      if rnd.random() < 0.1 and f != c.path[c.steps[i][1]][0].iface}
            conns.append(c)
        frames = merged(conns)
        got, _, faults = read([(f.us, f.iface, f.octets) for f in frames], "--dedupe=yes")
        want, _, _ = read([(f.us, f.conn, f.bare) for f in frames if f.owned], "--dedupe=no")
        if got != want or faults:
            bad.append((run, faults[:3], differences(got, want)))
    tap.ok(not bad, f"{RUNS} random interleavings: the events of the owners alone", bad[:2])


def main():
    control()
    single()
    several()
    tunnels()
    randomly()
    tap.done()


if __name__ == "__main__":
    main()
