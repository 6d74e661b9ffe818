"""Joins what the kernels went through, what passed on the path and what the daemon told.

For each endpoint of each connection three accounts of its states, in order:

    K  the kernel's, from the trace
    S  the daemon's, at one point of the path
    R  reference(): read off the recorded segments by RFC 9293, at the endpoint's own end (R_own)
       or at the point where the daemon stood (R_point)

K and S must be the same.  Where they are not, one of these rules must hold, each proven from the
recordings for this very endpoint; anything else is a disagreement.

    time-wait       The trace has no TIME_WAIT: K goes from fin_wait_2 or closing to closed, where
                    R_own goes to time_wait.
    fin-wait-2      After close() the kernel keeps FIN-WAIT-2 outside the socket: K goes from
                    fin_wait_2 to closed, and at its own end no FIN or RST ended that state.
    silent-end      K ends by a time-out, or in syn_sent by a program's close, and no segment says
                    so: R_own goes to where K was before, and no farther; or what came later was
                    answered by an RST.
    server-untold   The kernel makes a server's socket when the handshake ends: there is none, and
                    at its own end this server sent SYN-ACKs, RSTs and empty ACKs only.
    rst-by-listener A server's RST ended the flow, but its kernel sent that before it made the
                    server's socket, and went on.
    fin-waiting     A program's close moves K at once, but the FIN had to wait behind data, or an RST
                    came while the program was closing and waited for it: at its own end the FIN
                    left later than the segment that overtook it, or never.
    listener-closed The listener went while the handshake ended: the kernel makes this server's
                    socket and drops it at once, never established; its RST says so.
    cookie-again    A segment of an old connection came to the listener, and its number was still a
                    SYN cookie: the kernel makes another socket of it, for no SYN.
    fin-refused     The program had closed, and octets came that nobody will read, or a FIN behind a
                    hole: the kernel aborts, and does not take the FIN.
    rst-unfit       The RST with which this end aborted carries a number that its peer cannot take
                    (RFC 9293 3.5.2: that of the segment it answers, an old one): for all others the
                    connection goes on.
    not-taken       Octets or a FIN came to this end, and its ACKs later on ask for the very same: the
                    kernel dropped them, for lack of space or for an old timestamp (RFC 7323 5.3).
    refused-before  The peer's SYN came just before this end sent its own, and was refused.
    fin-unanswered  An RST ended the connection before this end had acknowledged a FIN that had
                    come: K passes close_wait (closing), which nothing that it sent shows.
    rst-doubtful    The daemon took an RST whose number lay between what this end had acknowledged
                    and what was sent to it; the kernel, which knew that it expected more, did not.
                    The other end's socket was closed by then: its RST was no forgery.
    rst-says-all    One RST acknowledges a FIN that nothing acknowledged before: K passes
                    close_wait, closing or time_wait within it.
    picked-up       The flow begins in mid-stream, after the daemon had forgotten the connection: a
                    socket lives, in the state that the flow begins with or, since a FIN that went
                    by before cannot be known, one behind it.
    not-passed      No segment of this connection passed at the point.
    path            What passed at the point differs from what came to the endpoint (the path lost
                    or reordered segments in between, or they were under way): R_point is S, and
                    R_own is K as far as the rules above go.  Never at the endpoint's own end.
"""
import bisect
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import events
import wire

# What lies between two states that one segment joins, where the RFC leaves no other way.
BETWEEN = {
    ("syn_sent", "fin_wait_1"): ["established"], ("syn_sent", "close_wait"): ["established"],
    ("syn_sent", "last_ack"): ["established", "close_wait"],
    ("syn_received", "close_wait"): ["established"],
    ("syn_received", "last_ack"): ["established", "close_wait"],
    ("syn_received", "fin_wait_2"): ["fin_wait_1"],
    ("established", "last_ack"): ["close_wait"],
    ("established", "closing"): ["fin_wait_1"], ("established", "fin_wait_2"): ["fin_wait_1"],
    ("established", "time_wait"): ["fin_wait_1", "fin_wait_2"],
    ("fin_wait_1", "time_wait"): ["fin_wait_2"],
    ("syn_received", "time_wait"): ["fin_wait_1", "fin_wait_2"],
    ("syn_received", "closing"): ["fin_wait_1"],
}
RULES = ("time-wait", "fin-wait-2", "silent-end", "server-untold", "rst-by-listener",
         "listener-closed", "cookie-again", "fin-waiting", "fin-refused", "rst-unfit",
         "not-taken", "refused-before", "fin-unanswered",
         "rst-doubtful", "rst-says-all",
         "not-passed", "picked-up", "path")
