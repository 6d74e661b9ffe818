#!/usr/bin/python3
"""--filter: the kernel passes the same TCP frames as tcpdump does with the same expression: VLAN tags,
IPv6, fragments; what tags mean here and there; a reload and a restart with another expression keep
the connections that still match.  All of it with mode=auto as well."""
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import fdstore
import live
import tap

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 1, 0x1000
FIRST = 20000  # each frame has a port of its own from here on, and nothing else has
LAST = "02:00:00:00:00:99"  # who sends the last frame
END = f" or ether src {LAST}"
# Compared with tcpdump on frames with at most one tag: it looks behind that one as well, because the
# kernel keeps it beside the frame.
SAME = ["port 443", "not port 443", "tcp port 443 and host 10.9.0.1", "src port 443 or dst port 80",
        "ip6", "ip", "net 10.9.0.0/16 and not dst port 80", "tcp[tcpflags] & tcp-syn != 0",
        "ip[6:2] & 0x3fff != 0", "ether src 02:00:00:00:00:07", "greater 70", "portrange 440-450",
        "ip6 proto 44", "host fd09::1"]
BYPASS = False  # set by main()
# Compared on all frames that came in.
VLAN = ["vlan", "vlan 5", "vlan 5 and port 443", "not vlan", "vlan and not port 443",
        "vlan 5 and vlan 6 and port 443"]


class Frames:
    """Frames, by the port that names each."""

    def __init__(self):
        self.octets, self.tags, self.what = {}, {}, {}

    def add(self, ip, what, tags=(), source=b"\2\0\0\0\0\7", kind=0x800):
        port = FIRST + len(self.octets)
        tagged = b"".join(struct.pack(">HH", tpid, tci) for tpid, tci in tags)
        head = b"\2\0\0\0\0\1" + source + tagged + struct.pack(">H", kind)
        self.octets[port] = head + ip(port)
        self.tags[port], self.what[port] = len(tags), what


def tcp(ours, other, to=True, flags=2, payload=0):
    ports = (ours, other) if to else (other, ours)
    return struct.pack(">HHIIBBHHH", *ports, 1, 0, 5 << 4, flags, 64240, 0, 0) + bytes(payload)


def ip4(segment, proto=6, fragment=0, options=0):
    return struct.pack(">BBHHHBBH4s4s", 0x45 + options, 0, 20 + 4 * options + len(segment), 1,
                       fragment, 64, proto, 0, bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2])) + \
        b"\1" * 4 * options + segment


def ip6(segment, kind=6):
    ends = socket.inet_pton(socket.AF_INET6, "fd09::1") + socket.inet_pton(socket.AF_INET6, "fd09::2")
    return struct.pack(">IHBB", 6 << 28, len(segment), kind, 64) + ends + segment


def mixed():
    f = Frames()
    for tags in ((), ((0x8100, 5),), ((0x8100, 0x6000 + 6),), ((0x88a8, 5), (0x8100, 6)),
                 ((0x8100, 5), (0x8100, 443)), ((0x88a8, 5), (0x8100, 6), (0x8100, 7))):
        for port in (443, 80):
            for to in (True, False):
                def segment(n, port=port, to=to):
                    return tcp(n, port, to)

                where = f"{'to' if to else 'from'} {port}, tags {tags}"
                f.add(lambda n: ip4(segment(n)), f"IPv4 {where}", tags)
                f.add(lambda n: ip4(segment(n), options=2), f"IPv4 with options {where}", tags)
                f.add(lambda n: ip4(segment(n), fragment=0x2000), f"first fragment {where}", tags)
                f.add(lambda n: ip4(segment(n), fragment=100), f"later fragment {where}", tags)
                f.add(lambda n: ip4(segment(n), proto=17), f"UDP {where}", tags)
                f.add(lambda n: ip6(segment(n)), f"IPv6 {where}", tags, kind=0x86dd)
                f.add(lambda n: ip6(b"\6\0\0\1\0\0\0\1" + segment(n), 44),
                      f"IPv6 first fragment {where}", tags, kind=0x86dd)
                f.add(lambda n: ip6(b"\6\0\0\x10\0\0\0\1" + segment(n), 44),
                      f"IPv6 later fragment {where}", tags, kind=0x86dd)
                f.add(lambda n: ip4(segment(n)), f"of another {where}", tags, b"\2\0\0\0\0\x0a")
    return f


