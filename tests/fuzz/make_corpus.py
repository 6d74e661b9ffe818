#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets into tests/fuzz/corpus/: one small file per thing that a
target knows, so that a fuzzer need not find it by chance.  Run it after changing it and commit what
it writes; the same script always writes the same files."""

import gzip
import json
import lzma
import pathlib
import re
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"
EXAMPLE = CORPUS.parents[2] / "conf/synfind.conf"

V4, V6 = 0x0800, 0x86DD
ETHERNET, RAW_IP, NULL, SLL, SLL2, PPP, PPPOE, IEEE80211, RADIOTAP = range(9)  # enum link_type
TUNNELS, ICMP = 2, 4  # enum frame_inside, as fuzz_frame.c reads it
SYN, ACK = 2, 16

SYN_OPTIONS = bytes.fromhex("020405b40402080a0000000100000000" "01030307")


def write(target, seeds):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, octets in seeds.items():
        (folder / name).write_bytes(octets)
    for stale in {p.name for p in folder.iterdir()} - seeds.keys():
        (folder / stale).unlink()


# --- frames ---


def tcp(flags=ACK, options=b"", payload=b"payload"):
    assert len(options) % 4 == 0
    offset = (5 + len(options) // 4) << 12
    return struct.pack(">HHIIHHHH", 40000, 443, 1, 2, offset | flags, 502, 0, 0) + options + payload


def ip4(payload, proto=6, fragment=0x4000, options=b"", total=None):
    if total is None:
        total = 20 + len(options) + len(payload)
    return (
        struct.pack(
            ">BBHHHBBH4s4s",
            0x45 + len(options) // 4, 0, total, 1, fragment, 64, proto, 0,
            bytes([192, 0, 2, 1]), bytes([198, 51, 100, 2]),
        )
        + options
        + payload
    )


def ip6(payload, next_header=6, length=None):
    if length is None:
        length = len(payload)
    address = bytes.fromhex("20010db8000000000000000000000001")
    return struct.pack(">IHBB", 0x60000000, length, next_header, 64) + 2 * address + payload


def extension(next_header, body, length):
    return bytes([next_header, length]) + body


def ethernet(payload, ethertype=V4, tags=()):
    """@tags: pairs of TPID and TCI, outermost first."""
    stack = b"".join(struct.pack(">HH", *tag) for tag in tags)
    return bytes(6) + b"\x02" + bytes(5) + stack + struct.pack(">H", ethertype) + payload


def knobs(frame, link=ETHERNET, vlan=0, beyond=0, gso=0):
    """What fuzz_frame.c reads first."""
    return struct.pack(">BBHH", link, vlan, beyond // 4, gso) + frame


def udp(port, payload):
    return ip4(struct.pack(">HHHH", 50000, port, 8 + len(payload), 0) + payload, proto=17)


def carriers():
    """Links that are not of Ethernet, tunnels, ICMP errors."""
    syn = tcp(SYN, SYN_OPTIONS, b"")
    packet, frame = ip4(syn), ethernet(ip4(syn))
    snap = bytes.fromhex("aaaa03000000") + struct.pack(">H", V4)
    wifi = b"\x88\x01" + bytes(24) + snap + packet

    def inside(outer):
        return knobs(ethernet(outer), vlan=TUNNELS | ICMP)

    vxlan = udp(4789, struct.pack(">II", 8 << 24, 42 << 8) + frame)
    return {
        "mpls": knobs(ethernet(struct.pack(">II", 0x64040, 0x65140) + packet, 0x8847)),
        "mpls-too-deep": knobs(ethernet(9 * b"\0\1\0\x40" + packet, 0x8847)),
        "pppoe": knobs(ethernet(struct.pack(">HHHH", 0x1100, 7, 50, 0x21) + packet, 0x8864)),
        "snap": knobs(ethernet(snap + packet, 60)),
        "ppp": knobs(b"\xff\x03\x00\x21" + packet, PPP),
        "ppp-short": knobs(b"\x57" + ip6(syn), PPP),
        "ppp-ether": knobs(struct.pack(">HHHH", 0x1100, 7, 50, 0x57) + ip6(syn), PPPOE),
        "80211": knobs(wifi, IEEE80211),
        "80211-4-addresses": knobs(b"\x08\x03" + bytes(28) + snap + packet, IEEE80211),
        "radiotap": knobs(
            struct.pack("<BBHIIQB", 0, 0, 21, 0x80000003, 0, 1, 0x10) + wifi, RADIOTAP
        ),
        "vxlan": inside(vxlan),
        "geneve": inside(
            udp(6081, struct.pack(">BBHI", 2, 0, 0x6558, 42 << 8) + bytes(8) + frame)
        ),
        "gre": inside(ip4(struct.pack(">HHIII", 0xB000, V4, 0, 7, 1) + packet, proto=47)),
        "nvgre": inside(ip4(struct.pack(">HHI", 0x2000, 0x6558, 7) + frame, proto=47)),
        "erspan-1": inside(ip4(struct.pack(">HH", 0, 0x88BE) + frame, proto=47)),
        "erspan-2": inside(
            ip4(struct.pack(">HHIHHI", 0x1000, 0x88BE, 1, 0x1005, 0x42A, 0) + frame, proto=47)
        ),
        "erspan-3": inside(
            ip4(
                struct.pack(">HHIHHIHHQ", 0x1000, 0x22EB, 1, 0x2005, 42, 0, 0, 1, 0) + frame,
                proto=47,
            )
        ),
        "ipip": inside(ip4(packet, proto=4)),
        "6in4": inside(ip4(ip6(syn), proto=41)),
        "4in6": knobs(ethernet(ip6(packet, 4), V6), vlan=TUNNELS),
        "6in6": knobs(ethernet(ip6(ip6(syn), 41), V6), vlan=TUNNELS),
        "gtp-u": inside(
            udp(2152, struct.pack(">BBHIHBBBHB", 0x36, 255, 60, 7, 1, 0, 0x85, 1, 9, 0) + packet)
        ),
        "two-tunnels": inside(ip4(vxlan, proto=4)),
        "three-tunnels": inside(ip4(ip4(vxlan, proto=4), proto=4)),
        "icmp": inside(ip4(struct.pack(">BBHI", 3, 1, 0, 0) + packet, proto=1)),
        "icmp-extended": inside(ip4(struct.pack(">BBHI", 3, 1, 0, 7 << 16) + packet, proto=1)),
        "icmp6": knobs(
            ethernet(ip6(struct.pack(">BBHI", 1, 4, 0, 0) + ip6(syn), 58), V6), vlan=ICMP
        ),
    }


def frames():
    syn = tcp(SYN, SYN_OPTIONS, b"")
    padding = bytes(6)
    return {
        "v4-syn": knobs(ethernet(ip4(syn))),
        "v4-ack-padded": knobs(ethernet(ip4(tcp(payload=b"")) + padding)),
        "v4-options": knobs(ethernet(ip4(tcp(), options=bytes([1] * 8)))),
        "v4-first-fragment": knobs(ethernet(ip4(tcp(), fragment=0x2000))),
        "v4-later-fragment": knobs(ethernet(ip4(tcp(), fragment=0x2010))),
        "v4-udp": knobs(ethernet(ip4(bytes(8), proto=17))),
        "v4-length-0": knobs(ethernet(ip4(tcp(), total=0)), beyond=100000),
        "v4-gso": knobs(ethernet(ip4(tcp(), total=20 + 20 + 4007)), beyond=4000, gso=1448),
        "v4-cut": knobs(ethernet(ip4(syn, total=20 + 40 + 1000))[:50], beyond=1020),
        "v6-syn": knobs(ethernet(ip6(syn), V6)),
        "v6-length-0": knobs(ethernet(ip6(tcp(), length=0), V6), beyond=100000),
        "v6-first-fragment": knobs(
            ethernet(ip6(extension(6, b"\x00\x01" + bytes(4), 0) + tcp(), 44), V6)
        ),
        "v6-later-fragment": knobs(
            ethernet(ip6(extension(6, b"\x00\x08" + bytes(4), 0) + tcp(), 44), V6)
        ),
        "v6-chain": knobs(
            ethernet(
                ip6(
                    extension(43, bytes(6), 0)  # hop-by-hop
                    + extension(60, bytes(14), 1)  # routing
                    + extension(51, bytes(6), 0)  # destination options
                    + extension(135, bytes(22), 4)  # AH
                    + extension(6, bytes(6), 0)  # mobility
                    + tcp(),
                    0,
                ),
                V6,
            )
        ),
        "v6-too-deep": knobs(
            ethernet(ip6(8 * extension(60, bytes(6), 0) + extension(6, bytes(6), 0) + tcp(), 60), V6)
        ),
        "v6-past-the-end": knobs(ethernet(ip6(extension(6, bytes(6), 255) + tcp(), 0), V6)),
        "vlan": knobs(ethernet(ip4(syn), tags=[(0x8100, 0x6005)])),
        "qinq-and-metadata": knobs(ethernet(ip4(syn), tags=[(0x88A8, 7), (0x8100, 8)]), vlan=1),
        "vlan-too-deep": knobs(ethernet(ip4(syn), tags=5 * [(0x9100, 7)])),
        "arp": knobs(ethernet(bytes(28), 0x0806)),
        "raw-v4": knobs(ip4(syn), RAW_IP),
        "raw-v6": knobs(ip6(syn), RAW_IP),
        "null": knobs(b"\x02\x00\x00\x00" + ip4(syn), NULL),
        "sll": knobs(bytes(14) + struct.pack(">H", V4) + ip4(syn), SLL),
        "sll2": knobs(struct.pack(">H", V6) + bytes(18) + ip6(syn), SLL2),
    }


# --- TCP options ---


def options():
    return {
        "syn": SYN_OPTIONS,
        "nops": b"\x01" * 40,
        "end": b"\x04\x02\x00\x02\x04\x05\xb4\x00",
        "tfo-request": b"\x22\x02",
        "tfo-cookie": b"\x22\x0aabcdefgh",
        "tfo-experiment": b"\xfe\x0c\xf9\x89abcdefgh",
        "mptcp": b"\x1e\x0c\x00\x81abcdefgh",
        "unknown": b"\x63\x06abcd\x04\x02",
        "wscale-255": b"\x03\x03\xff",
        "length-0": b"\x04\x02\x02\x00",
        "length-beyond": b"\x04\x02\x02\xff\x05",
    }


# --- capture files ---


def pcap(order, magic=0xA1B2C3D4, link=1, records=(), extra=b""):
    """@records: the frames' octets; @extra: what the modified format has behind record headers."""
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for i, data in enumerate(records):
        out += struct.pack(order + "IIII", 1700000000 + i, 123456, len(data), len(data) + i)
        out += extra + data
    return out