SLACK_NS = 200_000  # trace and packet times agree within this


class Flow:
    """One connection as told at one point."""

    def __init__(self, opened, side_of_text):
        self.start = events.time_ns(opened["timestamp"])
        self.ends = {who: (side_of_text[opened[f"{key}_ip"]], opened[f"{key}_port"])
                     for who, key in (("client", "src"), ("server", "dest"))}
        self.events = [opened]
        self.sockets = {}  # who -> Socket
        self.picked_up = False

    def key(self):
        return tuple(sorted(self.ends.values()))

    def event_of(self, who, state):
        """The event that told that this end came to this state."""
        return next(e for e in self.events if e["tcp"].get(f"{who}_state") == state)

    def path(self, who):
        """The states of one end, with those that one segment passes through."""
        out, last = [], None
        for e in self.events:
            if e["event_type"] == "tcp_anomaly":
                continue
            state = e["tcp"][f"{who}_state"]
            if state == last:
                continue
            if last in (None, "listen"):
                between = []
                if last and state == "syn_received" and e["tcp"].get("segment") == "syn":
                    between = ["syn_sent"]  # its SYN crossed the other one
                elif last and state not in ("syn_received", "closed"):
                    between = ["syn_received"] + BETWEEN.get(("syn_received", state), [])
            elif state == "closed" and e["tcp"].get("reason") == "fin" and last == "close_wait":
                between = ["last_ack"]
            elif self.ends["client"] == self.ends["server"] and last == "syn_sent" \
                    and state == "established":
                between = ["syn_received"]  # it can only cross its own SYN
            else:
                between = BETWEEN.get((last, state), [])
            out += [*between, state]
            last = state
        return [s for s in out if s != "listen"]


class Observer:
    """The daemon's stream at one point: its flows by key, and the faults of the stream."""

    def __init__(self, name, point, lines, side_of_text, slack=0):
        self.name, self.point, self.slack = name, point, slack
        stream, self.faults = events.check(lines)
        self.flows, by_id = {}, {}
        for e in stream:
            kind = e["event_type"]
            if kind in ("capture_loss", "lost"):
                self.faults.append(f"{kind}: this run proves nothing")
            if not kind.startswith("tcp_") or e["src_ip"] not in side_of_text \
                    or e["dest_ip"] not in side_of_text:
                continue
            if kind == "tcp_open":
                flow = by_id[e["flow_id"]] = Flow(e, side_of_text)
                self.flows.setdefault(flow.key(), []).append(flow)
            elif e["flow_id"] in by_id:
                by_id[e["flow_id"]].events.append(e)
        for flows in self.flows.values():
            flows.sort(key=lambda f: f.start)

    def window(self, flow):
        """[from, to) of the segments that are this flow's."""
        flows = self.flows[flow.key()]
        at = flows.index(flow)
        last = flows[at + 1].start - self.slack if at + 1 < len(flows) else 1 << 63
        return flow.start - self.slack, last


class Verdict:
    """What became of the comparison of one endpoint at one point."""

    def __init__(self):
        self.compared = self.agreed = self.explained = 0
        self.rules = set()
        self.difference = None


def isn_of(socket, segs):
    """The number of the SYN or SYN-ACK with which this socket began, from its own end; None."""
    mine = [s for s in segs if s.src == socket.end and s.flags & wire.SYN]
    if socket.path[0] == "syn_sent":
        sent = [s for s in mine if not s.flags & wire.ACK and s.t >= socket.times[0] - SLACK_NS]
        # Only its own: the next socket's SYN comes after this one's end.
        ended = socket.times[-1] if socket.path[-1] == "closed" else 1 << 63
        return sent[0].seq if sent and sent[0].t <= ended + SLACK_NS else None
    until = socket.times[1] if len(socket.times) > 1 else socket.times[0]
    before = [s for s in mine if s.flags & wire.ACK and s.t <= until + SLACK_NS]
    after = [s for s in mine if s.flags & wire.ACK and s.t > until]
    return before[-1].seq if before else after[0].seq if after else None