def last_frame():
    mac = bytes(int(x, 16) for x in LAST.split(":"))
    return b"\2\0\0\0\0\1" + mac + b"\x08\0" + ip4(tcp(19999, 19998))


class Tcpdump:
    def __init__(self, ns, interface, expression, tmp, n):
        self.path = os.path.join(tmp, f"dump{n}.pcap")
        self.err = os.path.join(tmp, f"dump{n}.err")
        with open(self.err, "wb") as err:
            self.p = ns.popen("tcpdump", "-i", interface, "-U", "-w", self.path, "-s", "256", "-B", "8192",
                              "--immediate-mode", "-Z", "root", f"({expression}){END}",
                              stdout=err, stderr=err)

    def said(self):
        with open(self.err, errors="replace") as f:
            return f.read()

    def frames(self):
        """Octets of those that were written, without the header of 16."""
        with open(self.path, "rb") as f:
            data = f.read()
        at, found = 24, []
        while at + 16 <= len(data):
            n = struct.unpack("<I", data[at + 8:at + 12])[0]
            found.append(data[at + 16:at + 16 + n])
            at += 16 + n
        return found

    def ports(self, sent):
        """Of which frames it has a copy."""
        mac = bytes(int(x, 16) for x in LAST.split(":"))
        live.wait_until(lambda: any(f[6:12] == mac for f in self.frames()), "tcpdump")
        self.p.terminate()
        self.p.wait()
        # It puts the tag back where it was.
        by_octets = {octets: port for port, octets in sent.octets.items()}
        return {by_octets[f] for f in self.frames() if f in by_octets}


def ports_of(sub):
    """Of which frames the daemon reported a connection."""
    sub.wait_for("tcp_open", src_port=19999)
    return {p for e in sub.events if e["event_type"] == "tcp_open"
            for p in (e["src_port"], e["dest_port"]) if p >= FIRST}


def watch(ns, **options):
    """A daemon that reports each SYN at once, however many there are."""
    return live.Synfind(ns, "veth-a", ring_size="1M", syn_flood_half_open="0", **options)


def names(sent, ports):
    return sorted(sent.what[p] for p in ports)[:6]


def received():
    """The frames come in by the interface."""
    sent, tmp = mixed(), live.tmpdir()
    left, right = live.veth_pair()
    expressions = SAME + VLAN
    daemons = [watch(left, filter=f"({e}){END}") for e in expressions] + [watch(left)]
    subs = [d.subscribe() for d in daemons]
    dumps = [Tcpdump(left, "veth-a", e, tmp, n) for n, e in enumerate(expressions)]
    live.wait_until(lambda: all("listening on" in d.said() for d in dumps), "tcpdump to listen")
    right.send("veth-b", [*sent.octets.values(), last_frame()])
    every = ports_of(subs[-1])
    tap.ok(len(every) > 100, f"{len(every)} of {len(sent.octets)} frames are TCP, with a header")
    few = {p for p in every if sent.tags[p] <= 1}
    for e, sub, dump in zip(expressions, subs, dumps):
        got, want = ports_of(sub), dump.ports(sent) & every
        if e in SAME:
            got_few, want = got & few, want & few
        else:
            got_few = got
        tap.ok(got_few == want, f"'{e}': the {len(want)} frames that tcpdump has",
               f"too many: {names(sent, got_few - want)}", f"missing: {names(sent, want - got_few)}")
        tap.ok(got_few and got_few != every, f"'{e}': some, not all")
    by = dict(zip(expressions, map(ports_of, subs)))
    tap.equal(by["port 443"] | by["not port 443"], every,
              "'port 443' and 'not port 443': together all, however many tags")
    tap.ok(not by["port 443"] & by["not port 443"], "and nothing twice")
    both = {p for p in every if "443, tags" in sent.what[p] and "IPv6 first" not in sent.what[p]}
    tap.equal(by["port 443"], both, "'port 443' sees behind two and three tags as well")
    for d, sub in zip(daemons, subs):
        d.stop()
        sub.close()
    return sent, by


