"""What others say about a capture, connection by connection."""
import collections
import csv
import ipaddress
import subprocess

FIN, SYN, RST, ACK = 1, 2, 4, 16

FIELDS = ("frame.number frame.time_epoch tcp.stream ip.src ipv6.src tcp.srcport ip.dst ipv6.dst "
          "tcp.dstport tcp.flags tcp.seq_raw tcp.ack_raw tcp.len frame.len tcp.window_size_value "
          "tcp.completeness tcp.analysis.initial_rtt tcp.analysis.retransmission "
          "tcp.analysis.fast_retransmission tcp.analysis.spurious_retransmission "
          "tcp.analysis.keep_alive tcp.analysis.zero_window_probe "
          "tcp.options.mss_val tcp.options.wscale.shift tcp.options.sack_perm").split()

# src and dst are (address, port); wire is the frame's length, number its place from 1.
Frame = collections.namedtuple("Frame", "number ns stream src dst flags seq ack len wire window "
                               "completeness rtt retrans probe mss wscale sack")


def end(address, port):
    return (ipaddress.ip_address(address).packed, int(port))


def pair(a, b):
    """The name of a 4-tuple without direction."""
    return (min(a, b), max(a, b))


def _ns(text):
    s, _, frac = text.partition(".")
    return int(s) * 10**9 + int(frac.ljust(9, "0"))


def tshark(path):
    """The TCP frames as tshark sees them, in order.  Two passes: tcp.completeness is the last."""
    args = [a for f in FIELDS for a in ("-e", f)]
    out = subprocess.run(["tshark", "-2", "-n", "-r", path, "-Y", "tcp", "-T", "fields",
                          "-E", "separator=/t", "-E", "occurrence=f", *args],
                         check=True, capture_output=True, text=True, timeout=120).stdout
    frames = []
    for line in out.splitlines():
        v = dict(zip(FIELDS, line.split("\t")))

        def number(field, base=10):
            return int(v[field], base) if v[field] else None

        frames.append(Frame(
            number=number("frame.number"), ns=_ns(v["frame.time_epoch"]),
            stream=number("tcp.stream"),
            src=end(v["ip.src"] or v["ipv6.src"], v["tcp.srcport"]),
            dst=end(v["ip.dst"] or v["ipv6.dst"], v["tcp.dstport"]),
            flags=number("tcp.flags", 16), seq=number("tcp.seq_raw"), ack=number("tcp.ack_raw"),
            len=number("tcp.len") or 0, wire=number("frame.len"),
            window=number("tcp.window_size_value"), completeness=number("tcp.completeness"),
            rtt=_ns(v["tcp.analysis.initial_rtt"]) if v["tcp.analysis.initial_rtt"] else None,
            retrans=any(v[f"tcp.analysis.{k}"] for k in
                        ("retransmission", "fast_retransmission", "spurious_retransmission")),
            probe=any(v[f"tcp.analysis.{k}"] for k in ("keep_alive", "zero_window_probe")),
            mss=number("tcp.options.mss_val"), wscale=number("tcp.options.wscale.shift"),
            sack=bool(v["tcp.options.sack_perm"])))
    return frames


Traced = collections.namedtuple("Traced", "ends packets data")


def tcptrace(path):
    """Its connections, by 4-tuple, in the order of their beginning."""
    out = subprocess.run(["tcptrace", "-n", "-l", "--csv", path], check=True, capture_output=True,
                         text=True, timeout=120).stdout
    rows = csv.reader(line for line in out.splitlines() if line and line[0] != "#")
    titles = next(rows, [])
    found = collections.defaultdict(list)
    for row in rows:
        v = dict(zip(titles, (x.strip() for x in row)))
        ends = (end(v["host_a"], v["port_a"]), end(v["host_b"], v["port_b"]))
        both = [tuple(int(v[f"{k}_{d}"]) for d in ("a2b", "b2a"))
                for k in ("total_packets", "actual_data_bytes")]
        found[pair(*ends)].append(Traced(ends, *both))
    return found