def _nearest(number, isns):
    """Which of the connections that began with these numbers has this one, or None."""
    near = [(wire.diff(number, isn), n) for n, isn in enumerate(isns)
            if isn is not None and 0 <= wire.diff(number, isn) < wire.FAR]
    return min(near)[1] if near else None


def _peer_isn(socket, isn, segs):
    """The number of the SYN or SYN-ACK that came from the other end."""
    for x in segs:
        if x.flags & wire.SYN and isn is not None:
            if socket.path[0] != "syn_sent" and x.src == socket.end and x.seq == isn:
                return x.ack - 1
            if socket.path[0] == "syn_sent" and x.src != socket.end and x.flags & wire.ACK \
                    and 0 < wire.diff(x.ack, isn) < wire.FAR:
                return x.seq
    return None


def segs_of(socket, sockets, segs):
    """The segments at a socket's own end that are of its connection: where the 4-tuple was used
    again, by their numbers, for old ones may come after the new SYN."""
    lives = sorted((s for s in sockets if s.end == socket.end), key=lambda s: s.times[0])
    if len(lives) == 1:
        isn = isn_of(socket, segs) if socket.path[0] == "syn_sent" else None
        first = [n for n, x in enumerate(segs) if x.src == socket.end and x.seq == isn]
        return segs[first[0]:] if isn is not None else segs  # what came earlier met no socket
    isns = [isn_of(s, segs) for s in lives]
    mine = lives.index(socket)
    begun = [s.times[0] - SLACK_NS for s in lives]
    for n, s in enumerate(lives):
        if s.path[0] != "syn_sent":  # from the SYN on that its SYN-ACK answers
            acks = [x.ack for x in segs
                    if x.src == s.end and x.flags & wire.SYN and x.seq == isns[n]]
            syns = (x for x in segs if x.src != s.end and x.flags & wire.SYN)
            begun[n] = min([begun[n], *(x.t for x in syns if any(
                0 < wire.diff(a, x.seq) <= 1 + x.len for a in acks))])

    peers = [_peer_isn(s, isn, segs) for s, isn in zip(lives, isns)]

    def which(x):
        if x.src == socket.end:
            found = _nearest(x.seq, isns)
        else:
            found = _nearest(x.seq, peers) if not x.flags & wire.ACK else _nearest(x.ack - 1, isns)
        return max(bisect.bisect_right(begun, x.t) - 1, 0) if found is None else found

    return [x for x in segs if which(x) == mine]


