#!/usr/bin/python3
"""A host with containers shows each connection on several interfaces: the container's veth, the bridge, the
uplink.  Under --interface=any each is reported once, with all its octets (--dedupe).  What the daemon
reports is compared with what the endpoints know: own sockets, curl, nginx and haproxy."""
import collections
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import fdstore
import live
import tap
import uml

SEED = int(os.environ.get("SEED", "1"))
CONNECTIONS = int(os.environ.get("CONNECTIONS", "160"))  # of own sockets; the programs make 200 more
BIG = 200_000  # octets of a file that nginx serves: larger than one super-frame
OPTIONS = {"ring_size": "32M", "stats_interval": "1s", "queue_size": "64M"}
IP_FORWARDING = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
RESET = struct.pack("ii", 1, 0)  # struct linger: close() resets


def sysctl(ns, name, value):
    with ns(), open(f"/proc/sys/net/{name}", "w") as f:
        f.write(str(value))


def settle(*namespaces):
    """Until IPv6 addresses may be used: neighbours get no answer before."""
    for ns in namespaces:
        live.wait_until(lambda: not ns.ip("-6 addr show tentative").strip(), "IPv6 addresses to be settled")


def container(host, bridge, veth, *addresses, gateways=()):
    """A namespace whose eth0 is a port of the bridge, as @veth."""
    ns = live.Netns()
    host.ip(f"link add {veth} type veth peer name eth0 netns {ns.path}")
    host.ip(f"link set {veth} master {bridge} up")
    for a in addresses:
        ns.ip(f"addr add {a} dev eth0 nodad" if ":" in a else f"addr add {a} dev eth0")
    ns.ip("link set eth0 up")
    for g in gateways:
        ns.ip(f"{'-6 ' if ':' in g else ''}route add default via {g}")
    live.wait_up(host, veth)
    return ns


def bridge(host, name, *addresses):
    host.ip(f"link add {name} type bridge")
    for a in addresses:
        host.ip(f"addr add {a} dev {name}{' nodad' if ':' in a else ''}")
    host.ip(f"link set {name} up")


# ---- what the endpoints know ----

class Ledger:
    """Connections by (client, port, server, port, octets to the server, octets to the client), as each side
    has them.  Without NAT both sides have the same; with NAT they have one leg each."""

    def __init__(self):
        self.client = collections.Counter()
        self.server = collections.Counter()

    def legs(self):
        """Each leg once: a leg that both sides know counts as often as the side that counts more."""
        return self.client | self.server

    def flows(self):
        flows = collections.Counter()
        for leg, n in self.legs().items():
            flows[leg[:4]] += n
        return flows


class Pair:
    """Both sockets of one connection, with what each has sent and received."""

    def __init__(self, c, s):
        self.c, self.s = c, s
        self.sent = {c: 0, s: 0}
        self.got = {c: 0, s: 0}
        self.legs = (c.getsockname()[:2] + c.getpeername()[:2], s.getpeername()[:2] + s.getsockname()[:2])

    def send(self, way, octets):
        a, b = (self.c, self.s) if way == "toserver" else (self.s, self.c)
        a.sendall(b"." * octets)
        self.sent[a] += octets
        while self.got[b] < self.sent[a]:
            self.got[b] += len(b.recv(1 << 20))

    def close(self, how, ledger):
        """fin: the client is first; server_fin; rst, server_rst."""
        first, last = (self.s, self.c) if how.startswith("server") else (self.c, self.s)
        if how.endswith("rst"):
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        first.close()
        try:
            last.recv(1)
        except ConnectionResetError:
            pass
        last.close()
        ledger.client[self.legs[0] + (self.sent[self.c], self.got[self.c])] += 1
        ledger.server[self.legs[1] + (self.got[self.s], self.sent[self.s])] += 1


def pair(client, listener, address, source=None):
    c = client.connect(address, source)
    s = listener.accept()[0]
    s.settimeout(live.DEADLINE)
    return Pair(c, s)


def refused(client, address, source, ledger, *further):
    """A connection to a port where nobody listens; @further: other addresses that it has behind NAT."""
    try:
        client.connect(address, source).close()
    except ConnectionRefusedError:
        pass
    for a in (address, *further):
        ledger.client[source + a + (0, 0)] += 1


# ---- the scenario: a host with three containers, and the world outside ----

