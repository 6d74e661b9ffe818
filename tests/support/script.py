#!/usr/bin/python3
"""Compiles a script of TCP segments, one a line, to a pcap file.

    conn C=10.0.0.1:40000 S=10.0.0.2:80      optional: these are the defaults
    +0.000  C > S  SYN mss=1460 wscale=7 sack ts
    +0.010  S > C  SYN-ACK mss=1400
    +0.010  C > S  ACK
    +0.005  C > S  DATA len=100
    +0.020  S > C  ACK
    +1.000  C > S  FIN
    +0.001  S > C  FIN
    +0.001  C > S  ACK

Time: +s after the line before, -s before it, @s after the start.  Ends: C and S, or C2 and S2
(any suffix) of `conn 2 C=... S=... [vlan=5[,6]]`; addresses are a.b.c.d:port or [v6]:port.

Flags: SYN ACK FIN RST PSH URG ECE CWR joined by '-'.  Alone, FIN means FIN-ACK and DATA means
PSH-ACK; FIN-ONLY and NONE are bare.

Numbers are relative to the ISN of the end that they count, as in tcpdump and packetdrill: a SYN
is 0, the first octet 1.  Left out, seq is the next octet of the sender (a SYN: 0; an RST-ACK that
answers a SYN: the number 0 itself) and ack all that the peer has sent.  Otherwise:
    seq=17 seq=-1     relative           seq=abs:5   the number itself
    seq=nxt seq=nxt-1 seq=nxt+1000       relative to what would be sent next (ack=: by the peer)
    isn=N             on a SYN: a new incarnation, with this ISN (else 1000 for C, 5000000 for S)

More words: len=N octets of payload; win=N octets (64240); on a SYN mss=N wscale=N sack ts
tfo[=octets of the cookie] tfo-exp mptcp ecn.  ts on the SYNs of both ends puts timestamps on every
segment; tsval=N tsecr=N override them; nots leaves them out.
    lost    sent, but the capture missed it: the numbers go on, the pcap does not show it
    badsum  with a wrong TCP checksum
    stray   in the capture, but no part of the conversation: the numbers stay as they are
"""
import ipaddress
import re
import struct

BASE_NS = 1_767_225_600 * 10**9  # 2026-01-01

FLAG = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECE": 64, "CWR": 128}
FIN, SYN, RST, ACK = FLAG["FIN"], FLAG["SYN"], FLAG["RST"], FLAG["ACK"]


class ScriptError(Exception):
    pass


class End:
    """One end of a connection: its address, and the sequence numbers that it has used."""

    def __init__(self, text, isn, mac):
        host, _, port = text.rpartition(":")
        self.ip = ipaddress.ip_address(host.strip("[]"))
        self.port = int(port)
        self.mac = mac
        self.default_isn = isn
        self.begin(isn)
        self.started = False
        self.timestamps = False

    def begin(self, isn):
        self.isn = isn
        self.nxt = 1  # as if the SYN had been sent: a script may start mid-stream
        self.wscale = None
        self.tsval = 0


class Conn:
    def __init__(self, client="10.0.0.1:40000", server="10.0.0.2:80", vlan=()):
        self.ends = {"C": End(client, 1000, b"\x02\0\0\0\0\x0c"),
                     "S": End(server, 5_000_000, b"\x02\0\0\0\0\x05")}
        self.vlan = vlan


def compile_script(text):
    """Returns the frames: [(time in ns, octets)]."""
    conns, frames, now = {"": Conn()}, [], 0
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        try:
            if words[0] == "conn":
                _conn(conns, words[1:])
                continue
            now = _time(words[0], now)
            frame = _segment(conns, words[1:], now)
        except (ValueError, KeyError, IndexError, ScriptError) as e:
            raise ScriptError(f"line {number}: {line.strip()}: {e!r}") from e
        if frame is not None:
            frames.append((BASE_NS + now, frame))
    return frames