def received_by_auto(sent, by):
    """The same frames with mode=auto."""
    left, right = live.veth_pair()
    daemons = [watch(left, filter=f"({e}){END}", mode="auto") for e in by]
    subs = [d.subscribe() for d in daemons]
    right.send("veth-b", [*sent.octets.values(), last_frame()])
    for (e, want), d, sub in zip(by.items(), daemons, subs):
        tap.equal(names(sent, ports_of(sub) ^ want), [], f"'{e}': mode=auto has the same frames")
        d.stop()
        sub.close()


def ways(sent, want):
    """Several decoders, mode=control, frames that go out: the same."""
    left, right = live.veth_pair()
    few = {p for p in want if sent.tags[p] <= 2}
    cases = [(f"mode=auto, {n} decoders, {way}", {"mode": "auto", "decoders": n}, frames, ns, interface)
             for n in (1, 2) for way, frames, ns, interface in
             (("in", want, right, "veth-b"), ("out", few, left, "veth-a"))] if BYPASS else []
    for name, options, want, ns, interface in (
            *cases,
            ("2 decoders", {"decoders": "2"}, want, right, "veth-b"),
            ("mode=control", {"mode": "control"}, want, right, "veth-b"),
            ("frames that go out, with up to two tags in them", {}, few, left, "veth-a")):
        d = watch(left, filter=f"(port 443){END}", **options)
        sub = d.subscribe()
        ns.send(interface, [*sent.octets.values(), last_frame()])
        # The last frame may be another decoder's.
        sub.until(lambda _: len(ports_of(sub)) >= len(want), f"{name}: all frames")
        tap.equal(ports_of(sub), want, f"{name}: the same frames")
        d.ends_well(sub, name)


def vxlan(inner):
    udp = struct.pack(">HHHH", 50000, 4789, 16 + len(inner), 0) + b"\x08\0\0\0\0\0\x2a\0" + inner
    return b"\2" * 12 + b"\x08\0" + ip4(udp, proto=17)


def tunnels():
    """The expression is about the outer packet."""
    left, right = live.veth_pair()
    inner = b"\2" * 12 + b"\x08\0" + ip4(tcp(FIRST, 443))
    frames = [vxlan(inner), b"\2" * 12 + b"\x08\0" + ip4(tcp(FIRST + 1, 443)), last_frame()]
    for e, want in (("port 443", {FIRST + 1}), ("udp port 4789", {FIRST}),
                    ("port 443 or udp port 4789", {FIRST, FIRST + 1})):
        d = watch(left, filter=f"({e}){END}", decap="yes")
        sub = d.subscribe()
        right.send("veth-b", frames)
        tap.equal(ports_of(sub), want, f"--decap, '{e}': of tunnels the outer packet counts")
        d.ends_well(sub, e)


def raw():
    """A link without Ethernet header."""
    ns = live.Netns()
    with ns():
        tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH14x", b"t0", IFF_TUN | IFF_NO_PI))
    ns.ip("link set t0 up")
    for mode in ("all", "auto") if BYPASS else ("all",):
        d = live.Synfind(ns, "t0", ring_size="1M", filter="port 443 or port 19998", mode=mode)
        sub = d.subscribe()
        for packet in (ip4(tcp(FIRST, 443)), ip4(tcp(FIRST + 1, 80)), ip6(tcp(FIRST + 2, 443, False)),
                       ip4(tcp(19999, 19998))):
            os.write(tun, packet)
        tap.equal(ports_of(sub), {FIRST, FIRST + 2},
                  f"mode={mode}: a link without Ethernet header: 'port 443' alone")
        d.ends_well(sub, f"t0, mode={mode}")
    d = live.Synfind(ns, "t0", ring_size="1M", filter="ether src 1:2:3:4:5:6", wait=False)
    tap.ok(d.wait() != 0 and "t0: filter: " in d.stderr() and "ethernet" in d.stderr(),
           "what such a link has not is an error that names it", d.stderr())