def block(order, kind, body):
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def option(order, code, value):
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order):
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order, link=1, name=b"eth0", snaplen=0, *more):
    body = struct.pack(order + "HHI", link, 0, snaplen) + option(order, 2, name)
    return block(order, 1, body + b"".join(more) + option(order, 0, b""))


def enhanced(order, data, iface=0, time=1700000000123456):
    head = struct.pack(order + "IIIII", iface, time >> 32, time & 0xFFFFFFFF, len(data), len(data))
    return block(order, 6, head + data)


def pcapng(order):
    frame = ethernet(ip4(tcp(SYN, SYN_OPTIONS, b"")))
    packet = ip6(tcp())
    drops = option(order, 5, struct.pack(order + "Q", 5)) + option(order, 7, struct.pack(order + "Q", 7))
    return (
        section(order)
        + interface(order)
        + interface(order, 101, b"tun0", 0, option(order, 9, b"\x09"))
        + interface(
            order, 1, b"eth1", 8,
            option(order, 9, b"\xa0"), option(order, 14, struct.pack(order + "q", -5)),
        )
        + enhanced(order, frame)
        + enhanced(order, packet, 1, 1700000000123456789)
        + enhanced(order, b"", 2, 1700000000 << 32)
        + block(order, 0x0BAD, b"unknown")
        + block(order, 3, struct.pack(order + "I", len(frame)) + frame)
        + block(order, 2, struct.pack(order + "HHIIII", 1, 0, 0, 5, 3, 3) + b"old")
        + block(order, 5, struct.pack(order + "III", 0, 0, 0) + drops)
    )


