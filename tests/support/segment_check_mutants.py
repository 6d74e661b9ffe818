"""What mutants.py breaks in lib/flow/segment_check.c, and at the end in fastpath.c, in bpf/predict.h
and in fsm_step(): (a piece of it, which must be there exactly once, [(what is broken, the piece broken
that way)...])."""

PIECES = [
    # segment_shift, segment_window
    ("c->wscale0 == TCPOPT_WSCALE_NONE || c->wscale1 == TCPOPT_WSCALE_NONE", [
        ("a scale that one end alone offers", "false")]),
    ("side == SIDE_A ? c->wscale0 : c->wscale1", [
        ("the other end's scale", "side == SIDE_B ? c->wscale0 : c->wscale1")]),
    ("if (fsm_both_fins(c->state) || !known(c->sent, side))", [
        ("a window where something else is kept", "if (!known(c->sent, side))"),
        ("a window that was never offered", "if (fsm_both_fins(c->state))")]),
    ("return (uint32_t)conn_window(&c->hot, side) << segment_shift(c, side);", [
        ("no scale", "return (uint32_t)conn_window(&c->hot, side);"),
        ("two more", "return ((uint32_t)conn_window(&c->hot, side) << segment_shift(c, side)) + 2;"),
        ("two less", "return ((uint32_t)conn_window(&c->hot, side) << segment_shift(c, side)) - 2;"),
        ("the peer's window",
         "return (uint32_t)conn_window(&c->hot, !side) << segment_shift(c, side);")]),
    ("return window < WINDOW_FLOOR ? WINDOW_FLOOR : window;", [
        ("no floor", "return window;"), ("the floor for all", "return WINDOW_FLOOR;")]),
    # syn_unacked
    ("return s == FSM_SYN || s == FSM_CROSSED || s == FSM_CROSSED_B;", [
        ("A's SYN is acknowledged in SYN", "return s == FSM_CROSSED || s == FSM_CROSSED_B;"),
        ("A's SYN is acknowledged in CROSSED", "return s == FSM_SYN || s == FSM_CROSSED_B;"),
        ("A's SYN is acknowledged in CROSSED-B", "return s == FSM_SYN || s == FSM_CROSSED;")]),
    ("return s == FSM_ANSWERED || s == FSM_CROSSED || s == FSM_CROSSED_A;", [
        ("B's SYN is acknowledged in ANSWERED", "return s == FSM_CROSSED || s == FSM_CROSSED_A;"),
        ("B's SYN is acknowledged in CROSSED", "return s == FSM_ANSWERED || s == FSM_CROSSED_A;"),
        ("B's SYN is acknowledged in CROSSED-A", "return s == FSM_ANSWERED || s == FSM_CROSSED;")]),
    # check_syn
    ("if (from == SIDE_A && s->seq == c->isn)", [
        ("any SYN of A's is the same", "if (from == SIDE_A)"),
        ("no SYN of A's is the same", "if (false)"),
        ("a SYN of B's with A's ISN is the same", "if (s->seq == c->isn)")]),
    ("(crossed || c->state == FSM_ANSWERED) && s->seq + 1 == c->next[SIDE_B])", [
        ("any SYN of B's that crossed is the same", "(crossed || c->state == FSM_ANSWERED))"),
        ("no SYN of B's is the same", "false)"),
        ("B's overtaken SYN is another one", "crossed && s->seq + 1 == c->next[SIDE_B])"),
        ("B's repeated SYN is another one",
         "c->state == FSM_ANSWERED && s->seq + 1 == c->next[SIDE_B])")]),
    ("if (from == SIDE_B && c->state == FSM_SYN)\n\t\treturn proves", [
        ("B's SYN crosses in any state", "if (from == SIDE_B)\n\t\treturn proves"),
        ("B's SYN never crosses", "if (false)\n\t\treturn proves")]),
    ("return anomalous(ANOMALY_SYN_IN_OPEN);", [("a SYN with another ISN", "return repeat;")]),
    # check_syn_ack
    ("if (!fsm_handshaking(c->state)) {", [("a handshake without end", "if (false) {")]),
    ("if (from != SIDE_B ||\n", [("A's late SYN-ACK", "if (\n")]),
    ("(s->ack != c->isn + 1 && !(first && seq_within(c->isn + 1, s->ack, c->next[SIDE_A]))))", [
        ("a late SYN-ACK of anything", "false)"),
        ("no late SYN-ACK", "true)"),
        ("no late SYN-ACK of data", "s->ack != c->isn + 1)"),
        ("a late SYN-ACK of data, again and again",
         "!seq_within(c->isn + 1, s->ack, c->next[SIDE_A]))"),
        ("a late SYN-ACK of one too many",
         "(s->ack != c->isn + 1 && !(first && seq_within(c->isn + 1, s->ack, c->next[SIDE_A] + 1))))")]),
    ("(c->state == FSM_SYN || c->state == FSM_CLAIMED ||\n", [
        ("A's SYN-ACK in SYN", "(c->state == FSM_CLAIMED ||\n"),
        ("A's SYN-ACK in CLAIMED", "(c->state == FSM_SYN ||\n"),
        ("A's SYN-ACK never", "(true ||\n")]),
    ("(c->state == FSM_ANSWERED && s->seq != c->isn)))", [
        ("A's SYN-ACK with another number in ANSWERED", "false))"),
        ("A's SYN-ACK not in ANSWERED", "c->state == FSM_ANSWERED))")]),
    ("c->acked[SIDE_B] - !syn_unacked(c->state, SIDE_B);", [
        ("B's ISN, once it is acknowledged", "c->acked[SIDE_B];"),
        ("B's ISN, until it is acknowledged", "c->acked[SIDE_B] - 1;")]),
    ("if (!seq_within(isn + 1, s->ack, c->next[peer]))", [
        ("a SYN-ACK of the ISN", "if (!seq_within(isn, s->ack, c->next[peer]))"),
        ("a SYN-ACK of one too many", "if (!seq_within(isn + 1, s->ack, c->next[peer] + 1))"),
        ("a SYN-ACK of data", "if (s->ack != isn + 1)"),
        ("a SYN-ACK of anything", "if (false)")]),
    ("if (c->state == FSM_CLAIMED && s->seq + 1 != c->acked[SIDE_B])", [
        ("any SYN-ACK in CLAIMED", "if (false)"),
        ("the ISN one off in CLAIMED", "if (c->state == FSM_CLAIMED && s->seq != c->acked[SIDE_B])")]),
    ("v.repeat = c->state == FSM_ANSWERED && from == SIDE_B;", [
        ("no SYN-ACK is the same", "v.repeat = false;"),
        ("A's late SYN-ACK is a repetition", "v.repeat = c->state == FSM_ANSWERED;")]),
    ("v.refuses_data = c->state == FSM_SYN && s->ack != c->next[peer];", [
        ("no data is refused", "v.refuses_data = false;"),
        ("all data is refused", "v.refuses_data = c->state == FSM_SYN;")]),
    # check_rst
    ("bool answers_syn = s->flags & TCP_ACK && from == SIDE_B &&", [
        ("an RST without ACK to a SYN", "bool answers_syn = from == SIDE_B &&"),
        ("the client's RST to its SYN", "bool answers_syn = s->flags & TCP_ACK &&")]),
    ("\t\t\t   seq_within(c->isn + 1, s->ack, c->next[SIDE_A]);", [
        ("an RST that acknowledges the ISN", "seq_within(c->isn, s->ack, c->next[SIDE_A]);"),
        ("an RST that acknowledges too many",
         "seq_within(c->isn + 1, s->ack, c->next[SIDE_A] + 1);"),
        ("an RST that acknowledges data on the SYN", "(s->ack == c->isn + 1);")]),
    ("return answers_syn ? exact : anomalous(ANOMALY_RST_BAD_ACK);", [
        ("any RST to a SYN", "return exact;"),
        ("no RST to a SYN", "return anomalous(ANOMALY_RST_BAD_ACK);")]),
    ("if (c->state == FSM_SYN && from == SIDE_B)\n\t\treturn answers", [
        ("an RST to a SYN by its number", "if (false)\n\t\treturn answers"),
        ("the client's RST as one to its SYN", "if (c->state == FSM_SYN)\n\t\treturn answers")]),
    ("if (c->state == FSM_ANSWERED && answers_syn && conn_counts(c, SIDE_A).pkts > 1)", [
        ("an RST to a repeated SYN", "if (false)"),
        ("an RST to a SYN that is not repeated", "if (c->state == FSM_ANSWERED && answers_syn)"),
        ("an RST to a SYN in any state", "if (answers_syn && conn_counts(c, SIDE_A).pkts > 1)")]),
    ("if (!sent && !heard)\n\t\treturn suspect;", [("an RST of nobody", "")]),
    ("uint32_t lo = heard ? c->acked[from] + syn_unacked(c->state, from) : c->next[from];", [
        ("an RST below what was sent", "uint32_t lo = c->next[from];"),
        ("an RST of a side that nobody acknowledged", "uint32_t lo = c->acked[from];"),
        ("an RST with the SYN's own number",
         "uint32_t lo = heard ? c->acked[from] : c->next[from];")]),
    ("uint32_t hi = sent ? c->next[from] : c->acked[from];", [
        ("an RST above what was acknowledged", "uint32_t hi = c->acked[from];"),
        ("an RST of a side that sent nothing", "uint32_t hi = c->next[from];")]),
    ("if (seq_lt(hi, lo))\n\t\thi = lo;", [("an RST of a side that sent less than known", "")]),
    ("if (seq_within(lo, s->seq, hi))\n\t\treturn exact;", [
        ("any RST is exact", "return exact;"), ("no RST is exact", ""),
        ("an RST one below", "if (seq_within(lo - 1, s->seq, hi))\n\t\treturn exact;"),
        ("an RST one above", "if (seq_within(lo, s->seq, hi + 1))\n\t\treturn exact;")]),
    ("if (seq_within(lo, s->seq, lo + segment_window(c, !from)))\n\t\treturn suspect;", [
        ("an RST far above", "if (seq_within(lo, s->seq, lo + (1u << 30)))\n\t\treturn suspect;"),
        ("an RST in the sender's window",
         "if (seq_within(lo, s->seq, lo + segment_window(c, from)))\n\t\treturn suspect;"),
        ("no RST is in the window", ""),
        ("an RST in the window closes",
         "if (seq_within(lo, s->seq, lo + segment_window(c, !from)))\n\t\treturn exact;"),
        ("an RST anywhere is suspect", "return suspect;")]),
    (".anomaly = ANOMALY_RST_IN_WINDOW, .suspect = true", [
        ("nobody is suspect", ".anomaly = ANOMALY_RST_IN_WINDOW")]),
    # ack_fits
    ("\tif (known(c->sent, peer) && seq_lt(c->next[peer], s->ack)) {", [
        ("any ACK fits", "\treturn true;\n\tif (seq_lt(c->next[peer], s->ack)) {"),
        ("an ACK of what was not sent", "\tif (false) {"),
        ("an ACK of all is of too many",
         "\tif (known(c->sent, peer) && seq_le(c->next[peer], s->ack)) {"),
        ("an ACK of a side that was not seen", "\tif (seq_lt(c->next[peer], s->ack)) {")]),
    ("if (syn_unacked(c->state, peer) || fsm_fin_seen(c->state, peer) ||", [
        ("an ACK of data before the handshake's", "if (fsm_fin_seen(c->state, peer) ||"),
        ("an ACK of data behind a FIN", "if (syn_unacked(c->state, peer) ||"),
        ("no ACK of unseen data behind one's own FIN",
         "if (syn_unacked(c->state, peer) || fsm_fin_seen(c->state, peer) ||\n"
         "\t\t    fsm_fin_seen(c->state, from) ||")]),
    ("s->ack - c->next[peer] > at_least_floor(segment_window(c, from)))", [
        ("an ACK of any number of unseen octets", "false)"),
        ("an ACK up to the window", "s->ack - c->next[peer] >= at_least_floor(segment_window(c, from)))"),
        ("an ACK one beyond", "s->ack - c->next[peer] > at_least_floor(segment_window(c, from)) + 1)"),
        ("an ACK in the peer's window",
         "s->ack - c->next[peer] > at_least_floor(segment_window(c, peer)))")]),
    ("v->anomaly = ANOMALY_ACK_UNSEEN;\n\t\treturn true;", [
        ("no remark", "return true;"), ("no ACK of unseen octets", "return false;")]),
    ("if (!known(c->heard, peer))\n\t\treturn true;", [("the first ACK of a side", "")]),
    ("if (syn_unacked(c->state, peer))\n\t\treturn seq_lt(c->acked[peer], s->ack);", [
        ("the SYN is not acknowledged", ""),
        ("the ISN is acknowledged",
         "if (syn_unacked(c->state, peer))\n\t\treturn seq_le(c->acked[peer], s->ack);")]),
    ("return seq_le(c->acked[peer] - at_least_floor(segment_window(c, from)), s->ack);", [
        ("no old ACK", "return seq_le(c->acked[peer], s->ack);"),
        ("any old ACK", "return true;"),
        ("an old ACK at the edge",
         "return seq_lt(c->acked[peer] - at_least_floor(segment_window(c, from)), s->ack);"),
        ("an old ACK one beyond",
         "return seq_le(c->acked[peer] - at_least_floor(segment_window(c, from)) - 1, s->ack);"),
        ("an old ACK by the peer's window",
         "return seq_le(c->acked[peer] - at_least_floor(segment_window(c, peer)), s->ack);")]),
    # seq_fits
    ("uint32_t window = at_least_floor(segment_window(c, !from)), base;", [
        ("any number fits", "return true;\n\tuint32_t window = 0, base;"),
        ("the sender's window", "uint32_t window = at_least_floor(segment_window(c, from)), base;")]),
    ("return seq_within(c->isn + 1, s->seq, c->next[SIDE_A]);", [
        ("in SYN any number", ";"),
        ("in SYN the ISN", "return seq_within(c->isn, s->seq, c->next[SIDE_A]);"),
        ("in SYN one beyond", "return seq_within(c->isn + 1, s->seq, c->next[SIDE_A] + 1);"),
        ("in SYN not the data on it", "return s->seq == c->next[SIDE_A];")]),
    ("if (known(c->heard, from))\n\t\tbase = c->acked[from];\n\telse if", [
        ("from what was sent, not acknowledged", "if")]),
    ("else if (known(c->sent, from))\n\t\tbase = c->next[from];", [
        ("a side that nobody acknowledged", "")]),
    ("if (!known(c->sent, !from))\n\t\twindow = WINDOW_MOST;", [
        ("a window that was not seen", ""), ("a window wide open", "window = 1u << 30;")]),
    ("return seq_le(base - window, segment_end(s)) && seq_le(s->seq, base + window);", [
        ("an old segment at the edge",
         "return seq_lt(base - window, segment_end(s)) && seq_le(s->seq, base + window);"),
        ("an old segment one beyond",
         "return seq_le(base - window - 1, segment_end(s)) && seq_le(s->seq, base + window);"),
        ("an old segment by its beginning",
         "return seq_le(base - window, s->seq) && seq_le(s->seq, base + window);"),
        ("any old segment", "return seq_le(s->seq, base + window);"),
        ("an early segment at the edge",
         "return seq_le(base - window, segment_end(s)) && seq_lt(s->seq, base + window);"),
        ("an early segment one beyond",
         "return seq_le(base - window, segment_end(s)) && seq_le(s->seq, base + window + 1);"),
        ("any early segment", "return seq_le(base - window, segment_end(s));")]),
    # fin_fits
    ("return fin + 1 == c->next[from] ? ANOMALY_NONE : ANOMALY_FIN_MOVED;", [
        ("a second FIN anywhere", "return ANOMALY_NONE;"),
        ("a second FIN nowhere", "return ANOMALY_FIN_MOVED;")]),
    ("if (known(c->sent, from) && seq_lt(fin, c->next[from]) &&", [
        ("a FIN below what was sent", "if (false &&"),
        ("a FIN behind what was sent", "if (known(c->sent, from) && seq_le(fin, c->next[from]) &&")]),
    ("!(fin + 1 == c->next[from] && known(c->heard, from) && seq_le(c->acked[from], fin)))", [
        ("a FIN overtaken though it was acknowledged",
         "!(fin + 1 == c->next[from] && known(c->heard, from)))"),
        ("a FIN overtaken though nobody acknowledged anything",
         "!(fin + 1 == c->next[from] && seq_le(c->acked[from], fin)))"),
        ("a FIN is never overtaken", "true)"),
        ("a FIN overtaken from anywhere",
         "!(known(c->heard, from) && seq_le(c->acked[from], fin)))")]),
    ("if (fsm_fin_seen(c->state, from) && s->seq + 1 == c->next[from])\n\t\treturn exact;", [
        ("an RST with the FIN's number", ""),
        ("an RST one below", "if (s->seq + 1 == c->next[from])\n\t\treturn exact;"),
        ("an RST anywhere after the FIN",
         "if (fsm_fin_seen(c->state, from))\n\t\treturn exact;")]),
    ("if (known(c->heard, from) && known(c->sent, !from) &&\n", [
        ("a FIN without a window", "if (false &&\n"),
        ("a FIN in a window that was not seen", "if (known(c->heard, from) &&\n")]),
    ("!seq_within(c->acked[from], fin, c->acked[from] + segment_window(c, !from)))", [
        ("a FIN one beyond",
         "!seq_within(c->acked[from], fin, c->acked[from] + segment_window(c, !from) + 1))"),
        ("a FIN at the edge",
         "!seq_within(c->acked[from], fin, c->acked[from] + segment_window(c, !from) - 2))"),
        ("a FIN in the sender's window",
         "!seq_within(c->acked[from], fin, c->acked[from] + segment_window(c, from)))"),
        ("a FIN by what was sent",
         "!seq_within(c->acked[from], fin, c->next[from] + segment_window(c, !from)))"),
        ("a FIN below what was acknowledged",
         "seq_lt(c->acked[from] + segment_window(c, !from), fin))")]),
    # check_rest
    ("if (!(s->flags & TCP_ACK))\n\t\treturn anomalous(ANOMALY_BAD_FLAGS);", [
        ("a segment without ACK", "")]),
    ("if (!seq_fits(c, from, s))", [("no look at the number", "if (false)")]),
    ("if (!ack_fits(c, from, s, &v))", [("no look at the ACK", "if (!ack_fits(c, from, s, &v) && false)")]),
    ("if (fsm_fin_seen(c->state, peer) && s->ack == c->next[peer] && !old)", [
        ("the ACK of a FIN that is not there", "if (s->ack == c->next[peer])"),
        ("any ACK is one of the FIN", "if (fsm_fin_seen(c->state, peer))"),
        ("no ACK is one of the FIN", "if (false)"),
        ("the ACK of one's own FIN",
         "if (fsm_fin_seen(c->state, from) && s->ack == c->next[peer])")]),
    ("c->acked[from] == c->next[from] &&\n", [("a probe of what is not acknowledged", "true &&\n")]),
    ("s->seq + 1 == c->next[from] && s->payload_len <= 1 && !(s->flags & TCP_FIN);", [
        ("a probe anywhere", "s->payload_len <= 1 && !(s->flags & TCP_FIN);"),
        ("a probe of any size", "s->seq + 1 == c->next[from] && !(s->flags & TCP_FIN);"),
        ("no octet in a probe",
         "s->seq + 1 == c->next[from] && !s->payload_len && !(s->flags & TCP_FIN);"),
        ("a FIN as a probe", "s->seq + 1 == c->next[from] && s->payload_len <= 1;"),
        ("no probe", "false;")]),
    ("if (fsm_fin_seen(c->state, from) && seq_lt(c->next[from] - 1, fin)) {", [
        ("data behind the FIN", "if (false) {"),
        ("data in the place of the FIN",
         "if (fsm_fin_seen(c->state, from) && seq_lt(c->next[from], fin)) {"),
        ("no data again after the FIN", "if (fsm_fin_seen(c->state, from)) {")]),
    ("if (!(segment_fast_open(c, from, s) && fsm_offering(c->state)))", [
        ("early data without Fast Open", "if (!fsm_offering(c->state))"),
        ("no early data", "if (true)"),
        ("early data after the handshake", "if (!segment_fast_open(c, from, s))")]),
    ("return from == SIDE_B && (c->tfo || (c->state == FSM_SYN && seq_lt(c->isn + 1, s->ack)));", [
        ("early data of the client",
         "return c->tfo || (c->state == FSM_SYN && seq_lt(c->isn + 1, s->ack));"),
        ("early data before the SYN-ACK is early no more", "return from == SIDE_B && c->tfo;"),
        ("early data after the SYN-ACK is early no more",
         "return from == SIDE_B && c->state == FSM_SYN && seq_lt(c->isn + 1, s->ack);"),
        ("early data that acknowledges the SYN alone",
         "return from == SIDE_B && (c->tfo || (c->state == FSM_SYN && seq_le(c->isn + 1, s->ack)));"),
        ("early data in any state",
         "return from == SIDE_B && (c->tfo || seq_lt(c->isn + 1, s->ack));")]),
    ("bool old = known(c->heard, from) && seq_lt(segment_end(s), c->acked[from]);", [
        ("the ACK on old octets is read", "bool old = false;"),
        ("the ACK on the last octets is not read",
         "bool old = known(c->heard, from) && seq_le(segment_end(s), c->acked[from]);")]),
    ("v.evidence |= 1 << EV_DATA;", [("data proves nothing", ";")]),
    ("if (a != ANOMALY_NONE)\n\t\t\treturn anomalous(a);", [("any FIN fits", "(void)a;")]),
    ("v.evidence |= 1 << fin_evidence(c, from, s, g);", [
        ("a FIN proves nothing", ";"), ("a FIN has no gap", "v.evidence |= 1 << EV_FIN;")]),
    # fin_evidence
    # fills
    ("if (fsm_offering(c->state) || !known(c->gaps, from))\n\t\treturn false;", [
        ("what fills where nothing is missing",
         "if (fsm_offering(c->state))\n\t\treturn false;")]),
    ("return gaps_end(g, from, s->seq, end) ||\n", [
        ("no gap is filled where it is", "return\n"),
        ("a gap is filled by anything", "return true ||\n")]),
    ("(seq_le(s->seq, c->acked[from]) && end == c->next[from]);", [
        ("all that was sent does not fill", "false;"),
        ("what begins anywhere fills", "end == c->next[from];"),
        ("what begins one too late fills",
         "(seq_le(s->seq, c->acked[from] + 1) && end == c->next[from]);"),
        ("what ends anywhere fills", "seq_le(s->seq, c->acked[from]);")]),
    ("bool own = (!offering && known(c->gaps, from) && !fills(c, from, s, g)) ||\n"
     "\t\t   (known(c->sent, from) && seq_lt(c->next[from], s->seq));", [
        ("no gap before the FIN's segment",
         "bool own = known(c->sent, from) && seq_lt(c->next[from], s->seq);"),
        ("a gap that the FIN's segment fills", "bool own = (!offering && known(c->gaps, from)) ||\n"
         "(known(c->sent, from) && seq_lt(c->next[from], s->seq));"),
        ("no gap just before the FIN",
         "bool own = !offering && known(c->gaps, from) && !fills(c, from, s, g);"),
        ("a gap where the FIN goes on", "bool own = (!offering && known(c->gaps, from) && !fills(c, from, s, g)) ||\n"
         "(known(c->sent, from) && seq_le(c->next[from], s->seq));")]),
    ("if (fsm_both_fins(c->state) && fills(c, from, s, g))", [
        ("nothing fills before a FIN", "if (false)"),
        ("all fills before a FIN", "if (fsm_both_fins(c->state))")]),
    ("bool peer = !offering && known(c->gaps, !from);", [
        ("no gap before the peer's FIN", "bool peer = false;"),
        ("the peer's gap is one's own", "bool peer = !offering && known(c->gaps, from);")]),
    ("uint32_t fin = s->seq + s->payload_len;", [("the FIN before its data", "uint32_t fin = s->seq;")]),
    # segment_check
    ("if ((rst && (syn || fin)) || (syn && fin && !ack))", [
        ("flags combined", "if (false)"),
        ("SYN and FIN", "if (rst && (syn || fin))"),
        ("RST and SYN", "if ((rst && fin) || (syn && fin && !ack))"),
        ("RST and FIN", "if ((rst && syn) || (syn && fin && !ack))"),
        ("no FIN on a SYN-ACK", "if ((rst && (syn || fin)) || (syn && fin))")]),
    ("return ack ? check_syn_ack(c, from, s, g) : check_syn(c, from, s);", [
        ("a SYN-ACK as SYN", "return check_syn(c, from, s);"),
        ("a SYN as SYN-ACK", "return check_syn_ack(c, from, s);")]),
    # learn_seq
    ("c->sent |= 1 << from;\n\t\treturn false;", [("a side never seen", "return false;")]),
    ("if (seq_lt(c->next[from], end))\n\t\tc->next[from] = end;", [("nothing new is sent", "")]),
    ("if (fills(c, from, s, g))\n\t\t\tc->gaps &=", [
        ("what is filled stays a gap", "if (false)\n\t\t\tc->gaps &="),
        ("what is half filled is none", "if (true)\n\t\t\tc->gaps &=")]),
    ("filled = gaps_fill(g, from, s->seq, end);", [("nothing was missing", ";")]),
    ("c->gap_bytes -= filled < c->gap_bytes ? filled : c->gap_bytes;", [("a filled gap stays", ";")]),
    ("c->gaps |= 1 << from & 3;", [("no gap", ";"), ("the peer's gap", "c->gaps |= 1 << !from & 3;")]),
    ("gaps_add(g, from, (struct gap){ c->next[from], s->seq, false });", [
        ("a gap nowhere", ";"),
        ("a gap from the next", "gaps_add(g, from, (struct gap){ c->next[from] + 1, s->seq, false });")]),
    ("if (offering || g->n[from] || !known(c->gaps, from))", [
        ("a gap beside unknown ones", "if (true)"),
        ("no gap in the handshake", "if (!offering && (g->n[from] || !known(c->gaps, from)))")]),
    # segment_keep_gaps
    ("gaps_pass(g, side, c->acked[side]);\n", [("a gap that was acknowledged is kept", "")]),
    ("conn_add_gap(c, gaps_unseen(g, side));", [("no gap of the handshake", ";")]),
    ("c->gaps |= g->n[side] ? 1 << side & 3 : 0;", [("no gap of the handshake is kept", ";")]),
    # pass_gaps
    ("if (known_where ? !g->n[peer] : c->acked[peer] == c->next[peer])", [
        ("an ACK ends no gap", "if (false)"), ("any ACK ends all gaps", "if (true)"),
        ("an ACK ends unknown gaps before all is acknowledged", "if (!g->n[peer])"),
        ("an ACK ends gaps with all that was sent", "if (c->acked[peer] == c->next[peer])")]),
    ("return known_where ? unseen : !known(c->gaps, peer);", [
        ("an ACK of a gap is no gap", "return !known_where && !known(c->gaps, peer);"),
        ("an ACK of unknown gaps is no gap", "return unseen;")]),
    ("bool crossed_late = syn && from == SIDE_A && c->state == FSM_ANSWERED;", [
        ("A's late SYN-ACK acknowledges", "bool crossed_late = false;")]),
    ("conn_add_gap(c, s->seq - c->next[from]);", [("no gap", ";")]),
    ("bool again = seq_lt(s->seq, c->next[from]) && end != s->seq && !filled;", [
        ("nothing comes again", "bool again = false;"),
        ("an old ACK comes again", "bool again = seq_lt(s->seq, c->next[from]) && !filled;"),
        ("what fills comes again", "bool again = seq_lt(s->seq, c->next[from]) && end != s->seq;"),
        ("an overlap is new", "bool again = seq_le(end, c->next[from]) && end != s->seq && !filled;")]),
    # segment_learn
    ("c->next[peer] = s->ack; /*", [("refused data counts as sent", "; /*")]),
    ("(!v.repeat || anew)) {\n\t\t\tc->next[from] = segment_end(s);", [
        ("a SYN that is not learned", "(!v.repeat || anew)) {\n\t\t\t;")]),
    ("c->acked[from] = s->seq;", [("a SYN acknowledges itself", "c->acked[from] = s->seq + 1;")]),
    ("if (c->state != FSM_CLAIMED) /*", [("A's ACK is forgotten in CLAIMED", "if (true) /*")]),
    ("if (!known_syn && (!v.repeat || anew)) {", [
        ("another SYN-ACK is not learned", "if (!known_syn && !v.repeat) {"),
        ("any repeated SYN-ACK is learned", "if (!known_syn) {"),
        ("a repeated SYN is learned again", "if (!v.repeat || anew) {")]),
    ("bool anew = c->state == FSM_ANSWERED && (known(c->heard, from) ? c->acked[from] + 1 == c->next[from] : !c->payload_lo[from]);", [
        ("a late SYN-ACK is learned", "bool anew = known(c->heard, from) && c->acked[from] + 1 == c->next[from];"),
        ("a bare ACK is believed", "bool anew = c->state == FSM_ANSWERED && known(c->heard, from) && c->acked[from] + 1 == c->next[from];"),
        ("a SYN-ACK behind its data is learned", "bool anew = c->state == FSM_ANSWERED;")]),
    ("if (known_syn && s->flags & TCP_FIN && c->state == FSM_ANSWERED)\n\t\t\tc->next[from] = segment_end(s);", [
        ("the FIN of a repeated SYN-ACK has no number", "")]),
    ("} else if (!v.probe) {", [("a probe is learned", "} else {")]),
    ("if (!known(c->heard, peer))\n\t\t\tc->acked[peer] = s->ack;\n\t\telse if", [
        ("the first ACK is not learned", "if")]),
    ("else if (seq_lt(s->ack, c->acked[peer]))\n\t\t\tnewest = false;", [("an old ACK is learned", "")]),
    ("else if (!known(c->sent, peer) || seq_le(s->ack, c->next[peer]))\n\t\t\tc->acked[peer] = s->ack;", [
        ("no ACK is learned", ""),
        ("an ACK of unseen octets is learned", "else\n\t\t\tc->acked[peer] = s->ack;"),
        ("an ACK of a side that was not seen is not learned",
         "else if (known(c->sent, peer) && seq_le(s->ack, c->next[peer]))\n\t\t\tc->acked[peer] = s->ack;")]),
    ("if (!newest)\n\t\t\treturn l;", [("the window of an old ACK is learned", "")]),
    ("if (fsm_both_fins(c->state))\n\t\treturn l;", [("windows after both FINs", "")]),
    ("conn_set_window(&c->hot, peer,\n\t\t\t\twindow_scaled_down(conn_window(&c->hot, peer), segment_shift(c, peer)));", [
        ("the window of the peer's SYN is scaled", ";")]),
    ("if (syn && s->flags & TCP_ACK && c->state == FSM_SYN)", [
        ("the window of the peer's SYN is scaled down by any SYN", "if (syn)"),
        ("the window of the peer's SYN is scaled down again and again",
         "if (syn && s->flags & TCP_ACK)")]),
    ("return (uint16_t)((window + (1u << shift) - 1) >> shift);", [
        ("the window of a SYN rounded down", "return (uint16_t)(window >> shift);")]),
    ("conn_set_window(&c->hot, from,\n\t\t\tsyn ? window_scaled_down(s->window, segment_shift(c, from)) : s->window);", [
        ("no window is learned", ";"),
        ("the window of a SYN is scaled", "conn_set_window(&c->hot, from, s->window);"),
        ("all windows are as in a SYN",
         "conn_set_window(&c->hot, from, window_scaled_down(s->window, segment_shift(c, from)));")]),
    # segment_resync
    ("if (candidate->side != peer || (c->sent & c->heard) != 3 || fsm_handshaking(c->state) ||", [
        ("two candidates of one side", "if ((c->sent & c->heard) != 3 || fsm_handshaking(c->state) ||"),
        ("a jump of one side alone", "if (candidate->side != peer || fsm_handshaking(c->state) ||"),
        ("a jump in the handshake", "if (candidate->side != peer || (c->sent & c->heard) != 3 ||")]),
    ("fsm_fin_seen(c->state, SIDE_A) || fsm_fin_seen(c->state, SIDE_B))\n\t\treturn false;\n\tif (!near", [
        ("a jump after A's FIN", "fsm_fin_seen(c->state, SIDE_B))\n\t\treturn false;\n\tif (!near"),
        ("a jump after B's FIN", "fsm_fin_seen(c->state, SIDE_A))\n\t\treturn false;\n\tif (!near")]),
    ("if (!near(s->seq, candidate->ack, window[peer]) || !near(s->ack, candidate->end, window[from]))", [
        ("a jump without a fit", "if (false)"),
        ("a jump that fits one way", "if (!near(s->seq, candidate->ack, window[peer]))"),
        ("a jump that fits the other way", "if (!near(s->ack, candidate->end, window[from]))")]),
    ("if (!goes_on[from] && !goes_on[peer] && !lossy)", [
        ("a jump though nothing was lost", "if (false)"),
        ("no jump without a known loss", "if (!lossy)"),
        ("no jump of both sides though much was lost", "if (!goes_on[from] && !goes_on[peer])")]),
    ("jump(c, from, s->seq, s->seq,", [("the sender jumps nowhere", "(void)(s->seq,")]),
]

