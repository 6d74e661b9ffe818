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
(any suffix) of `conn 2 C=... S=... [vlan=5[,6]] [via=...]`; addresses are a.b.c.d:port or [v6]:port.

via=gre:7,vxlan:42 puts each packet into VXLAN and that into GRE (outermost first); the names are those
of Via, the number is the tunnel's.  `link ppp` makes another link type of all frames: see LINKS.

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
    ICMP    instead of flags: "destination unreachable", quoting what the receiver sent last;
            code=N, quote=N octets of it
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
    def __init__(self, client="10.0.0.1:40000", server="10.0.0.2:80", vlan=(), via=()):
        self.ends = {"C": End(client, 1000, b"\x02\0\0\0\0\x0c"),
                     "S": End(server, 5_000_000, b"\x02\0\0\0\0\x05")}
        self.vlan = vlan
        self.via = via


def compile_script(text):
    """Returns the frames: [(time in ns, octets)]."""
    conns, frames, now = {"": Conn()}, [], 0
    link = LINKS[link_name(text)][1]
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words or words[0] == "link":
            continue
        try:
            if words[0] == "conn":
                _conn(conns, words[1:])
                continue
            now = _time(words[0], now)
            frame = _segment(conns, words[1:], now, link)
        except (ValueError, KeyError, IndexError, ScriptError) as e:
            raise ScriptError(f"line {number}: {line.strip()}: {e!r}") from e
        if frame is not None:
            frames.append((BASE_NS + now, frame))
    return frames


def link_name(text):
    """What the line `link NAME` of a script says."""
    m = re.search(r"^link (\S+)", text, re.M)
    return m[1] if m else "ethernet"


def write_pcap(frames, path, link="ethernet"):
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, LINKS[link][0]))
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
    via = [v.split(":") for v in opts.pop("via", "").split(",") if v]
    conns[name] = Conn(opts.pop("C", "10.0.0.1:40000"), opts.pop("S", "10.0.0.2:80"), vlan, via)
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


def _segment(conns, words, now, link):
    m = re.fullmatch(r"([CS])(\w*)", words[0])
    if not m or words[1] != ">" or words[2] != "SC"["CS".index(m[1])] + m[2]:
        raise ScriptError("not 'C > S' or 'S > C'")
    conn = conns[m[2]]
    end, peer = conn.ends[m[1]], conn.ends["SC"["CS".index(m[1])]]
    if words[3] == "ICMP":
        opts = dict(w.split("=", 1) for w in words[4:])
        return link(conn, end, peer, *_carry(conn, end, *_icmp(end, peer, opts)))
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
    packet = _ip(end, peer, tcp, "badsum" in opts)
    end.last = packet[1]
    return None if "lost" in opts else link(conn, end, peer, *_carry(conn, end, *packet))


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


V4, V6 = 0x0800, 0x86DD


def _ip_packet(src, dst, proto, payload):
    """(EtherType, packet); @src and @dst as octets."""
    if len(src) == 4:
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, proto, 0) + src + dst
        return V4, ip[:10] + struct.pack(">H", _sum16(ip)) + ip[12:] + payload
    return V6, struct.pack(">IHBB", 6 << 28, len(payload), proto, 64) + src + dst + payload


def _ip(end, peer, tcp, bad_sum):
    src, dst = end.ip.packed, peer.ip.packed
    pseudo = src + dst + struct.pack(">II", len(tcp), 6)
    tcp = tcp[:16] + struct.pack(">H", _sum16(pseudo + tcp) ^ bad_sum) + tcp[18:]
    return _ip_packet(src, dst, 6, tcp)


def _icmp(end, peer, opts):
    """An error that the receiver gets, as if from @end: RFC 792, RFC 4443 3.1."""
    v4 = end.ip.version == 4
    quoted = peer.last[:int(opts.pop("quote", 500))]
    error = struct.pack(">BBHI", 3 if v4 else 1, int(opts.pop("code", 1)), 0, 0) + quoted
    pseudo = b"" if v4 else end.ip.packed + peer.ip.packed + struct.pack(">II", len(error), 58)
    error = error[:2] + struct.pack(">H", _sum16(pseudo + error)) + error[4:]
    if opts:
        raise ScriptError(f"unknown {', '.join(opts)}")
    return _ip_packet(end.ip.packed, peer.ip.packed, 1 if v4 else 58, error)


# ---- what carries an IP packet ----