def captures():
    records = [ethernet(ip4(tcp(SYN, SYN_OPTIONS, b""))), b"", ethernet(ip6(tcp()), V6)]
    little, big = pcapng("<"), pcapng(">")
    return {
        "us-little": pcap("<", records=records),
        "us-big": pcap(">", records=records),
        "ns-little": pcap("<", 0xA1B23C4D, 276, records),
        "ns-big": pcap(">", 0xA1B23C4D, 113, records),
        "modified": pcap("<", 0xA1B2CD34, records=records, extra=bytes(8)),
        "fcs-bits": pcap("<", link=0x94000001, records=records),
        "unknown-link": pcap("<", link=147, records=records),
        "only-header": pcap("<"),
        "cut": pcap("<", records=records)[:-5],
        "claims-too-much": pcap("<") + struct.pack("<IIII", 1, 1, 0xFFFFFFFF, 0),
        "ng-little": little,
        "ng-big": big,
        "ng-sections": little + big + little,
        "ng-cut": big[:-7],
        "ng-unknown-link": section("<") + interface("<", 227, b"can0") + enhanced("<", b"frame"),
        "ng-no-interface": section("<") + enhanced("<", b"frame"),
        "ng-many-interfaces": section("<") + 256 * interface("<", 1, b""),
        "elf": b"\x7fELF\x02\x01\x01",
        "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
        "gzip-whole": gzip.compress(little + big, mtime=0),
        "gzip-members": 2 * gzip.compress(pcap("<", records=records), mtime=0),
        "xz-whole": lzma.compress(big),
        "empty": b"",
    }