FASTPATH_PIECES = [
    # fastpath_predict
    ("if (!(predicted_states >> c->state & 1) || (flags", [
        ("any state is predicted", "if ((flags")]),
    ("(flags != TCP_ACK && !fin) ||\n", [("any flags are predicted", "\n")]),
    ("(c->sent & c->heard) != 3 ||\n", [("one side is predicted", "\n")]),
    ("predict_side(&c->hot, peer), s->seq, s->ack, s->window, WINDOW_FLOOR)", [
        ("any number is predicted",
         "predict_side(&c->hot, peer), c->next[from], s->ack, s->window, WINDOW_FLOOR)"),
        ("no window is predicted",
         "predict_side(&c->hot, peer), s->seq, s->ack, 1, WINDOW_FLOOR)"),
        ("beyond the window is predicted",
         "predict_side(&c->hot, peer), s->seq, s->ack, s->window, UINT32_MAX)"),
        ("any ACK is predicted",
         "predict_side(&c->hot, peer), s->seq, c->acked[peer], s->window, WINDOW_FLOOR)")]),
    ("|| s->payload_len > WINDOW_FLOOR)", [("a huge payload is predicted", ")")]),
    ("if (from != SIDE_A || s->ack == c->acked[SIDE_B] || c->offer.gaps)", [
        ("the server completes the handshake",
         "if (s->ack == c->acked[SIDE_B] || c->offer.gaps)"),
        ("an old ACK completes the handshake", "if (from != SIDE_A || c->offer.gaps)")]),
    ("} else if (c->gaps) {", [("gaps are predicted", "} else if (false) {")]),
    ("\tif (!fin && !s->payload_len)\n\t\treturn evidence;\n\tif (fsm_fin_seen(c->state, from))\n", [
        ("data behind the FIN is predicted",
         "\tif (!fin && !s->payload_len)\n\t\treturn evidence;\n\tif (false)\n")]),
    ("if (s->seq + s->payload_len - c->acked[from] > segment_window(c, peer)) /*", [
        ("a FIN beyond the window is predicted", "if (false) /*")]),
    # fastpath_learn
    ("\tc->acked[!from] = s->ack;\n\tif (!fsm_both_fins(c->state))\n", [
        ("a predicted ACK is not learned", "\tif (!fsm_both_fins(c->state))\n"),
        ("a predicted window overwrites the timestamp", "\tc->acked[!from] = s->ack;\n")]),
    # fastpath_syn
    ("return !s->payload_len && s->wire_segs == 1 && s->wire_len <= UINT8_MAX;", [
        ("data on a SYN", "return s->wire_segs == 1 && s->wire_len <= UINT8_MAX;"),
        ("several SYNs at once", "return !s->payload_len && s->wire_len <= UINT8_MAX;"),
        ("a large SYN", "return !s->payload_len && s->wire_segs == 1;")]),
    ("if (!tracker_is_fast(t) || segment_flags(s) != TCP_SYN || !is_small(s))", [
        ("anything opens", "if (!tracker_is_fast(t) || !is_small(s))")]),
    ("unlikely(synflood_watched(&t->synflood)) && deferral_wanted(t, &server)", [
        ("none is deferred", "false")]),
    # fastpath_syn_ack
    ("was->deferred || sender", [("one that is deferred is answered", "sender")]),
    ("was->syn_acks ||", [("a second answer", "")]),
    ("sender == was->client_end ||", [("the client's own answer", "")]),
    ("s->ack != was->isn[SIDE_A] + 1 ||", [("an answer to something else", "")]),
    ("t->now_ns >= was->start_ns", [("an answer after the timeout", "0 && was->start_ns")]),
    ("scales ? o.wscale : 0", [("a scale that one end alone offers", "o.wscale"),
                               ("no scale", "0")]),
    ("if (o.mss && (!e->mss || o.mss < e->mss))", [("the server's MSS", "if (o.mss)")]),
    ("if (at > asked)\n\t\te->last = dur40_of(at);", [("the time stands still", ""),
                                                  ("the time runs back", "e->last = dur40_of(at);")]),
    ("at > UINT32_MAX ||", [("a late answer", "")]),
    ("e->offer |= conn_offer_bits(s, &o) << SIDE_B & OFFER_ALL;", [("no offer of the server", "")]),
]

