"""What mutants.py breaks in lib/flow/transition.c, late.c, answers.c, trouble.c and recall.c: as
segment_check_mutants.py."""

TRANSITION_PIECES = [
    # loses_nothing
    ("return c->heard >> receiver & 1 && seq_le(c->next[receiver] - 1, c->acked[receiver]);", [
        ("an open FIN is aborted",
         "return c->heard >> receiver & 1 && seq_le(c->next[receiver], c->acked[receiver]);"),
        ("open data is not aborted", "return true;"),
        ("the RST decides alone", "return false;")]),
    # reason_of
    ("(fsm_both_fins(before) && loses_nothing(c, !from))", [
        ("any RST after both FINs is graceful", "fsm_both_fins(before)"),
        ("the sender's data counts", "(fsm_both_fins(before) && loses_nothing(c, from))"),
        ("an RST before both FINs is graceful", "loses_nothing(c, !from)")]),
    ("reason == REASON_FIN ? -1 : (int)from", [("a graceful RST aborts", "(int)from")]),
    # conn_reset
    ("if (to == FSM_RESET)\n\t\t\tconn_reset(f->c, from, s->seq);", [("the end of an RST is not kept", "")]),
    ("done.client_rtt_ns = answers_rtt(repeated, &offered, s);", [
        ("repetitions are forgotten", "done.client_rtt_ns = answers_rtt(NULL, &offered, s);")]),
]

LATE_PIECES = [
    ("if (!s->payload_len || !seq_lt(c->next[from], end) || !seq_le(s->seq, c->next[from] + WINDOW_FLOOR) ||", [
        ("an ACK behind a FIN outlives an RST", "if (!seq_lt(c->next[from], end) || !seq_le(s->seq, c->next[from] + WINDOW_FLOOR) ||"),
        ("old octets outlive an RST", "if (!s->payload_len || !seq_le(s->seq, c->next[from] + WINDOW_FLOOR) ||"),
        ("octets far ahead outlive an RST", "if (!s->payload_len || !seq_lt(c->next[from], end) ||")]),
    ("if (seq_lt(c->acked[peer], s->ack) && seq_le(s->ack, c->next[peer]))", [
        ("any ACK outlives an RST", "if (true)"),
        ("an ACK of what was sent before outlives an RST", "if (seq_le(s->ack, c->next[peer]))"),
        ("an ACK of what was not sent outlives an RST", "if (seq_lt(c->acked[peer], s->ack))"),
        ("nothing outlives an RST", "if (false)")]),
    ("if (goes_on(c, from, s))\n\t\tentry_save(t, f);", [
        ("what was sent after an RST is not kept", "goes_on(c, from, s);")]),
    ("s->flags & (TCP_SYN | TCP_RST) || !(s->flags & TCP_ACK)", [
        ("a SYN or an RST outlives an RST", "!(s->flags & TCP_ACK)")]),
    ("segment_flags(s) == (TCP_SYN | TCP_ACK) && s->ack == c->isn + 1;", [
        ("any SYN-ACK answers the refused one", "segment_flags(s) == (TCP_SYN | TCP_ACK);")]),
]

ANSWERS_PIECES = [
    ("if (s->ts_ns < before + COPY_NS) /* the client answers the one before */\n\t\tone.ts_ns = before;", [
        ("a copy is an answer of its own", ""), ("each answer is a copy", "one.ts_ns = before;")]),
    ("if (a->start_ns != c->start_ns) {", [("answers of another connection", "if (false) {")]),
    ("bool ours = a && a->start_ns == c->start_ns && a->n;", [
        ("answers of another one are ours", "bool ours = a && a->n;")]),
    ("o.timestamps && a->repeated[i].stamped &&", [("no timestamp is one", "")]),
    ("a->repeated[i].tsval == o.tsecr", [("any timestamp", "true")]),
    ("if (!known)\n\t\t\treturn DURATION_UNKNOWN;", [("what is not known is the first", "")]),
]

TROUBLE_PIECES = [
    ("if (doublings(waited_ns) <= (first ? 0 : doublings(conn_offset(c, before_ns))))\n\t\treturn;", [
        ("each repetition", ""),
        ("the first one alone", "if (!first) return;"),
        ("the first one not", "if (doublings(waited_ns) <= doublings(conn_offset(c, before_ns))) return;")]),
    ("if (waited_ns < COPY_NS)\n\t\treturn 0;", [("a copy is a repetition", "")]),
    ("return seconds ? 65u - (unsigned)__builtin_clzll(seconds) : 1;", [
        ("no wait is longer", "return 1;")]),
    ("if (conn_deferred(c) && !deferral_tell(t, f))\n\t\treturn;", [
        ("repetitions of a flood", "if (conn_deferred(c)) deferral_tell(t, f);")]),
    ("c->last_ns + wait < deadline_ns", [("stuck behind the end", "true")]),
    ("c->stuck++;", [("stuck again and again", "c->stuck = STUCK_TIMES;")]),
    ("bool server = c->state == FSM_HALF_A || c->state == FSM_LAST_B;", [
        ("the other one waits", "bool server = c->state == FSM_HALF_B || c->state == FSM_LAST_A;"),
        ("last_ack waits for itself",
         "bool server = c->state == FSM_HALF_A || c->state == FSM_LAST_A;")]),
    ("h->stuck == STUCK_TIMES || t->cfg.control", [("stuck in control mode", "h->stuck == STUCK_TIMES")]),
]

RECALL_PIECES = [
    ("if (!oldest || h->written < oldest->written)", [
        ("the newest is forgotten", "if (!oldest || h->written > oldest->written)"),
        ("the first is forgotten", "if (!oldest)")]),
    ("if (!known)\n\t\tmemset(to, 0, r.octets);", [("another one's record", "")]),
    ("if (h->flow == flow)\n\t\t\treturn h;", [("any record", "return h;")]),
]
