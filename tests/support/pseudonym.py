#!/usr/bin/python3
"""The pseudonyms of lib/format/pseudonym.h once more, from its description and the paper on SipHash.

    tests/support/pseudonym.py KEY-IN-HEX ADDRESS-OR-FLOW-ID...     prints what each one becomes
"""
import ipaddress
import struct
import sys

MASK = (1 << 64) - 1
LEVELS = 6


def siphash_2_4(key, message):
    """SipHash-2-4 of octets, as its paper writes it."""
    k0, k1 = struct.unpack("<QQ", key)
    v0, v1 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D
    v2, v3 = k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573

    def rotate(x, n):
        return (x << n | x >> (64 - n)) & MASK

    def rounds(n):
        nonlocal v0, v1, v2, v3
        for _ in range(n):
            v0, v2 = (v0 + v1) & MASK, (v2 + v3) & MASK
            v1, v3 = rotate(v1, 13) ^ v0, rotate(v3, 16) ^ v2
            v0 = rotate(v0, 32)
            v2, v0 = (v2 + v1) & MASK, (v0 + v3) & MASK
            v1, v3 = rotate(v1, 17) ^ v2, rotate(v3, 21) ^ v0
            v2 = rotate(v2, 32)

    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for m, in struct.iter_unpack("<Q", padded):
        v3 ^= m
        rounds(2)
        v0 ^= m
    v2 ^= 0xFF
    rounds(4)
    return v0 ^ v1 ^ v2 ^ v3


def address(key, text):
    """The pseudonym of an address, in text."""
    a = ipaddress.ip_address(text)
    n, bits = a.max_prefixlen, f"{int(a):0{a.max_prefixlen}b}"
    out = ""
    for depth in range(0, n, LEVELS):
        prefix = int(bits[:depth].ljust(128, "0") or "0", 2)
        if a.version == 4:
            octets = struct.pack("<Q", prefix >> 64 | depth)
        else:
            octets = struct.pack("<QQQ", prefix >> 64, prefix & MASK, depth)
        tree = siphash_2_4(key[:16], octets)
        for level, bit in enumerate(bits[depth:depth + LEVELS]):
            path = bits[depth:depth + level]
            node = (1 << level) + int(path or "0", 2)
            out += str(int(bit) ^ (tree >> node & 1))
    return str(type(a)(int(out, 2)))


def flow_id(key, text):
    """That of a flow_id, in hexadecimal digits."""
    return f"{siphash_2_4(key[16:], struct.pack('<Q', int(text, 16))):016x}"


if __name__ == "__main__":
    secret = bytes.fromhex(sys.argv[1])
    for one in sys.argv[2:]:
        print(one, (address if "." in one or ":" in one else flow_id)(secret, one))
