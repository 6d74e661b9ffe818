#!/usr/bin/python3
"""Interfaces that a pattern or any names share packet rings: each connection has its interface's name,
interfaces may come, go, and be configured or not, and a connection is opened and closed once."""
import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import fdstore
import live
import tap

MANY = 250
KEPT = 100
RING = {"ring_size": "4M"}
DEDUPE = ["--dedupe=no"] if "--dedupe" in subprocess.run([live.SYNFIND, "--help"], capture_output=True,
                                                         text=True).stdout else []


def start(ns, interface, *args, **options):
    d = live.Synfind(ns, interface, *DEDUPE, *args, **{**RING, **options})
    return d, d.subscribe()


def opener_of(d):
    watch = live.wait_until(lambda: live.children(d.p.pid), "the opener's parent")[0]
    return live.wait_until(lambda: live.children(watch), "the opener")[0]


def rss_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Rss:"))


def of_port(sub, kind, port):
    return [e for e in sub.events if e["event_type"] == kind and e.get("src_port") == port]


def links(sub):
    return [(e["in_iface"], e["state"]) for e in sub.events if e["event_type"] == "iface"]


def once(sub, talk, iface, what):
    """The close has come: it is the only one, by FIN, of the one connection on its interface."""
    sub.wait_for("tcp_close", src_port=talk.port)
    opens, closes = (of_port(sub, kind, talk.port) for kind in ("tcp_open", "tcp_close"))
    tap.equal([(len(opens), e["in_iface"], e["tcp"]["reason"]) for e in closes], [(1, iface, "fin")], what)


def many():
    ns = live.Netns()
    path = os.path.join(live.tmpdir(), "batch")
    with open(path, "w") as f:
        for i in range(MANY // 2):
            f.write(f"link add v{i} up type veth peer name p{i}\nlink set p{i} up\n")
    ns.run("ip", "-batch", path)
    d, sub = start(ns, "any")
    rss = rss_kb(d.p.pid)
    print(f"# {MANY + 1} interfaces: {rss} kB resident")
    tap.equal(len(os.listdir(f"/proc/{d.p.pid}/task")), 2, f"{MANY} veths: one decoder has the frames of all")
    tap.ok(rss < 40_000, "and the daemon stays small", rss)
    tap.equal(len(sub.events[0]["interfaces"]), 64, "hello names the first 64")
    d.ends_well(sub, "many")


def named_beside_pattern():
    left, right = live.veth_pair("veth-a", "veth-b", 1)
    live.join(left, right, "other-a", "other-b", 2)
    d, sub = start(left, "veth*,veth-a,lo", "--decoders=2", stats_interval="1s")
    hidden = live.exchange(left, right, "10.0.2.2")
    shown = live.Talk(left, right, 1)
    shown.close()
    once(sub, shown, "veth-a", "an interface named beside a pattern that has it: a connection comes once")
    local = live.exchange(left, left, "127.0.0.1", 81)
    close = sub.wait_for("tcp_close", **local)
    tap.equal((close["in_iface"], len(of_port(sub, "tcp_open", local["src_port"]))), ("lo", 1),
              "two decoders: a connection over lo comes once")
    stats = sub.stats_after(close)
    tap.ok(sum(x.get("other_interfaces", 0) for x in stats["decoders"]) > 0 and
           not live.find(sub.events, "tcp_open", **hidden),
           "an interface that is not configured: no event, stats count its frames", stats["decoders"])
    d.ends_well(sub, "named")


TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 1, 0x1000


def refused_by_tun(ns, tun, address, port):
    """Our end of the tun refuses what is sent there: a SYN gets its RST.  The client's port."""
    with ns():
        c = socket.socket()
    c.setblocking(False)
    assert c.connect_ex((address, port)) == errno.EINPROGRESS
    while True:
        syn = os.read(tun, 2000)
        if syn[0] >> 4 == 4 and syn[9] == 6:
            break
    source, dest = syn[12:16], syn[16:20]
    sport, dport, seq = struct.unpack("!HHI", syn[20:28])
    tcp = struct.pack("!HHIIBBHHH", dport, sport, 0, seq + 1, 5 << 4, 0x14, 0, 0, 0)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, dest, source)

    def total(data):
        n = sum(struct.unpack(f"!{len(data) // 2}H", data))
        n = (n & 0xffff) + (n >> 16)
        return ~(n + (n >> 16)) & 0xffff

    tcp = tcp[:16] + struct.pack("!H", total(dest + source + struct.pack("!HH", 6, 20) + tcp)) + tcp[18:]
    os.write(tun, ip[:10] + struct.pack("!H", total(ip)) + ip[12:] + tcp)
    live.wait_until(lambda: c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED,
                    "the kernel to take the RST")
    c.close()
    return sport