# --- flags and configuration file ---


def documented():
    """The options of conf/synfind.conf: [(section, name, default)]."""
    section, found = None, []
    for line in EXAMPLE.read_text().splitlines():
        if m := re.fullmatch(r"\[(\w+)\]", line):
            section = m[1]
        elif m := re.fullmatch(r"#([a-z-]+) =\s*(.*)", line):
            found.append((section, m[1], m[2]))
    return found


def command(*flags, file=""):
    """As fuzz_options.c reads it: flags, an empty line, the file."""
    return ("".join(f + "\n" for f in flags) + "\n" + file).encode()


def configurations():
    example = re.sub(r"(?m)^#(?=[a-z])", "", EXAMPLE.read_text())
    plain = re.sub(r"(?m)^#.*\n|^\n", "", example)
    each = {
        name: command(f"--{name}={value}", file=f"[{section}]\n{name} = {value}\n")
        for section, name, value in documented()
    }
    return each | {
        "example": command(file=plain),
        "nothing": b"",
        "words": command("--community-id=all", "--log-level=debug", "--no-stdout", "--icmp=on"),
        "units": command(file="queue-size=1g\ntimeout-reset=1d\nring-size=4096K\n"
                              "block-timeout=1000000ns\ntimeout-closing=90min\nstats-interval=0\n"),
        "lists": command("-i", "a,b", "-iveth[0-9]*", file="interface = eth0 , lo\ninterface: x?\n"),
        "layout": command(file="\ufeff[events]\r\n  max-subscribers = 7 ; of 9\r\n# x\r\n\t; y\r\n"),
        "read": command("-r", "x.pcap", "--quiet", "-i", "lo"),
        "answers": command("--check-config", "--no-quiet"),
        "help": command("-h"),
        "version": command("--version"),
        "separate": command("--socket", "a b;c", "--socket-group", ""),
        "stray": command("x.pcap", "--", "--stdout"),
        "unknown": command("--ring-siz=1", "-x", "--no-promiscous", "--help=1", "--ring-size"),
        "no-file": command("--config=/nonexistent"),
        "directory": command("--config=/"),
        "hundred-errors": command("-" + 110 * "x", "--config=/"),
        "wrong": command(file="max-conections = 5\n[trakcing]\n[capture] x\n[capture\nring-size\n"
                              "= 5\nread = x\nmax-connections = 5\nmax-connections = 5000\n"
                              "[events]\nring-size = 3M\nlog-level = loud\nstdout = maybe\n"),
        "too-few": command("--max-subscribers=0"),
        "ids": command("--allow-user=root,7,0", file="[events]\nallow-group = root , 4294967294\n"
                       "pseudonymize-user = 9\npseudonymize-user = 8\npseudonymize-group =\n"),
        "no-ids": command("--allow-user=nobody-of-this-name", "--allow-group=4294967295,"),
        "too-many": command(file="event-ring-size = 33554432\n"),
        "ring": command("--ring-block-size=64M", file="ring-size = 1000001K\n"),
        "long-flag": command("--" + 2100 * "x"),
        "utf-8": command("--ring-size=" + 40 * "\u20ac", "--log-level=\u009b2J"),
        "long": command(file="#" + 198 * "x" + "\nsocket = /" + 107 * "y" + "\n"),
        "control": command(file="a\0b\nc\rd\n\x7f\n"),
    }


