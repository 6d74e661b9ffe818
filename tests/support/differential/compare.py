"""Our connections against those of the peers; each difference gets the name of its class.

A class is a predicate that accounts for the whole of a difference, not for a part of it; what no
class accounts for is "unexplained", a fault of ours or of this file.  docs/differential.md says
for each why we are right.
"""
import collections

import events
import rules
from peers import ACK, FIN, RST, SYN, end, pair

RESET_FORGOTTEN_NS = 10 * 10**9  # --timeout-reset, the shortest
NAMES = {}  # second octet of the address -> case
ENDED = ("fin", "rst", "refused")  # reasons that a segment of the connection gives


class Conn:
    """One of our connections: its events, and the frames that it should have counted."""

    def __init__(self, opened):
        self.client = end(opened["src_ip"], opened["src_port"])
        self.server = end(opened["dest_ip"], opened["dest_port"])
        self.opened = opened["tcp"]
        self.start = events.time_ns(opened["timestamp"])
        self.established = self.closed = self.flow = self.told = None  # told: time of the close
        self.anomalies = set()  # times
        self.frames = []

    def side(self, f):
        return int(f.src != self.client)

    def distance(self, f):
        """How far the number of the client's octet that @f is about is from those before it."""
        if not self.frames:
            return -1  # its first one
        number = f.ack if self.side(f) else f.seq
        mine = [g.seq for g in self.frames if not self.side(g)]
        return min((abs((number - m + (1 << 31)) % (1 << 32) - (1 << 31)) for m in mine),
                   default=1 << 31)

    def name(self):
        case = NAMES.get(self.client[0][1], "")
        return f"{case} {_text(self.client)} > {_text(self.server)} from {self.start}".lstrip()


def _text(e):
    import ipaddress
    return f"{ipaddress.ip_address(e[0])}:{e[1]}"


def connections(stream):
    found = {}
    for e in stream:
        if e["event_type"] == "tcp_open":
            found[e["flow_id"]] = Conn(e)
        c = found.get(e.get("flow_id"))
        if e["event_type"] == "tcp_established":
            c.established = e["tcp"]
        elif e["event_type"] == "tcp_anomaly" and c:
            c.anomalies.add(events.time_ns(e["timestamp"]))
        elif e["event_type"] == "tcp_close":
            c.closed, c.flow = e["tcp"], e["flow"]
            c.told = events.time_ns(e["timestamp"])
    return sorted(found.values(), key=lambda c: c.start)


