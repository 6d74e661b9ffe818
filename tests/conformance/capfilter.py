#!/usr/bin/python3
"""--filter with --read: of a file, the connections that tcpdump -r picks with the same expression; VLAN
tags are not in its way; other link types; what cannot be."""
import json
import os
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../support"), os.path.join(HERE, "../live")]
import capfilter
import events
import tap

SYNFIND = os.environ.get("SYNFIND", os.path.join(HERE, "../../build/synfind"))
FIRST = capfilter.FIRST


def write(path, frames, link=1):
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHIIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, link))
        for n, frame in enumerate(frames):
            f.write(struct.pack("<IIII", 10**6, n, len(frame), len(frame)) + frame)


def read(path, expression, *args):
    """(ports that name frames, of which connections were reported; lines; stderr)"""
    p = subprocess.run([SYNFIND, "--read", path, f"--filter={expression}", "--syn-flood-half-open=0",
                        *args], capture_output=True, timeout=120)
    lines = p.stdout.splitlines()
    opened = [json.loads(line) for line in lines if b'"tcp_open"' in line]
    ports = {q for e in opened for q in (e["src_port"], e["dest_port"]) if q >= FIRST}
    return ports, lines, p.stderr.decode()


def tcpdump(path, expression, sent, tmp):
    out = os.path.join(tmp, "out.pcap")
    subprocess.run(["tcpdump", "-r", path, "-w", out, expression], check=True, capture_output=True)
    with open(out, "rb") as f:
        data = f.read()
    at, found, by_octets = 24, set(), {octets: port for port, octets in sent.octets.items()}
    while at < len(data):
        n = struct.unpack("<I", data[at + 8:at + 12])[0]
        found.add(by_octets[data[at + 16:at + 16 + n]])
        at += 16 + n
    return found


def main():
    sent = capfilter.mixed()
    with tempfile.TemporaryDirectory(prefix="synfind-") as tmp:
        path = os.path.join(tmp, "mixed.pcap")
        write(path, sent.octets.values())
        every = read(path, "")[0]
        bare = {p for p in every if not sent.tags[p]}
        for e in capfilter.SAME:
            got, lines, _ = read(path, e)
            want = tcpdump(path, e, sent, tmp)
            tap.ok(got & bare == want & bare and got & bare, f"'{e}': the {len(got & bare)} untagged "
                   "frames that tcpdump has", len(want & bare))
            tap.ok(not events.check(lines)[1], "a right stream", events.check(lines)[1])
        for e in capfilter.VLAN:
            got, want = read(path, e)[0], tcpdump(path, e, sent, tmp) & every
            tap.ok(got == want and want, f"'{e}': the {len(want)} frames that tcpdump has", len(got))
        few = {p for p in every if sent.tags[p] <= 2}
        is_443 = {p for p in every if "443, tags" in sent.what[p] and "IPv6 first" not in sent.what[p]}
        tap.equal(read(path, "port 443")[0] & few, is_443 & few, "'port 443' sees behind two tags")
        tap.equal(read(path, "not port 443")[0] & few, few - is_443, "so does 'not port 443'")
        lines = read(path, "port 443", "--events=stats")[1]
        passed = json.loads(lines[-1])["decoders"][0]["packets"]
        tap.ok(len(is_443 & few) <= passed < len(sent.octets), "stats count what passed", passed)

        ip = [capfilter.ip4(capfilter.tcp(FIRST, 443)), capfilter.ip4(capfilter.tcp(FIRST + 1, 80)),
              capfilter.ip6(capfilter.tcp(FIRST + 2, 443))]
        for link, name, head in ((101, "raw IP", b""), (0, "DLT_NULL", b"\2\0\0\0"),
                                 (108, "DLT_LOOP", b"\0\0\0\2"),
                                 (113, "cooked", b"\0\0\3\4\0\6" + bytes(8)),
                                 (276, "cooked, version 2", None)):
            frames = []
            for packet in ip:
                kind = b"\x08\0" if packet[0] >> 4 == 4 else b"\x86\xdd"
                if link == 276:
                    frames.append(kind + bytes(18) + packet)
                else:
                    frames.append(head + (kind if link == 113 else b"") + packet)
            other = os.path.join(tmp, "other.pcap")
            write(other, frames, link)
            tap.equal(read(other, "port 443")[0], {FIRST, FIRST + 2}, f"{name}: 'port 443'")
        write(other, ip, 101)
        _, lines, err = read(other, "ether src 1:2:3:4:5:6")
        tap.ok("other.pcap: " in err and "ethernet" in err.lower(), "what a link type has not: an error",
               err)
        _, lines, err = read(path, "port 44x")
        tap.ok(not lines and "--filter: unknown port '44x'" in err, "a wrong expression: an error", err)
    tap.done()


if __name__ == "__main__":
    main()
