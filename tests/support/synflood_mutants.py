"""What mutants.py breaks in lib/flow/synflood.c: as segment_check_mutants.py."""

PIECES = [
    ("d->server.ip_v == s->ip_v && !memcmp(d->server.w, s->w, sizeof s->w)", [
        ("any server of the hash", "d->server.ip_v == s->ip_v")]),
    ("relink(t, last, (uint8_t)(i + 1));", [("the last one keeps its place", ";")]),
    ("relink(t, i, t->floods.slot[i].next);", [("others of its hash are forgotten", "relink(t, i, 0);")]),
    ("return stayed && stayed * 4 >= came && stayed * second_ns >= t->cfg.flood_rate * took;", [
        ("no share", "return stayed && stayed * second_ns >= t->cfg.flood_rate * took;"),
        ("no rate", "return stayed && stayed * 4 >= came;"),
        ("always", "return true;"), ("never", "return false;")]),
    ("uint64_t stayed = came > went_on ? came - went_on : 0;", [
        ("what went on stays", "uint64_t stayed = came; (void)went_on;")]),
    ("d->calm_ns = d->window_ns;", [("never calm", "d->calm_ns = UINT64_MAX;")]),
    ("if (!calm)\n\t\td->calm_ns = UINT64_MAX;", [
        ("calm for good", "if (!calm && d->calm_ns == UINT64_MAX)\n\t\td->calm_ns = UINT64_MAX;")]),
    ("bool calm = !bad && d->deferred <= t->synflood_limit / 2;", [
        ("calm though many are deferred", "bool calm = !bad;"),
        ("calm though they do not go on", "bool calm = d->deferred <= t->synflood_limit / 2;")]),
    ("calm && t->now_ns - d->calm_ns >= SYNFLOOD_CALM_NS", [
        ("over at once", "calm"), ("never over", "false")]),
    ("t->now_ns - d->line_ns >= t->cfg.flood_interval_ns", [
        ("an update each second", "true"), ("no update", "false")]),
    ("bad && t->cfg.flood_half_open && d->deferred > t->synflood_limit", [
        ("a flood of few", "bad && t->cfg.flood_half_open"),
        ("a flood of those that go on", "t->cfg.flood_half_open && d->deferred > t->synflood_limit")]),
    ("return !d->reported && !d->deferred && t->servers[d->server.hash].syn <= t->synflood_from;", [
        ("a server with deferred attempts is forgotten", "return !d->reported;")]),
    ("undo_save(t->undo, d, sizeof *d);\n\t\tseries_end(t, d);", [("no end at the end", ";")]),
    ("t->servers[s->hash].syn > t->synflood_from ? find(t, s) : NULL", [
        ("deferred below the mark", "find(t, s)")]),
    ("f->c->offer.mss_client = f->c->offer.mss;", [("no mss of its own", ";")]),
    ("if (!d || !d->reported)\n\t\treturn false;\n\tcount(t, d, SYNFLOOD_LATE, 0);", [
        ("late answers begin connections", "if (d || !d)\n\t\treturn false;\n\tcount(t, d, SYNFLOOD_LATE, 0);"),
        ("answers of honest servers begin nothing",
         "if (!d)\n\t\treturn false;\n\tcount(t, d, SYNFLOOD_LATE, 0);")]),
    ("f->c->state = FSM_SYN;\n", [("the open shows what came later", "")]),
    ("if (at == FSM_ANSWERED)\n\t\temit_answer(t, f);", [("no state behind a late open", ";")]),
    ("return d->reported || start_ns < d->ended_ns;", [
        ("all are of a flood", "return true;"), ("none is", "return false;")]),
    ("return SYNFLOOD_REPLACED;", [("replaced is expired", "return SYNFLOOD_EXPIRED;")]),
    ("return SYNFLOOD_EVICTED;", [("evicted is expired", "return SYNFLOOD_EXPIRED;")]),
    ("if (to == FSM_ANSWERED && s->flags & TCP_SYN) {", [
        ("an ACK of the server's is an answer", "if (to == FSM_ANSWERED) {"),
        ("an answer ends it", "if (false) {")]),
    ("if (fsm_over(to))\n\t\treturn synflood_ends(t, f, SYNFLOOD_REFUSED);", [("a refusal is reported", "")]),
    ("return entry_deferred(t, r) &&\n\t       table_syn(&t->table, r)->start_ns + SYNFLOOD_DEFER_NS <= t->now_ns;", [
        ("deferred for good", "return false;"), ("let go at once", "return entry_deferred(t, r);")]),
    ("flow_store(t, f);", [("reported twice", ";"), (
        "reported, with its mss in the place of a time", "table_syn(&t->table, f->ref)->deferred = 0;")]),
]