def calls():
    status = b'{"method":"io.synfind.Control.Status"}'
    page = b'{"method":"io.synfind.Control.Subscribers","parameters":{"limit":1,"after":0},"more":true}'
    return {
        "status": status + b"\0",
        "line": status + b"\n",
        "page": page + b"\0",
        "several": b"\0\n " + status + b"\n" + page + b"\0" + status + b"\n\0",
        "pretty": b'{\n  "method": "a.b\\"\\\\",\n  "oneway": true\n}\n',
        "half": status[:20],
        "string": b'{"method":"x\n',
        "no-json": b"hello\n}]\n",
        "deep": b"[" * 3000 + b"\0",
        "utf-8": b'{"method":"\xff\xfe"}\0{"method":"\xe2\x82\xac","parameters":null}\n',
        "wrong": b'[]\0{}\0{"method":1}\0{"method":"","parameters":[]}\0{"method":"","more":1}\0'
                 b'{"method":"","upgrade":true}\0{"method":"","more":true,"oneway":true}\0',
        "long": b'{"method":"' + b"x" * (8 << 10) + b'"}\0',  # too long: see fuzz_varlink.c
    }


# --- expressions ---


def expressions():
    line = ('{"timestamp":"2026-01-01T00:00:00.000000000Z","event_type":"tcp_close","seq":1,'
            '"in_iface":"a\\u001f\\"","vlan":[7,9],"src_ip":"::1","tcp":{"reason":"fin",'
            '"lossy":false},"flow":{"age_ns":5},"decoders":[{"seq":2}]}\n')
    texts = {
        "comparison": "dest_port == 443 && tcp.reason != 'fin'",
        "swapped": "442 < dest_port || -1 >= seq",
        "hex": "dest_port == 0x1bb && tcp.count < 0X10",
        "in": "dest_port in [80, 443, 8080] && tcp.segment in ['syn', \"fin\"] && seq in []",
        "vlan": "443 in vlan || dest_port in vlan",
        "has": "has(tunnel) && !has(tcp.options.mss)",
        "text": "in_iface.startsWith('e') && in_iface.endsWith('0') || flow_id.contains('ab')",
        "address": "src_ip == '10.0.0.1' || dest_ip != '::ffff:10.0.0.1' || src_ip.contains(':')",
        "cidr": "cidr('10.0.0.0/8').containsIP(src_ip) || cidr('::/0').containsIP(dest_ip)",
        "time": "timestamp > '2026-11-21T10' && flow.start <= flow.end",
        "members": "tcp.client_state == tcp.server_state && flow.pkts_toserver > seq",
        "truth": "tcp.lossy || !tcp.midstream && tcp.options.sack == true",
        "brackets": "!(true && (false || !(has(vlan))))",
        "escapes": "in_iface == 'a\\'\\n\\\\' || tcp.history == \"\\\"\"",
        "unknown": "dest_prot == 1",
        "word": "tcp.reason == 'fim'",
        "types": "dest_port == 'x' || tcp.lossy == 1",
        "flood": "event_type == 'syn_flood' && flood.rate > 1000 && flood.phase == 'begin'",
        "lines": "state == 'up' || cause == 'crash' || subscribers.refused_by.limit > 0",
        "deep": 40 * "(",
        "not": 32 * "!" + "true",
        "empty": "",
    }
    seeds = {name: text.encode() for name, text in texts.items()}
    return seeds | {
        "nul": b"true\0",
        "utf-8": b"in_iface == 'z\xc3\xbcrich\xc3'",
        "line": b"in_iface == 'a' || 9 in vlan || src_ip == '::1'\xff\xff\xff\xff" + line.encode(),
    }


def requests():
    """Those of docs/requests.md, and wrong ones."""
    text = (pathlib.Path(__file__).parents[2] / "docs/requests.md").read_text()
    right = [line.strip().encode() for line in text.splitlines() if line.startswith("    {")]
    wrong = [b"", b"[]", b'{"events":["tcp_closed"]}', b'{"where":"dest_prt == 1"}', b'{"id":"\\u0000"}',
             b'{"policy":"wait"}', b'{"from":{"run_id":"x","seq":-1}}', b'{"id":"a","id":"b"}',
             b'{"id":"' + 300 * b"x" + b'"}', b'{"events":[[[[[[', b'{"snapshot":1,"where":"\xff"}',
             b'{"where":"src_ip == \'\\u0001\\u001f\'","id":"\\u0001","policy":"disconnect"}']
    return {f"right-{i}": r for i, r in enumerate(right)} | {f"wrong-{i}": w for i, w in enumerate(wrong)}