class Case:
    """One 4-tuple: its sockets, its segments at each point."""

    def __init__(self, key, sockets, points):
        self.key = key
        self.sockets = sorted(sockets, key=lambda s: s.times[0])
        self.points = points  # "A", "M", "B" -> [Seg]
        self.own = [end[0] for end in key]  # the points that are ends

    def segs(self, point, start=0, stop=1 << 63):
        return [s for s in self.points[point] if start <= s.t < stop]

    def assign(self, observer):
        """Pairs each socket with a flow of the observer; returns the faults."""
        faults = []
        flows = observer.flows.get(self.key, [])
        for f in flows:
            f.sockets, f.picked_up = {}, False
        here = self.points[observer.point]
        for socket in self.sockets:
            isn = isn_of(socket, self.points[socket.end[0]])
            seen = [s for s in here if s.src == socket.end and s.flags & wire.SYN and s.seq == isn]
            if seen:
                starts = [f.start - observer.slack for f in flows]
                at = sorted({bisect.bisect_right(starts, s.t) - 1 for s in seen})
                if at[0] < 0:
                    faults.append(f"{socket.end}: its SYN passed, but no flow had begun")
                    continue
            elif socket.path[0] == "syn_sent" or not flows:
                continue  # see not_passed()
            else:  # a server whose SYN-ACKs did not pass here
                at = [max(bisect.bisect_right([f.start for f in flows], socket.times[0]) - 1, 0)]
            # A SYN that was refused and came again is in two flows; one that waits for the end of
            # the last connection is in that one's time too.
            mine = [flows[n] for n in at]
            free = [f for f in mine if self._role(f, socket) not in f.sockets]
            socket.by_cookie = not free and socket.path[0] == "syn_received" and any(
                s is not socket and s.end == socket.end and isn_of(s, self.points[s.end[0]]) == isn
                for s in self.sockets)
            if not free and not socket.by_cookie and socket.path != ["syn_sent", "closed"]:
                faults.append(f"{socket.end}: two sockets, one flow")
            for f in free:
                f.sockets[self._role(f, socket)] = socket
        for f in flows:
            if not f.sockets and f.events[0]["tcp"]["midstream"]:
                f.picked_up = self._alive(f)
        faults += [f"a flow that no kernel had: {f.ends} {f.events[-1]['tcp']}"
                   for f in flows if not f.sockets and not f.picked_up]
        return faults

    @staticmethod
    def _role(flow, socket):
        return "client" if flow.ends["client"] == socket.end else "server"

    def _alive(self, flow):
        """Is there a socket that was where this flow, begun in mid-stream, found it?"""
        for who, end in flow.ends.items():
            state = flow.events[0]["tcp"][f"{who}_state"]
            for s in self.sockets:
                n = bisect.bisect_right(s.times, flow.start) - 1
                if s.end == end and n >= 0 and s.path[n] != "closed" and state in s.path[:n + 1]:
                    return True
        return False

    def not_passed(self, observer):
        """Sockets that no flow of the observer has: {rule, or None: sockets}."""
        paired = {id(s) for f in observer.flows.get(self.key, []) for s in f.sockets.values()}
        rest = [s for s in self.sockets if id(s) not in paired]
        out = {"not-passed": [], "cookie-again": [], None: []}
        for s in rest:
            if getattr(s, "by_cookie", False):
                out["cookie-again"].append(s)
                continue
            own = {(x.seq, x.ack, x.len, x.flags)
                   for x in segs_of(s, self.sockets, self.points[s.end[0]]) if x.src == s.end}
            if not any(x.src == s.end and (x.seq, x.ack, x.len, x.flags) in own
                       and not x.flags & wire.RST for x in self.points[observer.point]):
                out["not-passed"].append(s)
            else:
                out[None].append(s)
        return out


def undo_trace(kernel, own, socket, segs):
    """K as the wire at its own end would have it, and the rules that were needed."""
    k, rules = list(kernel), set()
    fins = [s.t for s in segs if s.src == socket.end and s.flags & wire.FIN]
    for at, state in enumerate(k):
        if state not in ("fin_wait_1", "last_ack"):
            continue
        left = fins[0] if fins else 1 << 63
        differs = k[:at] == own[:at] and k[at:at + 1] != own[at:at + 1]
        if differs and left > socket.times[at] - SLACK_NS and (
                own[at:at + 1] in ([], ["close_wait"], ["closed"])
                or k[at - 1:at] == ["syn_received"] and own[at:at + 1] == ["established"]):
            return list(own), {"fin-waiting"}
    if k[-1:] == ["closed"] and k != own:
        if own[:len(k) - 1] == k[:-1] and own[len(k) - 1:] == ["time_wait"]:
            return own, {"time-wait"}
        if own == k[:-1]:
            rule = "fin-wait-2" if k[-2] == "fin_wait_2" else "silent-end"
            return own, {rule}
    return k, rules


def _closed_before_rst(case, end, own_segs, flow):
    """Was an RST that reached this end sent by a kernel whose socket was gone?"""
    rsts = [s.t for s in own_segs if s.src != end and s.flags & wire.RST]
    other = next((s for s in flow.sockets.values() if s.end != end), None)
    return bool(rsts and other and other.path[-1] == "closed"
                and other.times[-1] < rsts[0] + SLACK_NS)


