#!/usr/bin/python3
"""synfinctl report: captures of the kernel's own TCP against tshark, connection by connection, in frames
and octets of each direction; and the same page of what a running daemon still has."""
import gzip
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import conv
import live
import tap

V4, V6 = "10.0.1.2", "fd00:1::2"
ETHERNET = 14


class Capture:
    """tcpdump in a namespace, while the block runs."""

    def __init__(self, ns, name, *args):
        self.path = os.path.join(tmp, name)
        self.p = ns.popen("tcpdump", "-i", "veth-a", "--immediate-mode", "-s", "2000", "-U", "-B", "16384", "-w",
                          self.path, *args, "tcp or icmp or icmp6", stderr=subprocess.PIPE)
        while b"listening" not in self.p.stderr.readline():
            pass

    def __enter__(self):
        return self

    def __exit__(self, *why):
        size = -1
        while size != (size := os.path.getsize(self.path)):  # until nothing more comes
            time.sleep(0.3)
        self.p.terminate()
        said = self.p.communicate()[1].decode()
        self.dropped = int(re.search(r"(\d+) packets dropped by kernel", said)[1])


def close(*sockets):
    for s in sockets:
        s.close()


def abort(s):
    """Closes it with an RST."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def pair(client, l, address):
    c = client.connect(address)
    return c, l.accept()[0]


def curl(client, server, address, n):
    """Files of several sizes from a web server, one or more to a connection."""
    site = os.path.join(tmp, "site")
    os.makedirs(site, exist_ok=True)
    for i, size in enumerate((0, 100, 5000, 300000)):
        with open(os.path.join(site, f"f{i}"), "wb") as f:
            f.write(os.urandom(size))
    family = "::" if ":" in address else "0.0.0.0"
    web = server.popen(sys.executable, "-m", "http.server", "--bind", family, "--directory", site, "8000",
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    host = f"[{address}]" if ":" in address else address
    try:
        live.wait_until(lambda: ":8000" in server.run("ss", "-ltn"), "the web server")
        for i in range(n):
            client.run("curl", "-s", "-o", os.devnull, f"http://{host}:8000/f{i % 4}")
    finally:
        web.terminate()
        web.wait()


def shell(client, server):
    """Keystrokes and their echo, as of ssh."""
    with server.listen((V4, 22)) as l:
        c, s = pair(client, l, (V4, 22))
        for s_ in (c, s):
            s_.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(60):
            c.send(b"k" * 36)
            s.recv(100)
            s.send(b"e" * (36 if i % 10 else 1200))
            c.recv(2000)
        close(c, s)


def resets(client, server):
    with server.listen((V4, 82)) as l:
        for who in range(10):
            c, s = pair(client, l, (V4, 82))
            c.send(b"x" * 100)
            s.recv(100)
            abort((c, s)[who % 2])
            close(c, s)


def refused(client, address, port, n):
    for _ in range(n):
        with client():
            s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        assert s.connect_ex((address, port)), "it was not refused"
        s.close()


def unanswered(client, server, port):
    server.run("nft", "add", "table", "inet", "t")
    server.run("nft", "add", "chain", "inet", "t", "in", "{ type filter hook input priority 0 ; }")
    server.run("nft", "add", "rule", "inet", "t", "in", "tcp", "dport", str(port), "drop")
    with client():
        s = socket.socket()
    s.settimeout(2.5)
    assert s.connect_ex((V4, port)), "it was answered"
    s.close()
    server.run("nft", "delete", "table", "inet", "t")


def download(client, server, port, octets):
    with server.listen((V4, port)) as l:
        c, s = pair(client, l, (V4, port))
        data, got = bytes(65536), 0
        s.setblocking(False)
        c.setblocking(False)
        sent = 0
        while got < octets:
            try:
                if sent < octets:
                    sent += s.send(data[:octets - sent])
            except BlockingIOError:
                pass
            try:
                got += len(c.recv(1 << 20))
            except BlockingIOError:
                time.sleep(0.001)
        close(c, s)


def lossy(client, server):
    """Every 30th frame of either direction is lost behind the capture."""
    for ns in (client, server):
        ns.run("nft", "add", "table", "inet", "t")
        ns.run("nft", "add", "chain", "inet", "t", "in", "{ type filter hook input priority 0 ; }")
        ns.run("nft", "add", "rule", "inet", "t", "in", "numgen", "inc", "mod", "30", "==", "7", "drop")
    for port in (90, 91):
        download(client, server, port, 2 << 20)
    for ns in (client, server):
        ns.run("nft", "delete", "table", "inet", "t")


def early_close(client, server):
    """The client closes while the server still sends: an RST for each segment that comes after."""
    with server.listen((V4, 96)) as l:
        for _ in range(5):
            c, s = pair(client, l, (V4, 96))
            s.send(bytes(1000000 // 4))
            c.recv(1000)
            c.close()
            for _ in range(3):
                try:
                    s.send(bytes(3000))
                except OSError:
                    break
            s.close()


def left_open(client, server):
    """Open at the end: untouched, half-closed, and with data under way."""
    l = server.listen((V4, 95))
    kept = [pair(client, l, (V4, 95)) for _ in range(3)]
    kept[1][0].shutdown(socket.SHUT_WR)
    kept[2][1].send(b"x" * 3000)
    return l, kept


def tagged(path):
    """The same capture with a VLAN tag in each frame."""
    to = path.replace(".pcap", "-vlan.pcap")
    with open(path, "rb") as f, open(to, "wb") as out:
        out.write(f.read(24))
        while head := f.read(16):
            s, us, caplen, length = struct.unpack("<IIII", head)
            frame = f.read(caplen)
            out.write(struct.pack("<IIII", s, us, caplen + 4, length + 4) + frame[:12] +
                      b"\x81\x00\x00\x05" + frame[12:])
    return to


def compare(path, what, *, least):
    streams = conv.frames(path)
    theirs, ours = conv.exact(streams), conv.ours_json(path)
    tap.ok(len(ours) >= least and not conv.difference(ours, theirs),
           f"{what}: {len(ours)} connections, {sum(map(len, streams.values()))} frames, as tshark has them",
           conv.difference(ours, theirs))
    tap.ok(sorted(conv.ours_table(path)) == sorted(ours) and
           sorted(conv.as_table(ours)) == sorted(conv.table(path)),
           f"{what}: so in both tables", conv.difference(conv.as_table(ours), conv.table(path)))


def compare_late(path, what):
    """The same, where segments come after the end."""
    streams = conv.frames(path)
    kept, late = conv.until_close(streams, path)
    diff = conv.difference(conv.ours_json(path), conv.exact(kept))
    said = page(path)[1]["missed"]["unassigned_segments"]
    tap.ok(kept and not diff and late == said,
           f"{what}: {len(kept)} connections as tshark has them until their end", late, said, diff)


def page(*args):
    p = conv.report(*args)
    j = conv.report("--json", *args)
    return p.stdout.decode(), json.loads(j.stdout), (p.returncode, p.stderr)


def captures(client, server):
    taken = {}

    def take(name, what, play, least, *args):
        with Capture(client, name, *args) as c:
            kept = play()
        tap.equal(c.dropped, 0, f"{what}: captured whole")
        compare(c.path, what, least=least)
        taken[name] = c.path
        return kept

    take("web.pcap", "curl", lambda: curl(client, server, V4, 12), 12)
    take("web6.pcap", "curl over IPv6", lambda: curl(client, server, V6, 8), 8)
    take("shell.pcap", "keystrokes", lambda: shell(client, server), 1)
    take("resets.pcap", "resets", lambda: resets(client, server), 10)
    take("refused.pcap", "refused", lambda: (refused(client, V4, 81, 5), refused(client, V6, 81, 5)), 10)
    take("unanswered.pcap", "unanswered", lambda: unanswered(client, server, 97), 1)
    take("lossy.pcap", "retransmissions", lambda: lossy(client, server), 2)
    take("headers.pcap", "headers alone", lambda: download(client, server, 92, 4 << 20), 1, "-s", "96")
    longest = max(f[2] for s in conv.frames(taken["headers.pcap"]).values() for f in s)
    tap.ok(longest > 1514, "there are super-frames among them: each is one frame in a file", longest)
    with Capture(client, "early.pcap") as c:
        early_close(client, server)
    compare_late(c.path, "closed while the peer sends")
    kept = take("open.pcap", "open at the end", lambda: left_open(client, server), 3)
    compare(tagged(taken["web.pcap"]), "VLAN tags", least=12)
    ng = taken["web.pcap"] + "ng"
    subprocess.run(["tshark", "-r", taken["web.pcap"], "-w", ng], check=True, stderr=subprocess.DEVNULL)
    compare(ng, "pcapng", least=12)
    packed = taken["resets.pcap"] + ".gz"
    with open(taken["resets.pcap"], "rb") as f, gzip.open(packed, "wb") as g:
        g.write(f.read())
    compare(packed, "packed", least=10)
    del kept
    return taken


def pages(taken):
    text, j, said = page(taken["resets.pcap"], taken["refused.pcap"])
    by = j["connections"]["by_reason"]
    tap.ok(said == (0, b"") and (by["rst"]["connections"], by["rst"]["by_client"], by["rst"]["by_server"],
                                 by["refused"]["connections"]) == (10, 5, 5, 10),
           "two captures on one page: who reset, who refused", j["connections"], said)
    tap.ok(re.search(r"\n  10\.0\.1\.2:82 +10 +10 +100\.0 %  RESET 10 \(by server 5\)\n", text) and
           re.search(r"\n  \[fd00:1::2\]:81 +5 +5 +100\.0 %  REFUSED 5\n", text),
           "the worst servers, with reasons", text)
    text, j, _ = page(taken["unanswered.pcap"])
    tap.ok(j["connections"]["failed"] == 1 and re.search(r"no answer yet to \d SYNs", text) and
           re.search(r"\n +\d times? a SYN had no answer in time\n", text),
           "a SYN without an answer at the end of a capture is a failure", text)
    text, j, _ = page(taken["lossy.pcap"])
    worst = j["retrans_servers"][0]
    tap.ok(worst["name"].startswith("10.0.1.2:9") and worst["retrans_toclient"] > 0,
           "who sends again (super-frames: how often depends on the machine)", text)


def queue(client, server):
    d = live.Synfind(client, "veth-a")
    refused(client, V4, 81, 7)
    resets(client, server)
    live.exchange(client, server, V4)
    args = [f"--socket={d.path}"]
    live.wait_until(lambda: page(*args)[1]["connections"]["total"] == 18, "the last tcp_close")
    text, j, said = page(*args)
    by = {k: v["connections"] for k, v in j["connections"]["by_reason"].items()}
    tap.ok(by == {"refused": 7, "rst": 10, "fin": 1} and said == (0, b"") and "files" not in j,
           "without FILE: what the running daemon has", j, said)
    tap.ok(text.startswith("All events since synfind's start\n") and "REFUSED               7" in text and
           "HANDSHAKES             11 " in text, "its page", text)
    p = conv.report("--port=81", "--connections", *args)
    tap.equal(p.stdout.count(b" REFUSED "), 7, "--connections --port: rows of this port")
    p = conv.report("--port=9999", *args)
    tap.equal((p.returncode, b"CONNECTIONS             0" in p.stdout), (1, True), "nothing found is 1")
    unanswered(client, server, 97)
    text = page("--port=97", *args)[0]
    tap.ok(re.search(r"\n  10\.0\.1\.2:97 +0 +0 +0\.0 %  RETRY \d\n", text),
           "who does not answer right now", text)
    d.stop()
    p = conv.report(*args)
    tap.ok(p.returncode == 3 and p.stderr.startswith(b"synfinctl: ") and not p.stdout, "no daemon is 3", p)


live.need("ip", "ss", "nft", "tcpdump", "curl", "tshark")
if conv.missing():
    tap.skip("ctl_report", "missing: " + conv.missing())
    tap.done()
tmp = live.tmpdir()
with live.guarded("report"):
    a, b = live.veth_pair()
    pages(captures(a, b))
    queue(a, b)
tap.done()