class Host:
    """uplink 192.0.2.1 -- outside 192.0.2.9; br0 10.1.0.1 with c1..c3 on it, 10.1.0.11 to 13; IPv6 likewise.
    Ports 9001..9003 of the host are port 80 of the containers (8001..: 8000), as with docker -p; what the
    containers send out is masqueraded."""

    def __init__(self):
        self.ns, self.outside = live.Netns(), live.Netns()
        self.rng = random.Random(SEED)
        self.ledger = Ledger()
        self.port = 20000
        self.programs = []
        self.tmp = live.tmpdir()
        for name in IP_FORWARDING:
            sysctl(self.ns, name, 1)
        bridge(self.ns, "br0", "10.1.0.1/24", "fd01::1/64")
        self.containers = [container(self.ns, "br0", f"c{i}", f"10.1.0.1{i}/24", f"fd01::1{i}/64",
                                     gateways=("10.1.0.1", "fd01::1")) for i in (1, 2, 3)]
        self.ns.ip(f"link add uplink type veth peer name eth0 netns {self.outside.path}")
        for ns, dev, n in ((self.ns, "uplink", 1), (self.outside, "eth0", 9)):
            ns.ip(f"addr add 192.0.2.{n}/24 dev {dev}")
            ns.ip(f"addr add fd0f::{n}/64 dev {dev} nodad")
            ns.ip(f"link set {dev} up")
        live.wait_up(self.ns, "uplink")
        for family, addr, net in (("ip", "10.1.0.1{}", "10.1.0.0/24"), ("ip6", "[fd01::1{}]", "fd01::/64")):
            rules = "".join(f"tcp dport {p}00{i} dnat to {addr.format(i)}:{to}\n"
                            for i in (1, 2, 3) for p, to in ((9, 80), (8, 8000), (7, 7)))
            self.ns.run("nft", f"""table {family} nat {{
                chain pre {{ type nat hook prerouting priority -100; iifname "uplink" jump published; }}
                chain published {{ {rules} }}
                chain post {{ type nat hook postrouting priority 100;
                              oifname "uplink" {family} saddr {net} masquerade; }}
                }}""")

        settle(self.ns, self.outside, *self.containers)

    # ---- own sockets ----

    def source(self, address):
        self.port += 1
        return address, self.port

    def routes(self):
        """(name, client, its address, where it connects to, (server, its own address)) of each way through the host."""
        c = self.containers
        for is_v6 in (False, True):
            def at(who):
                v4, v6 = {"c": ("10.1.0.1", "fd01::1"), "o": ("192.0.2.", "fd0f::"), "u": ("192.0.2.", "fd0f::"),
                          "b": ("10.1.0.", "fd01::")}[who[0]]
                return (v6 if is_v6 else v4) + who[1]

            yield "outside to c1, published", self.outside, at("o9"), (at("u1"), 8001), (c[0], (at("c1"), 8000))
            yield "c2 to the outside, masqueraded", c[1], at("c2"), (at("o9"), 8100), (self.outside, (at("o9"), 8100))
            yield "c1 to c3", c[0], at("c1"), (at("c3"), 8000), (c[2], (at("c3"), 8000))
            yield "host to c2", self.ns, at("b1"), (at("c2"), 8000), (c[1], (at("c2"), 8000))
            yield "c3 to the host", c[2], at("c3"), (at("b1"), 8200), (self.ns, (at("b1"), 8200))
            yield "outside to the host", self.outside, at("o9"), (at("u1"), 8201), (self.ns, (at("u1"), 8201))

    def own_connections(self, n):
        """Of own sockets, eight at a time: octets in both directions in turn, closed in each way; refused ones."""
        for name, client, address, to, (server, bound) in self.routes():
            with server.listen(bound) as listener:
                for _ in range(n // 12 // 8 + 1):
                    pairs = [pair(client, listener, to, self.source(address)) for _ in range(8)]
                    for _ in range(16):
                        self.rng.choice(pairs).send(self.rng.choice(("toserver", "toclient")),
                                                    self.rng.choice((1, 100, 1460, 5000, 30000)))
                    for p in pairs:
                        p.close(self.rng.choice(("fin", "fin", "server_fin", "rst", "server_rst")), self.ledger)
                if "c2 to the outside" not in name:  # its port behind NAT is not known
                    self.refuse(client, address, to)

    def refuse(self, client, address, to):
        published = {("192.0.2.1", 8001): [("10.1.0.11", 7)], ("fd0f::1", 8001): [("fd01::11", 7)]}
        for _ in range(4):
            refused(client, (to[0], 7001 if to in published else 7), self.source(address), self.ledger,
                    *published.get(to, []))

    # ---- nginx, haproxy, curl ----

    def start(self, ns, port, *argv):
        with open(os.path.join(self.tmp, f"{argv[0]}.log"), "ab") as log:
            p = ns.popen(*argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.programs.append(p)
        live.wait_until(lambda: f":{port} " in ns.run("ss", "-Hltn") or p.poll() is not None,
                        f"{argv[0]} to listen")
        if p.poll() is not None:
            with open(os.path.join(self.tmp, f"{argv[0]}.log")) as f:
                raise RuntimeError(f"{argv}: status {p.returncode}: {f.read()}")

    def start_nginx(self):
        with open(os.path.join(self.tmp, "big"), "wb") as f:
            f.write(b"." * BIG)
        for i, ns in enumerate(self.containers):
            home = os.path.join(self.tmp, f"nginx{i}")
            os.mkdir(home)
            paths = "".join(f"{what}_temp_path {home}; " for what in
                            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            with open(os.path.join(home, "conf"), "w") as f:
                f.write(f"""daemon off; master_process off; pid {home}/pid; error_log {home}/error;
                    events {{}} http {{ {paths} root {self.tmp}; keepalive_requests 7; log_format sizes
                    '$remote_addr $remote_port $server_addr $server_port $connection $request_length $bytes_sent';
                    access_log {home}/access sizes;
                    server {{ listen 80; listen [::]:80; location /small {{ return 200 "small"; }} }} }}""")
            self.start(ns, 80, "nginx", "-c", f"{home}/conf", "-p", home, "-e", f"{home}/error")

    def start_haproxy(self):
        conf = os.path.join(self.tmp, "haproxy.conf")
        with open(conf, "w") as f:
            f.write("""
                defaults
                    mode http
                    timeout connect 30s
                    timeout client 30s
                    timeout server 30s
                frontend f
                    bind 192.0.2.1:8080
                    bind fd0f::1:8080
                    default_backend b
                backend b
                    server c1 10.1.0.11:80
                    server c2 fd01::12:80
                    server c3 10.1.0.13:80
""")
        self.start(self.ns, 8080, "haproxy", "-db", "-f", conf)

    def curl(self, n):
        """Curls of one request each, and such with keep-alive: to haproxy, and to published ports of nginx."""
        fields = " ".join(f"%{{{k}}}" for k in ("local_ip", "local_port", "remote_ip", "remote_port", "size_request",
                                                "size_header", "size_download", "num_connects"))
        targets = ["192.0.2.1:8080", "[fd0f::1]:8080"] if shutil.which("haproxy") else []
        targets += [f"{a}:900{i}" for a in ("192.0.2.1", "[fd0f::1]") for i in (1, 2, 3)]
        requests = 0
        for _ in range(n // 8):
            running = []
            for i in range(8):
                many = self.rng.choice((1, 1, 5, 20))
                urls = [f"http://{self.rng.choice(targets)}/{self.rng.choice(('small', 'small', 'big'))}"
                        for _ in range(many)]
                requests += many
                args = [a for u in urls for a in ("-o", "/dev/null", u)]
                close = ["-H", "Connection: close"] if i % 2 else []
                running.append(self.outside.popen("curl", "-s", "-g", "-w", f"{fields}\n", *close, *args,
                                                  stdout=subprocess.PIPE))
            for p in running:
                self.enter_curl(p.communicate(timeout=live.DEADLINE)[0].decode())
        return requests

    def enter_curl(self, out):
        """A line for each request; those of one connection are added up."""
        sums = {}
        for line in out.splitlines():
            a, ap, b, bp, sent, head, body, _ = line.split()
            s = sums.setdefault((a, int(ap), b, int(bp)), [0, 0])
            s[0] += int(sent)
            s[1] += int(head) + int(body)
        for leg, octets in sums.items():
            self.ledger.client[leg + tuple(octets)] += 1

    def enter_nginx(self, requests):
        """Ends haproxy first, whose idle connections nginx still has."""
        for p in reversed(self.programs):
            p.terminate()
            p.wait(live.DEADLINE)
        seen = 0
        for i in range(len(self.containers)):
            sums = {}
            with open(os.path.join(self.tmp, f"nginx{i}/access")) as f:
                for line in f:
                    a, ap, b, bp, number, got, sent = line.split()
                    s = sums.setdefault((a, int(ap), b, int(bp), number), [0, 0])
                    s[0] += int(got)
                    s[1] += int(sent)
                    seen += 1
            for leg, octets in sums.items():
                self.ledger.server[leg[:4] + tuple(octets)] += 1
        tap.equal(seen, requests, "nginx got each request")

    def first_interface(self, leg):
        """Where a segment of the client is first seen: it comes by a veth, or leaves by bridge or uplink."""
        client, _, server, _ = leg[:4]
        if client in ("192.0.2.9", "fd0f::9"):
            return "br0" if server.startswith(("10.1.0.1", "fd01::1")) else "uplink"
        if client.startswith(("10.1.0.1", "fd01::1")) and client not in ("10.1.0.1", "fd01::1"):
            return "c" + client[-1]
        return "uplink" if server in ("192.0.2.9", "fd0f::9") else "br0"


# ---- what the daemon reports ----

def leg_of(event):
    return event["src_ip"], event["src_port"], event["dest_ip"], event["dest_port"]


def of_kind(stream, kind):
    return [e for e in stream if e["event_type"] == kind]


def difference(got, want):
    return [f"{n:+d} {leg}" for leg, n in ((got - want) + (want - got)).items()][:20] + \
        [f"{sum((got - want).values())} too many, {sum((want - got).values())} missing"]


def wait_for_closes(sub, n):
    """Until so many are closed; more may come, and fewer is told by the checks."""
    try:
        live.wait_until(lambda: sub.read() and len(of_kind(sub.events, "tcp_close")) >= n, "the closes",
                        live.DEADLINE / 2)
    except live.Timeout as e:
        tap.diag(e)


def check_once(stream, ledger, what):
    """Opened once and closed once, by their end, and with the octets that the endpoints had."""
    opens, closes = of_kind(stream, "tcp_open"), of_kind(stream, "tcp_close")
    flows = ledger.flows()
    got = collections.Counter(map(leg_of, opens))
    tap.ok(got == flows, f"{what}: each of {sum(flows.values())} connections is opened once", difference(got, flows))
    got = collections.Counter(map(leg_of, closes))
    tap.ok(got == flows, f"{what}: and closed once", difference(got, flows))
    wrong = [e for e in closes if e["tcp"]["reason"] not in ("fin", "rst", "refused") or e["tcp"]["midstream"]]
    tap.ok(not wrong, f"{what}: by its FINs or by an RST", wrong[:3])
    again = {leg_of(e) for e in closes if e["flow"]["retrans_toserver"] or e["flow"]["retrans_toclient"]}
    if again:
        tap.diag(f"with segments sent again, octets not compared: {len(again)}")
    got = collections.Counter(leg_of(e) + (e["flow"]["payload_toserver"], e["flow"]["payload_toclient"])
                              for e in closes if leg_of(e) not in again)
    want = collections.Counter({leg: n for leg, n in ledger.legs().items() if leg[:4] not in again})
    tap.ok(got == want, f"{what}: client's and server's octets are those of the endpoints", difference(got, want))
    gaps = [e for e in closes if e["flow"]["gap_bytes"]]
    tap.ok(not gaps, f"{what}: without gaps", gaps[:3])


def last_counts(sub):
    """The last stats: numbers of all decoders together, and the frames of each interface."""
    last = of_kind(sub.events, "stats")[-1]
    totals = collections.Counter()
    for d in last["decoders"]:
        totals.update({k: v for k, v in d.items() if isinstance(v, int)})
        totals["tcp"] += d["verdicts"]["tcp"]
    return totals, last


def segments_of(closes):
    return sum(e["flow"]["pkts_toserver"] + e["flow"]["pkts_toclient"] for e in closes)


# ---- the scenarios ----

def real_programs(what, **options):
    """The whole host; @options of the daemon."""
    h = Host()
    nginx = shutil.which("nginx") and shutil.which("curl")
    if nginx:
        h.start_nginx()
        if shutil.which("haproxy"):
            h.start_haproxy()
    d = live.Synfind(h.ns, "any", **{**OPTIONS, **options})
    sub = d.subscribe()
    h.own_connections(CONNECTIONS)
    if nginx:
        h.enter_nginx(h.curl(80))
    missing = [p for p in ("nginx", "curl", "haproxy") if not shutil.which(p)]
    if missing:
        tap.skip(f"{what}: with real programs", "missing: " + ", ".join(missing))
    wait_for_closes(sub, sum(h.ledger.flows().values()))
    d.ends_well(sub, what)
    check_once(sub.events, h.ledger, what)
    wrong = [(e["in_iface"], leg_of(e)) for e in of_kind(sub.events, "tcp_open")
             if e["in_iface"] != h.first_interface(leg_of(e))]
    tap.ok(not wrong, f"{what}: each is reported from the interface that showed its client's SYN first", wrong[:9])
    totals, last = last_counts(sub)
    tap.diag(f"{what}: {dict(totals)}")
    tap.equal((totals["drops"], totals["lost"]), (0, 0), f"{what}: nothing is lost")
    tap.ok(totals["duplicates"] > 0, f"{what}: duplicates are counted", dict(totals))


def counted(dedupe):
    """A connection on each way: with --dedupe=no from each interface that shows it.  Otherwise once; what the
    other interfaces showed is counted."""
    h = Host()
    what = "counted" if dedupe else "--dedupe=no"
    d = live.Synfind(h.ns, "any", **OPTIONS, dedupe="auto" if dedupe else "no")
    sub = d.subscribe()
    shown = {"outside to c1, published": (["uplink"], ["br0", "c1"]), "c1 to c3": (["c1", "c3"],),
             "c2 to the outside, masqueraded": (["c2", "br0"], ["uplink"]), "host to c2": (["br0", "c2"],),
             "c3 to the host": (["c3", "br0"],), "outside to the host": (["uplink"],)}
    where = {}  # leg: interfaces
    for name, client, address, to, (server, bound) in h.routes():
        with server.listen(bound) as listener:
            p = pair(client, listener, to, h.source(address))
            where.update(zip(p.legs, shown[name]))
            for way in ("toserver", "toclient", "toserver"):
                p.send(way, 700)
            p.close("fin", h.ledger)
    want = collections.Counter((leg, i) for leg, all_of_it in where.items()
                               for i in (all_of_it[:1] if dedupe else all_of_it))
    wait_for_closes(sub, sum(want.values()))
    d.ends_well(sub, what)
    for kind in ("tcp_open", "tcp_close"):
        got = collections.Counter((leg_of(e), e["in_iface"]) for e in of_kind(sub.events, kind))
        tap.ok(got == want, f"{what}: {kind} from {'one interface' if dedupe else 'each interface that shows it'}",
               difference(got, want))
    copies = sum(segments_of([e]) * (len(where[leg_of(e)]) - 1) for e in of_kind(sub.events, "tcp_close"))
    totals, last = last_counts(sub)
    tap.equal(totals["duplicates"], copies if dedupe else 0,
              f"{what}: as many duplicates as the other interfaces showed segments")
    tap.equal(sum(i["frames"] for i in last["interfaces"]), totals["tcp"], f"{what}: frames of each interface")


def counted_once():
    counted(True)


def control():
    counted(False)


def twins(n=4, port=40000):
    """Bridges with equal networks behind them: equal addresses and ports at the same time.  The ISNs of one
    kernel for equal 4-tuples differ only by the time between the SYNs, so the windows overlap."""
    host = live.Netns()
    sides = []
    for i in range(n):
        bridge(host, f"br{i}")
        sides.append([container(host, f"br{i}", f"v{i}{who}", f"10.5.0.{k}/24", f"fd05::{k}/64")
                      for k, who in ((1, "c"), (2, "s"))])
    settle(host, *(ns for side in sides for ns in side))
    d = live.Synfind(host, "any", **OPTIONS)
    sub = d.subscribe()
    rng = random.Random(SEED)
    want = collections.Counter()
    for address, server in (("10.5.0.1", "10.5.0.2"), ("fd05::1", "fd05::2")):
        for order in ("in turn", "at once", "again"):  # the last: ports are used again, while others live
            pairs = [None] * n
            listeners = [s.listen((server, 80)) for _, s in sides]
            if order == "at once":
                clients = []
                for c, _ in sides:
                    with c():
                        clients.append(socket.socket(live._family((address,))))
                    clients[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    clients[-1].bind((address, port))
                    clients[-1].setblocking(False)
                for c in clients:
                    c.connect_ex((server, 80))
                for i, l in enumerate(listeners):
                    pairs[i] = Pair(clients[i], l.accept()[0])
                    clients[i].settimeout(live.DEADLINE)
                    pairs[i].s.settimeout(live.DEADLINE)
            else:
                pairs = [pair(c, l, (server, 80), (address, port)) for (c, _), l in zip(sides, listeners)]
            ledgers = [Ledger() for _ in pairs]

            def over(i, how):
                pairs[i].close(how, ledgers[i])
                want.update({(f"v{i}c",) + leg: k for leg, k in ledgers[i].legs().items()})
                ledgers[i] = Ledger()

            for _ in range(10 * n):
                pairs[rng.randrange(n)].send(rng.choice(("toserver", "toclient")), rng.choice((1, 50, 1448, 9000)))
            if order == "again":
                for i in range(n):
                    for _ in range(3):
                        over(i, "rst")
                        pairs[i] = pair(sides[i][0], listeners[i], (server, 80), (address, port))
                        for p in pairs:
                            p.send("toserver", 10)
                            p.send("toclient", 20)
            for i in rng.sample(range(n), n):
                over(i, "rst" if order != "again" else rng.choice(("fin", "rst")))
            for l in listeners:
                l.close()
            total = sum(want.values())
            wait_for_closes(sub, total)
    d.ends_well(sub, f"{n} equal networks")
    got = collections.Counter((e["in_iface"],) + leg_of(e) for e in of_kind(sub.events, "tcp_open"))
    flows = collections.Counter()
    for leg, k in want.items():
        flows[leg[:5]] += k
    tap.ok(got == flows, f"{n} equal networks: each of {total} connections is opened once, from its own interface",
           difference(got, flows))
    closes = of_kind(sub.events, "tcp_close")
    got = collections.Counter((e["in_iface"],) + leg_of(e) + (e["flow"]["payload_toserver"],
                                                             e["flow"]["payload_toclient"]) for e in closes)
    tap.ok(got == want, f"{n} equal networks: and closed once, with its own octets", difference(got, want))
    wrong = [e for e in closes if e["tcp"]["reason"] not in ("fin", "rst") or e["tcp"]["midstream"] or
             e["flow"]["gap_bytes"]]
    tap.ok(not wrong, f"{n} equal networks: by its FINs or by an RST", wrong[:3])
    tap.ok(not of_kind(sub.events, "tcp_anomaly"), f"{n} equal networks: nothing is odd",
           of_kind(sub.events, "tcp_anomaly")[:3])
    tap.diag(f"{n} equal networks: {dict(last_counts(sub)[0])}")


class Loop:
    """What the client sends comes by one cable, what it gets leaves by another; likewise between the host and a
    server beyond it.  Own addresses: the client's 10.7.0.1, the host's 10.7.0.2, the server's 10.7.0.3."""

    def __init__(self):
        host, left = live.veth_pair("in-h", "in-c", 1)
        live.join(host, left, "out-h", "out-c", 2)
        right = live.Netns()
        live.join(host, right, "in-s", "s-in", 3)
        live.join(host, right, "out-s", "s-out", 4)
        for ns in (host, left, right):
            for name in IP_FORWARDING:
                sysctl(ns, name, 1)
            for line in ns.run("ip", "-o", "link").splitlines():
                sysctl(ns, f"ipv4/conf/{line.split(': ')[1].split('@')[0]}/rp_filter", 0)
            sysctl(ns, "ipv4/conf/all/rp_filter", 0)
        for k, ns in enumerate((left, host, right), 1):
            ns.ip(f"addr add 10.7.0.{k}/32 dev lo")
            ns.ip(f"-6 addr add fd07::{k}/128 dev lo nodad")
        for to in ("10.7.0.2", "10.7.0.3"):
            left.ip(f"route add {to} via 10.0.1.1 src 10.7.0.1")
        for to in ("fd07::2", "fd07::3"):
            left.ip(f"-6 route add {to} via fd00:1::1 src fd07::1")
        for command in ("route add 10.7.0.1 via 10.0.2.2", "-6 route add fd07::1 via fd00:2::2",
                        "route add 10.7.0.3 via 10.0.3.2", "-6 route add fd07::3 via fd00:3::2"):
            host.ip(command)
        right.ip("route add 10.7.0.1 via 10.0.4.1 src 10.7.0.3")
        right.ip("-6 route add fd07::1 via fd00:4::1 src fd07::3")
        self.host, self.left, self.right = host, left, right
        settle(host, left, right)


def asymmetric():
    """To a server on the host and to one beyond it, and the other way round."""
    net = Loop()
    host, left, right = net.host, net.left, net.right
    d = live.Synfind(host, "any", **OPTIONS)
    sub = d.subscribe()
    ledger = Ledger()
    rng = random.Random(SEED)
    ways = [(left, "10.7.0.1", host, "10.7.0.2"), (left, "fd07::1", host, "fd07::2"),
            (left, "10.7.0.1", right, "10.7.0.3"), (left, "fd07::1", right, "fd07::3"),
            (host, "10.7.0.2", left, "10.7.0.1"), (right, "10.7.0.3", left, "10.7.0.1"),
            (right, "fd07::3", left, "fd07::1")]
    port = 30000
    for client, address, server, to in ways:
        with server.listen((to, 80)) as listener:
            for how in ("fin", "server_fin", "rst", "server_rst"):
                port += 1
                p = pair(client, listener, (to, 80), (address, port))
                for _ in range(8):
                    p.send(rng.choice(("toserver", "toclient")), rng.choice((1, 1448, 20000)))
                p.close(how, ledger)
        refused(client, (to, 81), (address, port + 1000), ledger)
    wait_for_closes(sub, sum(ledger.flows().values()))
    d.ends_well(sub, "asymmetric routes")
    check_once(sub.events, ledger, "asymmetric routes")
    seen = {(e["src_ip"], e["dest_ip"]): e["in_iface"] for e in of_kind(sub.events, "tcp_close")}
    tap.equal((seen.get(("10.7.0.1", "10.7.0.2")), seen.get(("fd07::1", "fd07::3")),
               seen.get(("10.7.0.2", "10.7.0.1")), seen.get(("10.7.0.3", "10.7.0.1"))),
              ("in-h", "in-h", "out-h", "out-s"), "asymmetric routes: the client's interface is named")
    anomalies = of_kind(sub.events, "tcp_anomaly")
    tap.ok(not anomalies, "asymmetric routes: nothing is odd", anomalies[:3])


def moved():
    """While a connection is open its route changes to another cable, and back: it is still one."""
    net = Loop()
    host, left, right = net.host, net.left, net.right
    d = live.Synfind(host, "any", **OPTIONS)
    sub = d.subscribe()
    ledger = Ledger()
    port = 30000
    way = "10.0.2.1", "10.0.1.1"
    for server, to in ((host, "10.7.0.2"), (right, "10.7.0.3")):
        with server.listen((to, 80)) as listener:
            for how in ("fin", "server_fin", "rst", "server_rst"):
                port += 1
                p = pair(left, listener, (to, 80), ("10.7.0.1", port))
                for n in range(2):
                    p.send("toserver", 3000)
                    p.send("toclient", 2000)
                    left.ip(f"route replace {to} via {way[n % 2]} src 10.7.0.1")
                    p.send("toclient", 100)
                    p.send("toserver", 10)
                left.ip(f"route replace {to} via {way[0]} src 10.7.0.1")
                p.close(how, ledger)
                left.ip(f"route replace {to} via {way[1]} src 10.7.0.1")
    wait_for_closes(sub, sum(ledger.flows().values()))
    d.ends_well(sub, "moved routes")
    check_once(sub.events, ledger, "moved routes")


def vanished():
    """A container ends with open connections, and its veth with it.  Those whose client it was are closed; what
    their servers repeat is seen at the servers' veths.  The others are still one."""
    h = Host()
    c1 = h.containers[0]
    d = live.Synfind(h.ns, "any", **OPTIONS)
    sub = d.subscribe()
    held, legs, clients = [], set(), set()
    for name, client, address, to, (server, bound) in h.routes():
        if c1 in (client, server):
            with server.listen(bound) as listener:
                p = pair(client, listener, to, h.source(address))
            p.send("toserver", 100)
            p.send("toclient", 100)
            held.append(p)
            legs |= set(p.legs)
            if client is c1:
                clients.add(p.legs[0])
    sub.until(lambda e: len(of_kind(e, "tcp_established")) >= len(legs), "all to be established")
    h.ns.ip("link del c1")
    sub.wait_for("iface", in_iface="c1", state="gone")
    sub.until(lambda e: len(of_kind(e, "tcp_close")) >= len(clients), "closes")
    for p in held:
        p.s.sendall(b"." * 10)
        p.c.sendall(b"." * 10)
    again = {leg[2:] + leg[:2] for leg in clients}
    sub.until(lambda e: again <= set(map(leg_of, of_kind(e, "tcp_open"))), "what the servers repeat")
    d.ends_well(sub, "vanished")
    for kind in ("tcp_open", "tcp_close"):
        got, want = (collections.Counter(x) for x in (map(leg_of, of_kind(sub.events, kind)), legs | again))
        tap.ok(got == want, f"vanished: one {kind} each", difference(got, want))
    ends = {leg_of(e): (e["in_iface"], e["tcp"]["reason"], e["tcp"]["midstream"])
            for e in of_kind(sub.events, "tcp_close")}
    tap.equal({ends[leg] for leg in clients}, {("c1", "capture_end", False)}, "vanished: its own are closed")
    tap.equal({ends[leg] for leg in legs - clients}, {("uplink", "shutdown", False), ("br0", "shutdown", False)},
              "vanished: the others go on")
    tap.equal({ends[leg] for leg in again}, {("c3", "shutdown", True)}, "vanished: mid-stream at the servers")


def some(client, server, ways, what, first, anomalies=0, **options):
    """Connections between two namespaces, watched in the client's, then in the server's."""
    settle(client, server)
    for where, ns in (("client", client), ("server", server)):
        d = live.Synfind(ns, "any", **{**OPTIONS, **options})
        sub = d.subscribe()
        ledger = Ledger()
        port = 30000 if ns is client else 31000
        for address, to in ways:
            with server.listen((to, 80)) as listener:
                for how in ("fin", "server_fin", "rst", "server_rst"):
                    port += 1
                    p = pair(client, listener, (to, 80), (address, port))
                    for way, n in (("toserver", 500), ("toclient", 30000), ("toserver", 30000), ("toclient", 1)):
                        p.send(way, n)
                    p.close(how, ledger)
            port += 1
            refused(client, (to, 81), (address, port), ledger)
        wait_for_closes(sub, sum(ledger.flows().values()))
        d.ends_well(sub, f"{what}, at the {where}")
        check_once(sub.events, ledger, f"{what}, at the {where}")
        got = {(e["in_iface"], "tunnel" in e) for e in of_kind(sub.events, "tcp_close")}
        tap.equal(got, {first[where]}, f"{what}, at the {where}: all from one interface")
        tap.ok(not of_kind(sub.events, "tcp_anomaly"), f"{what}, at the {where}: nothing is odd",
               of_kind(sub.events, "tcp_anomaly")[:3])
        tap.diag(f"{what}, at the {where}: {dict(last_counts(sub)[0])}")


def macvlan():
    left, right = live.veth_pair()
    try:
        for ns, me, dev in ((left, 1, "veth-a"), (right, 2, "veth-b")):
            ns.ip(f"link add link {dev} name mv type macvlan mode bridge")
            ns.ip(f"addr add 10.6.0.{me}/24 dev mv")
            ns.ip(f"addr add fd06::{me}/64 dev mv nodad")
            ns.ip("link set mv up")
    except RuntimeError as e:
        tap.skip("macvlan", str(e))
        return
    some(left, right, (("10.6.0.1", "10.6.0.2"), ("fd06::1", "fd06::2")), "macvlan",
         {"client": ("mv", False), "server": ("veth-b", False)})


def vxlan():
    """With --decap the tunnel's frames show what the vxlan device shows."""
    left, right = live.veth_pair()
    for ns, me, peer, dev in ((left, 1, 2, "veth-a"), (right, 2, 1, "veth-b")):
        ns.ip(f"link add vx type vxlan id 42 dstport 4789 local 10.0.1.{me} remote 10.0.1.{peer} dev {dev}")
        ns.ip(f"addr add 10.8.0.{me}/24 dev vx")
        ns.ip(f"addr add fd08::{me}/64 dev vx nodad")
        ns.ip("link set vx up")
    some(left, right, (("10.8.0.1", "10.8.0.2"), ("fd08::1", "fd08::2")), "vxlan",
         {"client": ("vx", False), "server": ("veth-b", True)}, decap="yes")


def vlan():
    """Many kernels of test machines have no vlan devices: then in a kernel of its own."""
    try:
        live.Netns().ip("link add link lo name vlan5 type vlan id 5")
    except RuntimeError:
        if uml.is_missing():
            tap.skip("vlan", "missing: vlan devices of this kernel, or user-mode-linux")
        else:
            uml.run("vlan", 18)
        return
    watch_vlan()


def watch_vlan():
    """Frames of a vlan device are those of the device below it, with a tag."""
    left, right = live.veth_pair()
    for ns, me, dev in ((left, 1, "veth-a"), (right, 2, "veth-b")):
        ns.ip(f"link add link {dev} name vlan5 type vlan id 5")
        ns.ip(f"addr add 10.9.0.{me}/24 dev vlan5")
        ns.ip(f"addr add fd09::{me}/64 dev vlan5 nodad")
        ns.ip("link set vlan5 up")
    some(left, right, (("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")), "vlan",
         {"client": ("vlan5", False), "server": ("veth-b", False)})


def vlan_inside():
    uml.load("ipv6", "veth", "8021q")
    watch_vlan()


def older():
    """Connections that are older than the daemon: each is picked up once, whichever side is seen first, and
    closed by its end."""
    h = Host()
    held = []
    for name, client, address, to, (server, bound) in h.routes():
        with server.listen(bound) as listener:
            held += [pair(client, listener, to, h.source(address)) for _ in range(6)]
    for p in held:
        p.send("toserver", 100)
        p.send("toclient", 100)
    d = live.Synfind(h.ns, "any", **OPTIONS)
    sub = d.subscribe()
    for i, p in enumerate(held):
        p.send("toserver" if i % 2 else "toclient", 3000)
        p.send("toclient" if i % 3 else "toserver", 200)
    for i, p in enumerate(held):
        p.close("server_fin" if i % 4 == 0 else "fin", h.ledger)
    flows = h.ledger.flows()
    wait_for_closes(sub, sum(flows.values()))
    d.ends_well(sub, "older")
    for kind in ("tcp_open", "tcp_close"):
        got = collections.Counter(tuple(sorted((leg_of(e)[:2], leg_of(e)[2:]))) for e in of_kind(sub.events, kind))
        want = collections.Counter({tuple(sorted((f[:2], f[2:]))): n for f, n in flows.items()})
        tap.ok(got == want, f"older: one {kind} for each of {len(flows)}", difference(got, want))
    wrong = [e for e in of_kind(sub.events, "tcp_close") if e["tcp"]["reason"] != "fin" or e["flow"]["gap_bytes"] or
             sorted((e["flow"]["payload_toserver"], e["flow"]["payload_toclient"])) not in
             ([200, 3000], [0, 3200])]
    tap.ok(not wrong, "older: by its FINs, with the octets since then", wrong[:3])


def reused():
    """A client that uses one port again and again, after each kind of end."""
    h = Host()
    d = live.Synfind(h.ns, "any", **OPTIONS)
    sub = d.subscribe()
    for name, client, address, to, (server, bound) in h.routes():
        source = h.source(address)
        with server.listen(bound) as listener:
            for how in ("server_fin", "rst", "server_rst", "server_fin", "server_rst", "rst") * 3:
                p = pair(client, listener, to, source)
                p.send("toserver", h.rng.choice((1, 3000)))
                p.send("toclient", h.rng.choice((2, 4000)))
                p.close(how, h.ledger)
    wait_for_closes(sub, sum(h.ledger.flows().values()))
    d.ends_well(sub, "reused")
    check_once(sub.events, h.ledger, "a port used again")
    tap.diag(f"a port used again: {dict(last_counts(sub)[0])}")


def unreachable():
    """The ICMP error that answers a SYN passes several interfaces as well."""
    h = Host()
    c1, c3 = h.containers[0], h.containers[2]
    c3.run("nft", """table inet t {
        chain in {
            type filter hook input priority 0;
            tcp dport 9 reject with icmpx type port-unreachable
        }
        }""")
    d = live.Synfind(h.ns, "any", **OPTIONS)
    sub = d.subscribe()
    want = collections.Counter()
    for address, to in (("10.1.0.11", "10.1.0.13"), ("fd01::11", "fd01::13"), ("10.1.0.1", "10.1.0.13")):
        for _ in range(5):
            source = h.source(address)
            try:
                (h.ns if address.endswith(".1") else c1).connect((to, 9), source).close()
            except OSError:
                pass
            want[source + (to, 9)] += 1
    wait_for_closes(sub, sum(want.values()))
    d.ends_well(sub, "unreachable")
    for kind in ("tcp_open", "tcp_close"):
        got = collections.Counter(map(leg_of, of_kind(sub.events, kind)))
        tap.ok(got == want, f"unreachable: one {kind} for each attempt", difference(got, want))
    reasons = collections.Counter(e["tcp"]["reason"] for e in of_kind(sub.events, "tcp_close"))
    tap.equal(reasons, {"unreachable": sum(want.values())}, "unreachable: all by the ICMP error")


def killed():
    """SIGKILL, again and again, while connections are open; the next process has the kept memory."""
    h = Host()
    m = fdstore.Manager(h.ns, "any", **OPTIONS)
    m.start()
    sub = m.subscribe()
    rng = h.rng
    listeners, held = [], []
    routes = list(h.routes())
    for name, client, address, to, (server, bound) in routes:
        listeners.append(server.listen(bound))
    for kill in range(8):
        for _ in range(2):
            for l, (name, client, address, to, _) in zip(listeners, routes):
                held.append(pair(client, l, to, h.source(address)))
        for p in rng.sample(held, len(held) // 2):
            p.send(rng.choice(("toserver", "toclient")), rng.choice((1, 1448, 20000)))
        if kill % 4 == 3:
            m.end_decoder_after(rng.randrange(2000))
        else:
            m.end(signal.SIGKILL if kill % 2 else signal.SIGTERM)
        for p in rng.sample(held, len(held) // 3):  # while there is no daemon
            p.send(rng.choice(("toserver", "toclient")), 100)
            p.close(rng.choice(("fin", "rst", "server_fin")), h.ledger)
            held.remove(p)
        m.start()
    for p in held:
        p.close("fin", h.ledger)
    wait_for_closes(sub, sum(h.ledger.flows().values()))
    sub.until(lambda e: e[-1]["event_type"] == "stats", "stats")
    tap.equal(len(m.readers()), 1, "killed: the subscriber stays")
    check_once(sub.events, h.ledger, "killed")
    tap.ok(not sub.checker.errors, "killed: every line is right", sub.checker.errors)
    totals, _ = last_counts(sub)
    tap.diag(f"killed: {m.starts} starts, {dict(totals)}")
    tap.ok(totals["duplicates"] > 0, "killed: duplicates are counted", dict(totals))
    m.end()
    m.empty()


def two_decoders():
    real_programs("two decoders", decoders=2)


def one_decoder():
    real_programs("one decoder")


if os.getpid() == 1:
    uml.init(vlan_inside)
live.need("ip", "nft", "ss")
for step in (one_decoder, two_decoders, counted_once, control, twins, asymmetric, moved, vanished, reused, older, unreachable, macvlan, vxlan,
             vlan, killed):
    if not sys.argv[1:] or step.__name__ in sys.argv[1:]:
        with live.guarded(step.__name__):
            step()
tap.done()