def tun_beside_ethernet():
    left, right = live.veth_pair("veth-a", "veth-b", 1)
    with left():
        tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH14x", b"t0", IFF_TUN | IFF_NO_PI))
    left.ip("addr add 10.5.0.1/24 dev t0")
    left.ip("link set t0 up")
    d, sub = start(left, "any", stats_interval="1s")
    for n in range(3):
        talk = live.Talk(left, right, 1)
        port = refused_by_tun(left, tun, "10.5.0.2", 90 + n)
        talk.close()
        once(sub, talk, "veth-a", "beside a tun: a connection over Ethernet comes once, under its name")
        close = sub.wait_for("tcp_close", src_port=port, dest_port=90 + n)
        tap.equal((close["in_iface"], close["tcp"]["reason"], len(of_port(sub, "tcp_open", port))),
                  ("t0", "refused", 1), "and so does one over the tun")
    stats = sub.stats_after(close)
    tap.equal({x["in_iface"] for x in stats["decoders"]}, {"any", "any-ip"}, "each kind of link has a ring")
    tap.equal({x["in_iface"]: x["rings"] for x in stats["interfaces"]},
              {"veth-a": "any", "lo": "any", "t0": "any-ip"}, "stats say which interface has which")
    os.close(tun)
    sub.wait_for("iface", in_iface="t0", state="gone")
    d.ends_well(sub, "tun")


def opener_is_late():
    left, right = live.Netns(), live.Netns()
    d, sub = start(left, "any")
    opener = opener_of(d)
    os.kill(opener, signal.SIGSTOP)
    try:
        live.join(left, right, "late-a", "late-b", 3)
        talk = live.Talk(left, right, 3)
        index = left.ip("-o link show late-a").split(":")[0]
        e = sub.wait_for("tcp_open", src_port=talk.port)
        tap.equal(e["in_iface"], f"if{index}", "an interface that is not reported in time has its number as name")
    finally:
        os.kill(opener, signal.SIGCONT)
    sub.wait_for("iface", in_iface="late-a", state="up")
    talk.say()
    talk.close()
    once(sub, talk, "late-a", "then its real name, and nothing of the connection is lost")
    d.ends_well(sub, "late")


def promiscuous():
    left, right = live.veth_pair("veth-a", "veth-b", 4)

    def is_promiscuous(name, n):
        return f"promiscuity {n} " in left.ip(f"-d link show {name}")

    d, sub = start(left, "veth*", promiscuous="yes")
    tap.ok(is_promiscuous("veth-a", 1), "promiscuous: an interface that shares a ring is")
    live.join(left, right, "veth-c", "veth-d", 5)
    sub.wait_for("iface", in_iface="veth-c", state="up")
    live.wait_until(lambda: is_promiscuous("veth-c", 1), "veth-c to be promiscuous")
    tap.ok(True, "one that comes later as well")
    d.ends_well(sub, "promiscuous")
    live.wait_until(lambda: is_promiscuous("veth-a", 0) and is_promiscuous("veth-c", 0), "both to be as before")
    tap.ok(True, "after the end they are not")


def reloads():
    left, right = live.veth_pair("veth-a", "veth-b", 6)
    live.join(left, right, "other-a", "other-b", 7)
    conf = os.path.join(live.tmpdir(), "conf")

    def configure(interfaces, ring="4M"):
        live.replace(conf, f"[capture]\ninterface = {interfaces}\nring-size = {ring}\n")

    configure("veth*,other*")
    d = fdstore.Manager(left, "", store=False)
    d.argv = [*(a for a in d.argv if "interface" not in a), *DEDUPE, f"--config={conf}"]
    d.start()
    sub = live.Subscriber(d.path)
    sub.until(lambda e: e, "hello")

    def reload(interfaces, ring="4M", until=None):
        before = d.stderr().count("Configuration read again")
        configure(interfaces, ring)
        d.p.send_signal(signal.SIGHUP)
        live.wait_until(lambda: d.stderr().count("Configuration read again") > before, "the reload")
        if until:
            live.wait_until(until, f"the reload to {interfaces}")

    talk, other = live.Talk(left, right, 6), live.Talk(left, right, 7, 81)
    sub.wait_for("tcp_established", src_port=other.port)
    reload("veth*,other*", "8M", lambda: "new ring" in d.stderr())
    talk.say()
    reload("veth*", "8M")
    gone = sub.wait_for("tcp_close", src_port=other.port)
    tap.equal((gone["in_iface"], gone["tcp"]["reason"]), ("other-a", "capture_end"),
              "an interface that is not configured any more: its connection is closed, with its name")
    other.say()
    talk.say()
    reload("any", "8M")
    sub.wait_for("iface", in_iface="other-a", state="back")
    again = live.Talk(left, right, 7, 82)
    sub.wait_for("tcp_established", src_port=again.port)
    reload("veth*,nosuch0", "8M", lambda: "other-a is not configured any more, but kept" in d.stderr())
    again.say()
    again.close()
    once(sub, again, "other-a", "a name that is missing beside a pattern: what the list had before is kept")
    talk.say()
    talk.close()
    once(sub, talk, "veth-a", "a connection that is open across three reloads and a ring switch is closed once")
    tap.equal([x for x in links(sub) if x[0] == "veth-a"], [], "its interface is not reported again")
    other.close()
    tap.equal(d.end(signal.SIGTERM), 0, "reloads: status 0")
    tap.ok(not sub.to_end(), "reloads: every line is right", sub.checker.errors)