class Via:
    """name:number of via=.  Each takes (number, does the client send?, EtherType, octets) and
    returns the last two anew."""

    OUTER4 = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
    OUTER6 = tuple(ipaddress.ip_address(f"2001:db8::{n}").packed for n in (1, 2))
    MACS = bytes([2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2])

    def ip(client, proto, payload, ends=OUTER4):
        return _ip_packet(*(ends if client else ends[::-1]), proto, payload)

    def udp(client, port, payload):
        return Via.ip(client, 17, struct.pack(">HHHH", 50000, port, 8 + len(payload), 0) + payload)

    def frame(kind, p):
        return Via.MACS + struct.pack(">H", kind) + p

    def snap(number, client, kind, p):
        p = b"\xaa\xaa\x03\0\0\0" + struct.pack(">H", kind) + p
        return len(p), p

    def mpls(number, client, kind, p):
        """Two labels."""
        return 0x8847, struct.pack(">II", number << 12 | 64, number + 1 << 12 | 0x100 | 64) + p

    def pppoe(number, client, kind, p):
        head = struct.pack(">HHHH", 0x1100, number, 2 + len(p), {V4: 0x21, V6: 0x57}[kind])
        return 0x8864, head + p

    def vxlan(number, client, kind, p):
        return Via.udp(client, 4789, struct.pack(">II", 8 << 24, number << 8) + Via.frame(kind, p))

    def geneve(number, client, kind, p):
        """With 8 octets of options."""
        head = struct.pack(">BBHI", 2, 0, 0x6558, number << 8) + bytes([1, 2, 3, 1, 0, 0, 0, 0])
        return Via.udp(client, 6081, head + Via.frame(kind, p))

    def gre(number, client, kind, p):
        """With checksum, key and sequence number; without a number none of them."""
        key = struct.pack(">HHIII", 0xB000, kind, 0, number, 1) if number else struct.pack(
            ">HH", 0, kind)
        return Via.ip(client, 47, key + p)

    def nvgre(number, client, kind, p):
        return Via.ip(client, 47, struct.pack(">HHI", 0x2000, 0x6558, number) + Via.frame(kind, p))

    def erspan1(number, client, kind, p):
        return Via.ip(client, 47, struct.pack(">HH", 0, 0x88BE) + Via.frame(kind, p))

    def erspan2(number, client, kind, p):
        head = struct.pack(">HHIHHI", 0x1000, 0x88BE, 1, 0x1005, number, 0)
        return Via.ip(client, 47, head + Via.frame(kind, p))

    def erspan3(number, client, kind, p):
        """With the platform's subheader."""
        head = struct.pack(">HHIHHIHHQ", 0x1000, 0x22EB, 1, 0x2005, number, 0, 0, 1, 0)
        return Via.ip(client, 47, head + Via.frame(kind, p))

    def in4(number, client, kind, p):
        return Via.ip(client, {V4: 4, V6: 41}[kind], p)

    def in6(number, client, kind, p):
        return Via.ip(client, {V4: 4, V6: 41}[kind], p, Via.OUTER6)

    def gtp(number, client, kind, p):
        """With a sequence number and an extension header; the TEID of the client's is the number,
        that of the server's the next."""
        rest = struct.pack(">HBBBHB", 1, 0, 0x85, 1, 0x0900, 0) + p
        head = struct.pack(">BBHI", 0x36, 255, len(rest), number + (not client))
        return Via.udp(client, 2152, head + rest)


def _carry(conn, end, kind, packet):
    for name, *number in reversed(conn.via):
        packet_of = getattr(Via, name)
        kind, packet = packet_of(int(number[0]) if number else 0, end is conn.ends["C"], kind, packet)
    return kind, packet


def _ethernet(conn, end, peer, kind, packet):
    tags = b""
    for depth, vlan in enumerate(conn.vlan):
        outer = depth == 0 and len(conn.vlan) == 2
        tags += struct.pack(">HH", 0x88A8 if outer else 0x8100, vlan)
    return peer.mac + end.mac + tags + struct.pack(">H", kind) + packet


def _ppp(conn, end, peer, kind, packet):
    return b"\xff\x03" + struct.pack(">H", {V4: 0x21, V6: 0x57}[kind]) + packet


def _80211(conn, end, peer, kind, packet):
    """QoS data to or from the access point."""
    head = struct.pack("<BBH", 0x88, 1 if end is conn.ends["C"] else 2, 0) + 3 * end.mac + bytes(4)
    return head + b"\xaa\xaa\x03\0\0\0" + struct.pack(">H", kind) + packet


def _radiotap(conn, end, peer, kind, packet):
    """TSFT and flags, of which one says that the header of 26 octets is padded to 28."""
    frame = _80211(conn, end, peer, kind, packet)
    head = struct.pack("<BBHIQB", 0, 0, 17, 3, 1, 0x20)
    return head + frame[:26] + bytes(2) + frame[26:]


LINKS = {  # number of pcap, how a frame is made
    "ethernet": (1, _ethernet),
    "raw": (101, lambda conn, end, peer, kind, packet: packet),
    "ppp": (9, _ppp),
    "pppserial": (50, _ppp),
    "pppoe": (51, lambda conn, end, peer, kind, packet: Via.pppoe(7, True, kind, packet)[1]),
    "80211": (105, _80211),
    "radiotap": (127, _radiotap),
}


if __name__ == "__main__":
    import sys

    with open(sys.argv[1]) as script:
        text = script.read()
    write_pcap(compile_script(text), sys.argv[2], link_name(text))