class Comparison:
    """All of one capture."""

    def __init__(self, stream, frames, traced):
        self.conns = connections(stream)
        self.frames = frames
        self.traced = traced
        self.equal = collections.Counter()  # what was compared -> times equal
        self.classes = collections.Counter()  # (what, class) -> times
        self.unexplained = []
        self.by_pair = collections.defaultdict(list)
        for f in frames:
            self.by_pair[pair(f.src, f.dst)].append(f)
        self.streams = collections.defaultdict(list)
        for f in frames:
            self.streams[f.stream].append(f)
        self.own = collections.Counter()  # 4-tuple -> connections that tshark does not have
        self._share_out()

    def differs(self, what, cause, where, detail=""):
        if cause:
            self.classes[what, cause] += 1
        else:
            self.unexplained.append(f"{what}: {where} {detail}")

    def same(self, what, ours, theirs, where, causes=()):
        """@causes: (class, value) pairs; the class whose value is ours explains the difference."""
        if ours == theirs:
            self.equal[what] += 1
            return
        cause = next((name for name, value in causes if name and value == ours), None)
        self.differs(what, cause, where, f"ours {ours}, theirs {theirs}, causes {causes}")

    def _share_out(self):
        """Gives each connection the frames from its first to the one that closed it."""
        by_pair = collections.defaultdict(list)
        for c in self.conns:
            by_pair[pair(c.client, c.server)].append(c)
        for key, frames in self.by_pair.items():
            place = {f.ns: i for i, f in enumerate(frames)}
            conns = sorted(by_pair.get(key, ()), key=lambda c: place.get(c.start, -1))
            spans = []
            for n, c in enumerate(conns):
                last = len(frames)
                if c.closed["reason"] in ENDED and c.told in place:
                    last = place[c.told] + 1
                elif c.closed["reason"] == "reuse" and c.told in place:
                    last = place[c.told]
                elif n + 1 < len(conns):
                    last = place[conns[n + 1].start]
                spans.append((c, place[c.start], last))
            for i, f in enumerate(frames):
                owners = [c for c, first, last in spans if first <= i < last]
                if owners:
                    min(owners, key=lambda c: c.distance(f)).frames.append(f)

    # ---- which connections there are -------------------------------------------------------

    def _streams(self):
        """Each stream of tshark's begins a connection of ours, and the other way round."""
        starts = {(pair(c.client, c.server), c.start): c for c in self.conns}
        firsts = set()
        for stream, frames in self.streams.items():
            first = frames[0]
            key = (pair(first.src, first.dst), first.ns)
            firsts.add(key)
            if key in starts:
                self.equal["connections"] += 1
                continue
            self.own[key[0]] -= 1
            self.differs("connections", self._why_no_connection(first), f"stream {stream}",
                         f"frame {first.number} begins nothing of ours")
        for key, c in starts.items():
            if key not in firsts:
                self.own[key[0]] += 1
                self.differs("connections", self._why_own(c), c.name(), "begins no stream")

    def _why_no_connection(self, first):
        if first.flags & RST:
            return "rst_to_nothing"
        odd = first.flags & (SYN | FIN)
        if odd == SYN | FIN or not first.flags & (SYN | ACK):
            return "no_such_segment"
        key = pair(first.src, first.dst)
        after = [f for f in self.by_pair[key] if f.ns > first.ns]
        if any(f.flags & (SYN | ACK) == SYN | ACK and f.ack == first.seq + 1 & 0xFFFFFFFF
               for f in after):
            return None  # it was answered: a connection
        if any(first in c.frames for c in self.conns):
            return "syn_in_open"
        if any(pair(c.client, c.server) == key and c.told < first.ns for c in self.conns):
            return "syn_old"
        return None

    def _why_own(self, c):
        if c.opened["midstream"] and "prev_flow_id" in c.opened:
            return "rst_not_taken"
        earlier = [f for f in self.by_pair[pair(c.client, c.server)] if f.ns < c.start]
        if earlier and c.start - earlier[-1].ns > RESET_FORGOTTEN_NS:
            return "after_timeout"
        counted = [f for other in self.conns if other is not c for f in other.frames]
        if all(f.flags & RST and f not in counted for f in earlier):
            return "rst_to_nothing"
        return None

    # ---- what was counted --------------------------------------------------------------------

    def _counts(self, c):
        name = c.name()
        mine = self.streams[c.frames[0].stream] if c.frames else []
        for side, way in ((0, "toserver"), (1, "toclient")):
            sent = [f for f in c.frames if c.side(f) == side]
            theirs = [f for f in mine if c.side(f) == side]
            self._sum(c, "frames", c.flow[f"pkts_{way}"], [1 for _ in sent], [1 for _ in theirs])
            self._sum(c, "octets", c.flow[f"bytes_{way}"], [f.wire for f in sent],
                      [f.wire for f in theirs])
            probes = sum(f.len for f in Sent(c, side).probes)
            refused = self._refused_data(c) if side == 0 else 0
            total = sum(f.len for f in sent)
            self.same("payload", c.flow[f"payload_{way}"], sum(f.len for f in theirs), name,
                      ((self._part(c), total), ("probe", total - probes),
                       ("syn_data_refused", total - refused)))
            self._retrans(c, side, c.flow[f"retrans_{way}"], sent, theirs)

    def _sum(self, c, what, ours, counted, theirs):
        self.same(what, ours, sum(theirs), c.name(), ((self._part(c), sum(counted)),))

    def _part(self, c):
        """Why a connection has not all frames of its stream, or one of another."""
        stream = c.frames[0].stream
        foreign = {f.stream for f in c.frames} - {stream}
        if foreign:
            splits = [self.streams[s][0] for s in foreign]
            syns = all(f.flags & (SYN | ACK) == SYN and f.ns in c.anomalies for f in splits)
            return "syn_in_open" if syns else None
        if self.streams[stream][0].ns != c.start:
            return self._why_own(c)
        missing = set(self.streams[stream]) - set(c.frames)
        if missing and all(any(f in o.frames for o in self.conns) for f in missing):
            return "syn_in_open"
        if c.closed["reason"] in ENDED and all(f.ns > c.told for f in missing):
            return "after_close"
        return None

    @staticmethod
    def _refused_data(c):
        """Octets on SYNs that the first SYN-ACK did not acknowledge."""
        data = 0
        for f in c.frames:
            if f.flags & (SYN | ACK) == SYN and c.side(f) == 0:
                data += f.len
                isn = f.seq
            elif f.flags & (SYN | ACK) == SYN | ACK and data:
                return data if f.ack == isn + 1 else 0
        return 0

    def _retrans(self, c, side, ours, sent, theirs):
        numbers, guess = Sent(c, side), sum(f.retrans for f in sent)
        alive = sum(f.probe and f not in numbers.probes for f in sent)
        self.same("retransmissions", ours, sum(f.retrans for f in theirs), c.name(),
                  ((self._part(c), guess), ("not_keep_alive", guess + alive),
                   ("syn_data_refused", guess - numbers.refused),
                   ("crossed_syn", guess - _crossed(c, side)), ("by_number", numbers.repeats),
                   *(("below_acked", numbers.repeats + n + 1) for n in range(numbers.below))))

    # ---- what was understood -----------------------------------------------------------------

    def _options(self, c):
        syn = c.frames[0] if c.frames else None
        if not syn or syn.flags & (SYN | ACK) != SYN:
            return
        o = c.opened.get("options", {})
        self.same("options of the first", (o.get("mss"), o.get("wscale"), o.get("sack", False)),
                  (syn.mss, syn.wscale, syn.sack), c.name())
        if not c.established:
            return
        both = [next((f for f in c.frames if f.flags & SYN and c.side(f) == side), None)
                for side in (0, 1)]
        if None in both:
            return
        scales = [f.wscale for f in both]
        o = c.established["options"]
        self.same("options agreed",
                  (o.get("mss"), o.get("client_wscale"), o.get("server_wscale"), o["sack"]),
                  (min((f.mss for f in both if f.mss), default=None),
                   *(scales if None not in scales else (None, None)), all(f.sack for f in both)),
                  c.name(), self._offer_lost(c, o))

    @staticmethod
    def _offer_lost(c, o):
        """The client's ACK overtook the SYN-ACK: what was offered is not remembered so long."""
        kinds = [f.flags & (SYN | ACK) for f in c.frames]
        if kinds.index(ACK) < kinds.index(SYN | ACK):
            return (("ack_before_syn_ack", (None, None, None, o["sack"])),)
        if kinds.index(ACK) < kinds.index(SYN):
            return (("syn_late", (o.get("mss"), None, None, o["sack"])),)
        return ()

    def _rtt(self, c):
        theirs = next((f.rtt for f in self.streams[c.frames[0].stream] if f.rtt), None)
        hand = (c.established or {}).get("handshake", {})
        if theirs is None or "total_ns" not in hand:
            return
        syns = [f for f in c.frames if f.flags & (SYN | ACK) == SYN]
        done = next((f for f in c.frames if f.ns - c.start == hand["total_ns"]), None)
        acks = [f for f in c.frames if f.flags & (SYN | ACK) == ACK]
        causes = []
        if syns and done and (len(syns) > 1 or syns[0].ns != c.start):
            last = max(f.ns for f in syns if f.ns <= done.ns)  # theirs counts from there
            causes.append(("syn_repeated", theirs + last - c.start))
        if done and done.flags & SYN and _crossed(c, c.side(done)):
            causes.append(("crossed_syn", done.ns - c.start))
        if done and acks and acks[0] == done:  # theirs: an ACK of the connection before
            causes.append((self._part(c), done.ns - syns[-1].ns if syns else None))
        if done and acks and acks[0].ns < done.ns:
            causes.append(("handshake_ack", done.ns - c.start))
        self.same("initial RTT", hand["total_ns"], theirs, c.name(), causes)

    def _completeness(self, c):
        stream = self.streams[c.frames[0].stream]
        theirs, ours = stream[-1].completeness, c.closed["completeness"]
        if _syn_lost(c):
            self.classes["completeness", "syn_lost"] += 1
            return
        valid = [f for f in c.frames if f.ns not in c.anomalies]
        probes = Sent(c, 0).probes + Sent(c, 1).probes
        data = [f for f in valid if f not in probes]
        real = [f._replace(len=0) if f.flags & SYN and self._refused_data(c) else f for f in data]
        late = 1 if any(f.flags & (SYN | ACK) == SYN for f in c.frames[1:]) else 0
        self.same("completeness", ours, theirs, c.name(),
                  (("first_frame", rules.completeness(stream)),
                   (self._part(c), rules.completeness(c.frames)),
                   ("not_acceptable", rules.completeness(valid)),
                   ("probe", rules.completeness(data)),
                   ("syn_data_refused", rules.completeness(real)),
                   ("syn_late", rules.completeness(valid) | late)))

    def _zeek(self, c):
        """No peer that runs here: the rules of its source."""
        valid = [f for f in c.frames if f.ns not in c.anomalies or f.flags & RST or
                 f.flags & (SYN | FIN) == SYN | FIN]
        probes = Sent(c, 0).probes + Sent(c, 1).probes
        every = rules.zeek(c.client, c.frames)
        strict = rules.zeek(c.client, [f for f in c.frames if f.ns not in c.anomalies])
        real = rules.zeek(c.client, valid)
        quiet = rules.zeek(c.client, [f._replace(len=0) if f in probes else f for f in valid])
        ordered = rules.zeek(c.client,
                             sorted(c.frames, key=lambda f: f.flags & (SYN | ACK) != SYN))
        took = c.closed["reason"] == "rst" and every.conn_state() == "SF"
        aborted = {"client": "RSTO", "server": "RSTR"}.get(c.closed["closed_by"]) if took else None
        me = (("self_connection", c.closed["conn_state"]),) if c.client == c.server else ()
        if _syn_lost(c):
            self.classes["conn_state", "syn_lost"] += 1
            return
        self.same("conn_state", c.closed["conn_state"], every.conn_state(), c.name(),
                  (("not_acceptable", strict.conn_state()),
                   ("syn_late", ordered.conn_state()), ("rst_takes_data", aborted), *me))
        ours = "".join(x for x in c.closed["history"] if x not in "TtGg")
        self.same("history", ours, every.history[:12], c.name(),
                  (("not_acceptable", real.history[:12]), ("probe", quiet.history[:12])))

    # ---- the other peer ------------------------------------------------------------------------

    def _tcptrace(self):
        by_pair = collections.defaultdict(list)
        for c in self.conns:
            by_pair[pair(c.client, c.server)].append(c)
        for key in self.by_pair.keys() | self.traced.keys():
            ours, theirs = by_pair.get(key, []), self.traced.get(key, [])
            where = " and ".join(map(_text, key))
            self.same("tcptrace: connections", len(ours), len(theirs), where,
                      self._tcptrace_count(key))
            for e in key:
                got = [sum(c.flow[("pkts_toserver", "pkts_toclient")[e != c.client]] for c in ours),
                       sum(c.flow[("payload_toserver", "payload_toclient")[e != c.client]]
                           for c in ours)]
                want = [sum(getattr(t, k)[t.ends.index(e)] for t in theirs)
                        for k in ("packets", "data")]
                self._tcptrace_sum(key, e, got, want, ours)

    def _tcptrace_count(self, key):
        streams = {f.stream for f in self.by_pair[key]}
        return (("as_tshark", len(streams) + self.own[key]),)

    def _tcptrace_sum(self, key, e, got, want, ours):
        where = _text(e)
        sent = [f for f in self.by_pair[key] if f.src == e]
        inside = [f for c in ours for f in c.frames if f.src == e]
        self.same("tcptrace: packets", got[0], want[0], where, (("as_tshark", len(inside)),))
        total = sum(f.len for f in inside)
        probes = sum(f.len for c in ours for f in Sent(c, int(e != c.client)).probes)
        refused = sum(self._refused_data(c) for c in ours if c.client == e)
        self.same("tcptrace: octets of data", got[1], want[1], where,
                  (("as_tshark", total), ("probe", total - probes),
                   ("syn_data_refused", total - refused)))

    def run(self):
        self._streams()
        for c in self.conns:
            self._counts(c)
            self._options(c)
            self._rtt(c)
            self._completeness(c)
            self._zeek(c)
        self._tcptrace()


