"""The published rules of others, in our words, over the frames of one connection in order.

Zeek: update_history(), UpdateStateMachine() (TCPSessionAdapter.cc) and conn_state()
(base/protocols/conn/main.zeek).  Wireshark: the completeness part of dissect_tcp() (packet-tcp.c).
"""
from peers import ACK, FIN, RST, SYN

INACTIVE, SYN_SENT, PARTIAL, ESTABLISHED, CLOSED, RESET = range(6)


def completeness(frames):
    """Wireshark's bits.  Its older versions (4.0) count the first frame only if it is a SYN."""
    bits = 0
    for n, f in enumerate(frames):
        both = f.flags & (SYN | ACK)
        if n == 0 and both == SYN:
            bits |= 1 | (8 if f.len else 0)
        if both == SYN | ACK:
            bits |= 2
        if both == ACK:
            bits |= 8 if f.len else 4
        if f.flags & (FIN | ACK) == FIN | ACK:
            bits |= 16
        if f.flags & RST:
            bits |= 32
    return bits


class ZeekEnd:
    def __init__(self):
        self.state = INACTIVE
        self.syn = None  # number of the last SYN


class Zeek:
    """One connection whose originator is @client, however that is known.

    Left out, as in the daemon: repeats of a letter.  Letters T and G are not made here: Zeek
    calls reordered data T, and finds gaps in a reassembler.
    """

    def __init__(self, client):
        self.client = client
        self.ends = {True: ZeekEnd(), False: ZeekEnd()}
        self.history = ""
        self.data = {True: 0, False: 0}

    def _letter(self, orig, letter):
        letter = letter if orig else letter.lower()
        if letter not in self.history:
            self.history += letter

    def feed(self, f):
        orig = f.src == self.client
        me, peer = self.ends[orig], self.ends[not orig]
        if not self.history and not orig:
            self.history = "^"
        self.data[orig] += f.len
        self._history(orig, f)
        if not f.window and not f.flags & RST and peer.state != CLOSED and me.state != RESET:
            self._letter(orig, "W")
        self._move(orig, me, peer, f)

    def _history(self, orig, f):
        odd = f.flags & (SYN | FIN | RST)
        if odd & (odd - 1):
            self._letter(orig, "I" if odd & (FIN | RST) == FIN | RST else "Q")
        elif odd & SYN:
            if self.ends[orig].syn != f.seq:  # one mark for S and H: same number, same letter
                self._letter(orig, "H" if f.flags & ACK else "S")
            self.ends[orig].syn = f.seq
        elif odd:
            self._letter(orig, "F" if odd & FIN else "R")
        elif f.len:
            self._letter(orig, "D")
        elif f.flags & ACK:
            self._letter(orig, "A")

    @staticmethod
    def _move(orig, me, peer, f):
        syn, fin, rst = f.flags & SYN, f.flags & FIN, f.flags & RST
        if me.state == INACTIVE:
            if syn and orig:
                me.state = SYN_SENT
            elif syn:
                peer.state = ESTABLISHED if peer.state == SYN_SENT else peer.state
                me.state = ESTABLISHED
            if fin:
                me.state = CLOSED
            if rst:
                me.state = RESET
            if me.state != INACTIVE or not orig and not f.len and peer.state == SYN_SENT:
                return
            me.state = ESTABLISHED if f.flags & ACK and peer.state == ESTABLISHED else PARTIAL
        elif me.state in (SYN_SENT, ESTABLISHED, PARTIAL):
            me.state = RESET if rst else CLOSED if fin else me.state
        elif me.state == CLOSED and rst and peer.state != CLOSED:
            me.state = RESET

    def conn_state(self):
        o, r = self.ends[True].state, self.ends[False].state
        silent = (INACTIVE, PARTIAL)
        if r == RESET:
            if o == SYN_SENT or o == RESET and not any(self.data.values()):
                return "REJ"
            return "RSTRH" if o in silent else "RSTR"
        if o == RESET:
            if r not in silent:
                return "RSTO"
            before = self.history.lstrip("^").split("R")[0]
            return "RSTOS0" if before[:1] == "S" and not set("HAFGIQ") & set(before) else "OTH"
        if o == r == CLOSED:
            return "SF"
        if o == CLOSED:
            return "SH" if r in silent else "S2"
        if r == CLOSED:
            return "SHR" if o in silent else "S3"
        if o == SYN_SENT and r == INACTIVE:
            return "S0"
        return "S1" if o == r == ESTABLISHED else "OTH"


def zeek(client, frames):
    z = Zeek(client)
    for f in frames:
        z.feed(f)
    return z