def events():
    """Those of docs/events.md, each by itself and in one file."""
    text = (pathlib.Path(__file__).parents[2] / "docs/events.md").read_text()
    blocks = re.findall(r"(?m)^    \{(?:.*\n)(?:    .*\n)*", text)
    lines = [line.encode() for block in blocks
             for line in re.sub(r"\n *", "", block.strip()).replace("}{", "}\n{").split("\n")]
    return {f"event-{i}": line for i, line in enumerate(lines)} | {"all": b"\n".join(lines) + b"\n"}


# --- event lines ---


def segment(time, sender, flags, seq, ack, **more):
    tcp = {"client_state": "established", "server_state": "established", "segment": "ack",
           "from": sender, "flags": flags, "seq": seq, "payload_len": 0, "window": 500,
           "wire_segs": 1} | ({"ack": ack} if "A" in flags else {}) | more
    return json.dumps({
        "timestamp": f"2026-01-01T00:00:{time:012.9f}Z", "event_type": "tcp_segment", "seq": 2,
        "flow_id": "355ac85da70a6fa1", "in_iface": "eth0", "ip_v": 4, "src_ip": "10.0.0.1",
        "src_port": 40000, "dest_ip": "10.0.0.2", "dest_port": 80, "proto": "TCP", "tcp": tcp})


def stories():
    """Connections, segment by segment."""
    opening = [segment(0, "client", "S", 0, 0, client_state="syn_sent", server_state="listen"),
               segment(.01, "server", "SA", 0, 1, client_state="syn_sent",
                       server_state="syn_received"),
               segment(.02, "client", "A", 1, 1)]
    loss = [segment(.1 + i / 100, "server", "PA", 1 + 1448 * i, 1, payload_len=1448)
            for i in range(20) if i != 5]
    loss += [segment(.4, "client", "A", 1, 7241, options={"sack_blocks": 1}, window_scale=7),
             segment(.5, "server", "PA", 7241, 1, payload_len=1448),
             segment(.6, "client", "A", 1, 28961, window=0),
             segment(.7, "server", "A", 28960, 1), segment(.8, "client", "A", 1, 28961)]
    end = [segment(1, "client", "FA", 1, 28961, client_state="fin_wait_1"),
           segment(1.1, "server", "FA", 28961, 2, client_state="fin_wait_2",
                   server_state="last_ack"),
           segment(1.2, "client", "A", 2, 28962, client_state="time_wait", server_state="closed"),
           segment(1.3, "client", "R", 2, 0, client_state="time_wait", server_state="closed")]
    again = [segment(i, "client", "S", 0, 0, client_state="syn_sent", server_state="listen")
             for i in range(20)]
    return {"whole": opening + loss + end, "again": opening[:1] + again, "mid": loss + end,
            "wrapped": [segment(0, "server", "A", 2**32 - 1, 5), segment(1, "server", "A", 3, 7)]}


def lines():
    """Those of docs/events.md, stories of segments, and wrong ones, after an octet that says how."""
    examples = events()["all"].decode().splitlines()
    seeds = {"examples": examples, "examples-narrow": examples, **stories()}
    control = json.loads(examples[1]) | {"in_iface": "a\x1b[31m\x9b\u202e\u4e2d<&", "src_ip": "\x07"}
    seeds["control"] = [json.dumps(control, ensure_ascii=False), json.dumps(control),
                        '\t{"event_type":\r"tcp_open"\r}', "[]",
                        '{"event_type":"tcp_segment","tcp":{"seq":-1,"flags":"SSSSAAAA","from":7}}']
    found = {name: b"A" + "\n".join(rows).encode() for name, rows in seeds.items()}
    return found | {"examples-narrow": b"\0" + found["examples"][1:], "empty": b"", "unended": b"\xff{",
                    "ascii": b"\x80" + found["whole"][1:], "wide": b"\x3f" + found["whole"][1:]}


if __name__ == "__main__":
    write("frame", frames() | carriers())
    write("tcpopt", options())
    write("pcapfile", captures())
    write("options", configurations())
    write("varlink", calls())
    write("where", expressions())
    write("request", requests())
    write("report", events())
    write("lines", lines())
