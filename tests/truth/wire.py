"""What passed at one point of the path, and what it says of an endpoint's states.

A point is a recording: A's end, the middle, B's end.  reference() reads the states of one endpoint
off the segments at a point, by RFC 9293 alone: what the endpoint sent, and what it must have
received by then.  It is a second reading, independent of the daemon; at the endpoint's own end it
is also what its kernel must have gone through.
"""
import struct

FIN, SYN, RST, ACK = 1, 2, 4, 16
FAR = 1 << 21  # no planned transfer is as long: numbers farther away are not the conversation's


class Seg:
    __slots__ = ("t", "src", "flags", "seq", "ack", "len")

    def __init__(self, t, src, flags, seq, ack, length):
        self.t, self.src, self.flags, self.seq, self.ack, self.len = t, src, flags, seq, ack, length

    def __str__(self):
        letters = ((SYN, "S"), (FIN, "F"), (RST, "R"), (ACK, "."))
        names = "".join(n for bit, n in letters if self.flags & bit)
        return (f"{self.t / 1e9:.6f} {self.src[0]}:{self.src[1]} [{names}] "
                f"seq={self.seq} ack={self.ack} len={self.len}")


def diff(a, b):
    """a - b as serial numbers."""
    return ((a - b + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def read(path, side_of):
    """A pcap file of the relay -> {key: [Seg]}.  side_of: packed address -> "A" or "B".  The key
    is the sorted pair of (side, port)."""
    out = {}
    with open(path, "rb") as f:
        data = f.read()
    at, end = 24, len(data)
    while at + 16 <= end:
        s, ns, caplen, _ = struct.unpack_from("<IIII", data, at)
        at += 16
        if data[at + 12] == 0x08:
            ip_len = (data[at + 14] & 15) * 4
            total = data[at + 16] << 8 | data[at + 17]
            src, dst = data[at + 26:at + 30], data[at + 30:at + 34]
        else:
            ip_len = 40
            total = 40 + (data[at + 18] << 8 | data[at + 19])
            src, dst = data[at + 22:at + 38], data[at + 38:at + 54]
        sport, dport, seq, ack, off, flags = struct.unpack_from(">HHIIBB", data, at + 14 + ip_len)
        a, b = (side_of.get(src), sport), (side_of.get(dst), dport)
        seg = Seg(s * 10**9 + ns, a, flags, seq, ack, total - ip_len - (off >> 4) * 4)
        out.setdefault((a, b) if a <= b else (b, a), []).append(seg)
        at += caplen
    return out


class _Stream:
    """One direction: what was sent, and what of it has come without a hole."""

    def __init__(self):
        self.isn = self.base = self.next = self.top = self.fin = None
        self.acked = None  # the highest ACK of it that was seen
        self.early = []

    def begin(self, isn):
        first = isn + 1 & 0xFFFFFFFF
        if self.isn is None and self.next is not None and 0 <= diff(self.next, first) < FAR:
            self.early.append((self.base, self.next))  # what overtook the SYN-ACK
        else:
            self.top, self.early = first, []
        self.isn, self.next = isn, first

    def take(self, seg):
        """Returns False for numbers that cannot be the conversation's."""
        start = seg.seq + bool(seg.flags & SYN)
        end = start + seg.len + bool(seg.flags & FIN)
        if self.next is None:
            self.base = self.next = self.top = seg.seq
        if abs(diff(start, self.next)) > FAR:
            return False
        if seg.flags & FIN and self.fin is None:
            self.fin = end - 1 & 0xFFFFFFFF
        if diff(end, self.top) > 0:
            self.top = end & 0xFFFFFFFF
        self.early.append((start, end))
        moved = True
        while moved:
            moved = False
            for item in list(self.early):
                if diff(item[0], self.next) <= 0:
                    self.early.remove(item)
                    if diff(item[1], self.next) > 0:
                        self.next = item[1] & 0xFFFFFFFF
                        moved = True
        return True

    def was_sent(self, seg):
        """It was sent, but not taken: an ACK of it may come when it was sent again."""
        end = seg.seq + seg.len & 0xFFFFFFFF
        if abs(diff(end, self.top)) < FAR and diff(end, self.top) > 0:
            self.top = end

    def ack(self, n):
        if self.top is not None and diff(n, self.top) > 0:
            return False  # of what was never sent
        if self.acked is None or diff(n, self.acked) > 0:
            self.acked = n
        if self.next is not None and diff(n, self.next) > 0:
            self.next = n  # it came there, if not by here
        return True

    def holds(self, n):
        """Is it between what was acknowledged and what was sent?"""
        low = self.acked if self.acked is not None else self.next
        return low is not None and diff(n, low) >= 0 and diff(n, self.top) <= 0

    def fin_in_order(self):
        return self.fin is not None and diff(self.next, self.fin) > 0

    def fin_acked(self):
        return self.fin is not None and self.acked is not None and diff(self.acked, self.fin) > 0


class _Endpoint:
    def __init__(self):
        self.path = []
        self.mine, self.peers = _Stream(), _Stream()
        self.answered = False  # the peer has acknowledged its SYN
        self.heard_fin = self.waiting = self.crossed = False
        self.dropped = []
        self.unanswered = self.own = self.doubtful = False

    def at(self):
        return self.path[-1] if self.path else None

    def go(self, state):
        if self.at() != state:
            self.path.append(state)

    def over(self):
        return self.at() in ("closed", "time_wait")

    def hear_fin(self):
        """It has the peer's FIN."""
        if not self.heard_fin and not self.over():
            self.heard_fin = True
            into = {"fin_wait_1": "closing", "fin_wait_2": "time_wait"}
            self.go(into.get(self.at(), "close_wait"))

    def establish(self):
        if self.at() in ("syn_sent", "syn_received"):
            self.go("established")

    def settle(self):
        if self.waiting:
            self.waiting = False
            self.hear_fin()

    def sent(self, s):
        if not s.flags & RST:
            self.settle()
        self.waiting = False
        if s.flags & RST:
            if self.path and not self.own and not self.mine.holds(s.seq) \
                    and s.seq != self.mine.fin:
                return  # forged, or an answer to something old
            # It acknowledges what it had: perhaps a FIN that it answered no other way.
            if s.flags & ACK and self.peers.fin_in_order() and diff(s.ack, self.peers.fin) > 0 \
                    and self.at() in ("established", "fin_wait_1", "fin_wait_2"):
                self.hear_fin()
            if not self.over():
                self.go("closed")
            return
        if s.flags & SYN:
            other = self.mine.isn is not None and s.seq != self.mine.isn
            if self.path == ["closed"]:  # nobody was there yet, and refused
                self.path = []
            if other and (self.answered or not s.flags & ACK):
                return  # of another connection; but an unanswered SYN-ACK may be a new cookie
            if self.mine.isn is None or other:
                self.mine.begin(s.seq)
            self.mine.take(s)
            if not s.flags & ACK and not self.path:
                self.go("syn_sent")
                if self.peers.isn is not None:  # the peer's passed here before
                    self.go("syn_received")
            elif s.flags & ACK and self.at() in (None, "syn_sent"):
                self.go("syn_received")
            return
        if not self.mine.take(s):
            return
        if s.flags & ACK and self.peers.isn is not None and diff(s.ack, self.peers.isn) > 0:
            if not self.peers.ack(s.ack):
                return
            if not self.path and self.mine.isn is None:
                self.go("syn_received")  # its SYN-ACK did not pass, or comes behind this
            if self.at() == "syn_sent" or self.answered:
                self.establish()
            if self.peers.fin_in_order() and diff(s.ack, self.peers.fin) > 0:
                self.hear_fin()
        if s.flags & FIN:
            if self.at() in ("established", "syn_received"):
                self.go("fin_wait_1")
                self.crossed = self.peers.fin is not None
                if self.peers.fin_in_order():  # it had not arrived when this one left
                    self.hear_fin()
            elif self.at() == "close_wait":
                self.go("last_ack")

    def received(self, s):
        self.settle()
        if s.flags & RST:
            if self.over():
                return
            if self.at() == "syn_sent":
                exact = s.flags & ACK and self.mine.isn is not None and \
                    diff(s.ack, self.mine.isn) > 0 and diff(s.ack, self.mine.top) <= 0
            else:
                # Only the endpoint itself knows which number it expects.
                exact = s.seq == self.peers.next if self.own and not self.doubtful \
                    else self.peers.holds(s.seq)
                # Linux takes one that repeats the FIN's number too (tcp_reset_check).
                exact = exact or self.peers.fin_in_order() and s.seq == self.peers.fin
            if exact:
                if self.unanswered and self.peers.fin_in_order() and self.path:
                    self.hear_fin()
                self.go("closed")
            return
        if self.at() == "syn_sent" and self.peers.isn is None and not s.flags & SYN:
            self.dropped.append(s)  # RFC 9293 3.10.7.3, fifth step: be it data or ACK
            return
        if s.flags & SYN:
            if self.peers.isn is None or not self.path or self.at() == "syn_sent":
                if s.flags & ACK and (self.mine.isn is None or not self.mine.ack(s.ack)):
                    return
                if not (s.flags & ACK) and self.peers.isn is not None:
                    return
                if s.seq != self.peers.isn:
                    self.peers.begin(s.seq)
                    for d in self.dropped:
                        self.peers.was_sent(d)
            if s.seq != self.peers.isn:
                return
            self.peers.take(s)
            if not s.flags & ACK:
                if self.at() == "syn_sent" and not self.answered:
                    self.go("syn_received")
                return
        elif not self.peers.take(s):
            return
        end = s.seq + s.len + bool(s.flags & SYN) + bool(s.flags & FIN)
        if self.peers.acked is not None and diff(end, self.peers.acked) < 0:
            return  # old octets alone: answered and dropped, the ACK unread
        if s.flags & ACK and self.mine.isn is not None and diff(s.ack, self.mine.isn) > 0:
            if not self.mine.ack(s.ack):
                return
            self.answered = True
            if self.at() == "syn_received":
                self.establish()
            if self.mine.fin_acked():
                step = {"fin_wait_1": "fin_wait_2", "closing": "time_wait", "last_ack": "closed"}
                if self.at() in step:
                    self.go(step[self.at()])
        # Who has said FIN crosses the other's; in other states its own ACK will tell.  At its own
        # end its next segment may still say that it was aborted before it took the FIN.
        self.crossed = self.crossed or self.peers.fin is not None and self.at() == "fin_wait_1"
        if self.peers.fin_in_order() and self.crossed and self.at() in ("fin_wait_1", "fin_wait_2"):
            if self.own is True:
                self.waiting = True
            else:
                self.hear_fin()


def _told_first(segs, end):
    """The segments; but of two RSTs of `end` in the same moment, sent by a close() and in answer to a
    segment, the one that acknowledges something first: they pass in either order."""
    out = list(segs)
    for n in range(len(out) - 1):
        a, b = out[n], out[n + 1]
        if a.src == b.src == end and a.flags & b.flags & RST and not a.flags & ACK \
                and b.flags & ACK and b.t - a.t < 200_000:
            out[n:n + 2] = b, a
    return out


def reference(segs, end, own, unanswered=False, doubtful=False):
    """The states of `end` in order, by the segments of one connection at one point.  own: the
    point is the endpoint's own, so that what passed there did arrive.  unanswered: with what it
    went through before an RST came, though it had no time to acknowledge it.  doubtful: an RST
    counts anywhere between what it acknowledged and what was sent to it."""
    e = _Endpoint()
    e.unanswered, e.own, e.doubtful = unanswered, own, doubtful
    alone = all(s.src == end for s in segs)
    for s in _told_first(segs, end):
        if s.src == end:
            e.sent(s)
        if s.src != end or alone and own == "self":
            e.received(s)
    e.settle()
    if own and e.peers.fin_in_order() and e.at() in ("established", "fin_wait_2"):
        e.hear_fin()  # its answer may be delayed, or have gone with it
    return e.path