class Daemon(fdstore.Manager):
    def __init__(self, ns, **options):
        super().__init__(ns, "veth-a", ring_size="4M", **options)
        self.conf = os.path.join(self.tmp, "conf")
        self.argv.append(f"--config={self.conf}")

    def configure(self, expression):
        live.replace(self.conf, f"[capture]\nfilter = {expression}\n")

    def reload(self, expression, says="veth-a has its new ring"):
        before = self.stderr().count(says)
        self.configure(expression)
        self.p.send_signal(signal.SIGHUP)
        live.wait_until(lambda: self.stderr().count(says) > before, says)


def reloads():
    left, right = live.veth_pair()
    d = Daemon(left)
    d.configure("port 443")
    d.start()
    sub = d.subscribe()

    def connect(port):
        listener = right.listen(("10.0.1.2", port))
        client = left.connect(("10.0.1.2", port))
        return client, listener.accept()[0], {"src_port": client.getsockname()[1], "dest_port": port}

    def say(c, n):
        c[0].send(bytes(n))
        live.wait_until(lambda: len(c[1].recv(n, socket.MSG_PEEK)) == n, "octets to arrive")
        c[1].recv(n)

    def exchange(port):
        return live.exchange(left, right, "10.0.1.2", port)

    def opened():
        return [e["dest_port"] for e in sub.events if e["event_type"] == "tcp_open"]

    stays, gone = connect(443), connect(80)
    say(stays, 1000)
    sub.wait_for("tcp_close", **exchange(443))
    tap.equal(opened(), [443, 443], "'port 443': nothing of port 80")
    d.reload("port https or port 8080")
    say(stays, 500)
    exchange(80)
    sub.wait_for("tcp_close", **exchange(8080))
    tap.equal(opened(), [443, 443, 8080], "a reload: port 8080 as well, https by its name")
    d.reload("port 443 and", "keeping the previous one")
    tap.ok("conf:2: filter: can't parse filter expression: syntax error" in d.stderr(),
           "a wrong expression: refused, with libpcap's text and the place", d.stderr())
    d.reload("host www.example.com", "keeping the previous one")
    tap.ok("filter: unknown host 'www.example.com'" in d.stderr(), "no name server is asked",
           d.stderr())
    sub.wait_for("tcp_close", **exchange(8080))
    tap.equal(opened(), [443, 443, 8080, 8080], "the expression before that still holds")
    d.reload("port 443 or port 80 or host localhost")
    say(stays, 200)
    say(gone, 1)
    sub.wait_for("tcp_open", dest_port=80)
    d.end(signal.SIGKILL)
    d.configure("tcp port 443")
    d.start()
    sub.wait_for("restart")
    live.wait_until(lambda: d.stderr().count("veth-a has its new ring") == 3, "the new ring")
    say(stays, 50)
    exchange(80)
    stays[0].close()
    stays[1].close()
    end = sub.wait_for("tcp_close", **stays[2])
    tap.ok(end["tcp"]["reason"] == "fin" and end["flow"]["payload_toserver"] == 1750,
           "a connection that always matched has lost nothing", end)
    tap.ok(not end["tcp"].get("lossy") or live.find(sub.events, "capture_loss"),
           "or the loss of a switch is reported", end)
    sub.wait_for("tcp_close", **exchange(443))
    tap.ok(opened().count(80) == 1, "killed, and begun with another one: that counts", opened())
    tap.equal(d.end(signal.SIGINT), 0, "status 0")
    tap.ok(not sub.to_end(), "every line is right", sub.checker.errors)


# ---- mode=auto ----

MEGA = 1 << 20
COUNTS = ("pkts_toserver", "pkts_toclient", "bytes_toserver", "bytes_toclient", "payload_toserver",
          "payload_toclient", "retrans_toserver", "retrans_toclient", "gap_bytes")


