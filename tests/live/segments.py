#!/usr/bin/python3
"""tcp_segment on request: the segments of some connections one by one, as a packet capture has them."""
import collections
import json
import os
import socket
import struct
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import fdstore
import live
import tap

SOL_PACKET, PACKET_STATISTICS, PACKET_IGNORE_OUTGOING = 263, 6, 23
LETTERS = "FSRPAUEC"


def ask(sub, request, answer="subscribed"):
    """Sends a request; returns the answer."""
    before = sum(e["event_type"] in ("subscribed", "error") for e in sub.events)
    sub.s.sendall(json.dumps(request).encode() + b"\n")
    e = sub.until(lambda events: [x for x in events if x["event_type"] in
                                  ("subscribed", "error")][before:], "an answer")[0]
    if answer and e["event_type"] != answer:
        raise RuntimeError(f"{request}: {e}")
    return e


def segments(events, **fields):
    return [e for e in events if e["event_type"] == "tcp_segment" and
            all(e[k] == v for k, v in fields.items())]


def closes(events, port):
    return sum(e["event_type"] == "tcp_close" and e["dest_port"] == port for e in events)


class Tap:
    """A raw packet socket: what a capture on the interface shows."""

    def __init__(self, ns, interface):
        with ns():
            self.s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        if interface == "lo":
            self.s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.s.bind((interface, 0))
        self.s.setblocking(False)

    def frames(self):
        out = []
        while True:
            try:
                out.append(self.s.recv(1 << 17))
            except BlockingIOError:
                break
        packets, drops = struct.unpack("II", self.s.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        if drops:
            raise RuntimeError(f"the test's own capture lost {drops} of {packets} frames")
        return out


def parse(frame):
    """(src, sport, dst, dport, flags, seq, ack, payload_len, window) of a frame, or None."""
    kind = struct.unpack_from("!H", frame, 12)[0]
    if kind == 0x0800 and frame[23] == 6:
        ip, length = 14, struct.unpack_from("!H", frame, 16)[0]
        src, dst, at = frame[26:30], frame[30:34], 14 + (frame[14] & 15) * 4
        family = socket.AF_INET
        rest = length - (at - ip)
    elif kind == 0x86DD and frame[20] == 6:
        src, dst, at, family = frame[22:38], frame[38:54], 54, socket.AF_INET6
        rest = struct.unpack_from("!H", frame, 18)[0]
    else:
        return None
    sport, dport, seq, ack, off, window = struct.unpack_from("!HHIIHH", frame, at)
    flags = "".join(c for i, c in enumerate(LETTERS) if off >> i & 1)
    return (socket.inet_ntop(family, src), sport, socket.inet_ntop(family, dst), dport, flags, seq,
            ack if "A" in flags else None, rest - (off >> 12) * 4, window)


def by_capture(frames, wanted):
    """{(client port): [segment, ...]} with relative numbers, counted by the test itself."""
    base, flows = {}, collections.OrderedDict()
    for f in frames:
        p = parse(f)
        if not p or not wanted(p):
            continue
        src, sport, dst, dport, flags, seq, ack, n, window = p
        me, peer = (src, sport, dst, dport), (dst, dport, src, sport)
        base.setdefault(me, seq if "S" in flags else seq - 1)
        if ack is not None:
            base.setdefault(peer, ack - 1)
        server = dport < 1024
        flows.setdefault((src, sport) if server else (dst, dport), []).append(
            ("client" if server else "server", flags, (seq - base[me]) & 0xFFFFFFFF,
             None if ack is None else (ack - base[peer]) & 0xFFFFFFFF, n, window))
    return flows


def by_lines(events):
    flows = collections.OrderedDict()
    for e in segments(events):
        t = e["tcp"]
        flows.setdefault((e["src_ip"], e["src_port"]), []).append(
            (t["from"], t["flags"], t["seq"], t.get("ack"), t["payload_len"], t["window"]))
    return flows


def talk(client, server, address, port, rounds=3, size=5000, end="fin"):
    """A connection with requests and answers."""
    with server.listen((address, port)) as l:
        c = client.connect((address, port))
        s = l.accept()[0]
        for i in range(rounds):
            c.sendall(b"q" * (100 + i))
            got = 0
            while got < 100 + i:
                got += len(s.recv(1 << 16))
            s.sendall(b"a" * size)
            got = 0
            while got < size:
                got += len(c.recv(1 << 16))
        if end == "rst":
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.close()
        if end == "fin":
            s.recv(1)
        s.close()


def refused(client, address, port):
    try:
        client.connect((address, port)).close()
    except ConnectionRefusedError:
        pass


def ladders(left, right):
    """Each segment of each connection, as the capture has it."""
    daemon = live.Synfind(left, "veth-a", ring_size="16M")
    plain, sub, none = daemon.subscribe(), daemon.subscribe(), daemon.subscribe()
    a = ask(sub, {"segments": [{"net": "10.0.1.2", "port": 80}, {"net": "fd00:1::/64"}]})
    tap.equal(a["segments"], [{"net": "10.0.1.2", "port": 80}, {"net": "fd00:1::/64"}],
              "the answer has the segments that were asked for")
    capture = Tap(left, "veth-a")
    for end in ("fin", "rst", "fin"):
        talk(left, right, "10.0.1.2", 80, end=end)
        talk(left, right, "fd00:1::2", 81, end=end)
        talk(right, left, "10.0.1.1", 82)  # not asked for
    refused(left, "10.0.1.2", 80)
    talk(left, right, "10.0.1.2", 80, rounds=20, size=300000)
    sub.until(lambda e: closes(e, 80) >= 4, "the closes")
    talk(left, right, "10.0.1.2", 83)
    for s in (plain, sub):
        s.until(lambda e: closes(e, 83), "the last close")
    want = by_capture(capture.frames(), lambda p: 80 in (p[1], p[3]) or p[0].startswith("fd00"))
    got = by_lines(sub.events)
    tap.equal(list(got), list(want), "the connections that were asked for, and no others")
    bad = [(k, i, g, w) for k in want for i, (g, w) in
           enumerate(zip(got.get(k, []) + [None] * 999, want[k])) if g != w]
    tap.ok(not bad and all(len(got[k]) == len(want[k]) for k in want),
           "who, flags, relative numbers, length and window of each segment are those of the capture",
           bad[:3], sum(map(len, want.values())))
    tap.ok(sum(map(len, want.values())) > 100, "of more than 100 segments")
    first = segments(sub.events)[:3]
    tap.equal([(e["tcp"]["segment"], e["tcp"]["client_state"], e["tcp"]["server_state"])
               for e in first], [("syn", "syn_sent", "listen"), ("syn_ack", "syn_sent", "syn_received"),
                                 ("ack", "established", "established")],
              "each line has the states after its segment")
    o = [e["tcp"]["options"] for e in first]
    tap.ok(o[0]["mss"] == 1460 and o[0]["sack_permitted"] and "tsval" in o[0] and "wscale" in o[0] and
           "tsecr" not in o[0] and o[1]["tsecr"] == o[0]["tsval"] and o[2]["tsecr"] == o[1]["tsval"],
           "the options are those of the handshake", o)
    tap.ok([e["tcp"].get("window_scale") for e in first] == [None, None, o[0]["wscale"]],
           "the scale of the window is known after the SYN")
    flow = [e for e in sub.events if e.get("flow_id") == first[0]["flow_id"]]
    tap.equal([(e["event_type"], e["tcp"].get("segment")) for e in flow[:6]],
              [("tcp_open", "syn"), ("tcp_segment", "syn"), ("tcp_state", "syn_ack"),
               ("tcp_segment", "syn_ack"), ("tcp_established", "ack"), ("tcp_segment", "ack")],
              "a segment comes after the event that it caused, under the same flow_id")
    tap.equal([l for l, e in zip(sub.lines, sub.events) if e["event_type"] not in
               ("tcp_segment", "subscribed", "hello")],
              [l for l, e in zip(plain.lines, plain.events) if e["event_type"] != "hello"],
              "its other lines are those of a subscriber that asks for nothing, to the octet")
    tap.equal(segments(plain.events), [], "which gets no tcp_segment")
    none.until(lambda e: closes(e, 83), "the last close")
    tap.ok(not none.checker.errors and len(none.lines) == len(plain.lines),
           "nor does it see a gap", none.checker.errors)
    ask(sub, {})
    n = len(segments(sub.events))
    talk(left, right, "10.0.1.2", 80)
    sub.until(lambda e: closes(e, 80) >= 6, "the close")
    tap.equal(len(segments(sub.events)), n, "after a request without segments none come")
    chosen(left, right, daemon)
    daemon.ends_well(sub, "after ladders")


def chosen(left, right, daemon):
    """where and events; and a connection that is there already."""
    sub, other = daemon.subscribe(), daemon.subscribe()
    ask(sub, {"segments": [{"port": 80}], "events": ["tcp_segment"],
              "where": "tcp.flags == 'S' || tcp.flags.contains('F') || has(tcp.options.mss)"})
    talk(left, right, "10.0.1.2", 80)
    live.wait_until(lambda: sub.read() and len(segments(sub.events)) >= 4, "four segments")
    kinds = [e["tcp"]["segment"] for e in segments(sub.events)]
    tap.equal(kinds, ["syn", "syn_ack", "fin_ack", "fin_ack"], "where chooses among segments")
    tap.equal({e["event_type"] for e in sub.events}, {"hello", "subscribed", "tcp_segment"},
              "events chooses the other lines")
    with right.listen(("10.0.1.2", 84)) as l:
        c = left.connect(("10.0.1.2", 84))
        s = l.accept()[0]
        c.sendall(b"x" * 1000)
        s.recv(1000)
        other.until(lambda e: live.find(e, "tcp_established", dest_port=84), "the handshake")
        ask(sub, {"segments": [{"net": "10.0.1.0/24", "port": 84}], "events": ["tcp_segment"]})
        s.sendall(b"y" * 50)
        c.recv(50)
        c.close()
        s.close()
    live.wait_until(lambda: sub.read() and len(segments(sub.events, dest_port=84)) >= 4, "segments")
    t = [(e["tcp"]["from"], e["tcp"]["flags"], e["tcp"]["seq"], e["tcp"]["ack"], e["tcp"]["payload_len"])
         for e in segments(sub.events, dest_port=84)[:2]]
    tap.equal(t, [("server", "PA", 1, 1001, 50), ("client", "A", 1001, 51, 0)],
              "of a connection that was there before, the numbers are relative as well")
    sub.close()


def refusals(ns):
    """Limits, and what is wrong."""
    daemon = live.Synfind(ns, "lo", ring_size="16M", socket_mode="0666", pseudonymize_user="2000")
    sub = daemon.subscribe()
    for what, request, says in (
            ("no list", {"segments": {"port": 1}}, "segments must be a list"),
            ("an empty entry", {"segments": [{}]}, "one of the two at least"),
            ("another member", {"segments": [{"port": 1, "host": "a"}]}, "must be a list of"),
            ("no address", {"segments": [{"net": "10.0.0"}]}, "'10.0.0' is no address"),
            ("a long prefix", {"segments": [{"net": "10.0.0.0/33"}]}, "no address or network"),
            ("a prefix that is none", {"segments": [{"net": "::/1x"}]}, "no address or network"),
            ("no port", {"segments": [{"port": 65536}]}, "there is no port 65536"),
            ("17 entries", {"segments": [{"port": i} for i in range(17)]}, "at most 16"),
            ("5 entries", {"segments": [{"port": i} for i in range(5)]}, "your user has 4"),
            ("tcp_segment without segments", {"events": ["tcp_segment"]}, "only with segments")):
        e = ask(sub, request, "error")
        tap.ok(says in e["error"], f"refused, with the reason: {what}", e)
    for ports in ((1, 2, 3, 4), (5, 6, 7, 8)):
        ask(sub, {"segments": [{"port": p} for p in ports]})
    tap.ok(True, "four entries of one user; others take their place")
    subs = [daemon.subscribe(user=(1000 + i, 1000)) for i in range(4)]
    for i, s in enumerate(subs[:3]):
        ask(s, {"segments": [{"port": 100 + 4 * i + k} for k in range(4)]})
    e = ask(subs[3], {"segments": [{"port": 200}]}, "error")
    tap.ok("16 different entries" in e["error"], "a 17th different entry: refused", e)
    ask(subs[3], {"segments": [{"port": 100}, {"port": 5}]})
    tap.ok(True, "those that are in use already cost nothing, whoever brought them")
    subs[1].close()
    live.wait_until(lambda: ask(subs[3], {"segments": [{"port": 200}]}, None)["event_type"] ==
                    "subscribed", "an entry to be free")
    tap.ok(True, "the entries of a subscriber that left are free again")
    masked(ns, daemon)
    daemon.ends_well(sub, "after refusals")


def masked(ns, daemon):
    """With pseudonyms a port can be asked for, an address cannot."""
    sub, real = daemon.subscribe(user=(2000, 2000)), daemon.subscribe(user=(3000, 3000))
    e = ask(sub, {"segments": [{"net": "127.0.0.1", "port": 5}]}, "error")
    tap.ok("pseudonyms" in e["error"], "with pseudonyms no address can be asked for", e)
    ask(sub, {"segments": [{"port": 5}]})
    ask(real, {"segments": [{"port": 5}]})
    talk(ns, ns, "127.0.0.1", 5)
    for s in (sub, real):
        s.until(lambda e: closes(e, 5), "the close")
    a, b = segments(sub.events), segments(real.events)
    tap.ok(len(a) == len(b) > 10 and [e["tcp"] for e in a] == [e["tcp"] for e in b],
           "a port can, and the segments are the same")
    tap.ok(not {e["src_ip"] for e in a} & {"127.0.0.1"} and
           not {e["flow_id"] for e in a} & {e["flow_id"] for e in b} and
           {e["flow_id"] for e in a} <= {e["flow_id"] for e in sub.events if e["event_type"] == "tcp_open"},
           "with pseudonyms in them")
    for s in (sub, real):
        tap.ok(not s.checker.errors, "every line is right", s.checker.errors)
        s.close()


def pour(ns, port, n):
    """A connection of @n segments, none of which the kernel can merge or leave out."""
    def frame(client, flags, seq, ack, data=b""):
        ends = [socket.inet_aton("10.9.9.1"), socket.inet_aton("10.9.9.2")]
        ports = [40000, port]
        if not client:
            ends, ports = ends[::-1], ports[::-1]
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(data), 0, 0x4000, 64, 6, 0) + b"".join(ends)
        tcp = struct.pack("!HHIIBBHHH", *ports, seq, ack, 5 << 4, flags, 60000, 0, 0)
        return bytes(12) + b"\x08\0" + ip + tcp + data

    frames = [frame(1, 2, 100, 0), frame(0, 18, 200, 101), frame(1, 16, 101, 201)]
    for i in range((n - 4) // 2):
        frames.append(frame(1, 24, 101 + i, 201, b"x"))
        frames.append(frame(0, 16, 201, 102 + i))
    frames.append(frame(1, 20, 101 + (n - 4) // 2, 201))
    ns.send("lo", frames)


def limits(ns):
    """What exceeds the rate, or is read too slowly, is counted."""
    daemon = live.Synfind(ns, "lo", ring_size="64M", queue_size="1M")
    plain, fast, slow = daemon.subscribe(), daemon.subscribe(), daemon.subscribe()
    ask(fast, {"segments": [{"port": 90}], "events": ["tcp_segment", "tcp_close"]})
    ask(slow, {"segments": [{"port": 90}], "events": ["tcp_segment", "tcp_close"]})
    frames = 30000
    stop = threading.Event()

    def read(s):
        while not stop.is_set():
            s.read(0.2)

    readers = [threading.Thread(target=read, args=(s,)) for s in (plain, fast)]
    for t in readers:
        t.start()
    try:
        pour(ns, 90, frames)
        live.wait_until(lambda: len(segments(fast.events)) + fast.checker.lost_segments >= frames,
                        "all of them")
    finally:
        stop.set()
        for t in readers:
            t.join()
    n, lost = len(segments(fast.events)), fast.checker.lost_segments
    per_second = collections.Counter(e["timestamp"][:19] for e in segments(fast.events))
    reasons = {e["reason"] for e in fast.events if e["event_type"] == "lost"}
    tap.ok(reasons <= {"segment_rate", "segment_slow", "segment_ring"} and "segment_rate" in reasons,
           "what exceeds the rate is a lost line", reasons, per_second)
    tap.ok(max(per_second.values()) <= 5000, "no more than 5,000 segments in a second come", per_second)
    tap.equal(n + lost, frames, "lines and lost ones are together all segments")
    slow.until(lambda e: closes(e, 90), "the close")
    reasons = {e["reason"] for e in slow.events if e["event_type"] == "lost"}
    tap.ok("segment_slow" in reasons, "a slow subscriber loses segments, and is told", reasons)
    talk(ns, ns, "127.0.0.1", 91)
    slow.until(lambda e: len(segments(e)) + slow.checker.lost_segments >= frames, "all of them")
    tap.equal(len(segments(slow.events)) + slow.checker.lost_segments, frames,
              "the count of all that it lost is exact")
    for s in (fast, slow):
        tap.ok(not s.checker.errors, "every line is right", s.checker.errors)
    daemon.ends_well(plain, "after limits")


def killed(ns):
    """The subscription outlives the process, and so do the numbers."""
    m = fdstore.Manager(ns, "lo", ring_size="64M", queue_size="64M", event_ring_size=65536)
    m.start()
    plain, sub = m.subscribe(), m.subscribe()
    ask(sub, {"segments": [{"net": "127.0.0.0/8", "port": 80}]})
    capture = Tap(ns, "lo")
    with ns.listen(("127.0.0.1", 80)) as l:
        c = ns.connect(("127.0.0.1", 80))
        s = l.accept()[0]
        for kill in range(8):
            for _ in range(200):
                c.sendall(b"x" * 10)
                s.recv(10)
                s.sendall(b"y" * 20)
                c.recv(20)
                if _ == 100 and kill % 2:
                    m.end_after(997 * kill)
                elif _ == 100:
                    m.end_decoder_after(1499 * kill)
            m.start()
        c.close()
        s.close()
    for x in (plain, sub):
        x.until(lambda e: closes(e, 80), "the close")
    talk(ns, ns, "127.0.0.1", 82)
    for x in (plain, sub):
        x.until(lambda e: closes(e, 82), "the last close")
    want = by_capture(capture.frames(), lambda p: 80 in (p[1], p[3]))
    got = by_lines(sub.events)
    tap.ok(got == want and len(next(iter(want.values()))) > 1600,
           "through 8 kills each segment comes once, with the numbers of the capture",
           {k: (len(want[k]), len(got.get(k, []))) for k in want})
    tap.equal([l for l, e in zip(sub.lines, sub.events) if e["event_type"] not in
               ("tcp_segment", "subscribed", "hello")],
              [l for l, e in zip(plain.lines, plain.events) if e["event_type"] != "hello"],
              "another subscriber's lines are the same, to the octet")
    for x in (plain, sub):
        tap.ok(not x.checker.errors, "every line is right", x.checker.errors)
    m.end(15)


def modes(ns):
    """control sees SYN, FIN and RST only."""
    daemon = live.Synfind(ns, "lo", mode="control", ring_size="16M")
    sub = daemon.subscribe()
    ask(sub, {"segments": [{"port": 80}]})
    talk(ns, ns, "127.0.0.1", 80)
    sub.until(lambda e: len(segments(e)) >= 4, "four segments")
    tap.equal([e["tcp"]["segment"] for e in segments(sub.events)],
              ["syn", "syn_ack", "fin_ack", "fin_ack"], "mode=control: only SYN, FIN and RST are seen")
    daemon.ends_well(sub, "control")

class Pair:
    """Both ends of a connection, left to right."""

    def __init__(self, left, right, address, port):
        with right.listen((address, port)) as l:
            self.c = left.connect((address, port))
            self.s = l.accept()[0]
        self.port = port
        self.client = self.c.getsockname()[1]
        self.sent = 0  # by the client

    def pour(self, megabytes):
        """So much to the client."""
        def serve():
            for _ in range(megabytes):
                self.s.sendall(b"y" * MEGA)

        t = threading.Thread(target=serve, daemon=True)
        t.start()
        left = megabytes * MEGA
        while left:
            left -= len(self.c.recv(min(left, MEGA)))
        t.join(live.DEADLINE)

    def ask(self, n=1):
        """Requests and answers."""
        for _ in range(n):
            self.c.sendall(b"q" * 100)
            self.sent += 100
            self.s.recv(100)
            self.s.sendall(b"a" * 300)
            self.c.recv(300)

    def close(self):
        self.c.close()
        self.s.recv(1)
        self.s.close()


MEGA = 1 << 20
COUNTS = ("pkts_toserver", "pkts_toclient", "bytes_toserver", "bytes_toclient", "payload_toserver",
          "payload_toclient", "retrans_toserver", "retrans_toclient", "gap_bytes")


def close_of(sub, pair):
    return sub.wait_for("tcp_close", src_port=pair.client, dest_port=pair.port)


def withheld(sub):
    """So many segments are said to be counted by the kernel."""
    stats = [e for e in sub.events if e["event_type"] == "stats"]
    return sum(d.get("withheld", 0) for d in stats[-1]["decoders"]) if stats else 0


def watched_until_bypassed(sub, pair):
    """Traffic until more segments are counted in the kernel; some seconds at most."""
    before, n = withheld(sub), 0

    def grows():
        nonlocal n
        pair.pour(32)
        pair.ask(5)
        sub.read()
        n += 1
        return withheld(sub) > before

    live.wait_until(grows, "segments to be bypassed")


def in_any_order(lines):
    """Two sockets may have frames of two processors in another order, even those of one side: its
    sending task moves between processors.  tests/conformance/segments compares the order."""
    return sorted(lines)


class Since:
    """The segments of a connection from the first one that was reported on."""

    def __init__(self, sub, pair, capture):
        self.sub, self.pair, self.capture = sub, pair, capture
        self.sent = pair.sent
        self.frames = []

    def lines(self):
        self.sub.read()
        return [(t["from"], t["flags"], t["seq"], t.get("ack"), t["payload_len"], t["window"]) for t in
                (e["tcp"] for e in segments(self.sub.events, src_port=self.pair.client))]

    def captured(self, first):
        """The same of the capture: the client's numbers begin with the handshake, the server's with
        the line @first."""
        self.frames += [p for p in map(parse, self.capture.frames()) if p and self.pair.client in p]
        asked = next(p for p in self.frames if p[3] == self.pair.port and p[7])
        client, server, out = asked[5] - self.sent - 1, None, []
        for _, _, _, dport, flags, seq, ack, n, window in self.frames:
            mine = dport == self.pair.port
            who, number = ("client", seq) if mine else ("server", ack)
            if server is None:
                if (who, flags, (number - client) % 2**32, n) != (
                        first[0], first[1], first[2] if mine else first[3], first[4]):
                    continue
                server = (ack if mine else seq) - 1
            out.append((who, flags, (seq - (client if mine else server)) % 2**32,
                        (ack - (server if mine else client)) % 2**32, n, window))
        return out

    def complete(self):
        """Are there as many lines as segments?  An ACK may come late."""
        lines = self.lines()
        return lines and len(lines) == len(self.captured(lines[0]))

    def compare(self, what):
        got = self.lines()
        want = self.captured(got[0])
        bad = [(i, g, w) for i, (g, w) in enumerate(zip(in_any_order(got), in_any_order(want))) if g != w]
        tap.ok(len(got) == len(want) > 600 and not bad, f"{what}: the segments of the capture, each one",
               bad[:3], (len(got), len(want), len(self.frames)), self.sub.checker.lost_segments)


def bypassed(left, right, decoders):
    """mode=auto: connections whose segments are wanted leave the bypass, and return to it."""
    every = live.Synfind(left, "veth-a", ring_size="128M")
    try:
        auto = live.Synfind(left, "veth-a", mode="auto", decoders=decoders, ring_size="64M",
                            stats_interval="1s", event_ring_size=65536, queue_size="64M")
    except RuntimeError as e:
        every.stop()
        return tap.skip("mode=auto", str(e)[-200:])
    name = f"mode=auto, decoders={decoders}"
    whole, plain, sub = every.subscribe(), auto.subscribe(), auto.subscribe()
    wanted, other = (Pair(left, right, "10.0.1.2", p) for p in (80, 81))
    six = Pair(left, right, "fd00:1::2", 80)
    for pair in (wanted, other, six):
        watched_until_bypassed(plain, pair)
    for s in (plain, sub):
        s.read()
    capture = Tap(left, "veth-a")
    for f in ({"net": "10.0.1.2", "port": 80}, {"net": "fd00:1::/64"}):
        ask(sub, {"segments": [f]})
        pair = six if "port" not in f else wanted
        since = Since(sub, pair, capture)
        live.wait_until(lambda: pair.ask() or since.lines(), "the first segment")
        pair.pour(4)
        pair.ask(300)
        live.wait_until(since.complete, "as many lines as segments")
        since.compare(f"{name}, {pair.c.family.name}")
    n = withheld(plain)
    watched_until_bypassed(plain, other)
    tap.ok(withheld(plain) > n, f"{name}: another connection stays in the bypass")
    ask(sub, {})
    watched_until_bypassed(plain, six)
    tap.ok(True, f"{name}: one that is not wanted any more returns to it")
    seen = len(segments(sub.events))
    for pair in (wanted, other, six):
        pair.pour(1)
        pair.close()
        a, b = close_of(whole, pair), close_of(plain, pair)
        tap.equal({k: b["flow"][k] for k in COUNTS}, {k: a["flow"][k] for k in COUNTS},
                  f"{name}, port {pair.port}, {pair.c.family.name}: the counts of mode=all")
        tap.ok(not b["tcp"].get("lossy") and b["tcp"]["reason"] == "fin", "and its end", b)
    tap.equal(len(segments(sub.events)), seen, f"{name}: no segment was reported after the request")
    every.ends_well(whole, "mode=all")
    auto.ends_well(plain, name)


def bypassed_and_killed(left, right):
    """The subscription outlives a process with mode=auto; its tables do not."""
    m = fdstore.Manager(left, "veth-a", ring_size="64M", queue_size="64M", mode="auto", stats_interval="1s")
    try:
        m.start()
    except RuntimeError as e:
        return tap.skip("mode=auto, restart", str(e)[-200:])
    plain, sub = m.subscribe(), m.subscribe()
    ask(sub, {"segments": [{"net": "10.0.1.2", "port": 80}]})
    m.end()
    m.start()
    sub.wait_for("restart")
    watched_until_bypassed(plain, Pair(left, right, "10.0.1.2", 81))
    capture = Tap(left, "veth-a")
    pair = Pair(left, right, "10.0.1.2", 80)
    pair.pour(8)
    pair.ask(100)
    pair.close()
    sub.wait_for("tcp_close", src_port=pair.client, dest_port=80)
    got = by_lines(sub.events)
    want = by_capture(capture.frames(), lambda p: 80 in (p[1], p[3]))
    tap.ok({k: in_any_order(v) for k, v in got.items()} == {k: in_any_order(v) for k, v in want.items()} and
           len(next(iter(want.values()))) > 300,
           "mode=auto, killed: each segment of the next connection comes",
           {k: (len(want[k]), len(got.get(k, []))) for k in want}, sub.checker.lost_segments)
    for x in (plain, sub):
        tap.ok(not x.checker.errors, "every line is right", x.checker.errors)
    m.end(15)


live.need("ip")
left, right = live.veth_pair()
ns = live.Netns()
with live.guarded("ladders"):
    ladders(left, right)
with live.guarded("refusals"):
    refusals(ns)
with live.guarded("limits"):
    limits(ns)
with live.guarded("kills"):
    killed(ns)
with live.guarded("modes"):
    modes(ns)
for n in (1, 3):
    with live.guarded(f"mode=auto, decoders={n}"):
        bypassed(left, right, n)
with live.guarded("mode=auto, killed"):
    bypassed_and_killed(left, right)
tap.done()