def _crossed(c, side):
    """SYN-ACKs of a side that had sent that SYN without ACK before."""
    syns = {f.seq for f in c.frames if c.side(f) == side and f.flags & (SYN | ACK) == SYN}
    return sum(c.side(f) == side and f.flags & (SYN | ACK) == SYN | ACK and f.seq in syns
               for f in c.frames)


def _syn_lost(c):
    """Goes a handshake by whose SYN was not captured, so that its segments seem forged?"""
    for f in c.frames:
        if f.flags & (SYN | ACK) == SYN | ACK and f.ns in c.anomalies:
            if any(g.ns in c.anomalies and g.seq == f.ack and g.ack == f.seq + 1 & 0xFFFFFFFF
                   for g in c.frames if g.src == f.dst):
                return True
    return False


class Sent:
    """What one side of a connection sent, by its numbers."""

    def __init__(self, c, side):
        self.repeats = 0  # segments that bring an octet again
        self.below = 0  # ... and those with new ones, but acknowledged already
        self.refused = 0  # repeats of no more than what a SYN carried, and the server refused
        self.probes = []  # frames
        self.seen, self.on_syn = set(), set()
        self.highest = self.acked = None
        self.base = next((f.seq for f in c.frames if c.side(f) == side), 0)
        for f in c.frames:
            if f.ns in c.anomalies or f.flags & RST:
                continue
            if c.side(f) == side:
                self._sent(f)
            elif f.flags & ACK:
                self._acked(f)

    def _relative(self, number):
        return (number - self.base + (1 << 31)) % (1 << 32) - (1 << 31)

    def _acked(self, f):
        if f.flags & SYN and self._relative(f.ack) == 1:
            self.on_syn, self.seen = self.seen - {0}, self.seen & {0}
            self.highest = 1
        self.acked = max(self._relative(f.ack), self.acked or self._relative(f.ack))

    def _sent(self, f):
        first = self._relative(f.seq)
        end = first + f.len + bool(f.flags & SYN) + bool(f.flags & FIN)
        # RFC 9293 3.8.4, 3.8.6.1: below SND.NXT by one, nothing being under way
        if (f.len <= 1 and not f.flags & (SYN | FIN) and first + 1 == self.highest == self.acked):
            self.probes.append(f)
            return
        if end == first:
            return
        octets = set(range(first, end))
        self.repeats += bool(octets & self.seen)
        self.below += bool(not octets & self.seen and first < (self.acked or first))
        self.refused += bool(octets & self.on_syn)
        self.seen |= octets
        self.highest = max(end, end if self.highest is None else self.highest)