def _by_listener(s, socket, segs):
    """Is this an RST that was sent before the kernel made this server's socket?  Trace and
    recording do not tell times so near: then it is one after which this end went on."""
    if s.src != socket.end or not s.flags & wire.RST or socket.path[0] == "syn_sent":
        return False
    return s.t < socket.times[0] - SLACK_NS or s.t < socket.times[0] + SLACK_NS and any(
        x.src == s.src and x.t > s.t and not x.flags & (wire.RST | wire.SYN) for x in segs)


def _refuses_fin(own_segs, end):
    """Did this end say FIN and then, with an RST that acknowledges nothing, answer octets that it
    had not acknowledged, or a FIN behind such, and never acknowledge the peer's FIN?"""
    fin = False
    acked = top = None
    for s in own_segs:
        if s.src == end:
            if s.flags & wire.RST:
                return fin and top is not None and not s.flags & wire.ACK \
                    and (acked is None or wire.diff(top, acked) > 0)
            fin = fin or bool(s.flags & wire.FIN)
            if s.flags & wire.ACK and (acked is None or wire.diff(s.ack, acked) > 0):
                acked = s.ack
        elif not s.flags & (wire.SYN | wire.RST) and (s.len or s.flags & wire.FIN):
            if top is None or wire.diff(s.seq + s.len, top) > 0:
                top = s.seq + s.len
    return False


def _not_taken(own_segs, end):
    """Does an ACK of this end's ask for octets, or a FIN, that had come before?"""
    came = []  # (time, first number, the one after the last)
    for s in own_segs:
        if s.src == end:
            if s.flags & wire.ACK and not s.flags & (wire.SYN | wire.RST) and any(
                    wire.diff(first, s.ack) <= 0 < wire.diff(after, s.ack)
                    and t < s.t - SLACK_NS for t, first, after in came):
                return True
        elif s.len or s.flags & wire.FIN:
            came.append((s.t, s.seq, s.seq + s.len + bool(s.flags & wire.FIN)))
    return False


def _rst_unfit(own_segs, end):
    """Did this end abort with a number below what its peer had acknowledged to it?"""
    acked = None
    for s in own_segs:
        if s.src == end and s.flags & wire.RST:
            return acked is not None and wire.diff(s.seq, acked) < 0
        if s.src != end and s.flags & wire.ACK and not s.flags & wire.RST \
                and (acked is None or wire.diff(s.ack, acked) > 0):
            acked = s.ack
    return False


def _refused_before(own_segs, end):
    """Did the peer's SYN come just before this end sent its own, and was it refused?"""
    syns = [s for s in own_segs if s.flags & wire.SYN and not s.flags & wire.ACK]
    rsts = [s for s in own_segs if s.src == end and s.flags & wire.RST and s.flags & wire.ACK]
    return len(syns) > 1 and bool(rsts) and syns[0].src != end and rsts[0].seq == 0 \
        and wire.diff(rsts[0].ack, syns[0].seq) == 1 + syns[0].len \
        and rsts[0].t - syns[0].t < SLACK_NS