def has_bypass():
    """Does the kernel take the filter of mode=auto?"""
    ns = live.Netns()
    try:
        live.Synfind(ns, "lo", mode="auto", ring_size="1M").stop()
    except RuntimeError as e:
        return tap.skip("mode=auto", str(e)[-200:])
    return True


class Pair:
    """A connection; both ends."""

    def __init__(self, left, right, port):
        with right.listen(("10.0.1.2", port)) as l:
            self.c = left.connect(("10.0.1.2", port))
            self.s = l.accept()[0]
        self.sent = 0  # octets to the client
        self.flow = {"src_port": self.c.getsockname()[1], "dest_port": port}

    def pour(self, megabytes):
        """So much to the client; then all of it is acknowledged and nothing moves."""
        t = threading.Thread(target=lambda: [self.s.sendall(b"y" * MEGA) for _ in range(megabytes)],
                             daemon=True)
        t.start()
        left = megabytes * MEGA
        self.sent += left
        while left:
            left -= len(self.c.recv(min(left, MEGA)))
        t.join(live.DEADLINE)

    def close(self):
        self.c.close()
        self.s.recv(1)
        self.s.close()


def story(sub, pair, whole=True):
    """What became of it; not @whole: but for what lost frames look like."""
    keys = ("client_state", "server_state", "segment", "basis", "reason", "closed_by", "kind")
    return [(e["event_type"], *(e["tcp"].get(k) for k in keys + ("history",) * whole)) for e in sub.events
            if all(e.get(k) == v for k, v in pair.flow.items()) and
            (whole or e["tcp"].get("kind") not in ("ack_unseen", "out_of_window"))]


def withheld(sub):
    """The segments that the kernel has counted, by the newest stats."""
    stats = [e for e in sub.events if e["event_type"] == "stats"]
    return sum(d.get("withheld", 0) for d in stats[-1]["decoders"]) if stats else 0


def same_end(whole, auto, pair, what, still=True):
    """The end of a connection, as mode=all has it; not @still: it went on while rings changed."""
    a, b = (s.wait_for("tcp_close", **pair.flow) for s in (whole, auto))
    lossy = not still and any(x["tcp"].get("lossy") for x in (a, b))
    tap.equal(story(auto, pair, not lossy), story(whole, pair, not lossy), f"{what}: the same states")
    if lossy:
        reported = all(live.find(s.events, "capture_loss") for s, x in zip((whole, auto), (a, b))
                       if x["tcp"].get("lossy"))
        counted, again = b["flow"]["payload_toclient"], b["flow"]["retrans_toclient"] * 65536
        tap.ok(reported and pair.sent / 2 < counted <= pair.sent + again,
               f"{what}: the same counts, or a loss is reported, and nothing is counted twice",
               a, b, pair.sent)
        return
    tap.equal({k: b["flow"][k] for k in COUNTS}, {k: a["flow"][k] for k in COUNTS},
              f"{what}: the same counts")


