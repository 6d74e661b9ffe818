#!/usr/bin/python3
"""Several decoders on one interface: each connection is in one of them, whole, and what is told is
what a single decoder tells that watches the same cable."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import live
import script
import tap

CONNECTIONS = 150  # of each family
VIAS = ("vxlan:42", "geneve:7", "gre:9", "nvgre:8", "erspan2:5", "erspan3:6", "in4", "in6", "gtp:3",
        "in6,vxlan:43", "mpls:16", "pppoe:7", "snap")
EACH = 12  # connections in each of these
LAST = 65000  # port of the connection that comes last
WORDS = "+0 C{0} > S{0} SYN mss=1460\n+0 S{0} > C{0} SYN-ACK\n+0 C{0} > S{0} ACK\n" \
        "+0 C{0} > S{0} DATA len=900\n+0 S{0} > C{0} RST-ACK\n"


def scripted():
    """Tunnels, other carriers, VLAN tags in the frame, ICMP errors; then one plain connection."""
    text = ""
    for v, how in enumerate([f"via={via}" for via in VIAS] + ["vlan=5", "vlan=5,6"]):
        for n in range(EACH):
            name = f"{v}x{n}"
            text += f"conn {name} C=10.9.{v}.1:{10000 + n} S=10.9.{v}.2:80 {how}\n"
            text += WORDS.format(name)
    for n in range(EACH):
        text += f"conn u{n} C=[fd09::1]:{30000 + n} S=[fd09::2]:80\n" \
                f"+0 Cu{n} > Su{n} SYN\n+0 Su{n} > Cu{n} ICMP code=4\n" \
                f"conn w{n} C=10.8.0.1:{30000 + n} S=10.8.0.2:80\n" \
                f"+0 Cw{n} > Sw{n} SYN\n+0 Sw{n} > Cw{n} ICMP code=1\n"
    text += f"conn last C=10.9.0.1:{LAST} S=10.9.0.2:80\n" + WORDS.format("last")
    return [frame for _, frame in script.compile_script(text)]


def converse(client_ns, server_ns, address):
    """Connections that the kernels make, all open at once, closed in either order."""
    listener = server_ns.listen(address)
    pairs = []
    for _ in range(CONNECTIONS):
        c = client_ns.connect(listener.getsockname()[:2])
        pairs.append((c, listener.accept()[0]))
    for n, (c, s) in enumerate(pairs):
        c.sendall(b"q" * (100 + n))
        s.sendall(b"a" * (3000 + n))
        c.recv(1)
    for n, pair in enumerate(pairs):
        for end in pair if n % 2 else reversed(pair):
            end.close()


def observe(ns, interface, traffic, count, **options):
    """For each of the observers, one with one decoder and one with three: (closes, decoders)."""
    watchers = [live.Synfind(ns, interface, decoders=n, stats_interval="1s", max_half_open=65536,
                             **options) for n in (1, 3)]
    subs = [d.subscribe() for d in watchers]
    traffic()
    seen = []
    for d, sub in zip(watchers, subs):
        closes = sub.until(lambda e: (lambda c: len(c) >= count and c)(
            [x for x in e if x["event_type"] == "tcp_close"]), f"{count} closes")
        d.ends_well(sub, interface)
        seen.append((closes, sub.events[-1]["decoders"], d.stderr()))
    return seen


def story(close):
    """What a close says of its connection, whoever told it."""
    flow = {k: v for k, v in close["flow"].items() if k not in ("start", "end", "age_ns")}
    tcp = {k: v for k, v in close["tcp"].items() if not k.endswith("_ns")}
    return repr([close[k] for k in ("src_ip", "src_port", "dest_ip", "dest_port")] +
                [close.get("tunnel"), close.get("vlan"), sorted(flow.items()), sorted(tcp.items())])


def compare(what, seen):
    (one, _, _), (three, decoders, _) = seen
    tap.equal(sorted(map(story, three)), sorted(map(story, one)),
              f"{what}: {len(one)} connections end as one decoder saw them end")
    tap.equal([d["decoder"] for d in decoders], [0, 1, 2], f"{what}: three decoders in stats")
    tap.ok(all(d["connections"]["opened"] > 0 for d in decoders), f"{what}: each has its share",
           decoders)


def kernels(client_ns, server_ns, addresses):
    for address in addresses:
        converse(client_ns, server_ns, address)


live.need("ip", "setpriv")
left, right = live.veth_pair()
probe = left.run("setpriv", "--bounding-set=-bpf,-sys_admin", "true", check=False)

with live.guarded("veth"):
    def both():
        kernels(left, right, (("10.0.1.2", 80), ("fd00:1::2", 80)))
        kernels(right, left, (("10.0.1.1", 80), ("fd00:1::1", 80)))
        right.send("veth-b", scripted())

    total = 4 * CONNECTIONS + (len(VIAS) + 2) * EACH + 2 * EACH + 1
    seen = observe(left, "veth-a", both, total, decap="yes", icmp="yes")
    compare("veth", seen)
    tap.equal([d.get("split") for d in seen[1][1]], [0, 0, 0], "veth: no connection is split")
    tap.equal(len([c for c in seen[1][0] if c["tcp"]["reason"] == "unreachable"]), 2 * EACH,
              "veth: each ICMP error came to the decoder of the SYN that it quotes")
    tap.ok("an eBPF program" in seen[1][2], "veth: the log names the program", seen[1][2])

with live.guarded("down and up"):
    d = live.Synfind(left, "veth-a", decoders=3)
    sub = d.subscribe()
    for step in range(3):
        left.ip("link set veth-a down")
        sub.until(lambda e, n=step: len([x for x in e if x.get("state") == "down"]) > n, "down")
        left.ip("link set veth-a up")
        sub.until(lambda e, n=step: len([x for x in e if x.get("state") == "up"]) > n, "up")
        live.wait_up(left, "veth-a")
        converse(left, right, ("10.0.1.2", 81 + step))
    sub.until(lambda e: len([x for x in e if x["event_type"] == "tcp_close"]) >= 3 * CONNECTIONS,
              "all closes")
    d.ends_well(sub, "down and up")
    opened = [c["connections"]["opened"] for c in sub.events[-1]["decoders"]]
    tap.ok(sum(opened) == 3 * CONNECTIONS and all(opened),
           "down and up: each connection is in one decoder, and each decoder has some", opened)
    left.ip("-6 addr add fd00:1::1/64 dev veth-a nodad")

with live.guarded("loopback"):
    seen = observe(left, "lo", lambda: kernels(left, left, (("127.0.0.1", 80), ("::1", 80))),
                   2 * CONNECTIONS)
    compare("lo", seen)
    tap.equal([d.get("split") for d in seen[1][1]], [0, 0, 0], "lo: no connection is split")

with live.guarded("without CAP_BPF"):
    if probe:
        tap.skip("the kernel's hash in place of the program", "setpriv: " + probe)
    else:
        drop = ("setpriv", "--bounding-set=-bpf,-sys_admin")
        seen = observe(left, "veth-a", lambda: kernels(left, right, (("10.0.1.2", 80),
                                                                   ("fd00:1::2", 80))),
                       2 * CONNECTIONS, argv0=drop)
        compare("hash", seen)
        tap.ok("PACKET_FANOUT_HASH" in seen[1][2], "hash: the log says so", seen[1][2])
        tap.ok(not any("split" in d for d in seen[1][1]), "hash: nobody claims to know of splits")
        d = live.Synfind(left, "veth-a", decoders=3, decap="yes", argv0=drop, stats_interval="1s")
        tap.ok("has one decoder" in d.stderr(), "with tunnels there is one decoder instead",
               d.stderr())
        tap.equal(d.stop(), 0, "status 0")
tap.done()