def judge(case, observer, flow, who):
    """Compares one endpoint of one flow."""
    v = Verdict()
    end = flow.ends[who]
    socket = flow.sockets.get(who)
    is_self = case.key[0] == case.key[1]
    start, stop = observer.window(flow)
    told = flow.path(who)
    if told[-2:] == ["time_wait", "closed"]:
        told.pop()  # an RST ended it: RFC 1337; it is over in both
    point_segs = case.segs(observer.point, start, stop)
    own_segs = case.points[end[0]]
    if socket:
        all_segs = own_segs = segs_of(socket, case.sockets, own_segs)
        if any(_by_listener(s, socket, all_segs) for s in all_segs):
            own_segs = [s for s in all_segs if not _by_listener(s, socket, all_segs)]
    else:  # what none of its sockets sent
        for other in (s for s in case.sockets if s.end == end):
            theirs = {id(s) for s in segs_of(other, case.sockets, case.points[end[0]])}
            own_segs = [s for s in own_segs if id(s) not in theirs]
    point = wire.reference(point_segs, end, "self" if is_self else observer.point == end[0])
    kernel = list(socket.path) if socket else []
    # One event says that the handshake ended and that this end shut down: whether before or after
    # is known only where the RFC leaves one way, or by what else came to the end itself.
    at = next((n for n in range(1, len(told)) if told[n - 1:n + 1] == ["syn_received", "fin_wait_1"]),
              None)
    if at and flow.event_of(who, "fin_wait_1")["event_type"] == "tcp_established" \
            and "established" in kernel:
        told.insert(at, "established")
    own = wire.reference(own_segs, end, "self" if is_self else True)
    v.compared = len(kernel) or len(told)
    same = len(os.path.commonprefix([kernel, told]))

    def explained(rule):
        v.rules.add(rule)
        v.agreed, v.explained = same, v.compared - same
        return v

    if flow.picked_up:
        v.explained, v.rules = v.compared, {"picked-up"}
        return v
    if not socket:
        if all(s.flags & (wire.SYN | wire.RST) or not (s.len or s.flags & wire.FIN)
               for s in own_segs if s.src == end):
            v.explained = v.compared
            v.rules = {"server-untold"}
            return v
    else:
        k, v.rules = undo_trace(kernel, own, socket, own_segs)
        if k == told:
            v.agreed, v.explained = same, v.compared - same
            return v
        if told + ["closed"] == k and k[-2:-1] == ["time_wait"]:
            v.agreed, v.explained = v.compared - 1, 1
            return v
        late = wire.reference(own_segs, end, True, unanswered=True)
        if late != own and not is_self:
            k_late, more = undo_trace(kernel, late, socket, own_segs)
            if k_late == late and own == told:
                v.rules |= more
                return explained("fin-unanswered")
            if k_late == late and observer.point != end[0] and told == point:
                return explained("path")
        ours = [s.t for s in all_segs if s.src == end and s.flags & wire.RST]
        if k[-1:] == ["closed"] and told[:len(k) - 1] == k[:-1] and _refuses_fin(own_segs, end) \
                and set(told[len(k) - 1:]) <= {"closing", "time_wait", "closed"}:
            return explained("fin-refused")
        if k == own and k[-1:] == ["closed"] and told[:len(k) - 1] == k[:-1] \
                and _rst_unfit(own_segs, end):
            return explained("rst-unfit")
        if told == own and _not_taken(own_segs, end):
            return explained("not-taken")
        if k == own and [s for s in told if s != "syn_received"] == k \
                and _refused_before(case.points[end[0]], end):
            return explained("refused-before")
        before = wire.reference([s for s in own_segs if s.t < socket.times[-1]], end, True)
        if ours and ours[0] > socket.times[-1] and k == before + ["closed"]:
            if told == own:
                return explained("silent-end")
            if observer.point != end[0] and told == point:
                return explained("path")
        if k == ["syn_received", "closed"] and ours and told == own \
                and socket.times[1] - socket.times[0] < SLACK_NS \
                and ours[0] > socket.times[1] - SLACK_NS:
            return explained("listener-closed")
        if own_segs is not all_segs and told[-1:] == ["closed"] \
                and told == wire.reference(all_segs, end, True):
            return explained("rst-by-listener")
        soft = wire.reference(own_segs, end, True, doubtful=True)
        if k == own and soft == told and _closed_before_rst(case, end, own_segs, flow):
            return explained("rst-doubtful")
        rst = [s for s in point_segs if s.src == end and s.flags & wire.RST]
        without = [s for s in k if s not in ("close_wait", "closing", "time_wait")]
        if rst and point == k and told[-1:] == ["closed"] and told == without and k[-1] == "closed":
            return explained("rst-says-all")
        if observer.point != end[0] and told == point and k == own and own != point:
            return explained("path")
        # The same, where what passed belongs to this connection though the next had begun.
        mine = wire.reference(segs_of(socket, case.sockets, case.points[observer.point]), end, False)
        if observer.point != end[0] and told == mine and k == own and own != mine:
            return explained("path")
    v.agreed, v.rules = same, set()
    v.difference = [f"{observer.name}: {end[0]}:{end[1]} ({who})", f"  kernel {' '.join(kernel)}",
                    f"  told   {' '.join(told)}", f"  wire at its own end {' '.join(own)}",
                    f"  wire at the point   {' '.join(point)}"]
    return v