# lib/flow/conn.c and conn.h: what both ways share.
CONN_PIECES = [
    ("((s->flags & (TCP_ECE | TCP_CWR)) == ecn ? OFFER_ECN : 0)", [("no ECN", "0")]),
]
CONN_H_PIECES = [
    ("n > CONN_GAP_MAX - c->gap_bytes ? CONN_GAP_MAX : c->gap_bytes + n", [
        ("a gap without a limit", "c->gap_bytes + n")]),
]

# bpf/predict.h: the rule of the short ways.
PREDICT_PIECES = [
    ("ack - peer.acked <= peer.next - peer.acked &&", [("any ACK", "")]),
    ("&& peer.next - peer.acked <= WINDOW_MOST;", [("an ACK ahead of all that was seen", ";")]),
    ("return seq == sender.next &&", [("any number", "return")]),
    ("&& window &&", [("no window", "&&")]),
    ("seq - sender.acked <= most &&", [("beyond the window", "")]),
    ("&& predict_ack(peer, ack);", [("the ACK is not looked at", ";")]),
]

# lib/flow/tcp_fsm.c, beside the table: fsm_step() puts the states of a gap in the place of BO.
FSM_PIECES = [
    ("to == FSM_BOTH && from != FSM_BOTH", [
        ("a FIN that comes again gets a gap", "to == FSM_BOTH"),
        ("any FIN with a gap crosses", "from != FSM_BOTH"),
        ("no FIN has a gap", "false")]),
    ("to = crossed[sender][ev - EV_FIN];", [
        ("the other side's gap", "to = crossed[!sender][ev - EV_FIN];")]),
]