def bypass(decoders):
    """Bulk under a filter that changes: the same connections, states and counts as with mode=all."""
    left, right = live.veth_pair()
    daemons = [Daemon(left, stats_interval="1s"),
               Daemon(left, stats_interval="1s", mode="auto", decoders=decoders)]

    def reload(expression):
        for d in daemons:
            d.reload(expression)

    for d in daemons:
        d.configure("port 443")
        d.start()
    subs = [d.subscribe() for d in daemons]
    whole, auto = subs

    def until_bypassed(pair):
        before = withheld(auto)
        live.wait_until(lambda: pair.pour(16) or auto.read() or withheld(auto) > before,
                        "segments to be counted by the kernel")

    what = f"mode=auto, decoders={decoders}"
    stays, other, ends, still = (Pair(left, right, port) for port in (443, 80, 443, 443))
    for pair in (stays, ends, still):
        until_bypassed(pair)
    tap.ok(True, f"{what}: the kernel counts what the filter passes")
    other.pour(64)
    ends.close()
    same_end(whole, auto, ends, what)
    tap.ok(not [e for s in subs for e in s.events if e.get("dest_port") == 80],
           f"{what}: nothing of port 80")
    reload("port 443 or port 80")
    more = Pair(left, right, 80)
    for pair in (stays, more, still):
        until_bypassed(pair)
    tap.ok(True, f"{what}: and the kernel counts again, with the new one")
    # Frames go on during this one.
    t = threading.Thread(target=stays.pour, args=(512,), daemon=True)
    t.start()
    reload("port https or port 8080")
    t.join(live.DEADLINE)
    closes = len([e for e in auto.events if e["event_type"] == "tcp_close"])
    more.close()
    last = Pair(left, right, 8080)
    for pair in (stays, still):
        until_bypassed(pair)
    for pair, name in ((stays, "that went on during"), (still, "from before"), (last, "from after")):
        pair.close()
        same_end(whole, auto, pair, f"{what}, a connection {name} reloads", pair != stays)
    tap.equal([sum(e["event_type"] == "tcp_open" and e["dest_port"] == 443 for e in s.events) for s in subs],
              [3, 3], f"{what}: a connection that always matched is one")
    tap.ok(len([e for e in auto.events if e["event_type"] == "tcp_close"]) == closes + 3,
           f"{what}: the end of one that matches no more is not seen")
    for d in daemons:
        d.end()
        d.configure("port 8443")
        d.start()
    auto.wait_for("restart")
    gone, there = Pair(left, right, 443), Pair(left, right, 8443)
    until_bypassed(there)
    for pair in (gone, there):
        pair.close()
    same_end(whole, auto, there, f"{what}, killed, another filter")
    tap.ok(not live.find(auto.events, "tcp_open", **gone.flow), "and nothing else")
    for d, sub in zip(daemons, subs):
        tap.equal(d.end(signal.SIGINT), 0, "status 0")
        sub.to_end()
    # What it knew of the one that matches no more was lost with the process.
    errors = [e for e in auto.checker.errors if "1 flows without tcp_close" not in str(e)]
    tap.ok(not whole.checker.errors and not errors and len(auto.checker.errors) <= 1,
           "every line is right", whole.checker.errors, auto.checker.errors)


def check(*args):
    p = subprocess.run([live.SYNFIND, "--check-config", "--config=/dev/null", "--interface=lo", *args],
                       capture_output=True, timeout=live.DEADLINE)
    return p.returncode, (p.stdout + p.stderr).decode()


def errors():
    ns = live.Netns()
    status, out = check("--filter=vlan and port 443")
    tap.ok(status == 0 and "filter:      vlan and port 443\n" in out, "--check-config shows it", out)
    for e, why in (("port 44x", "--filter: unknown port '44x'"),
                   ("(port 443", "--filter: can't parse filter expression: syntax error"),
                   ("ip6 protochain 6", "protochain is not possible"),
                   (" or ".join(f"net {n % 11}.0.0.0/8 and port {n}" for n in range(110)),
                    "allowed: up to 1188")):
        status, out = check(f"--filter={e}")
        tap.ok(status == 2 and why in out, f"--check-config: {why}", out)
        d = live.Synfind(ns, "lo", filter=e, wait=False)
        tap.ok(d.wait() == 2 and why in d.stderr(), "and a start ends with it", d.stderr())
    status, out = check("--filter=tcp", "--mode=auto")
    tap.ok(status == 0 and "filter:      tcp\n" in out, "--check-config with mode=auto", out)


def main():
    global BYPASS
    live.need("tcpdump", "ip")
    BYPASS = has_bypass()
    with live.guarded("the frames of tcpdump"):
        sent, by = received()
        if BYPASS:
            received_by_auto(sent, by)
        ways(sent, by["port 443"])
    with live.guarded("tunnels"):
        tunnels()
    with live.guarded("raw IP"):
        raw()
    with live.guarded("reloads"):
        reloads()
    for n in (1, 2) if BYPASS else ():
        with live.guarded(f"mode=auto, decoders={n}"):
            bypass(n)
    with live.guarded("errors"):
        errors()
    tap.done()


if __name__ == "__main__":
    main()
