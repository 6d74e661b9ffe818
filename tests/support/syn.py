"""Frames of SYNs, made by hand: many connections for little."""
import struct


def frame(n):
    """The SYN of connection @n: each to a server of its own, so that it is no flood."""
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, bytes([10, 0, 0, 1]),
                     struct.pack("!I", 0x0a100000 + n))
    tcp = struct.pack("!HHIIBBHHH", 1024 + n % 50000, 80, n, 0, 5 << 4, 2, 64240, 0, 0)
    return b"\x02" * 12 + b"\x08\x00" + ip + tcp