def several_decoders():
    left, right = live.veth_pair("veth-a", "veth-b", 8)
    live.join(left, right, "veth-c", "veth-d", 9)
    d, sub = start(left, "any", "--decoders=3", stats_interval="1s")
    talks = [live.Talk(left, right, 8 + i % 2, 1000 + i) for i in range(60)]
    for t in talks:
        t.say()
        t.close()
    for t in talks:
        sub.wait_for("tcp_close", src_port=t.port, dest_port=1000 + talks.index(t))
    told = sorted((e["dest_port"], e["in_iface"], e["tcp"]["reason"]) for e in sub.events
                  if e["event_type"] == "tcp_close")
    tap.equal(told, [(1000 + i, "veth-c" if i % 2 else "veth-a", "fin") for i in range(60)],
              "three decoders: each of 60 connections is closed once, on its interface")
    d.ends_well(sub, "decoders")
    tap.equal([x.get("split") for x in sub.events[-1]["decoders"]], [0, 0, 0], "none is split")


def goes_away():
    left, right = live.veth_pair("veth-a", "veth-b", 10)
    far = live.Netns()
    d, sub = start(left, "veth*")
    first = live.Talk(left, right, 10)
    sub.wait_for("tcp_established", src_port=first.port)
    left.ip("link del veth-a")
    live.join(left, right, "veth-a", "veth-b", 10)
    second = live.Talk(left, right, 10, 81)
    sub.wait_for("tcp_established", src_port=second.port)
    left.ip(f"link set veth-a netns {far.path}")
    sub.wait_for("tcp_close", src_port=second.port)
    far.ip(f"link set veth-a netns {left.path}")
    left.ip("addr add 10.0.10.1/24 dev veth-a")
    left.ip("link set veth-a up")
    live.wait_up(left, "veth-a")
    sub.until(lambda e: links(sub).count(("veth-a", "back")) == 2, "it to be back")
    third = live.Talk(left, right, 10, 82)
    third.close()
    once(sub, third, "veth-a", "an interface that is back: its new connection is whole")
    told = [(e["dest_port"], e["in_iface"], e["tcp"]["reason"]) for e in sub.events if e["event_type"] == "tcp_close"]
    tap.equal(told, [(80, "veth-a", "capture_end"), (81, "veth-a", "capture_end"), (82, "veth-a", "fin")],
              "what was open when it went is closed once, with its name")
    tap.equal([s for _, s in links(sub) if s in ("gone", "back")], ["gone", "back"] * 2,
              "removed or moved elsewhere: gone, then back, each once")
    d.ends_well(sub, "goes away")


def kept():
    """A service manager keeps the descriptors: nothing is reported twice."""
    left, right = live.veth_pair("veth-a", "veth-b", 11)

    def change(*commands):
        path = os.path.join(live.tmpdir(), "batch")
        with open(path, "w") as f:
            f.write("\n".join(commands))
        left.run("ip", "-batch", path)

    def add(*names):
        change(*(line for n in names for line in (f"link add {n} up type veth peer name p{n}", f"link set p{n} up")))

    add(*(f"v{i}" for i in range(KEPT)))
    m = fdstore.Manager(left, "v*", **RING)
    m.argv += DEDUPE
    m.start()
    sub = m.subscribe()
    talk = live.Talk(left, right, 11)
    sub.wait_for("tcp_established", src_port=talk.port)
    expected = []
    for n, sig in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)):
        m.end(sig)
        change(f"link del v{n}")
        add(f"vnew{n}")
        talk.say()
        m.start()
        expected += [(f"v{n}", "gone"), (f"vnew{n}", "up")]
        sub.wait_for("iface", in_iface=f"v{n}", state="gone")
        sub.wait_for("iface", in_iface=f"vnew{n}", state="up")
    change("link del v50")
    sub.wait_for("iface", in_iface="v50", state="gone")
    m.end()
    m.start()
    talk.say()
    talk.close()
    once(sub, talk, "veth-a", "a connection that is open across four ends of the process is closed once")
    tap.equal(sorted(x for x in links(sub) if x[1] in ("up", "gone", "back") and x[0] != "v50"), sorted(expected),
              f"of {KEPT} interfaces only those are reported that came and went meanwhile, once")
    tap.equal(links(sub).count(("v50", "gone")), 1, "gone right before a kill: not reported again")
    tap.ok(not sub.checker.errors, "in one stream", sub.checker.errors)
    m.end()
    m.empty()


live.need("ip")
for part in (many, named_beside_pattern, tun_beside_ethernet, opener_is_late, promiscuous, reloads,
             several_decoders, goes_away, kept):
    with live.guarded(part.__name__):
        part()
tap.done()