def write_pcap(frames, path):
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
        for t, frame in frames:
            f.write(struct.pack("<IIII", t // 10**9, t % 10**9, len(frame), len(frame)))
            f.write(frame)


def pcap_times(path):
    """The time of each frame of a pcap file, in ns."""
    with open(path, "rb") as f:
        data = f.read()
    magic = struct.unpack_from("<I", data)[0]
    unit = {0xA1B23C4D: 1, 0xA1B2C3D4: 1000}[magic]
    times, at = [], 24
    while at < len(data):
        s, frac, caplen, _ = struct.unpack_from("<IIII", data, at)
        times.append(s * 10**9 + frac * unit)
        at += 16 + caplen
    return times


def _conn(conns, words):
    name = words.pop(0) if "=" not in words[0] else ""
    opts = dict(w.split("=", 1) for w in words)
    vlan = tuple(int(v) for v in opts.pop("vlan", "").split(",") if v)
    conns[name] = Conn(opts.pop("C", "10.0.0.1:40000"), opts.pop("S", "10.0.0.2:80"), vlan)
    if opts:
        raise ScriptError(f"unknown {', '.join(opts)}")


def _time(word, now):
    s, _, fraction = word[1:].partition(".")
    ns = int(s) * 10**9 + int(fraction.ljust(9, "0")) if fraction else int(s) * 10**9
    return {"+": now + ns, "-": now - ns, "@": ns}[word[0]]


def _flags(word):
    alias = {"FIN": "FIN-ACK", "DATA": "PSH-ACK", "FIN-ONLY": "FIN"}
    if word == "NONE":
        return 0
    return sum(FLAG[f] for f in alias.get(word, word).split("-"))


def _relative(text, end):
    """A seq= or ack= word, as the number on the wire."""
    if text.startswith("abs:"):
        return int(text[4:]) & 0xFFFFFFFF
    m = re.fullmatch(r"nxt([+-]\d+)?", text)
    value = end.nxt + int(m[1] or 0) if m else int(text)
    return end.isn + value & 0xFFFFFFFF


def _segment(conns, words, now):
    m = re.fullmatch(r"([CS])(\w*)", words[0])
    if not m or words[1] != ">" or words[2] != "SC"["CS".index(m[1])] + m[2]:
        raise ScriptError("not 'C > S' or 'S > C'")
    conn = conns[m[2]]
    end, peer = conn.ends[m[1]], conn.ends["SC"["CS".index(m[1])]]
    flags = _flags(words[3])
    opts = dict(w.split("=", 1) if "=" in w else (w, "") for w in words[4:])
    stray = "stray" in opts
    if "isn" in opts:
        end.begin(int(opts["isn"]))
    if flags & SYN and not stray:
        end.started = True
        end.wscale = int(opts["wscale"]) if "wscale" in opts else None
        end.timestamps = "ts" in opts

    seq = _sequence(opts, flags, end)
    ack = 0
    if flags & ACK or "ack" in opts:
        ack = _relative(opts.get("ack", "nxt"), peer)
    length = int(opts.get("len", 1 if words[3] == "DATA" else 0))

    win = int(opts.get("win", 64240))
    if not flags & SYN and None not in (end.wscale, peer.wscale):
        win >>= end.wscale
    options = _options(opts, flags, end, peer, now)
    if "ecn" in opts:
        flags |= FLAG["ECE"] | (0 if flags & ACK else FLAG["CWR"])
    tcp = struct.pack(">HHIIBBHHH", end.port, peer.port, seq, ack,
                      (20 + len(options)) // 4 << 4, flags, min(win, 65535), 0, 0)
    tcp += options + bytes(i & 0xFF for i in range(length))
    if not stray and not flags & RST:
        past = (seq - end.isn & 0xFFFFFFFF) + length + bool(flags & SYN) + bool(flags & FIN)
        end.nxt = max(end.nxt, past) if past < 1 << 31 else end.nxt
    unknown = set(opts) - KNOWN
    if unknown:
        raise ScriptError(f"unknown {', '.join(sorted(unknown))}")
    return None if "lost" in opts else _ethernet(conn, end, peer, tcp, "badsum" in opts)


KNOWN = set("seq ack isn len win mss wscale sack ts tsval tsecr nots tfo tfo-exp mptcp ecn lost "
            "stray badsum".split())


def _sequence(opts, flags, end):
    if "seq" in opts:
        return _relative(opts["seq"], end)
    if flags & SYN:
        return end.isn
    if flags & RST and flags & ACK and not end.started:
        return 0
    return _relative("nxt", end)


def _options(opts, flags, end, peer, now):
    o = b""
    if "mss" in opts:
        o += struct.pack(">BBH", 2, 4, int(opts["mss"]))
    if "wscale" in opts:
        o += struct.pack(">BBB", 3, 3, int(opts["wscale"]))
    if "sack" in opts:
        o += b"\x04\x02"
    both = end.timestamps and (peer.timestamps or flags & SYN and not flags & ACK)
    if "tsval" in opts or both and not flags & RST and "nots" not in opts:
        end.tsval = int(opts.get("tsval", now // 10**6 + end.default_isn))
        ecr = int(opts.get("tsecr", peer.tsval if flags & ACK else 0))
        o += struct.pack(">BBII", 8, 10, end.tsval & 0xFFFFFFFF, ecr & 0xFFFFFFFF)
    if "tfo" in opts:
        cookie = int(opts["tfo"] or 8)
        o += struct.pack(">BB", 34, 2 + cookie) + b"\xc0" * cookie
    if "tfo-exp" in opts:
        o += struct.pack(">BBH", 254, 12, 0xF989) + b"\xc0" * 8
    if "mptcp" in opts:
        o += struct.pack(">BBBB", 30, 4, 1, 1)
    return o + b"\x01" * (-len(o) % 4)


def _sum16(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _ethernet(conn, end, peer, tcp, bad_sum):
    src, dst = end.ip.packed, peer.ip.packed
    pseudo = src + dst + struct.pack(">II", len(tcp), 6)
    tcp = tcp[:16] + struct.pack(">H", _sum16(pseudo + tcp) ^ bad_sum) + tcp[18:]
    if end.ip.version == 4:
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + src + dst
        ip = ip[:10] + struct.pack(">H", _sum16(ip)) + ip[12:]
        ethertype = 0x0800
    else:
        ip = struct.pack(">IHBB", 6 << 28, len(tcp), 6, 64) + src + dst
        ethertype = 0x86DD
    tags = b""
    for depth, vlan in enumerate(conn.vlan):
        outer = depth == 0 and len(conn.vlan) == 2
        tags += struct.pack(">HH", 0x88A8 if outer else 0x8100, vlan)
    return peer.mac + end.mac + tags + struct.pack(">H", ethertype) + ip + tcp


if __name__ == "__main__":
    import sys

    with open(sys.argv[1]) as script:
        write_pcap(compile_script(script.read()), sys.argv[2])
