#!/usr/bin/python3
"""Through the kernel's filter and the ring: TCP in tunnels with --decap, ICMP errors with --icmp, what
stays outside without them, and wrong checksums.  Frames of a script, sent over a cable."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import live
import script
import tap

VIAS = {"vxlan:42": {"type": "vxlan", "id": 42}, "geneve:7": {"type": "geneve", "id": 7},
        "gre:9": {"type": "gre", "id": 9}, "nvgre:8": {"type": "gre", "id": 8},
        "erspan2:5": {"type": "erspan", "id": 5}, "erspan3:6": {"type": "erspan", "id": 6},
        "in4": {"type": "ipip"}, "in6": {"type": "4in6"}, "gtp:3": {"type": "gtp_u"},
        "in6,vxlan:43": {"type": "vxlan", "id": 43}}
PLAIN = {"mpls:16": 20001, "pppoe:7": 20002, "snap": 20003}  # no option needed; ports of the client
CONNECTION = "+0 C{0} > S{0} SYN mss=1460\n+0 S{0} > C{0} SYN-ACK\n+0 C{0} > S{0} ACK\n" \
             "+0 C{0} > S{0} DATA len=900\n+0 S{0} > C{0} RST-ACK\n"


def frames():
    """Ten tunnels, three other carriers, an ICMP error, a wrong checksum."""
    text = ""
    for n, via in enumerate([*VIAS, *PLAIN]):
        text += f"conn t{n} C=10.9.0.1:{PLAIN.get(via, 10000)} S=10.9.0.2:80 via={via}\n"
        text += CONNECTION.format(f"t{n}")
    text += "conn u C=[fd09::1]:30000 S=[fd09::2]:80\n+0 Cu > Su SYN\n+0 Su > Cu ICMP code=4\n"
    text += "conn b C=10.9.0.1:30001 S=10.9.0.2:80\n+0 Cb > Sb SYN badsum\n+0 Sb > Cb RST-ACK\n"
    return [frame for _, frame in script.compile_script(text)]


def watch(**options):
    """(events, decoder's numbers) of the frames, seen with these options."""
    left, right = live.veth_pair()
    d = live.Synfind(left, "veth-a", stats_interval="1s", **options)
    sub = d.subscribe()
    right.send("veth-b", frames())
    stats = sub.stats_after(sub.wait_for("tcp_close", src_port=30001))
    d.ends_well(sub, str(options))
    return sub.events, stats["decoders"][0]


def check_plain(events, options):
    for via, port in PLAIN.items():
        close = live.find(events, "tcp_close", src_port=port, reason="rst")
        tap.ok(close and "tunnel" not in close and close["flow"]["payload_toserver"] == 900,
               f"{options}: {via}", close)


live.need("ip")
with live.guarded("without options"):
    events, counts = watch(icmp="no")
    check_plain(events, "neither option")
    tap.ok(not [e for e in events if "tunnel" in e], "no tunnel is told")
    tap.equal((counts["verdicts"]["not_tcp"], counts["verdicts"]["icmp"]), (0, 0),
              "neither tunnels nor ICMP get through the filter")
    tap.ok(not live.find(events, "tcp_close", src_port=30000, reason="unreachable"),
           "no attempt is unreachable")
    tap.equal(counts["bad_checksum"], 1, "the wrong checksum is counted")

with live.guarded("decap and icmp"):
    events, counts = watch(decap="yes", icmp="yes")
    check_plain(events, "both options")
    closes = [e for e in events if e["event_type"] == "tcp_close" and e["src_port"] == 10000]
    for via, tunnel in VIAS.items():
        mine = [e for e in closes if e.get("tunnel") == tunnel]
        tap.ok(len(mine) == 1 and mine[0]["tcp"]["reason"] == "rst" and
               mine[0]["flow"]["payload_toserver"] == 900, f"one connection in {via}", mine)
    tap.equal(len(closes), len(VIAS), "and no others")
    tap.ok(live.find(events, "tcp_close", src_port=30000, reason="unreachable"),
           "an ICMPv6 error ends the attempt")
    tap.equal(counts["verdicts"]["icmp"], 1, "and is counted")
    tap.equal(counts["bad_checksum"], 1, "the wrong checksum is counted")
tap.done()
